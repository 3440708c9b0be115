//! From a seed to everything a run is made of.
//!
//! Swarm testing: a seed does not switch everything on a little, but a random subset of things on
//! fully, so that faults cannot hide each other.

use std::num::NonZeroU64;
use std::time::Duration;

use auth::{Chap, ChapCredentials, MutualCredentials, Secret};
use fastrand::Rng;
use iscsi::login::AuthPolicy;
use iscsi::session::{Backoff, Keepalive, Timeouts};
use mpio::{LoadBalancePolicy, MarginalPaths, NoPathRetry, PathSettings, Tuning};
use test_target::{Keys, Lun};

use crate::access;
use crate::deed::{self, Deeds};
use crate::facet::Facets;
use crate::fault::{self, Fault};
use crate::net::Link;
use crate::schedule;
use crate::workload::Workload;

/// The target's name.
pub const TARGET_NAME: &str = "iqn.2026-01.org.example:simulated";
/// The second initiator's name.
pub const STRANGER_NAME: &str = "iqn.2026-01.org.example:stranger";
/// The initiator's name.
pub const INITIATOR_NAME: &str = "iqn.2026-01.org.example:initiator";

/// What is broken on purpose, to prove that it would be noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// Nothing.
    None,
    /// Fences say that they stand and do nothing.
    LyingFence,
    /// One byte on the disk changes.
    FlippedByte,
    /// An acknowledged write disappears from the disk.
    LostWrite,
}

/// Everything a run is made of.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Where it comes from.
    pub seed: u64,
    /// The target.
    pub target: test_target::Config,
    /// What the sessions offer: keys and values.
    pub offer: Vec<(&'static str, String)>,
    /// How they authenticate.
    pub auth: AuthPolicy,
    /// Slots of a session.
    pub queue_depth: u16,
    /// Session timers.
    pub keepalive: Keepalive,
    /// Session timers.
    pub timeouts: Timeouts,
    /// Session timers.
    pub backoff: Backoff,
    /// Sequence numbers and tags start shortly before they wrap.
    pub near_wrap: bool,
    /// Bytes one command carries at most.
    pub max_transfer_bytes: usize,
    /// Staging memory of a connection in bytes.
    pub staging_bytes: usize,
    /// Payloads from this length on go past the staging memory.
    pub direct_bytes: usize,
    /// Multipath.
    pub mpio: mpio::Config,
    /// Each path's part in it.
    pub settings: Vec<PathSettings>,
    /// The ways to the portals, before any fault.
    pub links: Vec<Link>,
    /// What clients do.
    pub workload: Workload,
    /// Faults, and when, from the moment the unit stands.
    pub faults: Vec<(Duration, Fault)>,
    /// What is asked of the sessions besides I/O, and when.
    pub deeds: Deeds,
    /// Sessions of a second initiator.
    pub strangers: usize,
    /// How long clients work and faults happen.
    pub run_for: Duration,
    /// Broken on purpose.
    pub sabotage: Sabotage,
}

impl Scenario {
    /// The scenario of a seed.
    #[must_use]
    pub fn random(seed: u64) -> Self {
        let facets = Facets(seed);
        let paths = [1, 2, 2, 2, 3, 4][facets.of("paths").usize(..6)];
        let digests = facets.of("digests").bool();
        let near_wrap = facets.of("near wrap").bool();
        let (target_auth, auth) = authentication(&mut facets.of("authentication"));
        let recovery = Recovery::random(facets);
        let mut target = target(facets, paths, digests, near_wrap);
        recovery.allow(&mut target.keys);
        target.chap = target_auth;
        let links: Vec<Link> = (0..paths).map(|path| link(facets, path)).collect();
        let workload = workload(facets, &links, target.luns[0].block_bytes);
        let run_for = Duration::from_millis(facets.of("run for").u64(2_000..25_000));
        let faults = schedule::schedule(facets, paths, digests, target.luns[0].blocks, run_for);
        let strangers = usize::from(facets.of("second initiator").u8(..5) == 0);
        let mut this = Self {
            seed,
            offer: offer(facets, digests, recovery),
            auth,
            queue_depth: [1, 2, 4, 16, 64][facets.of("queue depth").usize(..5)],
            keepalive: keepalive(facets),
            timeouts: timeouts(facets),
            backoff: backoff(facets),
            near_wrap,
            max_transfer_bytes: [8 << 10, 16 << 10, 1 << 20][facets.of("max transfer").usize(..3)],
            staging_bytes: [4096, 16 << 10, 64 << 10][facets.of("staging").usize(..3)],
            direct_bytes: [512, 4096, 64 << 10][facets.of("direct").usize(..3)],
            mpio: multipath(
                facets,
                slowest(&links, &workload, target.luns[0].block_bytes),
            ),
            settings: (0..paths).map(|path| settings(facets, path)).collect(),
            target,
            links,
            workload,
            faults,
            deeds: deed::schedule(facets, paths, strangers, run_for),
            strangers,
            run_for,
            sabotage: Sabotage::None,
        };
        if facets.of("with ALUA").u8(..3) == 0 {
            access::add(&mut this, &mut facets.of("ALUA"));
        }
        this
    }

