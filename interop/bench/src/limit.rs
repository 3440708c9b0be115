//! What TCP allows: the PDUs of the same load, spoken without a library.
//!
//! A blocking loop that sends as many commands per write, and takes as many answers per read, as
//! the depth allows. It keeps no task state beyond a time per tag, places no data (they are left
//! in the receive buffer) and recovers from nothing, so no initiator with an interface can be
//! expected to be as fast; the distance to it is what an initiator costs.
//!
//! It does check what makes a figure worthless when wrong: status, lengths and digests.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use crate::frames::{Frames, Step};
use crate::gather::{Data, Gather, Shared};
use crate::matrix::{Load, READS_OF_100};
use crate::measure::{Meter, Outcome};
use crate::pdu::{
    BHS_BYTES, Bhs, FINAL, NO_TAG, data_bytes, get32, opcode, pairs, put32, request, response, text,
};

/// What is offered at login; the same as our initiator's defaults.
const OFFER: [(&str, &str); 12] = [
    ("MaxConnections", "1"),
    ("InitialR2T", "No"),
    ("ImmediateData", "Yes"),
    ("MaxRecvDataSegmentLength", "262144"),
    ("MaxBurstLength", "1048576"),
    ("FirstBurstLength", "262144"),
    ("DefaultTime2Wait", "0"),
    ("DefaultTime2Retain", "0"),
    ("MaxOutstandingR2T", "8"),
    ("DataPDUInOrder", "Yes"),
    ("DataSequenceInOrder", "Yes"),
    ("ErrorRecoveryLevel", "0"),
];

/// A load, as the bench asks each contender for it.
#[derive(Debug, Args)]
pub(crate) struct LimitArgs {
    /// Where the target listens.
    #[arg(long)]
    portal: SocketAddr,
    #[arg(long)]
    target: String,
    #[arg(long, default_value_t = 0)]
    lun: u8,
    #[arg(long, value_enum, default_value = "randread")]
    rw: Load,
    /// Bytes per I/O.
    #[arg(long, default_value_t = 4096)]
    bs: usize,
    /// I/Os in flight.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=4096))]
    qd: u16,
    /// Seconds.
    #[arg(long, default_value_t = 2.0)]
    time: f64,
    #[arg(long)]
    header_digest: bool,
    #[arg(long)]
    data_digest: bool,
}

/// Runs the load.
///
/// # Errors
/// Anything unexpected: a measurement goes well or is none.
pub(crate) fn run(args: &LimitArgs) -> Result<Outcome> {
    let mut limit = Limit::connect(args)?;
    limit.login()?;
    let (blocks, block_bytes) = limit.capacity()?;
    ensure!(
        args.bs > 0 && args.bs.is_multiple_of(block_bytes),
        "{} bytes are not whole blocks",
        args.bs
    );
    limit.blocks_per_io = u32::try_from(args.bs / block_bytes)?;
    limit.places = blocks / u64::from(limit.blocks_per_io);
    ensure!(limit.places > 0, "the unit is smaller than one I/O");
    limit.load()
}

struct Limit<'a> {
    args: &'a LimitArgs,
    stream: TcpStream,
    frames: Frames,
    out: Gather,
    cmd_sn: u32,
    max_cmd_sn: u32,
    exp_stat_sn: u32,
    max_send_bytes: usize,
    first_burst_bytes: usize,
    unsolicited: bool,
    immediate: bool,
    blocks_per_io: u32,
    places: u64,
    random: fastrand::Rng,
    payloads: Vec<Vec<u8>>,
    /// Whether the I/O of a tag is a write.
    writes: Vec<bool>,
    /// Bytes of Data-In per tag.
    received: Vec<usize>,
    begun: Vec<Instant>,
}

impl<'a> Limit<'a> {
    #[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
    fn connect(args: &'a LimitArgs) -> Result<Self> {
        let stream = TcpStream::connect(args.portal)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let depth = usize::from(args.qd);
        let mut random = fastrand::Rng::with_seed(7);
        let mut payloads = Vec::new();
        if args.rw != Load::Read {
            payloads.resize(depth, vec![0; args.bs]);
            payloads.iter_mut().for_each(|payload| random.fill(payload));
        }
        Ok(Self {
            args,
            stream,
            frames: Frames::new(),
            out: Gather::default(),
            cmd_sn: 1,
            max_cmd_sn: 1,
            exp_stat_sn: 0,
            max_send_bytes: 8192,
            first_burst_bytes: 65_536,
            unsolicited: false,
            immediate: true,
            blocks_per_io: 1,
            places: 1,
            random,
            payloads,
            writes: vec![false; depth],
            received: vec![0; depth],
            begun: vec![Instant::now(); depth],
        })
    }

