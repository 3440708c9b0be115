//! Single questions to a logical unit, before there is multipath over it: INQUIRY, REPORT LUNS.

use std::time::Duration;

use scsi::{
    Cdb, Command, DataPhase, DeliveryError, Inquiry, IoBuf, LunList, Nexus, Outcome, ParseError,
    ScsiAnswer, SelectReport, SenseData, SenseKey, Status, TaskAttribute,
};

use crate::Lun;

/// For one command.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
/// Tries of one command while the device has something to tell first (unit attention) or is
/// busy. Initiators of a shared target can cause several unit attentions in a row.
const TRIES: u32 = 24;
/// Between two tries of a busy device.
const BUSY_PAUSE: Duration = Duration::from_millis(100);
/// Room for the first REPORT LUNS answer.
const LUN_LIST_BYTES: u32 = 4096;
/// Room for the longest one taken: 16,384 LUNs, the most that 16 bits can number.
const LUN_LIST_BYTES_MAX: u32 = 8 + 16_384 * 8;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The transport gave none.
    #[error("{command}: {source}")]
    NoAnswer {
        /// The command's name.
        command: &'static str,
        /// What the transport said.
        source: DeliveryError,
    },
    /// The device refused the command.
    #[error("{command}: {status}{}", sense_in_words(.sense))]
    Refused {
        /// The command's name.
        command: &'static str,
        /// Its status.
        status: Status,
        /// Its sense data; empty without.
        sense: Box<[u8]>,
    },
    /// The answer makes no sense.
    #[error("{command}: {source}")]
    Malformed {
        /// The command's name.
        command: &'static str,
        /// What is wrong with it.
        source: ParseError,
    },
}

impl QueryError {
    /// Whether another path may do better.
    pub(crate) const fn is_of_path(&self) -> bool {
        matches!(self, Self::NoAnswer { .. })
    }

    /// Whether the device says that nothing is behind the LUN (SPC-4: 25h/00h).
    pub(crate) fn says_no_lun(&self) -> bool {
        let Self::Refused { sense, .. } = self else {
            return false;
        };
        SenseData::parse(sense).is_ok_and(|sense| {
            sense.key == SenseKey::ILLEGAL_REQUEST && (sense.code.asc, sense.code.ascq) == (0x25, 0)
        })
    }
}

fn sense_in_words(sense: &[u8]) -> String {
    match SenseData::parse(sense) {
        _ if sense.is_empty() => String::new(),
        Ok(sense) => format!(", {sense}"),
        Err(error) => format!(", {error}"),
    }
}

/// Standard INQUIRY data.
pub(crate) async fn inquiry(nexus: &impl Nexus) -> Result<Inquiry, QueryError> {
    let command = "INQUIRY";
    let data = ask(nexus, command, Cdb::inquiry(255), 255).await?;
    Inquiry::parse(data.as_slice()).map_err(|source| QueryError::Malformed { command, source })
}

/// All LUNs of the target, asked at the nexus of LUN 0.
pub(crate) async fn report_luns(nexus: &impl Nexus) -> Result<Vec<Lun>, QueryError> {
    let command = "REPORT LUNS";
    let mut room = LUN_LIST_BYTES;
    loop {
        let cdb = Cdb::report_luns(SelectReport::LogicalUnits, room);
        let len = usize::try_from(room).unwrap_or(0);
        let data = ask(nexus, command, cdb, len).await?;
        let list = LunList::parse(data.as_slice())
            .map_err(|source| QueryError::Malformed { command, source })?;
        if list.is_whole(len) || room == LUN_LIST_BYTES_MAX {
            return Ok(list.luns);
        }
        let needed = u32::try_from(list.needed_bytes).unwrap_or(u32::MAX);
        room = needed.min(LUN_LIST_BYTES_MAX);
    }
}

/// Sends a command until it is answered for good.
async fn ask(
    nexus: &impl Nexus,
    command: &'static str,
    cdb: Cdb,
    len: usize,
) -> Result<IoBuf, QueryError> {
    let mut tries = 1;
    loop {
        let (outcome, data) = once(nexus, cdb.clone(), len).await;
        let answer = match outcome {
            Outcome::Answered(answer) => answer,
            Outcome::Failed(source) => return Err(QueryError::NoAnswer { command, source }),
        };
        let pause = match again(&answer) {
            Again::Done => return Ok(filled(data, answer.transferred)),
            Again::AtOnce => Duration::ZERO,
            Again::After(pause) => pause,
            Again::Never => return Err(refused(command, answer)),
        };
        if tries == TRIES {
            return Err(refused(command, answer));
        }
        tries += 1;
        tokio::time::sleep(pause).await;
    }
}

async fn once(nexus: &impl Nexus, cdb: Cdb, len: usize) -> (Outcome, DataPhase) {
    let command = Command {
        cdb,
        data: DataPhase::Read(IoBuf::zeroed(len)),
        attribute: TaskAttribute::Simple,
        priority: 0,
        timeout: COMMAND_TIMEOUT,
        only_in: None,
    };
    let completion = nexus.execute(command).await;
    (completion.outcome, completion.data)
}

/// What to do after an answer.
enum Again {
    Done,
    AtOnce,
    After(Duration),
    Never,
}

fn again(answer: &ScsiAnswer) -> Again {
    match answer.status {
        Status::GOOD => Again::Done,
        Status::BUSY | Status::TASK_SET_FULL => Again::After(BUSY_PAUSE),
        Status::CHECK_CONDITION => match SenseData::parse(&answer.sense).map(|sense| sense.key) {
            Ok(SenseKey::RECOVERED_ERROR) => Again::Done,
            Ok(SenseKey::UNIT_ATTENTION) => Again::AtOnce,
            _ => Again::Never,
        },
        _ => Again::Never,
    }
}

fn refused(command: &'static str, answer: ScsiAnswer) -> QueryError {
    QueryError::Refused {
        command,
        status: answer.status,
        sense: answer.sense,
    }
}

/// What the device filled of the buffer.
fn filled(data: DataPhase, transferred: usize) -> IoBuf {
    match data {
        DataPhase::Read(mut buf) => {
            buf.truncate(transferred);
            buf
        }
        DataPhase::None | DataPhase::Write(_) | DataPhase::Bidirectional(_) => IoBuf::default(),
    }
}

#[cfg(test)]
mod tests;
