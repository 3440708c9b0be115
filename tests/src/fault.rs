//! What goes wrong.
//!
//! What lasts is undone by another fault of the schedule ([`crate::schedule`]); [`heal`] undoes
//! everything at the end.

use std::time::{Duration, Instant};

use test_target::{
    AsyncEvent, CommandFault, ConnectionId, Count, Header, IncomingFault, ManagementEffect,
    PduFault, Quirks, Sense, SnackEffect, Target, access_state,
};

use crate::net::{Dial, Link, Net};
use crate::trace::Trace;

/// One thing that goes wrong, or right again.
#[derive(Debug, Clone)]
pub enum Fault {
    /// All connections to a portal break; who notices?
    Reset {
        /// The portal.
        portal: usize,
        /// The initiator gets a reset.
        client: bool,
        /// The target gets one.
        server: bool,
    },
    /// Nothing goes in these directions any more.
    Dead {
        /// The portal.
        portal: usize,
        /// From the initiator.
        up: bool,
        /// From the target.
        down: bool,
    },
    /// What becomes of attempts to connect.
    Dial(usize, Dial),
    /// What the initiator sends from now on, or has under way, takes this much longer.
    Stuck(usize, Duration),
    /// A slower link.
    Slow {
        /// The portal.
        portal: usize,
        /// One way.
        latency: Duration,
        /// 0: no limit.
        bytes_per_second: u64,
    },
    /// One bit of what the initiator sends.
    FlipUp(usize),
    /// To a command.
    Command(CommandFault),
    /// To a PDU of the target.
    Pdu(PduFault),
    /// To a PDU of the initiator, on its arrival.
    Incoming(IncomingFault),
    /// To a SNACK.
    Snack(SnackEffect),
    /// One of the connections to a portal, by its number, falls behind the others in both
    /// directions for so long, and loses nothing.
    Lag(usize, usize, Duration),
    /// The target rejects, with this reason, a PDU that nobody sent.
    Reject(usize, u8, Box<Header>),
    /// The unit has another size.
    Resize(u64),
    /// To a task management request.
    Management(ManagementEffect),
    /// An Async Message on every connection to a portal.
    Async(usize, AsyncEvent),
    /// The window closes (`true`) or opens.
    Window(bool),
    /// PDUs carry old window numbers.
    StaleWindow(u32),
    /// R2Ts are held back.
    HoldR2ts(bool),
    /// The target starts afresh, without its sessions.
    Restart,
    /// A unit attention for everybody.
    Attention(Sense),
    /// How logins go.
    Login(Box<Quirks>),
    /// The target closes its connections on a portal in order.
    Goodbye(usize),
    /// The target asks whether we are there.
    Ping(usize),
    /// A target port group gets into a state.
    Access {
        /// Its identifier.
        group: u16,
        /// As on the wire.
        state: u8,
    },
    /// A target port group is on its way into a state for a while.
    Transition {
        /// Its identifier.
        group: u16,
        /// As on the wire.
        state: u8,
        /// How long it takes.
        takes: Duration,
    },
    /// The target says that it could not change a state.
    TransitionFailed,
    /// SET TARGET PORT GROUPS fails (`true`) or not.
    RefuseSet(bool),
    /// The target prefers a target port group, or not.
    Prefer(u16, bool),
}

/// A way without faults.
#[must_use]
pub fn plain_link() -> Link {
    Link {
        latency: Duration::from_micros(200),
        jitter: Duration::ZERO,
        bytes_per_second: 0,
        segment_bytes: 65_536,
        window_bytes: 1 << 20,
        buffer_bytes: 1 << 20,
        read_bytes: 1 << 20,
        up_dead: false,
        down_dead: false,
        dial: Dial::Accept,
        stuck_until: None,
        flip_up: false,
    }
}

