//! One queue of the model. Not here: batches, other queues (`model`).

use std::collections::{BTreeMap, BTreeSet};

use warren_queue::entry::{
    Cancel, DropParked, Enqueue, HandOut, Park, Purge, Release, Remark, Return, ReturnKind,
    SettleReason,
};
use warren_queue::outcome::Reply;
use warren_queue::rows::Counters;
use warren_queue::store::{PARKED_DROPPED_AT_ONCE, PRODUCER_IDLE_MS_MAX, PRODUCER_WINDOW};
use warren_types::{
    Attempt, NotStored, Position, PositionRange, ProducerId, ProducerSpan, ShardTime,
};

use super::{Absent, ModelCancel};

#[derive(Default, Clone)]
pub(crate) struct ModelQueue {
    pub(crate) fencing: u64,
    /// Message `n` has position `n + 1`.
    pub(crate) messages: Vec<ModelMessage>,
    pub(crate) counters: Counters,
    pub(crate) marks: BTreeMap<u8, u64>,
    producers: BTreeMap<ProducerId, ModelProducer>,
    cancelled: BTreeSet<u64>,
    /// Ended with others: `(position, attempt)`.
    pub(super) ended: BTreeSet<(u64, Attempt)>,
    /// `(key, body, when)` of stored messages, oldest first.
    keys: Vec<(u64, u64, u64)>,
}

#[derive(Clone)]
pub(crate) struct ModelMessage {
    pub(crate) priority: u8,
    pub(crate) block: u64,
    pub(crate) live: bool,
    pub(crate) released: bool,
    pub(crate) counts: (u32, u32),
    /// Not due yet.
    pub(crate) waiting: bool,
    pub(crate) parked: bool,
    pub(crate) delayed: Option<u64>,
    pub(crate) due: Option<u64>,
    pub(crate) expiry: Option<u64>,
    /// When, and what: the newest eight.
    pub(crate) said: Vec<(u64, String)>,
    body: u64,
}

#[derive(Default, Clone)]
struct ModelProducer {
    epoch: u64,
    last: u64,
    stored: BTreeSet<u64>,
    seen: u64,
}

/// `(index, key, body)` of messages with a key.
fn keys(it: &Enqueue) -> Vec<(u32, u64, u64)> {
    let keys = it.facts.dedup_hash.iter().zip(&it.facts.dedup_body);
    let keys = (0..).zip(keys).filter(|(_, (key, _))| **key != 0);
    keys.map(|(index, (key, body))| (index, *key, *body))
        .collect()
}

impl ModelQueue {
    pub(crate) fn live(&self) -> u64 {
        self.messages.iter().filter(|it| it.live).count() as u64
    }

    pub(crate) fn next(&self) -> u64 {
        self.messages.len() as u64 + 1
    }

    fn live_in(&mut self, ranges: &[PositionRange]) -> Vec<&mut ModelMessage> {
        let named = |at: usize| {
            ranges
                .iter()
                .any(|range| range.contains(Position(at as u64 + 1)))
        };
        let messages = self.messages.iter_mut().enumerate();
        messages
            .filter(|(at, it)| it.live && named(*at))
            .map(|(_, it)| it)
            .collect()
    }

    pub(super) fn enqueue(&mut self, now: u64, it: &Enqueue, absent: &mut Absent) -> Reply {
        for full in &it.full {
            for at in full.first..(full.first + full.count).min(it.facts.count() as u32) {
                absent.entry(at).or_insert(NotStored::QueueFull);
            }
        }
        let known = self.look_at_keys(now, it, absent);
        for span in &it.producers {
            self.producer(now, span, absent);
        }
        self.remember_keys(now, it, &known, absent);
        let (first, count) = (self.next(), it.facts.count());
        let stored = count - absent.len() as u64;
        let repeated = absent.values().filter(|it| **it == NotStored::Duplicate);
        self.counters.duplicates += repeated.count() as u64;
        if stored > 0 {
            for at in 0..count as usize {
                let live = !absent.contains_key(&(at as u32));
                let body = u64::from(it.facts.body_size[at]);
                let at_of =
                    |column: &[Option<ShardTime>]| Some(column.get(at).copied().flatten()?.0);
                let (due, expiry) = (at_of(&it.facts.due), at_of(&it.facts.expiry));
                self.counters.live_body_bytes += if live { body } else { 0 };
                if live && due.is_some() {
                    self.counters.scheduled_body_bytes += body;
                }
                self.messages.push(ModelMessage {
                    priority: it.priority.level(),
                    block: first,
                    live,
                    released: false,
                    counts: (0, 0),
                    waiting: due.is_some(),
                    parked: false,
                    delayed: None,
                    due,
                    expiry,
                    said: Vec::new(),
                    body,
                });
            }
            self.counters.enqueued += stored;
            self.marks.entry(it.priority.level()).or_insert(1);
        }
        if let Some(ahead) = it.raise {
            self.raise(it.priority.level(), self.next() + u64::from(ahead));
        }
        Reply::Enqueued {
            first: Position(first),
            count: stored,
        }
    }

