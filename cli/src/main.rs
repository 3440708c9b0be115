//! The `iscsi` command: verbs on top of the `initiator` crate.
//!
//! `args` says what can be asked for, `connect` gets to the target and out again, one module per
//! verb does the work, `render` shows it and `exit` turns the outcome into a status. Nothing here
//! knows the protocol.

#![allow(clippy::disallowed_methods, reason = "a program may read the clock")]

mod args;
mod block;
mod connect;
mod credentials;
mod exit;
mod file;
mod name;
mod output;
mod render;
mod signals;
mod size;
mod stream;
mod transfer;
mod url;
mod verb;
mod view;

use std::num::NonZeroUsize;

use clap::Parser as _;

use crate::args::{Cli, Verb};
use crate::connect::Context;
use crate::exit::Status;
use crate::signals::Interrupt;

fn main() {
    let cli = Cli::parse();
    trace(cli.output.verbose);
    let status = match run(cli) {
        Ok(()) => Status::Done,
        Err(error) => {
            let status = Status::of(&error);
            output::note(&exit::message(&error));
            if let Some(hint) = status.hint() {
                output::note(&format!("hint: {hint}"));
            }
            status
        }
    };
    // Not by returning: a blocking read of standard input cannot be called off.
    std::process::exit(i32::from(status.code()));
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let runtime = runtime(&cli.verb)?;
    let sharded = matches!(&cli.verb, Verb::Bench(args) if args.sharded);
    let sessions = if sharded {
        let threads = NonZeroUsize::MIN;
        initiator::Runtime::Sharded { threads }
    } else {
        initiator::Runtime::Current
    };
    let result = runtime.block_on(async {
        let context = Context {
            output: cli.output,
            interrupt: Interrupt::listen()?,
            sessions,
        };
        match cli.verb {
            Verb::Discover(args) => verb::discover::run(&context, &args).await,
            Verb::Ls(args) => verb::ls::run(&context, &args).await,
            Verb::Info(args) => verb::info::run(&context, &args).await,
            Verb::Read(args) => verb::read::run(&context, &args).await,
            Verb::Write(args) => verb::write::run(&context, &args).await,
            Verb::Cp(args) => verb::cp::run(&context, &args).await,
            Verb::Paths(args) => verb::paths::run(&context, &args).await,
            Verb::Pr(args) => verb::pr::run(&context, &args).await,
            Verb::Reset(args) => verb::reset::run(&context, args).await,
            Verb::Bench(args) => verb::bench::run(&context, &args).await,
            Verb::Secret => verb::secret::run(&context),
            Verb::Demo => verb::demo::run(&context).await,
        }
    });
    runtime.shutdown_background();
    result
}

/// One thread: caller and drivers share it, which saves a wake-up across threads per I/O. Only
/// `bench` may be asked to show what more of them do.
fn runtime(verb: &Verb) -> std::io::Result<tokio::runtime::Runtime> {
    use tokio::runtime::Builder;
    let mut builder = Builder::new_current_thread();
    if let Verb::Bench(args) = verb
        && args.threads > 1
    {
        builder = Builder::new_multi_thread();
        builder.worker_threads(args.threads.into());
    }
    builder.enable_all().build()
}

/// Lets the crates below tell what they do: `-v` logins, sessions and paths, `-vv` every PDU,
/// `-vvv` the runtime too. `RUST_LOG` overrides it.
fn trace(verbose: u8) {
    use tracing_subscriber::EnvFilter;
    let default = match verbose {
        0 => "off",
        // Events of sessions and paths are told in words by `connect`.
        1 => "info,iscsi=debug,iscsi::session=info,initiator=debug",
        2 => "info,iscsi=trace,iscsi::session=info,initiator=trace",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_target(false)
        .with_level(false)
        .init();
}
