//! SendTargets against real targets.

use std::net::TcpListener;

use anyhow::{Result, ensure};
use interop::cut::Cut;
use interop::iscsi::{exit, iscsi, url};
use interop::istgt::{self, Istgt};
use interop::sandbox::{Sandbox, isolated};
use interop::tgt::{self, Tgt};

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn tgtd_lists_the_portal_that_is_asked() {
    isolated(|sandbox| {
        let portals = ["127.0.0.1:3260", "127.0.0.2:3260", "[::1]:3260"];
        let mut tgt = Tgt::builder().disk(8 << 20);
        for portal in portals {
            tgt = tgt.portal(portal);
        }
        let _tgt = tgt.start(sandbox)?;
        // The port may be left out; tgtd knows no other portal than the one it is asked through.
        for (asked, listed) in ["127.0.0.1", "127.0.0.2:3260", "[::1]"]
            .into_iter()
            .zip(portals)
        {
            expect_in_both_forms(sandbox, asked, &[tgt::TARGET, listed])?;
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn istgt_lists_portal_groups() {
    isolated(|sandbox| {
        let _istgt = Istgt::builder()
            .portal_group(&["127.0.0.1:3260"])
            .portal_group(&["127.0.0.2:3260", "[::1]:3260"])
            .disk(8 << 20)
            .start(sandbox)?;
        let expected = [
            istgt::TARGET,
            "127.0.0.1:3260",
            "127.0.0.2:3260",
            "[::1]:3260",
        ];
        expect_in_both_forms(sandbox, "127.0.0.1", &expected)?;
        expect_in_both_forms(sandbox, "[::1]", &expected)
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn a_portal_nobody_listens_on_is_unreachable() {
    isolated(|sandbox| {
        iscsi(sandbox, "discover 127.0.0.3")?
            .run()?
            .expect(exit::UNREACHABLE)?
            .says(&["127.0.0.3:3260"])?;
        Ok(())
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn a_silent_portal_is_given_up_in_time() {
    isolated(|sandbox| {
        // Accepts connections (the kernel does) and never says a word.
        let _listener = TcpListener::bind("127.0.0.1:3260")?;
        iscsi(sandbox, "discover 127.0.0.1")?
            .limit(std::time::Duration::from_secs(60))
            .run()?
            .expect(exit::UNREACHABLE)?
            .says(&["127.0.0.1:3260"])?;
        Ok(())
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn all_paths_finds_the_portals_that_were_not_named() {
    isolated(|sandbox| {
        let _istgt = Istgt::builder()
            .portal_group(&["127.0.0.1:3260", "127.0.0.2:3260"])
            .portal_group(&["127.0.0.3:3260"])
            .disk(8 << 20)
            .start(sandbox)?;
        let info = format!("info {}", url("127.0.0.1", istgt::TARGET, 0));
        let alone = iscsi(sandbox, &info)?.run()?.success()?.text();
        ensure!(!alone.contains("127.0.0.2:3260"), "{alone}");
        let all = iscsi(sandbox, &info)?
            .arg("--all-paths")
            .run()?
            .success()?
            .text();
        for portal in ["127.0.0.1:3260", "127.0.0.2:3260", "127.0.0.3:3260"] {
            ensure!(all.contains(portal), "{portal} is missing in:\n{all}");
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn one_of_two_portals_down_is_no_failure() {
    isolated(|sandbox| {
        let _tgt = Tgt::builder()
            .portal("127.0.0.1:3260")
            .portal("127.0.0.2:3260")
            .disk(8 << 20)
            .start(sandbox)?;
        let _cut = Cut::refuse(sandbox, "127.0.0.1:3260")?;
        let urls = ["127.0.0.1", "127.0.0.2"].map(|p| format!("iscsi://{p}/{}/1", tgt::TARGET));
        let read = iscsi(
            sandbox,
            &format!("read {} --offset 0 --length 4k", urls.join(" ")),
        )?
        .run()?
        .success()?;
        ensure!(read.stdout.len() == 4096, "{} bytes", read.stdout.len());
        Ok(())
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn what_is_not_there_is_said_to_be_missing() {
    isolated(|sandbox| {
        let _tgt = Tgt::builder()
            .portal("127.0.0.1:3260")
            .disk(8 << 20)
            .start(sandbox)?;
        iscsi(
            sandbox,
            "read iscsi://127.0.0.1/iqn.2024-01.test:nobody/1 --offset 0 --length 512",
        )?
        .run()?
        .expect(exit::NO_SUCH)?
        .says(&["iqn.2024-01.test:nobody", "127.0.0.1:3260"])?;
        let lun = format!(
            "read iscsi://127.0.0.1/{}/77 --offset 0 --length 512",
            tgt::TARGET
        );
        iscsi(sandbox, &lun)?
            .run()?
            .expect(exit::NO_SUCH)?
            .says(&["77"])?;
        Ok(())
    });
}

#[test]
#[ignore = "needs root and real targets; cargo xtask test runs it"]
fn ls_shows_every_logical_unit() {
    isolated(|sandbox| {
        let _tgt = Tgt::builder()
            .portal("127.0.0.1:3260")
            .disk_with(8 << 20, "vendor_id=FIRST,product_id=ONE")
            .disk_with(16 << 20, "vendor_id=SECOND,product_id=TWO")
            .start(sandbox)?;
        let url = format!("iscsi://127.0.0.1/{}", tgt::TARGET);
        for form in ["", " --json"] {
            let text = iscsi(sandbox, &format!("ls {url}{form}"))?
                .run()?
                .success()?
                .text();
            for word in ["FIRST", "ONE", "SECOND", "TWO"] {
                ensure!(text.contains(word), "{word} is missing in:\n{text}");
            }
        }
        Ok(())
    });
}

/// Discovery at `portal` names all of `expected`, for people and for programs.
fn expect_in_both_forms(sandbox: &Sandbox, portal: &str, expected: &[&str]) -> Result<()> {
    let text = iscsi(sandbox, &format!("discover {portal}"))?
        .run()?
        .success()?
        .text();
    let found = iscsi(sandbox, &format!("discover {portal} --json"))?
        .run()?
        .success()?;
    let json = found.json()?.to_string();
    for word in expected {
        ensure!(text.contains(word), "{word} is missing in:\n{text}");
        ensure!(json.contains(word), "{word} is missing in {json}");
    }
    Ok(())
}
