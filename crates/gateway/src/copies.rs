//! Copies of a message under further routing keys: the headers `CC` and `BCC` (features B10). Not here: routing by them (`warren-topology`).

use thiserror::Error;
use warren_types::{Properties, PropertiesBuilder, Property, RoutingKey, Value};

/// Header of further routing keys (array of long strings).
pub(crate) const CC: &str = "CC";
/// The same, and taken out before the message is stored.
const BCC: &str = "BCC";
/// Further routing keys of one message.
pub(crate) const FURTHER_KEYS_MAX: usize = 1_000;

/// AMQP 0-9-1: 406.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub(crate) enum CopiesError {
    #[error("the header {header} is not an array of long strings")]
    NotStrings { header: &'static str },
    #[error("a key in the header {header} has more than 255 bytes")]
    KeyTooLong { header: &'static str },
    #[error("there are more than {FURTHER_KEYS_MAX} keys in CC and BCC")]
    TooMany,
}

/// The keys in `CC` and `BCC`.
///
/// # Errors
/// [`CopiesError`]: they are something else than keys.
pub(crate) fn further_keys(properties: &Properties) -> Result<Vec<RoutingKey>, CopiesError> {
    let mut keys = Vec::new();
    if properties.is_empty() {
        return Ok(keys);
    }
    for header in [CC, BCC] {
        let Some(value) = properties.header(header) else {
            continue;
        };
        let values = value.as_array().ok_or(CopiesError::NotStrings { header })?;
        if keys.len() + values.len() > FURTHER_KEYS_MAX {
            return Err(CopiesError::TooMany);
        }
        for value in values {
            let text = Value::as_str(value).ok_or(CopiesError::NotStrings { header })?;
            let key = RoutingKey::try_from(text).map_err(|_| CopiesError::KeyTooLong { header })?;
            keys.push(key);
        }
    }
    Ok(keys)
}

/// As it is stored: nobody learns of the keys in `BCC`.
pub(crate) fn without_blind_copies(properties: Properties) -> Properties {
    if properties.is_empty() || properties.header(BCC).is_none() {
        return properties;
    }
    let mut headers = properties.headers().unwrap_or_default();
    headers.remove(BCC);
    let builder = PropertiesBuilder::from(&properties);
    let builder = if headers.is_empty() {
        builder.remove(Property::Headers)
    } else {
        builder.headers(&headers)
    };
    // What was a list stays one with a header less.
    builder.build().unwrap_or(properties)
}

#[cfg(test)]
mod tests {
    use warren_types::Table;

    use super::*;

    fn properties(headers: &Table) -> Properties {
        let builder = PropertiesBuilder::new().message_id("m").headers(headers);
        builder.build().unwrap()
    }

    fn list(keys: &[&str]) -> Value {
        Value::Array(keys.iter().map(|key| Value::from(*key)).collect())
    }

    #[test]
    fn keys_of_both_headers_are_read_and_the_blind_ones_leave() {
        let headers = Table::new()
            .with("CC", list(&["a", "b"]))
            .with("BCC", list(&["c"]))
            .with("mine", "x");
        let properties = properties(&headers);
        let keys = further_keys(&properties).unwrap();
        assert_eq!(
            keys.iter().map(RoutingKey::as_str).collect::<Vec<_>>(),
            ["a", "b", "c"]
        );
        let stored = without_blind_copies(properties);
        assert_eq!(stored.message_id(), Some("m"));
        assert_eq!(
            stored.headers().unwrap(),
            Table::new().with("CC", list(&["a", "b"])).with("mine", "x")
        );
    }

    #[test]
    fn headers_of_blind_copies_alone_leave_wholly() {
        let stored = without_blind_copies(properties(&Table::new().with("BCC", list(&["c"]))));
        assert!(stored.headers().is_none());
        assert_eq!(stored.message_id(), Some("m"));
    }

    #[test]
    fn keys_of_another_type_are_refused() {
        for headers in [
            Table::new().with("CC", "a"),
            Table::new().with("BCC", Value::Array(vec![Value::I32(1)])),
        ] {
            let refused = further_keys(&properties(&headers)).unwrap_err();
            assert!(matches!(refused, CopiesError::NotStrings { .. }));
        }
        let many: Vec<&str> = vec!["k"; FURTHER_KEYS_MAX + 1];
        let headers = Table::new().with("CC", list(&many));
        assert_eq!(
            further_keys(&properties(&headers)),
            Err(CopiesError::TooMany)
        );
    }
}
