//! Arguments of declares: which are known, what they may be, when two are equal (features B21, B27, C22).
//! Not here: what they make a queue do (`queue`). Unknown arguments are stored, and neither checked nor compared.

use std::fmt::Display;

use warren_types::{ExchangeName, Table, Value, VhostName};

use crate::{
    exchange::{ALTERNATE_EXCHANGE, DELAYED_TYPE, Exchange, ExchangeKind, routes_as},
    queue::QueueType,
    reply::{ObjectKind, Refusal},
    route::{hashed, headers},
};

pub(crate) const QUEUE_TYPE: &str = "x-queue-type";
pub(crate) const PLACEMENT_GROUP: &str = "x-placement-group";
pub(crate) const DEAD_LETTER_EXCHANGE: &str = "x-dead-letter-exchange";
pub(crate) const DEAD_LETTER_ROUTING_KEY: &str = "x-dead-letter-routing-key";
pub(crate) const DEAD_LETTER_QUEUE: &str = "x-dead-letter-queue";

/// What a known argument may be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    Integer {
        min: i64,
        max: i64,
    },
    /// A count, or `true` for the default and `false` for none.
    CountOrFlag,
    Flag,
    Text,
    OneOf(&'static [&'static str]),
}

const COUNT: Shape = Shape::Integer {
    min: 0,
    max: i64::MAX,
};
const AT_LEAST_ONE: Shape = Shape::Integer {
    min: 1,
    max: i64::MAX,
};

pub(crate) type Known = &'static [(&'static str, Shape)];

/// The type comes first: see [`QUEUE_BUT_TYPE`].
pub(crate) const QUEUE: Known = &[
    (QUEUE_TYPE, Shape::Text),
    ("x-max-length", COUNT),
    ("x-max-length-bytes", COUNT),
    (
        "x-overflow",
        Shape::OneOf(&["drop-head", "reject-publish", "reject-publish-dlx"]),
    ),
    ("x-message-ttl", COUNT),
    ("x-expires", AT_LEAST_ONE),
    (DEAD_LETTER_EXCHANGE, Shape::Text),
    (DEAD_LETTER_ROUTING_KEY, Shape::Text),
    (DEAD_LETTER_QUEUE, Shape::OneOf(&["auto"])),
    (
        "x-dead-letter-strategy",
        Shape::OneOf(&["at-most-once", "at-least-once"]),
    ),
    (
        "x-delivery-limit",
        Shape::Integer {
            min: -1,
            max: i64::MAX,
        },
    ),
    (
        "x-delayed-retry-type",
        Shape::OneOf(&["disabled", "all", "failed", "returned"]),
    ),
    ("x-delayed-retry-min", COUNT),
    ("x-delayed-retry-max", COUNT),
    ("x-retry-backoff", Shape::OneOf(&["linear", "exponential"])),
    ("x-consumer-timeout", COUNT),
    ("x-consumer-disconnected-timeout", COUNT),
    ("x-max-priority", Shape::Integer { min: 1, max: 255 }),
    ("x-single-active-consumer", Shape::Flag),
    ("x-message-groups", Shape::OneOf(&["strict", "step-aside"])),
    ("x-dedup-window", Shape::CountOrFlag),
    (
        "x-dedup-max-keys",
        Shape::Integer {
            min: 1,
            max: 1_000_000,
        },
    ),
    ("x-parked-max-length", COUNT),
    (PLACEMENT_GROUP, Shape::Text),
    (
        "x-queue-leader-locator",
        Shape::OneOf(&["client-local", "balanced"]),
    ),
    ("x-quorum-initial-group-size", AT_LEAST_ONE),
    ("x-quorum-target-group-size", AT_LEAST_ONE),
];

/// What is compared where classic and quorum count as equal (features B22).
pub(crate) const QUEUE_BUT_TYPE: Known = QUEUE.split_at(1).1;

pub(crate) const EXCHANGE: Known = &[
    (ALTERNATE_EXCHANGE, Shape::Text),
    (DELAYED_TYPE, Shape::Text),
    (hashed::HASH_HEADER, Shape::Text),
    (hashed::HASH_PROPERTY, Shape::Text),
];

/// The declared type; the vhost's default if none is.
pub(crate) fn queue_type(
    queue: &str,
    arguments: &Table,
    default: QueueType,
) -> Result<QueueType, Refusal> {
    let Some(value) = arguments.get(QUEUE_TYPE) else {
        return Ok(default);
    };
    let name = value.as_str().ok_or_else(|| Refusal::InvalidArgument {
        object: ObjectKind::Queue,
        name: queue.into(),
        argument: QUEUE_TYPE.into(),
        reason: "it is not a string".into(),
    })?;
    QueueType::ALL
        .into_iter()
        .find(|it| it.name() == name)
        .ok_or_else(|| Refusal::QueueTypeUnavailable { name: name.into() })
}

