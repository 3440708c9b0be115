//! A target that does no work: it answers every READ from one buffer, takes every WRITE and
//! stores nothing.
//!
//! It speaks enough iSCSI for any initiator to log in (without authentication), look at the
//! unit and drive load. Each connection has a thread with blocking sockets that reads as much as
//! there is and answers all of it with one vectored write; so its share of a measurement is the
//! kernel's. Several portals form one portal group and show the same logical unit.
//!
//! It does not check what an initiator should be told off for (that is the test target's job),
//! knows no task management beyond "done", no persistent reservations and no second connection
//! of a session.

mod connection;
mod login;
mod scsi;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicU16;
use std::thread;

use anyhow::{Context as _, Result};
use clap::Args;

use connection::Connection;

/// Name of the target.
pub(crate) const TARGET: &str = "iqn.2026-01.org.example:null";

/// Stack of a connection's thread; a thousand of them are to be cheap.
const STACK_BYTES: usize = 128 * 1024;

/// What the null target is to be.
#[derive(Debug, Args)]
pub(crate) struct NullArgs {
    /// Where to listen; repeatable, port 0 for any.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:3260")]
    pub(crate) listen: Vec<SocketAddr>,
    /// Size of the logical unit in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 8192, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub(crate) size: u64,
    /// Limit of each connection in Mbit/s, both directions together; 0 for none.
    #[arg(long, value_name = "MBIT", default_value_t = 0)]
    pub(crate) rate: u32,
}

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) blocks: u64,
    /// Bytes per second of one connection; 0 for no limit.
    pub(crate) rate: u64,
    pub(crate) portals: Vec<SocketAddr>,
    /// The one payload; its content is neither zero nor the same in every block.
    pub(crate) payloads: [Vec<u8>; 1],
    pub(crate) next_tsih: AtomicU16,
}

/// Serves until it is killed.
///
/// # Errors
/// An address cannot be listened on.
#[expect(clippy::print_stdout, reason = "whoever started it waits for the port")]
pub(crate) fn run(args: &NullArgs) -> Result<()> {
    let mut listeners = Vec::new();
    let mut portals = Vec::new();
    for address in &args.listen {
        let listener =
            TcpListener::bind(address).with_context(|| format!("listening on {address}"))?;
        portals.push(listener.local_addr()?);
        listeners.push(listener);
    }
    let mut payload = vec![0; scsi::PAYLOAD_BYTES];
    fastrand::Rng::with_seed(1).fill(&mut payload);
    let shared = Arc::new(Shared {
        blocks: args.size * (1 << 20) / u64::from(scsi::BLOCK_BYTES),
        rate: u64::from(args.rate) * 125_000,
        portals,
        payloads: [payload],
        next_tsih: AtomicU16::new(1),
    });
    for portal in &shared.portals {
        println!("listening on {portal}");
    }
    let threads: Vec<_> = listeners
        .into_iter()
        .map(|listener| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || accept(&listener, &shared))
        })
        .collect();
    for thread in threads {
        // A listener's thread never ends, unless by a panic, which has been shown.
        let _ = thread.join();
    }
    Ok(())
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        let shared = Arc::clone(shared);
        let started = stream.map_err(anyhow::Error::from).and_then(|stream| {
            stream.set_nodelay(true)?;
            let serve = move || {
                let peer = stream.peer_addr();
                let served = Connection::new(stream, &shared).and_then(|mut it| it.serve());
                if let Err(error) = served {
                    complain(&format!("{peer:?}: {error:#}"));
                }
            };
            thread::Builder::new()
                .stack_size(STACK_BYTES)
                .spawn(serve)?;
            Ok(())
        });
        if let Err(error) = started {
            complain(&format!("a connection: {error:#}"));
        }
    }
}

#[expect(clippy::print_stderr, reason = "a program says what went wrong")]
fn complain(text: &str) {
    eprintln!("null target: {text}");
}
