//! Persistent reservations of one logical unit (SPC-4 §5.13, §6.15, §6.16).
//!
//! [`Registry`] is the whole state; it belongs to I_T nexuses by name and therefore outlives their
//! sessions. Invariants: a holder is registered; the generation rises with each change of the
//! registrations and with nothing else. Registering for others (SPEC_I_PT), registering on all
//! ports at once (ALL_TG_PT) and REGISTER AND MOVE are not supported.

use std::collections::BTreeMap;

use super::device::{Cdb, Reply, Sender, status};
use super::sense::Sense;
use crate::wire::Fields as _;

/// An initiator port and the target port group it entered through.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NexusName {
    pub(crate) initiator_port: String,
    pub(crate) group: u16,
}

impl NexusName {
    pub(crate) fn of(sender: &Sender) -> Self {
        Self {
            initiator_port: sender.initiator_port.clone(),
            group: sender.entrance.group,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Registration {
    key: u64,
    /// Relative target port.
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    /// Who reserved; of no meaning when every registrant holds it.
    by: NexusName,
    kind: u8,
}

/// What other nexuses get to feel of a PERSISTENT RESERVE OUT.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Consequences {
    pub(crate) attentions: Vec<(NexusName, Sense)>,
    /// Whose tasks end (PREEMPT AND ABORT).
    pub(crate) aborted: Vec<NexusName>,
}

/// Registrations and the reservation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Registry {
    generation: u32,
    registrations: BTreeMap<NexusName, Registration>,
    held: Option<Held>,
    survives_power_loss: bool,
}

const RELEASED: Sense = Sense::new(0x06, 0x2a, 0x04);
const RESERVATIONS_PREEMPTED: Sense = Sense::new(0x06, 0x2a, 0x03);
const REGISTRATIONS_PREEMPTED: Sense = Sense::new(0x06, 0x2a, 0x05);
const INVALID_RELEASE: Sense = Sense::new(0x05, 0x26, 0x04);

/// Write exclusive and exclusive access, with their forms for registrants only and for all registrants.
const KINDS: [u8; 6] = [1, 3, 5, 6, 7, 8];

fn all_registrants(kind: u8) -> bool {
    matches!(kind, 7 | 8)
}

fn registrants_pass(kind: u8) -> bool {
    matches!(kind, 5..=8)
}

fn reads_pass(kind: u8) -> bool {
    matches!(kind, 1 | 5 | 7)
}

/// Commands that any reservation lets pass (SPC-4 table of §5.13.1, SBC-3 §4.17).
fn always_passes(cdb: &Cdb) -> bool {
    match cdb[0] {
        0x00 | 0x03 | 0x12 | 0x25 | 0x5e | 0x5f | 0xa0 => true,
        // PREVENT ALLOW MEDIUM REMOVAL passes when it allows, START STOP UNIT when it starts.
        0x1e => cdb[4] & 1 == 0,
        0x1b => cdb[4] & 1 == 1,
        0x9e => cdb[1] & 0x1f == 0x10,
        0xa3 => matches!(cdb[1] & 0x1f, 0x0a | 0x0c | 0x0d),
        _ => false,
    }
}

fn only_reads(cdb: &Cdb) -> bool {
    matches!(
        cdb[0],
        0x08 | 0x28 | 0xa8 | 0x88 | 0x1a | 0x5a | 0x2f | 0xaf | 0x8f | 0x34 | 0x90 | 0x9e
    )
}

impl Registry {
    /// Whether the reservation keeps this command out.
    pub(crate) fn conflicts(&self, sender: &Sender, cdb: &Cdb) -> bool {
        let Some(held) = &self.held else { return false };
        if always_passes(cdb) {
            return false;
        }
        let name = NexusName::of(sender);
        let registered = self.registrations.contains_key(&name);
        let passes = held.by == name && !all_registrants(held.kind)
            || registered && registrants_pass(held.kind)
            || only_reads(cdb) && reads_pass(held.kind);
        !passes
    }

    /// Loses what was not to survive.
    pub(crate) fn power_cycle(&mut self) {
        if !self.survives_power_loss {
            *self = Self::default();
        }
    }

