//! Breaking and mending the way to one portal, with nftables.
//!
//! Portals have addresses of their own (127.0.0.1, 127.0.0.2, `::1`, or those of a virtual machine),
//! so a rule in the test's own namespace hits one portal and nothing else. Two ways of breaking:
//!
//! - [`Cut::refuse`]: every packet to the portal is answered with a TCP reset. Established
//!   connections die with ECONNRESET at the initiator's next packet and new ones are refused, while
//!   the target keeps its half of the connection: its session lives on, which is the hard case.
//! - [`Cut::black_hole`]: packets vanish in both directions. Only timeouts notice.
//!
//! This was preferred to a proxy because the resets are the kernel's, the target sees the
//! initiator's real address and portal, and nothing of ours is between the two.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::process::Tool;
use crate::sandbox::Sandbox;
use crate::wait;

/// A broken portal; it stays broken until [`Cut::restore`].
#[derive(Debug)]
#[must_use = "a portal that is never restored should be so on purpose"]
pub struct Cut {
    table: String,
}

impl Cut {
    /// Resets and refuses connections to `portal`.
    ///
    /// # Errors
    /// When nft cannot set the rules.
    pub fn refuse(sandbox: &Sandbox, portal: &str) -> Result<Self> {
        let to = "reject with tcp reset";
        // The reset itself comes from the portal's address and has to pass.
        let from = "tcp flags & rst == 0 drop";
        Self::apply(sandbox, portal, to, from)
    }

    /// Lets every packet to and from `portal` vanish.
    ///
    /// # Errors
    /// When nft cannot set the rules.
    pub fn black_hole(sandbox: &Sandbox, portal: &str) -> Result<Self> {
        Self::apply(sandbox, portal, "drop", "drop")
    }

    /// Mends the portal.
    ///
    /// # Errors
    /// When nft cannot remove the rules.
    pub fn restore(self, sandbox: &Sandbox) -> Result<()> {
        nft(sandbox, &format!("delete table inet {}", self.table))
    }

    fn apply(sandbox: &Sandbox, portal: &str, to: &str, from: &str) -> Result<Self> {
        let address: SocketAddr = portal
            .parse()
            .with_context(|| format!("{portal} is no address"))?;
        let family = if address.is_ipv6() { "ip6" } else { "ip" };
        let (ip, port) = (address.ip(), address.port());
        let hook = way_to(address);
        let table = format!("cut_{:x}", checksum(portal));
        let rules = format!(
            "table inet {table} {{ chain to {{ type filter hook {hook} priority 0; \
             {family} daddr {ip} tcp dport {port} {to}; }}; \
             chain from {{ type filter hook input priority 0; \
             {family} saddr {ip} tcp sport {port} {from}; }}; }}"
        );
        nft(sandbox, &rules)?;
        Ok(Self { table })
    }
}

/// Traffic counters of one portal, kept by the kernel.
#[derive(Debug)]
pub struct Meter {
    table: String,
}

impl Meter {
    /// Starts counting the bytes of packets to and from `portal`.
    ///
    /// # Errors
    /// When nft cannot set the rules.
    pub fn attach(sandbox: &Sandbox, portal: &str) -> Result<Self> {
        let address: SocketAddr = portal
            .parse()
            .with_context(|| format!("{portal} is no address"))?;
        let family = if address.is_ipv6() { "ip6" } else { "ip" };
        let (ip, port) = (address.ip(), address.port());
        let hook = way_to(address);
        let table = format!("meter_{:x}", checksum(portal));
        let rules = format!(
            "table inet {table} {{ counter seen {{ }}; \
             chain to {{ type filter hook {hook} priority 10; \
             {family} daddr {ip} tcp dport {port} counter name seen; }}; \
             chain from {{ type filter hook input priority 10; \
             {family} saddr {ip} tcp sport {port} counter name seen; }}; }}"
        );
        nft(sandbox, &rules)?;
        Ok(Self { table })
    }

    /// Stops counting.
    ///
    /// # Errors
    /// When nft cannot remove the rules.
    pub fn detach(self, sandbox: &Sandbox) -> Result<()> {
        nft(sandbox, &format!("delete table inet {}", self.table))
    }

    /// Bytes counted so far; packets that a cut swallowed are not among them.
    ///
    /// # Errors
    /// When nft does not answer.
    pub fn bytes(&self, sandbox: &Sandbox) -> Result<u64> {
        let words = format!("-j list counter inet {} seen", self.table);
        let json = Tool::new(sandbox, "nft")
            .words(&words)
            .run()?
            .success()?
            .json()?;
        let objects = json.get("nftables").and_then(serde_json::Value::as_array);
        objects
            .into_iter()
            .flatten()
            .find_map(|object| object.pointer("/counter/bytes")?.as_u64())
            .with_context(|| format!("no counter in {json}"))
    }
}

/// Bytes the loopback interface of this namespace has carried so far.
///
/// # Errors
/// When the kernel does not say.
pub fn loopback_bytes() -> Result<u64> {
    received_and_sent("lo")
        .next()
        .map(|(received, _)| received)
        .context("/proc/net/dev lists no loopback interface")
}

/// Waits until everything that was sent over TCP in this namespace has been acknowledged.
///
/// Before an idle connection is cut: a peer that still waits for an acknowledgement would send
/// again once the way is open, and learn from the answer that the connection is gone.
///
/// # Errors
/// When the kernel does not say, or traffic does not cease.
pub fn until_acknowledged() -> Result<()> {
    wait::until(
        "all data to be acknowledged",
        Duration::from_secs(5),
        || {
            // sl, local address, remote address, state, tx_queue:rx_queue, ...
            let table = std::fs::read_to_string("/proc/net/tcp")?
                + &std::fs::read_to_string("/proc/net/tcp6").unwrap_or_default();
            let mut queues = table
                .lines()
                .filter_map(|line| line.split_whitespace().nth(4));
            let waiting =
                queues.any(|queue| queue.contains(':') && !queue.starts_with("00000000:"));
            Ok((!waiting).then_some(()))
        },
    )
}

/// Bytes that went to and from virtual machines so far, over all of this namespace's taps.
#[must_use]
pub fn tap_bytes() -> u64 {
    received_and_sent("tap")
        .map(|(received, sent)| received + sent)
        .sum()
}

/// The same for the link of one portal.
#[must_use]
pub fn tap_bytes_of(portal: usize) -> u64 {
    received_and_sent(&format!("tap{portal}"))
        .map(|(received, sent)| received + sent)
        .sum()
}

/// The counters of the interfaces whose names start so.
fn received_and_sent(name: &str) -> impl Iterator<Item = (u64, u64)> {
    let table = std::fs::read_to_string("/proc/net/dev").unwrap_or_default();
    let counters = table.lines().filter_map(|line| {
        let (interface, numbers) = line.trim().split_once(':')?;
        let mut numbers = numbers.split_whitespace().map(str::parse);
        let received = numbers.next()?.ok()?;
        let sent = numbers.nth(7)?.ok()?;
        interface.starts_with(name).then_some((received, sent))
    });
    counters.collect::<Vec<_>>().into_iter()
}

/// Where packets to a portal pass: one on the loopback interface gets them as input; those to
/// another machine leave this one.
fn way_to(portal: SocketAddr) -> &'static str {
    if portal.ip().is_loopback() {
        "input"
    } else {
        "output"
    }
}

fn nft(sandbox: &Sandbox, rules: &str) -> Result<()> {
    Tool::new(sandbox, "nft").arg(rules).run()?.success()?;
    Ok(())
}

/// FNV-1a, for a table name that follows from the portal.
fn checksum(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
