//! The null target's logical unit (SPC-4, SBC-3): what a CDB is answered with.

use crate::pdu::get32;

/// Block size.
pub(crate) const BLOCK_BYTES: u32 = 512;

/// Longest transfer of one command.
pub(crate) const PAYLOAD_BYTES: usize = 16 << 20;

/// The answer to a command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// So many bytes of the payload.
    Read(usize),
    /// Take so many bytes.
    Write(usize),
    /// Parameter data.
    Data(Vec<u8>),
    /// GOOD without data.
    Good,
    /// CHECK CONDITION, ILLEGAL REQUEST, with this additional sense code.
    Illegal(u8, u8),
}

const INVALID_OPCODE: Answer = Answer::Illegal(0x20, 0);
const INVALID_FIELD: Answer = Answer::Illegal(0x24, 0);
const OUT_OF_RANGE: Answer = Answer::Illegal(0x21, 0);
const NO_SUCH_LUN: Answer = Answer::Illegal(0x25, 0);

/// Answers `cdb` for the LUN in `lun`, a unit of `blocks`.
pub(crate) fn answer(lun: &[u8], cdb: &[u8; 16], blocks: u64) -> Answer {
    let here = lun.iter().all(|byte| *byte == 0);
    match cdb[0] {
        // REPORT LUNS and INQUIRY are answered on every LUN.
        0xa0 => allocated(
            vec![0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            get32(cdb, 6),
        ),
        0x12 => inquiry(cdb, here),
        _ if !here => NO_SUCH_LUN,
        0x00 | 0x35 | 0x91 => Answer::Good,
        0x28 => transfer(
            Answer::Read,
            u64::from(get32(cdb, 2)),
            short(cdb, 7),
            blocks,
        ),
        0x2a => transfer(
            Answer::Write,
            u64::from(get32(cdb, 2)),
            short(cdb, 7),
            blocks,
        ),
        0x88 => transfer(Answer::Read, long(cdb), get32(cdb, 10), blocks),
        0x8a => transfer(Answer::Write, long(cdb), get32(cdb, 10), blocks),
        0x25 => {
            let last = u32::try_from(blocks - 1).unwrap_or(u32::MAX);
            Answer::Data([last.to_be_bytes(), BLOCK_BYTES.to_be_bytes()].concat())
        }
        0x9e if cdb[1] & 0x1f == 0x10 => {
            let mut data = (blocks - 1).to_be_bytes().to_vec();
            data.extend_from_slice(&BLOCK_BYTES.to_be_bytes());
            data.resize(32, 0);
            allocated(data, get32(cdb, 10))
        }
        // No mode pages; the header says: no write protection, no block descriptors.
        0x1a => allocated(vec![3, 0, 0, 0], u32::from(cdb[4])),
        0x5a => allocated(vec![0, 6, 0, 0, 0, 0, 0, 0], short(cdb, 7)),
        _ => INVALID_OPCODE,
    }
}

fn transfer(kind: fn(usize) -> Answer, lba: u64, count: u32, blocks: u64) -> Answer {
    let bytes = u64::from(count) * u64::from(BLOCK_BYTES);
    match usize::try_from(bytes) {
        _ if lba.saturating_add(u64::from(count)) > blocks => OUT_OF_RANGE,
        Ok(0) => Answer::Good,
        Ok(bytes) if bytes <= PAYLOAD_BYTES => kind(bytes),
        _ => INVALID_FIELD,
    }
}

fn inquiry(cdb: &[u8; 16], here: bool) -> Answer {
    let peripheral = if here { 0 } else { 0x7f };
    let vital = cdb[1] & 1 == 1;
    let data = match (vital, cdb[2]) {
        (false, 0) => {
            // SPC-4, response format 2, command queuing.
            let mut data = vec![peripheral, 0, 6, 2, 91, 0, 0, 2];
            data.extend_from_slice(b"EXAMPLE NULL TARGET     0001");
            data.resize(96, 0);
            data
        }
        (true, 0x00) => page(0x00, &[0x00, 0x80, 0x83, 0xb0]),
        (true, 0x80) => page(0x80, b"null-0001"),
        (true, 0x83) => {
            // NAA 3 (locally assigned), binary, of the logical unit.
            let naa = [1, 3, 0, 8, 0x30, 0, 0, 0, 0, 0, 0, 1];
            page(0x83, &naa)
        }
        // No limits.
        (true, 0xb0) => page(0xb0, &[0; 60]),
        _ => return INVALID_FIELD,
    };
    allocated(data, short(cdb, 3))
}

fn page(code: u8, body: &[u8]) -> Vec<u8> {
    let length = u8::try_from(body.len()).unwrap_or(u8::MAX);
    [&[0, code, 0, length], body].concat()
}

/// Parameter data cut to the allocation length.
fn allocated(mut data: Vec<u8>, allocation: u32) -> Answer {
    data.truncate(allocation as usize);
    if data.is_empty() {
        Answer::Good
    } else {
        Answer::Data(data)
    }
}

fn short(cdb: &[u8; 16], at: usize) -> u32 {
    get32(cdb, at) >> 16
}

fn long(cdb: &[u8; 16]) -> u64 {
    u64::from(get32(cdb, 2)) << 32 | u64::from(get32(cdb, 6))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cdb(bytes: &[u8]) -> [u8; 16] {
        let mut cdb = [0; 16];
        cdb[..bytes.len()].copy_from_slice(bytes);
        cdb
    }

    #[test]
    fn transfers_are_bounded_by_the_unit() {
        let read = cdb(&[0x28, 0, 0, 0, 0, 8, 0, 0, 8, 0]);
        assert_eq!(answer(&[0; 8], &read, 16), Answer::Read(4096));
        assert_eq!(answer(&[0; 8], &read, 15), OUT_OF_RANGE);
        let write = cdb(&[0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2]);
        assert_eq!(answer(&[0; 8], &write, 16), Answer::Write(1024));
        assert_eq!(answer(&[0, 1, 0, 0, 0, 0, 0, 0], &write, 16), NO_SUCH_LUN);
    }

    #[test]
    fn parameter_data_are_cut_to_what_fits() {
        let inquiry = cdb(&[0x12, 0, 0, 0, 36, 0]);
        let Answer::Data(data) = answer(&[0; 8], &inquiry, 16) else {
            panic!("no data");
        };
        assert_eq!((data.len(), data[4]), (36, 91));
        let luns = cdb(&[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16]);
        assert!(matches!(answer(&[0; 8], &luns, 16), Answer::Data(data) if data.len() == 16));
    }
}
