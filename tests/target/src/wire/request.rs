//! Readers of the PDUs an initiator sends (RFC 7143 §11.3–§11.18).

use super::{Fields, Header};

/// SCSI Command (RFC 7143 §11.3).
#[derive(Debug, Clone)]
pub(crate) struct ScsiCommand {
    pub(crate) immediate: bool,
    pub(crate) is_final: bool,
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) attribute: u8,
    pub(crate) lun: u64,
    pub(crate) itt: u32,
    pub(crate) expected: u32,
    pub(crate) cmd_sn: u32,
    pub(crate) cdb: [u8; 16],
    /// What of the CDB is beyond its first 16 bytes (RFC 7143 §11.2.2.3).
    pub(crate) extended: Vec<u8>,
    /// Bidirectional Read Expected Data Transfer Length (RFC 7143 §11.2.2.4).
    pub(crate) bidirectional_read: Option<u32>,
}

impl ScsiCommand {
    /// Bytes the initiator takes.
    pub(crate) fn read_expected(&self) -> u32 {
        self.bidirectional_read.unwrap_or(self.expected)
    }

    pub(crate) fn parse(header: &Header, ahs: &[u8]) -> Self {
        let mut cdb = [0; 16];
        cdb.copy_from_slice(&header[32..48]);
        let (extended, bidirectional_read) = read_ahs(ahs);
        Self {
            immediate: header[0] & 0x40 != 0,
            is_final: header[1] & 0x80 != 0,
            read: header[1] & 0x40 != 0,
            write: header[1] & 0x20 != 0,
            attribute: header[1] & 7,
            lun: header.be64(8),
            itt: header.be32(16),
            expected: header.be32(20),
            cmd_sn: header.be32(24),
            cdb,
            extended,
            bidirectional_read,
        }
    }
}

/// The rest of an extended CDB and the bidirectional read length, from a list of additional header segments.
fn read_ahs(mut ahs: &[u8]) -> (Vec<u8>, Option<u32>) {
    let (mut extended, mut read) = (Vec::new(), None);
    while ahs.len() >= 4 {
        let bytes = usize::from(ahs.be16(0));
        // The length counts from after the type, so it includes the reserved byte.
        let body = ahs.get(4..3 + bytes).unwrap_or_default();
        match ahs.byte(2) & 0x3f {
            1 => extended = body.to_vec(),
            2 => read = Some(body.be32(0)),
            _ => {}
        }
        ahs = ahs.get((3 + bytes).div_ceil(4) * 4..).unwrap_or_default();
    }
    (extended, read)
}

/// SCSI Data-Out (RFC 7143 §11.7).
#[derive(Debug, Clone, Copy)]
pub(crate) struct DataOut {
    pub(crate) is_final: bool,
    pub(crate) lun: u64,
    pub(crate) itt: u32,
    pub(crate) ttt: u32,
    pub(crate) data_sn: u32,
    pub(crate) offset: u32,
}

impl DataOut {
    pub(crate) fn parse(header: &Header) -> Self {
        Self {
            is_final: header[1] & 0x80 != 0,
            lun: header.be64(8),
            itt: header.be32(16),
            ttt: header.be32(20),
            data_sn: header.be32(36),
            offset: header.be32(40),
        }
    }
}

/// SNACK Request (RFC 7143 §11.16).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Snack {
    pub(crate) kind: u8,
    pub(crate) lun: u64,
    pub(crate) itt: u32,
    pub(crate) ttt: u32,
    pub(crate) begin: u32,
    pub(crate) run: u32,
}

impl Snack {
    pub(crate) fn parse(header: &Header) -> Self {
        Self {
            kind: header[1] & 0x0f,
            lun: header.be64(8),
            itt: header.be32(16),
            ttt: header.be32(20),
            begin: header.be32(40),
            run: header.be32(44),
        }
    }
}

/// Task Management Function Request (RFC 7143 §11.5).
#[derive(Debug, Clone, Copy)]
pub(crate) struct TaskManagement {
    pub(crate) function: u8,
    pub(crate) lun: u64,
    pub(crate) itt: u32,
    pub(crate) referenced: u32,
    pub(crate) cmd_sn: u32,
    pub(crate) ref_cmd_sn: u32,
    pub(crate) exp_data_sn: u32,
    pub(crate) immediate: bool,
}

impl TaskManagement {
    pub(crate) fn parse(header: &Header) -> Self {
        Self {
            function: header[1] & 0x7f,
            lun: header.be64(8),
            itt: header.be32(16),
            referenced: header.be32(20),
            cmd_sn: header.be32(24),
            ref_cmd_sn: header.be32(32),
            exp_data_sn: header.be32(36),
            immediate: header[0] & 0x40 != 0,
        }
    }
}

/// Login Request (RFC 7143 §11.12).
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoginRequest {
    pub(crate) immediate: bool,
    pub(crate) transit: bool,
    pub(crate) more: bool,
    pub(crate) current_stage: u8,
    pub(crate) next_stage: u8,
    pub(crate) version_max: u8,
    pub(crate) version_min: u8,
    pub(crate) isid: [u8; 6],
    pub(crate) tsih: u16,
    pub(crate) itt: u32,
    pub(crate) cid: u16,
    pub(crate) cmd_sn: u32,
    pub(crate) exp_stat_sn: u32,
}

impl LoginRequest {
    pub(crate) fn parse(header: &Header) -> Self {
        let mut isid = [0; 6];
        isid.copy_from_slice(&header[8..14]);
        Self {
            immediate: header[0] & 0x40 != 0,
            transit: header[1] & 0x80 != 0,
            more: header[1] & 0x40 != 0,
            current_stage: header[1] >> 2 & 3,
            next_stage: header[1] & 3,
            version_max: header[2],
            version_min: header[3],
            isid,
            tsih: header.be16(14),
            itt: header.be32(16),
            cid: header.be16(20),
            cmd_sn: header.be32(24),
            exp_stat_sn: header.be32(28),
        }
    }
}

/// Text Request (RFC 7143 §11.10).
#[derive(Debug, Clone, Copy)]
pub(crate) struct TextRequest {
    pub(crate) is_final: bool,
    pub(crate) more: bool,
    pub(crate) itt: u32,
    pub(crate) ttt: u32,
}

impl TextRequest {
    pub(crate) fn parse(header: &Header) -> Self {
        Self {
            is_final: header[1] & 0x80 != 0,
            more: header[1] & 0x40 != 0,
            itt: header.be32(16),
            ttt: header.be32(20),
        }
    }
}

/// Logout Request (RFC 7143 §11.14).
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogoutRequest {
    pub(crate) reason: u8,
    pub(crate) itt: u32,
    pub(crate) cid: u16,
}

impl LogoutRequest {
    pub(crate) fn parse(header: &Header) -> Self {
        Self {
            reason: header[1] & 0x7f,
            itt: header.be32(16),
            cid: header.be16(20),
        }
    }
}

/// NOP-Out (RFC 7143 §11.18).
#[derive(Debug, Clone, Copy)]
pub(crate) struct NopOut {
    pub(crate) immediate: bool,
    pub(crate) lun: u64,
    pub(crate) itt: u32,
    pub(crate) ttt: u32,
}

impl NopOut {
    pub(crate) fn parse(header: &Header) -> Self {
        Self {
            immediate: header[0] & 0x40 != 0,
            lun: header.be64(8),
            itt: header.be32(16),
            ttt: header.be32(20),
        }
    }
}
