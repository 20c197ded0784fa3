//! Policies: settings that apply to queues and exchanges by the pattern of their names (features B61 to B64).
//! Not here: what is in force for one object (`in_force`), what the settings make a queue do (`warren-queue`).

use regex::{Regex, RegexBuilder};
use thiserror::Error;
use warren_types::{Table, TopologyIndex, Value, VhostId};

use crate::{arguments, exchange::ALTERNATE_EXCHANGE, queue::QueueType};

/// Policies of one vhost and kind.
pub(crate) const POLICIES_MAX: usize = 1_000;
/// A policy's name or pattern has at most so many bytes.
const TEXT_BYTES_MAX: usize = 255;
/// What a compiled pattern may take: matching is linear in the name, whatever the pattern.
const PATTERN_BYTES_MAX: usize = 256 << 10;
/// The one look-around that is understood: names the broker gives are left out.
const NOT_RESERVED: &str = r"^(?!amq\.)";

/// Who sets a policy.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PolicyKind {
    /// The vhost's users.
    User,
    /// The operator: merged into the users' key by key; of two numbers the lower holds.
    Operator,
}

/// What a policy applies to. The names are RabbitMQ's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ApplyTo {
    All,
    Queues,
    ClassicQueues,
    QuorumQueues,
    /// Nothing yet: there are no streams.
    Streams,
    Exchanges,
}

impl ApplyTo {
    pub const ALL: [Self; 6] = [
        Self::All,
        Self::Queues,
        Self::ClassicQueues,
        Self::QuorumQueues,
        Self::Streams,
        Self::Exchanges,
    ];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Queues => "queues",
            Self::ClassicQueues => "classic_queues",
            Self::QuorumQueues => "quorum_queues",
            Self::Streams => "streams",
            Self::Exchanges => "exchanges",
        }
    }

    pub(crate) fn takes_queues(self, of: QueueType) -> bool {
        match self {
            Self::All | Self::Queues => true,
            Self::ClassicQueues => of == QueueType::Classic,
            Self::QuorumQueues => of == QueueType::Quorum,
            Self::Streams | Self::Exchanges => false,
        }
    }

    pub(crate) fn takes_exchanges(self) -> bool {
        match self {
            Self::All | Self::Exchanges => true,
            Self::Queues | Self::ClassicQueues | Self::QuorumQueues | Self::Streams => false,
        }
    }
}

/// A policy as set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub vhost: VhostId,
    pub kind: PolicyKind,
    pub name: Box<str>,
    /// Regular expression over names, not anchored.
    pub pattern: Box<str>,
    pub apply_to: ApplyTo,
    /// Of those that match, the highest applies; of equal ones, the first by name.
    pub priority: i32,
    /// Settings by the names of RabbitMQ's policy keys.
    pub definition: Table,
    /// The index of the command that set it.
    pub set_at: TopologyIndex,
}

/// What is wrong with a policy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum PolicyFault {
    #[error("{what} is empty or has more than 255 bytes")]
    Text { what: &'static str },
    #[error("{reason}")]
    Pattern { reason: Box<str> },
    #[error("{reason}")]
    Definition { key: Box<str>, reason: Box<str> },
}

impl Policy {
    pub(crate) fn check(&self) -> Result<Pattern, PolicyFault> {
        for (what, text) in [("the name", &self.name), ("the pattern", &self.pattern)] {
            let empty = text.is_empty() && what == "the name";
            if empty || text.len() > TEXT_BYTES_MAX {
                return Err(PolicyFault::Text { what });
            }
        }
        let pattern = Pattern::new(&self.pattern)?;
        if self.definition.is_empty() {
            return Err(PolicyFault::Definition {
                key: "definition".into(),
                reason: "it has no key".into(),
            });
        }
        for (key, value) in self.definition.iter() {
            check_setting(key, value).map_err(|reason| PolicyFault::Definition {
                key: key.into(),
                reason: reason.into(),
            })?;
        }
        Ok(pattern)
    }
}

/// A compiled pattern. Not compared: it follows from its text.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    not_reserved: bool,
    regex: Regex,
}

impl Pattern {
    pub(crate) fn new(text: &str) -> Result<Self, PolicyFault> {
        let fault = |reason: String| PolicyFault::Pattern {
            reason: reason.into(),
        };
        let rest = text.strip_prefix(NOT_RESERVED);
        if rest.is_some_and(has_alternative) {
            return Err(fault(format!(
                "after {NOT_RESERVED} alternatives need parentheses"
            )));
        }
        let anchored = rest.map(|rest| format!("^{rest}"));
        let regex = RegexBuilder::new(anchored.as_deref().unwrap_or(text))
            .size_limit(PATTERN_BYTES_MAX)
            .dfa_size_limit(PATTERN_BYTES_MAX)
            .nest_limit(32)
            .build()
            .map_err(|error| fault(last_line(&error.to_string())))?;
        Ok(Self {
            not_reserved: rest.is_some(),
            regex,
        })
    }

