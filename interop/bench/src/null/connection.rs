//! One connection of the null target: read what is there, answer all of it, write once.

use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::login::Settled;
use super::scsi::{self, Answer};
use super::{Shared, TARGET};
use crate::frames::{Frames, Step};
use crate::gather::{Data, Gather, Shared as SharedData};
use crate::pdu::{
    BHS_BYTES, Bhs, FINAL, NO_TAG, data_bytes, get32, opcode, put32, request, response, text,
};

/// Commands the initiator may have under way.
const WINDOW: u32 = 4096;

pub(crate) struct Connection<'a> {
    shared: &'a Shared,
    stream: TcpStream,
    frames: Frames,
    out: Gather,
    settled: Settled,
    stat_sn: u32,
    exp_cmd_sn: u32,
    /// The PDU whose data segment is going by.
    at: Option<Bhs>,
    /// Text of a login that is continued in the next PDU.
    partial: Vec<u8>,
    writes: Vec<Option<Write>>,
    free: Vec<u32>,
    /// CRC32C of the payload's first bytes, by length.
    digests: Vec<(usize, u32)>,
    begun: Instant,
    moved: u64,
    closing: bool,
}

/// A write whose data are still coming. Its index is the target transfer tag.
struct Write {
    itt: u32,
    lun: [u8; 8],
    bytes: usize,
    received: usize,
    next_r2t_sn: u32,
}

