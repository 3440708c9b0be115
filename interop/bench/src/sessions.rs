//! What sessions cost: logins per second in sequence, and memory per idle session.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use initiator::{Initiator, IoBuf, LogicalUnit, Lun, Portal, PortalSpec, Target, TargetSpec};
use serde::{Deserialize, Serialize};

use crate::child::{self, INITIATOR_CORE, pinned, status_kib};
use crate::contender::Place;
use crate::report::Figure;
use crate::tools::Tools;

/// Which target, and how many sessions.
#[derive(Debug, Args)]
pub(crate) struct SessionsArgs {
    #[arg(long)]
    portal: String,
    #[arg(long)]
    target: String,
    /// Logins in sequence, each followed by a logout.
    #[arg(long, default_value_t = 1000)]
    logins: u32,
    /// Sessions at once; 0 leaves that part out.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    sessions: u32,
}

/// What a session that was used did before it is looked at: enough to fill its queues.
const USED_BYTES: usize = 64 << 10;
const USED_DEPTH: usize = 32;
/// How many sessions are used; all would take long.
const USED_SESSIONS: usize = 100;
/// How long a session may take to give its queues back.
const SETTLE: Duration = Duration::from_secs(3);

/// Logins of one run; what our program and the libiscsi loop print.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Logins {
    logins_per_second: f64,
    logins_with_logout_per_second: f64,
}

/// Memory of many sessions.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Memory {
    sessions: u32,
    kib_with_one: u64,
    kib_with_all: u64,
    kib_per_further_session: f64,
    kib_per_used_session: f64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Measured {
    logins: Logins,
    memory: Option<Memory>,
}

/// Both, over the rounds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct SessionSummary {
    pub(crate) sessions: u32,
    pub(crate) kib_per_further_session: f64,
    /// Of those that were used at depth 32 with 64 KiB and are idle again.
    pub(crate) kib_per_used_session: f64,
    pub(crate) logins_per_second: Figure,
    pub(crate) libiscsi_logins_per_second: Figure,
    /// Ours divided by libiscsi's.
    pub(crate) to_libiscsi: Figure,
}

/// Measures both and prints them as JSON.
///
/// # Errors
/// A login failed.
#[expect(clippy::print_stdout, reason = "a result")]
pub(crate) fn run(args: &SessionsArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(measure(args))?;
    println!("{}", serde_json::to_string_pretty(&result)?);
    Ok(())
}

/// Runs ours and libiscsi's logins in turn, and many sessions once.
///
/// # Errors
/// A part failed.
pub(crate) fn compare(
    tools: &Tools,
    place: &Place,
    rounds: u32,
    logins: u32,
    sessions: u32,
) -> Result<SessionSummary> {
    let limit = Duration::from_secs(120);
    let ours = |logins: u32, sessions: u32| -> Result<Measured> {
        let mut command = pinned(INITIATOR_CORE, &tools.bench);
        command
            .args(["sessions", "--portal", place.first()?])
            .args(["--target", place.target])
            .args(["--logins", &logins.to_string()])
            .args(["--sessions", &sessions.to_string()]);
        Ok(serde_json::from_str(
            &child::run(&mut command, limit)?.stdout,
        )?)
    };
    let libiscsi = || -> Result<Logins> {
        let mut command = pinned(INITIATOR_CORE, &tools.libiscsi_loop);
        command
            .arg(place.url(place.first()?))
            .args(["logins", &logins.to_string()]);
        Ok(serde_json::from_str(
            &child::run(&mut command, limit)?.stdout,
        )?)
    };
    let (mut own, mut other) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        own.push(ours(logins, 0)?.logins.logins_per_second);
        other.push(libiscsi()?.logins_per_second);
    }
    let memory = ours(1, sessions)?.memory.context("no memory")?;
    let by_round = own.iter().zip(&other).map(|(a, b)| a / b).collect();
    let own = Figure::of(own).context("no rounds")?;
    let other = Figure::of(other).context("no rounds")?;
    Ok(SessionSummary {
        sessions: memory.sessions,
        kib_per_further_session: memory.kib_per_further_session,
        kib_per_used_session: memory.kib_per_used_session,
        logins_per_second: own,
        libiscsi_logins_per_second: other,
        to_libiscsi: Figure {
            median: own.median / other.median,
            ..Figure::of(by_round).context("no rounds")?
        },
    })
}