    pub(crate) fn matches(&self, name: &str) -> bool {
        if self.not_reserved && name.starts_with("amq.") {
            return false;
        }
        self.regex.is_match(name)
    }
}

/// The engine explains itself over several lines; the last one says what is wrong.
fn last_line(text: &str) -> String {
    let last = text.lines().last().unwrap_or(text);
    last.trim_start_matches("error: ").to_owned()
}

/// A `|` outside of parentheses and brackets would belong to the look-around's pattern only on its left.
fn has_alternative(pattern: &str) -> bool {
    let (mut depth, mut class, mut escaped) = (0_u32, false, false);
    for letter in pattern.chars() {
        if std::mem::take(&mut escaped) {
            continue;
        }
        match letter {
            '\\' => escaped = true,
            '[' if !class => class = true,
            ']' => class = false,
            '(' if !class => depth += 1,
            ')' if !class => depth = depth.saturating_sub(1),
            '|' if !class && depth == 0 => return true,
            _ => {}
        }
    }
    false
}

/// What becomes of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyEffect {
    /// It acts on what it applies to.
    Acts,
    /// Stored and reported; it does nothing here (features B63).
    Inert,
}

/// Keys that other brokers, or later versions, act on.
const INERT: &[&str] = &[
    "max-age",
    "member-placement-tag",
    "queue-master-locator",
    "queue-version",
    "queue-mode",
    "durability",
    "fair-dispatch",
    "retain",
    "target-group-size",
    "queue-leader-locator",
];
const INERT_PREFIXES: &[&str] = &["ha-", "federation-", "stream-", "shards-per-node"];
/// Arguments of a declare that no policy can set.
const DECLARE_ONLY: &[&str] = &[
    "queue-type",
    "max-priority",
    "single-active-consumer",
    "quorum-initial-group-size",
    "quorum-target-group-size",
];

/// `None`: nobody knows it.
pub(crate) fn effect(key: &str) -> Option<KeyEffect> {
    if INERT.contains(&key) || INERT_PREFIXES.iter().any(|it| key.starts_with(it)) {
        return Some(KeyEffect::Inert);
    }
    if key == ALTERNATE_EXCHANGE || queue_argument(key).is_some() {
        return Some(KeyEffect::Acts);
    }
    None
}

/// The argument of a queue that a key stands for.
pub(crate) fn queue_argument(key: &str) -> Option<&'static str> {
    if DECLARE_ONLY.contains(&key) || INERT.contains(&key) {
        return None;
    }
    let known = arguments::QUEUE.iter().map(|(name, _)| *name);
    known
        .into_iter()
        .find(|name| name.strip_prefix("x-") == Some(key))
}

fn check_setting(key: &str, value: &Value) -> Result<(), String> {
    match effect(key) {
        None => Err("it is not a setting of policies".into()),
        Some(KeyEffect::Inert) => Ok(()),
        Some(KeyEffect::Acts) => arguments::check_value(key, value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_anywhere_and_the_common_look_ahead_is_understood() {
        let matches = |pattern: &str, name: &str| Pattern::new(pattern).unwrap().matches(name);
        assert!(matches("ord", "my.orders"));
        assert!(!matches("^ord", "my.orders"));
        assert!(matches(r"^(?!amq\.).*", "orders"));
        assert!(!matches(r"^(?!amq\.).*", "amq.gen-1"));
        assert!(matches(r"^(?!amq\.)(a|b)$", "b"));
        assert!(!matches(r"^(?!amq\.)b", "ab"));
        assert!(matches("", "anything"));
    }

    #[test]
    fn patterns_that_could_be_slow_or_large_are_refused() {
        for pattern in [
            "(?=a)b",
            r"^(?!amq\.)a|b",
            r"(a)\1",
            "(?<!x)y",
            "(((a{100}){100}){100})",
            "(",
        ] {
            assert!(Pattern::new(pattern).is_err(), "{pattern}");
        }
        // Exponential for an engine that backtracks.
        let pattern = Pattern::new("^(a+)+$").unwrap();
        assert!(!pattern.matches(&format!("{}b", "a".repeat(254))));
    }

    #[test]
    fn keys_act_are_inert_or_unknown() {
        for key in [
            "max-length",
            "message-ttl",
            "alternate-exchange",
            "overflow",
        ] {
            assert_eq!(effect(key), Some(KeyEffect::Acts), "{key}");
        }
        for key in ["ha-mode", "federation-upstream-set", "max-age"] {
            assert_eq!(effect(key), Some(KeyEffect::Inert), "{key}");
        }
        for key in ["queue-type", "max-priority", "nonsense"] {
            assert_eq!(effect(key), None, "{key}");
        }
        assert!(check_setting("max-length", &Value::from("5")).is_err());
        assert!(check_setting("alternate-exchange", &Value::I32(5)).is_err());
    }
}
