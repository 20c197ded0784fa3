//! Consumers as their sessions see them: what they hold, what they have asked. Not here: the shard (`world`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use warren_queue::dispatch::io::{
    Attach, ConsumerKey, ConsumerOptions, Credit, Held, Input, Refill, ReturnRequest,
    SettleRequest, Token, Wait,
};
use warren_queue::entry::{AttemptOutcome, ReturnKind, Said, SettleReason};
use warren_types::{Attempt, Position, Priority, QueueId, ShardTime};

use crate::world::BODY_MAX;

/// A small deterministic random source (xorshift), so that a seed repeats a run.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..8 {
            random.below(2);
        }
        random
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    pub(crate) fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Link {
    /// Attach is sent and not answered: what it holds is not certain.
    Attaching,
    Attached,
    /// Its node is cut off, or the leader has changed and it has not attached anew.
    Cut,
}

#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) key: ConsumerKey,
    pub(crate) queue: QueueId,
    pub(crate) prefetch: u64,
    /// Byte credit when it holds nothing.
    pub(crate) bytes: u64,
    pub(crate) priority: i32,
    pub(crate) link: Link,
    pub(crate) held: BTreeMap<Position, (Attempt, u64)>,
    /// Of it: asked to end with others.
    pub(crate) promised: BTreeSet<Position>,
    /// In the order of the attach under way.
    pub(crate) claimed: Vec<Position>,
    pub(crate) last_first_delivery: BTreeMap<Priority, Position>,
}

impl Session {
    pub(crate) fn new(key: ConsumerKey, queue: QueueId, prefetch: u64) -> Self {
        Self {
            key,
            queue,
            prefetch,
            bytes: 1_000_000,
            priority: 0,
            link: Link::Cut,
            held: BTreeMap::new(),
            promised: BTreeSet::new(),
            claimed: Vec::new(),
            last_first_delivery: BTreeMap::new(),
        }
    }

    pub(crate) fn held_bytes(&self) -> u64 {
        self.held.values().map(|it| it.1).sum()
    }

    /// With the credit that what it holds leaves.
    pub(crate) fn attach(&mut self) -> Input {
        self.link = Link::Attaching;
        self.claimed = self.held.keys().copied().collect();
        Input::Attach(Attach {
            consumer: self.key,
            queue: self.queue,
            options: ConsumerOptions {
                no_ack: false,
                refill: Refill::All,
                priority: self.priority,
                exclusive: false,
                uncommitted_max: 1_000,
                passing: false,
            },
            credit: Credit {
                messages: self.prefetch.saturating_sub(self.held.len() as u64),
                bytes: self.bytes.saturating_sub(self.held_bytes()),
            },
            held: self
                .held
                .iter()
                .map(|(&position, &(attempt, _))| Held { position, attempt })
                .collect(),
        })
    }

    /// What is to end with others, and its bytes.
    pub(crate) fn promised(&self) -> (u64, u64) {
        let held = self.promised.iter().filter_map(|at| self.held.get(at));
        held.fold((0, 0), |(count, bytes), it| (count + 1, bytes + it.1))
    }

    fn free(&self) -> impl Iterator<Item = Position> + '_ {
        let held = self.held.keys().copied();
        held.filter(|at| !self.promised.contains(at))
    }

    /// Some of what it holds is to end together, and is held until it has.
    pub(crate) fn promise_some(&mut self, random: &mut Random) -> Vec<Held> {
        let count = 1 + random.below(4) as usize;
        let picked: Vec<Position> = self.free().take(count).collect();
        self.promised.extend(&picked);
        let held = picked.into_iter().map(|position| Held {
            position,
            attempt: self.held[&position].0,
        });
        held.collect()
    }

    /// Lets go of some of what it holds.
    pub(crate) fn take_some(&mut self, random: &mut Random) -> Vec<Held> {
        let count = 1 + random.below(1 + self.held.len() as u64) as usize;
        let skip = if random.one_in(2) {
            0
        } else {
            random.below(3) as usize
        };
        let picked = self.free().skip(skip).take(count).collect::<Vec<_>>();
        picked
            .into_iter()
            .map(|position| Held {
                position,
                attempt: self.held.remove(&position).unwrap().0,
            })
            .collect()
    }
}

/// What a node has asked and not been answered; sent anew after a change of leader or of the stream.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) key: ConsumerKey,
    pub(crate) queue: QueueId,
    pub(crate) items: Vec<Held>,
    /// `None`: a settle.
    pub(crate) back: Option<(ReturnKind, Option<ShardTime>)>,
}

impl Asked {
    pub(crate) fn input(&self, token: Token) -> Input {
        let (node, queue, items) = (self.key.node, self.queue, self.items.clone());
        match self.back {
            None => Input::Settle(SettleRequest {
                outputs: None,
                node,
                token,
                queue,
                items,
                reason: SettleReason::Acked,
                said: None,
            }),
            Some((kind, not_before)) => Input::Return(ReturnRequest {
                node,
                token,
                queue,
                items,
                kind,
                wait: not_before.map_or(Wait::Not, Wait::Until),
                said: said(kind),
            }),
        }
    }
}

pub(crate) fn body_size(message: &Bytes) -> u64 {
    message.iter().map(|&it| u64::from(it)).sum::<u64>() % BODY_MAX
}

/// Every failed return is spoken of.
fn said(kind: ReturnKind) -> Option<Arc<Said>> {
    let outcome = match kind {
        ReturnKind::Failed => AttemptOutcome::Failed,
        ReturnKind::Untouched => return None,
    };
    Said::new(outcome, "it failed", "", "worker").map(Arc::new)
}
