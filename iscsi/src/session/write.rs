//! Data-Out: immediate, unsolicited, and asked for by R2T (RFC 7143 §11.7, §11.8).
//!
//! Data-Out PDUs are made one at a time from burst descriptors when there is room to send them;
//! an R2T never buffers data. Bursts are served in the order they came up, so unsolicited data go
//! in the order of their commands (RFC 7143 §4.2.4.1).

use std::time::Instant;

use scsi::DataPhase;
use smallvec::SmallVec;

use super::Session;
use super::error::{ProtocolError, R2tFault};
use super::extents::Extents;
use super::read::payload_of;
use super::recovery::Arrival;
use super::task::{Stage, TaskKey};
use crate::name::Cid;
use crate::serial::{DataSn, R2tSn};
use crate::text::{ConnectionParams, SessionParams};
use crate::wire::transmit::Transmit;
use crate::wire::{DataOut, Lengths, R2t, Ttt};

/// Longest Data-Out made in one go, so that one transfer does not fill a whole batch.
const DATA_OUT_MAX: u32 = 256 * 1024;

/// A run of bytes to be sent under one tag.
#[derive(Debug, Clone, Copy)]
pub(super) struct Burst {
    ttt: Ttt,
    at: u32,
    end: u32,
    data_sn: DataSn,
    /// All of it has been sent or promised before: the target recovers (RFC 7143 §11.8).
    again: bool,
}

/// What a write has sent and been asked for.
#[derive(Debug, Default)]
pub(super) struct WriteProgress {
    next_r2t_sn: R2tSn,
    /// Bytes sent or promised by a burst.
    granted: u32,
    /// Which ones, unless they can only be the leading ones.
    ranges: Extents,
    bursts: SmallVec<[Burst; 2]>,
    /// No R2T has come since the task was reassigned.
    resumed: bool,
    /// The target rejected data.
    rejected: bool,
    /// It has asked for data again, or all of them were sent again with the command. Whether before or after a Reject was read says nothing: a
    /// Reject may have to wait for its turn, an R2T never does.
    asked_again: bool,
}

/// How a write begins.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Opening {
    /// Bytes in the command PDU itself.
    pub(super) immediate: u32,
    /// End of what follows without being asked for; equal to `immediate` when nothing does.
    pub(super) unsolicited_end: u32,
}

impl Opening {
    /// RFC 7143 §4.2.4.2: at most FirstBurstLength unsolicited in all, in the command PDU as
    /// ImmediateData allows, behind it as InitialR2T allows.
    pub(super) fn new(bytes: u32, session: &SessionParams, connection: &ConnectionParams) -> Self {
        let first_burst = bytes.min(session.first_burst_bytes);
        let immediate = if session.immediate_data {
            first_burst.min(connection.max_send_bytes)
        } else {
            0
        };
        let unsolicited_end = if session.initial_r2t {
            immediate
        } else {
            first_burst
        };
        Self {
            immediate,
            unsolicited_end,
        }
    }

    /// The same once more: a command that is sent again has the flags it had (RFC 7143 §7.2.1),
    /// whatever has been set since. Only what the connection takes in one PDU may differ.
    pub(super) fn again(self, connection: &ConnectionParams) -> Self {
        let immediate = self.immediate.min(connection.max_send_bytes);
        let more_follows = self.unsolicited_end > self.immediate;
        Self {
            immediate,
            unsolicited_end: if more_follows {
                self.unsolicited_end
            } else {
                immediate
            },
        }
    }
}

impl WriteProgress {
    /// Bytes that went out, or were granted and will.
    pub(super) fn granted(&self) -> u32 {
        self.granted
    }

    /// Whether data asked for are still to be sent.
    pub(super) fn is_sending(&self) -> bool {
        !self.bursts.is_empty()
    }

    /// The task goes on, on another connection: no tag of the old one is good any more. The
    /// target asks for what it has not got (RFC 7143 §7.2.2).
    pub(super) fn resume(&mut self) {
        for burst in std::mem::take(&mut self.bursts) {
            if !burst.again {
                self.ranges.remove(burst.at, burst.end);
            }
        }
        self.granted = self.ranges.total();
        self.resumed = true;
    }

