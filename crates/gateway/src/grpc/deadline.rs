//! When a unary call must have its answer: what the client says in `grpc-timeout`, less what the answer needs to arrive.
//! Not here: what is answered then (each call).

use std::time::Duration;

use tokio::time::Instant;
use tonic::metadata::MetadataMap;

/// The answer must be on its way a little before the client gives up.
const MARGIN_PART: u32 = 20;
const MARGIN_MAX: Duration = Duration::from_millis(50);
const DIGITS_MAX: usize = 8;

/// The deadline of a call; `default` from now if the client names none, or one that cannot be read.
pub(super) fn deadline(metadata: &MetadataMap, default: Duration) -> Instant {
    let asked = metadata
        .get("grpc-timeout")
        .and_then(|it| it.to_str().ok())
        .and_then(parse);
    let within = asked.map_or(default, |asked| {
        asked - (asked / MARGIN_PART).min(MARGIN_MAX)
    });
    Instant::now() + within.min(Duration::from_secs(24 * 3_600))
}

/// At most eight digits and a unit (gRPC over HTTP/2, "Timeout").
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > DIGITS_MAX || !digits.bytes().all(|it| it.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(value.checked_mul(3_600)?)),
        "M" => Some(Duration::from_secs(value.checked_mul(60)?)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeout_is_read_in_every_unit() {
        assert_eq!(parse("2H"), Some(Duration::from_secs(7_200)));
        assert_eq!(parse("3M"), Some(Duration::from_secs(180)));
        assert_eq!(parse("15S"), Some(Duration::from_secs(15)));
        assert_eq!(parse("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse("99999999n"), Some(Duration::from_nanos(99_999_999)));
    }

    #[test]
    fn timeout_that_is_none_is_not_read() {
        for text in ["", "S", "5", "123456789S", "-1S", "1s", "1.5S", "é"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn deadline_leaves_time_for_the_answer() {
        let mut metadata = MetadataMap::new();
        metadata.insert("grpc-timeout", "1S".parse().unwrap());
        let left = deadline(&metadata, Duration::from_secs(9)) - Instant::now();
        assert!(
            left <= Duration::from_millis(950) && left > Duration::from_millis(500),
            "{left:?}"
        );
    }
}
