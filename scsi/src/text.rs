//! Text fields of fixed width, as devices fill them.

/// A device's ASCII field made safe to show: padding (spaces and NULs) cut off at both ends,
/// whatever is not printable ASCII replaced by `?`.
pub(crate) fn printable(field: &[u8]) -> String {
    let text: String = field
        .iter()
        .map(|&byte| match byte {
            0x20..=0x7e => char::from(byte),
            0 => ' ',
            _ => '?',
        })
        .collect();
    text.trim().to_owned()
}