    /// The task begins anew.
    pub(super) fn restart(&mut self) {
        *self = Self::default();
    }

    /// Whether the target cannot have all it asked for: some was not sent for the first time yet,
    /// or was rejected and not asked for again.
    pub(super) fn owes_data(&self) -> bool {
        self.rejected && !self.asked_again || self.bursts.iter().any(|burst| !burst.again)
    }

    /// The R2TSN after the highest one that came; `None` when the target may begin anywhere.
    pub(super) fn next_r2t_sn(&self) -> Option<R2tSn> {
        (!self.resumed).then_some(self.next_r2t_sn)
    }

    /// Data-In of a bidirectional command have used up numbers.
    pub(super) fn set_next_r2t_sn(&mut self, sn: R2tSn) {
        self.next_r2t_sn = sn;
    }

    /// A Data-Out PDU of it was rejected.
    pub(super) fn data_rejected(&mut self) {
        self.rejected = true;
    }

    /// What the target rejects from now on may be data from before the command was sent again.
    pub(super) fn sent_again(&mut self) {
        self.asked_again = true;
    }

    pub(super) fn open(&mut self, opening: Opening) {
        self.granted = opening.unsolicited_end;
        self.ranges.add(0, opening.unsolicited_end);
        if opening.unsolicited_end > opening.immediate {
            self.bursts.push(Burst {
                ttt: Ttt::RESERVED,
                at: opening.immediate,
                end: opening.unsolicited_end,
                data_sn: DataSn(0),
                again: false,
            });
        }
    }

    /// Checks an R2T against the task and the negotiated limits, and takes it on.
    fn grant(
        &mut self,
        r2t: &R2t,
        expected: u32,
        params: &SessionParams,
    ) -> Result<(), ProtocolError> {
        let (offset, bytes) = (r2t.buffer_offset, r2t.desired_data_bytes);
        let bad = |fault| ProtocolError::BadR2t {
            offset,
            bytes,
            fault,
        };
        let recovers = params.error_recovery_level > 0;
        if self.resumed {
            // The target counts on where it was, which may be behind R2Ts that got lost.
            self.next_r2t_sn = r2t.r2t_sn;
            self.resumed = false;
        }
        if r2t.r2t_sn != self.next_r2t_sn && !recovers {
            return Err(ProtocolError::R2tSnGap {
                expected: self.next_r2t_sn.0,
                actual: r2t.r2t_sn.0,
            });
        }
        let end = match offset.checked_add(bytes) {
            Some(end) if end <= expected && bytes > 0 => end,
            _ => return Err(bad(R2tFault::OutOfBounds)),
        };
        if bytes > params.max_burst_bytes {
            return Err(bad(R2tFault::TooLong));
        }
        let outstanding = self
            .bursts
            .iter()
            .filter(|burst| burst.ttt != Ttt::RESERVED)
            .count();
        let allowed = usize::from(params.max_outstanding_r2t);
        // One that recovers may come while the data of the one it replaces are still on their way.
        let allowed = if recovers { 2 * allowed } else { allowed };
        if outstanding >= allowed {
            return Err(bad(R2tFault::TooMany));
        }
        let new_bytes = if recovers {
            // A target may ask for bytes again in recovery, and in any order.
            self.ranges.cover(offset, end)
        } else if params.data_sequence_in_order {
            (offset == self.granted).then_some(bytes)
        } else {
            self.ranges.add(offset, end).then_some(bytes)
        };
        let Some(new_bytes) = new_bytes else {
            return Err(bad(R2tFault::OutOfOrder));
        };
        self.granted = self.granted.saturating_add(new_bytes);
        self.asked_again |= new_bytes < bytes;
        if !r2t.r2t_sn.precedes(self.next_r2t_sn) {
            self.next_r2t_sn = r2t.r2t_sn.next();
        }
        self.bursts.push(Burst {
            ttt: r2t.ttt,
            at: offset,
            end,
            data_sn: DataSn(0),
            again: new_bytes == 0,
        });
        Ok(())
    }

