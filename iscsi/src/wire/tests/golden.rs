//! Each header as twelve words, copied by eye from its drawing in RFC 7143 §11 (RFC 7144 §5 for
//! priority and qualifier). Every field has bytes of its own, so a misplaced one shows.

#![allow(clippy::unusual_byte_groupings, reason = "digits are grouped by field")]

use super::*;

/// Twelve big-endian words.
fn words(words: [u32; 12]) -> Bhs {
    let mut bhs = [0; BHS_BYTES];
    for (place, word) in bhs.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_be_bytes());
    }
    bhs
}

macro_rules! golden {
    ($name:ident, $pdu:expr, $lengths:expr, $decode:path, $words:expr) => {
        #[test]
        fn $name() {
            let bhs = words($words);
            assert_eq!($pdu.encode($lengths), bhs, "encoded");
            assert_eq!($decode(&bhs), Ok($pdu), "decoded");
            assert_eq!(lengths(&bhs), $lengths, "lengths");
        }
    };
}

#[rustfmt::skip]
mod drawings {
    use super::*;

    golden!(nop_out_11_18, nop_out(), data(0x0a0b0c), NopOut::decode, [
        0x40_80_00_00, 0x00_0a0b0c, 0x40070000, 0, 0x11121314, 0xffffffff,
        0x31323334, 0x41424344, 0, 0, 0, 0,
    ]);

    golden!(scsi_command_11_3, command(), Lengths { ahs_bytes: 20, data_bytes: 0x0a0b0c }, ScsiCommand::decode, [
        0x01_c1_a0_00, 0x05_0a0b0c, 0x40070000, 0, 0x11121314, 0x00001000,
        0x31323334, 0x41424344, 0x28000000, 0x12340000, 0x08000000, 0,
    ]);

    golden!(task_request_11_5, task_request(), EMPTY, TaskRequest::decode, [
        0x42_88_00_00, 0, 0x40070000, 0, 0x11121314, 0x81828384,
        0x31323334, 0x41424344, 0x91929394, 0xa1a2a3a4, 0, 0,
    ]);

    golden!(login_request_11_12, login_request(), data(0x0a0b0c), LoginRequest::decode, [
        0x43_87_00_00, 0x00_0a0b0c, 0x80717273, 0x7475_7677, 0x11121314, 0x7879_0000,
        0x31323334, 0x41424344, 0, 0, 0, 0,
    ]);

    golden!(text_request_11_10, text_request(), data(0x0a0b0c), TextRequest::decode, [
        0x04_80_00_00, 0x00_0a0b0c, 0x40070000, 0, 0x11121314, 0x21222324,
        0x31323334, 0x41424344, 0, 0, 0, 0,
    ]);

    golden!(data_out_11_7, data_out(), data(0x0a0b0c), DataOut::decode, [
        0x05_80_00_00, 0x00_0a0b0c, 0x40070000, 0, 0x11121314, 0x21222324,
        0, 0x41424344, 0, 0x81828384, 0x91929394, 0,
    ]);

    golden!(logout_request_11_14, logout_request(), EMPTY, LogoutRequest::decode, [
        0x46_81_00_00, 0, 0, 0, 0x11121314, 0x7879_0000,
        0x31323334, 0x41424344, 0, 0, 0, 0,
    ]);

    golden!(snack_request_11_16, snack_request(), EMPTY, SnackRequest::decode, [
        0x10_82_00_00, 0, 0x40070000, 0, 0xffffffff, 0x21222324,
        0, 0x41424344, 0, 0, 0x81828384, 0,
    ]);

    golden!(nop_in_11_19, nop_in(), data(0x0a0b0c), NopIn::decode, [
        0x20_80_00_00, 0x00_0a0b0c, 0x40070000, 0, 0xffffffff, 0x21222324,
        0x41424344, 0x51525354, 0x61626364, 0, 0, 0,
    ]);

    golden!(scsi_response_11_4, scsi_response(), data(0x0a0b0c), ScsiResponse::decode, [
        0x21_92_00_02, 0x00_0a0b0c, 0xb1b2_0000, 0, 0x11121314, 0xc1c2c3c4,
        0x41424344, 0x51525354, 0x61626364, 0xa1a2a3a4, 0x91929394, 0x81828384,
    ]);

    golden!(task_response_11_6, task_response(), EMPTY, TaskResponse::decode, [
        0x22_80_05_00, 0, 0xa1a2a3_00, 0, 0x11121314, 0,
        0x41424344, 0x51525354, 0x61626364, 0, 0, 0,
    ]);

    golden!(login_response_11_13, login_response(), data(0x0a0b0c), LoginResponse::decode, [
        0x23_81_00_00, 0x00_0a0b0c, 0x80717273, 0x7475_7677, 0x11121314, 0,
        0x41424344, 0x51525354, 0x61626364, 0x02_01_0000, 0, 0,
    ]);

    golden!(text_response_11_11, text_response(), data(0x0a0b0c), TextResponse::decode, [
        0x24_40_00_00, 0x00_0a0b0c, 0x40070000, 0, 0x11121314, 0x21222324,
        0x41424344, 0x51525354, 0x61626364, 0, 0, 0,
    ]);

