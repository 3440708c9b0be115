//! A scripted initiator: builds PDUs byte by byte and reads the answers. It knows nothing of the target's insides.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing
)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    unreachable_pub,
    missing_docs
)]

use std::time::{Duration, Instant};

use test_target::{Config, ConnectionId, Rule, Target};

pub const NAMES: &str = "InitiatorName=iqn.2026-01.org.example:script\0";
pub const TARGET: &str = "TargetName=iqn.2026-01.org.example:test-target\0SessionType=Normal\0";
pub const FREE: u32 = 0xffff_ffff;

/// A PDU received.
#[derive(Debug, Clone)]
pub struct Pdu {
    pub header: [u8; 48],
    pub data: Vec<u8>,
}

impl Pdu {
    pub fn opcode(&self) -> u8 {
        self.header[0] & 0x3f
    }
    pub fn be32(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.header[at..at + 4].try_into().unwrap())
    }
    pub fn be16(&self, at: usize) -> u16 {
        u16::from_be_bytes(self.header[at..at + 2].try_into().unwrap())
    }
    pub fn is_final(&self) -> bool {
        self.header[1] & 0x80 != 0
    }
    pub fn text(&self) -> String {
        String::from_utf8(self.data.clone()).unwrap()
    }
    pub fn value(&self, key: &str) -> Option<String> {
        let text = self.text();
        text.split('\0')
            .find_map(|pair| pair.strip_prefix(key)?.strip_prefix('=').map(str::to_owned))
    }
}

/// One connection of the scripted initiator.
#[derive(Debug, Clone)]
pub struct Line {
    pub id: ConnectionId,
    pub cmd_sn: u32,
    pub exp_stat_sn: u32,
    pub itt: u32,
    pub header_digest: bool,
    pub data_digest: bool,
    pub input: Vec<u8>,
    pub isid: [u8; 6],
    pub tsih: u16,
    pub cid: u16,
}

pub struct Script {
    pub target: Target,
    pub now: Instant,
    pub line: Line,
}

impl Script {
    pub fn new(config: Config) -> Self {
        let now = Instant::now();
        let mut target = Target::new(config);
        let id = target.connect(now, 0);
        Self {
            target,
            now,
            line: line(id),
        }
    }

    /// Logged in with the given operational keys; nothing wrong so far.
    pub fn session(config: Config, keys: &str) -> Self {
        let mut script = Self::new(config);
        script.log_in(keys);
        script
    }

    pub fn plain() -> Self {
        Self::session(Config::default(), "")
    }

    pub fn reconnect(&mut self, portal: usize) -> Line {
        let id = self.target.connect(self.now, portal);
        std::mem::replace(&mut self.line, line(id))
    }

    pub fn log_in(&mut self, keys: &str) -> Pdu {
        let text = format!("{NAMES}{TARGET}{keys}");
        let answer = self.login(0x87, &text);
        assert_eq!(answer.be16(36), 0, "login refused");
        assert_eq!(answer.header[1], 0x87, "not the final response");
        self.entered(&answer);
        answer
    }

    pub fn entered(&mut self, answer: &Pdu) {
        self.line.tsih = answer.be16(14);
        self.line.header_digest = answer.value("HeaderDigest").as_deref() == Some("CRC32C");
        self.line.data_digest = answer.value("DataDigest").as_deref() == Some("CRC32C");
    }

    pub fn login_header(&self, flags: u8) -> [u8; 48] {
        let mut h = [0; 48];
        h[0] = 0x43;
        h[1] = flags;
        h[8..14].copy_from_slice(&self.line.isid);
        h[14..16].copy_from_slice(&self.line.tsih.to_be_bytes());
        put(&mut h, 16, self.line.itt);
        h[20..22].copy_from_slice(&self.line.cid.to_be_bytes());
        put(&mut h, 24, self.line.cmd_sn);
        put(&mut h, 28, self.line.exp_stat_sn);
        h
    }

    /// One login exchange with the flags byte given.
    pub fn login(&mut self, flags: u8, text: &str) -> Pdu {
        let header = self.login_header(flags);
        self.send(header, text.as_bytes());
        let mut pdus = self.receive();
        assert_eq!(pdus.len(), 1, "{pdus:?}");
        pdus.remove(0)
    }

    pub fn send(&mut self, mut header: [u8; 48], data: &[u8]) {
        header[5..8].copy_from_slice(&(data.len() as u32).to_be_bytes()[1..]);
        let bytes = self.bytes(&header, data);
        self.target.receive(self.now, self.line.id, &bytes);
    }

    pub fn bytes(&self, header: &[u8; 48], data: &[u8]) -> Vec<u8> {
        let mut bytes = header.to_vec();
        if self.line.header_digest {
            bytes.extend(crc32c::crc32c(header).to_le_bytes());
        }
        let mut segment = data.to_vec();
        segment.resize(data.len().div_ceil(4) * 4, 0);
        bytes.extend(&segment);
        if self.line.data_digest && !data.is_empty() {
            bytes.extend(crc32c::crc32c(&segment).to_le_bytes());
        }
        bytes
    }

