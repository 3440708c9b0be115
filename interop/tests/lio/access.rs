//! Target port groups: the administrator changes their states under a verified write load.
//!
//! Portal group 1 is target port group 1 (active/optimized, preferred), portal group 2 is target
//! port group 2 (active/non-optimized); LIO lets both sides change states.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use interop::cut::tap_bytes_of;
use interop::iscsi::INITIATOR;
use interop::lio::{Access, DEMO, DISK, PORTALS, isolated};
use interop::wait;
use iscsi::name::Isid;
use iscsi::net::{LunNexus, SessionHandle};
use iscsi::session::config::SessionConfig;
use scsi::vpd::identification::DeviceIdentification;
use scsi::{
    AccessState, Cdb, Command, DataPhase, IoBuf, Lun, Nexus, Outcome, Status, TargetPortGroups,
    TaskAttribute,
};

use crate::load::{LIMIT, Load};

/// What passes over the third portal's link without any I/O: path checks and keepalives.
const NO_IO: u64 = 1 << 20;

#[test]
#[ignore = "needs root and a virtual machine; cargo xtask test runs it"]
fn io_stays_in_the_optimized_group_and_moves_with_it() {
    isolated(|sandbox, lio| {
        let mut load = Load::with(sandbox, 20, &[0, 1, 2], "-v")?;
        let other = tap_bytes_of(2);
        ensure!(
            other < NO_IO,
            "{other} bytes over the group that is not optimized"
        );
        lio.access(sandbox, "ao", Access::Standby)?;
        load.says("target port group 1 is standby")?;
        // Two thirds may have passed before; what counts is that the rest goes there.
        wait::until("I/O over the group that is left", LIMIT, || {
            load.still_running()?;
            Ok((tap_bytes_of(2) > NO_IO).then_some(()))
        })?;
        lio.access(sandbox, "ao", Access::Optimized)?;
        let done = load.finish_verified(sandbox, lio)?;
        let words = "I/Os";
        ensure!(!done.stderr.contains("failed:"), "{words}: {}", done.stderr);
        Ok(())
    });
}

#[test]
#[ignore = "needs root and a virtual machine; cargo xtask test runs it"]
fn a_transition_is_waited_for() {
    isolated(|sandbox, lio| {
        let mut load = Load::with(sandbox, 21, &[0, 1, 2], "-v")?;
        lio.access(sandbox, "ao", Access::Transitioning)?;
        lio.access(sandbox, "ano", Access::Transitioning)?;
        load.says("target port group 1 is transitioning")?;
        lio.access(sandbox, "ano", Access::NonOptimized)?;
        load.gets_on()?;
        lio.access(sandbox, "ao", Access::Optimized)?;
        load.finish_verified(sandbox, lio)?;
        Ok(())
    });
}

/// No group is open any more, and nobody but the initiator opens one.
#[test]
#[ignore = "needs root and a virtual machine; cargo xtask test runs it"]
fn a_group_is_opened_when_io_has_nowhere_to_go() {
    isolated(|sandbox, lio| {
        let mut load = Load::with(sandbox, 22, &[0, 2], "-v")?;
        lio.access(sandbox, "ano", Access::Standby)?;
        lio.access(sandbox, "ao", Access::Standby)?;
        load.says("the target was asked to make target port group 1 active/optimized")?;
        load.finish_verified(sandbox, lio)?;
        let state = lio.exec(
            sandbox,
            "cat $core/fileio_1/thin1/alua/ao/alua_access_state",
        )?;
        ensure!(state.trim() == "0", "{state}");
        Ok(())
    });
}

/// LIO's own configuration is the witness for what we read from its report.
#[test]
#[ignore = "needs root and a virtual machine; cargo xtask test runs it"]
fn the_report_is_read_as_the_administrator_has_set_it() {
    isolated(|sandbox, lio| {
        lio.access(sandbox, "ano", Access::Standby)?;
        lio.exec(
            sandbox,
            "for g in ao ano; do echo 7 >$core/fileio_1/thin1/alua/$g/implicit_trans_secs; done",
        )?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            for (portal, group) in [(PORTALS[0], 1), (PORTALS[2], 2)] {
                let session = SessionHandle::login(SessionConfig::new(
                    INITIATOR.parse()?,
                    DEMO.parse()?,
                    portal.parse()?,
                    Isid::random(0x1234, group),
                ))
                .await?;
                let nexus = session.nexus(Lun::from_number(u16::try_from(DISK)?));
                let page = ask(&nexus, Cdb::inquiry_vpd(0x83, 1024), 1024).await?;
                let page = DeviceIdentification::parse(&page)?;
                ensure!(page.target_port_group() == Some(group), "{page:?}");
                let port = page.relative_target_port().context("no relative port")?;
                let short = ask(&nexus, Cdb::report_target_port_groups(false, 512), 512).await?;
                let long = ask(&nexus, Cdb::report_target_port_groups(true, 512), 512).await?;
                eprintln!("recorded through {portal}: short {short:02x?}, extended {long:02x?}");
                for bytes in [&short, &long] {
                    let report = TargetPortGroups::parse(bytes)?;
                    let state = |id| {
                        let group = report.group(id).context("a group is missing")?;
                        anyhow::Ok((group.state, group.preferred))
                    };
                    ensure!(
                        state(1)? == (AccessState::ActiveOptimized, true),
                        "{report:?}"
                    );
                    ensure!(state(2)? == (AccessState::Standby, false), "{report:?}");
                }
                // LIO's extended report lacks the last port.
                let report = TargetPortGroups::parse(&short)?;
                let of_port = report.group_of_port(port).map(|group| group.id);
                ensure!(of_port == Some(group), "port {port}: {report:?}");
                let time = TargetPortGroups::parse(&long)?.implicit_transition;
                ensure!(time == Some(Duration::from_secs(7)), "{time:?}");
                session.logout().await;
            }
            Ok(())
        })
    });
}

/// The answer to a command, past unit attentions.
async fn ask(nexus: &LunNexus, cdb: Cdb, room: usize) -> Result<Vec<u8>> {
    for _ in 0..8 {
        let completion = nexus
            .execute(Command {
                cdb: cdb.clone(),
                data: DataPhase::Read(IoBuf::zeroed(room)),
                attribute: TaskAttribute::Simple,
                priority: 0,
                timeout: Duration::from_secs(20),
                only_in: None,
            })
            .await;
        let answer = match completion.outcome {
            Outcome::Answered(answer) => answer,
            Outcome::Failed(error) => return Err(error.into()),
        };
        let DataPhase::Read(buffer) = completion.data else {
            anyhow::bail!("no buffer");
        };
        if answer.status == Status::GOOD {
            let bytes = buffer.as_slice();
            return Ok(bytes.get(..answer.transferred).unwrap_or(bytes).to_vec());
        }
        ensure!(answer.sense.get(2) == Some(&0x06), "{answer:?}");
    }
    anyhow::bail!("unit attentions without end")
}