    fn login(&mut self) -> Result<()> {
        let digest = |on: bool| if on { "CRC32C" } else { "None" };
        let mut keys = vec![
            ("InitiatorName", "iqn.2026-01.org.example:limit"),
            ("TargetName", &*self.args.target),
            ("SessionType", "Normal"),
            ("HeaderDigest", digest(self.args.header_digest)),
            ("DataDigest", digest(self.args.data_digest)),
        ];
        keys.extend(OFFER);
        let mut pdu = [0; BHS_BYTES];
        pdu[0] = request::LOGIN | request::IMMEDIATE;
        // T, from LoginOperationalNegotiation to FullFeaturePhase; ISID of the random kind.
        (pdu[1], pdu[8], pdu[13]) = (FINAL | 1 << 2 | 3, 0x80, 7);
        put32(&mut pdu, 24, self.cmd_sn);
        self.out.push(pdu, Data::Copied(&text(keys)))?;
        let (bhs, body) = self.exchange()?;
        ensure!(
            opcode(&bhs) == response::LOGIN && bhs[36] == 0 && bhs[1] & FINAL != 0,
            "login refused: status {:#04x}{:02x}",
            bhs[36],
            bhs[37]
        );
        for (key, value) in pairs(&body) {
            match key.as_str() {
                "MaxRecvDataSegmentLength" => self.max_send_bytes = value.parse()?,
                "FirstBurstLength" => self.first_burst_bytes = value.parse()?,
                "InitialR2T" => self.unsolicited = value == "No",
                "ImmediateData" => self.immediate = value == "Yes",
                "HeaderDigest" => ensure!(value == digest(self.args.header_digest), "{key}"),
                "DataDigest" => ensure!(value == digest(self.args.data_digest), "{key}"),
                _ => {}
            }
        }
        let (header, data) = (self.args.header_digest, self.args.data_digest);
        self.frames.set_digests(header, data);
        self.out.set_digests(header, data);
        Ok(())
    }

    /// Writes what was pushed and waits for the next PDU, keeping its data.
    fn exchange(&mut self) -> Result<(Bhs, Vec<u8>)> {
        self.out.flush(&mut self.stream, &self.payloads)?;
        let mut header = None;
        loop {
            match (self.frames.next()?, header) {
                (Step::More, _) => {
                    ensure!(self.frames.fill(&mut self.stream)? > 0, "cut off");
                }
                (Step::Header(bhs), _) if data_bytes(&bhs) > 0 => {
                    self.frames.keep()?;
                    header = Some(bhs);
                }
                (Step::Header(bhs), _) => {
                    self.note(&bhs);
                    return Ok((bhs, Vec::new()));
                }
                (Step::Body(body), Some(bhs)) => {
                    self.note(&bhs);
                    return Ok((bhs, body));
                }
                (Step::Body(_), None) => bail!("data of no PDU"),
            }
        }
    }

    /// StatSN and the command window.
    fn note(&mut self, bhs: &Bhs) {
        let status = match opcode(bhs) {
            response::DATA_IN => bhs[1] & 1 == 1,
            response::R2T => false,
            _ => true,
        };
        if status {
            self.exp_stat_sn = get32(bhs, 24).wrapping_add(1);
        }
        self.max_cmd_sn = get32(bhs, 32);
    }

    /// READ CAPACITY(10), past the unit attentions of a new session: blocks and block size.
    fn capacity(&mut self) -> Result<(u64, usize)> {
        for _ in 0..8 {
            let mut pdu = self.command(0, FINAL | 0x40, 8);
            pdu[32] = 0x25;
            self.out.push(pdu, Data::None)?;
            let (bhs, body) = self.exchange()?;
            if opcode(&bhs) == response::DATA_IN {
                ensure!(body.len() == 8, "READ CAPACITY of {} bytes", body.len());
                // Status comes in it or behind it; a unit attention may come with data, too.
                let status = if bhs[1] & 1 == 1 {
                    bhs[3]
                } else {
                    self.exchange()?.0[3]
                };
                if status != 0 {
                    continue;
                }
                return Ok((u64::from(get32(&body, 0)) + 1, get32(&body, 4) as usize));
            }
        }
        bail!("READ CAPACITY is refused")
    }

    fn command(&mut self, tag: u32, flags: u8, bytes: u32) -> Bhs {
        let mut pdu = [0; BHS_BYTES];
        // The task attribute is SIMPLE.
        (pdu[0], pdu[1]) = (request::COMMAND, flags | 1);
        pdu[9] = self.args.lun;
        put32(&mut pdu, 16, tag);
        put32(&mut pdu, 20, bytes);
        put32(&mut pdu, 24, self.cmd_sn);
        put32(&mut pdu, 28, self.exp_stat_sn);
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        pdu
    }

    fn load(&mut self) -> Result<Outcome> {
        let time = Duration::from_secs_f64(self.args.time);
        let mut meter = Meter::start()?;
        let mut ready: Vec<u32> = (0..u32::from(self.args.qd)).collect();
        while meter.elapsed() < time {
            self.submit(&mut ready)?;
            self.out.flush(&mut self.stream, &self.payloads)?;
            ensure!(self.frames.fill(&mut self.stream)? > 0, "cut off");
            let held_back = ready.len();
            self.take(&mut ready)?;
            let now = meter.now();
            for tag in ready.iter().skip(held_back) {
                let begun = self.begun.get(*tag as usize).context("a strange tag")?;
                meter.done(now - *begun);
            }
        }
        Ok(meter.finish(self.args.bs))
    }

