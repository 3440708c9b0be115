//! What a target says unasked, and how it ends commands (full feature phase 14 to 16, 20).

use super::*;
use test_target::{
    AsyncEvent, CommandEffect, CommandFault, CommandFilter, ConnectionId, Count, PduEffect,
    PduFault, PduFilter, Sense, status,
};

/// On the connection of which the session hears first.
fn announce(rig: &mut Rig, event: &AsyncEvent) -> ConnectionId {
    let (_, connection) = rig.link(rig.links() - 1).unwrap();
    rig.target.send_async(rig.now, connection, event);
    connection
}

/// The next command ends with this status and sense; what its caller is told of it, and how often
/// it was sent.
fn ended_with(code: u8, sense: Option<Sense>) -> (ScsiAnswer, usize) {
    let mut rig = plain();
    rig.target.fault_command(CommandFault {
        filter: CommandFilter::default(),
        count: Count::ONCE,
        effect: CommandEffect::Status(code, sense),
    });
    let key = write(&mut rig, 4096);
    rig.wait(seconds(5));
    let (answer, _) = answer(&mut rig, key);
    innocent(&rig);
    (answer, rig.sent(0, opcode::SCSI_COMMAND).len())
}

/// Key, ASC and ASCQ of an answer.
fn sense(answer: &ScsiAnswer) -> [u8; 3] {
    [answer.sense[2] & 15, answer.sense[12], answer.sense[13]]
}

#[test]
fn ffp_14_1_and_20_1_a_requested_logout_is_followed_by_a_login() {
    let mut rig = plain();
    let mark = rig.mark();
    announce(&mut rig, &AsyncEvent::RequestLogout { seconds: 3 });
    rig.wait(seconds(10));
    let logout = one(rig.sent(mark, opcode::LOGOUT));
    assert_eq!(logout.header[..2], [0x46, 0x80], "immediate, the session");
    assert!(!rig.sent(mark, opcode::LOGIN).is_empty());
    assert!(rig.is_up());
    innocent(&rig);
}

#[test]
fn ffp_14_2_a_requested_logout_takes_only_its_connection() {
    let mut rig = at_level(2, 3);
    let mark = rig.mark();
    let asked = announce(&mut rig, &AsyncEvent::RequestLogout { seconds: 3 });
    rig.wait(seconds(10));
    let logout = one(rig.sent(mark, opcode::LOGOUT));
    assert_eq!(logout.connection, asked, "on the connection itself");
    assert!(matches!(logout.header[1], 0x81 | 0x82), "a connection");
    let key = test_unit_ready(&mut rig);
    rig.settle();
    answer(&mut rig, key);
    // One of those that stayed, or the one that took its place.
    assert_ne!(one(rig.sent(mark, opcode::SCSI_COMMAND)).connection, asked);
    assert_eq!(rig.session.snapshot().stats.losses, 0, "the session stays");
    innocent(&rig);
}

#[test]
fn ffp_15_1_a_ping_is_answered() {
    let mut rig = plain();
    let (_, connection) = rig.link(0).unwrap();
    let tag = rig
        .target
        .send_ping(rig.now, connection, 0, b"hello")
        .unwrap();
    rig.settle();
    let answer = one(rig.sent(0, opcode::NOP_OUT));
    assert_eq!(answer.header[..2], [0x40, 0x80], "immediate");
    assert_eq!((itt(&answer), answer.be32(20)), (NONE, tag));
    assert_eq!(answer.data, b"hello");
    assert!(rig.target.pings_answered(connection));
    innocent(&rig);
}

#[test]
fn ffp_15_2_a_silent_target_is_pinged_then_given_up() {
    let mut rig = plain();
    let (_, connection) = rig.link(0).unwrap();
    rig.target.stall_connection(rig.now, connection, true);
    rig.wait(seconds(6));
    assert_eq!(rig.link(0).map(|link| link.1), Some(connection));
    rig.wait(seconds(6));
    assert_ne!(rig.link(0).map(|link| link.1), Some(connection), "given up");
    let mut rig = plain();
    rig.wait(seconds(6));
    let ping = one(rig.sent(0, opcode::NOP_OUT));
    assert_eq!((ping.header[0], ping.be32(20)), (0x40, NONE));
    assert_ne!(itt(&ping), NONE, "it wants an answer");
    innocent(&rig);
}

#[test]
fn ffp_15_3_a_nop_out_without_tags_confirms_a_stat_sn() {
    let mut rig = plain();
    announce(&mut rig, &AsyncEvent::TasksTerminated { lun: 0 });
    rig.settle();
    let event = one(rig.heard(0, opcode::ASYNC_MESSAGE));
    let nop = one(rig.sent(0, opcode::NOP_OUT));
    assert_eq!(nop.header[..2], [0x40, 0x80]);
    assert_eq!((itt(&nop), nop.be32(20), nop.data_bytes), (NONE, NONE, 0));
    assert_eq!(nop.be32(28), event.be32(24) + 1, "ExpStatSN");
    innocent(&rig);
}

