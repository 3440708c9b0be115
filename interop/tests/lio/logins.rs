//! Logins at LIO: CHAP, digests and the corners of negotiation.

use anyhow::{Context as _, Result, ensure};
use interop::data::{MIB, Pattern, same, sha256};
use interop::iscsi::{exit, in_force, iscsi, url};
use interop::lio::{CHAP, DEMO, DIGESTS, DISK, Lio, PORTALS, isolated};
use interop::process::Tool;
use interop::sandbox::Sandbox;

const ONE_WAY: &str = "iqn.2004-10.test:oneway";
const MUTUAL: &str = "iqn.2004-10.test:mutual";
const ALGORITHMS: [&str; 4] = ["md5", "sha1", "sha256", "sha3-256"];

#[test]
#[ignore = "needs root and a virtual machine; cargo xtask test runs it"]
fn chap_with_every_algorithm_and_every_mistake() {
    isolated(|sandbox, _lio| {
        for algorithm in ALGORITHMS {
            let as_initiator = |name| chap(sandbox, name, &format!("--chap-alg {algorithm} -vv"));
            // The target's answer names what it chose.
            let chosen = |number: u32| format!("CHAP_A={number}");
            let number = match algorithm {
                "md5" => 5,
                "sha1" => 6,
                "sha256" => 7,
                _ => 8,
            };
            let one_way = as_initiator(ONE_WAY)?.run()?.success()?;
            one_way.says(&[&chosen(number)])?;
            let mutual = as_initiator(MUTUAL)?;
            let mutual = target_is(mutual, "secret-of-target1").run()?.success()?;
            mutual.says(&[&chosen(number)])?;
            target_is(as_initiator(MUTUAL)?, "secret-of-another")
                .run()?
                .expect(exit::LOGIN)?
                .says(&["target", PORTALS[0]])?;
        }
        let wrong = chap(sandbox, ONE_WAY, "")?.env("ISCSI_CHAP_SECRET", "not-the-secret");
        let wrong = wrong.run()?.expect(exit::LOGIN)?;
        let wrong = wrong.says(&["authentication", PORTALS[0]])?;
        ensure!(
            !wrong.everything().contains("not-the-secret"),
            "the secret was printed"
        );
        // LIO says nothing then, it just closes the connection.
        without_credentials(sandbox, ONE_WAY)?
            .run()?
            .expect(exit::LOGIN)?
            .says(&["chap", PORTALS[0]])?;
        // A name in no list of the target.
        chap(sandbox, "iqn.2004-10.test:nobody", "")?
            .run()?
            .expect(exit::LOGIN)?;
        // A target that proves nothing where proof is demanded.
        target_is(chap(sandbox, ONE_WAY, "")?, "secret-of-target1")
            .run()?
            .expect(exit::LOGIN)?;
        Ok(())
    });
}

#[test]
#[ignore = "needs root and a virtual machine; cargo xtask test runs it"]
fn digests_and_the_corners_of_negotiation() {
    isolated(|sandbox, lio| {
        required_digests(sandbox)?;
        corners(sandbox, lio)
    });
}

/// The target `erl2` refuses who has no digests, and serves who has.
fn required_digests(sandbox: &Sandbox) -> Result<()> {
    let urls = [url(PORTALS[0], DIGESTS, 0), url(PORTALS[1], DIGESTS, 0)].join(" ");
    let digests = "-k HeaderDigest=CRC32C -k DataDigest=CRC32C";
    let keys = in_force(sandbox, &urls, digests)?;
    for key in ["HeaderDigest", "DataDigest"] {
        let agreed = keys.get(key).map(String::as_str);
        ensure!(agreed == Some("CRC32C"), "{key} became {agreed:?}");
    }
    let bytes = Pattern::new(9).take(1_000_003);
    let file = sandbox.path("digests");
    std::fs::write(&file, &bytes)?;
    let write = format!("write {urls} {digests} --offset 1001 -i");
    iscsi(sandbox, &write)?.arg(&file).run()?.success()?;
    let read = format!("read {urls} {digests} --offset 1001 --length 1000003");
    let found = iscsi(sandbox, &read)?.run()?.success()?.stdout;
    same("what was read back", &bytes, &found)?;
    let without = "-k HeaderDigest=None -k DataDigest=None";
    iscsi(
        sandbox,
        &format!("read {urls} {without} --offset 0 --length 512"),
    )?
    .run()?
    .expect(exit::LOGIN)?;
    Ok(())
}

