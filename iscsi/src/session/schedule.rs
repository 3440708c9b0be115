//! Which connection the next command goes to.
//!
//! One pure function over what the connections have to do. The default is the least outstanding
//! payload, which evens out links of unequal speed: a slow one keeps its bytes longer.

use crate::name::Cid;

/// What one connection has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) cid: Cid,
    /// Payload of the commands under way, both directions.
    pub(super) outstanding_bytes: u64,
    /// Commands under way.
    pub(super) in_flight: usize,
    /// The socket takes nothing at present.
    pub(super) blocked: bool,
}

/// The connection with the least outstanding bytes, then the fewest commands; of equals the first.
/// One whose socket is full is not chosen.
pub(super) fn least_outstanding(loads: impl Iterator<Item = Load>) -> Option<Cid> {
    loads
        .filter(|load| !load.blocked)
        .min_by_key(|load| (load.outstanding_bytes, load.in_flight))
        .map(|load| load.cid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(cid: u16, outstanding_bytes: u64, in_flight: usize, blocked: bool) -> Load {
        Load {
            cid: Cid(cid),
            outstanding_bytes,
            in_flight,
            blocked,
        }
    }

    #[test]
    fn by_table() {
        let table: &[(&[Load], Option<u16>)] = &[
            (&[], None),
            (&[load(1, 0, 0, true)], None),
            (&[load(1, 9, 1, false)], Some(1)),
            (&[load(1, 9, 1, false), load(2, 8, 5, false)], Some(2)),
            (&[load(1, 8, 2, false), load(2, 8, 1, false)], Some(2)),
            (&[load(1, 8, 1, false), load(2, 8, 1, false)], Some(1)),
            (&[load(1, 0, 0, true), load(2, 8, 1, false)], Some(2)),
        ];
        for (loads, expected) in table {
            let chosen = least_outstanding(loads.iter().copied());
            assert_eq!(chosen, expected.map(Cid), "{loads:?}");
        }
    }
}
