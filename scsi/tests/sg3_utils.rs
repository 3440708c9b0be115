//! What sg3-utils reads out of the recorded answers, field by field against what we read.
//!
//! sg3-utils is an oracle of its own: none of the expectations here comes from this crate. The
//! recordings are in `tests/recorded`; a target that is recorded there is compared here without
//! further ado.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use scsi::inquiry::{Inquiry, PeripheralQualifier, Tpgs};
use scsi::vpd::characteristics::{BlockDeviceCharacteristics, Rotation};
use scsi::vpd::identification::{Association, DesignatorId, DeviceIdentification};
use scsi::vpd::limits::BlockLimits;
use scsi::vpd::provisioning::{LogicalBlockProvisioning, ProvisioningType, UnmappedRead};
use scsi::vpd::{SupportedPages, UnitSerialNumber};
use scsi::{AdditionalSense, SenseData};

/// Runs a tool of sg3-utils and returns what it prints, errors included.
fn run(tool: &str, arguments: &[&str]) -> String {
    let output = Command::new(tool)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{tool} of sg3-utils: {error}"));
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    text
}

/// All recordings, of any target, whose name the filter takes; never none.
fn recordings(filter: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = ["tgtd", "istgt"]
        .iter()
        .flat_map(|target| std::fs::read_dir(support::folder(target)).expect("recordings"))
        .map(|entry| entry.expect("recordings").path())
        .filter(|path| {
            path.file_stem()
                .is_some_and(|stem| filter(&stem.to_string_lossy()))
        })
        .collect();
    found.sort();
    assert!(!found.is_empty());
    found
}

fn vpd(page: &str) -> Vec<(PathBuf, String)> {
    recordings(|name| name == format!("vpd_{page}"))
        .into_iter()
        .map(|path| {
            let text = run(
                "sg_vpd",
                &[
                    &format!("--inhex={}", path.display()),
                    &format!("--page=0x{page}"),
                ],
            );
            (path, text)
        })
        .collect()
}

/// The number behind `NAME=`.
fn flag(text: &str, name: &str) -> u64 {
    text.split([' ', '\n', '[', ']', '('])
        .find_map(|token| token.strip_prefix(name)?.strip_prefix('='))
        .map(number)
        .unwrap_or_else(|| panic!("no {name} in\n{text}"))
}

/// What stands behind `name:` on its line.
fn line<'a>(text: &'a str, name: &str) -> &'a str {
    text.lines()
        .find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(':'))
        .unwrap_or_else(|| panic!("no `{name}` in\n{text}"))
        .trim()
}

/// The number behind `name:`; -1, as sg_vpd says for "unbounded", is the largest.
fn value(text: &str, name: &str) -> u64 {
    let word = line(text, name).split(' ').next().expect("a word");
    if word == "-1" {
        return u64::from(u32::MAX);
    }
    number(word)
}

fn number(word: &str) -> u64 {
    let parsed = match word.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => word.parse(),
    };
    parsed.unwrap_or_else(|_| panic!("`{word}` is no number"))
}

#[test]
#[ignore = "needs sg3-utils; cargo xtask test runs it"]
fn inquiry() {
    // sg_inq takes 7Fh with a version of 0 for a VPD page: that one answer it cannot judge.
    let files = recordings(|name| name.ends_with("inquiry"));
    let judged = files
        .iter()
        .filter(|path| !path.ends_with("istgt/no_such_lun_inquiry.hex"));
    for path in judged {
        let ours = Inquiry::parse(&support::bytes(path)).unwrap();
        let text = run("sg_inq", &[&format!("--inhex={}", path.display())]);
        let qualifier = match flag(&text, "PQual") {
            0 => PeripheralQualifier::Accessible,
            1 => PeripheralQualifier::NotAccessible,
            3 => PeripheralQualifier::NotCapable,
            other => panic!("qualifier {other}"),
        };
        let tpgs = match flag(&text, "TPGS") {
            0 => Tpgs::None,
            1 => Tpgs::Implicit,
            2 => Tpgs::Explicit,
            _ => Tpgs::Both,
        };
        assert_eq!((ours.qualifier, ours.tpgs), (qualifier, tpgs), "{text}");
        let fields = [
            (u64::from(ours.device_type.0), "PDT"),
            (u64::from(ours.removable), "RMB"),
            (u64::from(ours.version), "version"),
            (u64::from(ours.response_format), "Resp_data_format"),
            (u64::from(ours.normal_aca), "NormACA"),
            (u64::from(ours.hierarchical), "HiSUP"),
            (u64::from(ours.third_party_copy), "3PC"),
            (u64::from(ours.protect), "Protect"),
            (u64::from(ours.multi_port), "MultiP"),
            (u64::from(ours.command_queuing), "CmdQue"),
        ];
        for (ours, name) in fields {
            assert_eq!(ours, flag(&text, name), "{name} in\n{text}");
        }
        assert_eq!(ours.vendor, line(&text, "Vendor identification"));
        assert_eq!(ours.product, line(&text, "Product identification"));
        assert_eq!(ours.revision, line(&text, "Product revision level"));
    }
}

