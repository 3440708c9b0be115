//! A thousand sessions to one target in one process, and what one costs that has nothing to do.
//!
//! Counted is the heap of the thread that the sessions live on; the target has another one. That
//! is the same on every machine and under any load, in contrast to the resident set.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "test code"
)]

use std::net::SocketAddr;

use allocation_counter::measure;
use initiator::{Initiator, NexusState, Portal, Target, TargetSpec};
use test_target::{Config, Server};

const SESSIONS: usize = 1000;

/// The goal is 64 KiB with everything, the runtime's and the allocator's own included.
const HEAP_BYTES_MAX: i64 = 32 * 1024;

/// A target in a thread of its own.
fn serve() -> (SocketAddr, std::sync::mpsc::Sender<()>) {
    let (say, address) = std::sync::mpsc::channel();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let any = [SocketAddr::from(([127, 0, 0, 1], 0))];
        let server = runtime
            .block_on(Server::start(Config::default(), &any))
            .unwrap();
        say.send(server.local_addrs()[0]).unwrap();
        // Ends when the test does.
        let _ = stopped.recv();
    });
    (address.recv().unwrap(), stop)
}

#[test]
fn a_thousand_idle_sessions_are_cheap() {
    let (address, _stop) = serve();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let name = "iqn.2026-01.org.example:many".parse().unwrap();
    let initiator = Initiator::builder(name).build().unwrap();
    let spec = TargetSpec {
        name: Config::default().target_name.parse().unwrap(),
        portals: vec![Portal::from(address).into()],
        all_portals: false,
    };
    let mut targets: Vec<Target> = Vec::with_capacity(SESSIONS);
    let mut log_in = |count: usize| {
        for _ in 0..count {
            let login = initiator.login(spec.clone());
            targets.push(runtime.block_on(login).unwrap());
        }
    };
    log_in(1);
    let further = measure(|| log_in(SESSIONS - 1)).bytes_current;
    let up = |target: &Target| {
        let sessions = target.sessions();
        sessions
            .iter()
            .all(|session| matches!(session.state, NexusState::Up(_)))
    };
    assert_eq!(targets.iter().filter(|it| up(it)).count(), SESSIONS);
    let each = further / i64::try_from(SESSIONS - 1).unwrap();
    println!("{each} bytes of heap per further session");
    assert!(each <= HEAP_BYTES_MAX, "{each} bytes per idle session");
}
