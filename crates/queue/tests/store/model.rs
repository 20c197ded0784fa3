//! A naive queue: every message in a `Vec`, every rule in its plainest form. What the store does cleverly must come out the same.
//! Not here: entries that no leader proposes (`nonsense`).

mod queue;

use std::collections::{BTreeMap, BTreeSet};

use warren_queue::entry::{
    AckWithOutputs, Command, Ending, Enqueue, EnqueueTogether, OriginBatch, SettleReason,
    SettleTogether, ShardEntry,
};
use warren_queue::outcome::{BatchOutcome, BatchVerdict, EntryOutcome, Reply};
use warren_types::{BatchSequence, NotStored, Position, PositionRange, Run};

pub(crate) use queue::{ModelMessage, ModelQueue};

#[derive(Default)]
pub(crate) struct Model {
    pub(crate) now: u64,
    pub(crate) queues: BTreeMap<u64, ModelQueue>,
    origins: BTreeMap<u128, ModelOrigin>,
    /// Of the last entry: where scheduled messages of its atomic batches are, by the first index of their block.
    together: Vec<Vec<(std::ops::Range<u32>, u64)>>,
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
        self.together.clear();
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
        let places = places(batch, entry, absents, replies, &self.together);
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

    /// The queue of a command is gone.
    fn gone(&mut self, command: &Command, absent: &mut Absent) {
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
            Command::EnqueueTogether(it) => return self.together(it, absent),
            Command::AckWithOutputs(it) => return self.ack_with_outputs(it),
            Command::SettleTogether(it) => return self.settle_together(it),
            Command::Enqueue(it) => it.queue,
            Command::Settle(it) => it.queue,
            Command::Return(it) => it.queue,
            Command::HandOut(it) => it.queue,
            Command::Release(it) => it.queue,
            Command::Purge(it) => it.queue,
            Command::Activate(it) => it.queue,
            Command::MoveOut(_) | Command::Arrived(_) => unreachable!("`moves` has its own"),
            Command::Park(it) => it.queue,
            Command::DropParked(it) => it.queue,
            Command::Rearm(it) => it.queue,
            Command::Cancel(it) => it.queue,
            Command::Remark(it) => it.queue,
        };
        let Some(queue) = self.queues.get_mut(&id.0) else {
            self.gone(command, absent);
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
            Command::DropParked(it) => queue.drop_parked(it),
            Command::Rearm(_) => Reply::Rearmed,
            Command::Remark(it) => queue.remark(now, it),
            Command::Cancel(it) => {
                let (count, found) = queue.cancel(it);
                self.cancels.push(found);
                Reply::Cancelled { count }
            }
            Command::Purge(it) => Reply::Purged {
                count: queue.purge(now, it),
            },
            Command::Activate(it) => {
                queue.fencing = queue.fencing.max(it.fencing);
                Reply::Activated {
                    fencing: queue.fencing,
                }
            }
            Command::CreateQueue(_)
            | Command::DeleteQueue(_)
            | Command::EnqueueTogether(_)
            | Command::AckWithOutputs(_)
            | Command::SettleTogether(_)
            | Command::MoveOut(_)
            | Command::Arrived(_) => unreachable!("answered above"),
        }
    }
}

impl Model {
    /// Done on a copy, which is kept if the delivery was there and nothing was refused.
    fn ack_with_outputs(&mut self, it: &AckWithOutputs) -> Reply {
        let mut copy = self.queues.clone();
        let Some(queue) = copy.get_mut(&it.queue.0) else {
            return Reply::QueueGone;
        };
        let range = PositionRange::one(it.position);
        let mut is_done = queue.settle(&[range], Some(SettleReason::Acked)) == 1;
        is_done &= self.stores_all(&mut copy, &it.blocks);
        if is_done {
            self.queues = copy;
        }
        Reply::AckedWithOutputs { is_done }
    }

    fn stores_all(&self, queues: &mut BTreeMap<u64, ModelQueue>, blocks: &[Enqueue]) -> bool {
        let mut all = true;
        for block in blocks {
            let mut absent = Absent::new();
            match queues.get_mut(&block.queue.0) {
                Some(queue) => {
                    queue.enqueue(self.now, block, &mut absent);
                }
                None => all = false,
            }
            all &= absent.values().all(|why| *why == NotStored::Duplicate);
        }
        all
    }