#[test]
#[ignore = "needs sg3-utils; cargo xtask test runs it"]
fn supported_pages_and_serial_number() {
    for (path, text) in vpd("00") {
        let ours = SupportedPages::parse(&support::bytes(&path)).unwrap();
        let theirs: Vec<u8> = text
            .lines()
            .filter_map(|line| line.rsplit_once('[')?.1.strip_suffix(']'))
            .map(|short| match short {
                "sv" => 0x00,
                "sn" => 0x80,
                "di" => 0x83,
                "mna" => 0x85,
                "ei" => 0x86,
                "mpp" => 0x87,
                "sp" => 0x88,
                "bl" => 0xb0,
                "bdc" => 0xb1,
                "lbpv" => 0xb2,
                other => panic!("page [{other}]"),
            })
            .collect();
        assert_eq!(ours.as_slice(), theirs, "{}", path.display());
    }
    for (path, text) in vpd("80") {
        let ours = UnitSerialNumber::parse(&support::bytes(&path)).unwrap();
        assert_eq!(ours.as_str(), line(&text, "Unit serial number"));
    }
}

/// Page 83h as sg_vpd prints it, reduced to association and value, in its order.
fn designators(text: &str) -> Vec<(Association, String)> {
    let mut association = None;
    let mut found = Vec::new();
    let mut lines = text.lines().map(str::trim);
    let mut vendor = String::new();
    while let Some(line) = lines.next() {
        match line {
            "Addressed logical unit:" => association = Some(Association::LogicalUnit),
            "Target port:" => association = Some(Association::TargetPort),
            "Target device that contains addressed lu:" => {
                association = Some(Association::TargetDevice);
            }
            _ => {}
        }
        let value = if let Some(id) = line.strip_prefix("vendor id:") {
            id.trim().clone_into(&mut vendor);
            continue;
        } else if let Some(id) = line.strip_prefix("vendor specific:") {
            format!("t10.{vendor}:{}", id.trim())
        } else if let Some(naa) = line.strip_prefix("0x") {
            format!("naa.{naa}")
        } else if line == "SCSI name string:" {
            lines.next().expect("a name").to_owned()
        } else if let Some(port) = line.strip_prefix("Relative target port: 0x") {
            format!("relative target port {}", number(&format!("0x{port}")))
        } else if let Some(group) = line.strip_prefix("Target port group: 0x") {
            format!("target port group {}", number(&format!("0x{group}")))
        } else {
            continue;
        };
        found.push((association.expect("an association"), value));
    }
    found
}

#[test]
#[ignore = "needs sg3-utils; cargo xtask test runs it"]
fn device_identification() {
    for (path, text) in vpd("83") {
        let ours: Vec<_> = DeviceIdentification::parse(&support::bytes(&path))
            .unwrap()
            .designators
            .iter()
            // sg_vpd refuses istgt's one, which is associated with a port.
            .filter(|designator| !matches!(designator.id, DesignatorId::LogicalUnitGroup(_)))
            .map(|designator| (designator.association, designator.to_string()))
            .collect();
        assert!(ours.len() >= 3);
        // sg_vpd groups by association, in this order.
        let mut ours = ours;
        ours.sort_by_key(|&(association, _)| association);
        assert_eq!(ours, designators(&text), "{text}");
    }
}

