//! Decides who gets which message. Leader only, in memory, rebuilt after failover. Not here: IO, clocks, durable facts.
//!
//! What the caller owes: `Open` comes first; every effect of every entry applied after the opening is passed on, in order;
//! every proposal is committed while this leader leads (or the dispatcher is dropped and opened anew); every `Load` is answered,
//! by a read at least as new as the effects passed on when it was asked; `Clock` comes regularly.
//!
//! One `step` per input, one file per input; at the end of each step `hand_out::fill` hands out what can be handed out.

mod applied;
mod attach;
mod back;
mod claim;
mod clock;
mod consumer;
mod credit;
mod detach;
mod dispose;
mod due;
mod give_back;
mod groups;
mod hand_out;
mod hot;
mod in_flight;
pub mod io;
mod keys;
mod leaving;
mod level;
mod limits;
mod loaded;
mod mark;
mod node;
mod options;
mod outputs;
mod proposals;
mod purge;
mod queue;
mod request;
mod retry;
mod ring;
mod settle;
mod shared;
mod single_active;
mod together;

use std::collections::BTreeMap;

use warren_types::{NodeId, Position, Priority, QueueId, ShardTime, Term};

pub use self::options::Options;
pub use self::retry::DELAY_MS_MAX;

use self::hand_out::MayRaise;
use self::in_flight::State;
use self::io::{
    Action, Actions, Attach, AttachResult, ConsumerKey, Input, QueueOpening, SettleResult,
    TogetherRequest, Token, Whereabouts,
};
use self::queue::Queue;
use self::shared::Shared;
use crate::outcome::{Added, Cancelled, Effect, OutputsRefused, Tally};

/// The dispatcher of one shard.
#[derive(Debug)]
pub struct Dispatch {
    queues: BTreeMap<QueueId, Queue>,
    shared: Shared,
    /// Queues to be looked at before the step ends.
    dirty: Vec<QueueId>,
    /// Queues whose raise was put off until the effects of the entry are heard.
    put_off: Vec<QueueId>,
    /// What is to end in one, and cannot yet: with the queue it waits for.
    waiting: Vec<(QueueId, TogetherRequest)>,
}

/// A queue's messages as dispatch sees them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct QueueStats {
    pub ready: u64,
    pub unacked: u64,
    pub consumers: u64,
    /// Returned until later.
    pub delayed: u64,
    /// Of those that are ready: they are known to wait for their group keys.
    pub held_back: u64,
}

