//! A naive queue: every message in a `Vec`, every rule in its plainest form. What the store does cleverly must come out the same.
//! Not here: entries that no leader proposes (`nonsense`).

use std::collections::{BTreeMap, BTreeSet};

use warren_queue::entry::{
    Cancel, Command, Enqueue, HandOut, OriginBatch, Park, Purge, Release, Return, ReturnKind,
    SettleReason, ShardEntry,
};
use warren_queue::outcome::{BatchOutcome, BatchVerdict, EntryOutcome, Reply};
use warren_queue::rows::Counters;
use warren_queue::store::{PRODUCER_IDLE_MS_MAX, PRODUCER_WINDOW};
use warren_types::{
    BatchSequence, NotStored, Position, PositionRange, ProducerId, ProducerSpan, Run, ShardTime,
};

#[derive(Default)]
pub(crate) struct Model {
    pub(crate) now: u64,
    pub(crate) queues: BTreeMap<u64, ModelQueue>,
    origins: BTreeMap<u128, ModelOrigin>,
    /// Of the last entry: what each of its cancels found, in order.
    pub(crate) cancels: Vec<ModelCancel>,
}

/// Positions: taken back now, taken back before, never given.
#[derive(Default, Debug, PartialEq)]
pub(crate) struct ModelCancel {
    pub(crate) now: BTreeSet<u64>,
    pub(crate) before: BTreeSet<u64>,
    pub(crate) unknown: BTreeSet<u64>,
}

#[derive(Default)]
struct ModelOrigin {
    run: u64,
    last: u64,
    exceptions: BTreeMap<u64, Vec<(u32, NotStored)>>,
    places: BTreeMap<u64, Vec<Position>>,
}

#[derive(Default)]
pub(crate) struct ModelQueue {
    pub(crate) fencing: u64,
    /// Message `n` has position `n + 1`.
    pub(crate) messages: Vec<ModelMessage>,
    pub(crate) counters: Counters,
    pub(crate) marks: BTreeMap<u8, u64>,
    producers: BTreeMap<ProducerId, ModelProducer>,
    cancelled: BTreeSet<u64>,
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
    body: u64,
}

#[derive(Default)]
struct ModelProducer {
    epoch: u64,
    last: u64,
    stored: BTreeSet<u64>,
    seen: u64,
}

type Absent = BTreeMap<u32, NotStored>;

impl Model {
    pub(crate) fn last(&self, node: u128, run: u64) -> u64 {
        self.origins
            .get(&node)
            .map_or(0, |origin| if origin.run == run { origin.last } else { 0 })
    }

    pub(crate) fn apply(&mut self, entry: &ShardEntry) -> EntryOutcome {
        self.now = self.now.max(entry.now.0);
        self.cancels.clear();
        let verdicts: Vec<Option<BatchVerdict>> =
            entry.origins.iter().map(|it| self.judge(it)).collect();
        let refused = |command: usize| {
            let mut absent = Absent::new();
            for (batch, verdict) in entry.origins.iter().zip(&verdicts) {
                let parts = batch
                    .parts
                    .iter()
                    .filter(|part| verdict.is_some() && part.command as usize == command);
                absent.extend(
                    parts
                        .flat_map(|it| it.first..it.first + it.count)
                        .map(|at| (at, NotStored::BatchRefused)),
                );
            }
            absent
        };
        let mut replies = Vec::new();
        let mut absents = Vec::new();
        for (number, command) in entry.commands.iter().enumerate() {
            let mut absent = refused(number);
            replies.push(self.command(command, &mut absent));
            absents.push(absent);
        }
        let mut batches = Vec::new();
        for (batch, verdict) in entry.origins.iter().zip(verdicts) {
            let verdict = verdict.unwrap_or_else(|| self.taken(batch, entry, &absents, &replies));
            let verdict = match verdict {
                BatchVerdict::Duplicate { .. } => self.recorded(batch),
                other => other,
            };
            let (incarnation, run, sequence) = (batch.incarnation, batch.run, batch.sequence);
            batches.push(BatchOutcome {
                incarnation,
                run,
                sequence,
                verdict,
            });
        }
        EntryOutcome {
            proposal: entry.proposal,
            replies,
            batches,
        }
    }

    /// `None` = taken.
    fn judge(&mut self, batch: &OriginBatch) -> Option<BatchVerdict> {
        let origin = self.origins.entry(batch.incarnation.0).or_default();
        if batch.run.0 < origin.run {
            return Some(BatchVerdict::OldRun {
                current: Run(origin.run),
            });
        }
        let last = if batch.run.0 > origin.run {
            0
        } else {
            origin.last
        };
        if batch.sequence.0 <= last {
            return Some(BatchVerdict::Duplicate {
                exceptions: Vec::new(),
                places: Vec::new(),
            });
        }
        if batch.sequence.0 != last + 1 {
            return Some(BatchVerdict::Gap {
                last: BatchSequence(last),
            });
        }
        if batch.run.0 > origin.run {
            *origin = ModelOrigin {
                run: batch.run.0,
                ..ModelOrigin::default()
            };
        }
        origin.last = batch.sequence.0;
        None
    }

    fn taken(
        &mut self,
        batch: &OriginBatch,
        entry: &ShardEntry,
        absents: &[Absent],
        replies: &[Reply],
    ) -> BatchVerdict {
        let mut exceptions = Vec::new();
        let mut index = 0;
        for part in &batch.parts {
            for at in part.first..part.first + part.count {
                exceptions.extend(
                    absents[part.command as usize]
                        .get(&at)
                        .map(|why| (index, *why)),
                );
                index += 1;
            }
        }
        let places = places(batch, entry, absents, replies);
        let origin = self.origins.get_mut(&batch.incarnation.0).unwrap();
        if origin.run == batch.run.0 {
            origin
                .exceptions
                .insert(batch.sequence.0, exceptions.clone());
            origin.places.insert(batch.sequence.0, places.clone());
        }
        BatchVerdict::Taken { exceptions, places }
    }

