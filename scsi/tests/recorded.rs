//! Recorded answers of real targets against what they say, read by hand from the standards.

#![allow(clippy::expect_used, reason = "a test may fail loudly")]

mod support;

use scsi::capacity::Capacity;
use scsi::inquiry::{DeviceType, Inquiry, PeripheralQualifier, Tpgs};
use scsi::vpd::identification::{Association, DeviceIdentification};
use scsi::vpd::limits::BlockLimits;
use scsi::vpd::{SupportedPages, UnitSerialNumber};
use scsi::{AdditionalSense, Lba, Lun, LunList, ModeParameters, SenseData, SenseKey};

fn load(target: &str, name: &str) -> Vec<u8> {
    support::bytes(&support::folder(target).join(name).with_extension("hex"))
}

#[test]
fn inquiry() {
    let tgtd = Inquiry::parse(&load("tgtd", "inquiry")).unwrap();
    assert_eq!(
        (&*tgtd.vendor, &*tgtd.product, &*tgtd.revision),
        ("RUSTTEST", "VIRTUAL-DISK", "0001")
    );
    assert_eq!(tgtd.device_type, DeviceType::DISK);
    assert!(tgtd.is_present() && tgtd.command_queuing && tgtd.hierarchical);
    assert_eq!(tgtd.tpgs, Tpgs::None);
    // SBC-3, iSCSI, SPC-3.
    assert_eq!(tgtd.version_descriptors, [0x04c0, 0x0960, 0x0300]);
    let istgt = Inquiry::parse(&load("istgt", "inquiry")).unwrap();
    assert_eq!(
        (&*istgt.vendor, &*istgt.product, &*istgt.revision),
        ("RUST", "Recorded Disk", "0001")
    );
    assert!(istgt.multi_port);
    let controller = Inquiry::parse(&load("tgtd", "controller_inquiry")).unwrap();
    assert_eq!(controller.device_type, DeviceType::ARRAY_CONTROLLER);
}

/// Group 1 active/optimized and preferred with port 1, group 2 brought to standby by the
/// administrator with port 2; the implicit transition time was set to 7 s.
#[test]
fn target_port_groups() {
    use scsi::alua::StateChange;
    use scsi::{AccessState, TargetPortGroups};
    let short = TargetPortGroups::parse(&load("lio", "report_target_port_groups")).unwrap();
    let extended = load("lio", "report_target_port_groups_extended");
    let extended = TargetPortGroups::parse(&extended).unwrap();
    assert_eq!(short.implicit_transition, None);
    let seven = std::time::Duration::from_secs(7);
    assert_eq!(extended.implicit_transition, Some(seven));
    for report in [&short, &extended] {
        assert_eq!(report.groups.len(), 2);
        let first = report.group(1).expect("group 1");
        assert_eq!(
            (first.state, first.preferred),
            (AccessState::ActiveOptimized, true)
        );
        assert_eq!(first.ports, [1]);
        // All states but logical block dependent.
        assert_eq!(first.supported.0, 0xcf);
        let second = report.group(2).expect("group 2");
        assert_eq!(
            (second.state, second.preferred),
            (AccessState::Standby, false)
        );
        assert_eq!(second.change, StateChange::Implicit);
    }
    assert_eq!(short.group_of_port(2).map(|group| group.id), Some(2));
    // LIO's length leaves out the extended header, so the last port is missing.
    assert_eq!(extended.group_of_port(2), None);
}

#[test]
fn absent_logical_units() {
    for target in ["tgtd", "istgt"] {
        let inquiry = Inquiry::parse(&load(target, "no_such_lun_inquiry")).unwrap();
        assert_eq!(inquiry.qualifier, PeripheralQualifier::NotCapable);
        assert!(!inquiry.is_present());
    }
}

#[test]
fn identification() {
    let tgtd = DeviceIdentification::parse(&load("tgtd", "vpd_83")).unwrap();
    let of = |identification: &DeviceIdentification, association| -> Vec<String> {
        identification
            .of(association)
            .map(ToString::to_string)
            .collect()
    };
    assert_eq!(
        of(&tgtd, Association::LogicalUnit),
        [
            "t10.IET:00010001",
            "naa.3000000100000001",
            "naa.60000000000000000e00000000010001"
        ]
    );
    let istgt = DeviceIdentification::parse(&load("istgt", "vpd_83")).unwrap();
    assert_eq!(
        of(&istgt, Association::LogicalUnit),
        ["naa.30000000564f43d3", "t10.RUST:Recorded Disk   SN0001"]
    );
    assert_eq!(
        of(&istgt, Association::TargetPort),
        [
            "iqn.2024-01.test:disk1,t,0x0001",
            "relative target port 1",
            "target port group 1",
            "logical unit group 1"
        ]
    );
    assert_eq!(
        of(&istgt, Association::TargetDevice),
        ["iqn.2024-01.test:disk1"]
    );
    assert_eq!(istgt.target_port_group(), Some(1));
}

