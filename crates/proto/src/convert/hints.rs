//! What a message's properties ask of the broker: priority, time to live, schedule, keys, trace context. The same for every
//! protocol, since all of it stands in the canonical properties. Not here: how queues follow it.

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;
use warren_types::{Priority, Properties, Property, Table, Value};

/// Header of the message group (text).
pub const GROUP_KEY: &str = "x-group-key";
/// Header of the key of fair dispatch (text).
pub const FAIRNESS_KEY: &str = "x-fairness-key";
/// Header of the weight of that key (integer, 1 to 1000).
pub const FAIRNESS_WEIGHT: &str = "x-fairness-weight";
/// Header of the deduplication key (text).
pub const DEDUP_KEY: &str = "x-deduplication-header";
/// Header of a relative schedule (integer, milliseconds).
pub const DELAY: &str = "x-delay";
/// Header of an absolute schedule (timestamp, or integer milliseconds since the Unix epoch).
pub const DELIVER_AT: &str = "x-deliver-at";
/// Header of the W3C trace context (text).
pub const TRACEPARENT: &str = "traceparent";
/// Header of the W3C trace state (text).
pub const TRACESTATE: &str = "tracestate";

/// The greatest weight of a fairness key.
pub const FAIRNESS_WEIGHT_MAX: u32 = 1000;

/// When a message becomes ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Schedule {
    #[default]
    Now,
    /// So many milliseconds after it is enqueued.
    AfterMs(u64),
    /// At so many milliseconds since the Unix epoch.
    AtMs(u64),
}

/// Why properties ask for something impossible.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HintError {
    #[error("expiration is not a number of milliseconds")]
    BadExpiration,
}

/// What a message's properties ask for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Hints {
    pub priority: Priority,
    /// Milliseconds from when it is enqueued.
    pub ttl_ms: Option<u64>,
    pub schedule: Schedule,
    pub group_key: Option<Bytes>,
    pub fairness_key: Option<Bytes>,
    /// 1 to [`FAIRNESS_WEIGHT_MAX`].
    pub fairness_weight: u32,
    /// The header, else the message id. For queues that deduplicate.
    pub dedup_key: Option<Bytes>,
    /// `traceparent`, then a line feed and `tracestate` if there is one; empty = none.
    pub trace: Bytes,
}

impl Hints {
    /// Reads them out of the properties.
    ///
    /// # Errors
    /// [`HintError`] if the expiration is not a number (AMQP 0-9-1: 406 PRECONDITION_FAILED).
    pub fn read(properties: &Properties) -> Result<Self, HintError> {
        let ttl_ms = match properties.raw(Property::Expiration) {
            Some(text) => Some(parse_ms(&text).ok_or(HintError::BadExpiration)?),
            None => None,
        };
        let headers = properties.headers().unwrap_or_default();
        Ok(Self {
            priority: properties
                .priority()
                .map_or(Priority::DEFAULT, Priority::clamped),
            ttl_ms,
            schedule: schedule(&headers),
            group_key: key(&headers, GROUP_KEY),
            fairness_key: key(&headers, FAIRNESS_KEY),
            fairness_weight: fairness_weight(&headers),
            dedup_key: key(&headers, DEDUP_KEY).or_else(|| properties.raw(Property::MessageId)),
            trace: trace(&headers),
        })
    }
}

/// Milliseconds as AMQP writes them: decimal digits and nothing else.
pub(super) fn parse_ms(text: &[u8]) -> Option<u64> {
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn schedule(headers: &Table) -> Schedule {
    let at = match headers.get(DELIVER_AT) {
        Some(Value::Timestamp(seconds)) => Some(seconds.saturating_mul(1000)),
        // A time before the epoch is past.
        Some(other) => other.as_int().map(|it| u64::try_from(it).unwrap_or(0)),
        None => None,
    };
    if let Some(at) = at {
        return Schedule::AtMs(at);
    }
    match headers.get_int(DELAY).map(u64::try_from) {
        Some(Ok(delay)) if delay > 0 => Schedule::AfterMs(delay),
        _ => Schedule::Now,
    }
}

/// The message group that a message's properties name.
#[must_use]
pub fn group_key(properties: &Properties) -> Option<Bytes> {
    key(&properties.headers().unwrap_or_default(), GROUP_KEY)
}

fn key(headers: &Table, name: &str) -> Option<Bytes> {
    match headers.get(name)? {
        Value::LongString(it) | Value::Bytes(it) if !it.is_empty() => Some(it.clone()),
        Value::LongString(_)
        | Value::Bytes(_)
        | Value::Bool(_)
        | Value::I8(_)
        | Value::U8(_)
        | Value::I16(_)
        | Value::U16(_)
        | Value::I32(_)
        | Value::U32(_)
        | Value::I64(_)
        | Value::I64Upper(_)
        | Value::F32(_)
        | Value::F64(_)
        | Value::Decimal(_)
        | Value::Array(_)
        | Value::Timestamp(_)
        | Value::Table(_)
        | Value::Void => None,
    }
}

fn fairness_weight(headers: &Table) -> u32 {
    let weight = headers.get_int(FAIRNESS_WEIGHT).unwrap_or(1);
    u32::try_from(weight.clamp(1, i64::from(FAIRNESS_WEIGHT_MAX))).expect("clamped to 1..=1000")
}

fn trace(headers: &Table) -> Bytes {
    let Some(parent) = headers.get_str(TRACEPARENT) else {
        return Bytes::new();
    };
    let state = headers.get_str(TRACESTATE).unwrap_or_default();
    let mut out = BytesMut::with_capacity(parent.len() + 1 + state.len());
    out.put_slice(parent.as_bytes());
    if !state.is_empty() {
        out.put_u8(b'\n');
        out.put_slice(state.as_bytes());
    }
    out.freeze()
}

#[cfg(test)]
mod tests;
