//! Asymmetric logical unit access of one logical unit (SPC-4 §5.15): states of its target port
//! groups, REPORT TARGET PORT GROUPS (§6.37), SET TARGET PORT GROUPS (§6.45), and which commands a
//! port in which state carries out (§5.15.2.4).
//!
//! Knows no time: who begins a transition ends it, too.

use super::device::{Cdb, Reply};
use super::sense::Sense;
use crate::config::{Alua, PortGroup};
use crate::wire::Fields as _;

/// ASYMMETRIC ACCESS STATE as on the wire.
pub mod access {
    /// Active/optimized.
    pub const OPTIMIZED: u8 = 0x0;
    /// Active/non-optimized.
    pub const NON_OPTIMIZED: u8 = 0x1;
    /// Standby.
    pub const STANDBY: u8 = 0x2;
    /// Unavailable.
    pub const UNAVAILABLE: u8 = 0x3;
    /// Logical block dependent.
    pub const LBA_DEPENDENT: u8 = 0x4;
    /// Offline.
    pub const OFFLINE: u8 = 0xe;
    /// Transitioning between states.
    pub const TRANSITIONING: u8 = 0xf;
}

/// STATUS CODE: altered by SET TARGET PORT GROUPS.
const BY_COMMAND: u8 = 1;
/// STATUS CODE: altered by the target itself.
const BY_ITSELF: u8 = 2;
/// All states but logical block dependent are supported (T_SUP, O_SUP, U_SUP, S_SUP, AN_SUP, AO_SUP).
const SUPPORTED: u8 = 0xcf;

/// Who changes a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Command,
    Target,
}

#[derive(Debug, Clone)]
struct Group {
    id: u16,
    state: u8,
    preferred: bool,
    status: u8,
    /// Relative target port identifiers.
    ports: Vec<u16>,
}

/// The target port groups of one logical unit.
#[derive(Debug, Clone)]
pub(crate) struct PortGroups {
    explicit: bool,
    extended: bool,
    transition_s: u8,
    groups: Vec<Group>,
}

impl PortGroups {
    /// As configured; ports count from 1 in the order of the portals.
    pub(crate) fn new(alua: &Alua) -> Self {
        let ports = |id: u16| -> Vec<u16> {
            let portals = (1..).zip(&alua.group_of_portal);
            portals
                .filter(|(_, group)| **group == id)
                .map(|(port, _)| port)
                .collect()
        };
        let group = |group: &PortGroup| Group {
            id: group.id,
            state: group.state,
            preferred: group.preferred,
            status: 0,
            ports: ports(group.id),
        };
        Self {
            explicit: alua.tpgs & 2 != 0,
            extended: alua.extended_header,
            transition_s: alua.transition_time_s,
            groups: alua.groups.iter().map(group).collect(),
        }
    }

    /// State of a group.
    pub(crate) fn state(&self, id: u16) -> Option<u8> {
        self.groups
            .iter()
            .find(|group| group.id == id)
            .map(|group| group.state)
    }

    /// Brings a group into a state. Whether that is another one.
    pub(crate) fn change(&mut self, id: u16, state: u8, by: By) -> bool {
        let Some(group) = self.groups.iter_mut().find(|group| group.id == id) else {
            return false;
        };
        group.status = match by {
            By::Command => BY_COMMAND,
            By::Target => BY_ITSELF,
        };
        std::mem::replace(&mut group.state, state) != state
    }

    pub(crate) fn prefer(&mut self, id: u16, preferred: bool) {
        for group in &mut self.groups {
            if group.id == id {
                group.preferred = preferred;
            }
        }
    }