    /// The next piece of the oldest burst.
    fn next_piece(&mut self, limit: u32) -> Option<(Burst, u32)> {
        let burst = self.bursts.first_mut()?;
        let piece = *burst;
        let bytes = (burst.end - burst.at).min(limit);
        burst.at += bytes;
        burst.data_sn = burst.data_sn.next();
        if burst.at == burst.end {
            self.bursts.remove(0);
        }
        Some((piece, bytes))
    }
}

impl Session {
    /// An R2T came.
    pub(super) fn ready_to_transfer(
        &mut self,
        now: Instant,
        r2t: &R2t,
    ) -> Result<(), ProtocolError> {
        let key = TaskKey::from_itt(r2t.itt);
        let params = &self.params;
        let Some(task) = self
            .tasks
            .get_mut(key)
            .filter(|task| task.stage == Stage::Sent)
        else {
            return self.late_answer(key);
        };
        if !matches!(task.data, DataPhase::Write(_) | DataPhase::Bidirectional(_)) {
            return Err(ProtocolError::BadR2t {
                offset: r2t.buffer_offset,
                bytes: r2t.desired_data_bytes,
                fault: R2tFault::NoWrite,
            });
        }
        task.check_lun(r2t.lun)?;
        let arrival = if r2t.r2t_sn == task.write.next_r2t_sn {
            Arrival::Next
        } else {
            task.r2t_sn_out_of_turn(r2t.r2t_sn.0, params.error_recovery_level)?
        };
        if arrival == Arrival::Duplicate {
            self.stats.duplicates += 1;
            return Ok(());
        }
        let idle = !task.write.is_sending();
        task.write.grant(r2t, task.expected_bytes, params)?;
        if task.is_bidirectional() && arrival != Arrival::Filled {
            // One sequence for Data-In and R2T (RFC 7143 §4.2.2.4).
            task.read.set_next_data_sn(DataSn(task.write.next_r2t_sn.0));
        }
        let connection = self.connections.get_mut(task.allegiance);
        if let (true, Some(connection)) = (idle && !task.muted, connection) {
            connection.sending.push_back(key);
        }
        if arrival != Arrival::Next {
            self.after_out_of_turn(now, key, arrival);
        }
        Ok(())
    }

