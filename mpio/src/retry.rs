//! One I/O from the first attempt to its end, without doing any of it.
//!
//! [`Attempt`] is told what happened and what time it is, and answers what to do next. Rules it
//! keeps:
//!
//! - It ends exactly once, with [`Step::Done`].
//! - What cannot harm when it runs twice moves to another path at once.
//! - A write that may still run on the path it was sent on is sent again only after that path
//!   was fenced ([`Step::AwaitFence`]), or it ends with an unknown outcome.
//! - A raw command is sent again only when it certainly was not executed; the device's last
//!   answer to it is a result, not an error.
//! - Retries end with the deadline or the count, whichever is first; a command under way is
//!   always waited for, because the transport holds the caller's memory.

use std::time::{Duration, Instant};

use scsi::{Outcome, Residual, ScsiAnswer, Status};

use crate::classify::{After, Note, Pace, Row, Verdict, classify, may_have_run};
use crate::config::Config;
use crate::error::{IoError, IoErrorKind, OutcomeCertainty};
use crate::path::{PathId, PathSet, Trouble};
use crate::queueing::Patience;

/// When a command may be sent again after it got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replay {
    /// Always: reads, flushes.
    Free,
    /// When the old one can no longer run: writes.
    AfterFence,
    /// Never. `alters`: it may change blocks, so the end waits for the fence.
    Never {
        /// See above.
        alters: bool,
    },
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Send it: on `stay` if usable, else on a path that is not in `avoid`.
    Send {
        /// The path to stay on.
        stay: Option<PathId>,
        /// Paths that have had their chance.
        avoid: PathSet,
    },
    /// Nothing until then; report with [`Attempt::woken`].
    Sleep(Instant),
    /// Look again when paths or ranges change, at the latest then; [`Attempt::woken`].
    AwaitChange(Instant),
    /// Wait for the fence, at the latest until then; [`Attempt::fenced`] or [`Attempt::woken`].
    AwaitFence(Instant),
    /// It has ended; take the result.
    Done,
}

/// What the driver has to do after a completion, besides the next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Aftermath {
    /// Report this of the path.
    pub(crate) trouble: Option<Trouble>,
    /// The write may still run: hold its range and fence the path.
    pub(crate) hold: bool,
    /// What others want to know.
    pub(crate) note: Option<Note>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Send,
    Sleep(Instant),
    AwaitPath(Instant),
    AwaitRange(Instant),
    AwaitFence,
    Good,
    Failed(IoErrorKind),
}

/// One I/O (or one piece of a long one).
#[derive(Debug)]
pub(crate) struct Attempt {
    replay: Replay,
    /// The unit has target port groups.
    asymmetric: bool,
    /// Bytes that a good answer must have moved; `None`: the caller looks for itself.
    expected: Option<usize>,
    deadline: Instant,
    attempts_left: u32,
    state: State,
    stay: Option<PathId>,
    avoid: PathSet,
    /// Paths that say there is no logical unit.
    gone: PathSet,
    /// Tries on `stay` in a row.
    here: u8,
    back_offs: u32,
    /// An attempt without an answer may have run.
    doubt: bool,
    /// It may still.
    live: bool,
    last_path: Option<PathId>,
    last_kind: Option<IoErrorKind>,
    answer: Option<ScsiAnswer>,
}

impl Attempt {
    /// A new I/O.
    pub(crate) fn new(
        replay: Replay,
        expected: Option<usize>,
        now: Instant,
        config: &Config,
    ) -> Self {
        Self {
            replay,
            asymmetric: false,
            expected,
            deadline: after(now, config.io_deadline),
            attempts_left: config.max_attempts.max(1),
            state: State::Send,
            stay: None,
            avoid: PathSet::default(),
            gone: PathSet::default(),
            here: 0,
            back_offs: 0,
            doubt: false,
            live: false,
            last_path: None,
            last_kind: None,
            answer: None,
        }
    }

    /// Of a unit with target port groups, or not.
    pub(crate) fn asymmetric(self, asymmetric: bool) -> Self {
        Self { asymmetric, ..self }
    }

    /// What to do next.
    pub(crate) fn step(&self) -> Step {
        match self.state {
            State::Send => Step::Send {
                stay: self.stay,
                avoid: self.avoid,
            },
            State::Sleep(until) => Step::Sleep(until),
            State::AwaitPath(until) | State::AwaitRange(until) => Step::AwaitChange(until),
            State::AwaitFence => Step::AwaitFence(self.deadline),
            State::Good | State::Failed(_) => Step::Done,
        }
    }

    /// The path of the last attempt.
    pub(crate) fn last_path(&self) -> Option<PathId> {
        self.last_path
    }

    /// A path was found and the command is being sent on it.
    pub(crate) fn sending(&mut self, path: PathId) {
        if self.last_path != Some(path) {
            self.here = 0;
        }
        self.last_path = Some(path);
        self.attempts_left = self.attempts_left.saturating_sub(1);
    }

