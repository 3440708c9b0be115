//! What must not be taken, and what must not be refused.

use super::*;

fn with(bhs: Bhs, changes: &[(usize, u8)]) -> Bhs {
    let mut bhs = bhs;
    for (at, byte) in changes {
        bhs[*at] = *byte;
    }
    bhs
}

const NO_TAG: [(usize, u8); 4] = [(16, 0xff), (17, 0xff), (18, 0xff), (19, 0xff)];
const NO_TRANSFER_TAG: [(usize, u8); 4] = [(20, 0xff), (21, 0xff), (22, 0xff), (23, 0xff)];

#[test]
fn opcodes_of_the_other_side_and_unassigned_ones() {
    for opcode in [0x00, 0x01, 0x06, 0x07, 0x10, 0x1c, 0x27, 0x30, 0x33, 0x3c] {
        let bhs = with([0; BHS_BYTES], &[(0, opcode)]);
        assert_eq!(
            Response::decode(&bhs),
            Err(WireError::UnexpectedOpcode { opcode })
        );
    }
    assert_eq!(
        NopIn::decode(&r2t().encode(EMPTY)),
        Err(WireError::OtherOpcode {
            expected: Opcode::NopIn,
            actual: 0x31
        })
    );
}

#[test]
fn every_response_is_found_by_its_opcode() {
    for (bhs, response) in [
        (nop_in().encode(EMPTY), Response::NopIn(nop_in())),
        (
            scsi_response().encode(EMPTY),
            Response::Scsi(scsi_response()),
        ),
        (
            task_response().encode(EMPTY),
            Response::Task(task_response()),
        ),
        (
            login_response().encode(EMPTY),
            Response::Login(login_response()),
        ),
        (
            text_response().encode(EMPTY),
            Response::Text(text_response()),
        ),
        (data_in().encode(EMPTY), Response::DataIn(data_in())),
        (
            logout_response().encode(EMPTY),
            Response::Logout(logout_response()),
        ),
        (r2t().encode(EMPTY), Response::R2t(r2t())),
        (
            async_message().encode(EMPTY),
            Response::Async(async_message()),
        ),
        (reject().encode(EMPTY), Response::Reject(reject())),
    ] {
        assert_eq!(Response::decode(&bhs), Ok(response));
    }
}

#[test]
fn reserved_bits_and_fields_are_ignored() {
    // Byte 0: the reserved bit and, in responses, the place of the I bit.
    let bhs = with(
        nop_in().encode(EMPTY),
        &[(0, 0xe0), (1, 0xff), (3, 9), (47, 9)],
    );
    assert_eq!(Response::decode(&bhs), Ok(Response::NopIn(nop_in())));
    // Data-In without S: StatSN, status, residual count, O and U mean nothing.
    let quiet = DataIn {
        status: None,
        ..data_in()
    };
    let noisy = with(quiet.encode(EMPTY), &[(1, 0xc6), (3, 2), (24, 1), (44, 1)]);
    assert_eq!(DataIn::decode(&noisy), Ok(quiet));
    // NSG without T.
    let partial = LoginResponse {
        transit: false,
        next: Stage::SecurityNegotiation,
        status_class: 0,
        ..login_response()
    };
    let noisy = with(partial.encode(EMPTY), &[(1, 0x02)]);
    assert_eq!(LoginResponse::decode(&noisy), Ok(partial));
    // The tag of a final Text Response is ignored by the reader, not refused.
    let last = TextResponse {
        final_: true,
        continue_: false,
        ..text_response()
    };
    assert_eq!(TextResponse::decode(&last.encode(EMPTY)), Ok(last));
}

#[test]
fn data_in_with_forbidden_combinations() {
    let bhs = data_in().encode(EMPTY);
    let pdu = "SCSI Data-In";
    assert_eq!(
        DataIn::decode(&with(bhs, &[(1, 0x41)])),
        Err(WireError::MissingBit {
            pdu,
            bit: "S",
            required: "F"
        })
    );
    assert_eq!(
        DataIn::decode(&with(bhs, &[(1, 0x87)])),
        Err(WireError::ExclusiveBits {
            pdu,
            first: "O",
            second: "U"
        })
    );
    // Whether the A bit means anything depends on the level.
    let untagged = DataIn::decode(&with(bhs, &NO_TRANSFER_TAG)).unwrap();
    assert_eq!(
        untagged.check_acknowledge(),
        Err(WireError::MissingTag {
            pdu,
            field: "Target Transfer Tag"
        })
    );
    assert_eq!(
        DataIn::decode(&with(bhs, &NO_TAG)),
        Err(WireError::MissingTag {
            pdu,
            field: "Initiator Task Tag"
        })
    );
}

#[test]
fn r2t_without_tag_or_length() {
    let bhs = r2t().encode(EMPTY);
    let pdu = "R2T";
    assert_eq!(
        R2t::decode(&with(bhs, &NO_TRANSFER_TAG)),
        Err(WireError::MissingTag {
            pdu,
            field: "Target Transfer Tag"
        })
    );
    assert_eq!(
        R2t::decode(&with(bhs, &NO_TAG)),
        Err(WireError::MissingTag {
            pdu,
            field: "Initiator Task Tag"
        })
    );
    assert_eq!(
        R2t::decode(&with(bhs, &[(44, 0), (45, 0), (46, 0), (47, 0)])),
        Err(WireError::ZeroLength {
            pdu,
            field: "Desired Data Transfer Length"
        })
    );
    assert_eq!(
        R2t::decode(&with(bhs, &[(7, 4)])),
        Err(WireError::UnexpectedSegment {
            pdu,
            field: "DataSegmentLength",
            bytes: 4
        })
    );
}

