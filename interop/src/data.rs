//! Contents of disks and files: made here, compared by others.
//!
//! Patterns come from a little generator seeded by the test; no two 16-byte pieces of one pattern
//! are likely to be equal, so data that ends up at the wrong place is noticed. Checksums are
//! `sha256sum`'s.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::process::Tool;
use crate::sandbox::Sandbox;

/// Bytes in a mebibyte.
pub const MIB: u64 = 1 << 20;

/// An endless stream of bytes that depends on nothing but its seed.
#[derive(Clone, Debug)]
pub struct Pattern(u64);

impl Pattern {
    /// The stream of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next `length` bytes.
    #[must_use]
    pub fn take(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }

    /// Marsaglia's xorshift, multiplied (xorshift64*).
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// Writes a new file of `length` bytes: a mebibyte of the pattern of `seed` again and again, with
/// its number stamped on every 512-byte block, so that no two blocks are equal.
///
/// # Errors
/// When the file cannot be written.
pub fn pattern_file(path: &Path, seed: u64, length: u64) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let mut piece = Pattern::new(seed).take(usize::try_from(MIB)?);
    let mut number = seed << 32;
    let mut left = length;
    while left > 0 {
        for block in piece.chunks_exact_mut(512) {
            if let Some(stamp) = block.first_chunk_mut() {
                *stamp = number.to_be_bytes();
            }
            number += 1;
        }
        let now = left.min(MIB);
        file.write_all(piece.get(..usize::try_from(now)?).unwrap_or_default())?;
        left -= now;
    }
    file.flush()
        .with_context(|| format!("writing {}", path.display()))
}

/// Makes a file of `length` bytes; what is in an existing one stays.
///
/// # Errors
/// When it cannot be made.
pub fn sparse_file(path: &Path, length: u64) -> Result<()> {
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path);
    let file = file.with_context(|| format!("making {}", path.display()))?;
    Ok(file.set_len(length)?)
}

/// Reads `length` bytes at `offset` of a file, for example of a target's backing file.
///
/// # Errors
/// When the file is shorter.
pub fn read_at(path: &Path, offset: u64, length: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    File::open(path)?.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// The SHA-256 of a file in hexadecimal, by coreutils.
///
/// # Errors
/// When `sha256sum` fails.
pub fn sha256(sandbox: &Sandbox, path: &Path) -> Result<String> {
    let done = Tool::new(sandbox, "sha256sum").arg(path).run()?.success()?;
    let text = done.text();
    Ok(text
        .split_whitespace()
        .next()
        .context("sha256sum printed nothing")?
        .to_owned())
}

/// Demands that two byte strings are equal, and says where they are not without printing them.
///
/// # Errors
/// When they differ.
pub fn same(what: &str, expected: &[u8], found: &[u8]) -> Result<()> {
    ensure!(
        expected.len() == found.len(),
        "{what}: {} bytes expected, {} found",
        expected.len(),
        found.len()
    );
    let differing = expected.iter().zip(found).position(|(a, b)| a != b);
    ensure!(
        differing.is_none(),
        "{what}: differs at byte {}",
        differing.unwrap_or_default()
    );
    Ok(())
}

/// Bytes of memory the file really uses; grows while somebody fills a sparse file.
///
/// # Errors
/// When the file is not there.
pub fn bytes_in_use(path: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(fs::metadata(path)?.blocks() * 512)
}
