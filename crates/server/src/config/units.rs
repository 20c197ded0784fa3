//! Sizes and durations as people write them. Not here: which settings use them.

use std::time::Duration;

const SIZES: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];
const DURATIONS_MS: [(&str, u64); 5] = [
    ("ms", 1),
    ("min", 60_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("s", 1_000),
];

/// `64 MiB` in bytes; a number without a unit is bytes.
pub(super) fn size(text: &str) -> Result<u64, Option<String>> {
    let (number, unit) = split(text).ok_or(None)?;
    let known = SIZES
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(unit));
    let scale = match known {
        Some((_, scale)) => *scale,
        None if unit.is_empty() => 1,
        None => return Err(None),
    };
    number.checked_mul(scale).ok_or(None)
}

/// `200ms`; the unit is part of it, except for zero.
pub(super) fn duration(text: &str) -> Result<Duration, Option<String>> {
    let (number, unit) = split(text).ok_or(None)?;
    let known = DURATIONS_MS.iter().find(|(name, _)| *name == unit);
    let scale = match known {
        Some((_, scale)) => *scale,
        None if unit.is_empty() && number == 0 => 1,
        None => return Err(None),
    };
    number
        .checked_mul(scale)
        .map(Duration::from_millis)
        .ok_or(None)
}

pub(super) fn show_size(bytes: u64) -> String {
    let binary = SIZES.iter().filter(|(name, _)| name.ends_with("iB"));
    let fits = binary
        .into_iter()
        .find(|(_, scale)| bytes >= *scale && bytes.is_multiple_of(*scale));
    match fits {
        Some((name, scale)) => format!("{}{name}", bytes / scale),
        None => format!("{bytes}B"),
    }
}

pub(super) fn show_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    if ms.is_multiple_of(1_000) {
        format!("{}s", ms / 1_000)
    } else {
        format!("{ms}ms")
    }
}

/// Number and unit, with or without space between.
fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_units_are_read_and_shown() {
        for (text, bytes) in [
            ("64 MiB", 64 << 20),
            ("1GiB", 1 << 30),
            ("5 kb", 5_000),
            ("7", 7),
            ("12 B", 12),
            ("0", 0),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "MiB",
            "-1 MiB",
            "1.5 GiB",
            "64 Mi",
            "99999999999 GiB",
            "1 MiB 2",
        ] {
            assert_eq!(size(text), Err(None), "{text}");
        }
        assert_eq!(show_size(64 << 20), "64MiB");
        assert_eq!(show_size(1_000), "1000B");
    }

    #[test]
    fn duration_needs_its_unit() {
        for (text, ms) in [
            ("200ms", 200),
            ("3 s", 3_000),
            ("2min", 120_000),
            ("1h", 3_600_000),
            ("0", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["200", "s", "-1s", "1.5s", "1 week"] {
            assert_eq!(duration(text), Err(None), "{text}");
        }
        assert_eq!(show_duration(Duration::from_millis(1_500)), "1500ms");
        assert_eq!(show_duration(Duration::from_secs(30)), "30s");
    }
}
