//! `iscsi paths`: a logical unit and its paths as a tree, after `multipath -ll`.

use std::io::IsTerminal as _;
use std::time::Duration;

use initiator::{
    ErrorClass, LogicalUnit, NoPathRetry, PathGroup, PathSnapshot, PathState, Target, Topology,
};
use serde::Serialize;

use crate::args::paths::PathsArgs;
use crate::connect::{Context, with_unit};
use crate::output;
use crate::render::tree::Node;
use crate::size::human;
use crate::url::Address;

/// Runs the verb.
///
/// # Errors
/// Those of the login and of finding the unit.
pub(crate) async fn run(context: &Context, args: &PathsArgs) -> anyhow::Result<()> {
    let address = args.unit.address()?;
    with_unit(
        context,
        &args.unit.login,
        &address,
        async |target, unit| match args.watch {
            None => show(context, &View::of(target, unit, &address)),
            Some(every) => watch(context, target, unit, &address, every).await,
        },
    )
    .await
}

fn show(context: &Context, view: &View) -> anyhow::Result<()> {
    if context.output.json {
        output::print_json(view)
    } else {
        output::print(&view.tree().render())
    }
}

/// Shows it until a signal comes, which is the way to end it and no failure.
async fn watch(
    context: &Context,
    target: &Target,
    unit: &LogicalUnit,
    address: &Address,
    every: Duration,
) -> anyhow::Result<()> {
    let mut interrupt = context.interrupt.clone();
    let mut events = target.events();
    loop {
        let view = View::of(target, unit, address);
        if context.output.json {
            output::print(&format!("{}\n", serde_json::to_string(&view)?))?;
        } else {
            let clear = if std::io::stdout().is_terminal() {
                "\x1b[H\x1b[2J"
            } else {
                ""
            };
            output::print(&format!("{clear}{}", view.tree().render()))?;
        }
        tokio::select! {
            biased;
            _ = interrupt.wait() => return Ok(()),
            Some(_) = events.recv() => {}
            () = tokio::time::sleep(every) => {}
        }
    }
}

/// What is shown; its serialized form is the JSON output.
#[derive(Debug, Serialize)]
struct View {
    /// Identity in the style of a WWID.
    wwid: String,
    vendor: String,
    product: String,
    target: String,
    lun: String,
    bytes: u64,
    block_bytes: u32,
    read_only: bool,
    policy: &'static str,
    no_path_retry: String,
    failback: String,
    /// Ranges held for writes whose fate is unknown.
    held_ranges: usize,
    groups: Vec<Group>,
}

#[derive(Debug, Serialize)]
struct Group {
    priority: u8,
    /// `active`: I/O goes here. `enabled`: it could. `disabled`: no path of it is usable.
    status: &'static str,
    paths: Vec<PathView>,
}

#[derive(Debug, Serialize)]
struct PathView {
    id: u8,
    portal: String,
    portal_group: Option<u16>,
    state: String,
    /// The three words of multipath: device-mapper's state, the checker's, the session's.
    #[serde(skip)]
    words: &'static str,
    state_seconds: f64,
    gone: bool,
    /// Target port group and its state, with asymmetric access.
    access: Option<Access>,
    in_flight: u32,
    in_flight_bytes: u64,
    ios: u64,
    reads: u64,
    writes: u64,
    bytes: u64,
    errors: std::collections::BTreeMap<&'static str, u64>,
    retries: u64,
    failovers: u64,
    fences: u64,
    fence_held_seconds: f64,
    latency_p50_us: Option<u64>,
    latency_p99_us: Option<u64>,
    latency_max_us: u64,
    /// Counts by powers of two microseconds.
    latency_histogram: Vec<u64>,
}

#[derive(Debug, Serialize)]
struct Access {
    group: u16,
    state: String,
    preferred: bool,
}

