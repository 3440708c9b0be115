//! What happened, as a hash and, if wanted, as text.

use std::fmt::{self, Write as _};
use std::time::{Duration, Instant};

/// The record of a run.
#[derive(Debug)]
pub struct Trace {
    base: Instant,
    hash: u64,
    events: u64,
    print: bool,
}

impl Trace {
    /// An empty record of a run that begins at `base`; `print`: to standard output as well.
    #[must_use]
    pub fn new(base: Instant, print: bool) -> Self {
        Self {
            base,
            hash: 0xcbf2_9ce4_8422_2325,
            events: 0,
            print,
        }
    }

    /// Notes an event.
    #[expect(clippy::print_stdout, reason = "that is what --trace is for")]
    pub fn note(&mut self, now: Instant, what: fmt::Arguments<'_>) {
        let at = self.time(now);
        self.events += 1;
        for byte in at.as_nanos().to_le_bytes() {
            self.add(byte);
        }
        // Hashing cannot fail.
        let _ = self.write_fmt(what);
        if self.print {
            println!("{:>12.6} {what}", at.as_secs_f64());
        }
    }

    /// Shows something that other events have told already.
    #[expect(clippy::print_stdout, reason = "that is what --trace is for")]
    pub fn show(&self, now: Instant, what: fmt::Arguments<'_>) {
        if self.print {
            println!("{:>12.6} {what}", self.time(now).as_secs_f64());
        }
    }

    /// Notes bytes that moved on a connection: the event of which there are most.
    #[expect(clippy::print_stdout, reason = "that is what --trace is for")]
    pub fn count(&mut self, now: Instant, way: &str, connection: u64, bytes: u64) {
        let at = self.time(now);
        self.events += 1;
        for word in [at.as_nanos() as u64, connection, bytes] {
            self.hash = (self.hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
        if self.print {
            println!("{:>12.6} net {connection} {way} {bytes}", at.as_secs_f64());
        }
    }

    /// Time since the run began.
    #[must_use]
    pub fn time(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.base)
    }

    /// Hash of everything noted so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Number of events noted so far.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    fn add(&mut self, byte: u8) {
        self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
}

impl fmt::Write for Trace {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.add(byte);
        }
        Ok(())
    }
}