    /// Which messages have a key that is remembered with the same body; others with a remembered key are refused.
    fn look_at_keys(&self, now: u64, it: &Enqueue, absent: &mut Absent) -> BTreeSet<u32> {
        let mut known = BTreeSet::new();
        let Some(dedup) = it.dedup else { return known };
        let mut before: BTreeMap<u64, u64> = BTreeMap::new();
        for (index, key, body) in keys(it) {
            if absent.contains_key(&index) {
                continue;
            }
            let remembered = self.keys.iter().rev().find(|it| it.0 == key);
            let remembered = remembered.filter(|it| it.2 + dedup.window_ms > now);
            let other = match remembered {
                Some(it) => it.1,
                None => *before.entry(key).or_insert(body),
            };
            if other != body {
                absent.insert(index, NotStored::DedupConflict);
            } else if remembered.is_some() {
                known.insert(index);
            }
        }
        known
    }

    fn remember_keys(
        &mut self,
        now: u64,
        it: &Enqueue,
        known: &BTreeSet<u32>,
        absent: &mut Absent,
    ) {
        let Some(dedup) = it.dedup else { return };
        let mut stored = BTreeSet::new();
        for (index, key, body) in keys(it) {
            if absent.contains_key(&index) {
                continue;
            }
            if known.contains(&index) || !stored.insert(key) {
                absent.insert(index, NotStored::Duplicate);
                continue;
            }
            self.keys.push((key, body, now));
            let mut forgotten = 0;
            while self.keys.len() > 1 {
                let too_many = self.keys.len() as u64 > dedup.keys_max;
                let too_old = self.keys[0].2 < now.saturating_sub(dedup.window_ms);
                if !too_many && (!too_old || forgotten >= 4) {
                    break;
                }
                self.keys.remove(0);
                forgotten += 1;
            }
        }
    }

    fn raise(&mut self, priority: u8, up_to: u64) {
        let mark = self.marks.entry(priority).or_insert(1);
        *mark = up_to.max(*mark);
    }

    fn producer(&mut self, now: u64, span: &ProducerSpan, absent: &mut Absent) {
        if span.sequences.iter().all(|(at, _)| absent.contains_key(at)) {
            return;
        }
        let known = self.producers.entry(span.producer.clone()).or_default();
        if now - known.seen > PRODUCER_IDLE_MS_MAX {
            *known = ModelProducer::default();
        }
        for &(at, sequence) in span.sequences.iter() {
            if absent.contains_key(&at) {
                continue;
            }
            if span.epoch < known.epoch {
                absent.insert(at, NotStored::ProducerFenced);
                continue;
            }
            (known.epoch, known.seen) = (span.epoch, now);
            if sequence + PRODUCER_WINDOW <= known.last {
                absent.insert(at, NotStored::SequenceTooOld);
            } else if !known.stored.insert(sequence) {
                absent.insert(at, NotStored::Duplicate);
            }
            known.last = known.last.max(sequence);
        }
    }

    /// Without a reason: purged.
    pub(super) fn settle(&mut self, ranges: &[PositionRange], reason: Option<SettleReason>) -> u64 {
        self.settle_if(ranges, reason, |_| true)
    }

    fn settle_if(
        &mut self,
        ranges: &[PositionRange],
        reason: Option<SettleReason>,
        is_meant: impl Fn(&ModelMessage) -> bool,
    ) -> u64 {
        let (mut bytes, mut scheduled, mut parked) = (0, 0, 0);
        let mut count = 0;
        for message in self.live_in(ranges).into_iter().filter(|it| is_meant(it)) {
            message.live = false;
            bytes += message.body;
            scheduled += if message.waiting { message.body } else { 0 };
            parked += if message.parked { message.body } else { 0 };
            count += 1;
        }
        let counters = &mut self.counters;
        counters.live_body_bytes -= bytes;
        counters.scheduled_body_bytes -= scheduled;
        counters.parked_body_bytes -= parked;
        let total = match reason {
            None => &mut counters.purged,
            Some(SettleReason::Acked) => &mut counters.acked,
            Some(SettleReason::Rejected) => &mut counters.rejected,
            Some(SettleReason::Expired) => &mut counters.expired,
            Some(SettleReason::Dropped | SettleReason::DeliveryLimit) => &mut counters.dropped,
            Some(SettleReason::DeadLettered) => &mut counters.dead_lettered,
            Some(SettleReason::NoAck) => &mut counters.no_ack,
            Some(SettleReason::Purged) => &mut counters.purged,
        };
        *total += count;
        count
    }

