//! Login redirection (RFC 7143 §6.3.1, status class 1) by tgtd.

use anyhow::{Result, ensure};
use interop::iscsi::{exit, iscsi, url};
use interop::roundtrip::Roundtrip;
use interop::sandbox::{Sandbox, isolated};
use interop::tgt::{self, Tgt};

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn a_temporary_redirect_is_followed() {
    isolated(|sandbox| follows(sandbox, "Temporary"));
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn a_permanent_redirect_is_followed() {
    isolated(|sandbox| follows(sandbox, "Permanent"));
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn a_circle_of_redirects_is_left() {
    isolated(|sandbox| {
        // tgtd does not redirect to the address that the initiator comes from, which is 127.0.0.1.
        let _here = redirecting(sandbox, 0, "127.0.0.2", "127.0.0.3", "Temporary")?;
        let _there = redirecting(sandbox, 1, "127.0.0.3", "127.0.0.2", "Temporary")?;
        let lun = url("127.0.0.2", tgt::TARGET, 1);
        iscsi(sandbox, &format!("read {lun} --offset 0 --length 512"))?
            .run()?
            .expect(exit::LOGIN)?
            .says(&["redirect"])?;
        Ok(())
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn a_redirect_to_nowhere_names_where_it_led() {
    isolated(|sandbox| {
        let _here = redirecting(sandbox, 0, "127.0.0.1", "127.0.0.9", "Temporary")?;
        let lun = url("127.0.0.1", tgt::TARGET, 1);
        let done = iscsi(sandbox, &format!("read {lun} --offset 0 --length 512"))?
            .run()?
            .expect(exit::UNREACHABLE)?;
        ensure!(done.stderr.contains("127.0.0.9:3260"), "{}", done.stderr);
        Ok(())
    });
}

/// Data asked of one tgtd arrives at the disk of another.
fn follows(sandbox: &Sandbox, reason: &str) -> Result<()> {
    let here = redirecting(sandbox, 0, "127.0.0.1", "127.0.0.2", reason)?;
    let there = Tgt::builder()
        .control(1)
        .portal("127.0.0.2:3260")
        .disk(1 << 20)
        .start(sandbox)?;
    Roundtrip::new(&url("127.0.0.1", tgt::TARGET, 1)).run(sandbox, there.image(1)?)?;
    let untouched = std::fs::read(here.image(1)?)?.iter().all(|byte| *byte == 0);
    ensure!(untouched, "the redirecting target got data");
    Ok(())
}

fn redirecting(sandbox: &Sandbox, control: u16, from: &str, to: &str, reason: &str) -> Result<Tgt> {
    Tgt::builder()
        .control(control)
        .portal(&format!("{from}:3260"))
        .disk(1 << 20)
        .set("RedirectAddress", to)
        .set("RedirectPort", "3260")
        .set("RedirectReason", reason)
        .start(sandbox)
}
