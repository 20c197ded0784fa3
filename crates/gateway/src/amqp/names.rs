//! Names in a client's methods as the broker's names. Not here: which names exist.

use std::borrow::Cow;

use warren_amqp::AmqpError;
use warren_types::{ExchangeName, NameError, QueueName, RoutingKey};

/// Carriage returns and line feeds are no part of a declared name (features C22).
fn stripped(text: &str) -> Cow<'_, str> {
    if text.contains(['\r', '\n']) {
        Cow::Owned(text.replace(['\r', '\n'], ""))
    } else {
        Cow::Borrowed(text)
    }
}

fn refused(error: NameError) -> AmqpError {
    AmqpError::precondition_failed(error)
}

/// # Errors
/// 406 if it cannot be a queue's name.
pub(super) fn queue_name(text: &str) -> Result<QueueName, AmqpError> {
    QueueName::try_from(&*stripped(text)).map_err(refused)
}

/// # Errors
/// 406 if it cannot be an exchange's name.
pub(super) fn exchange_name(text: &str) -> Result<ExchangeName, AmqpError> {
    ExchangeName::try_from(&*stripped(text)).map_err(refused)
}

/// # Errors
/// 406 if it cannot be a routing key.
pub(super) fn routing_key(text: &str) -> Result<RoutingKey, AmqpError> {
    RoutingKey::try_from(text).map_err(refused)
}

/// The queue that a method means: the one it names, else the last one declared on the channel (features C26).
///
/// # Errors
/// 404 if it names none and none was declared; 406 if it cannot be a queue's name.
pub(super) fn queue_or_last(text: &str, last: Option<&QueueName>) -> Result<QueueName, AmqpError> {
    if !text.is_empty() {
        return queue_name(text);
    }
    last.cloned()
        .ok_or_else(|| AmqpError::not_found("no previously declared queue"))
}

/// The last exchange and routing key of a channel's publishes: a publisher repeats itself, so that most messages share them.
#[derive(Debug, Default)]
pub(super) struct NameCache {
    exchange: Option<ExchangeName>,
    key: Option<RoutingKey>,
}

impl NameCache {
    /// # Errors
    /// If the text cannot be an exchange's name.
    pub(super) fn exchange(&mut self, text: &str) -> Result<ExchangeName, NameError> {
        if let Some(known) = self.exchange.as_ref().filter(|it| it.as_str() == text) {
            return Ok(known.clone());
        }
        let name = ExchangeName::try_from(text)?;
        self.exchange = Some(name.clone());
        Ok(name)
    }

    /// # Errors
    /// If the text cannot be a routing key.
    pub(super) fn key(&mut self, text: &str) -> Result<RoutingKey, NameError> {
        if let Some(known) = self.key.as_ref().filter(|it| it.as_str() == text) {
            return Ok(known.clone());
        }
        let key = RoutingKey::try_from(text)?;
        self.key = Some(key.clone());
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use warren_amqp::Code;

    use super::*;

    #[test]
    fn line_ends_are_no_part_of_a_name() {
        assert_eq!(queue_name("a\r\nb").unwrap().as_str(), "ab");
        assert_eq!(
            queue_name("\n").unwrap_err().code(),
            Code::PreconditionFailed
        );
    }

    #[test]
    fn empty_name_means_the_last_declared_queue() {
        let last = queue_name("last").unwrap();
        assert_eq!(queue_or_last("", Some(&last)).unwrap(), last);
        assert_eq!(queue_or_last("q", Some(&last)).unwrap().as_str(), "q");
        assert_eq!(queue_or_last("", None).unwrap_err().code(), Code::NotFound);
    }

    #[test]
    fn repeated_names_are_shared() {
        let mut cache = NameCache::default();
        let (first, again) = (cache.key("k").unwrap(), cache.key("k").unwrap());
        assert_eq!(first.as_str().as_ptr(), again.as_str().as_ptr());
        assert_eq!(cache.key("other").unwrap().as_str(), "other");
    }
}