    /// A command ended.
    pub(crate) fn completed(&mut self, now: Instant, path: PathId, outcome: Outcome) -> Aftermath {
        let row = classify(&outcome);
        let ran = may_have_run(row, &outcome);
        let live = matches!(&outcome, Outcome::Failed(error) if error.certainty.may_still_run());
        let aborted =
            matches!(&outcome, Outcome::Answered(answer) if answer.status == Status::TASK_ABORTED);
        self.doubt |= ran && (aborted || matches!(outcome, Outcome::Failed(_)));
        self.last_kind = Some(row.kind);
        self.answer = match outcome {
            Outcome::Answered(answer) => Some(answer),
            Outcome::Failed(_) => None,
        };
        let alters = !matches!(self.replay, Replay::Free | Replay::Never { alters: false });
        let hold = live && alters;
        let verdict = row.verdict(self.asymmetric);
        self.state = self.after(now, path, (row, verdict), ran, live);
        if hold {
            self.live = true;
            self.state = State::AwaitFence;
        }
        self.hand_over_raw_answer();
        let trouble = match verdict {
            Verdict::Leave(trouble) => Some(trouble),
            Verdict::LookAgain => Some(Trouble::Changed),
            Verdict::Good | Verdict::Up | Verdict::Again { .. } | Verdict::Elsewhere => None,
        };
        Aftermath {
            trouble,
            hold,
            note: row.note,
        }
    }

    /// Whoever sent a raw command wants the device's last word, whatever it is.
    fn hand_over_raw_answer(&mut self) {
        let raw = matches!(self.replay, Replay::Never { .. });
        if raw && self.answer.is_some() && matches!(self.state, State::Failed(_)) {
            self.state = State::Good;
        }
    }

    /// The state that follows from a row of the table.
    fn after(
        &mut self,
        now: Instant,
        path: PathId,
        (row, verdict): (&Row, Verdict),
        ran: bool,
        live: bool,
    ) -> State {
        match verdict {
            Verdict::Good => return self.judge_length(),
            Verdict::Up => return State::Failed(row.kind),
            Verdict::Again { .. } | Verdict::Elsewhere => {}
            Verdict::Leave(_) | Verdict::LookAgain => self.stay = None,
        }
        if ran && matches!(self.replay, Replay::Never { .. }) {
            self.live |= live;
            let answered = self.answer.is_some();
            return State::Failed(if answered {
                row.kind
            } else {
                IoErrorKind::NotRepeatable
            });
        }
        // A write that may still run waits for its fence all the same, see `completed`.
        if self.attempts_left == 0 || now >= self.deadline {
            return State::Failed(row.kind);
        }
        match verdict {
            Verdict::Again { pace, limit, after } => self.again(now, path, pace, limit, after),
            Verdict::Elsewhere => self.elsewhere(path),
            Verdict::Leave(Trouble::Suspect) => self.elsewhere(path),
            Verdict::Leave(Trouble::Unusable) => {
                self.gone_if_so(path, row.kind);
                State::Send
            }
            Verdict::Leave(Trouble::Lost | Trouble::Changed | Trouble::NoAccess)
            | Verdict::LookAgain
            | Verdict::Good
            | Verdict::Up => State::Send,
        }
    }

    fn gone_if_so(&mut self, path: PathId, kind: IoErrorKind) {
        if kind == IoErrorKind::NoLogicalUnit {
            self.gone.insert(path);
        }
    }

    fn elsewhere(&mut self, path: PathId) -> State {
        self.avoid.insert(path);
        self.stay = None;
        self.here = 0;
        State::Send
    }

    fn again(&mut self, now: Instant, path: PathId, pace: Pace, limit: u8, after: After) -> State {
        if self.here >= limit && limit != u8::MAX {
            return match (after, self.last_kind) {
                (After::Elsewhere, _) => self.elsewhere(path),
                (After::Up, Some(kind)) => State::Failed(kind),
                (After::Up, None) => State::Failed(IoErrorKind::Device),
            };
        }
        self.here = self.here.saturating_add(1);
        self.stay = Some(path);
        match pace {
            Pace::AtOnce => State::Send,
            Pace::Tick => self.sleep(now, TICK),
            Pace::BackOff => {
                let pause = BACK_OFF_FIRST.saturating_mul(1 << self.back_offs.min(10));
                self.back_offs = self.back_offs.saturating_add(1);
                self.sleep(now, pause.min(TICK))
            }
        }
    }

    /// Sleeps, but leaves room for a last try at the deadline.
    fn sleep(&self, now: Instant, pause: Duration) -> State {
        State::Sleep(after(now, pause).min(self.deadline))
    }

    /// GOOD, but was it all?
    fn judge_length(&self) -> State {
        let (Some(expected), Some(answer)) = (self.expected, &self.answer) else {
            return State::Good;
        };
        match answer.residual {
            _ if answer.transferred < expected => State::Failed(IoErrorKind::ShortTransfer),
            Residual::Overflow(_) => State::Failed(IoErrorKind::Device),
            Residual::None | Residual::Underflow(_) => State::Good,
        }
    }