    /// A scenario with target port groups whose states change in the middle of I/O.
    #[must_use]
    pub fn asymmetric(seed: u64) -> Self {
        let mut this = Self::random(seed);
        if this.target.alua.is_none() {
            access::add(&mut this, &mut Facets(seed).of("ALUA"));
        }
        this
    }

    /// A scenario in which writes from the past are likely: two paths, a target that executes
    /// what lost connections left behind, connections that break.
    #[must_use]
    pub fn haunted(seed: u64) -> Self {
        let mut this = Self::random(seed);
        let facets = Facets(seed);
        let rng = &mut facets.of("haunted");
        this.target = target(facets, 2, false, this.near_wrap);
        this.target.execution_delay = ms(rng, 20, 80);
        this.target.late_execution = Some(ms(rng, 300, 4_000));
        this.target.luns[0].blocks = rng.u64(16..48);
        this.target.queue_depth = 64;
        this.queue_depth = 64;
        this.auth = AuthPolicy::None;
        this.offer = offer(facets, false, Recovery::NONE);
        Recovery::NONE.allow(&mut this.target.keys);
        this.links = (0..2).map(|_| fault::plain_link()).collect();
        this.settings = vec![PathSettings::default(); 2];
        this.workload.writes = 0.6;
        this.workload.clients = 8;
        this.workload.think_max = Duration::from_millis(40);
        this.mpio.command_timeout = Duration::from_secs(5);
        this.mpio.no_path_retry = NoPathRetry::For(Duration::from_secs(20));
        this.mpio.io_deadline = Duration::from_secs(30);
        this.run_for = Duration::from_secs(15);
        this.faults = schedule::haunting(rng, this.run_for);
        this.deeds = Deeds::new();
        this
    }

    /// Haunted, by a target that confirms a reinstatement before the old tasks have ended. Only
    /// time helps: writes are held for `settle` longer.
    #[must_use]
    pub fn early(seed: u64, settle: Duration) -> Self {
        let mut this = Self::haunted(seed);
        this.target.late_execution = Some(Duration::from_millis(1_500));
        this.target.late_execution_after_reinstatement = true;
        // One group, so that the reinstatement need not wait for the lost portal, and few blocks
        // with many writes, so that what was left behind has something to destroy.
        for portal in &mut this.target.portals {
            portal.group = 1;
        }
        this.target.luns[0].blocks = 16;
        this.workload.writes = 0.9;
        this.workload.flushes = 0.0;
        this.workload.racy = true;
        this.mpio.fence_settle = settle;
        this
    }

    /// One that goes without trouble.
    #[must_use]
    pub fn calm(seed: u64) -> Self {
        Self {
            faults: Vec::new(),
            deeds: Deeds::new(),
            ..Self::random(seed)
        }
    }
}

/// A random time in milliseconds.
pub(crate) fn ms(rng: &mut Rng, from: u64, to: u64) -> Duration {
    Duration::from_millis(rng.u64(from..=to))
}

/// Any of the ways to deal with an outage.
fn no_path_retry(time: Duration) -> NoPathRetry {
    match time.as_millis() % 8 {
        0 => NoPathRetry::Fail,
        1 => NoPathRetry::Queue,
        _ => NoPathRetry::For(time),
    }
}

fn authentication(rng: &mut Rng) -> (Option<test_target::Chap>, AuthPolicy) {
    if rng.u8(..4) != 0 {
        return (None, AuthPolicy::None);
    }
    let secret = "a secret of ours, long enough";
    let mutual = "another secret of theirs";
    let both = rng.bool();
    let mut theirs = test_target::Chap::one_way("initiator", secret.as_bytes());
    theirs.challenge_bytes = rng.usize(1..=1024);
    theirs.base64 = rng.bool();
    theirs.mutual = both.then(|| ("target".to_owned(), mutual.as_bytes().to_vec()));
    let ours = Secret::from_text(secret).map(|secret| ChapCredentials::new("initiator", secret));
    let proof = Secret::from_text(mutual).map(|secret| MutualCredentials {
        name: Some("target".to_owned()),
        secret,
    });
    match (ours, proof) {
        (Ok(ours), Ok(proof)) => match Chap::new(ours, both.then_some(proof)) {
            Ok(chap) => (Some(theirs), AuthPolicy::Chap(chap)),
            Err(_) => (None, AuthPolicy::None),
        },
        _ => (None, AuthPolicy::None),
    }
}