    fn recorded(&self, batch: &OriginBatch) -> BatchVerdict {
        let origin = &self.origins[&batch.incarnation.0];
        if origin.run > batch.run.0 {
            return BatchVerdict::OldRun {
                current: Run(origin.run),
            };
        }
        BatchVerdict::Duplicate {
            exceptions: origin
                .exceptions
                .get(&batch.sequence.0)
                .cloned()
                .unwrap_or_default(),
            places: origin
                .places
                .get(&batch.sequence.0)
                .cloned()
                .unwrap_or_default(),
        }
    }

    fn command(&mut self, command: &Command, absent: &mut Absent) -> Reply {
        let now = self.now;
        let id = match command {
            Command::CreateQueue(it) => {
                self.queues.entry(it.queue.0).or_default();
                return Reply::Created;
            }
            Command::DeleteQueue(it) => {
                let messages = self
                    .queues
                    .remove(&it.queue.0)
                    .map_or(0, |queue| queue.live());
                return Reply::Deleted { messages };
            }
            Command::Enqueue(it) => it.queue,
            Command::Settle(it) => it.queue,
            Command::Return(it) => it.queue,
            Command::HandOut(it) => it.queue,
            Command::Release(it) => it.queue,
            Command::Purge(it) => it.queue,
            Command::Activate(it) => it.queue,
            Command::MoveOut(_) | Command::Arrived(_) => unreachable!("`moves` has its own"),
            Command::Park(it) => it.queue,
            Command::Rearm(it) => it.queue,
            Command::Cancel(it) => it.queue,
        };
        let Some(queue) = self.queues.get_mut(&id.0) else {
            if let Command::Cancel(it) = command {
                let asked = it.ranges.iter().flat_map(|range| range.positions());
                self.cancels.push(ModelCancel {
                    unknown: asked.map(|at| at.0).collect(),
                    ..ModelCancel::default()
                });
            }
            if let Command::Enqueue(it) = command {
                *absent = (0..it.facts.count() as u32)
                    .map(|at| (at, NotStored::QueueGone))
                    .collect();
            }
            return Reply::QueueGone;
        };
        match command {
            Command::Enqueue(it) => queue.enqueue(now, it, absent),
            Command::Settle(it) => Reply::Settled {
                count: queue.settle(&it.ranges, Some(it.reason)),
            },
            Command::Return(it) => queue.requeue(it),
            Command::HandOut(it) => queue.hand_out(it),
            Command::Release(it) => queue.release(it),
            Command::Park(it) => queue.park(it),
            Command::Rearm(_) => Reply::Rearmed,
            Command::Cancel(it) => {
                let (count, found) = queue.cancel(it);
                self.cancels.push(found);
                Reply::Cancelled { count }
            }
            Command::Purge(it) => {
                let count = queue.purge(now, it);
                Reply::Purged { count }
            }
            Command::Activate(it) => {
                queue.fencing = queue.fencing.max(it.fencing);
                Reply::Activated {
                    fencing: queue.fencing,
                }
            }
            Command::CreateQueue(_)
            | Command::DeleteQueue(_)
            | Command::MoveOut(_)
            | Command::Arrived(_) => unreachable!("answered above"),
        }
    }
}

/// In a block with scheduled messages: the position of each part's first message.
fn places(
    batch: &OriginBatch,
    entry: &ShardEntry,
    absents: &[Absent],
    replies: &[Reply],
) -> Vec<Position> {
    let place = |command: u32, first: u32| {
        let (Command::Enqueue(it), Reply::Enqueued { first: at, .. }) = (
            &entry.commands[command as usize],
            &replies[command as usize],
        ) else {
            return Position(0);
        };
        let absent = &absents[command as usize];
        let due = it.facts.due.iter().zip(0..);
        let scheduled = due.filter(|(due, index)| due.is_some() && !absent.contains_key(index));
        if scheduled.count() == 0 {
            return Position(0);
        }
        at.plus(u64::from(first))
    };
    let parts = batch.parts.iter();
    let places: Vec<Position> = parts.map(|it| place(it.command, it.first)).collect();
    if places.iter().all(|it| it.0 == 0) {
        return Vec::new();
    }
    places
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

    fn enqueue(&mut self, now: u64, it: &Enqueue, absent: &mut Absent) -> Reply {
        for full in &it.full {
            for at in full.first..(full.first + full.count).min(it.facts.count() as u32) {
                absent.entry(at).or_insert(NotStored::QueueFull);
            }
        }
        for span in &it.producers {
            self.producer(now, span, absent);
        }
        let (first, count) = (self.next(), it.facts.count());
        let stored = count - absent.len() as u64;
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
    fn settle(&mut self, ranges: &[PositionRange], reason: Option<SettleReason>) -> u64 {
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
        };
        *total += count;
        count
    }

    fn purge(&mut self, now: u64, it: &Purge) -> u64 {
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

    fn cancel(&mut self, it: &Cancel) -> (u64, ModelCancel) {
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

    fn requeue(&mut self, it: &Return) -> Reply {
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

    fn hand_out(&mut self, it: &HandOut) -> Reply {
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

    fn release(&mut self, it: &Release) -> Reply {
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

    fn park(&mut self, it: &Park) -> Reply {
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
