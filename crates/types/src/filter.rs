//! Filters of messages: which of a queue's messages somebody means (features X6, X10). Not here: reading the text (`parse`), where the
//! messages come from (`shard`).
//!
//! A filter is comparisons joined by `and`: `headers.tenant = acme and enqueued_at < 2026-01-31T08:00:00Z`.

mod parse;
mod time;

use crate::ids::{Position, Priority, ShardTime};
use crate::properties::Properties;
use crate::table::Value;

pub use parse::{FILTER_BYTES_MAX, FILTER_TERMS_MAX, FilterError};

/// Which messages are meant. All of its terms hold for each of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// As it was written: it can be read again.
    text: Box<str>,
    terms: Vec<Term>,
}

/// What a filter sees of a message.
#[derive(Clone, Copy, Debug)]
pub struct Filtered<'a> {
    pub position: Position,
    pub priority: Priority,
    pub delivery_count: u32,
    pub enqueued_at: ShardTime,
    pub exchange: &'a str,
    pub routing_key: &'a str,
    pub properties: &'a Properties,
    pub body_bytes: u64,
    /// It was dead-lettered by the broker: its `x-last-death-*` headers are no publisher's.
    pub died: bool,
    /// Why it is parked, if it is.
    pub parked: Option<&'a str>,
}

/// One comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    field: Field,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Field {
    Position,
    Priority,
    DeliveryCount,
    BodyBytes,
    EnqueuedAt,
    Exchange,
    RoutingKey,
    /// The queue it died in.
    SourceQueue,
    /// Why it died or was parked.
    Cause,
    Timestamp,
    Text(TextProperty),
    Header(Box<str>),
}

/// Properties that are text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TextProperty {
    MessageId,
    CorrelationId,
    Type,
    UserId,
    AppId,
    ReplyTo,
    ContentType,
    ContentEncoding,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Present,
    Absent,
    Compare(Operator, Literal),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    StartsWith,
}

/// What a field is compared with, in each form it can have.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Literal {
    text: Box<str>,
    number: Option<i64>,
    /// Milliseconds since the epoch.
    time_ms: Option<i64>,
}

/// What a message has in a field.
#[derive(Clone, Copy, Debug)]
enum Fact<'a> {
    Absent,
    Text(&'a str),
    Number(i64),
    Bool(bool),
    /// Milliseconds since the epoch.
    Time(i64),
    /// Tables, arrays, fractions, bytes: there, but compared with nothing.
    Other,
}

impl Filter {
    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether a message is meant. A field that it lacks, or has in a form that cannot be compared, equals nothing: only `!=` holds.
    #[must_use]
    pub fn matches(&self, message: &Filtered<'_>) -> bool {
        self.terms.iter().all(|it| it.holds(message))
    }
}

impl Term {
    fn holds(&self, message: &Filtered<'_>) -> bool {
        if let Field::Header(name) = &self.field {
            let value = message.properties.header(name);
            return self
                .test
                .holds(value.as_ref().map_or(Fact::Absent, of_header));
        }
        let properties = message.properties;
        let death = |name: &str| properties.header(name).filter(|_| message.died);
        let died: Option<Value>;
        let fact = match &self.field {
            Field::Position => number(message.position.0),
            Field::Priority => Fact::Number(message.priority.level().into()),
            Field::DeliveryCount => Fact::Number(message.delivery_count.into()),
            Field::BodyBytes => number(message.body_bytes),
            Field::EnqueuedAt => time(message.enqueued_at.0),
            Field::Exchange => Fact::Text(message.exchange),
            Field::RoutingKey => Fact::Text(message.routing_key),
            Field::SourceQueue => {
                died = death("x-last-death-queue");
                died.as_ref().map_or(Fact::Absent, of_header)
            }
            Field::Cause => {
                died = death("x-last-death-reason");
                let died = died.as_ref().map_or(Fact::Absent, of_header);
                message.parked.map_or(died, Fact::Text)
            }
            Field::Timestamp => {
                let seconds = properties.timestamp();
                seconds.map_or(Fact::Absent, |it| time(it.saturating_mul(1_000)))
            }
            Field::Text(property) => property.of(properties).map_or(Fact::Absent, Fact::Text),
            Field::Header(_) => Fact::Absent,
        };
        self.test.holds(fact)
    }
}

impl TextProperty {
    fn of(self, properties: &Properties) -> Option<&str> {
        match self {
            Self::MessageId => properties.message_id(),
            Self::CorrelationId => properties.correlation_id(),
            Self::Type => properties.message_type(),
            Self::UserId => properties.user_id(),
            Self::AppId => properties.app_id(),
            Self::ReplyTo => properties.reply_to(),
            Self::ContentType => properties.content_type(),
            Self::ContentEncoding => properties.content_encoding(),
        }
    }
}

impl Test {
    fn holds(&self, fact: Fact<'_>) -> bool {
        match self {
            Self::Present => !matches!(fact, Fact::Absent),
            Self::Absent => matches!(fact, Fact::Absent),
            Self::Compare(operator, literal) => operator.holds(fact, literal),
        }
    }
}

impl Operator {
    fn holds(self, fact: Fact<'_>, literal: &Literal) -> bool {
        if self == Self::StartsWith {
            return matches!(fact, Fact::Text(text) if text.starts_with(&*literal.text));
        }
        let order = match fact {
            Fact::Text(text) => Some(text.cmp(&literal.text)),
            Fact::Number(it) => literal.number.map(|literal| it.cmp(&literal)),
            Fact::Time(it) => literal.time_ms.map(|literal| it.cmp(&literal)),
            Fact::Bool(it) => literal.text.parse().ok().map(|literal| it.cmp(&literal)),
            Fact::Absent | Fact::Other => None,
        };
        match (self, order) {
            (Self::NotEqual, None) => true,
            (_, None) => false,
            (Self::Equal | Self::StartsWith, Some(order)) => order.is_eq(),
            (Self::NotEqual, Some(order)) => order.is_ne(),
            (Self::Less, Some(order)) => order.is_lt(),
            (Self::LessOrEqual, Some(order)) => order.is_le(),
            (Self::Greater, Some(order)) => order.is_gt(),
            (Self::GreaterOrEqual, Some(order)) => order.is_ge(),
        }
    }
}

fn number(it: u64) -> Fact<'static> {
    Fact::Number(i64::try_from(it).unwrap_or(i64::MAX))
}

fn time(ms: u64) -> Fact<'static> {
    Fact::Time(i64::try_from(ms).unwrap_or(i64::MAX))
}

fn of_header(value: &Value) -> Fact<'_> {
    match value {
        Value::Bool(it) => Fact::Bool(*it),
        Value::I8(_)
        | Value::U8(_)
        | Value::I16(_)
        | Value::U16(_)
        | Value::I32(_)
        | Value::U32(_)
        | Value::I64(_)
        | Value::I64Upper(_) => value.as_int().map_or(Fact::Other, Fact::Number),
        Value::LongString(_) => value.as_str().map_or(Fact::Other, Fact::Text),
        Value::Timestamp(seconds) => time(seconds.saturating_mul(1_000)),
        Value::F32(_)
        | Value::F64(_)
        | Value::Decimal(_)
        | Value::Array(_)
        | Value::Table(_)
        | Value::Bytes(_)
        | Value::Void => Fact::Other,
    }
}

#[cfg(test)]
mod tests;