    /// Everything the target has to say on this connection.
    pub fn receive(&mut self) -> Vec<Pdu> {
        let mut bytes = Vec::new();
        self.target.transmit(self.line.id, &mut bytes, usize::MAX);
        self.line.input.extend(bytes);
        let mut out = Vec::new();
        let digest = if self.line.header_digest { 4 } else { 0 };
        while self.line.input.len() >= 48 + digest {
            let header: [u8; 48] = self.line.input[..48].try_into().unwrap();
            let length = u32::from_be_bytes([0, header[5], header[6], header[7]]) as usize;
            let padded = length.div_ceil(4) * 4;
            let trailer = if self.line.data_digest && length > 0 {
                4
            } else {
                0
            };
            let total = 48 + digest + padded + trailer;
            if self.line.input.len() < total {
                break;
            }
            let whole: Vec<u8> = self.line.input.drain(..total).collect();
            if digest > 0 {
                assert_eq!(
                    whole[48..52],
                    crc32c::crc32c(&header).to_le_bytes(),
                    "header digest"
                );
            }
            let body = &whole[48 + digest..48 + digest + padded];
            if trailer > 0 {
                assert_eq!(
                    whole[total - 4..],
                    crc32c::crc32c(body).to_le_bytes(),
                    "data digest"
                );
            }
            let pdu = Pdu {
                header,
                data: body[..length].to_vec(),
            };
            let numbered = match pdu.opcode() {
                0x31 => false,
                0x25 => header[1] & 1 != 0,
                0x20 => pdu.be32(16) != FREE,
                _ => true,
            };
            if numbered {
                self.line.exp_stat_sn = pdu.be32(24).wrapping_add(1);
            }
            out.push(pdu);
        }
        out
    }

    /// A request of the full feature phase with its own tag and numbers.
    pub fn request(&mut self, opcode: u8, flags: u8) -> [u8; 48] {
        let mut h = [0; 48];
        h[0] = opcode;
        h[1] = flags;
        self.line.itt += 1;
        put(&mut h, 16, self.line.itt);
        put(&mut h, 20, FREE);
        put(&mut h, 24, self.line.cmd_sn);
        put(&mut h, 28, self.line.exp_stat_sn);
        if opcode & 0x40 == 0 {
            self.line.cmd_sn = self.line.cmd_sn.wrapping_add(1);
        }
        h
    }

    /// A SCSI Command header.
    pub fn command(&mut self, flags: u8, expected: u32, cdb: &[u8]) -> [u8; 48] {
        let mut h = self.request(0x01, flags | 1);
        put(&mut h, 20, expected);
        h[32..32 + cdb.len()].copy_from_slice(cdb);
        h
    }

    pub fn write_command(&mut self, is_final: bool, lba: u32, blocks: u16) -> [u8; 48] {
        let flags = 0x20 | u8::from(is_final) << 7;
        self.command(flags, u32::from(blocks) * 512, &rw(0x2a, lba, blocks))
    }

    pub fn data_out(&self, itt: u32, ttt: u32, sn: u32, offset: u32, is_final: bool) -> [u8; 48] {
        let mut h = [0; 48];
        h[0] = 0x05;
        h[1] = u8::from(is_final) << 7;
        put(&mut h, 16, itt);
        put(&mut h, 20, ttt);
        put(&mut h, 28, self.line.exp_stat_sn);
        put(&mut h, 36, sn);
        put(&mut h, 40, offset);
        h
    }

    pub fn test_unit_ready(&mut self) -> Vec<Pdu> {
        let header = self.command(0x80, 0, &[0; 6]);
        self.send(header, &[]);
        self.receive()
    }

    /// Reads blocks and gives the data, checking the status.
    pub fn read(&mut self, lba: u32, blocks: u16) -> Vec<u8> {
        let header = self.command(0xc0, u32::from(blocks) * 512, &rw(0x28, lba, blocks));
        self.send(header, &[]);
        let mut data = vec![0; usize::from(blocks) * 512];
        let pdus = self.receive();
        for pdu in &pdus {
            if pdu.opcode() == 0x25 {
                let at = pdu.be32(40) as usize;
                data[at..at + pdu.data.len()].copy_from_slice(&pdu.data);
            }
        }
        assert_eq!(pdus.last().unwrap().header[3], 0);
        data
    }

    /// Writes with whatever the target solicits; all data of one burst in one PDU.
    pub fn write(&mut self, lba: u32, data: &[u8]) -> Pdu {
        let header = self.write_command(true, lba, (data.len() / 512) as u16);
        let itt = u32::from_be_bytes(header[16..20].try_into().unwrap());
        self.send(header, &[]);
        loop {
            let pdus = self.receive();
            for pdu in pdus {
                match pdu.opcode() {
                    0x31 => {
                        let (from, bytes) = (pdu.be32(40) as usize, pdu.be32(44) as usize);
                        let mut out = self.data_out(itt, pdu.be32(20), 0, pdu.be32(40), true);
                        out[8..16].copy_from_slice(&pdu.header[8..16]);
                        self.send(out, &data[from..from + bytes]);
                    }
                    _ => return pdu,
                }
            }
        }
    }

    pub fn pass(&mut self, time: Duration) {
        self.now += time;
        self.target.handle_timeout(self.now);
    }

    pub fn rules(&self) -> Vec<Rule> {
        self.target
            .violations()
            .iter()
            .map(|violation| violation.rule)
            .collect()
    }

    #[track_caller]
    pub fn assert_innocent(&self) {
        assert!(
            self.target.violations().is_empty(),
            "{:#?}",
            self.target.violations()
        );
    }
}

fn line(id: ConnectionId) -> Line {
    Line {
        id,
        cmd_sn: 0xffff_fff0,
        exp_stat_sn: 0,
        itt: 100,
        header_digest: false,
        data_digest: false,
        input: Vec::new(),
        isid: [0x80, 1, 2, 3, 0, 1],
        tsih: 0,
        cid: 0,
    }
}

pub fn put(header: &mut [u8; 48], at: usize, value: u32) {
    header[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

pub fn rw(opcode: u8, lba: u32, blocks: u16) -> [u8; 10] {
    let mut cdb = [0; 10];
    cdb[0] = opcode;
    cdb[2..6].copy_from_slice(&lba.to_be_bytes());
    cdb[7..9].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

pub fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at * 31 + at / 251) as u8).collect()
}
