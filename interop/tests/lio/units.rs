//! What LIO shows: portals, logical units of several kinds, errors of the medium.

use anyhow::{Context as _, Result, ensure};
use interop::data::{Pattern, same};
use interop::iscsi::{exit, iscsi, url};
use interop::lio::{CHAP, DEMO, DIGESTS, PORTALS, isolated};
use interop::sandbox::Sandbox;
use serde_json::Value;

use crate::load::urls;

#[test]
#[ignore = "needs root and a virtual machine; cargo xtask test runs it"]
fn portals_and_logical_units_are_what_lio_serves() {
    isolated(|sandbox, lio| {
        discovery_lists_three_portals_in_two_groups(sandbox)?;
        every_logical_unit_is_listed(sandbox)?;
        blocks_of_4096_bytes_are_merged_at_both_ends(sandbox)?;
        // scsi_debug fails reads of the blocks 0x1234..0x123e from now on.
        let inject = "echo 2 >/sys/bus/pseudo/drivers/scsi_debug/opts";
        lio.exec(sandbox, inject)?;
        let read = format!("read {} --offset 2330k --length 4k", urls(&[0], 4, " "));
        iscsi(sandbox, &read)?.run()?.expect(exit::IO)?.says(&[
            "medium error",
            "unrecovered read error",
            PORTALS[0],
        ])?;
        Ok(())
    });
}

fn discovery_lists_three_portals_in_two_groups(sandbox: &Sandbox) -> Result<()> {
    for asked in PORTALS {
        let found = iscsi(sandbox, &format!("discover {asked} --json"))?;
        let found = found.run()?.success()?.json()?;
        let portals = |target: &str| {
            let targets = found.get("targets").and_then(Value::as_array);
            let of_target = |entry: &&Value| entry.get("name").is_some_and(|name| name == target);
            let entry = targets.into_iter().flatten().find(of_target);
            let portals = entry.and_then(|entry| entry.get("portals")?.as_array());
            let portals = portals.map(|list| list.iter().map(address_and_group).collect());
            portals.unwrap_or_else(Vec::new)
        };
        let all: Vec<_> = PORTALS.iter().zip([1, 1, 2]).collect();
        let listed = |count: usize| {
            let portals = all.iter().take(count);
            let portals = portals.map(|(portal, group)| ((**portal).to_owned(), *group));
            portals.collect::<Vec<_>>()
        };
        ensure!(portals(DEMO) == listed(3), "asked {asked}: {found}");
        ensure!(portals(CHAP) == listed(1), "asked {asked}: {found}");
        ensure!(portals(DIGESTS) == listed(2), "asked {asked}: {found}");
    }
    Ok(())
}

fn address_and_group(portal: &Value) -> (String, u64) {
    let address = portal.get("portal").and_then(Value::as_str);
    let group = portal.get("group").and_then(Value::as_u64);
    (address.unwrap_or_default().to_owned(), group.unwrap_or(0))
}

/// LUN, product, bytes, bytes of a block.
type Unit<Text> = (u64, Text, u64, u64);

const UNITS: [Unit<&str>; 5] = [
    (0, "RAMDISK-MCP", 64 << 20, 512),
    (1, "FILEIO", 128 << 20, 512),
    (2, "RAMDISK-MCP", 32 << 20, 4096),
    (3, "IBLOCK", 64 << 20, 512),
    (4, "scsi_debug", 32 << 20, 512),
];

fn every_logical_unit_is_listed(sandbox: &Sandbox) -> Result<()> {
    // Each portal group has the same logical units, with the same identities.
    let one = ls(sandbox, PORTALS[0])?;
    let two = ls(sandbox, PORTALS[2])?;
    ensure!(one == two, "{one:?}\n{two:?}");
    ensure!(one.len() == UNITS.len(), "{one:?}");
    for ((lun, product, bytes, block), (identity, listed)) in UNITS.into_iter().zip(one) {
        ensure!(
            listed == (lun, product.to_owned(), bytes, block),
            "{listed:?}"
        );
        let paths = urls(if lun == 4 { &[0] } else { &[0, 1, 2] }, lun, " ");
        let info = iscsi(sandbox, &format!("info {paths}"))?;
        let info = info.run()?.success()?.text();
        let blocks = format!("{} blocks of {block}", bytes / block);
        for word in [identity.as_str(), product, &blocks] {
            ensure!(info.contains(word), "{word} is missing in:\n{info}");
        }
    }
    Ok(())
}

/// Everything behind a portal, after its identity.
fn ls(sandbox: &Sandbox, portal: &str) -> Result<Vec<(String, Unit<String>)>> {
    let listed = iscsi(sandbox, &format!("ls iscsi://{portal}/{DEMO} --json"))?;
    let listed = listed.run()?.success()?.json()?;
    let units = listed.pointer("/0/luns").and_then(Value::as_array);
    let units = units.with_context(|| format!("no list in {listed}"))?;
    let unit = |unit: &Value| {
        let text = |name: &str| Some(unit.get(name)?.as_str()?.trim().to_owned());
        let number = |name: &str| unit.get(name)?.as_u64();
        let shape = (
            text("lun")?.parse().ok()?,
            text("product")?,
            number("bytes")?,
            number("block_bytes")?,
        );
        Some((text("identity")?, shape))
    };
    let units: Option<Vec<_>> = units.iter().map(unit).collect();
    units.with_context(|| format!("incomplete: {listed}"))
}

/// The guest cannot look into this disk, so what is compared is what another session reads.
fn blocks_of_4096_bytes_are_merged_at_both_ends(sandbox: &Sandbox) -> Result<()> {
    const LENGTH: usize = 64 << 10;
    let mut expected = Pattern::new(1).take(LENGTH);
    let (all, piece) = (sandbox.path("all"), sandbox.path("piece"));
    std::fs::write(&all, &expected)?;
    let write = |file: &std::path::Path, offset: usize| -> Result<()> {
        let write = format!("write {} --offset {offset} -i", urls(&[0, 1], 2, " "));
        iscsi(sandbox, &write)?.arg(file).run()?.success()?;
        Ok(())
    };
    write(&all, 0)?;
    for (seed, offset, length) in [(2, 4096 + 17, 5), (3, 20_001, 9000), (4, 4095, 4098)] {
        let bytes = Pattern::new(seed).take(length);
        std::fs::write(&piece, &bytes)?;
        write(&piece, offset)?;
        let range = expected.get_mut(offset..offset + length);
        range.context("beyond the end")?.copy_from_slice(&bytes);
    }
    let read = format!(
        "read {} --offset 0 --length {LENGTH}",
        url(PORTALS[2], DEMO, 2)
    );
    let found = iscsi(sandbox, &read)?.run()?.success()?.stdout;
    same("the merged blocks", &expected, &found)
}