#[test]
fn ffp_16_4_1_a_crc_error_reaches_the_caller() {
    let crc = Sense::new(0x0b, 0x47, 0x05);
    let (answer, sent) = ended_with(status::CHECK_CONDITION, Some(crc));
    assert_eq!((sense(&answer), sent), ([0x0b, 0x47, 0x05], 1));
}

#[test]
fn ffp_16_4_3_unexpected_unsolicited_data_reach_the_caller() {
    let unexpected = Sense::new(0x0b, 0x0c, 0x0c);
    let (answer, sent) = ended_with(status::CHECK_CONDITION, Some(unexpected));
    assert_eq!((sense(&answer), sent), ([0x0b, 0x0c, 0x0c], 1));
}

#[test]
fn ffp_16_4_4_not_enough_unsolicited_data_reach_the_caller() {
    let too_few = Sense::new(0x0b, 0x0c, 0x0d);
    let (answer, sent) = ended_with(status::CHECK_CONDITION, Some(too_few));
    assert_eq!((sense(&answer), sent), ([0x0b, 0x0c, 0x0d], 1));
}

#[test]
fn ffp_16_4_5_busy_is_the_callers_to_deal_with() {
    let (answer, sent) = ended_with(status::BUSY, None);
    assert_eq!((answer.status, sent), (Status::BUSY, 1));
}

#[test]
fn ffp_16_4_6_a_reservation_conflict_is_the_callers_to_deal_with() {
    let (answer, sent) = ended_with(status::RESERVATION_CONFLICT, None);
    assert_eq!((answer.status.0, sent), (0x18, 1));
    assert!(answer.sense.is_empty());
}

#[test]
fn ffp_20_2_an_announced_drop_of_a_connection_is_waited_out() {
    let mut rig = plain();
    let mark = rig.mark();
    announce(
        &mut rig,
        &AsyncEvent::DropConnection {
            cid: None,
            wait_s: 4,
            retain_s: 0,
        },
    );
    rig.wait(seconds(3));
    assert!(rig.sent(mark, opcode::LOGIN).is_empty());
    rig.wait(seconds(10));
    assert!(rig.is_up());
    innocent(&rig);
}

#[test]
fn ffp_20_3_an_announced_drop_of_the_session_is_waited_out() {
    let mut rig = at_level(0, 2);
    let mark = rig.mark();
    announce(
        &mut rig,
        &AsyncEvent::DropSession {
            wait_s: 4,
            retain_s: 0,
        },
    );
    rig.wait(seconds(3));
    assert!(rig.sent(mark, opcode::LOGIN).is_empty());
    rig.wait(seconds(10));
    assert!(rig.is_up());
    assert_eq!(rig.links(), 2);
    innocent(&rig);
}

#[test]
fn ffp_20_4_a_request_to_negotiate_is_met() {
    let mut rig = plain();
    announce(&mut rig, &AsyncEvent::Renegotiate { seconds: 3 });
    rig.settle();
    let text = one(rig.sent(0, opcode::TEXT));
    assert_eq!((text.header[0] & 0x3f, text.be32(20)), (0x04, NONE));
    rig.wait(seconds(10));
    assert!(rig.is_up());
    innocent(&rig);
}

/// A text exchange whose answer has this F bit and this transfer tag.
fn text_answered_with(flags: u8, tag: u32) -> Rig {
    let mut rig = plain();
    let mut patch = vec![(1, flags)];
    patch.extend((20..).zip(tag.to_be_bytes()));
    rig.target.fault_pdu(PduFault {
        filter: PduFilter {
            opcode: Some(opcode::TEXT_RESPONSE),
            ..PduFilter::default()
        },
        count: Count::ONCE,
        effect: PduEffect::Patch(patch),
    });
    rig.session.ask_targets(rig.now, None).unwrap();
    rig.wait(seconds(10));
    assert!(rig.is_up());
    assert_eq!(rig.sent(0, opcode::TEXT).len(), 1);
    rig
}

#[test]
fn ffp_18_3_1_the_tag_of_a_final_text_response_is_ignored() {
    let mut rig = text_answered_with(0x80, 5);
    assert_eq!(rig.session.snapshot().stats.losses, 0);
    rig.session.ask_targets(rig.now, None).unwrap();
    rig.settle();
    let next = rig.sent(0, opcode::TEXT)[1].clone();
    assert_eq!(next.be32(20), NONE, "the next exchange begins anew");
    innocent(&rig);
}

#[test]
fn ffp_18_3_2_a_text_response_that_goes_on_without_a_tag_is_a_format_error() {
    let rig = text_answered_with(0x40, NONE);
    assert_eq!(rig.session.snapshot().stats.losses, 1);
}
