//! Everything that can happen to three paths, again and again, under a load that notices every lost
//! or stale block ([`interop::witness`]).
//!
//! Each thing once as a test, which takes about a minute; `cargo xtask lio-load --minutes 10` goes on
//! for ten. It prints how long readers and writers stood still.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use initiator::{Initiator, Lun, PortalSpec, TargetSpec};
use interop::cut::Cut;
use interop::data::sha256;
use interop::iscsi::{INITIATOR, iscsi};
use interop::lio::{DEMO, Lio, PORTALS, isolated};
use interop::sandbox::{Sandbox, extra};
use interop::wait::Deadline;
use interop::witness::{Stall, Witness};

use crate::load::urls;

/// The disk that can be resized, in its size at the beginning.
const UNIT: u16 = 3;
const BYTES: u64 = 64 << 20;
/// A dead connection is noticed after both together.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(1));
const CALM: Duration = Duration::from_secs(1);
/// Longer than it takes to notice a black hole, log in through another portal and fence.
const SILENCE: Duration = Duration::from_secs(5);

struct Storm<'a> {
    sandbox: &'a Sandbox,
    lio: &'a Lio,
    load: Witness,
    rounds: u64,
}

/// What happens, and its name in the table.
type Fault = (&'static str, fn(&Storm<'_>) -> Result<()>);

const FAULTS: [Fault; 8] = [
    ("connections of one portal are reset", reset),
    ("packets of one portal vanish", black_hole),
    ("the link of one portal is down", link_down),
    ("portal group 2 is disabled", other_group_disabled),
    ("portal group 1 is disabled", own_group_disabled),
    ("group 1 goes to standby", standby),
    ("another host resets the unit", unit_reset),
    ("the disk grows", grown),
];

#[test]
#[ignore = "needs root and a virtual machine; cargo xtask test runs it"]
fn nothing_is_lost_whatever_happens() {
    isolated(|sandbox, lio| {
        // Otherwise it is what writers wait for most.
        lio.exec(
            sandbox,
            "for g in 1 2; do printf 0 >$iscsi/$iqn:demo/tpgt_$g/param/DefaultTime2Wait; done",
        )?;
        let end = Deadline::after(extra());
        let (interval, timeout) = KEEPALIVE;
        let initiator = Initiator::builder(INITIATOR.parse()?)
            .keepalive(interval, timeout)
            .build()?;
        let load = Witness::start(&initiator, target()?, Lun::from_number(UNIT), BYTES)?;
        let mut storm = Storm {
            sandbox,
            lio,
            load,
            rounds: 0,
        };
        let mut table = FAULTS.map(|(name, _)| (name, Stall::default(), Stall::default()));
        // Each happens once at least, however slow the machine is.
        while storm.rounds == 0 || !end.passed() {
            for ((name, fault), row) in FAULTS.iter().zip(&mut table) {
                let (reads, writes) = storm.one(*fault).context(*name)?;
                (row.1, row.2) = (row.1.worse(reads), row.2.worse(writes));
            }
            storm.rounds += 1;
        }
        show(&table, storm.rounds);
        storm.finish()
    });
}

fn target() -> Result<TargetSpec> {
    let portals = PORTALS.iter().zip([1, 1, 2]).map(|(portal, group)| {
        anyhow::Ok(PortalSpec {
            portal: portal.parse()?,
            group: Some(initiator::PortalGroupTag(group)),
        })
    });
    Ok(TargetSpec {
        name: DEMO.parse()?,
        portals: portals.collect::<Result<_>>()?,
        all_portals: false,
    })
}