    pub(super) fn purge(&mut self, now: u64, it: &Purge) -> u64 {
        let positions = (1..it.below.0).map(Position);
        let ranges: Vec<PositionRange> = positions
            .filter(|at| !it.except.iter().any(|range| range.contains(*at)))
            .map(PositionRange::one)
            .collect();
        let states = it.states;
        self.settle_if(&ranges, None, |message| {
            if message.parked {
                states.parked
            } else if message.waiting {
                states.scheduled
            } else if message.delayed.is_some_and(|until| until > now) {
                states.delayed
            } else {
                states.ready
            }
        })
    }

    pub(super) fn cancel(&mut self, it: &Cancel) -> (u64, ModelCancel) {
        let mut found = ModelCancel::default();
        for at in it.ranges.iter().flat_map(|range| range.positions()) {
            let message = (at.0 as usize)
                .checked_sub(1)
                .and_then(|index| self.messages.get(index));
            if message.is_none() {
                found.unknown.insert(at.0);
            } else if message.is_some_and(|it| it.live && it.waiting) {
                found.now.insert(at.0);
            } else if self.cancelled.contains(&at.0) {
                found.before.insert(at.0);
            }
        }
        let purged = self.counters.purged;
        let count = self.settle_if(&it.ranges, None, |message| message.waiting);
        self.counters.purged = purged;
        self.counters.cancelled += count;
        self.cancelled.extend(&found.now);
        (count, found)
    }

    pub(super) fn requeue(&mut self, it: &Return) -> Reply {
        let mut count = 0;
        for message in self.live_in(&it.ranges) {
            message.counts.0 += u32::from(it.kind == ReturnKind::Failed);
            message.counts.1 += 1;
            if !message.waiting && !message.parked {
                message.delayed = it.not_before.map(|it| it.0);
            }
            count += 1;
        }
        Reply::Returned { count }
    }

    pub(super) fn remark(&mut self, now: u64, it: &Remark) -> Reply {
        let mut count = 0;
        for message in self.live_in(&it.ranges) {
            message.said.push((now, it.said.reason.clone()));
            let over = message.said.len().saturating_sub(8);
            message.said.drain(..over);
            count += 1;
        }
        Reply::Remarked { count }
    }

    pub(super) fn hand_out(&mut self, it: &HandOut) -> Reply {
        let priority = it.priority.level();
        let before = *self.marks.entry(priority).or_insert(1);
        self.raise(priority, it.up_to.map_or(0, |up_to| up_to.0));
        let mark = self.marks[&priority];
        for (at, message) in (1..)
            .zip(&mut self.messages)
            .filter(|(_, it)| it.live && it.priority == priority)
        {
            let named =
                |ranges: &[PositionRange]| ranges.iter().any(|range| range.contains(Position(at)));
            if named(&it.except) && before <= at && at < mark {
                message.released = true;
            }
            if named(&it.positions) {
                message.released = false;
            }
        }
        Reply::Marked
    }

    pub(super) fn release(&mut self, it: &Release) -> Reply {
        let (mut count, mut bytes) = (0, 0);
        let due = self.live_in(&it.ranges).into_iter();
        for message in due.filter(|it| it.waiting) {
            message.waiting = false;
            message.released |= !it.hand_out;
            bytes += message.body;
            count += 1;
        }
        self.counters.scheduled_body_bytes -= bytes;
        Reply::Released { count }
    }

    /// Whoever has the lowest positions goes.
    pub(super) fn drop_parked(&mut self, it: &DropParked) -> Reply {
        let parked = |it: &&ModelMessage| it.live && it.parked;
        let count = self.messages.iter().filter(parked).count() as u64;
        let over = count.saturating_sub(it.keep).min(PARKED_DROPPED_AT_ONCE);
        let numbered = (1..).zip(&self.messages);
        let oldest = numbered.filter(|(_, it)| parked(it)).take(over as usize);
        let ranges: Vec<_> = oldest
            .map(|(at, _)| PositionRange::one(Position(at)))
            .collect();
        Reply::Settled {
            count: self.settle(&ranges, Some(SettleReason::Dropped)),
        }
    }

    pub(super) fn park(&mut self, it: &Park) -> Reply {
        let (mut count, mut bytes) = (0, 0);
        let meant = self.live_in(&it.ranges).into_iter();
        for message in meant.filter(|it| !it.waiting && !it.parked) {
            message.parked = true;
            message.released = false;
            message.delayed = None;
            message.counts.0 += u32::from(it.kind == ReturnKind::Failed);
            message.counts.1 += 1;
            bytes += message.body;
            count += 1;
        }
        self.counters.parked_body_bytes += bytes;
        Reply::Parked { count }
    }
}