    /// PERSISTENT RESERVE IN.
    pub(crate) fn report(&self, cdb: &Cdb) -> Result<Reply, Sense> {
        let mut data = self.generation.to_be_bytes().to_vec();
        let mut body = Vec::new();
        match cdb[1] & 0x1f {
            0 => {
                for registration in self.registrations.values() {
                    body.extend(registration.key.to_be_bytes());
                }
            }
            1 => {
                if let Some(held) = &self.held {
                    body.extend(self.holder_key(held).to_be_bytes());
                    body.extend([0, 0, 0, 0, 0, held.kind, 0, 0]);
                }
            }
            2 => {
                let active = u8::from(self.survives_power_loss);
                // PTPL_C; TMV with PTPL_A; the types: WE_AR, EA_RO, WE_RO, EA, WE in one byte, EA_AR in the next.
                data = vec![0, 8, 0x01, 0x80 | active, 0xea, 0x01, 0, 0];
            }
            3 => {
                for (name, registration) in &self.registrations {
                    body.extend(self.full_status(name, *registration));
                }
            }
            _ => return Err(Sense::cdb_field(1)),
        }
        if cdb[1] & 0x1f != 2 {
            data.extend(u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
            data.extend(body);
        }
        data.truncate(usize::from(cdb.be16(7)));
        Ok(Reply::good(data))
    }

    fn holder_key(&self, held: &Held) -> u64 {
        if all_registrants(held.kind) {
            return 0;
        }
        self.registrations.get(&held.by).map_or(0, |it| it.key)
    }

    fn full_status(&self, name: &NexusName, registration: Registration) -> Vec<u8> {
        let kind = self
            .held
            .as_ref()
            .filter(|held| all_registrants(held.kind) || held.by == *name)
            .map(|held| held.kind);
        let mut port = name.initiator_port.clone().into_bytes();
        // Terminated, padded to four bytes (SPC-4 §7.6.4.6).
        port.push(0);
        port.resize(port.len().next_multiple_of(4).max(20), 0);
        let mut data = registration.key.to_be_bytes().to_vec();
        data.extend([0; 4]);
        data.extend([u8::from(kind.is_some()), kind.unwrap_or(0), 0, 0, 0, 0]);
        data.extend(registration.port.to_be_bytes());
        let id_bytes = u32::try_from(port.len() + 4).unwrap_or(u32::MAX);
        data.extend(id_bytes.to_be_bytes());
        data.extend([0x45, 0]);
        data.extend(u16::try_from(port.len()).unwrap_or(u16::MAX).to_be_bytes());
        data.extend(port);
        data
    }

    /// PERSISTENT RESERVE OUT with its parameter list.
    pub(crate) fn change(
        &mut self,
        cdb: &Cdb,
        list: &[u8],
        sender: &Sender,
    ) -> Result<(Reply, Consequences), Sense> {
        if list.len() != 24 {
            return Err(Sense::LIST_LENGTH);
        }
        let (key, action_key) = (list.be64(0), list.be64(8));
        let flags = list.get(20).copied().unwrap_or_default();
        let action = cdb[1] & 0x1f;
        if flags & 0x0c != 0 {
            return Err(Sense::list_field(20));
        }
        let name = NexusName::of(sender);
        let ours = self.registrations.get(&name).map(|it| it.key);
        let known = match action {
            0 => ours.unwrap_or(0) == key,
            6 => true,
            _ => ours == Some(key),
        };
        if !known {
            return Ok(conflict());
        }
        let (kind, scope) = (cdb[2] & 0x0f, cdb[2] >> 4);
        let typed = matches!(action, 1 | 2 | 4 | 5);
        if typed && (scope != 0 || !KINDS.contains(&kind)) {
            return Err(Sense::cdb_field(2));
        }
        match action {
            0 | 6 => {
                self.survives_power_loss = flags & 1 != 0;
                Ok(self.register(&name, action_key, sender.entrance.port))
            }
            1 => Ok(self.reserve(&name, kind)),
            2 => self.release(&name, kind),
            3 => Ok(self.clear(&name)),
            4 | 5 => self.preempt(&name, action_key, kind, action == 5),
            _ => Err(Sense::cdb_field(1)),
        }
    }

    fn register(&mut self, name: &NexusName, key: u64, port: u16) -> (Reply, Consequences) {
        let mut then = Consequences::default();
        if key != 0 {
            let registration = Registration { key, port };
            self.registrations.insert(name.clone(), registration);
        } else if self.registrations.remove(name).is_some() {
            then = self.after_unregistering(name);
        } else {
            return (Reply::default(), then);
        }
        self.generation = self.generation.wrapping_add(1);
        (Reply::default(), then)
    }

    /// A holder that is no longer registered holds nothing.
    fn after_unregistering(&mut self, name: &NexusName) -> Consequences {
        let ends = self.held.as_ref().is_some_and(|held| {
            if all_registrants(held.kind) {
                self.registrations.is_empty()
            } else {
                held.by == *name
            }
        });
        if !ends {
            return Consequences::default();
        }
        match self.held.take() {
            Some(held) if registrants_pass(held.kind) => self.tell_others(name, RELEASED),
            _ => Consequences::default(),
        }
    }

    fn reserve(&mut self, name: &NexusName, kind: u8) -> (Reply, Consequences) {
        match &self.held {
            Some(held) if held.kind != kind || !self.holds(held, name) => conflict(),
            Some(_) => done(),
            None => {
                let by = name.clone();
                self.held = Some(Held { by, kind });
                done()
            }
        }
    }

    fn holds(&self, held: &Held, name: &NexusName) -> bool {
        held.by == *name || all_registrants(held.kind) && self.registrations.contains_key(name)
    }

    fn release(&mut self, name: &NexusName, kind: u8) -> Result<(Reply, Consequences), Sense> {
        let Some(held) = self.held.clone().filter(|held| self.holds(held, name)) else {
            return Ok(done());
        };
        if held.kind != kind {
            return Err(INVALID_RELEASE);
        }
        self.held = None;
        let then = if registrants_pass(kind) {
            self.tell_others(name, RELEASED)
        } else {
            Consequences::default()
        };
        Ok((Reply::default(), then))
    }

    fn clear(&mut self, name: &NexusName) -> (Reply, Consequences) {
        let then = self.tell_others(name, RESERVATIONS_PREEMPTED);
        self.registrations.clear();
        self.held = None;
        self.generation = self.generation.wrapping_add(1);
        (Reply::default(), then)
    }

    fn preempt(
        &mut self,
        name: &NexusName,
        victim: u64,
        kind: u8,
        abort: bool,
    ) -> Result<(Reply, Consequences), Sense> {
        let takes_over = match &self.held {
            Some(held) if all_registrants(held.kind) => victim == 0,
            Some(_) | None if victim == 0 => return Err(Sense::list_field(8)),
            Some(held) => self.holder_key(held) == victim,
            None => false,
        };
        let everyone = takes_over && victim == 0;
        let targets: Vec<NexusName> = self
            .registrations
            .iter()
            .filter(|(_, it)| everyone || it.key == victim)
            .map(|(name, _)| name.clone())
            .collect();
        if targets.is_empty() && !takes_over {
            return Ok(conflict());
        }
        let mut then = Consequences::default();
        for target in targets {
            // Whoever preempts itself stays registered.
            if target == *name {
                continue;
            }
            self.registrations.remove(&target);
            if abort {
                then.aborted.push(target.clone());
            }
            then.attentions.push((target, REGISTRATIONS_PREEMPTED));
        }
        if takes_over {
            let before = self.held.replace(Held {
                by: name.clone(),
                kind,
            });
            if before.is_some_and(|held| held.kind != kind) {
                then.attentions
                    .extend(self.tell_others(name, RELEASED).attentions);
            }
        }
        self.generation = self.generation.wrapping_add(1);
        Ok((Reply::default(), then))
    }

    fn tell_others(&self, name: &NexusName, sense: Sense) -> Consequences {
        let others = self.registrations.keys().filter(|other| *other != name);
        Consequences {
            attentions: others.map(|other| (other.clone(), sense)).collect(),
            aborted: Vec::new(),
        }
    }
}

fn done() -> (Reply, Consequences) {
    (Reply::default(), Consequences::default())
}

fn conflict() -> (Reply, Consequences) {
    let reply = Reply {
        status: status::RESERVATION_CONFLICT,
        ..Reply::default()
    };
    (reply, Consequences::default())
}

#[cfg(test)]
mod tests;
