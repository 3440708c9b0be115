//! From the command line to a logged-in target, and back out in good order.
//!
//! Whatever a verb does, whether it succeeds, fails or is stopped by a signal, the sessions are
//! logged out before the run ends.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use initiator::{
    BuildError, Builder, Initiator, LogicalUnit, PortalSpec, StateError, Target, TargetSpec,
};

use crate::args::{LoginArgs, OutputArgs};
use crate::exit::Failure;
use crate::signals::Interrupt;
use crate::url::Address;
use crate::{credentials, name, output};

/// What every verb gets.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) output: OutputArgs,
    pub(crate) interrupt: Interrupt,
}

/// How long the end of a run may take altogether before the sessions are left to the target.
const GOODBYE: Duration = Duration::from_secs(10);

/// An initiator with everything the command line says.
///
/// # Errors
/// Contradictions of the command line, unreadable secrets, no place for our name.
pub(crate) fn initiator(login: &LoginArgs) -> anyhow::Result<Initiator> {
    let environment = |name: &str| std::env::var_os(name);
    let credentials = credentials::collect(login, environment)?;
    let name = name::initiator_name(login.initiator_name.as_ref(), environment)?;
    let mut builder = Initiator::builder(name)
        .policy(login.policy)
        .no_path_retry(login.no_path_retry)
        .checker(login.checker)
        .failback(login.failback)
        .second_fence(login.fence)
        .fence_settle(login.fence_settle.unwrap_or_default());
    if login.allow_short_secrets {
        builder = builder.allow_short_secrets();
    }
    if let Some(chap) = credentials.chap {
        builder = builder.chap(chap);
    }
    if let Some(mutual) = credentials.mutual {
        builder = builder.mutual_chap(mutual);
    }
    if let Some(deadline) = login.io_deadline {
        builder = builder.io_deadline(deadline);
    }
    if let Some(count) = login.connections {
        builder = builder.connections(count)?;
    }
    for offer in &login.keys {
        builder = builder.offer(&offer.key, &offer.value).map_err(|error| {
            Failure::Usage(format!("-k {}={}: {error}", offer.key, offer.value))
        })?;
    }
    build(builder, login, name::state_directory(environment))
        .map_err(|error| Failure::Usage(error.to_string()).into())
}

/// Without the directory where identifiers are kept by default one can work (a container may have
/// no place to write); without one that was asked for one must not.
fn build(
    builder: Builder,
    login: &LoginArgs,
    default_directory: PathBuf,
) -> Result<Initiator, BuildError> {
    if login.no_state {
        return builder.build();
    }
    if let Some(directory) = &login.state_dir {
        return builder.state_directory(directory).build();
    }
    match builder.clone().state_directory(default_directory).build() {
        Err(BuildError::State(error @ StateError::Io { .. })) => {
            output::note(&format!("session identifiers are not kept: {error}"));
            builder.build()
        }
        other => other,
    }
}

/// Logs in, lets `work` use the target, logs out.
///
/// # Errors
/// Those of the login and of `work`.
pub(crate) async fn with_target<T>(
    context: &Context,
    initiator: &Initiator,
    spec: TargetSpec,
    work: impl AsyncFnOnce(&Target) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let login = async { Ok(initiator.login(spec).await?) };
    let target = context.interrupt.guard(login).await?;
    for (portal, error) in target.warnings() {
        output::note(&format!("no path over {portal} for now: {error}"));
    }
    let watcher = (context.output.verbose > 0).then(|| watch(&target));
    let result = work(&target).await;
    // A second signal ends the process at once, so this wait needs no way out of its own.
    match tokio::time::timeout(GOODBYE, target.logout()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => output::note(&format!("logout: {error}")),
        Err(_) => output::note("logout: no answer in time; the target ends the sessions itself"),
    }
    if let Some(watcher) = watcher {
        watcher.abort();
    }
    result
}

/// Logs in, lets `work` use the logical unit, logs out.
///
/// # Errors
/// Those of the login, of finding the unit, and of `work`.
pub(crate) async fn with_unit<T>(
    context: &Context,
    login: &LoginArgs,
    address: &Address,
    work: impl AsyncFnOnce(&Target, &LogicalUnit) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let initiator = initiator(login)?;
    let spec = spec_of(address, login.all_paths);
    with_target(context, &initiator, spec, async |target| {
        let find = async { Ok(target.logical_unit(address.lun).await?) };
        let unit = context.interrupt.guard(find).await?;
        // Failures before this point name target and unit themselves.
        let result = work(target, &unit)
            .await
            .with_context(|| format!("{} LUN {}", address.target, address.lun));
        if tokio::time::timeout(GOODBYE, unit.close()).await.is_err() {
            output::note("commands in flight did not end in time");
        }
        result
    })
    .await
}

/// Where to log in.
pub(crate) fn spec_of(address: &Address, all_portals: bool) -> TargetSpec {
    let portal = |(portal, group): &(_, _)| PortalSpec {
        portal: Clone::clone(portal),
        group: *group,
    };
    TargetSpec {
        name: address.target.clone(),
        portals: address.portals.iter().map(portal).collect(),
        all_portals,
    }
}

fn watch(target: &Target) -> tokio::task::JoinHandle<()> {
    let mut events = target.events();
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            output::note(&event.to_string());
        }
    })
}
