//! The corners of the negotiation matrix, each with data to the disk and back.
//!
//! InitialR2T × ImmediateData × digests × (FirstBurstLength, MaxBurstLength,
//! MaxRecvDataSegmentLength). The lengths are set on both sides: ours bounds Data-In, the target's
//! bounds Data-Out.

use anyhow::ensure;
use interop::iscsi::{in_force, url};
use interop::istgt::{self, Istgt};
use interop::roundtrip::Roundtrip;
use interop::sandbox::isolated;
use interop::tgt::{self, Tgt};

/// FirstBurstLength, MaxBurstLength, MaxRecvDataSegmentLength.
type Lengths = (u32, u32, u32);

const LENGTHS: [Lengths; 4] = [
    (512, 512, 512),
    (1536, 4096, 512),
    (65_536, 65_536, 8192),
    (262_144, 1_048_576, 262_144),
];

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn tgtd_without_digests() {
    tgtd_matrix("None");
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn tgtd_with_digests() {
    tgtd_matrix("CRC32C");
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn istgt_without_digests() {
    istgt_matrix("None");
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn istgt_with_digests() {
    istgt_matrix("CRC32C");
}

fn tgtd_matrix(digest: &str) {
    isolated(|sandbox| {
        let tgt = Tgt::builder()
            .portal("127.0.0.1:3260")
            .disk(1 << 20)
            .start(sandbox)?;
        let lun = url("127.0.0.1", tgt::TARGET, 1);
        for (seed, corner) in (1..).zip(LENGTHS.into_iter().flat_map(|l| corners(digest, l))) {
            for (key, value) in &corner {
                tgt.set(sandbox, key, value)?;
            }
            let options = options(&corner);
            let in_force = in_force(sandbox, &lun, &options)?;
            for (key, value) in corner.iter().filter(|(key, _)| !key.starts_with("MaxRecv")) {
                let agreed = in_force.get(*key);
                ensure!(agreed == Some(value), "{options}: {key} became {agreed:?}");
            }
            Roundtrip::new(&lun)
                .options(&options)
                .seed(seed)
                .run(sandbox, tgt.image(1)?)?;
        }
        Ok(())
    });
}

fn istgt_matrix(digest: &str) {
    isolated(|sandbox| {
        // It sleeps for a second at every login, one after the other, so two triples must do.
        for lengths in [(1536, 4096, 512), (65_536, 65_536, 8192)] {
            // It refuses to start with `InitialR2T No`, but grants what we ask for.
            let istgt = Istgt::builder()
                .portal_group(&["127.0.0.1:3260"])
                .set("FirstBurstLength", &lengths.0.to_string())
                .set("MaxBurstLength", &lengths.1.to_string())
                .set("MaxRecvDataSegmentLength", &lengths.2.to_string())
                .disk(1 << 20)
                .start(sandbox)?;
            let lun = url("127.0.0.1", istgt::TARGET, 0);
            for (seed, corner) in (1..).zip(corners(digest, lengths)) {
                let options = options(&corner);
                Roundtrip::new(&lun)
                    .options(&options)
                    .seed(seed)
                    .run(sandbox, istgt.image(0)?)?;
            }
        }
        Ok(())
    });
}

/// Every combination of the two switches, with these lengths and digests.
fn corners(digest: &str, (first, max, segment): Lengths) -> Vec<Vec<(&'static str, String)>> {
    let switches = [("Yes", "Yes"), ("Yes", "No"), ("No", "Yes"), ("No", "No")];
    let corner = |(r2t, immediate): (&str, &str)| {
        vec![
            ("InitialR2T", r2t.to_owned()),
            ("ImmediateData", immediate.to_owned()),
            ("HeaderDigest", digest.to_owned()),
            ("DataDigest", digest.to_owned()),
            // Before FirstBurstLength, which must not exceed it.
            ("MaxBurstLength", max.to_string()),
            ("FirstBurstLength", first.to_string()),
            ("MaxRecvDataSegmentLength", segment.to_string()),
        ]
    };
    switches.map(corner).to_vec()
}

fn options(corner: &[(&'static str, String)]) -> String {
    let options = corner
        .iter()
        .map(|(key, value)| format!("-k {key}={value}"));
    options.collect::<Vec<_>>().join(" ")
}