/// InitialR2T, ImmediateData, FirstBurstLength, MaxBurstLength, MaxRecvDataSegmentLength.
const CORNERS: [[&str; 5]; 8] = [
    ["Yes", "Yes", "512", "512", "512"],
    ["Yes", "No", "512", "512", "512"],
    ["No", "Yes", "512", "512", "512"],
    ["No", "No", "1536", "4096", "512"],
    ["Yes", "Yes", "65536", "262144", "8192"],
    ["Yes", "No", "65536", "262144", "8192"],
    ["No", "Yes", "65536", "262144", "8192"],
    ["No", "No", "262144", "1048576", "262144"],
];
const KEYS: [&str; 5] = [
    "InitialR2T",
    "ImmediateData",
    "FirstBurstLength",
    "MaxBurstLength",
    "MaxRecvDataSegmentLength",
];

/// Both sides are set, so that each key has the value of the corner; the guest's file is the
/// witness of the writes.
fn corners(sandbox: &Sandbox, lio: &Lio) -> Result<()> {
    const OFFSET: usize = 7 * 512 + 100;
    let lun = url(PORTALS[0], DEMO, DISK);
    let (source, image) = (sandbox.path("source"), sandbox.path("image"));
    let mut disk = vec![0; usize::try_from(MIB)?];
    for (seed, corner) in (1..).zip(CORNERS) {
        let corner: Vec<_> = KEYS.into_iter().zip(corner).collect();
        lio.set(sandbox, &corner)?;
        let options = corner
            .iter()
            .map(|(key, value)| format!(" -k {key}={value}"));
        let options: String = options.collect();
        let keys = in_force(sandbox, &lun, &options)?;
        // Of the last key each side declares its own.
        for (key, value) in corner.into_iter().take(4) {
            let agreed = keys.get(key).map(String::as_str);
            ensure!(agreed == Some(value), "{options}: {key} became {agreed:?}");
        }
        let bytes = Pattern::new(seed).take(300_001);
        std::fs::write(&source, &bytes)?;
        let write = format!("write {lun}{options} --offset {OFFSET} -i");
        iscsi(sandbox, &write)?.arg(&source).run()?.success()?;
        let range = disk.get_mut(OFFSET..OFFSET + bytes.len());
        range.context("beyond the piece")?.copy_from_slice(&bytes);
        std::fs::write(&image, &disk)?;
        ensure!(
            lio.disk_sha256(sandbox, MIB)? == sha256(sandbox, &image)?,
            "{options}: the disk differs"
        );
        let read = format!(
            "read {lun}{options} --offset {OFFSET} --length {}",
            bytes.len()
        );
        let found = iscsi(sandbox, &read)?.run()?.success()?.stdout;
        same(&options, &bytes, &found)?;
    }
    Ok(())
}

fn without_credentials(sandbox: &Sandbox, initiator: &str) -> Result<Tool> {
    let read = format!("read {} --offset 0 --length 4k", url(PORTALS[0], CHAP, 0));
    Ok(iscsi(sandbox, &read)?.env("ISCSI_INITIATOR_NAME", initiator))
}

fn chap(sandbox: &Sandbox, initiator: &str, options: &str) -> Result<Tool> {
    Ok(without_credentials(sandbox, initiator)?
        .words(options)
        .env("ISCSI_CHAP_NAME", "user1")
        .env("ISCSI_CHAP_SECRET", "secret-of-user1"))
}

fn target_is(tool: Tool, secret: &str) -> Tool {
    tool.env("ISCSI_MUTUAL_NAME", "target1")
        .env("ISCSI_MUTUAL_SECRET", secret)
}
