//! Any bytes as sense data.
#![no_main]

use scsi::SenseData;
use scsi::sense::descriptors;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(sense) = SenseData::parse(bytes) {
        let _ = format!("{sense:?}");
    }
    let total: usize = descriptors(bytes)
        .map(|descriptor| descriptor.bytes.len() + 2)
        .sum();
    assert!(total <= bytes.len());
});