#[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
async fn measure(args: &SessionsArgs) -> Result<Measured> {
    let initiator = Initiator::builder("iqn.2026-01.org.example:bench".parse()?).build()?;
    let mut spent = Duration::ZERO;
    let begun = Instant::now();
    for _ in 0..args.logins {
        let login_begun = Instant::now();
        let target = login(&initiator, args).await?;
        spent += login_begun.elapsed();
        target.logout().await?;
    }
    let count = f64::from(args.logins);
    let logins = Logins {
        logins_per_second: count / spent.as_secs_f64(),
        logins_with_logout_per_second: count / begun.elapsed().as_secs_f64(),
    };
    let memory = if args.sessions > 1 {
        Some(memory(&initiator, args).await?)
    } else {
        None
    };
    Ok(Measured { logins, memory })
}

async fn login(initiator: &Initiator, args: &SessionsArgs) -> Result<Target> {
    let spec = TargetSpec {
        name: args.target.parse()?,
        portals: vec![PortalSpec::from(args.portal.parse::<Portal>()?)],
        all_portals: false,
    };
    Ok(initiator.login(spec).await?)
}

#[expect(clippy::cast_precision_loss, reason = "KiB for display")]
async fn memory(initiator: &Initiator, args: &SessionsArgs) -> Result<Memory> {
    let mut targets: Vec<Target> = vec![login(initiator, args).await?];
    let kib_with_one = resident()?;
    while targets.len() < args.sessions as usize {
        targets.push(login(initiator, args).await?);
    }
    let kib_with_all = resident()?;
    let up = targets.iter().filter(|target| target.sessions().len() == 1);
    ensure!(up.count() == targets.len(), "a session is missing");
    let others = f64::from(args.sessions) - 1.0;
    let further = kib_with_all.saturating_sub(kib_with_one) as f64 / others;
    // The buffers are the caller's; they are there before and after.
    let mut buffers: Vec<IoBuf> = (0..USED_DEPTH).map(|_| filled()).collect();
    let mut units = Vec::new();
    for target in targets.iter().take(USED_SESSIONS) {
        units.push(target.logical_unit(Lun::ZERO).await?);
    }
    let before = resident()?;
    for unit in &units {
        buffers = fill_queues(unit, buffers).await?;
    }
    tokio::time::sleep(SETTLE).await;
    let grown = resident()?.saturating_sub(before) as f64;
    drop(units);
    for target in targets {
        target.logout().await?;
    }
    Ok(Memory {
        sessions: args.sessions,
        kib_with_one,
        kib_with_all,
        kib_per_further_session: further,
        kib_per_used_session: further + grown / USED_SESSIONS as f64,
    })
}

fn filled() -> IoBuf {
    let mut buf = IoBuf::zeroed(USED_BYTES);
    buf.as_mut_slice().fill(0x5a);
    buf
}

/// Reads at full depth, several times over, and writes.
async fn fill_queues(unit: &LogicalUnit, buffers: Vec<IoBuf>) -> Result<Vec<IoBuf>> {
    let mut busy = tokio::task::JoinSet::new();
    for (index, mut buf) in buffers.into_iter().enumerate() {
        let unit = unit.clone();
        busy.spawn(async move {
            let offset = (index * USED_BYTES) as u64;
            for _ in 0..4 {
                let (result, back) = unit.read_at(offset, buf).await;
                result?;
                buf = back;
            }
            unit.write_at(offset, filled().freeze()).await?;
            anyhow::Ok(buf)
        });
    }
    let mut buffers = Vec::new();
    while let Some(done) = busy.join_next().await {
        buffers.push(done??);
    }
    Ok(buffers)
}

/// Resident memory of this process, in KiB.
fn resident() -> Result<u64> {
    status_kib(std::process::id(), "VmRSS").context("the system does not tell resident memory")
}
