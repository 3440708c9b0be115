//! One PERSISTENT RESERVE command on one path, in one life of it.

use std::sync::Arc;
use std::time::Duration;

use scsi::cdb::primary::PersistentReserveIn;
use scsi::reservation::{PersistentReserveOut, ReservationKey};
use scsi::{
    Cdb, Command, DataPhase, DeliveryError, Incarnation, IoBuf, Nexus, Outcome, ParseError, Status,
    TaskAttribute,
};

use super::ReservationError;
use crate::classify::{Verdict, classify, is_unknown_command};
use crate::clock::Clock;
use crate::path::{Path, Report, Trouble};
use crate::signal::lock;
use crate::unit::Unit;

/// Tries of one command; each answer but the last says that it was not executed.
const TRIES: u32 = 16;
const PAUSE: Duration = Duration::from_millis(100);

/// First allocation for lists, and the largest the CDB can express.
const LIST_BYTES: usize = 1024;
const LIST_BYTES_MAX: usize = u16::MAX as usize;

/// A path in one of its lives.
pub(super) struct OnPath<'a, N, C> {
    pub(super) unit: &'a Unit<N, C>,
    pub(super) path: &'a Path<N>,
    pub(super) life: Incarnation,
}

/// Why there is no good answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// RESERVATION CONFLICT.
    Conflict,
    /// No answer at all.
    Lost(DeliveryError),
    /// Anything else, for the caller.
    Other(ReservationError),
}

impl<N: Nexus, C: Clock> OnPath<'_, N, C> {
    /// PERSISTENT RESERVE OUT.
    pub(super) async fn change(&self, what: &PersistentReserveOut) -> Result<(), Refusal> {
        let (cdb, parameters) = what.to_command();
        let registers = if let PersistentReserveOut::RegisterAndIgnore { new, .. } = what {
            // Until the answer nothing is certain.
            self.path.set_registered(false);
            Some(*new != ReservationKey::NONE)
        } else {
            None
        };
        self.carry(&cdb, || DataPhase::Write(parameters.clone()))
            .await?;
        if let Some(registers) = registers {
            self.path.set_registered(registers);
        }
        Ok(())
    }

    /// PERSISTENT RESERVE IN, with as much room as the answer `needs`.
    pub(super) async fn ask<T>(
        &self,
        what: PersistentReserveIn,
        parse: impl Fn(&[u8]) -> Result<T, ParseError>,
        needs: impl Fn(&T) -> usize,
    ) -> Result<T, Refusal> {
        let mut room = LIST_BYTES;
        loop {
            let allocation = u16::try_from(room).unwrap_or(u16::MAX);
            let cdb = Cdb::persistent_reserve_in(what, allocation);
            let answer = self
                .carry(&cdb, || DataPhase::Read(IoBuf::zeroed(room)))
                .await?;
            let parsed = parse(answer.as_slice())
                .map_err(|error| Refusal::Other(ReservationError::Malformed(error)))?;
            // The list may grow while it is read; its size is the device's word.
            let wanted = needs(&parsed).min(LIST_BYTES_MAX);
            if wanted <= room {
                return Ok(parsed);
            }
            room = wanted;
        }
    }

    async fn carry(&self, cdb: &Cdb, data: impl Fn() -> DataPhase) -> Result<IoBuf, Refusal> {
        let mut tries = TRIES;
        loop {
            tries -= 1;
            let completion = self
                .path
                .nexus
                .execute(Command {
                    cdb: cdb.clone(),
                    data: data(),
                    attribute: TaskAttribute::Simple,
                    priority: 0,
                    timeout: self.unit.config.probe_timeout,
                    only_in: Some(self.life),
                })
                .await;
            let verdict = classify(&completion.outcome).verdict(false);
            self.overhear(&completion.outcome);
            let answer = match completion.outcome {
                Outcome::Failed(error) => return Err(Refusal::Lost(error)),
                Outcome::Answered(answer) => answer,
            };
            match verdict {
                Verdict::Good => {
                    let DataPhase::Read(mut buf) = completion.data else {
                        return Ok(IoBuf::default());
                    };
                    buf.truncate(answer.transferred);
                    return Ok(buf);
                }
                _ if answer.status == Status::RESERVATION_CONFLICT => {
                    return Err(Refusal::Conflict);
                }
                Verdict::Again { .. } | Verdict::LookAgain if tries > 0 => {
                    let now = self.unit.clock.now();
                    let until = now.checked_add(PAUSE).unwrap_or(now);
                    if answer.status != Status::CHECK_CONDITION {
                        self.unit.clock.sleep_until(until).await;
                    }
                }
                _ if is_unknown_command(&answer.sense) => {
                    return Err(Refusal::Other(ReservationError::Unsupported));
                }
                Verdict::Up
                | Verdict::Elsewhere
                | Verdict::Leave(_)
                | Verdict::Again { .. }
                | Verdict::LookAgain => {
                    return Err(Refusal::Other(ReservationError::Refused {
                        label: Arc::clone(&self.path.label),
                        status: answer.status,
                        sense: answer.sense,
                    }));
                }
            }
        }
    }

    /// What a device has to tell it tells once, to whoever comes first: here it is not about the
    /// reservation.
    fn overhear(&self, outcome: &Outcome) {
        let row = classify(outcome);
        if let Some(note) = row.note {
            self.unit.heard(self.path, note);
        }
        if row.verdict(false) == Verdict::LookAgain {
            // Nothing is written over this path before it was looked at.
            self.path.report(Report {
                incarnation: self.life,
                trouble: Trouble::Changed,
            });
        }
        if let Outcome::Answered(answer) = outcome
            && answer.sense_data().is_some_and(|sense| sense.deferred)
        {
            *lock(&self.unit.deferred) = Some(answer.sense.clone());
        }
    }
}
