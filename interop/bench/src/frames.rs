//! From a byte stream to PDUs, with as many PDUs per read as there are.
//!
//! Data segments are thrown away piece by piece (their digest is checked all the same) unless the
//! caller asks to keep one, so that no transfer is too long for the buffer. Digests are never
//! skipped: a peer that leaves them out would make itself faster than it may be.

use std::io::Read;

use anyhow::{Result, ensure};

use crate::pdu::{BHS_BYTES, Bhs, data_bytes, padding};

/// Bytes taken from the socket at once; fits the second-level cache.
const BUFFER_BYTES: usize = 512 * 1024;

/// Longest data segment that is kept.
const KEEP_BYTES: usize = 64 * 1024;

/// What the stream holds next.
pub(crate) enum Step {
    /// Nothing whole: read more.
    More,
    /// A header; when it announces data, [`Step::Body`] follows.
    Header(Bhs),
    /// The data segment of the last header has gone by. Empty unless it was kept.
    Body(Vec<u8>),
}

/// The receiving half of a connection.
pub(crate) struct Frames {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    header_digest: bool,
    data_digest: bool,
    body: Option<Body>,
}

struct Body {
    remaining: usize,
    /// Padding and digest behind it.
    trailer: usize,
    crc: u32,
    kept: Option<Vec<u8>>,
}

impl Frames {
    pub(crate) fn new() -> Self {
        Self {
            buffer: vec![0; BUFFER_BYTES],
            start: 0,
            end: 0,
            header_digest: false,
            data_digest: false,
            body: None,
        }
    }

    /// Puts negotiated digests into force.
    pub(crate) fn set_digests(&mut self, header: bool, data: bool) {
        self.header_digest = header;
        self.data_digest = data;
    }

    /// Reads once; the number of bytes, 0 at the end of the stream.
    pub(crate) fn fill(&mut self, stream: &mut impl Read) -> Result<usize> {
        if self.start > 0 {
            // At most a header and a few bytes are left over: everything else was consumed.
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let space = self.buffer.get_mut(self.end..).unwrap_or_default();
        let bytes = stream.read(space)?;
        self.end += bytes;
        Ok(bytes)
    }

    /// Keeps the data segment of the header that was just handed out.
    pub(crate) fn keep(&mut self) -> Result<()> {
        if let Some(body) = &mut self.body {
            ensure!(
                body.remaining <= KEEP_BYTES,
                "a data segment of {} bytes where parameters were expected",
                body.remaining
            );
            body.kept = Some(Vec::with_capacity(body.remaining));
        }
        Ok(())
    }

    /// Goes on by one step.
    pub(crate) fn next(&mut self) -> Result<Step> {
        if self.body.is_some() {
            return self.go_on();
        }
        let Some(bhs) = self.staged().first_chunk::<BHS_BYTES>().copied() else {
            return Ok(Step::More);
        };
        let covered = BHS_BYTES + usize::from(bhs[4]) * 4;
        let digest = if self.header_digest { 4 } else { 0 };
        let Some(header) = self.staged().get(..covered + digest) else {
            return Ok(Step::More);
        };
        if self.header_digest {
            let (header, digest) = header.split_at(covered);
            ensure!(
                crc32c::crc32c(header).to_le_bytes() == *digest,
                "wrong header digest"
            );
        }
        self.start += covered + digest;
        let bytes = data_bytes(&bhs);
        if bytes > 0 {
            self.body = Some(Body {
                remaining: bytes,
                trailer: padding(bytes) + if self.data_digest { 4 } else { 0 },
                crc: 0,
                kept: None,
            });
        }
        Ok(Step::Header(bhs))
    }

    fn go_on(&mut self) -> Result<Step> {
        let staged = self.buffer.get(self.start..self.end).unwrap_or_default();
        let Some(body) = &mut self.body else {
            return Ok(Step::More);
        };
        let piece = staged.get(..body.remaining.min(staged.len()));
        let piece = piece.unwrap_or_default();
        if self.data_digest {
            body.crc = crc32c::crc32c_append(body.crc, piece);
        }
        if let Some(kept) = &mut body.kept {
            kept.extend_from_slice(piece);
        }
        body.remaining -= piece.len();
        self.start += piece.len();
        let staged = self.buffer.get(self.start..self.end).unwrap_or_default();
        let Some(trailer) = staged.get(..body.trailer) else {
            return Ok(Step::More);
        };
        if body.remaining > 0 {
            return Ok(Step::More);
        }
        if let (true, Some((pad, digest))) = (self.data_digest, trailer.split_last_chunk::<4>()) {
            let crc = crc32c::crc32c_append(body.crc, pad);
            ensure!(crc.to_le_bytes() == *digest, "wrong data digest");
        }
        self.start += body.trailer;
        let kept = self.body.take().and_then(|body| body.kept);
        Ok(Step::Body(kept.unwrap_or_default()))
    }

    fn staged(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pdu::set_data_bytes;

    fn whole(frames: &mut Frames, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        let mut bodies = Vec::new();
        // One byte at a time is the worst that TCP can do.
        for byte in bytes {
            assert_eq!(frames.fill(&mut &[*byte][..])?, 1);
            loop {
                match frames.next()? {
                    Step::More => break,
                    Step::Header(_) => frames.keep()?,
                    Step::Body(kept) => bodies.push(kept),
                }
            }
        }
        Ok(bodies)
    }

    #[test]
    fn pdus_come_out_however_the_stream_is_cut() {
        let mut bhs = [0; BHS_BYTES];
        set_data_bytes(&mut bhs, 5).unwrap();
        let mut bytes = bhs.to_vec();
        bytes.extend_from_slice(b"hello\0\0\0");
        let twice = [bytes.clone(), bytes].concat();
        let bodies = whole(&mut Frames::new(), &twice).unwrap();
        assert_eq!(bodies, [b"hello", b"hello"]);
    }

    #[test]
    fn a_wrong_digest_ends_it() {
        let mut frames = Frames::new();
        frames.set_digests(true, false);
        assert!(whole(&mut frames, &[0; 52]).is_err());
        // The CRC32C of 48 zeros, computed with another program.
        let mut bytes = vec![0; 48];
        bytes.extend_from_slice(&ZEROS_DIGEST.to_le_bytes());
        let mut frames = Frames::new();
        frames.set_digests(true, false);
        assert!(whole(&mut frames, &bytes).unwrap().is_empty());
    }

    const ZEROS_DIGEST: u32 = 0x288c_3ab9;
}