    golden!(data_in_11_7, data_in(), data(0x0a0b0c), DataIn::decode, [
        0x25_c5_00_04, 0x00_0a0b0c, 0x40070000, 0, 0x11121314, 0x21222324,
        0x41424344, 0x51525354, 0x61626364, 0x81828384, 0x91929394, 0xa1a2a3a4,
    ]);

    golden!(logout_response_11_15, logout_response(), EMPTY, LogoutResponse::decode, [
        0x26_80_02_00, 0, 0, 0, 0x11121314, 0,
        0x41424344, 0x51525354, 0x61626364, 0, 0x8182_9192, 0,
    ]);

    golden!(r2t_11_8, r2t(), EMPTY, R2t::decode, [
        0x31_80_00_00, 0, 0x40070000, 0, 0x11121314, 0x21222324,
        0x41424344, 0x51525354, 0x61626364, 0x81828384, 0x91929394, 0x0001a3a4,
    ]);

    golden!(async_message_11_9, async_message(), data(0x0a0b0c), AsyncMessage::decode, [
        0x32_80_00_00, 0x00_0a0b0c, 0x40070000, 0, 0xffffffff, 0,
        0x41424344, 0x51525354, 0x61626364, 0x01_0f_8182, 0x9192_a1a2, 0,
    ]);

    golden!(reject_11_17, reject(), data(48), Reject::decode, [
        0x3f_80_04_00, 0x00_000030, 0, 0, 0xffffffff, 0,
        0x41424344, 0x51525354, 0x61626364, 0x81828384, 0, 0,
    ]);
}

/// The SCSI Read (10) Command PDU that the CRC examples of RFC 7143 §A.4 show, with its digest.
#[test]
fn the_read_command_of_the_crc_examples() {
    let mut cdb = [0; 16];
    cdb[0] = 0x28;
    cdb[8] = 2;
    let bhs = ScsiCommand {
        immediate: false,
        final_: true,
        read: true,
        write: false,
        attribute: TaskAttribute::Untagged,
        priority: 0,
        lun: Lun::ZERO,
        itt: Itt(0x1400_0000),
        expected_data_bytes: 0x400,
        cmd_sn: CmdSn(0x14),
        exp_stat_sn: StatSn(0x18),
        cdb,
    }
    .encode(EMPTY);
    assert_eq!(bhs[..4], [0x01, 0xc0, 0, 0]);
    assert_eq!(
        digest::to_wire(digest::crc32c(&bhs)),
        [0x56, 0x3a, 0x96, 0xd9]
    );
}

#[test]
fn data_in_without_status_leaves_its_fields_zero() {
    let without = DataIn {
        status: None,
        ..data_in()
    };
    let bhs = without.encode(data(512));
    assert_eq!(bhs[1], 0xc0);
    assert_eq!(
        (bhs[3], &bhs[24..28], &bhs[44..]),
        (0, &[0; 4][..], &[0; 4][..])
    );
}

#[test]
fn a_session_is_closed_without_a_cid() {
    let request = LogoutRequest {
        reason: LogoutReason::CloseSession,
        ..logout_request()
    };
    let bhs = request.encode(EMPTY);
    assert_eq!((bhs[1], &bhs[20..24]), (0x80, &[0; 4][..]));
}

#[test]
fn a_login_without_transit_names_no_next_stage() {
    let request = LoginRequest {
        transit: false,
        ..login_request()
    };
    assert_eq!(request.encode(EMPTY)[1], 0x04);
}

#[test]
fn padding_goes_to_whole_words() {
    assert_eq!([0, 1, 3, 4, 5].map(padded), [0, 4, 4, 4, 8]);
    assert_eq!(padded(0x00ff_ffff), 0x0100_0000);
    assert_eq!(padded(u32::MAX), u32::MAX - 3);
}

#[test]
fn lengths_reach_their_fields_limits() {
    let mut bhs = [0xff; BHS_BYTES];
    assert_eq!(
        lengths(&bhs),
        Lengths {
            ahs_bytes: 1020,
            data_bytes: 0x00ff_ffff
        }
    );
    bhs[4..8].copy_from_slice(&[1, 0, 0, 2]);
    assert_eq!(
        lengths(&bhs),
        Lengths {
            ahs_bytes: 4,
            data_bytes: 2
        }
    );
}

/// RFC 7143 §A.4.
#[test]
fn digests_match_the_examples_of_the_rfc() {
    let up: Vec<u8> = (0..32).collect();
    let down: Vec<u8> = (0..32).rev().collect();
    for (bytes, wire) in [
        (vec![0; 32], [0xaa, 0x36, 0x91, 0x8a]),
        (vec![0xff; 32], [0x43, 0xab, 0xa8, 0x62]),
        (up, [0x4e, 0x79, 0xdd, 0x46]),
        (down, [0x5c, 0xdb, 0x3f, 0x11]),
    ] {
        let crc = digest::crc32c(&bytes);
        assert_eq!(digest::to_wire(crc), wire);
        assert_eq!(digest::from_wire(wire), crc);
    }
}

#[test]
fn digests_cover_the_padding() {
    // The first 32 zero bytes of §A.4, 29 to 31 of them sent and the rest padding.
    for sent in 29..=32 {
        let mut crc = digest::Crc32c::new();
        crc.update(&vec![0; sent as usize]);
        crc.pad(sent);
        assert_eq!(crc.to_wire(), [0xaa, 0x36, 0x91, 0x8a], "{sent} bytes");
    }
}
