//! Arguments of `iscsi pr`.

use clap::{Args, Subcommand, ValueEnum};
use initiator::reservation::{ReservationKey, ReservationType};

use super::UnitArgs;

#[derive(Debug, Args)]
pub(crate) struct PrArgs {
    #[command(subcommand)]
    pub(crate) action: PrAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PrAction {
    /// Show registrations, the reservation, and what the device knows.
    Show(UnitArgs),
    /// Register a key on every path; an earlier key of these paths is replaced.
    Register(RegisterArgs),
    /// Take the registration of every path away.
    Unregister(KeyArgs),
    /// Reserve the logical unit for the registered paths.
    Reserve(ReserveArgs),
    /// Give the reservation back; also when the path that holds it is away.
    Release(KeyArgs),
    /// Take ALL registrations and the reservation away, those of other hosts as well.
    Clear(KeyArgs),
    /// Take another host's registrations away, and its reservation over.
    Preempt(PreemptArgs),
}

/// A registered logical unit.
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    #[command(flatten)]
    pub(crate) unit: UnitArgs,
    /// Our reservation key, in hexadecimal.
    #[arg(long = "pr-key", id = "pr_key", value_name = "KEY", value_parser = key_of)]
    pub(crate) key: ReservationKey,
}

#[derive(Debug, Args)]
pub(crate) struct RegisterArgs {
    #[command(flatten)]
    pub(crate) with: KeyArgs,
    /// Registrations and the reservation shall survive a loss of the target's power (APTPL).
    #[arg(long)]
    pub(crate) persist: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ReserveArgs {
    #[command(flatten)]
    pub(crate) with: KeyArgs,
    /// Whom the reservation keeps out.
    #[arg(long = "type", value_name = "TYPE", value_enum)]
    pub(crate) kind: Kind,
}

#[derive(Debug, Args)]
pub(crate) struct PreemptArgs {
    #[command(flatten)]
    pub(crate) with: ReserveArgs,
    /// The key to be taken away, in hexadecimal.
    #[arg(long, value_name = "KEY", value_parser = key_of)]
    pub(crate) victim: ReservationKey,
    /// End the commands of those hosts as well.
    #[arg(long)]
    pub(crate) abort: bool,
}

/// Reservation types by the short names of the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Write exclusive: one path writes.
    We,
    /// Exclusive access: one path reads and writes.
    Ea,
    /// Write exclusive, registrants only.
    Wero,
    /// Exclusive access, registrants only.
    Earo,
    /// Write exclusive, all registrants hold it.
    Wear,
    /// Exclusive access, all registrants hold it.
    Eaar,
}

impl From<Kind> for ReservationType {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::We => Self::WriteExclusive,
            Kind::Ea => Self::ExclusiveAccess,
            Kind::Wero => Self::WriteExclusiveRegistrantsOnly,
            Kind::Earo => Self::ExclusiveAccessRegistrantsOnly,
            Kind::Wear => Self::WriteExclusiveAllRegistrants,
            Kind::Eaar => Self::ExclusiveAccessAllRegistrants,
        }
    }
}

/// As `sg_persist` and `mpathpersist` read it: hexadecimal, with or without `0x`.
fn key_of(text: &str) -> Result<ReservationKey, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    match u64::from_str_radix(digits, 16) {
        Ok(key) if key != 0 && !digits.starts_with('+') => Ok(ReservationKey(key)),
        _ => Err("a key has 1 to 16 hexadecimal digits and is not 0".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        assert_eq!(key_of("0x12aB"), Ok(ReservationKey(0x12ab)));
        assert_eq!(key_of("ffffffffffffffff"), Ok(ReservationKey(u64::MAX)));
        for bad in ["", "0", "0x0", "g", "10000000000000000", "+1", "-1"] {
            assert!(key_of(bad).is_err(), "{bad}");
        }
    }
}
