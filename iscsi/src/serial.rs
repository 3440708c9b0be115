//! Sequence numbers of RFC 7143 §4.2.2 and §11, one type each so that they cannot be mixed up.
//!
//! CmdSN and StatSN follow the serial number arithmetic of RFC 1982 with 32 bits; DataSN and
//! R2TSN count from 0 within one task and may wrap like any 32-bit counter.

macro_rules! serial {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
        pub struct $name(pub u32);

        impl $name {
            /// The number after this one.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.wrapping_add(1))
            }

            /// The number `by` steps later.
            #[must_use]
            pub const fn plus(self, by: u32) -> Self {
                Self(self.0.wrapping_add(by))
            }

            /// Steps from `earlier` to this one, modulo 2³².
            #[must_use]
            pub const fn since(self, earlier: Self) -> u32 {
                self.0.wrapping_sub(earlier.0)
            }

            /// Whether this one comes before `other` (RFC 1982; false when undefined).
            #[must_use]
            pub const fn precedes(self, other: Self) -> bool {
                let distance = other.since(self);
                distance != 0 && distance < 1 << 31
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
    };
}

serial! {
    /// Command sequence number, per session (§4.2.2.1).
    CmdSn
}
serial! {
    /// Status sequence number, per connection (§4.2.2.2).
    StatSn
}
serial! {
    /// Data sequence number, per task or per R2T burst (§4.2.2.3).
    DataSn
}
serial! {
    /// R2T sequence number, per task (§11.8.2).
    R2tSn
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_survives_the_wrap() {
        assert!(CmdSn(u32::MAX).precedes(CmdSn(0)));
        assert!(!CmdSn(0).precedes(CmdSn(u32::MAX)));
        assert!(!CmdSn(7).precedes(CmdSn(7)));
        assert_eq!(CmdSn(1).since(CmdSn(u32::MAX)), 2);
    }

    #[test]
    fn opposite_numbers_have_no_order() {
        assert!(!CmdSn(0).precedes(CmdSn(1 << 31)));
        assert!(!CmdSn(1 << 31).precedes(CmdSn(0)));
    }
}