impl<'a> Connection<'a> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the rate limit goes by the clock"
    )]
    pub(crate) fn new(stream: TcpStream, shared: &'a Shared) -> Result<Self> {
        Ok(Self {
            shared,
            stream,
            frames: Frames::new(),
            out: Gather::default(),
            settled: Settled::default(),
            stat_sn: 1,
            exp_cmd_sn: 0,
            at: None,
            partial: Vec::new(),
            writes: Vec::new(),
            free: Vec::new(),
            digests: Vec::new(),
            begun: Instant::now(),
            moved: 0,
            closing: false,
        })
    }

    pub(crate) fn serve(&mut self) -> Result<()> {
        loop {
            loop {
                match self.frames.next()? {
                    Step::More => break,
                    Step::Header(bhs) => self.header(bhs)?,
                    Step::Body(body) => {
                        let bhs = self.at.take().context("data of no PDU")?;
                        self.pdu(&bhs, &body)?;
                    }
                }
            }
            let sent = self.out.flush(&mut self.stream, &self.shared.payloads)?;
            if self.closing {
                return Ok(());
            }
            let received = self.frames.fill(&mut self.stream)?;
            if received == 0 {
                return Ok(());
            }
            if self.shared.rate > 0 {
                self.slow_down((sent + received) as u64);
            }
        }
    }

    /// Waits until so many bytes may have gone by.
    #[expect(
        clippy::disallowed_methods,
        reason = "the rate limit goes by the clock"
    )]
    fn slow_down(&mut self, bytes: u64) {
        self.moved += bytes;
        let due = Duration::from_micros(self.moved * 1_000_000 / self.shared.rate);
        let due = self.begun + due;
        let now = Instant::now();
        if due > now {
            std::thread::sleep(due - now);
        } else if now - due > Duration::from_millis(2) {
            // Time that was idle is not saved up.
            self.begun = now;
            self.moved = 0;
        }
    }

    fn header(&mut self, bhs: Bhs) -> Result<()> {
        if data_bytes(&bhs) == 0 {
            return self.pdu(&bhs, &[]);
        }
        if !matches!(opcode(&bhs), request::COMMAND | request::DATA_OUT) {
            self.frames.keep()?;
        }
        self.at = Some(bhs);
        Ok(())
    }

    /// A PDU is whole.
    fn pdu(&mut self, bhs: &Bhs, body: &[u8]) -> Result<()> {
        if opcode(bhs) != request::DATA_OUT {
            let immediate = bhs[0] & request::IMMEDIATE != 0;
            self.exp_cmd_sn = get32(bhs, 24).wrapping_add(u32::from(!immediate));
        }
        match opcode(bhs) {
            request::COMMAND => self.command(bhs),
            request::DATA_OUT => self.data_out(bhs),
            request::LOGIN => self.login(bhs, body),
            request::TEXT => self.text(bhs, body),
            request::NOP_OUT if get32(bhs, 16) == NO_TAG => Ok(()),
            request::NOP_OUT => {
                let mut pdu = self.status(response::NOP_IN, bhs);
                put32(&mut pdu, 20, NO_TAG);
                self.out.push(pdu, Data::Copied(body))
            }
            request::TASK_MANAGEMENT => {
                let pdu = self.status(response::TASK_MANAGEMENT, bhs);
                self.out.push(pdu, Data::None)
            }
            request::LOGOUT => {
                self.closing = true;
                let pdu = self.status(response::LOGOUT, bhs);
                self.out.push(pdu, Data::None)
            }
            other => bail!("opcode {other:#04x}"),
        }
    }

    /// A response header with status and the fields that are common to all.
    fn status(&mut self, code: u8, bhs: &Bhs) -> Bhs {
        let mut pdu = self.respond(code, get32(bhs, 16));
        put32(&mut pdu, 24, self.stat_sn);
        self.stat_sn = self.stat_sn.wrapping_add(1);
        pdu
    }

    fn respond(&self, code: u8, itt: u32) -> Bhs {
        let mut pdu = [0; BHS_BYTES];
        pdu[0] = code;
        pdu[1] = FINAL;
        put32(&mut pdu, 16, itt);
        put32(&mut pdu, 28, self.exp_cmd_sn);
        put32(&mut pdu, 32, self.exp_cmd_sn.wrapping_add(WINDOW - 1));
        pdu
    }

    fn command(&mut self, bhs: &Bhs) -> Result<()> {
        let (lun, cdb) = (lun(bhs), bhs.last_chunk::<16>().context("no CDB")?);
        let expected = get32(bhs, 20) as usize;
        match scsi::answer(&lun, cdb, self.shared.blocks) {
            Answer::Read(bytes) => self.read(bhs, bytes.min(expected), bytes),
            Answer::Write(bytes) if bytes != expected => bail!("{bytes} bytes, {expected} offered"),
            Answer::Write(bytes) => self.begin_write(bhs, lun, bytes),
            Answer::Data(mut data) => {
                let whole = data.len();
                data.truncate(expected);
                let mut pdu = self.status(response::DATA_IN, bhs);
                pdu[1] |= 1;
                put_residual(&mut pdu, expected, whole);
                self.out.push(pdu, Data::Copied(&data))
            }
            Answer::Good => {
                let mut pdu = self.status(response::SCSI, bhs);
                put_residual(&mut pdu, expected, 0);
                self.out.push(pdu, Data::None)
            }
            Answer::Illegal(code, qualifier) => {
                let mut pdu = self.status(response::SCSI, bhs);
                pdu[3] = 2;
                put_residual(&mut pdu, expected, 0);
                // SenseLength, then fixed-format sense data.
                let mut sense = [0; 20];
                (sense[1], sense[2], sense[4], sense[9]) = (18, 0x70, 5, 10);
                (sense[14], sense[15]) = (code, qualifier);
                self.out.push(pdu, Data::Copied(&sense))
            }
        }
    }

    fn read(&mut self, bhs: &Bhs, bytes: usize, whole: usize) -> Result<()> {
        let burst = self.settled.max_burst_bytes;
        let (mut at, mut data_sn) = (0, 0);
        while at < bytes {
            let sequence_end = bytes.min((at / burst + 1) * burst);
            let end = sequence_end.min(at + self.settled.max_send_bytes);
            let mut pdu = if end == bytes {
                let mut pdu = self.status(response::DATA_IN, bhs);
                pdu[1] |= 1;
                put_residual(&mut pdu, get32(bhs, 20) as usize, whole);
                pdu
            } else {
                let mut pdu = self.respond(response::DATA_IN, get32(bhs, 16));
                pdu[1] = if end == sequence_end { FINAL } else { 0 };
                pdu
            };
            put32(&mut pdu, 20, NO_TAG);
            put32(&mut pdu, 36, data_sn);
            put32(&mut pdu, 40, u32::try_from(at)?);
            // Always from the payload's beginning, so that its digest need not be computed again.
            let data = SharedData {
                index: 0,
                range: 0..end - at,
                crc: self.digest(end - at),
            };
            self.out.push(pdu, Data::Shared(data))?;
            (at, data_sn) = (end, data_sn + 1);
        }
        Ok(())
    }

    fn digest(&mut self, bytes: usize) -> u32 {
        if !self.out.digests_data() {
            return 0;
        }
        if let Some((_, crc)) = self.digests.iter().find(|(length, _)| *length == bytes) {
            return *crc;
        }
        let [payload] = &self.shared.payloads;
        let crc = crc32c::crc32c(payload.get(..bytes).unwrap_or_default());
        self.digests.push((bytes, crc));
        crc
    }

    fn begin_write(&mut self, bhs: &Bhs, lun: [u8; 8], bytes: usize) -> Result<()> {
        let (itt, received) = (get32(bhs, 16), data_bytes(bhs));
        if received == bytes {
            return self.written(itt);
        }
        let write = Write {
            itt,
            lun,
            bytes,
            received,
            next_r2t_sn: 0,
        };
        let tag = self.free.pop().unwrap_or(u32::try_from(self.writes.len())?);
        match self.writes.get_mut(tag as usize) {
            Some(slot) => *slot = Some(write),
            None => self.writes.push(Some(write)),
        }
        // Without F, more comes unasked.
        if bhs[1] & FINAL == 0 {
            return Ok(());
        }
        self.ask(tag)
    }

    /// Sends an R2T for as much as one burst may be.
    fn ask(&mut self, tag: u32) -> Result<()> {
        let Some(Some(write)) = self.writes.get_mut(tag as usize) else {
            bail!("no such write");
        };
        let wanted = (write.bytes - write.received).min(self.settled.max_burst_bytes);
        let (itt, lun, offset, sn) = (write.itt, write.lun, write.received, write.next_r2t_sn);
        write.next_r2t_sn += 1;
        let mut pdu = self.respond(response::R2T, itt);
        put32(&mut pdu, 8, get32(&lun, 0));
        put32(&mut pdu, 12, get32(&lun, 4));
        put32(&mut pdu, 20, tag);
        put32(&mut pdu, 24, self.stat_sn);
        put32(&mut pdu, 36, sn);
        put32(&mut pdu, 40, u32::try_from(offset)?);
        put32(&mut pdu, 44, u32::try_from(wanted)?);
        self.out.push(pdu, Data::None)
    }

    fn data_out(&mut self, bhs: &Bhs) -> Result<()> {
        let (itt, mut tag) = (get32(bhs, 16), get32(bhs, 20));
        if tag == NO_TAG {
            let of_itt = |slot: &Option<Write>| slot.as_ref().is_some_and(|w| w.itt == itt);
            let index = self.writes.iter().position(of_itt);
            tag = u32::try_from(index.context("Data-Out for no write")?)?;
        }
        let slot = self.writes.get_mut(tag as usize);
        let write = slot.and_then(Option::as_mut).filter(|w| w.itt == itt);
        let write = write.context("Data-Out for no write")?;
        if get32(bhs, 40) as usize != write.received {
            bail!(
                "Data-Out at {} instead of {}",
                get32(bhs, 40),
                write.received
            );
        }
        write.received += data_bytes(bhs);
        if write.received > write.bytes {
            bail!("Data-Out beyond the end of its write");
        }
        if bhs[1] & FINAL == 0 {
            return Ok(());
        }
        if write.received < write.bytes {
            return self.ask(tag);
        }
        if let Some(slot) = self.writes.get_mut(tag as usize) {
            *slot = None;
        }
        self.free.push(tag);
        self.written(itt)
    }

    fn written(&mut self, itt: u32) -> Result<()> {
        let mut pdu = self.respond(response::SCSI, itt);
        put32(&mut pdu, 24, self.stat_sn);
        self.stat_sn = self.stat_sn.wrapping_add(1);
        self.out.push(pdu, Data::None)
    }

    fn login(&mut self, bhs: &Bhs, body: &[u8]) -> Result<()> {
        let stage = bhs[1] >> 2 & 3;
        let continued = bhs[1] & 0x40 != 0;
        self.partial.extend_from_slice(body);
        let answer = if continued {
            Vec::new()
        } else {
            let text = std::mem::take(&mut self.partial);
            self.settled.answer(&text, stage == 1)
        };
        let transit = bhs[1] & FINAL != 0 && !continued;
        let mut pdu = self.status(response::LOGIN, bhs);
        // T, CSG and NSG as asked for; ISID and TSIH.
        pdu[1] = if transit {
            bhs[1] & 0x8f
        } else {
            bhs[1] & 0x0c
        };
        put32(&mut pdu, 8, get32(bhs, 8));
        put32(&mut pdu, 12, get32(bhs, 12));
        let full_feature = transit && bhs[1] & 3 == 3;
        if full_feature && get32(bhs, 12) & 0xffff == 0 {
            let tsih = self.shared.next_tsih.fetch_add(1, Ordering::Relaxed).max(1);
            (pdu[14], pdu[15]) = (tsih.to_be_bytes()[0], tsih.to_be_bytes()[1]);
        }
        self.out.push(pdu, Data::Copied(&answer))?;
        if full_feature {
            let Settled {
                header_digest,
                data_digest,
                ..
            } = self.settled;
            self.frames.set_digests(header_digest, data_digest);
            self.out.set_digests(header_digest, data_digest);
        }
        Ok(())
    }

    fn text(&mut self, bhs: &Bhs, body: &[u8]) -> Result<()> {
        let mut answer = Vec::new();
        if body.starts_with(b"SendTargets") {
            answer = text([("TargetName", TARGET)]);
            for portal in &self.shared.portals {
                answer.extend(text([("TargetAddress", &*format!("{portal},1"))]));
            }
        }
        let mut pdu = self.status(response::TEXT, bhs);
        put32(&mut pdu, 20, NO_TAG);
        self.out.push(pdu, Data::Copied(&answer))
    }
}

fn lun(bhs: &Bhs) -> [u8; 8] {
    let mut lun = [0; 8];
    lun.copy_from_slice(bhs.get(8..16).unwrap_or(&[0; 8]));
    lun
}

/// Residual count: what was expected against what there was (RFC 7143 §11.4.5).
fn put_residual(pdu: &mut Bhs, expected: usize, actual: usize) {
    let (flag, count) = match actual.cmp(&expected) {
        std::cmp::Ordering::Equal => return,
        std::cmp::Ordering::Less => (2, expected - actual),
        std::cmp::Ordering::Greater => (4, actual - expected),
    };
    pdu[1] |= flag;
    put32(pdu, 44, u32::try_from(count).unwrap_or(u32::MAX));
}
