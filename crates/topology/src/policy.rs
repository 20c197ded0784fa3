//! Policies: settings that apply to queues and exchanges by the pattern of their names (features B61 to B64).
//! Not here: what is in force for one object (`in_force`), what the settings make a queue do (`warren-queue`).

use thiserror::Error;
use warren_types::{Table, TopologyIndex, Value, VhostId};

use crate::{
    arguments,
    command::SetPolicy,
    exchange::ALTERNATE_EXCHANGE,
    pattern::{Pattern, PatternError},
    queue::QueueType,
    reply::{ObjectKind, Refusal},
};

/// Policies of one vhost and kind.
pub(crate) const POLICIES_MAX: usize = 1_000;
/// A policy's name or pattern has at most so many bytes.
const TEXT_BYTES_MAX: usize = 255;
/// Settings of one policy.
const KEYS_MAX: usize = 100;
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

impl Policy {
    /// The empty pattern matches every name (RabbitMQ's rule for policies).
    pub(crate) fn compiled(&self) -> Pattern {
        Pattern::new(if self.pattern.is_empty() {
            ".*"
        } else {
            &self.pattern
        })
    }
}

/// What is wrong with a policy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
enum PolicyFault {
    #[error("it is empty or has more than 255 bytes")]
    Text { what: &'static str },
    #[error("{0}")]
    Pattern(PatternError),
    #[error("{reason}")]
    Definition { key: Box<str>, reason: Box<str> },
}

impl SetPolicy {
    /// Whether the policy means something, for whoever proposes it: what is stored counts as it is, whatever this version makes of it. A
    /// pattern that cannot be compiled matches nothing, a setting that is not known or does not fit does nothing.
    ///
    /// # Errors
    /// [`Refusal::InvalidArgument`] names the part that is wrong.
    pub fn check(&self) -> Result<(), Refusal> {
        self.find_fault().map_err(|fault| {
            let argument: &str = match &fault {
                PolicyFault::Text { what } => what,
                PolicyFault::Pattern(_) => "pattern",
                PolicyFault::Definition { key, .. } => key,
            };
            Refusal::InvalidArgument {
                object: ObjectKind::Policy,
                name: self.name.chars().take(64).collect::<String>().into(),
                argument: argument.into(),
                reason: fault.to_string().into(),
            }
        })
    }

    /// The name and the sizes, which never mean something else.
    pub(crate) fn is_bounded(&self) -> bool {
        let has_name = !self.name.is_empty() && self.name.len() <= TEXT_BYTES_MAX;
        has_name && self.pattern.len() <= TEXT_BYTES_MAX && self.definition.len() <= KEYS_MAX
    }

    fn find_fault(&self) -> Result<(), PolicyFault> {
        if self.name.is_empty() || self.name.len() > TEXT_BYTES_MAX {
            return Err(PolicyFault::Text { what: "name" });
        }
        if self.pattern.len() > TEXT_BYTES_MAX {
            return Err(PolicyFault::Text { what: "pattern" });
        }
        if !self.pattern.is_empty() {
            Pattern::check(&self.pattern).map_err(PolicyFault::Pattern)?;
        }
        let fault = |key: &str, reason: &str| PolicyFault::Definition {
            key: key.into(),
            reason: reason.into(),
        };
        if self.definition.is_empty() {
            return Err(fault("definition", "it has no key"));
        }
        if self.definition.len() > KEYS_MAX {
            return Err(fault("definition", "it has more than 100 keys"));
        }
        for (key, value) in self.definition.iter() {
            check_setting(key, value).map_err(|reason| fault(key, &reason))?;
        }
        Ok(())
    }
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
    "placement-group",
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

    fn matches(pattern: &str, name: &str) -> bool {
        let policy = Policy {
            vhost: VhostId(1),
            kind: PolicyKind::User,
            name: "p".into(),
            pattern: pattern.into(),
            apply_to: ApplyTo::All,
            priority: 0,
            definition: Table::new(),
            set_at: TopologyIndex(0),
        };
        policy.compiled().matches(name)
    }

    #[test]
    fn patterns_match_anywhere_the_empty_one_everything_and_a_wrong_one_nothing() {
        assert!(matches("ord", "my.orders"));
        assert!(!matches("^ord", "my.orders"));
        assert!(matches(r"^(?!amq\.).*", "orders"));
        assert!(!matches(r"^(?!amq\.).*", "amq.gen-1"));
        assert!(matches("", "anything"));
        assert!(!matches("(", "("));
    }

    #[test]
    fn pattern_that_is_exponential_for_a_backtracking_engine_ends_soon() {
        assert!(!matches("^(a+)+$", &format!("{}b", "a".repeat(254))));
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