    /// No path is usable; `every` is the set of all paths. `patience`: how long to wait for one;
    /// `None`: a path is only being looked at again.
    pub(crate) fn no_path(&mut self, now: Instant, every: PathSet, patience: Option<Patience>) {
        if !every.is_empty() && self.gone.contains_all(every) {
            self.state = State::Failed(IoErrorKind::NoLogicalUnit);
            return;
        }
        let until = self.limit(now, patience);
        self.state = if now >= until {
            State::Failed(IoErrorKind::NoPath)
        } else {
            State::AwaitPath(until)
        };
    }

    /// Every path says that there is no such unit.
    pub(crate) fn unit_gone(&mut self) {
        self.state = State::Failed(IoErrorKind::NoLogicalUnit);
    }

    /// No path is usable, nor will one ever be.
    pub(crate) fn no_path_ever(&mut self) {
        self.state = State::Failed(IoErrorKind::NoPath);
    }

    /// Paths are usable, but all of them are to be avoided.
    pub(crate) fn exhausted(&mut self, now: Instant) {
        self.state = match self.last_kind {
            // Nobody answered; the paths may do better in a moment.
            Some(IoErrorKind::Transport(_)) | None if now < self.deadline => {
                self.avoid = PathSet::default();
                self.sleep(now, TICK)
            }
            kind => State::Failed(kind.unwrap_or(IoErrorKind::NoPath)),
        };
        self.hand_over_raw_answer();
    }

    /// An uncertain write holds a range that this one touches.
    /// `hopeless`: it always will. `patience`: no path is usable, and until then one may come.
    pub(crate) fn range_held(&mut self, now: Instant, hopeless: bool, patience: Option<Patience>) {
        let until = self.limit(now, patience);
        self.state = if hopeless || now >= until {
            State::Failed(IoErrorKind::RangeHeld)
        } else {
            State::AwaitRange(until)
        };
    }

    /// When waiting ends: with the deadline, or, without any path, with the patience for that.
    fn limit(&self, now: Instant, patience: Option<Patience>) -> Instant {
        patience.map_or(self.deadline, |patience| patience.until(now))
    }

    /// So much time has passed without any path; it does not count.
    pub(crate) fn postpone(&mut self, by: Duration) {
        self.deadline = after(self.deadline, by);
    }

    /// Time has passed, or something has changed.
    pub(crate) fn woken(&mut self, now: Instant) {
        match self.state {
            State::Sleep(until) if now < until => {}
            // Looks again; whoever finds nothing and is late fails then.
            State::Sleep(_) | State::AwaitPath(_) | State::AwaitRange(_) => {
                self.state = State::Send;
            }
            State::AwaitFence if now >= self.deadline => {
                self.state = State::Failed(IoErrorKind::NotFenced);
            }
            State::AwaitFence | State::Send | State::Good | State::Failed(_) => {}
        }
    }

    /// What was sent before can no longer run.
    pub(crate) fn fenced(&mut self, now: Instant) {
        if self.state != State::AwaitFence {
            return;
        }
        self.live = false;
        self.state = match self.replay {
            Replay::Never { .. } => State::Failed(IoErrorKind::NotRepeatable),
            Replay::Free | Replay::AfterFence if now < self.deadline && self.attempts_left > 0 => {
                State::Send
            }
            Replay::Free | Replay::AfterFence => {
                State::Failed(self.last_kind.unwrap_or(IoErrorKind::NotFenced))
            }
        };
    }

    /// What was sent before can never be fenced.
    pub(crate) fn not_fenceable(&mut self) {
        if self.state == State::AwaitFence {
            self.state = State::Failed(IoErrorKind::NotFenced);
        }
    }

    /// The logical unit is being closed.
    pub(crate) fn closed(&mut self) {
        if !matches!(self.state, State::Good | State::Failed(_)) {
            self.state = State::Failed(IoErrorKind::Closed);
        }
    }

    /// The end, after [`Step::Done`].
    pub(crate) fn finish(self) -> Result<ScsiAnswer, IoError> {
        let (kind, answer) = match (self.state, self.answer) {
            (State::Good, Some(answer)) => return Ok(answer),
            (State::Failed(kind), answer) => (kind, answer),
            // Not reached: the driver stops at `Done`.
            (_, answer) => (IoErrorKind::Closed, answer),
        };
        let doubt = self.doubt && self.replay != Replay::Free;
        let (status, sense) = match answer {
            Some(answer) => (Some(answer.status), answer.sense),
            None => (None, Box::default()),
        };
        Err(IoError {
            outcome: if doubt {
                OutcomeCertainty::Unknown
            } else {
                OutcomeCertainty::NotDone
            },
            settled: !self.live,
            path: self.last_path,
            status,
            sense,
            ..IoError::local(kind)
        })
    }
}

/// `time + pause`, or `time` when that cannot be expressed... far in the future is as good.
fn after(time: Instant, pause: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(365 * 24 * 3600);
    time.checked_add(pause.min(FAR)).unwrap_or(time)
}

/// Pause while a device gets ready.
const TICK: Duration = Duration::from_secs(1);
/// First pause while a device is busy.
const BACK_OFF_FIRST: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests;
