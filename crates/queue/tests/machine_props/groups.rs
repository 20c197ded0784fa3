//! Message groups: what must hold of every key, checked at each delivery and whenever nothing is under way.
//! Not here: the other laws (`laws`), what happens (`world`).

use std::sync::Arc;

use warren_queue::dispatch::io::{ConsumerKey, HandedOut, Input, Whereabouts};
use warren_types::{MessageGroups, Position, PositionRange, QueueId, QueueSettings, ShardTime};

use crate::sessions::{Link, Session};
use crate::world::{SINGLE, Spot, World};

const KEYS: u64 = 5;

/// By seed: none, or one of both modes.
pub(crate) fn mode(seed: u64) -> Option<MessageGroups> {
    match seed % 8 {
        2 | 3 => Some(MessageGroups::Strict),
        6 | 7 => Some(MessageGroups::StepAside),
        _ => None,
    }
}

impl World {
    pub(crate) fn plain_settings(&self, queue: QueueId) -> QueueSettings {
        QueueSettings {
            single_active_consumer: queue == SINGLE,
            message_groups: self.mode,
            ..QueueSettings::default()
        }
    }

    pub(crate) fn use_groups(&mut self) {
        for queue in [QueueId(1), SINGLE] {
            let settings = Arc::new(self.plain_settings(queue));
            self.settings.insert(queue, settings);
        }
    }

    /// Hashes of the keys of messages; 0 = none. Other worlds have keys too, which mean nothing there.
    pub(crate) fn draw_keys(&mut self, count: usize) -> Vec<u64> {
        if self.random.one_in(4) {
            return Vec::new();
        }
        (0..count).map(|_| self.random.below(KEYS)).collect()
    }

    pub(crate) fn note_key(&mut self, spot: Spot, key: u64) {
        if key != 0 && self.mode.is_some() {
            self.keys.insert(spot, key);
            let of_key = self.of_key.entry((spot.0, key)).or_default();
            of_key.insert(spot.1);
        }
    }

    fn is_live(&self, (queue, position): Spot) -> bool {
        let range = PositionRange::one(position);
        let found = self.store.read(&self.rows, queue, &[range]);
        found.iter().any(|it| !it.parked)
    }

    /// The key is nobody else's, and nothing older of it was left behind.
    pub(crate) fn keeps_its_key(&mut self, consumer: ConsumerKey, queue: QueueId, it: &HandedOut) {
        let Some(mode) = self.mode else { return };
        let spot = (queue, it.position);
        let Some(&key) = self.keys.get(&spot) else {
            return;
        };
        if it.acquired_count > 0 {
            self.failed.insert(spot);
        } else {
            self.failed.remove(&spot);
        }
        self.is_nobody_elses(consumer, queue, key);
        if mode == MessageGroups::Strict {
            let failed = self
                .holds(&self.sessions[&consumer])
                .find(|other| self.failed.contains(other) && self.keys.get(other) == Some(&key));
            assert_eq!(failed, None, "{spot:?} of key {key} beside one that failed");
        }
        self.follows_its_elders(spot, key, mode);
    }

    /// What is with it. Of what was to end with others some may have, a moment before the answer.
    fn holds<'a>(&'a self, session: &'a Session) -> impl Iterator<Item = Spot> + 'a {
        let held = session.held.keys().copied();
        let held = held.filter(move |&at| {
            let state = self.dispatch.whereabouts(session.queue, at);
            !session.promised.contains(&at) || state != Whereabouts::NotInFlight
        });
        held.map(move |at| (session.queue, at))
    }

    fn is_nobody_elses(&self, consumer: ConsumerKey, queue: QueueId, key: u64) {
        for other in self.sessions.values().filter(|it| it.key != consumer) {
            if other.link != Link::Attached || other.queue != queue {
                continue;
            }
            let held = self.holds(other);
            let mut own = held.filter(|spot| self.keys.get(spot) == Some(&key));
            assert_eq!(own.next(), None, "key {key} is with {:?}", other.key);
            // What it has settled is its until that is committed; some of what it asks may be refused.
            let asked = self.asked.values().filter(|it| it.key == other.key);
            let asked = asked.filter(|it| it.back.is_none());
            let settled = asked.flat_map(|it| it.items.iter().map(|held| (queue, held.position)));
            let mut open = settled.filter(|spot| {
                let state = self.dispatch.whereabouts(queue, spot.1);
                self.keys.get(spot) == Some(&key) && state == Whereabouts::Leaving
            });
            assert_eq!(open.next(), None, "{:?} is not done with {key}", other.key);
        }
    }