#[test]
fn responses_with_additional_headers() {
    for bhs in [
        nop_in().encode(EMPTY),
        scsi_response().encode(EMPTY),
        task_response().encode(EMPTY),
        login_response().encode(EMPTY),
        text_response().encode(EMPTY),
        data_in().encode(EMPTY),
        logout_response().encode(EMPTY),
        r2t().encode(EMPTY),
        async_message().encode(EMPTY),
        reject().encode(EMPTY),
    ] {
        assert!(matches!(
            Response::decode(&with(bhs, &[(4, 2)])),
            Err(WireError::UnexpectedSegment {
                field: "TotalAHSLength",
                bytes: 8,
                ..
            })
        ));
    }
}

#[test]
fn scsi_response_with_both_residual_bits() {
    let pdu = "SCSI Response";
    let bhs = scsi_response().encode(EMPTY);
    assert_eq!(
        ScsiResponse::decode(&with(bhs, &[(1, 0x86)])),
        Err(WireError::ExclusiveBits {
            pdu,
            first: "O",
            second: "U"
        })
    );
    assert_eq!(
        ScsiResponse::decode(&with(bhs, &[(1, 0x98)])),
        Err(WireError::ExclusiveBits {
            pdu,
            first: "o",
            second: "u"
        })
    );
    // A target failure has no flags, whatever stands in their place.
    let failure = with(bhs, &[(1, 0x9e), (2, 1)]);
    let decoded = ScsiResponse::decode(&failure).unwrap();
    assert_eq!(decoded.response, 1);
    let none = ResidualField::default();
    let flags = |field: ResidualField| (field.overflow, field.underflow);
    assert_eq!(flags(decoded.residual), flags(none));
    assert_eq!(flags(decoded.bidirectional_read), flags(none));
}

#[test]
fn scsi_response_with_a_reserved_response() {
    for value in [0x02_u8, 0x7f] {
        assert_eq!(
            ScsiResponse::decode(&with(scsi_response().encode(EMPTY), &[(2, value)])),
            Err(WireError::ReservedValue {
                pdu: "SCSI Response",
                field: "Response",
                value: value.into()
            })
        );
    }
}

#[test]
fn login_response_with_forbidden_stages() {
    let pdu = "Login Response";
    let good = LoginResponse {
        status_class: 0,
        ..login_response()
    }
    .encode(EMPTY);
    for (flags, error) in [
        (
            0xc1,
            WireError::ExclusiveBits {
                pdu,
                first: "T",
                second: "C",
            },
        ),
        (
            0x08,
            WireError::ReservedValue {
                pdu,
                field: "CSG",
                value: 2,
            },
        ),
        (
            0x82,
            WireError::ReservedValue {
                pdu,
                field: "NSG",
                value: 2,
            },
        ),
    ] {
        assert_eq!(
            LoginResponse::decode(&with(good, &[(1, flags)])),
            Err(error)
        );
        // A refusal must reach the user, whatever else is in it.
        let refused = LoginResponse::decode(&with(good, &[(1, flags), (36, 2), (37, 3)])).unwrap();
        assert_eq!((refused.status_class, refused.status_detail), (2, 3));
        assert!(!refused.transit && !refused.continue_);
    }
}

#[test]
fn text_that_is_final_and_goes_on() {
    let pdu = "Text Response";
    let bhs = text_response().encode(EMPTY);
    assert_eq!(
        TextResponse::decode(&with(bhs, &[(1, 0xc0)])),
        Err(WireError::ExclusiveBits {
            pdu,
            first: "F",
            second: "C"
        })
    );
    assert_eq!(
        TextResponse::decode(&with(bhs, &NO_TRANSFER_TAG)),
        Err(WireError::MissingTag {
            pdu,
            field: "Target Transfer Tag"
        })
    );
    assert!(TextRequest::decode(&with(text_request().encode(EMPTY), &[(1, 0xc0)])).is_err());
}

#[test]
fn requests_with_forbidden_fields() {
    let command = command().encode(EMPTY);
    // Neither F nor W; a length without direction; task attributes 5 to 7.
    for flags in [0x41, 0x81, 0xc5, 0xc7] {
        assert!(
            ScsiCommand::decode(&with(command, &[(1, flags)])).is_err(),
            "{flags:#x}"
        );
    }
    for function in [0x80, 0x8d, 0xff] {
        let bhs = with(task_request().encode(EMPTY), &[(1, function)]);
        assert!(matches!(
            TaskRequest::decode(&bhs),
            Err(WireError::ReservedValue {
                field: "Function",
                ..
            })
        ));
    }
    let logout = logout_request().encode(EMPTY);
    assert!(LogoutRequest::decode(&with(logout, &[(1, 0x83)])).is_err());
    let snack = snack_request().encode(EMPTY);
    assert!(SnackRequest::decode(&with(snack, &[(1, 0x84)])).is_err());
    // A NOP-Out that wants no answer must be immediate.
    let ping = with(nop_out().encode(EMPTY), &NO_TAG);
    assert!(NopOut::decode(&ping).is_ok());
    assert!(NopOut::decode(&with(ping, &[(0, 0)])).is_err());
}