impl View {
    fn of(target: &Target, unit: &LogicalUnit, address: &Address) -> Self {
        let (topology, geometry) = (unit.topology(), unit.geometry());
        let identity = &topology.identity;
        Self {
            wwid: identity.to_string(),
            vendor: identity.vendor.trim().to_owned(),
            product: identity.product.trim().to_owned(),
            target: target.name().to_string(),
            lun: address.lun.to_string(),
            bytes: geometry.bytes(),
            block_bytes: geometry.block_bytes,
            read_only: geometry.read_only,
            policy: topology.policy.name(),
            no_path_retry: features(topology.no_path_retry),
            failback: topology.failback.to_string(),
            held_ranges: topology.held_ranges,
            groups: topology
                .groups
                .iter()
                .map(|group| Group::of(&topology, group))
                .collect(),
        }
    }

    fn tree(&self) -> Node {
        let Self {
            wwid,
            vendor,
            product,
            target,
            lun,
            policy,
            no_path_retry,
            failback,
            ..
        } = self;
        let size = human(self.bytes);
        let wp = if self.read_only { "ro" } else { "rw" };
        let held = match self.held_ranges {
            0 => String::new(),
            count => format!(" held={count}"),
        };
        let text = format!(
            "{wwid} {vendor},{product} {target} LUN {lun} size={size} \
             features='no_path_retry {no_path_retry} failback {failback}' wp={wp}{held}"
        );
        self.groups.iter().fold(Node::new(text), |tree, group| {
            let text = format!(
                "policy='{policy}' prio={} status={}",
                group.priority, group.status
            );
            let node = group.paths.iter();
            tree.with(node.fold(Node::new(text), |node, path| {
                node.with(Node::new(path.text()))
            }))
        })
    }
}

fn features(retry: NoPathRetry) -> String {
    retry.to_string()
}

impl Group {
    fn of(topology: &Topology, group: &PathGroup) -> Self {
        let of_id = |id| topology.paths.iter().find(|path| path.id == id);
        let paths: Vec<_> = group.paths.iter().filter_map(|id| of_id(*id)).collect();
        let usable = paths.iter().any(|path| path.state.is_usable());
        Self {
            priority: group.priority,
            status: match (usable, group.in_use) {
                (true, true) => "active",
                (true, false) => "enabled",
                (false, _) => "disabled",
            },
            paths: paths.into_iter().map(PathView::of).collect(),
        }
    }
}

impl PathView {
    fn of(path: &PathSnapshot) -> Self {
        let stats = &path.stats;
        let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let errors = ErrorClass::ALL
            .into_iter()
            .map(|class| (class.name(), stats.errors_of(class)))
            .filter(|(_, count)| *count > 0);
        Self {
            id: path.id.number(),
            portal: path.label.to_string(),
            portal_group: path.portal_group,
            state: path.state.to_string(),
            words: words(path.state),
            state_seconds: path.for_time.as_secs_f64(),
            gone: path.gone,
            access: path.access.map(|access| Access {
                group: access.group,
                state: access.state.to_string(),
                preferred: access.preferred,
            }),
            in_flight: path.in_flight,
            in_flight_bytes: path.in_flight_bytes,
            ios: stats.ios,
            reads: stats.reads,
            writes: stats.writes,
            bytes: stats.bytes,
            errors: errors.collect(),
            retries: stats.retries,
            failovers: stats.failovers,
            fences: stats.fences,
            fence_held_seconds: stats.fence_held.as_secs_f64(),
            latency_p50_us: stats.latency_percentile(50).map(us),
            latency_p99_us: stats.latency_percentile(99).map(us),
            latency_max_us: us(stats.latency_max),
            latency_histogram: stats.latency_histogram.to_vec(),
        }
    }