fn size(rng: &mut Rng, from: u32, to: u32) -> u32 {
    // Small values are as likely as large ones.
    let low = from.ilog2();
    let high = to.ilog2();
    let base = 1 << rng.u32(low..=high);
    (base + 4 * rng.u32(..=base / 4)).clamp(from, to)
}

fn target(facets: Facets, paths: usize, digests: bool, near_wrap: bool) -> test_target::Config {
    let grouping = facets.of("grouping").u8(..3);
    let group = |path: usize| match grouping {
        0 => 1,
        1 => path as u16 + 1,
        _ => path as u16 / 2 + 1,
    };
    let portals = (0..paths).map(|path| test_target::Portal {
        address: address(path),
        group: group(path),
    });
    let max_burst_bytes = size(&mut facets.of("target MaxBurstLength"), 512, 1 << 20);
    let digest = |name| match digests {
        true => vec!["CRC32C".to_owned()],
        false if facets.of(name).bool() => vec!["None".to_owned(), "CRC32C".to_owned()],
        false => vec!["None".to_owned()],
    };
    let block_bytes = [512, 4096][facets.of("block bytes").usize(..2)];
    test_target::Config {
        target_name: TARGET_NAME.to_owned(),
        portals: portals.collect(),
        luns: vec![Lun {
            block_bytes,
            blocks: facets.of("blocks").u64(16..=200),
            read_only: false,
            unique: true,
            serial: "SIMULATED0001".to_owned(),
        }],
        keys: Keys {
            header_digest: digest("target HeaderDigest"),
            data_digest: digest("target DataDigest"),
            initial_r2t: facets.of("target initial r2t").bool(),
            immediate_data: facets.of("target immediate data").bool(),
            max_recv_data_segment_bytes: size(
                &mut facets.of("target MaxRecvDataSegmentLength"),
                512,
                1 << 18,
            ),
            max_burst_bytes,
            first_burst_bytes: size(
                &mut facets.of("target FirstBurstLength"),
                512,
                max_burst_bytes,
            ),
            time2wait_s: facets.of("target time2wait s").u16(..3),
            time2retain_s: facets.of("target time2retain s").u16(..20),
            max_outstanding_r2t: [1, 1, 2, 8][facets.of("target max outstanding r2t").usize(..4)],
            data_pdu_in_order: facets.of("target data pdu in order").bool(),
            data_sequence_in_order: facets.of("target data sequence in order").bool(),
            ..Keys::default()
        },
        queue_depth: [1, 2, 8, 64][facets.of("target queue depth").usize(..4)],
        phase_collapse: facets.of("target phase collapse").bool(),
        shuffle_data_in: facets.of("target shuffle data in").bool(),
        shuffle_r2t: facets.of("target shuffle r2t").bool(),
        unit_attention_at_login: facets.of("target unit attention at login").bool(),
        descriptor_sense: facets.of("target descriptor sense").bool(),
        execution_delay: some(facets.of("execution delay"), 0, 40).unwrap_or_default(),
        ping_every: some(facets.of("ping every"), 200, 5_000),
        late_execution: some(facets.of("late execution"), 10, 10_000),
        first_stat_sn: first_number(facets.of("first StatSN"), near_wrap),
        first_transfer_tag: Some(first_number(facets.of("first transfer tag"), near_wrap)),
        seed: facets.of("target seed").u64(..),
        ..test_target::Config::default()
    }
}

/// A time, for half of the seeds.
fn some(mut rng: Rng, from_ms: u64, to_ms: u64) -> Option<Duration> {
    rng.bool().then(|| ms(&mut rng, from_ms, to_ms))
}

/// Where a sequence number begins.
fn first_number(mut rng: Rng, near_wrap: bool) -> u32 {
    if near_wrap {
        u32::MAX - rng.u32(..40)
    } else {
        rng.u32(..)
    }
}

/// The address of a portal by its index.
#[must_use]
pub fn address(portal: usize) -> String {
    format!("10.0.0.{}:3260", portal + 1)
}

/// The highest ErrorRecoveryLevel of a seed.
const RECOVERY_LEVEL_MAX: u8 = 2;

