//! Whatever goes in comes back; whatever comes in does no harm.

use proptest::prelude::*;

use super::*;

prop_compose! {
    fn sizes()(words in 0_u16..=255, data_bytes in 0_u32..1 << 24) -> Lengths {
        Lengths { ahs_bytes: words * 4, data_bytes }
    }
}

fn lun() -> impl Strategy<Value = Lun> {
    any::<[u8; 8]>().prop_map(Lun::from_bytes)
}

/// Never the reserved tag.
fn tag() -> impl Strategy<Value = u32> {
    0..u32::MAX
}

fn window() -> impl Strategy<Value = Window> {
    any::<(u32, u32)>().prop_map(|(exp, max)| Window {
        exp_cmd_sn: CmdSn(exp),
        max_cmd_sn: CmdSn(max),
    })
}

fn residual() -> impl Strategy<Value = ResidualField> {
    (0..3, any::<u32>()).prop_map(|(bits, count)| ResidualField {
        overflow: bits == 1,
        underflow: bits == 2,
        count,
    })
}

fn attribute() -> impl Strategy<Value = TaskAttribute> {
    prop::sample::select(vec![
        TaskAttribute::Untagged,
        TaskAttribute::Simple,
        TaskAttribute::Ordered,
        TaskAttribute::HeadOfQueue,
        TaskAttribute::Aca,
    ])
}

fn stage() -> impl Strategy<Value = Stage> {
    prop::sample::select(vec![
        Stage::SecurityNegotiation,
        Stage::OperationalNegotiation,
        Stage::FullFeaturePhase,
    ])
}

