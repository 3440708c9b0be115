//! Any bytes as the answer to PERSISTENT RESERVE IN, of every kind.
#![no_main]

use scsi::reservation::{Capabilities, FullStatus, RegisteredKeys, Reservation};
use scsi::{ReservationType, TransportId};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = RegisteredKeys::parse(bytes).map(|keys| format!("{keys:?}"));
    let _ = Reservation::parse(bytes).map(|reservation| format!("{reservation:?}"));
    if let Ok(capabilities) = Capabilities::parse(bytes) {
        let _ = ReservationType::ALL.map(|kind| capabilities.supports(kind));
    }
    if let Ok(status) = FullStatus::parse(bytes) {
        for registrant in status.registrants {
            // What was read can be said again, to a device that knows no better.
            let again = TransportId::parse(&registrant.initiator.to_bytes());
            assert_eq!(again.as_ref(), Ok(&registrant.initiator));
        }
    }
    let _ = TransportId::parse(bytes).map(|id| id.to_string());
});
