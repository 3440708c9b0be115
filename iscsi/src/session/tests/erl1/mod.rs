//! ErrorRecoveryLevel 1: what gets lost is asked for again, and nothing is executed twice
//! (RFC 7143 §7, §11.16).

mod acknowledge;
mod data;
mod r2t;
mod reject;
mod retry;
mod status;

use super::*;

const SNACK: u8 = 0x10;
const SECOND: Duration = Duration::from_secs(1);

/// SNACK types (RFC 7143 §11.16.1).
const DATA: u8 = 0;
const STATUS: u8 = 1;
const DATA_ACK: u8 = 2;
const R_DATA: u8 = 3;

fn level_1(answers: &[(&'static str, &str)]) -> Peer {
    let mut config = config();
    config.offer.set("ErrorRecoveryLevel", "1").unwrap();
    config.offer.set("DataDigest", "CRC32C,None").unwrap();
    config.offer.set("HeaderDigest", "CRC32C,None").unwrap();
    let mut keys = keys(answers);
    for (key, value) in &mut keys {
        if *key == "ErrorRecoveryLevel" {
            *value = "1".into();
        }
    }
    Peer::up(config, keys)
}

fn plain() -> Peer {
    level_1(&[])
}

fn digests() -> Peer {
    level_1(&[("HeaderDigest", "CRC32C"), ("DataDigest", "CRC32C")])
}

impl Peer {
    pub(super) fn has_data_digest(&self) -> bool {
        self.digests.1
    }

    /// The target sends a PDU; on the way a bit of its data flips.
    pub(super) fn reply_damaged(&mut self, pdu: &Pdu) {
        assert!(self.digests.1 && !pdu.data.is_empty());
        let mut bytes = pdu.bhs.to_vec();
        if self.digests.0 {
            bytes.extend_from_slice(&crc32c(&pdu.bhs));
        }
        let mut data = pdu.data.clone();
        data.resize(data.len().next_multiple_of(4), 0);
        let digest = crc32c(&data);
        data[pdu.data.len() / 2] ^= 0x20;
        bytes.extend_from_slice(&data);
        bytes.extend_from_slice(&digest);
        self.receive(&bytes);
    }

    /// The only PDU sent is a SNACK of this type: tag, TTT, BegRun and RunLength.
    #[track_caller]
    fn snack(&mut self, kind: u8) -> (u32, u32, u32, u32) {
        let pdu = self.one();
        assert_eq!((pdu.opcode(), pdu.bhs[1]), (SNACK, 0x80 | kind), "{pdu:?}");
        assert!(pdu.data.is_empty());
        assert_eq!(pdu.bhs[4..8], [0; 4]);
        assert_eq!(pdu.word(24), 0, "no CmdSN");
        assert!(kind == DATA_ACK || pdu.lun() == [0; 8]);
        (pdu.itt(), pdu.word(20), pdu.word(40), pdu.word(44))
    }

    /// Sends a command and returns its PDU, the target having taken it.
    fn sent_command(&mut self, command: Command) -> (TaskKey, Pdu) {
        let key = self.submit(0, command);
        let pdu = self.one();
        self.exp_cmd_sn = pdu.cmd_sn().wrapping_add(1);
        (key, pdu)
    }

    /// The answer to a NOP-Out.
    fn nop_answer(&mut self, nop: &Pdu) -> Pdu {
        assert_eq!(nop.opcode(), NOP_OUT);
        self.status(Pdu::new(0x20, 0x80).put(16, nop.itt()).put(20, NONE))
    }

    /// A NOP-In that only tells numbers.
    fn numbers(&self) -> Pdu {
        let pdu = Pdu::new(0x20, 0x80).put(16, NONE).put(20, NONE);
        self.windowed(pdu).put(24, self.stat_sn)
    }

    fn reject(&mut self, reason: u8, rejected: &Pdu) -> Pdu {
        let pdu = Pdu::new(0x3f, 0x80).byte(2, reason).put(16, NONE);
        self.status(pdu.with(&rejected.bhs))
    }

    /// The session asks what is lost after two looks; the NOP-Out.
    fn probed_once(&mut self) -> Pdu {
        let mut sent = Vec::new();
        for _ in 0..3 {
            self.wait(SECOND);
            sent = self.sent();
            if !sent.is_empty() {
                break;
            }
        }
        let [nop] = &sent[..] else {
            panic!("not one NOP-Out: {sent:?}")
        };
        nop.clone()
    }

    /// Time passes until the session asks what is lost; the NOP-Out.
    fn probed(&mut self) -> Pdu {
        self.wait(3 * SECOND);
        let sent = self.sent();
        let nop = sent.last().expect("a NOP-Out").clone();
        assert_eq!(nop.opcode(), NOP_OUT);
        assert_ne!(nop.itt(), NONE);
        assert!(nop.is_immediate());
        nop
    }
}

/// Everything but ExpStatSN is the same.
#[track_caller]
fn assert_same_request(one: &Pdu, other: &Pdu) {
    let (mut one, mut other) = (one.clone(), other.clone());
    one.bhs[28..32].fill(0);
    other.bhs[28..32].fill(0);
    assert_eq!(one.bhs, other.bhs);
    assert_eq!(one.data, other.data);
}
