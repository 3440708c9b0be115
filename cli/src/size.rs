//! Sizes and durations as people write them on a command line.
//!
//! Suffixes are powers of 1024, as in dd, fio and qemu-img. `kB` and `MB` mean powers of 1000 to
//! some tools and of 1024 to others, so they are refused instead of guessed.

use std::time::Duration;

/// A size in bytes: decimal digits and an optional `k`, `M`, `G`, `T` or `P` (either case,
/// optionally followed by `i` or `iB`).
///
/// # Errors
/// [`SizeError`] names what is wrong.
pub(crate) fn parse_size(text: &str) -> Result<u64, SizeError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, suffix) = text.split_at(digits);
    if number.is_empty() {
        return Err(SizeError::NoNumber(text.to_owned()));
    }
    let number: u64 = number
        .parse()
        .map_err(|_| SizeError::TooLarge(text.to_owned()))?;
    let shift = shift_of(suffix).ok_or_else(|| SizeError::Suffix {
        text: text.to_owned(),
        suffix: suffix.to_owned(),
    })?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| SizeError::TooLarge(text.to_owned()))
}

fn shift_of(suffix: &str) -> Option<u32> {
    let mut chars = suffix.chars();
    let shift = match chars.next() {
        None => return Some(0),
        Some('k' | 'K') => 10,
        Some('m' | 'M') => 20,
        Some('g' | 'G') => 30,
        Some('t' | 'T') => 40,
        Some('p' | 'P') => 50,
        Some(_) => return None,
    };
    matches!(chars.as_str(), "" | "i" | "iB").then_some(shift)
}

/// A duration: decimal digits and an optional `ms`, `s` (default), `m` or `h`; above zero.
///
/// # Errors
/// [`SizeError`] names what is wrong.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, SizeError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, suffix) = text.split_at(digits);
    if number.is_empty() {
        return Err(SizeError::NoNumber(text.to_owned()));
    }
    let number: u64 = number
        .parse()
        .map_err(|_| SizeError::TooLarge(text.to_owned()))?;
    let unit_ms = match suffix {
        "ms" => 1,
        "" | "s" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        _ => return Err(SizeError::DurationSuffix(text.to_owned())),
    };
    match number.checked_mul(unit_ms) {
        // A year is beyond any use of these options and far from every overflow of time math.
        Some(ms) if ms > 365 * 24 * 3_600_000 => Err(SizeError::TooLarge(text.to_owned())),
        Some(0) => Err(SizeError::Zero(text.to_owned())),
        Some(ms) => Ok(Duration::from_millis(ms)),
        None => Err(SizeError::TooLarge(text.to_owned())),
    }
}

/// What is wrong with a size or a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SizeError {
    #[error("'{0}' does not begin with a number")]
    NoNumber(String),
    #[error(
        "'{suffix}' in '{text}' is no size suffix; use k, M, G or T (powers of 1024), as in 64k"
    )]
    Suffix { text: String, suffix: String },
    #[error("'{0}' has no known unit; use ms, s, m or h, as in 30s")]
    DurationSuffix(String),
    #[error("'{0}' is too large")]
    TooLarge(String),
    #[error("'{0}' must be above zero")]
    Zero(String),
}

/// Writes a size for people, with the largest binary unit that keeps it above one.
pub(crate) fn human(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut divisor = 1_u64;
    let mut name = "B";
    for unit in UNITS {
        let Some(next) = divisor.checked_mul(1024).filter(|next| bytes >= *next) else {
            break;
        };
        divisor = next;
        name = unit;
    }
    if bytes.is_multiple_of(divisor) {
        return format!("{} {name}", bytes / divisor);
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "rounded to one decimal for display"
    )]
    let value = bytes as f64 / divisor as f64;
    format!("{value:.1} {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_are_powers_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("4k", 4096),
            ("4K", 4096),
            ("1M", 1_048_576),
            ("1MiB", 1_048_576),
            ("2g", 2_147_483_648),
            ("1T", 1_099_511_627_776),
            ("16383P", 18_445_618_173_802_708_992),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_ambiguous_or_nonsense_is_refused() {
        for text in [
            "", "k", "-1", "+1", "1.5M", "4kB", "4MB", "4 k", "4kk", "0x10", "४",
        ] {
            assert!(parse_size(text).is_err(), "{text}");
        }
        assert_eq!(
            parse_size("16384P"),
            Err(SizeError::TooLarge("16384P".to_owned()))
        );
        let twenty = "99999999999999999999";
        assert_eq!(
            parse_size(twenty),
            Err(SizeError::TooLarge(twenty.to_owned()))
        );
    }

    #[test]
    fn durations_default_to_seconds() {
        assert_eq!(parse_duration("5"), Ok(Duration::from_secs(5)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        for text in [
            "",
            "s",
            "0",
            "5x",
            "1.5s",
            "-1",
            "9000h",
            "99999999999999999999",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn people_read_round_numbers_without_decimals() {
        assert_eq!(human(0), "0 B");
        assert_eq!(human(1023), "1023 B");
        assert_eq!(human(268_435_456), "256 MiB");
        assert_eq!(human(1536), "1.5 KiB");
        assert_eq!(human(u64::MAX), "16.0 EiB");
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in ".{0,24}") {
            let _ = parse_size(&text);
            let _ = parse_duration(&text);
        }

        #[test]
        fn numbers_without_a_suffix_are_themselves(number: u64) {
            proptest::prop_assert_eq!(parse_size(&number.to_string()), Ok(number));
            proptest::prop_assert!(!human(number).is_empty());
        }
    }
}