impl Storm<'_> {
    /// Lets one thing happen and everything come back; how long readers and writers stood still.
    fn one(&self, fault: fn(&Self) -> Result<()>) -> Result<(Stall, Stall)> {
        self.load.run_for(CALM)?;
        let _ = self.load.stalls();
        fault(self)?;
        self.load
            .until_paths("all paths to be back", |up| up == PORTALS.len())?;
        self.load.until_it_goes_on()?;
        Ok(self.load.stalls())
    }

    /// The guest's file, not what is read through the initiator, is compared with what was written.
    fn finish(self) -> Result<()> {
        let (sandbox, lio) = (self.sandbox, self.lio);
        let done = self.load.finish()?;
        let expected = sandbox.path("expected");
        done.image(&expected)?;
        let sum = format!("sync; head -c {BYTES} /luns/grow3 | sha256sum");
        let found = lio.exec(sandbox, &sum)?;
        let expected = sha256(sandbox, &expected)?;
        ensure!(
            found.split_whitespace().next() == Some(expected.as_str()),
            "the disk holds something else than was acknowledged"
        );
        Ok(())
    }

    fn group_one(&self, state: &str) -> Result<()> {
        let file = "$core/iblock_3/grow3/alua/ao/alua_access_state";
        self.lio
            .exec(self.sandbox, &format!("echo {state} >{file}"))?;
        Ok(())
    }
}

fn reset(storm: &Storm<'_>) -> Result<()> {
    let cut = Cut::refuse(storm.sandbox, PORTALS[0])?;
    storm.load.run_for(CALM * 2)?;
    cut.restore(storm.sandbox)
}

fn black_hole(storm: &Storm<'_>) -> Result<()> {
    let cut = Cut::black_hole(storm.sandbox, PORTALS[0])?;
    storm.load.run_for(SILENCE)?;
    cut.restore(storm.sandbox)
}

fn link_down(storm: &Storm<'_>) -> Result<()> {
    storm.lio.link(storm.sandbox, 0, "down")?;
    storm.load.run_for(SILENCE)?;
    storm.lio.link(storm.sandbox, 0, "up")
}

fn other_group_disabled(storm: &Storm<'_>) -> Result<()> {
    disabled(storm, 2)
}

/// Group 2 is left for everything whose fate is certain.
fn own_group_disabled(storm: &Storm<'_>) -> Result<()> {
    disabled(storm, 1)
}

fn disabled(storm: &Storm<'_>, group: u16) -> Result<()> {
    storm.lio.enable(storm.sandbox, group, false)?;
    storm.load.run_for(CALM * 2)?;
    storm.lio.enable(storm.sandbox, group, true)
}

fn standby(storm: &Storm<'_>) -> Result<()> {
    storm.group_one("2")?;
    storm.load.run_for(CALM)?;
    storm.load.until_it_goes_on()?;
    storm.group_one("0")
}

fn unit_reset(storm: &Storm<'_>) -> Result<()> {
    let reset = format!("reset --lun {}", urls(&[2], UNIT.into(), " "));
    iscsi(storm.sandbox, &reset)?
        .words("--initiator-name iqn.2024-01.test:another-host --no-state")
        .run()?
        .success()?;
    Ok(())
}

fn grown(storm: &Storm<'_>) -> Result<()> {
    let bytes = BYTES + ((storm.rounds + 1) << 20);
    let grow = format!("truncate -s {bytes} /luns/grow3; losetup -c /dev/loop0");
    storm.lio.exec(storm.sandbox, &grow)?;
    Ok(())
}

fn show(table: &[(&str, Stall, Stall)], rounds: u64) {
    let ms = |time: Duration| format!("{} ms", time.as_millis());
    eprintln!("{rounds} rounds; the longest I/O, and the longest time without any end of one");
    eprintln!("| what | reader | no read | writer | no write | reads | writes |");
    eprintln!("| --- | --- | --- | --- | --- | --- | --- |");
    for (name, reads, writes) in table {
        eprintln!(
            "| {name} | {} | {} | {} | {} | {} | {} |",
            ms(reads.longest),
            ms(reads.silence),
            ms(writes.longest),
            ms(writes.silence),
            reads.count,
            writes.count
        );
    }
}
