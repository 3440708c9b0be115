//! Clients: each does one I/O after the other and tells the oracle.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};

use fastrand::Rng;
use mpio::{Clock as _, IoError, LoadBalancePolicy, LogicalUnit};
use scsi::{Blocks, Bytes, Cdb, Command, DataPhase, IoBuf, Lba, RwOptions, Status, TaskAttribute};

use crate::clock::SimClock;
use crate::lock;
use crate::nexus::SimNexus;
use crate::oracle::{Oracle, Told};

/// The unit under test.
pub type Unit = LogicalUnit<SimNexus, SimClock>;

/// Why an I/O gave nothing.
#[derive(Debug)]
pub enum Failed {
    /// It was given up by its caller.
    Dropped,
    /// It failed.
    Error(Box<IoError>),
    /// The device said no.
    Status(Status),
}

fn told(result: &Result<(), Failed>) -> Told {
    match result {
        Ok(()) => Told::Done,
        Err(Failed::Error(error)) => Told::by(error),
        // Whatever became of it, it is over.
        Err(Failed::Status(_) | Failed::Dropped) => Told::Unknown {
            done_bytes: 0,
            settled: true,
        },
    }
}

/// What clients do.
#[derive(Debug, Clone)]
pub struct Workload {
    /// How many at once.
    pub clients: usize,
    /// Share of writes among I/Os.
    pub writes: f64,
    /// Share of flushes.
    pub flushes: f64,
    /// Share of writes that are sent as raw commands, which are never repeated on suspicion.
    pub raw: f64,
    /// What a raw command is given.
    pub raw_timeout: Duration,
    /// Share of I/Os after which the paths are chosen by another policy.
    pub policy_changes: f64,
    /// Longest I/O in blocks.
    pub blocks_max: u64,
    /// Longest pause between two I/Os of a client.
    pub think_max: Duration,
    /// Writes may overlap others that are under way.
    pub racy: bool,
    /// Share of I/Os that are dropped some time.
    pub drops: f64,
    /// Longest time until they are.
    pub drop_after_max: Duration,
}

/// What a client needs.
#[derive(Clone)]
pub struct Bench {
    /// The unit.
    pub unit: Unit,
    /// Time.
    pub clock: SimClock,
    /// Who judges.
    pub oracle: Arc<Mutex<Oracle>>,
    /// What to do.
    pub workload: Workload,
}

impl std::fmt::Debug for Bench {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bench").finish_non_exhaustive()
    }
}

impl Bench {
    /// One client's life.
    pub async fn client(self, mut rng: Rng, until: Instant) {
        while self.clock.now() < until {
            let pause = self.workload.think_max.mul_f64(rng.f64());
            self.clock.sleep_until(self.clock.now() + pause).await;
            let dropped_after = (rng.f64() < self.workload.drops)
                .then(|| self.workload.drop_after_max.mul_f64(rng.f64() * rng.f64()));
            let (lba, blocks) = self.range(&mut rng);
            let kind = rng.f64();
            if kind < self.workload.writes {
                let busy = lock(&self.oracle).is_being_written(lba, blocks);
                if self.workload.racy || !busy {
                    // The oracle was told; clients go on in any case.
                    let raw = rng.f64() < self.workload.raw;
                    let _ = self.write(lba, blocks, raw, dropped_after).await;
                }
            } else if kind < self.workload.writes + self.workload.flushes {
                let _ = self.flush(dropped_after).await;
            } else {
                let _ = self.read(lba, blocks, dropped_after).await;
            }
            if rng.f64() < self.workload.policy_changes {
                let all = LoadBalancePolicy::ALL;
                self.unit.set_policy(all[rng.usize(..all.len())]);
            }
        }
    }

    fn range(&self, rng: &mut Rng) -> (u64, u64) {
        let total = lock(&self.oracle).blocks();
        let most = self.workload.blocks_max.min(total);
        let blocks = if rng.u8(..4) == 0 {
            rng.u64(1..=most)
        } else {
            rng.u64(1..=most.min(8))
        };
        (rng.u64(0..=total - blocks), blocks)
    }

