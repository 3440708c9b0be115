//! The T10 list of additional sense codes. A test keeps the tables sorted, another compares
//! every name with sg3-utils.

mod below_30;
mod from_30;

/// The name of a code and qualifier, when there is one.
pub(super) fn find(asc: u8, ascq: u8) -> Option<&'static str> {
    let table = if asc < 0x30 {
        below_30::NAMES
    } else {
        from_30::NAMES
    };
    let found = table
        .binary_search_by_key(&(asc, ascq), |&(asc, ascq, _)| (asc, ascq))
        .ok()?;
    table.get(found).map(|&(_, _, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_found() {
        for &(asc, ascq, name) in below_30::NAMES.iter().chain(from_30::NAMES) {
            assert_eq!(find(asc, ascq), Some(name));
        }
    }
}