#[test]
#[ignore = "needs sg3-utils; cargo xtask test runs it"]
fn block_limits() {
    for (path, text) in vpd("b0") {
        let ours = BlockLimits::parse(&support::bytes(&path)).unwrap();
        let or_zero = |field: Option<u32>| u64::from(field.unwrap_or(0));
        let fields = [
            (
                u64::from(ours.write_same_non_zero),
                "Write same non-zero (WSNZ)",
            ),
            (
                u64::from(ours.max_compare_and_write.unwrap_or(0)),
                "Maximum compare and write length",
            ),
            (
                u64::from(ours.optimal_transfer_granularity.unwrap_or(0)),
                "Optimal transfer length granularity",
            ),
            (or_zero(ours.max_transfer), "Maximum transfer length"),
            (or_zero(ours.optimal_transfer), "Optimal transfer length"),
            (
                or_zero(ours.max_prefetch),
                "Maximum prefetch transfer length",
            ),
            (or_zero(ours.max_unmap_blocks), "Maximum unmap LBA count"),
            (
                or_zero(ours.max_unmap_descriptors),
                "Maximum unmap block descriptor count",
            ),
            (
                or_zero(ours.optimal_unmap_granularity),
                "Optimal unmap granularity",
            ),
            (
                ours.max_write_same.unwrap_or(0),
                "Maximum write same length",
            ),
            (
                or_zero(ours.max_atomic_transfer),
                "Maximum atomic transfer length",
            ),
            (or_zero(ours.atomic_alignment), "Atomic alignment"),
            (
                or_zero(ours.max_atomic_boundary),
                "Maximum atomic boundary size",
            ),
        ];
        for (ours, name) in fields {
            assert_eq!(ours, value(&text, name), "{name} in\n{text}");
        }
        assert_eq!(
            ours.unmap_granularity_alignment.is_some(),
            line(&text, "Unmap granularity alignment valid") == "true"
        );
    }
}

#[test]
#[ignore = "needs sg3-utils; cargo xtask test runs it"]
fn characteristics_and_provisioning() {
    for (path, text) in vpd("b1") {
        let ours = BlockDeviceCharacteristics::parse(&support::bytes(&path)).unwrap();
        let rotation = match ours.rotation {
            Rotation::NotReported => "Medium rotation rate is not reported".to_owned(),
            Rotation::SolidState => "Non-rotating medium".to_owned(),
            Rotation::Rpm(rpm) => format!("Nominal rotation rate: {rpm} rpm"),
            other @ (Rotation::Reserved(_) | _) => panic!("{other:?}"),
        };
        assert!(text.contains(&rotation), "{text}");
        let form = match ours.form_factor {
            0 => "Nominal form factor not reported",
            2 => "Nominal form factor: 3.5 inch",
            other => panic!("form factor {other}"),
        };
        assert!(text.contains(form), "{text}");
        assert_eq!(u64::from(ours.zoned), flag(&text, "ZONED"));
        assert_eq!(u64::from(ours.fua_behavior), flag(&text, "FUAB"));
        assert_eq!(u64::from(ours.verify_unmapped), flag(&text, "VBULS"));
    }
    for (path, text) in vpd("b2") {
        let ours = LogicalBlockProvisioning::parse(&support::bytes(&path)).unwrap();
        let zeros = u64::from(ours.unmapped_reads == UnmappedRead::Zeros);
        let thin = 2 * u64::from(ours.provisioning == ProvisioningType::Thin);
        let fields = [
            (u64::from(ours.unmap), "Unmap command supported (LBPU)"),
            (
                u64::from(ours.write_same_16),
                "Write same (16) with unmap bit supported (LBPWS)",
            ),
            (
                u64::from(ours.write_same_10),
                "Write same (10) with unmap bit supported (LBPWS10)",
            ),
            (zeros, "Logical block provisioning read zeros (LBPRZ)"),
            (u64::from(ours.anchor), "Anchored LBAs supported (ANC_SUP)"),
            (u64::from(ours.threshold_exponent), "Threshold exponent"),
            (thin, "Provisioning type"),
            (u64::from(ours.threshold_percentage), "Threshold percentage"),
        ];
        for (ours, name) in fields {
            assert_eq!(ours, value(&text, name), "{name} in\n{text}");
        }
    }
}

