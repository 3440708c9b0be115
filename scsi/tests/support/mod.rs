//! Recorded answers, read from `tests/recorded`.

use std::path::{Path, PathBuf};

/// Where the recordings of one target are.
pub(crate) fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/recorded")
        .join(target)
}

/// The bytes in a file of hexadecimal bytes.
pub(crate) fn bytes(path: &Path) -> Vec<u8> {
    let text =
        std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.split_whitespace()
        .map(|byte| u8::from_str_radix(byte, 16).expect("hexadecimal bytes"))
        .collect()
}
