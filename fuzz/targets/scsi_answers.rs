//! Any bytes as the answer to each SCSI command that describes a device.
#![no_main]

use scsi::{Capacity, Inquiry, LunList, ModeParameters};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = Inquiry::parse(bytes).map(|inquiry| format!("{inquiry:?}"));
    for capacity in [
        Capacity::parse_16(bytes).ok(),
        Capacity::parse_10(bytes).ok().flatten(),
    ] {
        let _ = capacity.map(|capacity| (capacity.bytes(), capacity.physical_block_bytes()));
    }
    for mode in [
        ModeParameters::parse_6(bytes),
        ModeParameters::parse_10(bytes),
    ]
    .into_iter()
    .flatten()
    {
        let _ = (mode.caching(), mode.write_protected());
    }
    if let Ok(list) = LunList::parse(bytes) {
        let _ = format!("{list:?} {}", list.is_whole(bytes.len()));
    }
});
