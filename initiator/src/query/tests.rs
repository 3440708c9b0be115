use std::collections::VecDeque;
use std::sync::Mutex;

use scsi::{
    Certainty, Completion, DeliveryErrorKind, FenceError, Incarnation, NexusState, Residual,
};

use super::*;

/// Answers from a script and keeps the CDBs it was asked.
#[derive(Default)]
struct Scripted {
    answers: Mutex<VecDeque<(Status, Vec<u8>)>>,
    asked: Mutex<Vec<Vec<u8>>>,
}

impl Scripted {
    /// Data for GOOD, sense for any other status.
    fn new(answers: impl IntoIterator<Item = (Status, Vec<u8>)>) -> Self {
        Self {
            answers: Mutex::new(answers.into_iter().collect()),
            asked: Mutex::default(),
        }
    }

    fn asked(&self) -> Vec<Vec<u8>> {
        self.asked.lock().unwrap().clone()
    }
}

impl Nexus for Scripted {
    async fn execute(&self, command: Command) -> Completion {
        self.asked
            .lock()
            .unwrap()
            .push(command.cdb.as_slice().to_vec());
        let answer = self.answers.lock().unwrap().pop_front();
        let DataPhase::Read(mut buf) = command.data else {
            panic!("only reads are asked");
        };
        let outcome = match answer {
            None => Outcome::Failed(DeliveryError {
                kind: DeliveryErrorKind::Down,
                certainty: Certainty::NotSent,
            }),
            Some((status, bytes)) => {
                let good = status == Status::GOOD;
                let transferred = if good { bytes.len().min(buf.len()) } else { 0 };
                buf.as_mut_slice()[..transferred].copy_from_slice(&bytes[..transferred]);
                Outcome::Answered(ScsiAnswer {
                    status,
                    sense: if good { Box::default() } else { bytes.into() },
                    residual: Residual::None,
                    transferred,
                    read_part: None,
                    qualifier: 0,
                })
            }
        };
        Completion {
            outcome,
            data: DataPhase::Read(buf),
            incarnation: Incarnation(1),
            took: Duration::ZERO,
        }
    }

    async fn fence(&self, _: Incarnation, _: Duration) -> Result<(), FenceError> {
        Ok(())
    }

    fn state(&self) -> NexusState {
        NexusState::Up(Incarnation(1))
    }

    async fn changed(&self, _: NexusState) -> NexusState {
        std::future::pending().await
    }

    fn max_transfer_bytes(&self) -> usize {
        1 << 20
    }

    fn queue_depth(&self) -> usize {
        1
    }

    fn describe(&self) -> String {
        "scripted".into()
    }
}

/// Fixed format sense data.
fn sense(key: u8, asc: u8, ascq: u8) -> Vec<u8> {
    vec![
        0x70, 0, key, 0, 0, 0, 0, 10, 0, 0, 0, 0, asc, ascq, 0, 0, 0, 0,
    ]
}

fn list(count: u16) -> Vec<u8> {
    let mut bytes = (u32::from(count) * 8).to_be_bytes().to_vec();
    bytes.extend([0; 4]);
    for number in 0..count {
        bytes.extend(Lun::from_number(number).to_bytes());
    }
    bytes
}

#[tokio::test(start_paused = true)]
async fn unit_attentions_and_busy_are_asked_again() {
    let nexus = Scripted::new([
        (Status::CHECK_CONDITION, sense(6, 0x29, 0)),
        (Status::BUSY, Vec::new()),
        (Status::CHECK_CONDITION, sense(6, 0x3f, 0x0e)),
        (Status::GOOD, list(2)),
    ]);
    let luns = report_luns(&nexus).await.unwrap();
    assert_eq!(luns, [Lun::from_number(0), Lun::from_number(1)]);
    // REPORT LUNS, select 0, 4096 bytes.
    let cdb = [0xa0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0];
    assert_eq!(nexus.asked(), vec![cdb.to_vec(); 4]);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_never_stops_complaining_is_given_up() {
    let attention = (Status::CHECK_CONDITION, sense(6, 0x29, 0));
    let nexus = Scripted::new(vec![attention; 100]);
    let error = inquiry(&nexus).await.unwrap_err();
    assert!(matches!(error, QueryError::Refused { .. }));
    assert_eq!(nexus.asked().len(), 24);
}

#[tokio::test]
async fn a_long_list_is_asked_for_with_room() {
    let nexus = Scripted::new([(Status::GOOD, list(600)), (Status::GOOD, list(600))]);
    assert_eq!(report_luns(&nexus).await.unwrap().len(), 600);
    let room: Vec<_> = nexus
        .asked()
        .iter()
        .map(|cdb| cdb[6..10].to_vec())
        .collect();
    assert_eq!(room, [[0, 0, 0x10, 0], [0, 0, 0x12, 0xc8]]);
}

#[tokio::test]
async fn a_boundless_list_ends() {
    let mut endless = list(512);
    endless[..4].copy_from_slice(&[0xff; 4]);
    let nexus = Scripted::new(vec![(Status::GOOD, endless); 9]);
    assert_eq!(report_luns(&nexus).await.unwrap().len(), 512);
    assert_eq!(nexus.asked().len(), 2);
}

#[tokio::test]
async fn no_logical_unit_is_told_from_other_refusals() {
    let refuse = |asc| Scripted::new([(Status::CHECK_CONDITION, sense(5, asc, 0))]);
    assert!(inquiry(&refuse(0x25)).await.unwrap_err().says_no_lun());
    let other = inquiry(&refuse(0x24)).await.unwrap_err();
    assert!(!other.says_no_lun() && !other.is_of_path());
    assert!(other.to_string().contains("ILLEGAL REQUEST"), "{other}");
    let down = inquiry(&Scripted::default()).await.unwrap_err();
    assert!(down.is_of_path() && !down.says_no_lun());
}

#[tokio::test]
async fn short_answers_are_malformed() {
    let nexus = Scripted::new([(Status::GOOD, vec![0, 0, 0])]);
    assert!(matches!(
        report_luns(&nexus).await,
        Err(QueryError::Malformed {
            command: "REPORT LUNS",
            ..
        })
    ));
}
