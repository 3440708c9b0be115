//! What asymmetric access does to a whole target: commands refused by state, states that change
//! by command, by hook and by time, and who hears of it (SPC-4 §5.15.2.5 to §5.15.2.7).

use std::time::{Duration, Instant};

use crate::config::Told;
use crate::disk::alua::{By, access};
use crate::disk::device::{Cdb, Reply};
use crate::disk::sense::Sense;
use crate::target::{Target, Timer};
use crate::task::Execution;

/// ASYMMETRIC ACCESS STATE CHANGED.
const CHANGED: Sense = Sense::new(0x06, 0x2a, 0x06);
/// IMPLICIT ASYMMETRIC ACCESS STATE TRANSITION FAILED.
const TRANSITION_FAILED: Sense = Sense::new(0x06, 0x2a, 0x07);

impl Target {
    /// State of a target port group of a LUN, as on the wire.
    #[must_use]
    pub fn access_state(&self, lun: usize, group: u16) -> Option<u8> {
        self.access.get(lun)?.state(group)
    }

    /// The target brings a group into a state, at once, for one LUN or all.
    pub fn set_access_state(&mut self, lun: Option<usize>, group: u16, state: u8) {
        for index in self.luns(lun) {
            self.change_access(index, group, state, By::Target, None);
        }
    }

    /// The target begins to bring a group into a state, which takes so long. Nobody hears of it
    /// before it has ended, except by the commands that are refused meanwhile.
    pub fn begin_transition(
        &mut self,
        now: Instant,
        lun: Option<usize>,
        group: u16,
        state: u8,
        takes: Duration,
    ) {
        for index in self.luns(lun) {
            self.transit(now, index, (group, state), takes, By::Target, None);
        }
    }

    /// The target tried to change a group and could not: the state stays, all nexuses hear of it.
    pub fn fail_transition(&mut self, lun: Option<usize>) {
        for index in self.luns(lun) {
            self.attention(Some(index), TRANSITION_FAILED, None);
        }
    }

    /// Changes which group the target prefers.
    pub fn prefer_group(&mut self, group: u16, preferred: bool) {
        for access in &mut self.access {
            access.prefer(group, preferred);
        }
    }

    fn luns(&self, lun: Option<usize>) -> Vec<usize> {
        let all = 0..self.access.len();
        all.filter(|index| lun.is_none_or(|only| only == *index))
            .collect()
    }

    /// Why the port that carries it refuses a command; `None`: it does not.
    pub(crate) fn access_refuses(&self, index: usize, group: u16, cdb: &Cdb) -> Option<Reply> {
        self.access
            .get(index)?
            .refuses(group, cdb)
            .map(Reply::check)
    }

    /// A command that the port refuses, REPORT TARGET PORT GROUPS or SET TARGET PORT GROUPS;
    /// `None`: none of these, or not supported. What outlived its connection (`late`) is not refused.
    pub(crate) fn access_reply(
        &mut self,
        now: Instant,
        tsih: u16,
        index: usize,
        execution: &Execution,
        late: bool,
    ) -> Option<Reply> {
        let groups = self.access.get(index)?;
        let cdb = &execution.cdb;
        let group = execution.sender.entrance.port_group;
        if let Some(sense) = groups.refuses(group, cdb).filter(|_| !late) {
            return Some(Reply::check(sense));
        }
        match (cdb[0], cdb[1] & 0x1f) {
            (0xa3, 0x0a) => Some(groups.report(cdb)),
            (0xa4, 0x0a) => Some(match groups.wishes(cdb, &execution.data) {
                Ok(wishes) => self.carry_out(now, tsih, index, &wishes),
                Err(sense) => Reply::check(sense),
            }),
            _ => None,
        }
    }

    /// Standard INQUIRY data tell of target port groups (TPGS).
    pub(crate) fn mark_tpgs(&self, cdb: &Cdb, reply: &mut Reply) {
        if let Some(alua) = &self.config.alua
            && cdb[0] == 0x12
            && cdb[1] & 1 == 0
            && let Some(flags) = reply.data.get_mut(5)
        {
            *flags |= alua.tpgs << 4;
        }
    }

    fn carry_out(&mut self, now: Instant, tsih: u16, index: usize, wishes: &[(u16, u8)]) -> Reply {
        let Some(alua) = self.config.alua.clone() else {
            return Reply::check(Sense::INVALID_OPCODE);
        };
        if alua.refuse_set {
            // SET TARGET PORT GROUPS COMMAND FAILED.
            return Reply::check(Sense::new(0x04, 0x67, 0x0a));
        }
        let opened = wishes.iter().any(|(_, state)| *state == access::OPTIMIZED);
        let named = |id: u16| wishes.iter().any(|(group, _)| *group == id);
        let optimized = self.access.get(index).map(|it| it.optimized());
        let others = optimized
            .unwrap_or_default()
            .into_iter()
            .filter(|id| !named(*id));
        let others = others.filter_map(|id| Some((id, alua.others_become.filter(|_| opened)?)));
        let all: Vec<(u16, u8)> = others.chain(wishes.iter().copied()).collect();
        for wish in all {
            self.transit(now, index, wish, alua.transition, By::Command, Some(tsih));
        }
        Reply::default()
    }

    fn transit(
        &mut self,
        now: Instant,
        index: usize,
        (group, state): (u16, u8),
        takes: Duration,
        by: By,
        except: Option<u16>,
    ) {
        let Some(groups) = self.access.get_mut(index) else {
            return;
        };
        if takes.is_zero() || groups.state(group) == Some(state) {
            self.change_access(index, group, state, by, except);
            return;
        }
        groups.change(group, access::TRANSITIONING, by);
        let timer = Timer::Access {
            lun: index,
            group,
            state,
            by_command: by == By::Command,
            except,
        };
        self.at(now + takes, timer);
    }

    /// Brings a group into a state and tells the nexuses that have to hear of it.
    pub(crate) fn change_access(
        &mut self,
        index: usize,
        group: u16,
        state: u8,
        by: By,
        except: Option<u16>,
    ) {
        let Some(groups) = self.access.get_mut(index) else {
            return;
        };
        if !groups.change(group, state, by) {
            return;
        }
        let told = self
            .config
            .alua
            .as_ref()
            .map_or(Told::Nobody, |alua| alua.told);
        for (tsih, session) in &mut self.sessions {
            let concerned = match told {
                Told::Everybody => true,
                Told::Group => session.entrance.port_group == group,
                Told::Nobody => false,
            };
            if concerned && except != Some(*tsih) {
                session.attention(index, CHANGED);
            }
        }
    }
}
