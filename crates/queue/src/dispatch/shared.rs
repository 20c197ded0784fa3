//! What all queues of the shard share: time, lease, consumers, open requests, memory. Not here: any decision about a message.

use std::collections::BTreeSet;

use warren_types::{Attempt, Position, QueueId, ShardTime, Term};

use super::consumer::{Consumers, Holder, Standing};
use super::in_flight::{Flight, State};
use super::io::{Credit, Refill};
use super::options::Options;
use super::queue::Queue;
use super::request::Requests;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) term: Term,
    pub(super) now: ShardTime,
    /// The leader may hand out at this moment.
    pub(super) lease: bool,
    pub(super) started: bool,
    pub(super) consumers: Consumers,
    pub(super) requests: Requests,
    /// Delayed messages by the time at which they are ready.
    pub(super) due: BTreeSet<(ShardTime, QueueId, Position)>,
    pub(super) hot_bytes: usize,
    /// Messages that cursors passed over, of all queues together.
    pub(super) passed: usize,
    /// Consumers of any queue whose node has room again; looked at before the step ends.
    pub(super) woken: Vec<Holder>,
    /// Queues by when their timers ring.
    pub(super) timers: BTreeSet<(ShardTime, QueueId)>,
    /// Queues with messages that expired as they came, and may be handed out in this turn all the same.
    pub(super) newborns: Vec<QueueId>,
    last_number: u64,
}

impl Shared {
    pub(super) fn new(options: Options) -> Self {
        Self {
            options,
            term: Term(0),
            now: ShardTime(0),
            lease: false,
            started: false,
            consumers: Consumers::default(),
            requests: Requests::default(),
            due: BTreeSet::new(),
            hot_bytes: 0,
            passed: 0,
            woken: Vec::new(),
            timers: BTreeSet::new(),
            newborns: Vec::new(),
            last_number: 0,
        }
    }

    pub(super) fn next_attempt(&mut self) -> Attempt {
        self.last_number += 1;
        Attempt {
            term: self.term,
            number: self.last_number,
        }
    }

    /// Lets the consumer stand in line if it may get something.
    pub(super) fn wake(&mut self, queue: &mut Queue, holder: Holder) {
        let Some(consumer) = self.consumers.get_mut(holder) else {
            return;
        };
        if consumer.standing != Standing::Active || consumer.ringed {
            return;
        }
        if queue.single.as_ref().is_some_and(|it| !it.serves(holder)) {
            return;
        }
        if consumer.has_credit() {
            consumer.ringed = true;
            queue.ring.join(holder, consumer.options.priority);
            if let Some(groups) = &mut queue.groups {
                groups.wake(holder);
            }
        } else {
            self.note_dry(queue, holder);
        }
    }

    /// The consumer has no credit: it is to be told once if messages wait. One whose credit refills by itself need not be.
    pub(super) fn note_dry(&mut self, queue: &mut Queue, holder: Holder) {
        if let Some(consumer) = self.consumers.get_mut(holder)
            && consumer.options.refill == Refill::Nothing
            && !consumer.told_waiting
            && !consumer.dry
        {
            consumer.dry = true;
            queue.dry.push(holder);
        }
    }

    /// Gives one message's credit back.
    pub(super) fn refill(&mut self, queue: &mut Queue, holder: Holder, body_bytes: u32) {
        let Some(consumer) = self.consumers.get_mut(holder) else {
            return;
        };
        let bytes = match consumer.options.refill {
            Refill::Nothing => return,
            Refill::Messages => 0,
            Refill::All => u64::from(body_bytes),
        };
        if consumer.is_attached() {
            consumer.add(Credit { messages: 1, bytes });
            self.wake(queue, holder);
        }
    }

    /// One more message is in flight in this name.
    pub(super) fn hold(&mut self, holder: Holder) {
        if let Some(consumer) = self.consumers.get_mut(holder) {
            consumer.in_flight += 1;
        }
        if let Some(node) = self.consumers.node_of(holder) {
            node.in_flight += 1;
        }
    }

    /// One less. Whoever waited for the node's limit gets its turn.
    pub(super) fn unhold(&mut self, holder: Holder) {
        let limit = self.options.node_in_flight_max;
        let Some(node) = self.consumers.node_of(holder) else {
            return;
        };
        node.in_flight = node.in_flight.saturating_sub(1);
        if node.in_flight < limit && !node.full.is_empty() {
            self.woken.append(&mut node.full);
        }
        if let Some(consumer) = self.consumers.get_mut(holder) {
            consumer.in_flight = consumer.in_flight.saturating_sub(1);
            if consumer.in_flight == 0 {
                match consumer.standing {
                    Standing::Gone | Standing::Cancelled => self.consumers.remove(holder),
                    Standing::Attaching | Standing::Active | Standing::Absent => {}
                }
            }
        }
    }

    /// The settle or return of a message is committed: it is no longer in flight.
    pub(super) fn landed(&mut self, queue: &mut Queue, flight: &Flight) {
        if let Some(consumer) = self.consumers.get_mut(flight.holder) {
            match flight.state {
                State::Settling | State::Returning => {
                    consumer.uncommitted = consumer.uncommitted.saturating_sub(1);
                }
                State::Held | State::Unverified => {}
            }
        }
        if flight.refill_due {
            self.refill(queue, flight.holder, flight.body_bytes);
        }
        self.unhold(flight.holder);
    }

    /// Brings the shard's total in line with what the queue keeps hot.
    pub(super) fn count_hot(&mut self, queue: &mut Queue) {
        let now = queue
            .levels
            .iter()
            .map(super::level::Level::hot_bytes)
            .sum();
        self.hot_bytes = self.hot_bytes - queue.hot_bytes + now;
        queue.hot_bytes = now;
    }

    /// The same with what its cursors passed over.
    pub(super) fn count_passed(&mut self, queue: &mut Queue) {
        let now = queue.levels.iter().map(|it| it.back.passed()).sum();
        self.passed = self.passed - queue.passed + now;
        queue.passed = now;
    }
}