/// Lets a fault happen.
pub fn apply(fault: &Fault, now: Instant, net: &mut Net, target: &mut Target, trace: &mut Trace) {
    trace.note(now, format_args!("fault {fault:?}"));
    match fault {
        Fault::Reset {
            portal,
            client,
            server,
        } => net.reset(now, *portal, *client, *server),
        Fault::Dead { portal, up, down } => {
            let link = &mut net.links[*portal];
            (link.up_dead, link.down_dead) = (*up, *down);
        }
        Fault::Dial(portal, dial) => net.links[*portal].dial = *dial,
        Fault::Stuck(portal, time) => net.stick(now, *portal, *time),
        Fault::Slow {
            portal,
            latency,
            bytes_per_second,
        } => {
            let link = &mut net.links[*portal];
            (link.latency, link.bytes_per_second) = (*latency, *bytes_per_second);
        }
        Fault::FlipUp(portal) => net.links[*portal].flip_up = true,
        Fault::Command(fault) => target.fault_command(fault.clone()),
        Fault::Pdu(fault) => target.fault_pdu(fault.clone()),
        Fault::Incoming(fault) => target.fault_incoming(fault.clone()),
        Fault::Snack(effect) => target.fault_snack(Count::ONCE, *effect),
        Fault::Lag(portal, number, time) => net.lag(now, *portal, *number, *time),
        Fault::Reject(portal, reason, offender) => {
            for id in in_session(target, *portal) {
                target.send_reject(now, id, *reason, offender);
            }
        }
        Fault::Resize(blocks) => target.resize(0, *blocks),
        Fault::Management(effect) => target.fault_management(Count::ONCE, *effect),
        Fault::Async(portal, event) => {
            for id in in_session(target, *portal) {
                target.send_async(now, id, event);
            }
        }
        Fault::Window(true) => target.close_window(),
        Fault::Window(false) => target.open_window(now),
        Fault::StaleWindow(lag) => target.stale_window(*lag),
        Fault::HoldR2ts(hold) => target.hold_r2ts(now, *hold),
        Fault::Restart => target.restart(now),
        Fault::Attention(sense) => target.unit_attention(0, *sense),
        Fault::Login(quirks) => target.config_mut().quirks = (**quirks).clone(),
        Fault::Goodbye(portal) => {
            for id in target.connections_of(*portal) {
                target.drop_connection(now, id, false);
            }
        }
        Fault::Access { .. }
        | Fault::Transition { .. }
        | Fault::TransitionFailed
        | Fault::RefuseSet(_)
        | Fault::Prefer(..) => access(fault, now, target),
        Fault::Ping(portal) => {
            for id in in_session(target, *portal) {
                target.send_ping(now, id, 0, b"ping");
            }
        }
    }
}

/// To target port groups.
#[expect(clippy::wildcard_enum_match_arm, reason = "sorted by the caller")]
fn access(fault: &Fault, now: Instant, target: &mut Target) {
    match fault {
        Fault::Access { group, state } => target.set_access_state(None, *group, *state),
        Fault::Transition {
            group,
            state,
            takes,
        } => target.begin_transition(now, None, *group, *state, *takes),
        Fault::TransitionFailed => target.fail_transition(None),
        Fault::RefuseSet(refuse) => {
            if let Some(alua) = &mut target.config_mut().alua {
                alua.refuse_set = *refuse;
            }
        }
        Fault::Prefer(group, preferred) => target.prefer_group(*group, *preferred),
        _ => {}
    }
}

/// Connections of a portal that are in full feature phase.
fn in_session(target: &Target, portal: usize) -> Vec<ConnectionId> {
    let sessions = target.sessions();
    let mut ids = target.connections_of(portal);
    ids.retain(|id| {
        sessions
            .iter()
            .any(|session| session.connections.contains(id))
    });
    ids
}

/// Undoes everything that lasts. `blocks`: what the unit had at first, and has at least.
pub fn heal(
    now: Instant,
    links: &[Link],
    blocks: u64,
    net: &mut Net,
    target: &mut Target,
    trace: &mut Trace,
) {
    trace.note(now, format_args!("all faults end"));
    if target.disk(0).is_some_and(|disk| disk.blocks() < blocks) {
        target.resize(0, blocks);
    }
    net.links = links.to_vec();
    target.clear_faults();
    target.config_mut().quirks = Quirks::default();
    target.stale_window(0);
    target.hold_r2ts(now, false);
    target.open_window(now);
    let groups = target.config_mut().alua.as_mut().map(|alua| {
        alua.refuse_set = false;
        alua.groups.clone()
    });
    for group in groups.into_iter().flatten() {
        target.set_access_state(None, group.id, access_state::OPTIMIZED);
    }
}