    /// Makes Data-Out PDUs until the batch is full or nothing is asked for.
    pub(super) fn transmit_data_out(&mut self, cid: Cid, out: &mut Transmit) {
        let Some(connection) = self.connections.get_mut(cid) else {
            return;
        };
        // Whole words, for all but the last of a sequence (RFC 7143 §11.7.7).
        let limit = connection.params.max_send_bytes.min(DATA_OUT_MAX) & !3;
        while !out.is_full() {
            let Some(key) = connection.sending.front().copied() else {
                return;
            };
            let Some(task) = self
                .tasks
                .get_mut(key)
                .filter(|task| task.stage == Stage::Sent)
            else {
                connection.sending.pop_front();
                continue;
            };
            let Some((piece, bytes)) = task.write.next_piece(limit) else {
                connection.sending.pop_front();
                continue;
            };
            let end = piece.at + bytes;
            let pdu = DataOut {
                final_: end == piece.end,
                lun: task.lun,
                itt: key.itt(),
                ttt: piece.ttt,
                exp_stat_sn: connection.exp_stat_sn,
                data_sn: piece.data_sn,
                buffer_offset: piece.at,
            };
            let payload = payload_of(&task.data);
            let from = (piece.at as usize).min(payload.len());
            let data = payload.slice(from..(end as usize).min(payload.len()));
            self.stats.written_bytes += data.len() as u64;
            out.push(
                &pdu.encode(Lengths {
                    ahs_bytes: 0,
                    data_bytes: bytes,
                }),
                &[],
                data,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serial::{CmdSn, StatSn};
    use crate::wire::{Itt, Window};
    use scsi::Lun;

    fn params(initial_r2t: bool, immediate_data: bool) -> SessionParams {
        SessionParams {
            initial_r2t,
            immediate_data,
            first_burst_bytes: 4096,
            max_burst_bytes: 8192,
            max_outstanding_r2t: 2,
            ..SessionParams::default()
        }
    }

    fn r2t(sn: u32, offset: u32, bytes: u32) -> R2t {
        R2t {
            lun: Lun::ZERO,
            itt: Itt(0),
            ttt: Ttt(9),
            stat_sn: StatSn(0),
            window: Window {
                exp_cmd_sn: CmdSn(0),
                max_cmd_sn: CmdSn(0),
            },
            r2t_sn: R2tSn(sn),
            buffer_offset: offset,
            desired_data_bytes: bytes,
        }
    }

    #[test]
    fn the_four_combinations_of_initial_r2t_and_immediate_data() {
        let connection = ConnectionParams {
            max_send_bytes: 1024,
            ..ConnectionParams::default()
        };
        let open = |r2t, immediate| Opening::new(65_536, &params(r2t, immediate), &connection);
        assert_eq!(
            open(true, false),
            Opening {
                immediate: 0,
                unsolicited_end: 0
            }
        );
        assert_eq!(
            open(true, true),
            Opening {
                immediate: 1024,
                unsolicited_end: 1024
            }
        );
        assert_eq!(
            open(false, false),
            Opening {
                immediate: 0,
                unsolicited_end: 4096
            }
        );
        assert_eq!(
            open(false, true),
            Opening {
                immediate: 1024,
                unsolicited_end: 4096
            }
        );
    }

    #[test]
    fn r2t_is_held_to_the_limits() {
        let params = params(true, false);
        let fault = |sut: &mut WriteProgress, r2t| match sut.grant(&r2t, 20_000, &params) {
            Err(ProtocolError::BadR2t { fault, .. }) => Some(fault),
            _ => None,
        };
        let mut sut = WriteProgress::default();
        assert_eq!(fault(&mut sut, r2t(0, 0, 8193)), Some(R2tFault::TooLong));
        assert_eq!(
            fault(&mut sut, r2t(0, 19_999, 2)),
            Some(R2tFault::OutOfBounds)
        );
        assert_eq!(
            fault(&mut sut, r2t(0, u32::MAX, 2)),
            Some(R2tFault::OutOfBounds)
        );
        assert_eq!(fault(&mut sut, r2t(0, 0, 0)), Some(R2tFault::OutOfBounds));
        assert_eq!(
            fault(&mut sut, r2t(0, 512, 512)),
            Some(R2tFault::OutOfOrder)
        );
        assert_eq!(fault(&mut sut, r2t(0, 0, 8192)), None);
        assert_eq!(fault(&mut sut, r2t(1, 8192, 8192)), None);
        assert_eq!(
            fault(&mut sut, r2t(2, 16_384, 512)),
            Some(R2tFault::TooMany)
        );
        assert!(matches!(
            sut.grant(&r2t(5, 16_384, 512), 20_000, &params),
            Err(ProtocolError::R2tSnGap {
                expected: 2,
                actual: 5
            })
        ));
    }

    #[test]
    fn bytes_cannot_be_asked_for_twice() {
        let params = SessionParams {
            data_sequence_in_order: false,
            ..params(true, false)
        };
        let mut sut = WriteProgress::default();
        sut.grant(&r2t(0, 4096, 4096), 8192, &params).unwrap();
        assert!(sut.next_piece(8192).is_some());
        assert!(sut.grant(&r2t(1, 4096, 4096), 8192, &params).is_err());
        assert!(sut.grant(&r2t(1, 2048, 4096), 8192, &params).is_err());
        sut.grant(&r2t(1, 0, 4096), 8192, &params).unwrap();
        assert_eq!(sut.granted(), 8192);
    }

    #[test]
    fn data_sn_counts_from_zero_in_each_burst() {
        let params = params(true, false);
        let mut sut = WriteProgress::default();
        sut.grant(&r2t(0, 0, 4096), 8192, &params).unwrap();
        sut.grant(&r2t(1, 4096, 4096), 8192, &params).unwrap();
        let mut seen = Vec::new();
        while let Some((piece, bytes)) = sut.next_piece(2048) {
            seen.push((
                piece.at,
                bytes,
                piece.data_sn.0,
                piece.at + bytes == piece.end,
            ));
        }
        assert_eq!(
            seen,
            [
                (0, 2048, 0, false),
                (2048, 2048, 1, true),
                (4096, 2048, 0, false),
                (6144, 2048, 1, true)
            ]
        );
    }
}