    /// Why a port of this group does not carry out a command; `None`: it does.
    pub(crate) fn refuses(&self, id: u16, cdb: &Cdb) -> Option<Sense> {
        let maintenance = cdb[1] & 0x1f == 0x0a;
        // Whatever the state: INQUIRY, REPORT LUNS, REQUEST SENSE, REPORT TARGET PORT GROUPS.
        let always = matches!(cdb[0], 0x12 | 0xa0 | 0x03) || cdb[0] == 0xa3 && maintenance;
        if always {
            return None;
        }
        let set = cdb[0] == 0xa4 && maintenance;
        // LOG SELECT/SENSE, MODE SELECT/SENSE (6/10), RECEIVE/SEND DIAGNOSTIC, PERSISTENT RESERVE.
        let on_standby = matches!(
            cdb[0],
            0x4c | 0x4d | 0x15 | 0x55 | 0x1a | 0x5a | 0x1c | 0x1d | 0x5e | 0x5f
        );
        match self.state(id)? {
            access::STANDBY if !set && !on_standby => Some(Sense::new(0x02, 0x04, 0x0b)),
            access::UNAVAILABLE if !set => Some(Sense::new(0x02, 0x04, 0x0c)),
            access::TRANSITIONING => Some(Sense::new(0x02, 0x04, 0x0a)),
            access::OFFLINE => Some(Sense::LUN_NOT_SUPPORTED),
            _ => None,
        }
    }

    /// REPORT TARGET PORT GROUPS.
    pub(crate) fn report(&self, cdb: &Cdb) -> Reply {
        let format = cdb[1] >> 5;
        if format > 1 || format == 1 && !self.extended {
            return Reply::check(Sense::cdb_field(1));
        }
        let mut body = Vec::new();
        if format == 1 {
            body.extend([0x10, self.transition_s, 0, 0]);
        }
        for group in &self.groups {
            let [high, low] = group.id.to_be_bytes();
            let preferred = u8::from(group.preferred) << 7;
            let count = u8::try_from(group.ports.len()).unwrap_or(u8::MAX);
            body.extend([
                preferred | group.state,
                SUPPORTED,
                high,
                low,
                0,
                group.status,
                0,
                count,
            ]);
            for port in group.ports.iter().take(count.into()) {
                let [high, low] = port.to_be_bytes();
                body.extend([0, 0, high, low]);
            }
        }
        let mut data = u32::try_from(body.len())
            .unwrap_or(u32::MAX)
            .to_be_bytes()
            .to_vec();
        data.extend(body);
        data.truncate(cdb.be32(6) as usize);
        Reply::good(data)
    }

    /// What a SET TARGET PORT GROUPS asks for: groups and states. Nothing changes yet.
    pub(crate) fn wishes(&self, cdb: &Cdb, list: &[u8]) -> Result<Vec<(u16, u8)>, Sense> {
        if !self.explicit {
            return Err(Sense::INVALID_OPCODE);
        }
        if cdb.be32(6) == 0 {
            return Ok(Vec::new());
        }
        if list.len() < 4 || !list.len().is_multiple_of(4) {
            return Err(Sense::LIST_LENGTH);
        }
        let mut wishes = Vec::new();
        for (at, wish) in (4_u16..).step_by(4).zip(list.chunks_exact(4).skip(1)) {
            let (state, id) = (wish.byte(0) & 0x0f, wish.be16(2));
            // Ports cannot be taken offline one by one.
            if state > access::UNAVAILABLE {
                return Err(Sense::list_field(at));
            }
            if self.state(id).is_none() {
                return Err(Sense::list_field(at + 2));
            }
            wishes.push((id, state));
        }
        Ok(wishes)
    }

