//! A client's message: `warren.v1.Message` and the canonical properties with the body. What clients say in fields and AMQP in
//! headers (group, fairness and deduplication keys, schedule, trace context) is kept in headers. Not here: what it asks for
//! (`hints`), exchange and routing key.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use prost_types::Timestamp;
use thiserror::Error;
use warren_types::{Properties, PropertiesBuilder, PropertiesError, Property, Table, Value};

use super::error::ApiError;
use super::hints::{
    DEDUP_KEY, DELAY, DELIVER_AT, FAIRNESS_KEY, FAIRNESS_WEIGHT, GROUP_KEY, TRACEPARENT,
    TRACESTATE, parse_ms,
};
use super::reason::Reason;
use super::value::{
    ValueError, fields_from_client, time_from_client, time_to_client, value_to_client,
};
use crate::v1;
use crate::v1::message::Schedule;

/// The longest span a protobuf duration holds: 10,000 years.
const DURATION_MS_MAX: u64 = 315_576_000_000 * 1000;

/// Why a client's message cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MessageError {
    #[error("{field} is {value}; the greatest is 255")]
    NotAnOctet { field: &'static str, value: u32 },
    #[error("{field} is negative or longer than 10,000 years")]
    BadDuration { field: &'static str },
    #[error("{field} is not a time")]
    BadTime { field: &'static str },
    #[error("{name:?} is not the name of a text property")]
    NotATextProperty { name: String },
    #[error("headers: {0}")]
    Headers(#[from] ValueError),
    #[error("{0}")]
    Properties(#[from] PropertiesError),
}

impl From<&MessageError> for ApiError {
    fn from(error: &MessageError) -> Self {
        let field = match error {
            MessageError::NotAnOctet { field, .. }
            | MessageError::BadDuration { field }
            | MessageError::BadTime { field } => field,
            MessageError::NotATextProperty { .. } => "properties.not_text",
            MessageError::Headers(_) => "headers",
            MessageError::Properties(_) => "properties",
        };
        Self::new(Reason::BadArgument, error.to_string()).field(field, error.to_string())
    }
}

/// The canonical properties and the body of a client's message.
///
/// # Errors
/// [`MessageError`] names the first field that cannot be kept.
pub fn message_from_client(mut message: v1::Message) -> Result<(Properties, Bytes), MessageError> {
    let headers = std::mem::take(&mut message.headers);
    let headers = headers_from_client(&message, headers)?;
    let properties = properties_from_client(message.properties, message.ttl, &headers)?;
    Ok((properties, message.body))
}

/// A message for a client.
#[must_use]
pub fn message_to_client(properties: &Properties, body: Bytes) -> v1::Message {
    let mut message = v1::Message {
        body,
        ..v1::Message::default()
    };
    if properties.is_empty() {
        return message;
    }
    let mut not_text = BTreeMap::new();
    if let Some(text) = properties.raw(Property::Expiration) {
        match canonical_ms(&text) {
            Some(ms) => message.ttl = Some(duration_to_client(Duration::from_millis(ms))),
            None => {
                not_text.insert(Property::Expiration.name().to_owned(), text);
            }
        }
    }
    let known = properties_to_client(properties, not_text);
    if known != v1::Properties::default() {
        message.properties = Some(known);
    }
    for (name, value) in properties.headers().unwrap_or_default().iter() {
        if !field_to_client(&mut message, name, value) {
            // A lookup finds the first of a name, so the first is what counts.
            message
                .headers
                .entry(name.to_owned())
                .or_insert_with(|| value_to_client(value));
        }
    }
    message
}

/// A span as protobuf has it; one beyond its range becomes the longest.
#[must_use]
pub fn duration_to_client(duration: Duration) -> prost_types::Duration {
    let duration = duration.min(Duration::from_millis(DURATION_MS_MAX));
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).expect("at most 10,000 years"),
        nanos: i32::try_from(duration.subsec_nanos()).expect("below a thousand million"),
    }
}

/// Milliseconds of a span, rounded up; `None` if it is negative or longer than 10,000 years.
#[must_use]
pub fn duration_ms_from_client(duration: &prost_types::Duration) -> Option<u64> {
    let seconds = u64::try_from(duration.seconds).ok()?;
    let nanos = u64::try_from(duration.nanos).ok()?;
    if nanos >= NANOS_PER_SECOND {
        return None;
    }
    let ms = seconds
        .checked_mul(1000)?
        .checked_add(nanos.div_ceil(NANOS_PER_MS))?;
    (ms <= DURATION_MS_MAX).then_some(ms)
}

/// Milliseconds since the Unix epoch, for a client.
#[must_use]
pub fn time_ms_to_client(ms: u64) -> Timestamp {
    let seconds = i64::try_from(ms / 1000).expect("a thousandth of 64 bits fits 63");
    let nanos = i32::try_from(ms % 1000 * NANOS_PER_MS).expect("below a thousand million");
    Timestamp { seconds, nanos }
}

const NANOS_PER_SECOND: u64 = 1_000_000_000;
const NANOS_PER_MS: u64 = 1_000_000;

/// Milliseconds since the Unix epoch, rounded up; negative before it.
fn time_ms_from_client(time: &Timestamp) -> Option<i64> {
    let nanos = u64::try_from(time.nanos)
        .ok()
        .filter(|it| *it < NANOS_PER_SECOND)?;
    let ms = i64::try_from(nanos.div_ceil(NANOS_PER_MS)).expect("at most 1000");
    time.seconds.checked_mul(1000)?.checked_add(ms)
}

/// A text property and its place in `warren.v1.Properties`.
type TextProperty = (Property, fn(&mut v1::Properties) -> &mut Option<String>);

const TEXT_PROPERTIES: [TextProperty; 9] = [
    (Property::ContentType, |it| &mut it.content_type),
    (Property::ContentEncoding, |it| &mut it.content_encoding),
    (Property::CorrelationId, |it| &mut it.correlation_id),
    (Property::ReplyTo, |it| &mut it.reply_to),
    (Property::MessageId, |it| &mut it.message_id),
    (Property::Type, |it| &mut it.r#type),
    (Property::UserId, |it| &mut it.user_id),
    (Property::AppId, |it| &mut it.app_id),
    (Property::ClusterId, |it| &mut it.cluster_id),
];

fn properties_to_client(
    properties: &Properties,
    not_text: BTreeMap<String, Bytes>,
) -> v1::Properties {
    let mut known = v1::Properties {
        delivery_mode: properties.delivery_mode().map(u32::from),
        priority: properties.priority().map(u32::from),
        timestamp: properties.timestamp().map(time_to_client),
        not_text,
        ..v1::Properties::default()
    };
    for (property, place) in TEXT_PROPERTIES {
        let Some(bytes) = properties.raw(property) else {
            continue;
        };
        match std::str::from_utf8(&bytes) {
            Ok(text) => *place(&mut known) = Some(text.to_owned()),
            Err(_) => {
                known.not_text.insert(property.name().to_owned(), bytes);
            }
        }
    }
    known
}

fn properties_from_client(
    properties: Option<v1::Properties>,
    ttl: Option<prost_types::Duration>,
    headers: &Table,
) -> Result<Properties, MessageError> {
    if properties.is_none() && ttl.is_none() && headers.is_empty() {
        return Ok(Properties::default());
    }
    let mut properties = properties.unwrap_or_default();
    let mut builder = PropertiesBuilder::new();
    for (name, bytes) in std::mem::take(&mut properties.not_text) {
        let text = TEXT_PROPERTIES.iter().map(|(property, _)| *property);
        let property = text
            .chain([Property::Expiration])
            .find(|it| it.name() == name)
            .ok_or(MessageError::NotATextProperty { name })?;
        builder = builder.raw(property, bytes);
    }
    for (property, place) in TEXT_PROPERTIES {
        if let Some(text) = place(&mut properties).take() {
            builder = builder.raw(property, Bytes::from(text));
        }
    }
    if let Some(mode) = properties.delivery_mode {
        builder = builder.delivery_mode(octet("properties.delivery_mode", mode)?);
    }
    if let Some(priority) = properties.priority {
        builder = builder.priority(octet("properties.priority", priority)?);
    }
    if let Some(time) = properties.timestamp {
        builder = builder.timestamp(time_from_client(&time));
    }
    if let Some(ttl) = ttl {
        builder = builder.expiration(&duration_ms("ttl", &ttl)?.to_string());
    }
    if !headers.is_empty() {
        builder = builder.headers(headers);
    }
    Ok(builder.build()?)
}

fn octet(field: &'static str, value: u32) -> Result<u8, MessageError> {
    u8::try_from(value).map_err(|_| MessageError::NotAnOctet { field, value })
}

fn duration_ms(field: &'static str, span: &prost_types::Duration) -> Result<u64, MessageError> {
    duration_ms_from_client(span).ok_or(MessageError::BadDuration { field })
}

/// Milliseconds, if the text is what they are written as and a protobuf duration holds them.
fn canonical_ms(text: &[u8]) -> Option<u64> {
    let ms = parse_ms(text).filter(|ms| *ms <= DURATION_MS_MAX)?;
    (ms.to_string().as_bytes() == text).then_some(ms)
}

/// The headers with what clients say in fields. A field wins over a header of its name.
fn headers_from_client(
    message: &v1::Message,
    mut headers: BTreeMap<String, v1::Value>,
) -> Result<Table, MessageError> {
    let fields = fields_of(message)?;
    for (name, _) in &fields {
        headers.remove(*name);
    }
    let mut table = fields_from_client(headers)?;
    for (name, value) in fields {
        table.push(name, value).map_err(ValueError::from)?;
    }
    Ok(table)
}

fn fields_of(message: &v1::Message) -> Result<Vec<(&'static str, Value)>, MessageError> {
    let mut fields = Vec::new();
    let texts = [
        (GROUP_KEY, &message.group_key),
        (FAIRNESS_KEY, &message.fairness_key),
        (DEDUP_KEY, &message.dedup_key),
        (TRACEPARENT, &message.traceparent),
        (TRACESTATE, &message.tracestate),
    ];
    for (name, text) in texts {
        if !text.is_empty() {
            fields.push((name, Value::from(text.as_str())));
        }
    }
    if message.fairness_weight != 0 {
        fields.push((
            FAIRNESS_WEIGHT,
            Value::I64(i64::from(message.fairness_weight)),
        ));
    }
    match &message.schedule {
        Some(Schedule::Delay(delay)) => {
            let ms = i64::try_from(duration_ms("delay", delay)?).expect("10,000 years fit");
            fields.push((DELAY, Value::I64(ms)));
        }
        Some(Schedule::DeliverAt(time)) => {
            let field = "deliver_at";
            let ms = time_ms_from_client(time).ok_or(MessageError::BadTime { field })?;
            fields.push((DELIVER_AT, Value::I64(ms)));
        }
        None => {}
    }
    Ok(fields)
}

/// Puts a header into its field, if it has one that says exactly the same; else answers false.
fn field_to_client(message: &mut v1::Message, name: &str, value: &Value) -> bool {
    let text = match name {
        GROUP_KEY => &mut message.group_key,
        FAIRNESS_KEY => &mut message.fairness_key,
        DEDUP_KEY => &mut message.dedup_key,
        TRACEPARENT => &mut message.traceparent,
        TRACESTATE => &mut message.tracestate,
        FAIRNESS_WEIGHT => return weight_to_client(message, value),
        DELAY | DELIVER_AT => return schedule_to_client(message, name, value),
        _ => return false,
    };
    match value.as_str() {
        Some(it) if text.is_empty() && !it.is_empty() => {
            it.clone_into(text);
            true
        }
        _ => false,
    }
}

fn weight_to_client(message: &mut v1::Message, value: &Value) -> bool {
    let Value::I64(weight) = value else {
        return false;
    };
    match u32::try_from(*weight) {
        Ok(weight) if weight != 0 && message.fairness_weight == 0 => {
            message.fairness_weight = weight;
            true
        }
        _ => false,
    }
}

fn schedule_to_client(message: &mut v1::Message, name: &str, value: &Value) -> bool {
    let (Value::I64(ms), None) = (value, &message.schedule) else {
        return false;
    };
    let schedule = if name == DELIVER_AT {
        let nanos = u64::try_from(ms.rem_euclid(1000)).expect("0 to 999") * NANOS_PER_MS;
        Schedule::DeliverAt(Timestamp {
            seconds: ms.div_euclid(1000),
            nanos: i32::try_from(nanos).expect("below a thousand million"),
        })
    } else {
        match u64::try_from(*ms) {
            Ok(ms) if ms <= DURATION_MS_MAX => {
                Schedule::Delay(duration_to_client(Duration::from_millis(ms)))
            }
            _ => return false,
        }
    };
    message.schedule = Some(schedule);
    true
}

#[cfg(test)]
mod tests;
