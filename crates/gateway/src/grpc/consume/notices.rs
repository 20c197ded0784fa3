//! What a running stream tells of its own accord (features A34): its leader has moved, the node stops, its queue has other settings, a message
//! group was taken from it. One that waits to be written gives way to a newer one of its kind, so they are few, and the last word is always
//! told. Not here: a consumer that ends (`revoke`), what publishers are told (`publish_pause`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;
use warren_proto::v1;
use warren_proto::v1::consume_response::Frame as Response;
use warren_shard::Held;
use warren_types::{NodeId, Position, QueueSettings};

use super::session::{ConsumeSession, Phase};
use crate::gateway::Gateway;
use crate::grpc::held::HeldBook;
use crate::grpc::open::{leader_hint, limits};
use crate::grpc::streams::draining_notice;

/// Keys of what was settled are forgotten when there are so many more than deliveries held.
const KEYS_SPARE: usize = 1_000;

/// Groups that are named when many are lost at once.
const REVOKED_TOLD_MAX: usize = 16;

/// The message groups of what a consumer holds, where its queue has some.
#[derive(Debug, Default)]
pub(super) struct HeldKeys(BTreeMap<Position, String>);

impl HeldKeys {
    pub(super) fn add(&mut self, held: Held, delivery: &v1::Delivery, book: &HeldBook) {
        let named = delivery.message.as_ref().map(|it| it.group_key.as_str());
        let key = named
            .filter(|it| !it.is_empty())
            .unwrap_or(&delivery.routing_key);
        self.0.insert(held.position, key.to_owned());
        if self.0.len() > book.len() + KEYS_SPARE {
            self.tidy(book);
        }
    }

    fn tidy(&mut self, book: &HeldBook) {
        self.0.retain(|position, _| book.holds(*position));
    }

    /// The keys of deliveries that are not held any more, each once, if nothing else of the key is.
    pub(super) fn lost(&mut self, lost: &[Position], book: &HeldBook) -> BTreeSet<String> {
        let keys = lost.iter().filter_map(|position| self.0.remove(position));
        let mut keys: BTreeSet<String> = keys.collect();
        if !keys.is_empty() {
            self.tidy(book);
            for key in self.0.values() {
                keys.remove(key);
            }
        }
        keys
    }
}

/// How long the client of a consumer that does not say may hold a delivery.
pub(super) fn timeout(gateway: &Gateway, settings: &QueueSettings) -> Option<Duration> {
    let options = gateway.options();
    let ms = options.consumer_timeout_ms(settings.consumer_timeout_ms)?;
    Some(Duration::from_millis(ms.min(super::MAX_PROCESSING_MS)))
}

impl ConsumeSession {
    pub(super) fn notify(&mut self, notice: v1::Notice) {
        let waits = self.control.iter_mut().find_map(|it| match it {
            Response::Notice(it) if is_same(it, &notice) => Some(it),
            Response::Opened(_)
            | Response::Deliveries(_)
            | Response::Settled(_)
            | Response::Notice(_)
            | Response::Pong(_) => None,
        });
        match waits {
            Some(older) => *older = notice,
            None => self.control.push_back(Response::Notice(notice)),
        }
    }

    pub(super) fn leader_moved(&mut self, node: NodeId) {
        self.attached.credit.forget_recall();
        // The question may have gone to the old leader: ask again.
        self.must_recall = self.phase == Phase::Draining;
        if self.leader.replace(node) == Some(node) {
            return;
        }
        self.notify(v1::Notice {
            kind: v1::NoticeKind::LeaderMoved.into(),
            leader: leader_hint(&self.attached.gateway, self.attached.target.shard),
            ..v1::Notice::default()
        });
    }

    pub(super) fn drain_node(&mut self) {
        let within = self.attached.gateway.options().drain;
        self.draining_until = Some(Instant::now() + within);
        self.notify(draining_notice(within));
    }

    /// Policies have changed somewhere.
    pub(super) fn look_at_settings(&mut self) {
        let gateway = self.attached.gateway.clone();
        let topology = gateway.topology();
        let Some(queue) = topology.queue_by_id(self.attached.queue.id) else {
            return; // the consumer is cancelled soon
        };
        let settings = topology.queue_settings(queue);
        if settings == self.settings {
            return;
        }
        if !self.attached.says_max_processing {
            self.attached.max_processing = timeout(&gateway, &settings);
        }
        self.settings = settings;
        self.notify(v1::Notice {
            kind: v1::NoticeKind::SettingsChanged.into(),
            limits: Some(limits(gateway.options())),
            ..v1::Notice::default()
        });
    }

    /// What was held of message groups is not held any more, and the client has not settled it.
    pub(super) fn groups_revoked(&mut self, lost: &[Position]) {
        let keys = self.keys.lost(lost, &self.held);
        let is_much = keys.len() > REVOKED_TOLD_MAX;
        let told = keys.into_iter().take(REVOKED_TOLD_MAX);
        // Without a key: some are not named.
        for group_key in told.chain(is_much.then(String::new)) {
            self.notify(v1::Notice {
                kind: v1::NoticeKind::GroupRevoked.into(),
                group_key,
                ..v1::Notice::default()
            });
        }
    }
}

fn is_same(one: &v1::Notice, other: &v1::Notice) -> bool {
    one.kind == other.kind && one.group_key == other.group_key
}

#[cfg(test)]
mod tests {
    use warren_types::{Attempt, Term};

    use super::*;

    fn held(position: u64) -> Held {
        let attempt = Attempt {
            term: Term(1),
            number: position,
        };
        Held {
            position: Position(position),
            attempt,
        }
    }

    fn lost(keys: &mut HeldKeys, book: &HeldBook, positions: &[u64]) -> Vec<String> {
        let positions: Vec<Position> = positions.iter().map(|&it| Position(it)).collect();
        keys.lost(&positions, book).into_iter().collect()
    }

    fn of_key(key: &str) -> v1::Delivery {
        v1::Delivery {
            routing_key: key.to_owned(),
            ..v1::Delivery::default()
        }
    }

    #[test]
    fn key_is_lost_with_the_last_that_is_held_of_it() {
        let (mut keys, mut book) = (HeldKeys::default(), HeldBook::default());
        for (position, key) in [(1, "a"), (2, "a"), (3, "b"), (4, "a")] {
            book.add(held(position), 1, None);
            keys.add(held(position), &of_key(key), &book);
        }
        // Its client settles one: nothing is said of that.
        book.take(held(4));
        book.lose(Position(1));
        assert_eq!(lost(&mut keys, &book, &[1]), [""; 0]);
        book.lose(Position(2));
        book.lose(Position(3));
        // Both are told, though they are lost together.
        assert_eq!(lost(&mut keys, &book, &[2, 3]), ["a", "b"]);
        assert_eq!(lost(&mut keys, &book, &[2]), [""; 0]);
    }

    #[test]
    fn key_is_the_named_one_before_the_routing_key() {
        let (mut keys, mut book) = (HeldKeys::default(), HeldBook::default());
        let mut delivery = of_key("queue");
        delivery.message = Some(v1::Message {
            group_key: "account-7".to_owned(),
            ..v1::Message::default()
        });
        book.add(held(1), 1, None);
        keys.add(held(1), &delivery, &book);
        book.lose(Position(1));
        assert_eq!(lost(&mut keys, &book, &[1]), ["account-7"]);
    }
}
