//! Any bytes as the answer to REPORT TARGET PORT GROUPS.
#![no_main]

use scsi::{AccessState, TargetPortGroups};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(groups) = TargetPortGroups::parse(bytes) else {
        return;
    };
    for group in &groups.groups {
        assert!(groups.group(group.id).is_some());
        assert_eq!(AccessState::from_code(group.state.code()), group.state);
        for &port in &group.ports {
            assert!(groups.group_of_port(port).is_some());
        }
    }
    let _ = (format!("{groups:?}"), groups.is_whole(bytes.len()));
});