    /// The same with several ends, each of which finds its delivery and was not done before.
    fn settle_together(&mut self, it: &SettleTogether) -> Reply {
        let mut probe = self.queues.clone();
        let mut is_done = it.deliveries.iter().all(|it| {
            let range = PositionRange::one(it.position);
            let queue = probe.get_mut(&it.queue.0);
            queue.is_some_and(|queue| {
                let is_first = queue.ended.insert((it.position.0, it.attempt));
                is_first && queue.settle(&[range], None) == 1
            })
        });
        let mut copy = self.queues.clone();
        let endings = if is_done { &it.endings[..] } else { &[] };
        for ending in endings {
            match ending {
                Ending::Remark(it) => copy.get_mut(&it.queue.0).unwrap().remark(self.now, it),
                Ending::Return(it) => copy.get_mut(&it.queue.0).unwrap().requeue(it),
                Ending::Park(it) => copy.get_mut(&it.queue.0).unwrap().park(it),
                Ending::MoveOut(_) => unreachable!("`moves` has its own"),
                Ending::Settle(it) => Reply::Settled {
                    count: copy
                        .get_mut(&it.queue.0)
                        .unwrap()
                        .settle(&it.ranges, Some(it.reason)),
                },
            };
        }
        is_done &= self.stores_all(&mut copy, &it.blocks);
        if is_done {
            for it in &it.deliveries {
                let queue = copy.get_mut(&it.queue.0).unwrap();
                queue.ended.insert((it.position.0, it.attempt));
            }
            self.queues = copy;
        }
        Reply::SettledTogether { is_done }
    }

    /// All or none: done on a copy, which is kept if nothing was refused.
    fn together(&mut self, it: &EnqueueTogether, absent: &mut Absent) -> Reply {
        let none = Reply::EnqueuedTogether { count: 0 };
        let total: u64 = it.blocks.iter().map(|it| it.facts.count()).sum();
        self.together.push(Vec::new());
        if !absent.is_empty() {
            absent.extend((0..total as u32).map(|at| (at, NotStored::BatchRefused)));
            return none;
        }
        let mut copy = self.queues.clone();
        let (mut stored, mut base, mut refused) = (0, 0, Absent::new());
        let mut places = Vec::new();
        for block in &it.blocks {
            let count = block.facts.count() as u32;
            let mut of_block = Absent::new();
            match copy.get_mut(&block.queue.0) {
                Some(queue) => {
                    let first = queue.next();
                    if let Reply::Enqueued { count, .. } =
                        queue.enqueue(self.now, block, &mut of_block)
                    {
                        stored += count;
                    }
                    let due = block.facts.due.iter().zip(0..);
                    let mut due =
                        due.filter(|(due, at)| due.is_some() && !of_block.contains_key(at));
                    if due.next().is_some() {
                        places.push((base..base + count, first));
                    }
                }
                None => of_block.extend((0..count).map(|at| (at, NotStored::QueueGone))),
            }
            refused.extend(of_block.into_iter().map(|(at, why)| (base + at, why)));
            base += count;
        }
        if refused.values().all(|why| *why == NotStored::Duplicate) {
            self.queues = copy;
            *absent = refused;
            *self.together.last_mut().unwrap() = places;
            return Reply::EnqueuedTogether { count: stored };
        }
        refused.retain(|_, why| *why != NotStored::Duplicate);
        absent.extend((0..base).map(|at| (at, NotStored::BatchAborted)));
        absent.extend(refused);
        none
    }
}

/// In a block with scheduled messages: the position of each part's first message.
fn places(
    batch: &OriginBatch,
    entry: &ShardEntry,
    absents: &[Absent],
    replies: &[Reply],
    together: &[Vec<(std::ops::Range<u32>, u64)>],
) -> Vec<Position> {
    let atomic = |command: u32| {
        let before = &entry.commands[..command as usize];
        let before = before
            .iter()
            .filter(|it| matches!(it, Command::EnqueueTogether(_)));
        &together[before.count()]
    };
    let place = |command: u32, first: u32| {
        if let Command::EnqueueTogether(_) = &entry.commands[command as usize] {
            let found = atomic(command)
                .iter()
                .find(|(indexes, _)| indexes.contains(&first));
            return found.map_or(Position(0), |(indexes, at)| {
                Position(at + u64::from(first - indexes.start))
            });
        }
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