/// How many connections a session has, and how much of the protocol's own recovery.
#[derive(Debug, Clone, Copy)]
struct Recovery {
    connections: u16,
    level: u8,
}

impl Recovery {
    const NONE: Self = Self {
        connections: 1,
        level: 0,
    };

    /// Half of the seeds have what nearly everybody has.
    fn random(facets: Facets) -> Self {
        if facets.of("plain sessions").bool() {
            return Self::NONE;
        }
        Self {
            connections: [1, 2, 2, 3, 4][facets.of("connections").usize(..5)],
            level: facets.of("recovery level").u8(..=RECOVERY_LEVEL_MAX),
        }
    }

    fn allow(self, keys: &mut Keys) {
        keys.max_connections = self.connections.into();
        keys.error_recovery_level = self.level;
        if self.level > 0 {
            // RFC 7143 §13.19, as in what is offered.
            keys.max_outstanding_r2t = 1;
        }
    }
}

fn offer(facets: Facets, digests: bool, recovery: Recovery) -> Vec<(&'static str, String)> {
    let of = |name: &str| facets.of(&format!("offered {name}"));
    let max_burst = size(&mut of("MaxBurstLength"), 512, 1 << 20);
    let digest = if digests { "CRC32C" } else { "None" };
    let yes_no = |name: &'static str| (name, if of(name).bool() { "Yes" } else { "No" }.to_owned());
    let number = |name: &'static str, most| (name, size(&mut of(name), 512, most).to_string());
    let mut all = vec![
        yes_no("InitialR2T"),
        yes_no("ImmediateData"),
        number("MaxRecvDataSegmentLength", 1 << 18),
        ("MaxBurstLength", max_burst.to_string()),
        number("FirstBurstLength", max_burst),
        (
            "MaxOutstandingR2T",
            [1, 2, 8][of("MaxOutstandingR2T").usize(..3)].to_string(),
        ),
        yes_no("DataPDUInOrder"),
        yes_no("DataSequenceInOrder"),
    ];
    // The two burst lengths go together, so half of the seeds choose all of them.
    if of("nothing").bool() {
        all.clear();
    }
    if recovery.level > 0 {
        // RFC 7143 §13.19: with recovery and ordered sequences only one R2T may be open.
        all.retain(|(key, _)| *key != "MaxOutstandingR2T");
    }
    all.push(("MaxConnections", recovery.connections.to_string()));
    all.push(("ErrorRecoveryLevel", recovery.level.to_string()));
    all.push(("HeaderDigest", digest.to_owned()));
    all.push(("DataDigest", digest.to_owned()));
    all
}

fn keepalive(facets: Facets) -> Keepalive {
    Keepalive {
        interval: ms(&mut facets.of("keepalive interval"), 500, 5_000),
        timeout: ms(&mut facets.of("keepalive timeout"), 500, 5_000),
    }
}

fn timeouts(facets: Facets) -> Timeouts {
    let within = |name, from, to| ms(&mut facets.of(name), from, to);
    Timeouts {
        connect: within("connect timeout", 500, 5_000),
        login: within("login timeout", 1_000, 6_000),
        abort_task: within("ABORT TASK timeout", 300, 3_000),
        lu_reset: within("LOGICAL UNIT RESET timeout", 300, 3_000),
        text: within("text timeout", 1_000, 10_000),
        logout: within("logout timeout", 500, 3_000),
    }
}

fn backoff(facets: Facets) -> Backoff {
    Backoff {
        first: ms(&mut facets.of("first backoff"), 20, 500),
        max: ms(&mut facets.of("longest backoff"), 500, 5_000),
    }
}

fn link(facets: Facets, path: usize) -> Link {
    // Few seeds are cut into tiny pieces: they cost most of the time and show the same.
    let crumbs = facets.of("crumbs").u8(..8) == 0;
    let it = facets.within("link", path);
    let (segments, reads): (&[usize], &[usize]) = if crumbs {
        (&[11, 47, 300], &[17, 100, 1000])
    } else {
        (&[300, 1460, 9000, 65_536, 65_536], &[1000, 65_536, 1 << 20])
    };
    Link {
        latency: Duration::from_micros(it.of("latency").u64(20..8_000)),
        jitter: Duration::from_micros([0, 100, 5_000][it.of("jitter").usize(..3)]),
        bytes_per_second: [0, 0, 4 << 20, 64 << 20][it.of("rate").usize(..4)],
        segment_bytes: segments[it.of("segment").usize(..segments.len())],
        window_bytes: [2048, 64 << 10, 1 << 20][it.of("window").usize(..3)],
        buffer_bytes: [300, 4096, 64 << 10, 1 << 20][it.of("buffer").usize(..4)],
        read_bytes: reads[it.of("read").usize(..reads.len())],
        ..fault::plain_link()
    }
}

