//! Data in both directions (full feature phase 6, 8 to 13, 16.1 to 16.3, 16.6).

use super::*;

/// A write of 16 KiB with FirstBurstLength 4,096, MaxBurstLength 8,192 and segments of 1,024
/// bytes; its command, its unsolicited Data-Outs and the others.
fn burst(initial_r2t: &str, immediate: &str) -> (WireRecord, Vec<WireRecord>, Vec<WireRecord>) {
    let mut rig = up(
        |target| {
            target.keys.max_recv_data_segment_bytes = 1024;
            target.keys.max_outstanding_r2t = 1;
        },
        |ours| {
            offer(
                ours,
                &[
                    ("InitialR2T", initial_r2t),
                    ("ImmediateData", immediate),
                    ("MaxBurstLength", "8192"),
                    ("FirstBurstLength", "4096"),
                ],
            );
        },
    );
    let key = write(&mut rig, 16_384);
    rig.settle();
    good(&mut rig, key);
    innocent(&rig);
    let command = one(rig.sent(0, opcode::SCSI_COMMAND));
    let outs = rig.sent(0, opcode::DATA_OUT);
    let (unsolicited, solicited) = outs.into_iter().partition(|out| out.be32(20) == NONE);
    (command, unsolicited, solicited)
}

/// DataSN, offset and length of each.
fn shape(outs: &[WireRecord]) -> Vec<(u32, u32, usize)> {
    let of = |out: &WireRecord| (out.be32(36), out.be32(40), out.data_bytes);
    outs.iter().map(of).collect()
}

/// Segments of 1,024 bytes from `from` on, numbered from 0.
fn segments(from: u32, count: u32) -> Vec<(u32, u32, usize)> {
    (0..count).map(|n| (n, from + n * 1024, 1024)).collect()
}

#[test]
fn ffp_16_2_1_and_8_2_nothing_unsolicited() {
    let (command, unsolicited, solicited) = burst("Yes", "No");
    assert_eq!((command.data_bytes, is_final(&command)), (0, true));
    assert!(unsolicited.is_empty());
    assert_eq!(solicited.len(), 16);
}

#[test]
fn ffp_16_2_2_immediate_data_only() {
    let (command, unsolicited, _) = burst("Yes", "Yes");
    assert_eq!((command.data_bytes, is_final(&command)), (1024, true));
    assert!(unsolicited.is_empty());
}

#[test]
fn ffp_16_2_3_and_8_3_unsolicited_data_without_immediate() {
    let (command, unsolicited, _) = burst("No", "No");
    assert_eq!((command.data_bytes, is_final(&command)), (0, false));
    assert_eq!(shape(&unsolicited), segments(0, 4));
}

#[test]
fn ffp_16_2_4_and_8_1_unsolicited_up_to_the_first_burst_then_solicited() {
    let (command, unsolicited, solicited) = burst("No", "Yes");
    assert_eq!((command.data_bytes, is_final(&command)), (1024, false));
    assert_eq!(shape(&unsolicited), segments(1024, 3));
    assert_eq!(solicited[0].be32(40), 4096);
}

#[test]
fn ffp_11_2_1_the_last_of_an_unsolicited_sequence_is_final() {
    let (_, unsolicited, _) = burst("No", "No");
    let finals: Vec<bool> = unsolicited.iter().map(is_final).collect();
    assert_eq!(finals, [false, false, false, true]);
}

#[test]
fn ffp_11_2_2_the_last_of_a_solicited_sequence_is_final() {
    let (_, _, solicited) = burst("Yes", "No");
    let finals: Vec<bool> = solicited.iter().map(is_final).collect();
    // Two bursts of 8,192 bytes.
    let burst = [false, false, false, false, false, false, false, true];
    assert_eq!(finals, [burst, burst].concat());
}

#[test]
fn ffp_11_3_ffp_11_4_ffp_12_2_each_r2t_is_answered_from_data_sn_0_without_gaps() {
    let (_, _, solicited) = burst("Yes", "No");
    assert_eq!(shape(&solicited[..8]), segments(0, 8));
    assert_eq!(shape(&solicited[8..]), segments(8192, 8));
}

#[test]
fn ffp_16_3_1_the_f_bit_of_a_command_says_whether_unsolicited_data_follow() {
    for (initial_r2t, immediate, expected) in [
        ("Yes", "Yes", true),
        ("Yes", "No", true),
        ("No", "Yes", false),
        ("No", "No", false),
    ] {
        let (command, unsolicited, _) = burst(initial_r2t, immediate);
        assert_eq!(is_final(&command), expected, "{initial_r2t} {immediate}");
        assert_eq!(unsolicited.is_empty(), expected);
    }
}

