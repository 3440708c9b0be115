//! Any bytes as a vital product data page, of every kind we read.
#![no_main]

use scsi::vpd::characteristics::BlockDeviceCharacteristics;
use scsi::vpd::identification::DeviceIdentification;
use scsi::vpd::limits::BlockLimits;
use scsi::vpd::provisioning::LogicalBlockProvisioning;
use scsi::vpd::{SupportedPages, UnitSerialNumber, needed_bytes};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = needed_bytes(bytes);
    let _ = SupportedPages::parse(bytes).map(|page| page.contains(0x83));
    let _ = UnitSerialNumber::parse(bytes).map(|page| format!("{page:?}"));
    if let Ok(page) = DeviceIdentification::parse(bytes) {
        let _ = format!("{page:?} {:?}", page.target_port_group());
    }
    let _ = BlockLimits::parse(bytes);
    let _ = BlockDeviceCharacteristics::parse(bytes);
    let _ = LogicalBlockProvisioning::parse(bytes);
});