proptest! {
    #[test]
    fn scsi_commands_come_back(
        (immediate, final_, read, write) in any::<(bool, bool, bool, bool)>(),
        (attribute, priority, lun, itt) in (attribute(), 0_u8..16, lun(), tag()),
        (length, cmd_sn, exp_stat_sn) in any::<(u32, u32, u32)>(),
        cdb in any::<[u8; 16]>(),
        sizes in sizes(),
    ) {
        let pdu = ScsiCommand {
            immediate,
            final_: final_ || !write,
            read,
            write,
            attribute,
            priority,
            lun,
            itt: Itt(itt),
            expected_data_bytes: if read || write { length } else { 0 },
            cmd_sn: CmdSn(cmd_sn),
            exp_stat_sn: StatSn(exp_stat_sn),
            cdb,
        };
        let bhs = pdu.encode(sizes);
        prop_assert_eq!(ScsiCommand::decode(&bhs), Ok(pdu));
        prop_assert_eq!(lengths(&bhs), sizes);
        prop_assert_eq!(super::itt(&bhs), pdu.itt);
    }

    #[test]
    fn data_pdus_come_back(
        (final_, acknowledge, with_status) in any::<(bool, bool, bool)>(),
        (lun, itt, ttt, window) in (lun(), tag(), tag(), window()),
        (stat_sn, sn, offset, status) in any::<(u32, u32, u32, u8)>(),
        (residual, desired) in (residual(), 1_u32..),
        data_bytes in 0_u32..1 << 24,
    ) {
        let (lun, itt, ttt, stat_sn) = (lun, Itt(itt), Ttt(ttt), StatSn(stat_sn));
        let sizes = data(data_bytes);
        let out = DataOut {
            final_, lun, itt, ttt, exp_stat_sn: stat_sn, data_sn: DataSn(sn), buffer_offset: offset,
        };
        prop_assert_eq!(DataOut::decode(&out.encode(sizes)), Ok(out));
        let input = DataIn {
            final_: final_ || with_status,
            acknowledge,
            lun,
            itt,
            ttt,
            window,
            data_sn: DataSn(sn),
            buffer_offset: offset,
            status: with_status.then_some(DataInStatus { stat_sn, status, residual }),
        };
        prop_assert_eq!(Response::decode(&input.encode(sizes)), Ok(Response::DataIn(input)));
        let r2t = R2t {
            lun, itt, ttt, stat_sn, window,
            r2t_sn: R2tSn(sn), buffer_offset: offset, desired_data_bytes: desired,
        };
        prop_assert_eq!(Response::decode(&r2t.encode(EMPTY)), Ok(Response::R2t(r2t)));
    }

    #[test]
    fn responses_come_back(
        (residual, bidirectional_read, window) in (residual(), residual(), window()),
        (response, status, qualifier) in any::<(u8, u8, u16)>(),
        (itt, snack_tag, stat_sn, exp_data_sn) in (tag(), any::<u32>(), any::<u32>(), any::<u32>()),
        data_bytes in 0_u32..1 << 24,
    ) {
        let (itt, stat_sn) = (Itt(itt), StatSn(stat_sn));
        // Flags mean something in a completed command only, and 2 to 0x7f are reserved.
        let code = if response & 1 == 0 { 0 } else { response | 0x80 };
        let none = ResidualField::default();
        let flags = |field: ResidualField| match code {
            0 => field,
            _ => ResidualField { count: field.count, ..none },
        };
        let (residual, bidirectional_read) = (flags(residual), flags(bidirectional_read));
        let scsi = ScsiResponse {
            residual, bidirectional_read, response: code, status, qualifier, itt, snack_tag, stat_sn, window,
            exp_data_sn: DataSn(exp_data_sn),
        };
        prop_assert_eq!(Response::decode(&scsi.encode(data(data_bytes))), Ok(Response::Scsi(scsi)));
        let task = TaskResponse { response, additional: [1, 2, 3], itt, stat_sn, window };
        prop_assert_eq!(Response::decode(&task.encode(EMPTY)), Ok(Response::Task(task)));
        let logout = LogoutResponse {
            response, itt, stat_sn, window, time2wait_s: qualifier, time2retain_s: !qualifier,
        };
        prop_assert_eq!(Response::decode(&logout.encode(EMPTY)), Ok(Response::Logout(logout)));
        let reject = Reject { reason: response, stat_sn, window, data_sn: snack_tag };
        prop_assert_eq!(Response::decode(&reject.encode(data(48))), Ok(Response::Reject(reject)));
    }

    #[test]
    fn logins_come_back(
        (transit, continue_) in any::<(bool, bool)>(),
        (current, next, window) in (stage(), stage(), window()),
        (isid, tsih, itt, cid) in any::<([u8; 6], u16, u32, u16)>(),
        (sn1, sn2, class, detail) in any::<(u32, u32, u8, u8)>(),
        data_bytes in 0_u32..1 << 24,
    ) {
        let continue_ = continue_ && !transit;
        let next = if transit { next } else { current };
        let request = LoginRequest {
            transit, continue_, current, next, version_max: class, version_min: detail,
            isid: Isid(isid), tsih: Tsih(tsih), itt: Itt(itt), cid: Cid(cid),
            cmd_sn: CmdSn(sn1), exp_stat_sn: StatSn(sn2),
        };
        prop_assert_eq!(LoginRequest::decode(&request.encode(data(data_bytes))), Ok(request));
        let response = LoginResponse {
            transit, continue_, current, next, version_max: detail, version_active: class,
            isid: Isid(isid), tsih: Tsih(tsih), itt: Itt(itt), stat_sn: StatSn(sn1), window,
            status_class: class, status_detail: detail,
        };
        prop_assert_eq!(Response::decode(&response.encode(data(data_bytes))), Ok(Response::Login(response)));
    }

    #[test]
    fn the_smaller_requests_come_back(
        (immediate, final_, continue_) in any::<(bool, bool, bool)>(),
        (lun, itt, ttt, window) in (lun(), tag(), any::<u32>(), window()),
        (sn1, sn2, sn3, sn4) in any::<(u32, u32, u32, u32)>(),
        (function, reason, kind, cid) in (1_u8..=12, 0_u8..=2, 0_u8..=3, any::<u16>()),
    ) {
        let (itt, ttt) = (Itt(itt), Ttt(ttt));
        let (cmd_sn, exp_stat_sn, stat_sn) = (CmdSn(sn1), StatSn(sn2), StatSn(sn2));
        let nop = NopOut { immediate, lun, itt, ttt, cmd_sn, exp_stat_sn };
        prop_assert_eq!(NopOut::decode(&nop.encode(EMPTY)), Ok(nop));
        let ping = NopIn { lun, itt, ttt, stat_sn, window };
        prop_assert_eq!(NopIn::decode(&ping.encode(EMPTY)), Ok(ping));
        let text = TextRequest {
            immediate, final_, continue_: continue_ && !final_, lun, itt, ttt, cmd_sn, exp_stat_sn,
        };
        prop_assert_eq!(TextRequest::decode(&text.encode(EMPTY)), Ok(text));
        let task = TaskRequest {
            immediate, function: TaskFunction::from_code(function).unwrap(), lun, itt,
            referenced: Itt(sn3), cmd_sn, exp_stat_sn, ref_cmd_sn: CmdSn(sn3), exp_data_sn: DataSn(sn4),
        };
        prop_assert_eq!(TaskRequest::decode(&task.encode(EMPTY)), Ok(task));
        let reason = LogoutReason::from_code(reason).unwrap();
        let cid = Cid(if reason == LogoutReason::CloseSession { 0 } else { cid });
        let logout = LogoutRequest { immediate, reason, itt, cid, cmd_sn, exp_stat_sn };
        prop_assert_eq!(LogoutRequest::decode(&logout.encode(EMPTY)), Ok(logout));
        let snack = SnackRequest {
            kind: SnackKind::from_code(kind).unwrap(), lun, itt, ttt, exp_stat_sn,
            beg_run: sn3, run_length: sn4,
        };
        prop_assert_eq!(SnackRequest::decode(&snack.encode(EMPTY)), Ok(snack));
    }

    #[test]
    fn any_header_is_taken_or_refused(mut bhs in prop::array::uniform32(any::<u8>()), tail in any::<[u8; 16]>(), opcode in 0_u8..64) {
        let mut whole = [0; BHS_BYTES];
        bhs[0] = opcode | bhs[0] & 0xc0;
        whole[..32].copy_from_slice(&bhs);
        whole[32..].copy_from_slice(&tail);
        let _ = Response::decode(&whole);
        let _ = (NopOut::decode(&whole), ScsiCommand::decode(&whole), TaskRequest::decode(&whole));
        let _ = (LoginRequest::decode(&whole), TextRequest::decode(&whole), DataOut::decode(&whole));
        let _ = (LogoutRequest::decode(&whole), SnackRequest::decode(&whole));
    }

    #[test]
    fn folding_equals_the_whole(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0_usize..200) {
        let (first, second) = bytes.split_at(cut.min(bytes.len()));
        let mut crc = digest::Crc32c::new();
        crc.update(first);
        crc.update(second);
        prop_assert_eq!(crc.value(), digest::crc32c(&bytes));
    }
}