#[test]
fn ffp_9_1_ffp_12_1_the_tag_of_an_r2t_comes_back_with_its_data() {
    let mut rig = up(
        |_| {},
        |ours| offer(ours, &[("InitialR2T", "Yes"), ("ImmediateData", "No")]),
    );
    let key = write(&mut rig, 4096);
    rig.settle();
    good(&mut rig, key);
    let r2t = one(rig.heard(0, opcode::R2T));
    let out = one(rig.sent(0, opcode::DATA_OUT));
    assert_eq!(out.be32(20), r2t.be32(20), "Target Transfer Tag");
    assert_eq!(out.header[8..16], r2t.header[8..16], "LUN");
    assert_eq!(itt(&out), itt(&r2t));
    assert_eq!(out.data, pattern(512));
    assert!(is_final(&out));
    innocent(&rig);
}

#[test]
fn ffp_10_1_status_in_the_last_data_in() {
    let mut rig = plain();
    let key = read(&mut rig, 4096);
    rig.settle();
    good(&mut rig, key);
    let data = rig.heard(0, opcode::DATA_IN);
    assert_eq!(data.last().unwrap().header[1] & 0x81, 0x81, "F and S");
    assert!(rig.heard(0, opcode::SCSI_RESPONSE).is_empty());
    innocent(&rig);
}

#[test]
fn ffp_11_1_1_data_out_within_the_targets_segments() {
    let mut rig = up(
        |target| target.keys.max_recv_data_segment_bytes = 512,
        |_| {},
    );
    let key = write(&mut rig, 8192);
    rig.settle();
    good(&mut rig, key);
    let outs = rig.sent(0, opcode::DATA_OUT);
    assert!(!outs.is_empty() && outs.iter().all(|out| out.data_bytes <= 512));
    assert!(one(rig.sent(0, opcode::SCSI_COMMAND)).data_bytes <= 512);
    innocent(&rig);
}

#[test]
fn ffp_11_1_2_an_empty_data_in_is_accepted() {
    let mut rig = up(|target| target.quirks.empty_data_in = true, |_| {});
    let key = read(&mut rig, 4096);
    rig.settle();
    assert_eq!(rig.heard(0, opcode::DATA_IN)[0].data_bytes, 0);
    good(&mut rig, key);
    innocent(&rig);
}

#[test]
fn ffp_12_3_r2ts_out_of_order_are_answered_as_they_ask() {
    let mut rig = up(
        |target| target.shuffle_r2t = true,
        |ours| {
            offer(
                ours,
                &[
                    ("DataSequenceInOrder", "No"),
                    ("MaxOutstandingR2T", "4"),
                    ("MaxBurstLength", "4096"),
                    ("FirstBurstLength", "4096"),
                    ("InitialR2T", "Yes"),
                    ("ImmediateData", "No"),
                ],
            );
        },
    );
    let key = write(&mut rig, 16_384);
    rig.settle();
    good(&mut rig, key);
    let offsets = |records: Vec<WireRecord>| -> Vec<u32> {
        records.iter().map(|record| record.be32(40)).collect()
    };
    let asked = offsets(rig.heard(0, opcode::R2T));
    assert!(!asked.is_sorted(), "{asked:?}");
    assert_eq!(offsets(rig.sent(0, opcode::DATA_OUT)), asked);
    innocent(&rig);
}

#[test]
fn ffp_12_4_r2ts_of_parallel_commands() {
    let mut rig = up(
        |_| {},
        |ours| offer(ours, &[("InitialR2T", "Yes"), ("ImmediateData", "No")]),
    );
    rig.target.hold_r2ts(rig.now, true);
    let keys = [write(&mut rig, 4096), write(&mut rig, 8192)];
    rig.settle();
    rig.target.hold_r2ts(rig.now, false);
    rig.settle();
    let r2ts = rig.heard(0, opcode::R2T);
    let outs = rig.sent(0, opcode::DATA_OUT);
    assert_eq!((r2ts.len(), outs.len()), (2, 2));
    for r2t in &r2ts {
        let of = |out: &&WireRecord| out.be32(20) == r2t.be32(20);
        let out = outs.iter().find(of).expect("its data");
        assert_eq!((itt(out), out.data_bytes as u32), (itt(r2t), r2t.be32(44)));
    }
    for key in keys {
        answer(&mut rig, key);
    }
    innocent(&rig);
}

#[test]
fn ffp_16_1_1_and_16_6_a_read_command() {
    let mut rig = plain();
    let key = read(&mut rig, 4096);
    rig.settle();
    good(&mut rig, key);
    let command = one(rig.sent(0, opcode::SCSI_COMMAND));
    assert_eq!(command.header[..5], [0x01, 0xc1, 0, 0, 0], "F, R, simple");
    assert_eq!((command.data_bytes, command.be32(20)), (0, 4096));
    assert_eq!(command.header[8..16], [0; 8], "LUN");
    let cdb = [0x28, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(command.header[32..], cdb);
    innocent(&rig);
}

#[test]
fn ffp_16_1_2_a_write_command_with_immediate_data() {
    let mut rig = plain();
    let key = write(&mut rig, 4096);
    rig.settle();
    good(&mut rig, key);
    let command = one(rig.sent(0, opcode::SCSI_COMMAND));
    assert_eq!(command.header[..2], [0x01, 0xa1], "F, W, simple");
    assert_eq!((command.data_bytes, command.be32(20)), (4096, 4096));
    assert_eq!(command.data, pattern(512));
    innocent(&rig);
}