#[test]
fn pages_and_limits() {
    let pages = SupportedPages::parse(&load("tgtd", "vpd_00")).unwrap();
    assert_eq!(pages.as_slice(), [0x00, 0x80, 0x83, 0xb0, 0xb1, 0xb2]);
    let serial = UnitSerialNumber::parse(&load("tgtd", "vpd_80")).unwrap();
    assert_eq!(serial.as_str(), "beaf11");
    let limits = BlockLimits::parse(&load("istgt", "vpd_b0")).unwrap();
    assert_eq!(limits.optimal_transfer, Some(2048));
    assert_eq!(limits.max_transfer, None);
}

#[test]
fn capacity() {
    for target in ["tgtd", "istgt"] {
        let short = Capacity::parse_10(&load(target, "read_capacity_10"))
            .unwrap()
            .unwrap();
        let long = Capacity::parse_16(&load(target, "read_capacity_16")).unwrap();
        assert_eq!(
            (short.bytes(), long.bytes()),
            (Some(64 << 20), Some(64 << 20))
        );
        assert_eq!(long.last_lba, Lba(0x1_ffff));
    }
    let tgtd = Capacity::parse_16(&load("tgtd", "read_capacity_16")).unwrap();
    assert!(tgtd.provisioning_managed && tgtd.unmapped_reads_zero);
    assert_eq!(tgtd.physical_block_bytes(), Some(4096));
    let istgt = Capacity::parse_16(&load("istgt", "read_capacity_16")).unwrap();
    assert!(!istgt.provisioning_managed);
}

#[test]
fn luns() {
    let tgtd = LunList::parse(&load("tgtd", "report_luns")).unwrap();
    assert_eq!(tgtd.luns, [Lun::from_number(0), Lun::from_number(1)]);
    let istgt = LunList::parse(&load("istgt", "report_luns")).unwrap();
    assert_eq!(istgt.luns, [Lun::ZERO]);
    assert!(istgt.is_whole(256));
}

#[test]
fn mode_parameters() {
    let six = |target, name| ModeParameters::parse_6(&load(target, name)).unwrap();
    let ten = |target, name| ModeParameters::parse_10(&load(target, name)).unwrap();
    let codes = |mode: &ModeParameters| -> Vec<(u8, u8)> {
        mode.pages
            .iter()
            .map(|page| (page.code, page.subpage))
            .collect()
    };
    for target in ["tgtd", "istgt"] {
        for mode in [
            six(target, "mode_sense_6_caching"),
            six(target, "mode_sense_6_all"),
            ten(target, "mode_sense_10_caching"),
            ten(target, "mode_sense_10_all"),
        ] {
            let caching = mode.caching().expect("a caching page");
            assert!(caching.write_cache && !caching.read_cache_disabled);
            assert_eq!(mode.dpo_fua(), target == "tgtd");
            assert!(!mode.write_protected());
        }
    }
    // tgtd begins with an empty page 0.
    let tgtd = [(0, 0), (2, 0), (8, 0), (0x0a, 0), (0x0a, 1), (0x1c, 0)];
    assert_eq!(codes(&six("tgtd", "mode_sense_6_all")), tgtd);
    assert_eq!(codes(&ten("tgtd", "mode_sense_10_all")), tgtd);
    let istgt = [1, 2, 7, 8, 0x0a, 0x10, 0x1a, 0x1c].map(|code| (code, 0));
    assert_eq!(codes(&six("istgt", "mode_sense_6_all")), istgt);
    assert_eq!(codes(&ten("istgt", "mode_sense_10_all")), istgt);
    assert!(six("tgtd", "mode_sense_6_read_only").write_protected());
    // Descriptors that nobody asked for are skipped, not read as pages.
    let unasked = ten("istgt", "mode_sense_10_caching");
    assert_eq!(unasked.block_descriptors.len(), 16);
    assert_eq!(codes(&unasked), [(8, 0)]);
}

#[test]
fn sense() {
    let cases = [
        ("first_command", SenseKey::UNIT_ATTENTION, 0x29),
        ("invalid_opcode", SenseKey::ILLEGAL_REQUEST, 0x20),
        ("invalid_vpd_page", SenseKey::ILLEGAL_REQUEST, 0x24),
        ("lba_out_of_range", SenseKey::ILLEGAL_REQUEST, 0x21),
    ];
    for (name, key, asc) in cases {
        for prefix in ["sense_", "sense_descriptor_"] {
            let bytes = load("tgtd", &format!("{prefix}{name}"));
            let data = SenseData::parse(&bytes).unwrap();
            assert!(data.is(key, AdditionalSense::new(asc, 0)), "{data}");
        }
    }
    for target in ["tgtd", "istgt"] {
        let data = SenseData::parse(&load(target, "sense_no_such_lun")).unwrap();
        assert_eq!(
            data.to_string(),
            "ILLEGAL REQUEST (5h), LOGICAL UNIT NOT SUPPORTED (25h/00h)"
        );
    }
}
