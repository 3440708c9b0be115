//! What sessions cost: logins per second in sequence, and memory per idle session.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use initiator::{Initiator, Portal, PortalSpec, Target, TargetSpec};

use crate::child::status_kib;

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
    /// Sessions at once.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..=10_000))]
    sessions: u32,
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

#[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
async fn measure(args: &SessionsArgs) -> Result<serde_json::Value> {
    let initiator = Initiator::builder("iqn.2026-01.org.example:bench".parse()?).build()?;
    let login = || async {
        let spec = TargetSpec {
            name: args.target.parse()?,
            portals: vec![PortalSpec::from(args.portal.parse::<Portal>()?)],
            all_portals: false,
        };
        anyhow::Ok(initiator.login(spec).await?)
    };
    let mut spent = Duration::ZERO;
    let begun = Instant::now();
    for _ in 0..args.logins {
        let login_begun = Instant::now();
        let target = login().await?;
        spent += login_begun.elapsed();
        target.logout().await?;
    }
    let both = begun.elapsed();
    let mut targets: Vec<Target> = vec![login().await?];
    let first_kib = resident()?;
    while targets.len() < args.sessions as usize {
        targets.push(login().await?);
    }
    let all_kib = resident()?;
    let up = targets.iter().filter(|target| target.sessions().len() == 1);
    ensure!(up.count() == targets.len(), "a session is missing");
    let others = f64::from(args.sessions) - 1.0;
    let grown = all_kib.saturating_sub(first_kib);
    #[expect(clippy::cast_precision_loss, reason = "KiB for display")]
    let result = serde_json::json!({
        "logins_per_second": f64::from(args.logins) / spent.as_secs_f64(),
        "logins_with_logout_per_second": f64::from(args.logins) / both.as_secs_f64(),
        "sessions": args.sessions,
        "kib_with_one": first_kib,
        "kib_with_all": all_kib,
        "kib_per_further_session": grown as f64 / others,
    });
    for target in targets {
        target.logout().await?;
    }
    Ok(result)
}

/// Resident memory of this process, in KiB.
fn resident() -> Result<u64> {
    status_kib(std::process::id(), "VmRSS").context("the system does not tell resident memory")
}
