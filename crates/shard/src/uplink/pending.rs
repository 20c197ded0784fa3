//! Batches on their way: numbered without gaps, kept until their result is known, sent again as they were.
//! Not here: encoding them (`encode`), the link they travel by (`task`), how many bytes of them there may be (`window`).

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;
use warren_types::{BatchSequence, NotStored, Position};

use super::encode::Encoded;
use super::window::Window;
use crate::api::{PublishOutcome, RequestToken, SessionEvent};
use crate::link::frame::{Batch, BatchException, BatchPlaces, Storing};
use crate::link::outbox::Outbox;
use crate::surplus::Surplus;
use warren_types::TopologyIndex;

/// Unconfirmed batches of a node and shard, at most; then publishes wait.
pub(crate) const UNCONFIRMED_MAX: usize = 1_024;

/// Who is told what became of one message.
#[derive(Debug, Clone)]
pub(crate) struct Waiter {
    pub(crate) inbox: Outbox<SessionEvent>,
    pub(crate) token: RequestToken,
}

struct Sent {
    batch: Batch,
    /// None once they were told that the outcome is unknown.
    waiters: Vec<Waiter>,
    bytes: usize,
    numbered_at: Instant,
}

/// The unconfirmed batches of this run, oldest first.
#[derive(Default)]
pub(crate) struct Pending {
    sent: VecDeque<Sent>,
    last: BatchSequence,
    confirmed: BatchSequence,
    bytes: usize,
    window: Window,
}

impl Pending {
    /// No more is to be numbered until results come.
    pub(crate) fn is_full(&self) -> bool {
        self.sent.len() >= UNCONFIRMED_MAX || self.bytes >= self.window.bytes()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// The last batch whose result is known.
    pub(crate) fn confirmed(&self) -> BatchSequence {
        self.confirmed
    }

    /// Numbers a batch and keeps it; what is returned is to be sent.
    pub(crate) fn number(
        &mut self,
        encoded: Encoded,
        topology: TopologyIndex,
        storing: Storing,
    ) -> Batch {
        self.last = BatchSequence(self.last.0 + 1);
        let batch = Batch {
            sequence: self.last,
            topology,
            parts: encoded.parts,
            storing,
        };
        self.bytes += encoded.bytes;
        self.sent.push_back(Sent {
            batch: batch.clone(),
            waiters: encoded.waiters,
            bytes: encoded.bytes,
            numbered_at: Instant::now(),
        });
        batch
    }

    /// Tells the waiters of batches numbered so long ago that their outcome is unknown. The batches stay: they may be stored
    /// already, and sequences have no gaps.
    pub(crate) fn give_up(&mut self, now: Instant, after: Duration) {
        let mut told = Told::default();
        for sent in &mut self.sent {
            if now.duration_since(sent.numbered_at) < after {
                break; // later ones are younger
            }
            for waiter in sent.waiters.drain(..) {
                told.add(waiter, PublishOutcome::Unknown);
            }
        }
        told.deliver();
    }

    /// Batches up to `upto` are applied: tells their waiters, but for those whose refused messages are dead-lettered first.
    pub(crate) fn results(
        &mut self,
        upto: BatchSequence,
        exceptions: &[BatchException],
        places: &[BatchPlaces],
        surplus: &Surplus,
    ) {
        let (mut told, mut surplus) = (Told::default(), surplus.turn());
        let (was_full, before) = (self.is_full(), self.bytes);
        let mut took = None;
        while self
            .sent
            .front()
            .is_some_and(|sent| sent.batch.sequence <= upto)
        {
            let Some(sent) = self.sent.pop_front() else {
                break;
            };
            self.bytes -= sent.bytes;
            took = Some(sent.numbered_at.elapsed());
            let sequence = sent.batch.sequence;
            let mut why: HashMap<u32, NotStored> = exceptions
                .iter()
                .filter(|exception| exception.sequence == sequence)
                .map(|exception| (exception.index, exception.why))
                .collect();
            let places = places.iter().find(|it| it.sequence == sequence);
            let mut scheduled = places.map_or_else(HashMap::new, |it| scheduled(&sent.batch, it));
            let mut full: Vec<(u32, Option<Waiter>)> = Vec::new();
            for (index, waiter) in (0u32..).zip(sent.waiters) {
                let stored = scheduled
                    .remove(&index)
                    .map_or(PublishOutcome::Stored, PublishOutcome::Scheduled);
                match why.remove(&index) {
                    None => told.add(waiter, stored),
                    Some(NotStored::QueueFull) => full.push((index, Some(waiter))),
                    Some(why) => told.add(waiter, PublishOutcome::NotStored(why)),
                }
            }
            // Nobody waits any more for what was given up on.
            let given_up = why.into_iter().filter(|it| it.1 == NotStored::QueueFull);
            full.extend(given_up.map(|(index, _)| (index, None)));
            full.sort_unstable_by_key(|(index, _)| *index);
            for (index, waiter) in full {
                if let Some(waiter) = surplus.take(&sent.batch, index, waiter) {
                    told.add(waiter, PublishOutcome::NotStored(NotStored::QueueFull));
                }
            }
        }
        if let Some(took) = took {
            self.window.answered(before - self.bytes, took, was_full);
        }
        self.confirmed = self.confirmed.max(upto);
        told.deliver();
    }

    /// What a new link must be sent again: everything after `last`. How fast the old one was says nothing of it.
    pub(crate) fn after(&mut self, last: BatchSequence) -> Vec<Batch> {
        self.window = Window::default();
        self.sent
            .iter()
            .filter(|sent| sent.batch.sequence > last)
            .map(|sent| sent.batch.clone())
            .collect()
    }
}

/// Where the scheduled messages of a batch are, by their index in it.
fn scheduled(batch: &Batch, places: &BatchPlaces) -> HashMap<u32, Position> {
    let mut found = HashMap::new();
    let mut index = 0_u32;
    for (part, first) in batch.parts.iter().zip(&places.first) {
        for at in 0..part.facts.size.len() {
            let due = part.facts.due.get(at).copied().flatten();
            if due.is_some() && first.0 > 0 {
                found.insert(index, first.plus(at as u64));
            }
            index += 1;
        }
    }
    found
}

/// Outcomes gathered per session, so that each is woken once.
#[derive(Default)]
pub(crate) struct Told {
    runs: Vec<Run>,
}

/// A session and what it is told.
type Run = (Outbox<SessionEvent>, Vec<(RequestToken, PublishOutcome)>);

impl Told {
    pub(crate) fn add(&mut self, waiter: Waiter, outcome: PublishOutcome) {
        let known = self
            .runs
            .iter_mut()
            .rev()
            .take(8)
            .find(|(inbox, _)| inbox.same(&waiter.inbox));
        match known {
            Some((_, run)) => run.push((waiter.token, outcome)),
            None => self
                .runs
                .push((waiter.inbox, vec![(waiter.token, outcome)])),
        }
    }

    pub(crate) fn deliver(self) {
        for (inbox, run) in self.runs {
            inbox.push(SessionEvent::Published(run));
        }
    }
}