    fn follows_its_elders(&mut self, (queue, position): Spot, key: u64, mode: MessageGroups) {
        let Some(all) = self.of_key.get(&(queue, key)) else {
            return;
        };
        let elders: Vec<Position> = all.range(..position).copied().collect();
        for elder in elders {
            let spot = (queue, elder);
            if !self.is_live(spot) {
                let live = self.of_key.get_mut(&(queue, key)).unwrap();
                live.remove(&elder);
                continue;
            }
            let joins_later = self.times[&spot].0.is_some();
            let stepped_aside = mode == MessageGroups::StepAside && self.seen.contains(&spot);
            if joins_later || stepped_aside {
                continue;
            }
            assert_ne!(
                self.dispatch.whereabouts(queue, elder),
                Whereabouts::NotInFlight,
                "{position} of key {key} before {elder}"
            );
        }
    }

    /// Nothing is under way: what is free is with somebody, or nobody has credit.
    pub(crate) fn nobody_starves(&mut self) {
        let is_quiet = self.pipeline.is_empty() && self.loads.is_empty() && self.looks.is_empty();
        if self.mode.is_none() || self.features || !is_quiet || !self.lease || !self.started {
            return;
        }
        let queue = QueueId(1);
        let ready = self.dispatch.ready(queue).messages;
        let may_have_more = |key: &ConsumerKey| {
            let session = &self.sessions[key];
            session.link == Link::Attached
                && session.queue == queue
                && (session.held.len() as u64) < session.prefetch
                && session.held_bytes() < session.bytes
        };
        let hungry: Vec<ConsumerKey> = self.sessions.keys().copied().collect();
        let hungry: Vec<ConsumerKey> = hungry.into_iter().filter(may_have_more).collect();
        if ready == 0 || hungry.is_empty() || self.full_node() {
            return;
        }
        self.starved += 1;
        // The window holds so many; beyond it messages wait for room.
        let mut passed = 0;
        for (spot, _) in self
            .stored
            .range((queue, Position(0))..(SINGLE, Position(0)))
        {
            if self.done.contains(spot) || !self.is_live(*spot) {
                continue;
            }
            if self.dispatch.whereabouts(queue, spot.1) != Whereabouts::NotInFlight {
                continue;
            }
            passed += 1;
            if passed > 40 {
                break;
            }
            let key = self.keys.get(spot).copied();
            let is_held = key.is_some_and(|key| self.is_in_flight(queue, key));
            let until = self.delays.get(spot);
            let waits = until.is_some_and(|it| *it > ShardTime(self.now));
            let elder_waits = key.is_some_and(|key| self.an_elder_waits(*spot, key));
            assert!(
                is_held || waits || elder_waits,
                "{spot:?} of key {key:?} is free, and {hungry:?} have credit"
            );
        }
    }

    fn full_node(&self) -> bool {
        let held: usize = self.sessions.values().map(|it| it.held.len()).sum();
        held >= 60
    }

    fn is_in_flight(&self, queue: QueueId, key: u64) -> bool {
        let all = self.of_key[&(queue, key)].iter();
        let mut live = all.filter(|&&at| self.is_live((queue, at)));
        live.any(|&at| self.dispatch.whereabouts(queue, at) != Whereabouts::NotInFlight)
    }

    fn an_elder_waits(&self, (queue, position): Spot, key: u64) -> bool {
        let mut elders = self.of_key[&(queue, key)].range(..position);
        elders.any(|&at| {
            let until = self.delays.get(&(queue, at));
            until.is_some_and(|it| *it > ShardTime(self.now)) && self.is_live((queue, at))
        })
    }

    /// All that is under way ends.
    pub(crate) fn come_to_rest(&mut self) {
        for _ in 0..200 {
            // What an entry put off is done when its time is heard.
            let (now, lease) = (ShardTime(self.now), self.lease);
            self.step(Input::Clock { now, lease });
            self.commit_some();
            self.answer_load();
        }
        self.nobody_starves();
    }
}
