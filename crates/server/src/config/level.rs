//! A level of a resource, as bytes, as a share of what there is, or the greater of both. Not here: which settings use it (`limits`).

use super::units::{show_size, size};

/// Where a resource counts as short.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Level {
    pub bytes: u64,
    /// Of what there is, 0 to 100.
    pub percent: u8,
}

impl Level {
    /// The greater of both, for so much of the resource.
    #[must_use]
    pub fn of(self, total_bytes: u64) -> u64 {
        let share = u128::from(total_bytes) * u128::from(self.percent) / 100;
        self.bytes.max(u64::try_from(share).unwrap_or(u64::MAX))
    }
}

/// `60%`, `2 GiB`, or `2 GiB, 5%`.
pub(super) fn level(text: &str) -> Result<Level, Option<String>> {
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

pub(super) fn show_level(level: Level) -> String {
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