/// Whether a queue may be declared with these. Part of what a stored declare means: an argument that was without effect once
/// (`x-dead-letter-queue`) is checked where a declare is proposed ([`check_dead_letter_queue`]).
pub(crate) fn check_queue(queue: &str, arguments: &Table) -> Result<(), Refusal> {
    let known = QUEUE.iter().filter(|(name, _)| *name != DEAD_LETTER_QUEUE);
    check(ObjectKind::Queue, queue, known, arguments)?;
    if arguments.get(DEAD_LETTER_ROUTING_KEY).is_some()
        && arguments.get(DEAD_LETTER_EXCHANGE).is_none()
    {
        return Err(Refusal::InvalidArgument {
            object: ObjectKind::Queue,
            name: queue.into(),
            argument: DEAD_LETTER_ROUTING_KEY.into(),
            reason: "there is no x-dead-letter-exchange".into(),
        });
    }
    Ok(())
}

/// Whether a queue may have a dead-letter queue of its own as these say.
pub(crate) fn check_dead_letter_queue(queue: &str, arguments: &Table) -> Result<(), Refusal> {
    let known = QUEUE.iter().filter(|(name, _)| *name == DEAD_LETTER_QUEUE);
    check(ObjectKind::Queue, queue, known, arguments)?;
    if arguments.get(DEAD_LETTER_QUEUE).is_some() && arguments.get(DEAD_LETTER_EXCHANGE).is_some() {
        return Err(Refusal::InvalidArgument {
            object: ObjectKind::Queue,
            name: queue.into(),
            argument: DEAD_LETTER_QUEUE.into(),
            reason: "there is an x-dead-letter-exchange".into(),
        });
    }
    Ok(())
}

pub(crate) fn check_exchange(
    exchange: &str,
    kind: ExchangeKind,
    arguments: &Table,
) -> Result<(), Refusal> {
    check(ObjectKind::Exchange, exchange, EXCHANGE, arguments)?;
    let invalid = |argument: &str, reason: &str| Refusal::InvalidArgument {
        object: ObjectKind::Exchange,
        name: exchange.into(),
        argument: argument.into(),
        reason: reason.into(),
    };
    if let Some(alternate) = arguments.get_str(ALTERNATE_EXCHANGE) {
        ExchangeName::try_from(alternate)
            .map_err(|error| invalid(ALTERNATE_EXCHANGE, &error.to_string()))?;
    }
    let routes_as = routes_as(kind, arguments)
        .ok_or_else(|| invalid(DELAYED_TYPE, "it must name another exchange type"))?;
    if routes_as != ExchangeKind::ConsistentHash {
        return Ok(());
    }
    let property = arguments.get_str(hashed::HASH_PROPERTY);
    if property.is_some() && arguments.get(hashed::HASH_HEADER).is_some() {
        return Err(invalid(
            hashed::HASH_PROPERTY,
            "hash-header and hash-property cannot be used together",
        ));
    }
    if property.is_some_and(|it| hashed::HashProperty::named(it).is_none()) {
        return Err(invalid(
            hashed::HASH_PROPERTY,
            "it is none of correlation_id, message_id, timestamp",
        ));
    }
    Ok(())
}

/// What the source's kind demands of a binding (AMQP 0-9-1: else 406).
pub(crate) fn check_binding(
    source: &Exchange,
    key: &str,
    arguments: &Table,
) -> Result<(), Refusal> {
    let invalid = |argument: &str, reason: &str| Refusal::InvalidArgument {
        object: ObjectKind::Binding,
        name: source.name.as_str().into(),
        argument: argument.into(),
        reason: reason.into(),
    };
    match source.routes_as() {
        ExchangeKind::Headers => {
            headers::check(arguments).map_err(|reason| invalid(headers::X_MATCH, reason))
        }
        ExchangeKind::ConsistentHash => match hashed::weight(key) {
            Some(_) => Ok(()),
            None => Err(invalid(
                "routing_key",
                "it is the weight: a number from 1 to 1000000000",
            )),
        },
        ExchangeKind::Direct
        | ExchangeKind::Fanout
        | ExchangeKind::Topic
        | ExchangeKind::ModulusHash
        | ExchangeKind::Delayed => Ok(()),
    }
}

fn check<'a>(
    object: ObjectKind,
    name: &str,
    known: impl IntoIterator<Item = &'a (&'static str, Shape)>,
    arguments: &Table,
) -> Result<(), Refusal> {
    for (argument, shape) in known {
        let Some(value) = arguments.get(argument) else {
            continue;
        };
        fits(*shape, value).map_err(|reason| Refusal::InvalidArgument {
            object,
            name: name.into(),
            argument: (*argument).into(),
            reason: reason.into(),
        })?;
    }
    Ok(())
}

