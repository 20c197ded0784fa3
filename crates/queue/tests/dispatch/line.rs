//! One line of a script, and what its words mean. Not here: what is done with it (`script`).

use std::collections::BTreeMap;

use warren_queue::dispatch::io::{ConsumerKey, Credit, Held, OutputsId};
use warren_queue::entry::{PurgeStates, ReturnKind};
use warren_types::{
    Attempt, ConsumerId, DeadLetter, ExchangeName, MessageGroups, NodeId, Position, QueueId,
    QueueSettings, RetryOn, Term,
};

/// `name key=value key=value`
pub(crate) struct Line<'a> {
    pub(crate) verb: &'a str,
    pub(crate) words: BTreeMap<&'a str, &'a str>,
}

impl<'a> Line<'a> {
    pub(crate) fn parse(text: &'a str) -> Self {
        let mut words = text.split_whitespace();
        let verb = words.next().unwrap();
        Line {
            verb,
            words: words
                .map(|it| it.split_once('=').unwrap_or((it, "yes")))
                .collect(),
        }
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.words.contains_key(key)
    }

    pub(crate) fn text(&self, key: &str) -> Option<&'a str> {
        self.words.get(key).copied()
    }

    /// The queue that outputs go to names them.
    pub(crate) fn outputs(&self) -> Option<OutputsId> {
        self.has("outputs")
            .then(|| OutputsId(self.number("outputs", 1)))
    }

    pub(crate) fn number(&self, key: &str, default: u64) -> u64 {
        match self.words.get(key) {
            Some(it) => it.parse().unwrap_or_else(|_| panic!("{key}={it}")),
            None => default,
        }
    }

    pub(crate) fn time(&self, key: &str) -> Option<u64> {
        self.has(key).then(|| self.number(key, 0))
    }

    pub(crate) fn queue(&self) -> QueueId {
        QueueId(self.number("queue", 1))
    }

    pub(crate) fn node(&self) -> NodeId {
        NodeId(self.number("node", 1))
    }

    /// `consumer=node.number`
    pub(crate) fn consumer(&self) -> ConsumerKey {
        let (node, consumer) = self.words["consumer"].split_once('.').unwrap();
        ConsumerKey {
            node: NodeId(node.parse().unwrap()),
            consumer: ConsumerId(consumer.parse().unwrap()),
        }
    }

    pub(crate) fn credit(&self) -> Credit {
        Credit {
            messages: self.number("messages", 0),
            bytes: self.number("bytes", 1_000_000),
        }
    }

    /// `items=position@term.number,...`
    pub(crate) fn held(&self, key: &str) -> Vec<Held> {
        let Some(items) = self.words.get(key) else {
            return Vec::new();
        };
        let one = |item: &str| {
            let (position, attempt) = item.split_once('@').unwrap();
            let (term, number) = attempt.split_once('.').unwrap();
            Held {
                position: Position(position.parse().unwrap()),
                attempt: Attempt {
                    term: Term(term.parse().unwrap()),
                    number: number.parse().unwrap(),
                },
            }
        };
        items.split(',').map(one).collect()
    }

    pub(crate) fn kind(&self) -> Option<ReturnKind> {
        if self.has("failed") {
            Some(ReturnKind::Failed)
        } else {
            self.has("untouched").then_some(ReturnKind::Untouched)
        }
    }
}

pub(crate) fn settings(line: &Line<'_>) -> QueueSettings {
    let mut it = QueueSettings {
        max_length: line.time("max_length"),
        max_length_bytes: line.time("max_length_bytes"),
        delivery_limit: line.time("delivery_limit").map(|it| it as u32),
        consumer_timeout_ms: line.time("consumer_timeout"),
        consumer_disconnected_timeout_ms: line.time("disconnected_timeout"),
        ..QueueSettings::default()
    };
    if let Some(name) = line.words.get("dead_letter") {
        it.dead_letter = Some(DeadLetter {
            exchange: ExchangeName::try_from(&**name).unwrap(),
            routing_key: None,
        });
    }
    it.message_groups = match line.words.get("groups") {
        Some(&"strict") => Some(MessageGroups::Strict),
        Some(&"step_aside") => Some(MessageGroups::StepAside),
        Some(_) | None => None,
    };
    if let Some(min_ms) = line.time("retry_min") {
        it.retry.on = RetryOn::All;
        it.retry.min_ms = min_ms;
    }
    it
}

pub(crate) fn purge_states(line: &Line<'_>) -> PurgeStates {
    let Some(states) = line.words.get("states") else {
        return PurgeStates::default();
    };
    let has = |state| states.split(',').any(|it| it == state);
    PurgeStates {
        ready: has("ready"),
        delayed: has("delayed"),
        scheduled: has("scheduled"),
        parked: has("parked"),
        dead_lettering: has("dead-lettering"),
    }
}
