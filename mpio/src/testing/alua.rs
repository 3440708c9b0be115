//! Target port groups of the test disk.

#![allow(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::collections::BTreeMap;

use scsi::{Command, DataPhase, Outcome, ScsiAnswer};

use super::{Disk, Fake, Inner, sense};
use crate::signal::lock;

/// Codes of access states, as on the wire.
pub(crate) const OPTIMIZED: u8 = 0;
pub(crate) const NON_OPTIMIZED: u8 = 1;
pub(crate) const STANDBY: u8 = 2;
pub(crate) const UNAVAILABLE: u8 = 3;
pub(crate) const TRANSITIONING: u8 = 15;

/// The groups; shared by all paths.
#[derive(Debug, Clone, Default)]
pub(crate) struct Groups {
    /// TPGS of the INQUIRY data.
    pub(crate) tpgs: u8,
    /// State and preference by identifier.
    pub(crate) states: BTreeMap<u16, (u8, bool)>,
    /// IMPLICIT TRANSITION TIME; with 0 the extended header is refused.
    pub(crate) transition_s: u8,
    /// Reports given.
    pub(crate) reports: u32,
    /// Groups and states of SET TARGET PORT GROUPS.
    pub(crate) sets: Vec<(u16, u8)>,
    /// SET TARGET PORT GROUPS fails with this.
    pub(crate) set_error: Option<(u8, u8, u8)>,
}

impl Groups {
    pub(crate) fn new(tpgs: u8, states: &[(u16, u8, bool)]) -> Self {
        let states = states.iter().map(|&(id, state, pref)| (id, (state, pref)));
        Self {
            tpgs,
            states: states.collect(),
            transition_s: 20,
            ..Self::default()
        }
    }

    fn report(&mut self, extended: bool) -> Vec<u8> {
        self.reports += 1;
        let mut body = Vec::new();
        if extended {
            body.extend_from_slice(&[0x10, self.transition_s, 0, 0]);
        }
        for (&id, &(state, preferred)) in &self.states {
            let [high, low] = id.to_be_bytes();
            let pref = if preferred { 0x80 } else { 0 };
            body.extend_from_slice(&[pref | state, 0xdf, high, low, 0, 0, 0, 1]);
            body.extend_from_slice(&[0, 0, high, low]);
        }
        let mut data = (body.len() as u32).to_be_bytes().to_vec();
        data.extend_from_slice(&body);
        data
    }
}

/// Relative target port and target port group designators of page 83h.
pub(super) fn designators(inner: &Inner) -> Vec<u8> {
    let Some(group) = inner.group else {
        return Vec::new();
    };
    let [high, low] = group.to_be_bytes();
    let mut data = vec![0x51, 0x94, 0, 4, 0, 0, high, low];
    data.extend_from_slice(&[0x51, 0x95, 0, 4, 0, 0, high, low]);
    data
}

/// What the unit's groups make of a command; `None`: it is carried out.
pub(super) fn meet(fake: &Fake, command: &mut Command) -> Option<Outcome> {
    let cdb = command.cdb.as_slice().to_vec();
    if cdb[0] == 0x12 {
        return None;
    }
    let (group, attention) = {
        let mut inner = lock(&fake.inner);
        (inner.group, inner.attentions.pop_front())
    };
    if let Some((key, asc, ascq)) = attention {
        return Some(Outcome::Answered(sense(key, asc, ascq)));
    }
    let mut disk = lock(&fake.disk);
    let Disk { groups, .. } = &mut *disk;
    let groups = groups.as_mut()?;
    match (cdb[0], cdb[1] & 0x1f) {
        (0xa3, 0x0a) => {
            let extended = cdb[1] & 0x20 != 0;
            if extended && groups.transition_s == 0 {
                return Some(Outcome::Answered(sense(5, 0x24, 0)));
            }
            let data = groups.report(extended);
            let DataPhase::Read(buf) = &mut command.data else {
                return Some(Outcome::Answered(ScsiAnswer::good(0)));
            };
            let len = data.len().min(buf.len());
            buf.as_mut_slice()[..len].copy_from_slice(&data[..len]);
            Some(Outcome::Answered(ScsiAnswer::good(len)))
        }
        (0xa4, 0x0a) => {
            if let Some((key, asc, ascq)) = groups.set_error {
                return Some(Outcome::Answered(sense(key, asc, ascq)));
            }
            let DataPhase::Write(list) = &command.data else {
                return Some(Outcome::Answered(sense(5, 0x1a, 0)));
            };
            for wish in list[4..].chunks_exact(4) {
                let id = u16::from_be_bytes([wish[2], wish[3]]);
                groups.sets.push((id, wish[0] & 0x0f));
                if let Some(group) = groups.states.get_mut(&id) {
                    group.0 = wish[0] & 0x0f;
                }
            }
            Some(Outcome::Answered(ScsiAnswer::good(command.data.len())))
        }
        _ => {
            let ascq = match groups.states.get(&group?)?.0 {
                STANDBY => 0x0b,
                UNAVAILABLE => 0x0c,
                TRANSITIONING => 0x0a,
                _ => return None,
            };
            Some(Outcome::Answered(sense(2, 0x04, ascq)))
        }
    }
}
