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
    /// A command was sent again on it, and no new one since.
    pub(super) owes_command: bool,
}

/// The connection with the least outstanding bytes, then the fewest commands; of equals the first.
/// One whose socket is full is not chosen.
///
/// Before all others goes a connection on which a command was sent again: the next new one has to
/// follow it there, so that the copy cannot show up when the numbers have come round
/// (RFC 7143 §4.2.2.1, §10.4).
pub(super) fn least_outstanding(loads: impl Iterator<Item = Load>) -> Option<Cid> {
    loads
        .filter(|load| !load.blocked)
        .min_by_key(|load| (!load.owes_command, load.outstanding_bytes, load.in_flight))
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
            owes_command: false,
        }
    }

    #[test]
    fn a_command_sent_again_is_followed_by_a_new_one_there() {
        let owing = Load {
            owes_command: true,
            ..load(2, 9, 3, false)
        };
        let idle = load(1, 0, 0, false);
        assert_eq!(least_outstanding([idle, owing].into_iter()), Some(Cid(2)));
        let full = Load {
            blocked: true,
            ..owing
        };
        assert_eq!(least_outstanding([idle, full].into_iter()), Some(Cid(1)));
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
