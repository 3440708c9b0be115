//! Reading and writing fields of a basic header segment at places known at compile time.
//!
//! Offsets are const generics, so that a field outside the header does not compile.

use scsi::Lun;

use super::{BHS_BYTES, Bhs, Itt, Lengths, Opcode, Ttt, Window, WireError, lengths};
use crate::serial::{CmdSn, StatSn};

/// Bit 0 of byte 1 in the RFC's counting: F, T, or 1.
pub(super) const FIRST_BIT: u8 = 0x80;
/// Bit 1 of byte 1: C or A.
pub(super) const SECOND_BIT: u8 = 0x40;
/// The I bit of byte 0 (§11.2.1.1).
pub(super) const IMMEDIATE: u8 = 0x40;

/// `N` bytes from byte `AT`.
pub(super) fn get<const AT: usize, const N: usize>(bhs: &Bhs) -> [u8; N] {
    const { assert!(AT + N <= BHS_BYTES) };
    bhs.get(AT..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .unwrap_or([0; N])
}

/// Writes `bytes` from byte `AT` on.
pub(super) fn put<const AT: usize, const N: usize>(bhs: &mut Bhs, bytes: [u8; N]) {
    const { assert!(AT + N <= BHS_BYTES) };
    if let Some(place) = bhs.get_mut(AT..).and_then(|rest| rest.first_chunk_mut()) {
        *place = bytes;
    }
}

pub(super) fn get_u8<const AT: usize>(bhs: &Bhs) -> u8 {
    u8::from_be_bytes(get::<AT, 1>(bhs))
}

pub(super) fn get_u16<const AT: usize>(bhs: &Bhs) -> u16 {
    u16::from_be_bytes(get::<AT, 2>(bhs))
}

pub(super) fn get_u32<const AT: usize>(bhs: &Bhs) -> u32 {
    u32::from_be_bytes(get::<AT, 4>(bhs))
}

pub(super) fn put_u8<const AT: usize>(bhs: &mut Bhs, value: u8) {
    put::<AT, 1>(bhs, [value]);
}

pub(super) fn put_u16<const AT: usize>(bhs: &mut Bhs, value: u16) {
    put::<AT, 2>(bhs, value.to_be_bytes());
}

pub(super) fn put_u32<const AT: usize>(bhs: &mut Bhs, value: u32) {
    put::<AT, 4>(bhs, value.to_be_bytes());
}

/// `bit` when `set`, else nothing.
pub(super) const fn flag(set: bool, bit: u8) -> u8 {
    if set { bit } else { 0 }
}

/// A header with opcode, I bit, byte 1 and both lengths.
///
/// The lengths come from our own side; one that its field cannot hold is a bug of ours, so it is
/// asserted, and cut to the field in release builds rather than spilling into its neighbours.
pub(super) fn start(opcode: Opcode, immediate: bool, flags: u8, lengths: Lengths) -> Bhs {
    debug_assert!(lengths.ahs_bytes.is_multiple_of(4) && lengths.ahs_bytes <= 1020);
    debug_assert!(lengths.data_bytes < 1 << 24);
    let mut bhs = [0; BHS_BYTES];
    put_u8::<0>(&mut bhs, opcode as u8 | flag(immediate, IMMEDIATE));
    put_u8::<1>(&mut bhs, flags);
    // The word at byte 4 is TotalAHSLength (in words) and the 24 bits of DataSegmentLength.
    let words = u32::from(lengths.ahs_bytes / 4) & 0xff;
    put_u32::<4>(&mut bhs, words << 24 | lengths.data_bytes & 0x00ff_ffff);
    bhs
}

/// Checks the opcode of a header that is to be decoded as `expected`.
pub(super) fn expect(bhs: &Bhs, expected: Opcode) -> Result<(), WireError> {
    let actual = super::opcode::code(bhs);
    if actual == expected as u8 {
        Ok(())
    } else {
        Err(WireError::OtherOpcode { expected, actual })
    }
}

/// Targets send no additional header segments (§11.2).
pub(super) fn no_ahs(bhs: &Bhs, pdu: &'static str) -> Result<(), WireError> {
    match lengths(bhs).ahs_bytes {
        0 => Ok(()),
        bytes => Err(WireError::UnexpectedSegment {
            pdu,
            field: "TotalAHSLength",
            bytes: bytes.into(),
        }),
    }
}

/// Some PDUs are header only.
pub(super) fn no_data(bhs: &Bhs, pdu: &'static str) -> Result<(), WireError> {
    match lengths(bhs).data_bytes {
        0 => Ok(()),
        bytes => Err(WireError::UnexpectedSegment {
            pdu,
            field: "DataSegmentLength",
            bytes,
        }),
    }
}

pub(super) fn is_immediate(bhs: &Bhs) -> bool {
    get_u8::<0>(bhs) & IMMEDIATE != 0
}

pub(super) fn get_lun(bhs: &Bhs) -> Lun {
    Lun::from_bytes(get::<8, 8>(bhs))
}

pub(super) fn put_lun(bhs: &mut Bhs, lun: Lun) {
    put::<8, 8>(bhs, lun.to_bytes());
}

pub(super) fn put_itt(bhs: &mut Bhs, itt: Itt) {
    put_u32::<16>(bhs, itt.0);
}

pub(super) fn get_ttt(bhs: &Bhs) -> Ttt {
    Ttt(get_u32::<20>(bhs))
}

pub(super) fn put_ttt(bhs: &mut Bhs, ttt: Ttt) {
    put_u32::<20>(bhs, ttt.0);
}

/// CmdSN and ExpStatSN where requests carry them.
pub(super) fn get_request_numbers(bhs: &Bhs) -> (CmdSn, StatSn) {
    (CmdSn(get_u32::<24>(bhs)), StatSn(get_u32::<28>(bhs)))
}

/// CmdSN and ExpStatSN where requests carry them.
pub(super) fn put_request_numbers(bhs: &mut Bhs, cmd_sn: CmdSn, exp_stat_sn: StatSn) {
    put_u32::<24>(bhs, cmd_sn.0);
    put_u32::<28>(bhs, exp_stat_sn.0);
}

pub(super) fn get_stat_sn(bhs: &Bhs) -> StatSn {
    StatSn(get_u32::<24>(bhs))
}

pub(super) fn put_stat_sn(bhs: &mut Bhs, stat_sn: StatSn) {
    put_u32::<24>(bhs, stat_sn.0);
}

pub(super) fn get_window(bhs: &Bhs) -> Window {
    Window {
        exp_cmd_sn: CmdSn(get_u32::<28>(bhs)),
        max_cmd_sn: CmdSn(get_u32::<32>(bhs)),
    }
}

pub(super) fn put_window(bhs: &mut Bhs, window: Window) {
    put_u32::<28>(bhs, window.exp_cmd_sn.0);
    put_u32::<32>(bhs, window.max_cmd_sn.0);
}
