//! CHAP in both directions, right and wrong, against real targets.

use anyhow::Result;
use interop::iscsi::{exit, iscsi, url};
use interop::istgt::{self, Istgt, IstgtBuilder};
use interop::process::Tool;
use interop::sandbox::{Sandbox, isolated};
use interop::tgt::{self, Tgt, TgtBuilder};

const NAME: &str = "iuser";
const SECRET: &str = "isecret123456";
const TARGET_NAME: &str = "tuser";
const TARGET_SECRET: &str = "tsecret654321";

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn tgtd_one_way() {
    isolated(|sandbox| {
        let _tgt = tgtd().chap(NAME, SECRET).start(sandbox)?;
        one_way(sandbox, &url("127.0.0.1", tgt::TARGET, 1))
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn istgt_one_way_with_a_challenge_of_1024_bytes() {
    isolated(|sandbox| {
        let _istgt = istgt().chap(NAME, SECRET).start(sandbox)?;
        one_way(sandbox, &url("127.0.0.1", istgt::TARGET, 0))
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn tgtd_mutual() {
    isolated(|sandbox| {
        let _tgt = tgtd()
            .chap(NAME, SECRET)
            .mutual_chap(TARGET_NAME, TARGET_SECRET)
            .start(sandbox)?;
        mutual(sandbox, &url("127.0.0.1", tgt::TARGET, 1))
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn istgt_mutual_is_mandatory_and_works() {
    isolated(|sandbox| {
        let outgoing = (TARGET_NAME, TARGET_SECRET);
        let _istgt = istgt()
            .mutual_chap((NAME, SECRET), outgoing)
            .start(sandbox)?;
        let lun = url("127.0.0.1", istgt::TARGET, 0);
        mutual(sandbox, &lun)?;
        // One way is not enough for a target that wants to prove itself.
        with(read(sandbox, &lun)?, SECRET)
            .run()?
            .expect(exit::LOGIN)?;
        Ok(())
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn a_target_without_chap_cannot_talk_us_out_of_it() {
    isolated(|sandbox| {
        let _tgt = tgtd().start(sandbox)?;
        let lun = url("127.0.0.1", tgt::TARGET, 1);
        with(read(sandbox, &lun)?, SECRET)
            .run()?
            .expect(exit::LOGIN)?
            .says(&["CHAP"])?;
        Ok(())
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn istgt_protects_discovery_too() {
    isolated(|sandbox| {
        let _istgt = istgt()
            .chap(NAME, SECRET)
            .protect_discovery()
            .start(sandbox)?;
        iscsi(sandbox, "discover 127.0.0.1")?
            .run()?
            .expect(exit::LOGIN)?;
        let found = with(iscsi(sandbox, "discover 127.0.0.1")?, SECRET)
            .run()?
            .success()?;
        anyhow::ensure!(found.text().contains(istgt::TARGET), "{}", found.text());
        Ok(())
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn credentials_may_come_from_options_and_files() {
    isolated(|sandbox| {
        let _tgt = tgtd()
            .chap(NAME, SECRET)
            .mutual_chap(TARGET_NAME, TARGET_SECRET)
            .start(sandbox)?;
        let (secret, target_secret) = (sandbox.path("secret"), sandbox.path("target-secret"));
        std::fs::write(&secret, format!("{SECRET}\n"))?;
        std::fs::write(&target_secret, format!("{TARGET_SECRET}\n"))?;
        read(sandbox, &url("127.0.0.1", tgt::TARGET, 1))?
            .words(&format!("--chap-name {NAME} --mutual-name {TARGET_NAME}"))
            .arg("--chap-secret-file")
            .arg(&secret)
            .arg("--mutual-secret-file")
            .arg(&target_secret)
            .run()?
            .success()?;
        Ok(())
    });
}

fn one_way(sandbox: &Sandbox, lun: &str) -> Result<()> {
    with(read(sandbox, lun)?, SECRET).run()?.success()?;
    let wrong = with(read(sandbox, lun)?, "not-the-secret")
        .run()?
        .expect(exit::LOGIN)?;
    let wrong = wrong.says(&["127.0.0.1:3260", "authentication"])?;
    anyhow::ensure!(
        !wrong.everything().contains("not-the-secret"),
        "the secret was printed"
    );
    // No credentials at all.
    read(sandbox, lun)?
        .run()?
        .expect(exit::LOGIN)?
        .says(&["127.0.0.1:3260", "chap"])?;
    // A name the target does not know.
    with(read(sandbox, lun)?, SECRET)
        .env("ISCSI_CHAP_NAME", "nobody")
        .run()?
        .expect(exit::LOGIN)?;
    Ok(())
}

fn mutual(sandbox: &Sandbox, lun: &str) -> Result<()> {
    with_mutual(read(sandbox, lun)?, TARGET_NAME, TARGET_SECRET)
        .run()?
        .success()?;
    // The target proves to be somebody else.
    with_mutual(read(sandbox, lun)?, TARGET_NAME, "another-secret-1")
        .run()?
        .expect(exit::LOGIN)?
        .says(&["target"])?;
    with_mutual(read(sandbox, lun)?, "somebody-else", TARGET_SECRET)
        .run()?
        .expect(exit::LOGIN)?;
    // One secret for both directions is refused before anything is sent (RFC 7143 §9.2.1).
    with_mutual(read(sandbox, lun)?, TARGET_NAME, SECRET)
        .run()
        .and_then(|done| {
            let code = done.code();
            anyhow::ensure!(
                code == Some(exit::LOGIN) || code == Some(exit::USAGE),
                "{done:?}"
            );
            Ok(())
        })
}

fn tgtd() -> TgtBuilder {
    Tgt::builder().portal("127.0.0.1:3260").disk(8 << 20)
}

fn istgt() -> IstgtBuilder {
    Istgt::builder()
        .portal_group(&["127.0.0.1:3260"])
        .disk(8 << 20)
}

fn read(sandbox: &Sandbox, lun: &str) -> Result<Tool> {
    iscsi(sandbox, &format!("read {lun} --offset 0 --length 4k"))
}

fn with(tool: Tool, secret: &str) -> Tool {
    tool.env("ISCSI_CHAP_NAME", NAME)
        .env("ISCSI_CHAP_SECRET", secret)
}

fn with_mutual(tool: Tool, name: &str, secret: &str) -> Tool {
    with(tool, SECRET)
        .env("ISCSI_MUTUAL_NAME", name)
        .env("ISCSI_MUTUAL_SECRET", secret)
}
