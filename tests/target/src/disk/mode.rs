//! MODE SENSE 6/10 and MODE SELECT 6/10 (SPC-4 §6.11, §6.9) with the caching and control pages.

use super::Disk;
use super::sense::Sense;
use crate::wire::Fields as _;

/// What mode pages can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ModeState {
    pub(crate) descriptor_sense: bool,
    pub(crate) write_cache: bool,
    pub(crate) software_write_protect: bool,
}

const CACHING: u8 = 0x08;
const CONTROL: u8 = 0x0a;

fn page(code: u8, state: ModeState, control: u8) -> Option<Vec<u8>> {
    // PC: 0 current, 1 changeable, 2 default, 3 saved.
    let changeable = control == 1;
    match code {
        CACHING => {
            let mut page = vec![CACHING, 0x12];
            let flag = if changeable {
                0x04
            } else {
                u8::from(state.write_cache || control == 2) << 2
            };
            page.push(flag);
            page.resize(20, 0);
            Some(page)
        }
        CONTROL => {
            let mut page = vec![CONTROL, 0x0a];
            let sense = changeable || state.descriptor_sense && control != 2;
            let protect = changeable || state.software_write_protect && control != 2;
            page.extend([u8::from(sense) << 2, 0, u8::from(protect) << 3]);
            page.resize(12, 0);
            Some(page)
        }
        _ => None,
    }
}

/// Mode data for a MODE SENSE CDB.
pub(crate) fn sense(cdb: &[u8; 16], disk: &Disk, state: ModeState) -> Result<Vec<u8>, Sense> {
    let ten = cdb[0] == 0x5a;
    let control = cdb[2] >> 6;
    if control == 3 {
        return Err(Sense::new(0x05, 0x39, 0x00));
    }
    let code = cdb[2] & 0x3f;
    if cdb[3] != 0 && cdb[3] != 0xff {
        return Err(Sense::cdb_field(3));
    }
    let mut pages = Vec::new();
    if code == 0x3f {
        for code in [CACHING, CONTROL] {
            pages.extend(page(code, state, control).unwrap_or_default());
        }
    } else {
        pages = page(code, state, control).ok_or(Sense::cdb_field(2))?;
    }
    let descriptor = if cdb[1] & 0x08 != 0 {
        Vec::new()
    } else {
        block_descriptor(disk)
    };
    let device = 0x10 | u8::from(disk.lun().read_only || state.software_write_protect) << 7;
    let descriptor_bytes = u8::try_from(descriptor.len()).unwrap_or(0);
    let mut out = Vec::new();
    if ten {
        let length = u16::try_from(6 + descriptor.len() + pages.len()).unwrap_or(u16::MAX);
        out.extend(length.to_be_bytes());
        out.extend([0, device, 0, 0, 0, descriptor_bytes]);
    } else {
        out.push(u8::try_from(3 + descriptor.len() + pages.len()).unwrap_or(u8::MAX));
        out.extend([0, device, descriptor_bytes]);
    }
    out.extend(descriptor);
    out.extend(pages);
    Ok(out)
}

fn block_descriptor(disk: &Disk) -> Vec<u8> {
    let mut out = u32::try_from(disk.blocks())
        .unwrap_or(u32::MAX)
        .to_be_bytes()
        .to_vec();
    out.extend(disk.block_bytes().to_be_bytes());
    out
}

/// Applies a MODE SELECT parameter list; nothing changes when any part of it is refused.
pub(crate) fn select(cdb: &[u8; 16], list: &[u8], state: ModeState) -> Result<ModeState, Sense> {
    if list.is_empty() {
        return Ok(state);
    }
    if cdb[1] & 0x01 != 0 {
        return Err(Sense::cdb_field(1));
    }
    let ten = cdb[0] == 0x55;
    let (header, descriptor) = if ten {
        (8, usize::from(list.be16(6)))
    } else {
        (4, usize::from(list.byte(3)))
    };
    let mut at = header + descriptor;
    if list.len() < header || at > list.len() {
        return Err(Sense::LIST_LENGTH);
    }
    let mut result = state;
    while at < list.len() {
        let code = list.byte(at) & 0x3f;
        let mask = page(code, state, 1).ok_or_else(|| Sense::list_field(place(at)))?;
        let current = page(code, state, 0).ok_or_else(|| Sense::list_field(place(at)))?;
        let given = list.get(at..at + mask.len()).ok_or(Sense::LIST_LENGTH)?;
        if given.get(1) != current.get(1) {
            return Err(Sense::list_field(place(at + 1)));
        }
        for (offset, ((given, current), mask)) in
            given.iter().zip(&current).zip(&mask).enumerate().skip(2)
        {
            if (given ^ current) & !mask != 0 {
                return Err(Sense::list_field(place(at + offset)));
            }
        }
        if code == CACHING {
            result.write_cache = given.byte(2) & 0x04 != 0;
        } else {
            result.descriptor_sense = given.byte(2) & 0x04 != 0;
            result.software_write_protect = given.byte(4) & 0x08 != 0;
        }
        at += mask.len();
    }
    Ok(result)
}

fn place(at: usize) -> u16 {
    u16::try_from(at).unwrap_or(u16::MAX)
}