impl Dispatch {
    /// Knows nothing and does nothing before `Input::Open`, hands nothing out before `Start` and a `Clock` with the lease.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            queues: BTreeMap::new(),
            shared: Shared::new(options),
            dirty: Vec::new(),
            put_off: Vec::new(),
            waiting: Vec::new(),
        }
    }

    /// Takes one input; what follows from it is appended to `out`.
    pub fn step(&mut self, input: Input, out: &mut Actions) {
        let may_raise = self.may_raise(&input);
        self.take(input, out);
        self.fill(may_raise, out);
    }

    /// The raise that an enqueue to this queue and priority should carry (`Enqueue::raise`).
    #[must_use]
    pub fn raise_hint(&self, queue: QueueId, priority: Priority) -> Option<u32> {
        let queue = self.queues.get(&queue)?;
        mark::riding(queue, priority, self.shared.options.chunk)
    }

    /// What is ready in a queue, for its length limits.
    #[must_use]
    pub fn ready(&self, queue: QueueId) -> Tally {
        let queue = self.queues.get(&queue);
        queue.map_or(Tally::default(), |it| Tally {
            messages: it.ready(),
            body_bytes: it.ready_bytes(),
        })
    }

    /// The earliest time at which something is to be done that no input will tell of.
    #[must_use]
    pub fn next_timer(&self) -> Option<ShardTime> {
        let timers = self.shared.timers.first().map(|(at, _)| *at);
        let delayed = self.shared.due.first().map(|(at, _, _)| *at);
        timers.into_iter().chain(delayed).min()
    }

    /// Where a message that has not left its queue is.
    #[must_use]
    pub fn whereabouts(&self, queue: QueueId, position: Position) -> Whereabouts {
        let queue = self.queues.get(&queue);
        match queue.and_then(|it| it.in_flight.get(position)) {
            None => Whereabouts::NotInFlight,
            Some(flight) => match flight.state {
                State::Settling => Whereabouts::Leaving,
                State::Unverified | State::Held | State::Returning => Whereabouts::Unacked,
            },
        }
    }

    /// How many more messages of a queue may begin to leave for its dead-letter target now.
    #[must_use]
    pub fn leaving_room(&self, queue: QueueId) -> u64 {
        self.queues.get(&queue).map_or(0, leaving::room)
    }

    #[must_use]
    pub fn queue_stats(&self, queue: QueueId) -> Option<QueueStats> {
        let queue = self.queues.get(&queue)?;
        Some(QueueStats {
            ready: queue.ready(),
            unacked: (queue.in_flight.len() as u64).saturating_sub(queue.settling),
            consumers: queue.attached.len() as u64,
            delayed: queue.delayed.len() as u64,
            held_back: groups::held_back(queue, self.shared.options.group_window),
        })
    }

    /// Of a queue, since dispatch opened: messages handed out, and those of them that were flagged as redelivered.
    #[must_use]
    pub fn handed_out(&self, queue: QueueId) -> (u64, u64) {
        self.queues.get(&queue).map_or((0, 0), |it| it.handed_out)
    }

    /// Messages of a queue that are set aside.
    #[must_use]
    pub fn parked(&self, queue: QueueId) -> u64 {
        self.queues.get(&queue).map_or(0, |it| it.parked)
    }

    /// Body bytes of a queue's ready messages.
    #[must_use]
    pub fn ready_bytes(&self, queue: QueueId) -> u64 {
        self.queues.get(&queue).map_or(0, Queue::ready_bytes)
    }

    /// Where the first ready message of each priority is to be looked for: nothing below is ready. Empty if nothing is.
    #[must_use]
    pub fn ready_from(&self, queue: QueueId) -> Vec<(Priority, Position)> {
        let Some(queue) = self.queues.get(&queue).filter(|it| it.ready() > 0) else {
            return Vec::new();
        };
        let levels = queue.levels.iter();
        levels.map(|it| (it.priority, it.ready_from())).collect()
    }

    /// No consumers and no messages: nothing will happen here by time alone.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.shared.started && self.queues.values().all(Queue::is_quiet)
    }

    /// Consumers of a queue that stay: not those that take what is there and leave.
    #[must_use]
    pub fn consumers(&self, queue: QueueId) -> u64 {
        let attached = self.queues.get(&queue).into_iter();
        let holders = attached.flat_map(|queue| queue.attached.iter());
        let lasting = holders.filter_map(|&holder| self.shared.consumers.get(holder));
        lasting.filter(|it| !it.options.passing).count() as u64
    }

    /// Bytes of blocks kept ready, all queues together.
    #[must_use]
    pub fn hot_bytes(&self) -> usize {
        self.shared.hot_bytes
    }

    /// The raise that may have ridden on an added block is heard right after it: not a moment to propose another.
    fn may_raise(&self, input: &Input) -> MayRaise {
        if let Input::Applied(Effect::Added(it)) = input
            && self.raise_hint(it.queue, it.block.priority).is_some()
        {
            return MayRaise::Later;
        }
        MayRaise::Now
    }

    fn take(&mut self, input: Input, out: &mut Actions) {
        match input {
            Input::Open { term, now, queues } => self.open(term, now, queues),
            Input::Settings { queue, settings } => {
                self.of_queue(queue, |queue, shared| {
                    queue.settings = settings;
                    single_active::set(queue, shared);
                    groups::set(queue);
                });
            }
            Input::Start => {
                self.shared.started = true;
                self.touch_all();
            }
            Input::Attach(it) => self.attach(it, out),
            Input::Credit { consumer, add } => self.of_consumer(consumer, |queue, shared| {
                credit::add(queue, shared, consumer, add);
            }),
            Input::Recall { consumer, up_to } => {
                credit::recall(&mut self.shared, consumer, up_to, out);
            }
            Input::Settle(it) => match self.touch(it.queue) {
                Some((queue, shared)) => settle::step(queue, shared, it, out),
                None => queue_gone(it.node, it.token, it.items.len(), out),
            },
            Input::Return(it) => match self.touch(it.queue) {
                Some((queue, shared)) => give_back::step(queue, shared, it, out),
                None => queue_gone(it.node, it.token, it.items.len(), out),
            },
            Input::SettleTogether(it) => self.settle_together(it, out),
            Input::Detach { consumer, returns } => self.of_consumer(consumer, |queue, shared| {
                if let Some(holder) = shared.consumers.find(consumer) {
                    detach::step(queue, shared, holder, returns, out);
                }
            }),
            Input::NodeLost { node, silent_ms } => {
                node::lost(&mut self.queues, &mut self.shared, node, silent_ms);
            }
            Input::NodeBack { node } => node::back(&mut self.queues, &mut self.shared, node),
            Input::NodeReported { node } => {
                node::reported(&mut self.queues, &mut self.shared, node, out);
            }
            Input::Purge {
                queue,
                token,
                node,
                states,
            } => match self.touch(queue) {
                Some((queue, _)) => purge::step(queue, node, token, states, out),
                None => out.list.push(Action::Purged {
                    node,
                    token,
                    count: 0,
                }),
            },
            Input::Applied(effect) => self.applied(effect, out),
            Input::Loaded(it) => {
                if let Some((queue, shared)) = self.touch(it.queue) {
                    loaded::step(queue, shared, &it, out);
                }
            }
            Input::Due(it) => self.of_queue(it.queue, |queue, shared| {
                due::found(queue, shared, it, out);
            }),
            Input::TakeOut { queue, messages } => self.of_queue(queue, |queue, _| {
                leaving::take_out(queue, &messages);
            }),
            Input::Clock { now, lease } => self.clock(now, lease, out),
        }
    }

    fn open(&mut self, term: Term, now: ShardTime, queues: Vec<QueueOpening>) {
        *self = Self::new(self.shared.options);
        self.shared.term = term;
        self.shared.now = now;
        for opening in queues {
            let (id, delayed) = (opening.queue, opening.delayed.clone());
            let mut queue = Queue::opened(opening);
            for it in delayed {
                clock::delay_again(&mut queue, &mut self.shared, &it);
            }
            if let Some(first) = queue.watch.first {
                self.shared.timers.insert((first, id));
            }
            self.queues.insert(id, queue);
        }
    }

    fn attach(&mut self, it: Attach, out: &mut Actions) {
        match self.touch(it.queue) {
            Some((queue, shared)) => attach::step(queue, shared, it, out),
            None => out.list.push(Action::Attached {
                consumer: it.consumer,
                result: AttachResult::QueueGone,
            }),
        }
    }

    fn applied(&mut self, effect: Effect, out: &mut Actions) {
        match effect {
            Effect::QueueCreated { queue } => self.created(queue),
            Effect::QueueDeleted { queue } => {
                applied::deleted(&mut self.queues, &mut self.shared, queue, out);
            }
            Effect::Added(it) => self.added(it),
            Effect::Settled {
                queue,
                ranges,
                left,
                reason,
            } => self.of_queue(queue, |queue, shared| {
                purge::count(queue, reason, left);
                applied::settled(queue, shared, &ranges, left, out);
            }),
            Effect::Parked {
                queue,
                ranges,
                tally,
                ..
            } => self.of_queue(queue, |queue, shared| {
                applied::parked(queue, shared, &ranges, tally, out);
            }),
            Effect::OutputsRefused(it) => self.outputs_refused(&it, out),
            Effect::TogetherRefused(it) => self.together_refused(&it, out),
            Effect::Rearmed { queue } => self.of_queue(queue, due::rearmed),
            Effect::Returned {
                queue,
                ranges,
                counts,
                not_before,
                ..
            } => self.of_queue(queue, |queue, shared| {
                applied::returned(queue, shared, &ranges, &counts, not_before, out);
            }),
            Effect::Raised {
                queue,
                priority,
                mark,
            } => self.of_queue(queue, |queue, _| {
                mark::raised(queue.level_mut(priority), mark);
            }),
            Effect::Taken {
                queue,
                priority,
                ranges,
            } => self.of_queue(queue, |queue, _| {
                mark::taken(queue.level_mut(priority), &ranges);
            }),
            Effect::Released(it) => self.of_queue(it.queue, |queue, _| {
                due::released(queue, &it, out);
            }),
            Effect::Purged {
                queue,
                ranges,
                left,
            } => self.of_queue(queue, |queue, shared| {
                applied::purged(queue, shared, &ranges, left, out);
            }),
            Effect::Activated { queue, fencing } => self.of_queue(queue, |queue, shared| {
                single_active::activated(queue, shared, fencing);
            }),
            Effect::Cancelled(it) => self.cancelled(&it, out),
            // The leader sends them, or decides on them anew: until they have left they stay in flight. What became of each is told for itself.
            Effect::Outgoing { .. } | Effect::NotMoved { .. } | Effect::TogetherDone { .. } => {}
            Effect::Time { now } => self.shared.now = self.shared.now.max(now),
        }
    }

    fn added(&mut self, it: Added) {
        self.of_queue(it.queue, |queue, shared| applied::added(queue, shared, it));
    }

    fn outputs_refused(&mut self, it: &OutputsRefused, out: &mut Actions) {
        self.of_queue(it.queue, |queue, shared| {
            outputs::refused(queue, shared, it, out);
        });
    }

    fn created(&mut self, queue: QueueId) {
        let made = Queue::new(queue, Position(1));
        self.queues.entry(queue).or_insert(made);
    }

    fn cancelled(&mut self, it: &Cancelled, out: &mut Actions) {
        self.of_queue(it.queue, |queue, shared| {
            applied::settled(queue, shared, &it.ranges, it.left, out);
        });
    }

    fn clock(&mut self, now: ShardTime, lease: bool, out: &mut Actions) {
        for id in clock::step(&mut self.queues, &mut self.shared, now, out) {
            self.touch(id);
        }
        let regained = lease && !self.shared.lease;
        self.shared.lease = lease;
        if regained {
            self.touch_all();
        }
    }

    fn of_queue(&mut self, id: QueueId, act: impl FnOnce(&mut Queue, &mut Shared)) {
        if let Some((queue, shared)) = self.touch(id) {
            act(queue, shared);
        }
    }

    fn of_consumer(&mut self, key: ConsumerKey, act: impl FnOnce(&mut Queue, &mut Shared)) {
        let holder = self.shared.consumers.find(key);
        let queue = holder
            .and_then(|it| self.shared.consumers.get(it))
            .map(|it| it.queue);
        if let Some(id) = queue {
            self.of_queue(id, act);
        }
    }

    /// The queue, which is looked at again before the step ends.
    fn touch(&mut self, id: QueueId) -> Option<(&mut Queue, &mut Shared)> {
        let queue = self.queues.get_mut(&id)?;
        if !queue.dirty {
            queue.dirty = true;
            self.dirty.push(id);
        }
        Some((queue, &mut self.shared))
    }

    fn touch_all(&mut self) {
        self.touch_waiting();
        for (&id, queue) in &mut self.queues {
            if !queue.attached.is_empty() && !queue.dirty {
                queue.dirty = true;
                self.dirty.push(id);
            }
        }
    }

    /// Ends a step: every queue it touched hands out what it can.
    fn fill(&mut self, may_raise: MayRaise, out: &mut Actions) {
        for holder in std::mem::take(&mut self.shared.woken) {
            let queue = self.shared.consumers.get(holder).map(|it| it.queue);
            if let Some((queue, shared)) = queue.and_then(|id| self.touch(id)) {
                shared.wake(queue, holder);
            }
        }
        if may_raise == MayRaise::Now {
            for id in std::mem::take(&mut self.put_off) {
                self.touch(id);
            }
        }
        self.settle_waiting(out);
        let mut dirty = std::mem::take(&mut self.dirty);
        for id in dirty.drain(..) {
            let Some(queue) = self.queues.get_mut(&id) else {
                continue;
            };
            queue.dirty = false;
            if hand_out::fill(queue, &mut self.shared, may_raise, out) {
                self.put_off.push(id);
            }
        }
        self.dirty = dirty;
    }
}

fn queue_gone(node: NodeId, token: Token, items: usize, out: &mut Actions) {
    out.list.push(Action::SettleResults {
        node,
        token,
        results: vec![SettleResult::QueueGone; items],
    });
}