    /// Writes a range.
    ///
    /// # Errors
    /// What the unit said.
    pub async fn write(
        &self,
        lba: u64,
        blocks: u64,
        raw: bool,
        dropped_after: Option<Duration>,
    ) -> Result<(), Failed> {
        let (id, data, raw) = {
            let mut oracle = lock(&self.oracle);
            let bytes = blocks * oracle.block_bytes() as u64;
            let pieces = bytes > self.unit.geometry().max_transfer_bytes;
            let (id, data) = oracle.begin_write(lba, blocks, pieces);
            (id, data, raw && !pieces)
        };
        let offset = lba * self.block_bytes();
        let result = if raw {
            let write = self.raw_write(lba, blocks, data);
            self.or_drop(write, dropped_after).await
        } else {
            let write = self.unit.write_at(offset, data);
            let result = self.or_drop(write, dropped_after).await;
            result.map(|result| result.map_err(|error| Failed::Error(Box::new(error))))
        };
        let mut oracle = lock(&self.oracle);
        match result {
            Some(result) => {
                oracle.end_write(id, told(&result));
                result
            }
            None => {
                oracle.drop_write(id);
                Err(Failed::Dropped)
            }
        }
    }

    async fn raw_write(&self, lba: u64, blocks: u64, data: Bytes) -> Result<(), Failed> {
        let command = Command {
            cdb: Cdb::write(Lba(lba), Blocks(blocks as u32), RwOptions::default()),
            data: DataPhase::Write(data),
            attribute: TaskAttribute::Simple,
            priority: 0,
            timeout: self.workload.raw_timeout,
            only_in: None,
        };
        match self.unit.execute(command).await.0 {
            Ok(answer) if answer.status == Status::GOOD => Ok(()),
            Ok(answer) => Err(Failed::Status(answer.status)),
            Err(error) => Err(Failed::Error(Box::new(error))),
        }
    }

    /// Reads a range.
    ///
    /// # Errors
    /// What the unit said.
    pub async fn read(
        &self,
        lba: u64,
        blocks: u64,
        dropped_after: Option<Duration>,
    ) -> Result<(), Failed> {
        let began = lock(&self.oracle).begin_read();
        let bytes = (blocks * self.block_bytes()) as usize;
        let buf = IoBuf::from(vec![0xa5; bytes]);
        let read = self.unit.read_at(lba * self.block_bytes(), buf);
        let result = self.or_drop(read, dropped_after).await;
        let mut oracle = lock(&self.oracle);
        let Some((result, buf)) = result else {
            oracle.end_without_data(true);
            return Err(Failed::Dropped);
        };
        if buf.len() != bytes {
            let back = buf.len();
            oracle.complain(format!(
                "a read of {bytes} bytes gave back {back} bytes of memory"
            ));
        }
        match result {
            Ok(()) => oracle.end_read(began, lba, buf.as_slice()),
            Err(_) => oracle.end_without_data(false),
        }
        result.map_err(|error| Failed::Error(Box::new(error)))
    }

    /// Flushes.
    ///
    /// # Errors
    /// What the unit said.
    pub async fn flush(&self, dropped_after: Option<Duration>) -> Result<(), Failed> {
        lock(&self.oracle).begin_read();
        let result = self.or_drop(self.unit.flush(), dropped_after).await;
        let mut oracle = lock(&self.oracle);
        match result {
            Some(Ok(())) => {
                oracle.end_flush();
                Ok(())
            }
            Some(Err(error)) => {
                oracle.end_without_data(false);
                Err(Failed::Error(Box::new(error)))
            }
            None => {
                oracle.end_without_data(true);
                Err(Failed::Dropped)
            }
        }
    }

    fn block_bytes(&self) -> u64 {
        lock(&self.oracle).block_bytes() as u64
    }

    /// Runs an I/O, or drops it after a while.
    async fn or_drop<F: Future + Send>(&self, io: F, after: Option<Duration>) -> Option<F::Output> {
        let Some(after) = after else {
            return Some(io.await);
        };
        let mut io = Box::pin(io);
        let mut sleep = pin!(self.clock.sleep_until(self.clock.now() + after));
        // Ends with `None` only after at least one poll of the I/O, so that it has begun.
        std::future::poll_fn(|cx| {
            if let Poll::Ready(output) = Pin::as_mut(&mut io).poll(cx) {
                return Poll::Ready(Some(output));
            }
            sleep.as_mut().poll(cx).map(|()| None)
        })
        .await
    }
}
