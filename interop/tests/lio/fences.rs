//! The second level of the fence, and what another host's reservation refuses.

use anyhow::ensure;
use interop::cut::Cut;
use interop::data::{MIB, pattern_file};
use interop::iscsi::{exit, iscsi};
use interop::lio::{Access, DISK, PORTALS, isolated};
use interop::sandbox::Sandbox;

use crate::load::{Load, urls};

/// The portal group of a path is away for good, so its session cannot be reinstated. What the
/// administrator has allowed instead lets the copy end.
#[test]
#[ignore = "needs root and a virtual machine; cargo xtask test runs it"]
fn a_reset_of_the_unit_fences_a_path_whose_group_is_gone() {
    isolated(|sandbox, lio| {
        // Both are active/optimized, so both carry writes.
        lio.access(sandbox, "ano", Access::Optimized)?;
        let mut load = Load::with(sandbox, 50, &[0, 2], "-v --fence lu-reset")?;
        let _cut = Cut::refuse(sandbox, PORTALS[2])?;
        load.says("path 1 is fenced")?;
        let said = load.finish_verified(sandbox, lio)?.stderr;
        let fenced = said.lines().find(|line| line.contains("path 1 is fenced"));
        ensure!(
            fenced.is_some_and(|line| !line.contains("session ended")),
            "{fenced:?}"
        );
        Ok(())
    });
}

#[test]
#[ignore = "needs root and a virtual machine; cargo xtask test runs it"]
fn a_reservation_of_another_host_refuses_writes() {
    isolated(|sandbox, lio| {
        let unit = urls(&[0, 1], DISK, " ");
        let holder = host(sandbox, "holder");
        for action in ["register", "reserve --type wero"] {
            iscsi(
                sandbox,
                &format!("pr {action} {unit} --pr-key 0x1234 {holder}"),
            )?
            .run()?
            .success()?;
        }
        let before = lio.disk_sha256(sandbox, MIB)?;
        let source = sandbox.path("source");
        pattern_file(&source, 51, MIB)?;
        let stranger = host(sandbox, "stranger");
        let write = iscsi(sandbox, &format!("write {unit} --offset 0 {stranger} -i"))?;
        write
            .arg(&source)
            .run()?
            .expect(exit::IO)?
            .says(&["reservation"])?;
        ensure!(lio.disk_sha256(sandbox, MIB)? == before, "it was written");
        // Whoever asks is told who it is.
        let shown = iscsi(sandbox, &format!("pr show {unit} {stranger}"))?;
        let shown = shown.run()?.success()?.text();
        for word in ["0x1234", "iqn.2024-01.test:holder"] {
            ensure!(shown.contains(word), "{word} is missing in:\n{shown}");
        }
        Ok(())
    });
}

/// Options that make `iscsi` another initiator.
fn host(sandbox: &Sandbox, name: &str) -> String {
    let state = sandbox.path(name);
    let state = state.display();
    format!("--initiator-name iqn.2024-01.test:{name} --state-dir {state}")
}
