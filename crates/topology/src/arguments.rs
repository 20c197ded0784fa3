//! Arguments of declares: which are known, what they may be, when two are equal (features B21, B27, C22).
//! Not here: what they make a queue do (`queue`). Unknown arguments are stored, and neither checked nor compared.

use std::fmt::Display;

use warren_types::{Table, Value, VhostName};

use crate::{
    queue::QueueType,
    reply::{ObjectKind, Refusal},
};

pub(crate) const QUEUE_TYPE: &str = "x-queue-type";
pub(crate) const DEAD_LETTER_EXCHANGE: &str = "x-dead-letter-exchange";
pub(crate) const DEAD_LETTER_ROUTING_KEY: &str = "x-dead-letter-routing-key";

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
    ("x-parked-max-length", COUNT),
    (
        "x-queue-leader-locator",
        Shape::OneOf(&["client-local", "balanced"]),
    ),
    ("x-quorum-initial-group-size", AT_LEAST_ONE),
    ("x-quorum-target-group-size", AT_LEAST_ONE),
];

pub(crate) const EXCHANGE: Known = &[("alternate-exchange", Shape::Text)];

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

pub(crate) fn check_queue(queue: &str, arguments: &Table) -> Result<(), Refusal> {
    check(ObjectKind::Queue, queue, QUEUE, arguments)?;
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

pub(crate) fn check_exchange(exchange: &str, arguments: &Table) -> Result<(), Refusal> {
    check(ObjectKind::Exchange, exchange, EXCHANGE, arguments)
}

fn check(object: ObjectKind, name: &str, known: Known, arguments: &Table) -> Result<(), Refusal> {
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

/// For people; the values clients send are short numbers and words.
fn describe(value: Option<&Value>) -> String {
    let Some(value) = value else {
        return "none".into();
    };
    if let Some(it) = value.as_int() {
        return format!("the integer {it}");
    }
    if let Some(it) = value.as_bool() {
        return format!("the boolean {it}");
    }
    match value.as_str() {
        Some(it) => format!("the string '{}'", it.chars().take(64).collect::<String>()),
        None => "a value of another type".into(),
    }
}
