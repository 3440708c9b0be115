//! From the command line to a logged-in target, and back out in good order.
//!
//! Whatever a verb does, whether it succeeds, fails or is stopped by a signal, the sessions are
//! logged out before the run ends.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use initiator::{
    BuildError, Builder, Initiator, IscsiName, LogicalUnit, Portal, PortalGroupTag, PortalSpec,
    StateError, Target, TargetSpec,
};

use crate::args::{LoginArgs, OutputArgs};
use crate::exit::Failure;
use crate::signals::Interrupt;
use crate::url::{Address, Part};
use crate::{credentials, name, output};

/// What every verb gets.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) output: OutputArgs,
    pub(crate) interrupt: Interrupt,
    /// On which threads sessions live.
    pub(crate) sessions: initiator::Runtime,
}

/// How long the end of a run may take altogether before the sessions are left to the target.
const GOODBYE: Duration = Duration::from_secs(10);

/// An initiator with everything the command line says.
///
/// # Errors
/// Contradictions of the command line, unreadable secrets, no place for our name.
pub(crate) fn initiator(context: &Context, login: &LoginArgs) -> anyhow::Result<Initiator> {
    let environment = |name: &str| std::env::var_os(name);
    let credentials = credentials::collect(login, environment)?;
    let name = name::initiator_name(login.initiator_name.as_ref(), environment)?;
    let mut builder = Initiator::builder(name)
        .runtime(context.sessions)
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
    with_targets(context, initiator, vec![spec], async |targets| {
        work(targets.first().context("no target")?).await
    })
    .await
}

/// Logs in to all of them, lets `work` use them, logs out of all.
async fn with_targets<T>(
    context: &Context,
    initiator: &Initiator,
    specs: Vec<TargetSpec>,
    work: impl AsyncFnOnce(&[Target]) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let mut targets = Vec::with_capacity(specs.len());
    let mut watchers = Vec::new();
    let mut refused = None;
    for spec in specs {
        let login = async { Ok(initiator.login(spec).await?) };
        match context.interrupt.guard(login).await {
            Ok(target) => {
                for (portal, error) in target.warnings() {
                    output::note(&format!("no path over {portal} for now: {error}"));
                }
                if context.output.verbose > 0 {
                    watchers.push(watch(&target));
                }
                targets.push(target);
            }
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    let result = match refused {
        None => work(&targets).await,
        Some(error) => Err(error),
    };
    for target in targets {
        // A second signal ends the process at once, so this wait needs no way out of its own.
        match tokio::time::timeout(GOODBYE, target.logout()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => output::note(&format!("logout: {error}")),
            Err(_) => {
                output::note("logout: no answer in time; the target ends the sessions itself");
            }
        }
    }
    for watcher in watchers {
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
    address.check(login.across_targets)?;
    let initiator = initiator(context, login)?;
    let parts = address.parts();
    let specs = parts.iter().map(|part| spec_of_part(part, login.all_paths));
    with_targets(context, &initiator, specs.collect(), async |targets| {
        let target = targets.first().context("no target")?;
        let luns = parts.iter().map(|part| part.lun);
        let all: Vec<_> = targets.iter().zip(luns).collect();
        let find = async { Ok(Target::logical_unit_across(&all).await?) };
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

/// Where to log in, for verbs of one target.
pub(crate) fn spec_of(address: &Address, all_portals: bool) -> TargetSpec {
    spec_of_parts(&address.target, &address.portals, all_portals)
}

fn spec_of_part(part: &Part, all_portals: bool) -> TargetSpec {
    spec_of_parts(&part.target, &part.portals, all_portals)
}

fn spec_of_parts(
    target: &IscsiName,
    portals: &[(Portal, Option<PortalGroupTag>)],
    all_portals: bool,
) -> TargetSpec {
    let portal = |(portal, group): &(_, _)| PortalSpec {
        portal: Clone::clone(portal),
        group: *group,
    };
    TargetSpec {
        name: target.clone(),
        portals: portals.iter().map(portal).collect(),
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
