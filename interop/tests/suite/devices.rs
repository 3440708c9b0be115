//! Logical units that are not the usual disk with 512-byte blocks on LUN 1.

use anyhow::ensure;
use interop::iscsi::{exit, iscsi, url};
use interop::istgt::{self, Istgt};
use interop::roundtrip::Roundtrip;
use interop::sandbox::isolated;
use interop::tgt::{self, Disk, Tgt};

const MIB: u64 = 1 << 20;

/// From LUN 256 on the number no longer fits into one byte: flat space addressing (SAM-5 §4.7.7.5).
/// As a plain 16-bit number LUN 300 would mean LUN 44 of bus 1.
#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn luns_above_255_are_not_mixed_up() {
    isolated(|sandbox| {
        let disk = |lun| Disk {
            lun,
            bytes: MIB,
            block_bytes: 512,
            parameters: String::new(),
        };
        let tgt = Tgt::builder()
            .portal("127.0.0.1:3260")
            .disk_at(disk(44))
            .disk_at(disk(255))
            .disk_at(disk(256))
            .disk_at(disk(300))
            .start(sandbox)?;
        for lun in [300, 256, 255, 44] {
            let address = url("127.0.0.1", tgt::TARGET, lun);
            Roundtrip::new(&address)
                .seed(lun)
                .run(sandbox, tgt.image(lun)?)?;
        }
        let listed = format!("ls iscsi://127.0.0.1/{}", tgt::TARGET);
        let listed = iscsi(sandbox, &listed)?.run()?.success()?.text();
        for lun in ["  44 ", " 255 ", " 256 ", " 300 "] {
            ensure!(listed.contains(lun), "LUN {lun} is missing in:\n{listed}");
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn blocks_of_4096_bytes_are_merged_at_both_ends() {
    isolated(|sandbox| {
        let disk = Disk {
            lun: 1,
            bytes: MIB,
            block_bytes: 4096,
            parameters: String::new(),
        };
        let tgt = Tgt::builder()
            .portal("127.0.0.1:3260")
            .disk_at(disk)
            .start(sandbox)?;
        let lun = url("127.0.0.1", tgt::TARGET, 1);
        let mut range = Roundtrip::new(&lun);
        range.run(sandbox, tgt.image(1)?)?;
        // Inside one block.
        (range.offset, range.length, range.seed) = (4096 + 17, 5, 2);
        range.run(sandbox, tgt.image(1)?)?;
        // To the very end of the disk.
        (range.offset, range.length, range.seed) = (MIB - 4097, 4097, 3);
        range.run(sandbox, tgt.image(1)?)
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn a_read_only_disk_refuses_writes_with_the_status_of_a_device_error() {
    isolated(|sandbox| {
        let tgt = Tgt::builder()
            .portal("127.0.0.1:3260")
            .disk_with(MIB, "readonly=1")
            .start(sandbox)?;
        let input = sandbox.path("input");
        std::fs::write(&input, [0xaa; 4096])?;
        let write = format!("write {} --offset 0 -i", url("127.0.0.1", tgt::TARGET, 1));
        iscsi(sandbox, &write)?
            .arg(&input)
            .run()?
            .expect(exit::IO)?
            .says(&["read-only"])?;
        let untouched = std::fs::read(tgt.image(1)?)?.iter().all(|byte| *byte == 0);
        ensure!(untouched, "something was written");
        Ok(())
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn an_error_of_the_medium_is_told_with_its_sense_data() {
    isolated(|sandbox| {
        let tgt = Tgt::builder()
            .portal("127.0.0.1:3260")
            .disk(MIB)
            .start(sandbox)?;
        // The disk loses its second half under tgtd's hands.
        std::fs::File::options()
            .write(true)
            .open(tgt.image(1)?)?
            .set_len(MIB / 2)?;
        let lun = url("127.0.0.1", tgt::TARGET, 1);
        iscsi(sandbox, &format!("read {lun} --offset 768k --length 4k"))?
            .run()?
            .expect(exit::IO)?
            .says(&[
                "medium error",
                "unrecovered read error",
                "1536",
                "127.0.0.1:3260",
            ])?;
        // What is still there can be read.
        iscsi(sandbox, &format!("read {lun} --offset 0 --length 4k"))?
            .run()?
            .success()?;
        Ok(())
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn a_range_beyond_the_end_is_refused_before_anything_is_sent() {
    isolated(|sandbox| {
        let _tgt = Tgt::builder()
            .portal("127.0.0.1:3260")
            .disk(MIB)
            .start(sandbox)?;
        let lun = url("127.0.0.1", tgt::TARGET, 1);
        for (offset, length) in [("1M", "512"), ("1023k", "2k"), ("16383P", "1")] {
            let done = iscsi(
                sandbox,
                &format!("read {lun} --offset {offset} --length {length}"),
            )?
            .run()?;
            ensure!(
                ![Some(0), None].contains(&done.code()),
                "{offset}+{length}: {done:?}"
            );
            ensure!(
                done.stdout.is_empty(),
                "{offset}+{length}: something was read"
            );
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn one_logical_unit_over_ipv4_and_ipv6_at_once() {
    isolated(|sandbox| {
        let tgt = Tgt::builder()
            .portal("127.0.0.1:3260")
            .portal("[::1]:3260")
            .disk(MIB)
            .start(sandbox)?;
        let urls = ["127.0.0.1", "[::1]"]
            .map(|portal| url(portal, tgt::TARGET, 1))
            .join(" ");
        Roundtrip::new(&urls).run(sandbox, tgt.image(1)?)?;
        Roundtrip::new(&url("[::1]:3260", tgt::TARGET, 1))
            .seed(2)
            .run(sandbox, tgt.image(1)?)?;
        let info = iscsi(sandbox, &format!("info {urls}"))?
            .run()?
            .success()?
            .text();
        ensure!(
            info.contains("[::1]:3260") && info.contains("127.0.0.1:3260"),
            "{info}"
        );
        Ok(())
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn istgt_over_ipv6_with_two_portal_groups() {
    isolated(|sandbox| {
        let istgt = Istgt::builder()
            .portal_group(&["127.0.0.1:3260"])
            .portal_group(&["[::1]:3260"])
            .disk(MIB)
            .start(sandbox)?;
        let urls = ["127.0.0.1:3260,1", "[::1]:3260,2"].map(|p| url(p, istgt::TARGET, 0));
        Roundtrip::new(&urls.join(" ")).run(sandbox, istgt.image(0)?)
    });
}

/// Two targets of one name whose disks differ: paths to different disks must never become one
/// logical unit, or half of the data would land on each.
#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn paths_to_disks_of_different_identity_are_refused() {
    refused_together(
        (MIB, "scsi_id=first,scsi_sn=one"),
        (MIB, "scsi_id=second,scsi_sn=two"),
    );
}

/// The same identity, because tgtd numbers its disks from one on wherever it runs.
#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn paths_to_disks_of_different_size_are_refused() {
    refused_together((MIB, ""), (2 * MIB, ""));
}

fn refused_together(one: (u64, &str), two: (u64, &str)) {
    isolated(|sandbox| {
        let start = |control, portal, (bytes, parameters): (u64, &str)| {
            let builder = Tgt::builder().control(control).portal(portal);
            builder.disk_with(bytes, parameters).start(sandbox)
        };
        let _one = start(0, "127.0.0.1:3260", one)?;
        let _two = start(1, "127.0.0.2:3260", two)?;
        let urls = ["127.0.0.1", "127.0.0.2"].map(|portal| url(portal, tgt::TARGET, 1));
        let done = iscsi(sandbox, &format!("info {}", urls.join(" ")))?.run()?;
        ensure!(![Some(0), None].contains(&done.code()), "{done:?}");
        done.says(&["127.0.0.1:3260", "127.0.0.2:3260"])?;
        Ok(())
    });
}