    /// Groups that are active/optimized.
    pub(crate) fn optimized(&self) -> Vec<u16> {
        let groups = self.groups.iter();
        let optimized = groups.filter(|group| group.state == access::OPTIMIZED);
        optimized.map(|group| group.id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups() -> PortGroups {
        PortGroups::new(&Alua {
            group_of_portal: vec![1, 300, 1],
            groups: vec![
                PortGroup {
                    id: 1,
                    state: access::OPTIMIZED,
                    preferred: true,
                },
                PortGroup {
                    id: 300,
                    state: access::STANDBY,
                    preferred: false,
                },
            ],
            ..Alua::default()
        })
    }

    fn cdb(bytes: &[u8]) -> Cdb {
        let mut cdb = [0; 16];
        cdb[..bytes.len()].copy_from_slice(bytes);
        cdb
    }

    #[test]
    fn reports_of_both_formats() {
        let report = |format: u8, length: u8| {
            groups().report(&cdb(&[
                0xa3,
                format << 5 | 0x0a,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                length,
            ]))
        };
        let groups = [
            0x80, 0xcf, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3, // group 1
            0x02, 0xcf, 0x01, 0x2c, 0, 0, 0, 1, 0, 0, 0, 2, // group 300
        ];
        assert_eq!(report(0, 255).data, [&[0, 0, 0, 28][..], &groups].concat());
        let extended = [&[0, 0, 0, 32, 0x10, 10, 0, 0][..], &groups].concat();
        assert_eq!(report(1, 255).data, extended);
        // Cut off by the allocation length, with the whole length in front.
        assert_eq!(report(1, 6).data, extended[..6]);
        assert_eq!(report(2, 255).sense, Some(Sense::cdb_field(1)));
        let old = PortGroups {
            extended: false,
            ..self::groups()
        };
        let answer = old.report(&cdb(&[0xa3, 0x2a, 0, 0, 0, 0, 0, 0, 0, 255]));
        assert_eq!(answer.sense, Some(Sense::cdb_field(1)));
    }

    #[test]
    fn what_each_state_refuses() {
        let inquiry = cdb(&[0x12]);
        let report = cdb(&[0xa3, 0x0a]);
        let set = cdb(&[0xa4, 0x0a]);
        let ready = cdb(&[0x00]);
        let mode = cdb(&[0x1a]);
        let write = cdb(&[0x2a]);
        let refused = |state: u8, cdb: &Cdb| {
            let mut it = groups();
            it.change(1, state, By::Target);
            it.refuses(1, cdb)
                .map(|sense| (sense.key, sense.asc, sense.ascq))
        };
        for state in [
            access::OPTIMIZED,
            access::NON_OPTIMIZED,
            access::LBA_DEPENDENT,
        ] {
            for cdb in [inquiry, report, set, ready, mode, write] {
                assert_eq!(refused(state, &cdb), None);
            }
        }
        for state in [
            access::STANDBY,
            access::UNAVAILABLE,
            access::TRANSITIONING,
            access::OFFLINE,
        ] {
            assert_eq!(refused(state, &inquiry), None);
            assert_eq!(refused(state, &report), None);
        }
        for cdb in [ready, write] {
            assert_eq!(refused(access::STANDBY, &cdb), Some((2, 4, 0x0b)));
            assert_eq!(refused(access::UNAVAILABLE, &cdb), Some((2, 4, 0x0c)));
            assert_eq!(refused(access::TRANSITIONING, &cdb), Some((2, 4, 0x0a)));
            assert_eq!(refused(access::OFFLINE, &cdb), Some((5, 0x25, 0)));
        }
        assert_eq!(refused(access::STANDBY, &mode), None);
        assert_eq!(refused(access::UNAVAILABLE, &mode), Some((2, 4, 0x0c)));
        assert_eq!(refused(access::STANDBY, &set), None);
        assert_eq!(refused(access::UNAVAILABLE, &set), None);
        assert_eq!(refused(access::TRANSITIONING, &set), Some((2, 4, 0x0a)));
    }

    #[test]
    fn wishes_are_checked_before_anything_changes() {
        let it = groups();
        let set = cdb(&[0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, 12]);
        let list = [0, 0, 0, 0, 0, 0, 1, 0x2c, 1, 0, 0, 1];
        assert_eq!(it.wishes(&set, &list), Ok(vec![(300, 0), (1, 1)]));
        let unknown = [0, 0, 0, 0, 0, 0, 0, 9];
        assert_eq!(it.wishes(&set, &unknown), Err(Sense::list_field(6)));
        let transitioning = [0, 0, 0, 0, 0x0f, 0, 0, 1];
        assert_eq!(it.wishes(&set, &transitioning), Err(Sense::list_field(4)));
        assert_eq!(it.wishes(&set, &list[..7]), Err(Sense::LIST_LENGTH));
        let implicit = PortGroups {
            explicit: false,
            ..it
        };
        assert_eq!(implicit.wishes(&set, &list), Err(Sense::INVALID_OPCODE));
    }
}
