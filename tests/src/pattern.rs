//! What is written: every block says which write it is from, and every byte of it is checked.

use bytes::Bytes;
use scsi::IoBuf;

/// Number of a write; 0 stands for what the disk held before the first one (zeros).
pub type WriteId = u64;

fn word(write: WriteId, lba: u64, at: u64) -> u64 {
    let mut z = write
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(lba.wrapping_mul(0xbf58_476d_1ce4_e5b9))
        .wrapping_add(at);
    z = (z ^ (z >> 30)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 29)
}

/// The content of one block.
fn fill(write: WriteId, lba: u64, block: &mut [u8]) {
    for (at, chunk) in (0..).zip(block.chunks_exact_mut(8)) {
        let value = match at {
            0 => write,
            1 => lba,
            _ => word(write, lba, at),
        };
        chunk.copy_from_slice(&value.to_le_bytes());
    }
}

/// The data of a write.
#[must_use]
pub fn data(write: WriteId, lba: u64, blocks: u64, block_bytes: usize) -> Bytes {
    let mut buf = IoBuf::zeroed(blocks as usize * block_bytes);
    for (lba, block) in (lba..).zip(buf.as_mut_slice().chunks_exact_mut(block_bytes)) {
        fill(write, lba, block);
    }
    buf.freeze()
}

/// Which write left this block behind; `None` when no write could have.
#[must_use]
pub fn author(block: &[u8], lba: u64) -> Option<WriteId> {
    let write = block.first_chunk::<8>().copied().map(u64::from_le_bytes)?;
    if write == 0 {
        return block.iter().all(|byte| *byte == 0).then_some(0);
    }
    let good = (0..).zip(block.chunks_exact(8)).all(|(at, chunk)| {
        let value = match at {
            0 => write,
            1 => lba,
            _ => word(write, lba, at),
        };
        chunk == value.to_le_bytes()
    });
    good.then_some(write)
}

/// The hash that the target's journal keeps of a write's data (FNV-1a).
#[must_use]
pub fn hash(data: &[u8]) -> u64 {
    data.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_names_its_write_and_no_bit_can_change() {
        let data = data(7, 40, 2, 512);
        assert_eq!(author(&data[..512], 40), Some(7));
        assert_eq!(author(&data[512..], 41), Some(7));
        assert_eq!(author(&data[512..], 40), None);
        for at in [0, 8, 100, 511] {
            let mut bad = data[..512].to_vec();
            bad[at] ^= 1;
            assert_eq!(author(&bad, 40), None, "{at}");
        }
        assert_eq!(author(&[0; 512], 40), Some(0));
        let mut bad = [0; 512];
        bad[300] = 1;
        assert_eq!(author(&bad, 40), None);
    }
}
