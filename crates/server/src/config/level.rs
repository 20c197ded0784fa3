//! A level of a resource, as bytes, as a share of what there is, or the greater of both. Not here: which settings use it (`limits`).

use warren_types::Level;

use super::units::{show_size, size};

/// `60%`, `2 GiB`, or `2 GiB, 5%`.
///
/// # Errors
/// It is none of these; nothing more can be said.
pub fn level(text: &str) -> Result<Level, Option<String>> {
    let mut found = Level {
        bytes: 0,
        percent: 0,
    };
    for (at, part) in text.split(',').map(str::trim).enumerate() {
        match part.strip_suffix('%') {
            Some(number) => {
                let percent: u8 = number.trim().parse().map_err(|_| None)?;
                if percent > 100 || found.percent > 0 {
                    return Err(None);
                }
                found.percent = percent;
            }
            None if at == 0 => found.bytes = size(part)?,
            None => return Err(None),
        }
    }
    Ok(found)
}

/// As [`level`] reads it.
#[must_use]
pub fn show_level(level: Level) -> String {
    match level {
        Level { bytes, percent: 0 } => show_size(bytes),
        Level { bytes: 0, percent } => format!("{percent}%"),
        Level { bytes, percent } => format!("{},{percent}%", show_size(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn level_is_bytes_or_a_share_or_the_greater_of_both() {
        let of = |text: &str, total: u64| level(text).unwrap().of(total);
        assert_eq!(of("60%", 1_000), 600);
        assert_eq!(of("2 GiB", 1_000), 2 << 30);
        assert_eq!(of("2 GiB, 5%", 100 << 30), 5 << 30);
        assert_eq!(of("2 GiB, 5%", 10 << 30), 2 << 30);
        assert_eq!(of("0", u64::MAX), 0);
        for text in ["", "5", "0", "60%", "2GiB,5%"] {
            if let Ok(level) = level(text) {
                assert_eq!(super::level(&show_level(level)), Ok(level), "{text}");
            }
        }
        for text in ["", "101%", "5%,6%", "5%, 2 GiB", "%", "-1%", "2 GiB, 3 GiB"] {
            assert_eq!(level(text), Err(None), "{text}");
        }
    }
}
