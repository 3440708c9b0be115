//! The run beside the timed ones: the same kinds of load, with every byte checked.
//!
//! Against a target that stores (tgtd). Every worker owns places of its own, remembers what it
//! wrote last to each, and compares what it reads; at the end the target's file is compared, so
//! that an address that is wrong both ways is found as well.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use initiator::{Initiator, IoBuf, LogicalUnit, Lun, Portal, PortalSpec, TargetSpec};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::child::{self, INITIATOR_CORE, pinned};
use crate::matrix::{Digests, K4, K64, M1, READS_OF_100};
use crate::servers::Target;
use crate::tools::Tools;

/// What to check.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// One per path.
    #[arg(long)]
    portal: Vec<String>,
    #[arg(long)]
    target: String,
    #[arg(long)]
    lun: String,
    #[arg(long)]
    digests: bool,
    /// The file in which the target stores.
    #[arg(long)]
    image: PathBuf,
    /// I/Os of each size.
    #[arg(long, default_value_t = 2000)]
    ios: u64,
}

/// What was checked without finding anything wrong.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Verified {
    pub(crate) paths: usize,
    pub(crate) digests: bool,
    pub(crate) reads: u64,
    pub(crate) writes: u64,
    pub(crate) bytes: u64,
}

/// Sizes and depths.
const LOADS: [(u32, u64); 3] = [(K4, 32), (K64, 8), (M1, 4)];

/// Places of each worker.
const PLACES: u64 = 16;

/// Checks one and two paths, without and with digests.
///
/// # Errors
/// Wrong data, or any other failure.
pub(crate) fn all(tools: &Tools, target: &Target, ios: u64) -> Result<Vec<Verified>> {
    let mut done = Vec::new();
    for (paths, digests) in [(1, Digests::None), (2, Digests::None), (2, Digests::Both)] {
        target.demand(digests)?;
        let place = &target.place;
        let mut command = pinned(INITIATOR_CORE, &tools.bench);
        command
            .args(["verify", "--target", place.target])
            .args(["--lun", &place.lun.to_string()])
            .args(["--ios", &ios.to_string()])
            .arg("--image")
            .arg(target.image()?);
        for portal in place.portals.iter().take(paths) {
            command.args(["--portal", portal]);
        }
        if digests.data() {
            command.arg("--digests");
        }
        let said = child::run(&mut command, Duration::from_secs(120))?.stdout;
        done.push(serde_json::from_str(&said)?);
    }
    target.demand(Digests::None)?;
    Ok(done)
}

/// Checks and says as JSON what was checked.
///
/// # Errors
/// Wrong data, or any other failure.
#[expect(clippy::print_stdout, reason = "a result")]
pub(crate) fn run(args: &VerifyArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let verified = runtime.block_on(check(args))?;
    println!("{}", serde_json::to_string(&verified)?);
    Ok(())
}

async fn check(args: &VerifyArgs) -> Result<Verified> {
    let mut builder = Initiator::builder("iqn.2026-01.org.example:bench".parse()?);
    if args.digests {
        builder = builder.offer("HeaderDigest", "CRC32C")?;
        builder = builder.offer("DataDigest", "CRC32C")?;
    }
    let initiator = builder.build()?;
    let portals: Result<Vec<_>, _> = args.portal.iter().map(|p| p.parse::<Portal>()).collect();
    let spec = TargetSpec {
        name: args.target.parse()?,
        portals: portals?.into_iter().map(PortalSpec::from).collect(),
        all_portals: false,
    };
    let target = initiator.login(spec).await?;
    let sessions = target.sessions();
    ensure!(sessions.len() == args.portal.len(), "a path is missing");
    let unit = target.logical_unit(args.lun.parse::<Lun>()?).await?;
    let mut verified = Verified {
        paths: args.portal.len(),
        digests: args.digests,
        reads: 0,
        writes: 0,
        bytes: 0,
    };
    for (bytes, depth) in LOADS {
        let mut workers = JoinSet::new();
        for index in 0..depth {
            let worker = Worker::new(unit.clone(), bytes, index);
            workers.spawn(worker.run(args.ios / depth));
        }
        let image = File::open(&args.image)?;
        while let Some(worker) = workers.join_next().await {
            let worker = worker??;
            worker.compare_with(&image)?;
            verified.reads += worker.reads;
            verified.writes += worker.writes;
            verified.bytes += (worker.reads + worker.writes) * u64::from(bytes);
        }
    }
    drop(unit);
    target.logout().await?;
    Ok(verified)
}

struct Worker {
    unit: LogicalUnit,
    bytes: u32,
    random: fastrand::Rng,
    first: u64,
    /// Generation of what was last written, by place.
    written: Vec<u64>,
    reads: u64,
    writes: u64,
}

impl Worker {
    fn new(unit: LogicalUnit, bytes: u32, index: u64) -> Self {
        Self {
            unit,
            bytes,
            random: fastrand::Rng::with_seed(index + 1),
            first: index * PLACES,
            written: Vec::new(),
            reads: 0,
            writes: 0,
        }
    }

    async fn run(mut self, ios: u64) -> Result<Self> {
        for place in 0..PLACES {
            self.written.push(0);
            self.write(place).await?;
        }
        for _ in 0..ios {
            let place = self.random.u64(..PLACES);
            if self.random.u8(..100) < READS_OF_100 {
                self.read(place).await?;
            } else {
                self.write(place).await?;
            }
        }
        for place in 0..PLACES {
            self.read(place).await?;
        }
        self.unit.flush().await?;
        Ok(self)
    }

    fn offset(&self, place: u64) -> u64 {
        (self.first + place) * u64::from(self.bytes)
    }

    fn expected(&self, place: u64) -> Vec<u8> {
        let index = usize::try_from(place).unwrap_or(usize::MAX);
        let generation = self.written.get(index).copied().unwrap_or_default();
        let mut content = vec![0; self.bytes as usize];
        let seed = generation << 40 ^ self.offset(place);
        fastrand::Rng::with_seed(seed).fill(&mut content);
        content
    }

    async fn write(&mut self, place: u64) -> Result<()> {
        let index = usize::try_from(place)?;
        if let Some(generation) = self.written.get_mut(index) {
            *generation += 1;
        }
        let content = self.expected(place);
        self.unit
            .write_at(self.offset(place), content.into())
            .await?;
        self.writes += 1;
        Ok(())
    }

    async fn read(&mut self, place: u64) -> Result<()> {
        let buf = IoBuf::zeroed(self.bytes as usize);
        let (result, buf) = self.unit.read_at(self.offset(place), buf).await;
        result?;
        ensure!(
            buf.as_slice() == self.expected(place),
            "WRONG DATA read at {}",
            self.offset(place)
        );
        self.reads += 1;
        Ok(())
    }

    /// Compares what the target has stored.
    fn compare_with(&self, image: &File) -> Result<()> {
        for place in 0..PLACES {
            let mut stored = vec![0; self.bytes as usize];
            image.read_exact_at(&mut stored, self.offset(place))?;
            ensure!(
                stored == self.expected(place),
                "WRONG DATA stored at {}",
                self.offset(place)
            );
        }
        Ok(())
    }
}
