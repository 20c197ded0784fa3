//! What messages of a run carry beside their body: keys, priorities, times. Not here: the body (`body`).

use std::time::Duration;

use anyhow::Result;
use warren_client::Message;
use warren_types::{PropertiesBuilder, Table, Value};

const GROUP_KEY: &str = "x-group-key";

/// What each message carries.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Shape {
    /// So many keys in turn; 0 = none.
    pub(super) keys: u64,
    /// So many priorities in turn; 0 = none.
    pub(super) priorities: u8,
    pub(super) ttl: Option<Duration>,
    pub(super) delay: Option<Duration>,
}

impl Shape {
    /// The key of a publisher's message with this number.
    pub(super) fn key(self, sequence: u64) -> Option<u64> {
        sequence.checked_rem(self.keys)
    }

    /// The message with what it carries.
    pub(super) fn apply(self, message: Message, publisher: u32, sequence: u64) -> Result<Message> {
        if self.is_plain() {
            return Ok(message);
        }
        let mut properties = PropertiesBuilder::new();
        if let Some(key) = self.key(sequence) {
            let mut headers = Table::new();
            headers.insert(GROUP_KEY, Value::from(format!("{publisher}-{key}")))?;
            properties = properties.headers(&headers);
        }
        if let Some(priority) = sequence.checked_rem(u64::from(self.priorities)) {
            properties = properties.priority(u8::try_from(priority).unwrap_or(u8::MAX));
        }
        if let Some(ttl) = self.ttl {
            properties = properties.expiration(&ttl.as_millis().to_string());
        }
        let message = message.with_properties(properties.build()?);
        Ok(match self.delay {
            Some(delay) => message.after(delay)?,
            None => message,
        })
    }

    /// A queue hands them out in the order in which they were published.
    pub(super) fn is_in_order(self) -> bool {
        self.keys == 0 && self.priorities == 0 && self.delay.is_none()
    }

    /// Messages are as they come without any of it.
    fn is_plain(self) -> bool {
        let Self {
            keys,
            priorities,
            ttl,
            delay,
        } = self;
        keys == 0 && priorities == 0 && ttl.is_none() && delay.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_carry_what_they_are_to_carry() {
        let shape = Shape {
            keys: 3,
            priorities: 2,
            ttl: Some(Duration::from_secs(2)),
            delay: Some(Duration::from_secs(9)),
        };
        let message = shape.apply(Message::new("body"), 7, 5).unwrap();
        let properties = &message.properties;
        let headers = properties.headers().unwrap();
        assert_eq!(headers.get(GROUP_KEY), Some(&Value::from("7-2")));
        assert!(headers.get("x-delay").is_some());
        assert_eq!(properties.priority(), Some(1));
        assert_eq!(properties.expiration(), Some("2000"));
        assert!(!shape.is_plain());
        assert!(Shape::default().is_plain());
    }
}