fn workload(facets: Facets, links: &[Link], block_bytes: u32) -> Workload {
    let clients = [1, 2, 6, 12][facets.of("clients").usize(..4)];
    let tiny = links
        .iter()
        .any(|link| link.segment_bytes < 100 || link.read_bytes < 100);
    let blocks_max = match (tiny, facets.of("longest I/O").u8(..4)) {
        (true, _) => 4096 / u64::from(block_bytes),
        (false, 0) => 131_072 / u64::from(block_bytes),
        (false, _) => 32_768 / u64::from(block_bytes),
    };
    Workload {
        clients,
        writes: [0.2, 0.5, 0.9][facets.of("writes").usize(..3)],
        flushes: 0.02,
        raw: [0.0, 0.2][facets.of("raw").usize(..2)],
        raw_timeout: ms(&mut facets.of("raw timeout"), 300, 4_000),
        policy_changes: [0.0, 0.05][facets.of("policy changes").usize(..2)],
        blocks_max,
        think_max: Duration::from_millis(20) * clients as u32,
        racy: facets.of("racy").u8(..4) == 0,
        drops: [0.0, 0.02, 0.3][facets.of("drops").usize(..3)],
        drop_after_max: ms(&mut facets.of("drop after"), 1, 2_000),
    }
}

fn settings(facets: Facets, path: usize) -> PathSettings {
    let it = facets.within("settings", path);
    PathSettings {
        preferred: it.of("preferred").bool(),
        standby: it.of("standby").bool(),
        weight: it.of("weight").u32(..3),
        throughput: it.of("throughput").u8(..3),
    }
}

/// What the longest I/O takes on the slowest way, with nothing else on it.
fn slowest(links: &[Link], workload: &Workload, block_bytes: u32) -> Duration {
    let bytes = workload.blocks_max * u64::from(block_bytes);
    let of = |link: &Link| {
        let turn = link.buffer_bytes.min(link.window_bytes) as u64;
        let turns = u32::try_from(bytes.div_ceil(turn)).unwrap_or(u32::MAX);
        let segments = u32::try_from(bytes.div_ceil(512)).unwrap_or(u32::MAX);
        // A round trip for what the buffers hold, and for each R2T.
        (link.latency * 2 + link.jitter * 2) * (turns + segments.min(256))
    };
    links.iter().map(of).max().unwrap_or_default()
}

fn multipath(facets: Facets, slowest: Duration) -> mpio::Config {
    let within = |name, from, to| ms(&mut facets.of(name), from, to);
    let policies = LoadBalancePolicy::ALL;
    mpio::Config {
        policy: policies[facets.of("policy").usize(..policies.len())],
        tuning: tuning(facets),
        io_deadline: within("I/O deadline", 2_000, 40_000),
        no_path_retry: no_path_retry(within("no path retry", 0, 20_000)),
        command_timeout: within("command timeout", 300, 6_000)
            + slowest.min(Duration::from_secs(6)),
        probe_timeout: within("probe timeout", 300, 4_000),
        fence_budget: within("fence budget", 300, 4_000),
        fence_pause: within("fence pause", 50, 1_000),
        probe_interval: within("probe interval", 500, 5_000),
        probe_interval_max: Duration::from_secs(8),
        failed_retry: within("failed retry", 200, 2_000),
        failed_retry_max: Duration::from_secs(8),
        split_concurrency: facets.of("split concurrency").usize(1..=8),
        max_attempts: 128,
        marginal_paths: marginal_paths(),
        ..mpio::Config::default()
    }
}

fn tuning(facets: Facets) -> Tuning {
    Tuning {
        round_robin_ios: [1, 16][facets.of("round robin I/Os").usize(..2)],
        round_robin_bytes: NonZeroU64::new([0, 20_000][facets.of("round robin bytes").usize(..2)]),
        least_blocks_bytes: [0, 64 << 10][facets.of("least blocks").usize(..2)],
        lba_region_exponent: facets.of("LBA region").u8(0..6),
        latency_interval: ms(&mut facets.of("latency interval"), 100, 5_000),
        latency_ios: facets.of("latency I/Os").u32(1..10),
        ..Tuning::default()
    }
}

/// Quick to put into quarantine, and out of it well before a run ends.
fn marginal_paths() -> MarginalPaths {
    let mut it = MarginalPaths::default();
    it.recovery = Duration::from_secs(3);
    it.recovery_max = Duration::from_secs(12);
    it
}