/// What sg_decode_sense says against what we say, as far as both say it.
fn compare_sense(bytes: &[u8], text: &str) {
    let ours = SenseData::parse(bytes).expect("sense data");
    assert_eq!(text.contains("Descriptor format"), bytes[0] & 0x7f >= 0x72);
    assert_eq!(text.contains("deferred"), ours.deferred, "{text}");
    let key = line(text.split("; ").nth(1).expect("a key"), "Sense key");
    assert_eq!(ours.key.name(), key.to_uppercase(), "{text}");
    let name = ours.code.name().expect("a known code");
    assert_eq!(
        name,
        line(text, "Additional sense").to_uppercase(),
        "{text}"
    );
    let information = text.lines().find_map(|line| {
        let line = line.trim();
        line.strip_prefix("Info fld=")
            .or_else(|| line.strip_prefix("Descriptor type: Information: "))
            .map(|rest| number(rest.split(' ').next().expect("a number")))
    });
    assert_eq!(ours.information, information, "{text}");
}

#[test]
#[ignore = "needs sg3-utils; cargo xtask test runs it"]
fn recorded_sense() {
    let is_sense = |name: &str| name.starts_with("sense_") || name.starts_with("request_sense");
    for path in recordings(is_sense) {
        let text = run("sg_decode_sense", &[&format!("--file={}", path.display())]);
        compare_sense(&support::bytes(Path::new(&path)), &text);
    }
}

/// Sense data no target at hand produces; each is also looked at for one more line.
#[test]
#[ignore = "needs sg3-utils; cargo xtask test runs it"]
fn made_up_sense() {
    let cases = [
        (
            "72 05 24 00 00 00 00 14 00 0a 80 00 00 00 00 01 00 00 00 02 02 06 00 00 cb 00 02 00",
            "Error in Command: byte 2 bit 3",
            "byte 2 bit 3 of the CDB",
        ),
        (
            "f1 00 63 00 00 10 20 0a 00 00 00 07 11 00 03 80 00 02",
            "Actual retry count: 0x0002",
            "2 retries",
        ),
        (
            "70 00 02 00 00 00 00 0a 00 00 00 00 04 04 00 80 80 00",
            "Progress indication: 50.0",
            "50 % done",
        ),
    ];
    for (hex, theirs, ours) in cases {
        let words: Vec<&str> = hex.split(' ').collect();
        let bytes: Vec<u8> = words
            .iter()
            .map(|word| u8::from_str_radix(word, 16).expect("hexadecimal"))
            .collect();
        let text = run("sg_decode_sense", &words);
        compare_sense(&bytes, &text);
        assert!(text.contains(theirs), "{text}");
        assert!(SenseData::parse(&bytes).unwrap().to_string().contains(ours));
    }
}

/// Every name we have is the one sg3-utils has. (Not the other way round: it spells out families
/// such as 5Dh, and knows printers.)
#[test]
#[ignore = "needs sg3-utils; cargo xtask test runs it"]
fn names_of_additional_sense_codes() {
    let mut compared = 0;
    for (asc, ascq) in (0..0x80_u8).flat_map(|asc| (0..0x80_u8).map(move |ascq| (asc, ascq))) {
        let Some(ours) = AdditionalSense::new(asc, ascq).name() else {
            continue;
        };
        let words = ["72", "05", &format!("{asc:02x}"), &format!("{ascq:02x}")];
        let text = run("sg_decode_sense", &[&words[..], &["0"; 4]].concat());
        assert_eq!(ours, line(&text, "Additional sense").to_uppercase());
        compared += 1;
    }
    assert!(compared > 500, "only {compared} names");
}