    /// Pushes a command per tag, as far as the window allows.
    #[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
    fn submit(&mut self, ready: &mut Vec<u32>) -> Result<()> {
        let now = Instant::now();
        while let Some(tag) = ready.pop() {
            // The window may be negative; serial arithmetic.
            if self.max_cmd_sn.wrapping_sub(self.cmd_sn) >= 1 << 31 {
                ready.push(tag);
                break;
            }
            if let Some(begun) = self.begun.get_mut(tag as usize) {
                *begun = now;
            }
            self.push_io(tag)?;
        }
        Ok(())
    }

    fn push_io(&mut self, tag: u32) -> Result<()> {
        let write = match self.args.rw {
            Load::Read => false,
            Load::Write => true,
            Load::Mixed => self.random.u8(..100) >= READS_OF_100,
        };
        if let Some(writes) = self.writes.get_mut(tag as usize) {
            *writes = write;
        }
        let lba = self.random.u64(..self.places) * u64::from(self.blocks_per_io);
        let bytes = self.args.bs;
        let first = bytes.min(self.first_burst_bytes);
        let immediate = if write && self.immediate {
            first.min(self.max_send_bytes)
        } else {
            0
        };
        let unsolicited = write && self.unsolicited && first > immediate;
        let flags = if write { 0x20 } else { 0x40 } | if unsolicited { 0 } else { FINAL };
        let mut pdu = self.command(tag, flags, u32::try_from(bytes)?);
        pdu[32] = if write { 0x8a } else { 0x88 };
        put32(&mut pdu, 34, u32::try_from(lba >> 32)?);
        put32(&mut pdu, 38, u32::try_from(lba & 0xffff_ffff)?);
        put32(&mut pdu, 42, self.blocks_per_io);
        if immediate == 0 {
            self.out.push(pdu, Data::None)?;
        } else {
            let data = self.part(tag, 0, immediate);
            self.out.push(pdu, Data::Shared(data))?;
        }
        if unsolicited {
            self.data_out(tag, NO_TAG, immediate, first)?;
        }
        Ok(())
    }

    fn part(&self, tag: u32, from: usize, to: usize) -> Shared {
        let index = tag as usize;
        let mut crc = 0;
        if self.out.digests_data() {
            let payload = self.payloads.get(index).and_then(|all| all.get(from..to));
            crc = crc32c::crc32c(payload.unwrap_or_default());
        }
        Shared {
            index,
            range: from..to,
            crc,
        }
    }

    fn data_out(&mut self, tag: u32, transfer_tag: u32, from: usize, to: usize) -> Result<()> {
        let (mut at, mut data_sn) = (from, 0);
        while at < to {
            let end = to.min(at + self.max_send_bytes);
            let mut pdu = [0; BHS_BYTES];
            pdu[0] = request::DATA_OUT;
            pdu[1] = if end == to { FINAL } else { 0 };
            pdu[9] = self.args.lun;
            put32(&mut pdu, 16, tag);
            put32(&mut pdu, 20, transfer_tag);
            put32(&mut pdu, 28, self.exp_stat_sn);
            put32(&mut pdu, 36, data_sn);
            put32(&mut pdu, 40, u32::try_from(at)?);
            let data = self.part(tag, at, end);
            self.out.push(pdu, Data::Shared(data))?;
            (at, data_sn) = (end, data_sn + 1);
        }
        Ok(())
    }

    /// Takes all PDUs that are there; tags of finished I/Os go to `ready`.
    fn take(&mut self, ready: &mut Vec<u32>) -> Result<()> {
        loop {
            let bhs = match self.frames.next()? {
                Step::More => break,
                Step::Body(_) => continue,
                Step::Header(bhs) => bhs,
            };
            self.note(&bhs);
            let tag = get32(&bhs, 16);
            match opcode(&bhs) {
                response::DATA_IN => {
                    let received = self.received.get_mut(tag as usize);
                    *received.context("a strange tag")? += data_bytes(&bhs);
                    if bhs[1] & 1 == 0 {
                        continue;
                    }
                }
                response::R2T => {
                    let (from, bytes) = (get32(&bhs, 40) as usize, get32(&bhs, 44) as usize);
                    ensure!(from + bytes <= self.args.bs, "R2T beyond the end");
                    self.data_out(tag, get32(&bhs, 20), from, from + bytes)?;
                    continue;
                }
                response::SCSI => {}
                // A ping that wants no answer.
                response::NOP_IN if get32(&bhs, 20) == NO_TAG => continue,
                other => bail!("opcode {other:#04x}"),
            }
            ensure!(bhs[3] == 0, "SCSI status {:#04x}", bhs[3]);
            if let Some(received) = self.received.get_mut(tag as usize) {
                let write = self.writes.get(tag as usize).copied().unwrap_or_default();
                let expected = if write { 0 } else { self.args.bs };
                ensure!(*received == expected, "{received} of {expected} bytes came");
                *received = 0;
            }
            ready.push(tag);
        }
        Ok(())
    }
}