    fn text(&self) -> String {
        let group = match self.portal_group {
            Some(tag) => format!(",{tag}"),
            None => String::new(),
        };
        let mut text = format!(
            "{}:{}{group} {} for {:.0}s, {} in flight, {} I/Os, {}",
            self.id,
            self.portal,
            self.words,
            self.state_seconds,
            self.in_flight,
            self.ios,
            human(self.bytes),
        );
        if let Some(access) = &self.access {
            let preferred = if access.preferred { ", preferred" } else { "" };
            text.push_str(&format!(
                ", port group {} {}{preferred}",
                access.group, access.state
            ));
        }
        if let (Some(p50), Some(p99)) = (self.latency_p50_us, self.latency_p99_us) {
            text.push_str(&format!(", p50 {p50} us, p99 {p99} us"));
        }
        let errors: u64 = self.errors.values().sum();
        text.push_str(&format!(", {errors} errors"));
        if errors > 0 {
            let list = self
                .errors
                .iter()
                .map(|(class, count)| format!("{count} {class}"));
            text.push_str(&format!(" ({})", list.collect::<Vec<_>>().join(", ")));
        }
        if self.fences > 0 {
            text.push_str(&format!(
                ", {} fences ({:.1} s)",
                self.fences, self.fence_held_seconds
            ));
        }
        if self.gone {
            text.push_str(", gone");
        }
        text
    }
}

/// multipath's words for a state: device-mapper's, the checker's, the session's.
fn words(state: PathState) -> &'static str {
    match state {
        PathState::Active => "active ready running",
        PathState::Suspect => "active i/o pending running",
        PathState::Marginal => "active marginal running",
        PathState::Standby => "active ghost running",
        PathState::Verifying => "undef unchecked running",
        PathState::Failed => "failed faulty running",
        PathState::Mismatched => "failed wrong unit running",
        PathState::Down => "failed faulty offline",
        PathState::Closed => "failed removed offline",
        _ => "undef undef running",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(id: u8, state: PathState, errors: &[(&'static str, u64)]) -> PathView {
        PathView {
            id,
            portal: format!("192.0.2.{id}:3260"),
            portal_group: Some(1),
            state: state.to_string(),
            words: words(state),
            state_seconds: 12.3,
            gone: false,
            access: None,
            in_flight: 0,
            in_flight_bytes: 0,
            ios: 7,
            reads: 3,
            writes: 4,
            bytes: 28 << 10,
            errors: errors.iter().copied().collect(),
            retries: 0,
            failovers: 0,
            fences: 0,
            fence_held_seconds: 0.0,
            latency_p50_us: None,
            latency_p99_us: None,
            latency_max_us: 0,
            latency_histogram: Vec::new(),
        }
    }

    #[test]
    fn the_tree_reads_like_multipath_ll() {
        let view = View {
            wwid: "naa.6001405abc".to_owned(),
            vendor: "LIO-ORG".to_owned(),
            product: "disk0".to_owned(),
            target: "iqn.2026-11.org.example:a".to_owned(),
            lun: "0".to_owned(),
            bytes: 100 << 30,
            block_bytes: 512,
            read_only: false,
            policy: "service-time",
            no_path_retry: "60s".to_owned(),
            failback: "immediate".to_owned(),
            held_ranges: 0,
            groups: vec![
                Group {
                    priority: 50,
                    status: "active",
                    paths: vec![path(0, PathState::Active, &[])],
                },
                Group {
                    priority: 10,
                    status: "disabled",
                    paths: vec![path(1, PathState::Down, &[("connection lost", 2)])],
                },
            ],
        };
        let expected = "\
naa.6001405abc LIO-ORG,disk0 iqn.2026-11.org.example:a LUN 0 size=100 GiB features='no_path_retry 60s failback immediate' wp=rw
├─ policy='service-time' prio=50 status=active
│  └─ 0:192.0.2.0:3260,1 active ready running for 12s, 0 in flight, 7 I/Os, 28 KiB, 0 errors
└─ policy='service-time' prio=10 status=disabled
   └─ 1:192.0.2.1:3260,1 failed faulty offline for 12s, 0 in flight, 7 I/Os, 28 KiB, 2 errors (2 connection lost)
";
        assert_eq!(view.tree().render(), expected);
    }
}