/// Whether a value may stand for a policy's key.
pub(crate) fn check_value(key: &str, value: &Value) -> Result<(), String> {
    let known = QUEUE
        .iter()
        .find(|(name, _)| name.strip_prefix("x-") == Some(key))
        .or_else(|| EXCHANGE.iter().find(|(name, _)| *name == key));
    known.map_or(Ok(()), |(_, shape)| fits(*shape, value))
}

fn fits(shape: Shape, value: &Value) -> Result<(), String> {
    match shape {
        Shape::Integer { min, max } => match value.as_int() {
            Some(it) if it < min => Err(format!("{it} is below {min}")),
            Some(it) if it > max => Err(format!("{it} is above {max}")),
            Some(_) => Ok(()),
            None => Err(format!("{} is not an integer", describe(Some(value)))),
        },
        Shape::CountOrFlag if value.as_bool().is_some() => Ok(()),
        Shape::CountOrFlag => fits(COUNT, value),
        Shape::Flag => match value.as_bool() {
            Some(_) => Ok(()),
            None => Err(format!("{} is not a boolean", describe(Some(value)))),
        },
        Shape::Text => match value.as_str() {
            Some(_) => Ok(()),
            None => Err(format!("{} is not a string", describe(Some(value)))),
        },
        Shape::OneOf(allowed) => match value.as_str() {
            Some(it) if allowed.contains(&it) => Ok(()),
            _ => Err(format!(
                "{} is none of {}",
                describe(Some(value)),
                allowed.join(", ")
            )),
        },
    }
}

/// Compares a declare with what is there; the first difference is the refusal.
pub(crate) struct Comparison<'a> {
    object: ObjectKind,
    name: &'a str,
    vhost: &'a VhostName,
}

impl<'a> Comparison<'a> {
    pub(crate) fn new(object: ObjectKind, name: &'a str, vhost: &'a VhostName) -> Self {
        Self {
            object,
            name,
            vhost,
        }
    }

    pub(crate) fn same<T: PartialEq + Display>(
        &self,
        argument: &str,
        received: T,
        current: T,
    ) -> Result<(), Refusal> {
        if received == current {
            return Ok(());
        }
        Err(self.differs(argument, format!("'{received}'"), format!("'{current}'")))
    }

    pub(crate) fn arguments(
        &self,
        known: Known,
        received: &Table,
        current: &Table,
    ) -> Result<(), Refusal> {
        for (argument, _) in known {
            let (received, current) = (received.get(argument), current.get(argument));
            if !equivalent(received, current) {
                return Err(self.differs(argument, describe(received), describe(current)));
            }
        }
        Ok(())
    }

    fn differs(&self, argument: &str, received: String, current: String) -> Refusal {
        Refusal::InequivalentArgument {
            object: self.object,
            name: self.name.into(),
            vhost: self.vhost.clone(),
            argument: argument.into(),
            received: received.into(),
            current: current.into(),
        }
    }
}

/// Integers by value whatever their width, everything else by type and value.
fn equivalent(one: Option<&Value>, other: Option<&Value>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => match (one.as_int(), other.as_int()) {
            (Some(one), Some(other)) => one == other,
            _ => one == other,
        },
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// In RabbitMQ's words: what its clients' users search for.
fn describe(value: Option<&Value>) -> String {
    let Some(value) = value else {
        return "none".into();
    };
    let kind = type_name(value);
    if let Some(it) = value.as_int() {
        return format!("the value '{it}' of type '{kind}'");
    }
    if let Some(it) = value.as_bool() {
        return format!("the value '{it}' of type '{kind}'");
    }
    match value.as_str() {
        Some(it) => {
            let shown: String = it.chars().take(64).collect();
            format!("the value '{shown}' of type '{kind}'")
        }
        None => format!("a value of type '{kind}'"),
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "bool",
        Value::I8(_) => "byte",
        Value::U8(_) => "unsignedbyte",
        Value::I16(_) => "short",
        Value::U16(_) => "unsignedshort",
        Value::I32(_) => "signedint",
        Value::U32(_) => "unsignedint",
        Value::I64(_) | Value::I64Upper(_) => "long",
        Value::F32(_) => "float",
        Value::F64(_) => "double",
        Value::Decimal(_) => "decimal",
        Value::LongString(_) => "longstr",
        Value::Array(_) => "array",
        Value::Timestamp(_) => "timestamp",
        Value::Table(_) => "table",
        Value::Void => "void",
        Value::Bytes(_) => "binary",
    }
}
