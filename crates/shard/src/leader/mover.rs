//! The books of a leader's moves: dead letters that are to be decided on, numbers on their way to other shards, what to try again.
//! Not here: routing and rewriting them (`dead_letter`), what the numbers mean (`warren-queue`'s store), the way there (`uplink`).
//!
//! Every message that is to be moved is in flight, held by nobody, until its end is committed; so nothing here has to survive a change
//! of leader but the numbers, which the store keeps.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;
use warren_queue::entry::{Settle, SettleReason};
use warren_queue::rows::OutgoingRow;
use warren_types::{BatchSequence, Position, PositionRange, QueueId, ShardId};

use super::dying::Dying;
use crate::link::frame::Batch;

/// Messages decided on together, and so under one number, times the queues they go to.
pub(super) const COPIES_MAX: usize = 1_024;
/// Messages decided on together.
pub(super) const MESSAGES_MAX: usize = 128;
/// Copies on their way to one shard whose answers are not known. The target remembers four times as many refusals.
const LANE_COPIES_MAX: usize = 1_024;
/// Numbers on their way and decisions under way, together; then what is to be moved waits.
const UNDER_WAY_MAX: usize = 512;
/// What was not answered for so long is sent again.
const RESEND_AFTER: Duration = Duration::from_secs(1);
/// A dead letter that nobody takes and that is to be kept is tried again so late.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// What a read of messages is for.
#[derive(Debug, Clone)]
pub(super) enum Job {
    Decide(Settle),
    /// They are among deliveries that end in one.
    Together(Settle, Dying),
    Send {
        shard: ShardId,
        number: u64,
    },
}

/// A number that was sent.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) batch: Batch,
    /// Which message each of the batch's copies is, in its order.
    pub(super) copies: Vec<Position>,
    pub(super) row: OutgoingRow,
}

#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<(u64, OutgoingRow)>,
    reading: bool,
    sent: VecDeque<Sent>,
    sent_at: Option<Instant>,
}

#[derive(Debug, Default)]
pub(super) struct Mover {
    /// To be decided on.
    backlog: VecDeque<Settle>,
    jobs: HashMap<u64, Job>,
    tickets: u64,
    /// Everything that is to be moved and has not left.
    known: HashMap<QueueId, BTreeSet<Position>>,
    lanes: BTreeMap<ShardId, Lane>,
    again: VecDeque<(Instant, Settle)>,
}

impl Mover {
    /// What the store says is on its way.
    pub(super) fn open(&mut self, outgoing: Vec<(ShardId, u64, OutgoingRow)>) {
        for (shard, number, row) in outgoing {
            self.outgoing(shard, number, row);
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.known.is_empty() && self.lanes.is_empty() && self.again.is_empty()
    }

    /// Numbers on their way and decisions under way.
    pub(super) fn under_way(&self) -> usize {
        let lanes = self.lanes.values();
        let numbers: usize = lanes.map(|it| it.waiting.len() + it.sent.len()).sum();
        numbers + self.jobs.len()
    }

    /// These are to be moved; what is known already is passed over.
    pub(super) fn add(&mut self, it: &Settle) {
        let known = self.known.entry(it.queue).or_default();
        let mut positions = it.ranges.iter().flat_map(|range| range.positions());
        loop {
            let some: Vec<Position> = positions
                .by_ref()
                .filter(|&at| known.insert(at))
                .take(MESSAGES_MAX)
                .collect();
            if some.is_empty() {
                return;
            }
            self.backlog.push_back(Settle {
                queue: it.queue,
                ranges: PositionRange::collect(some),
                reason: it.reason,
            });
        }
    }

    /// Messages that dispatch knows nothing of are on their way, as soon as that is committed.
    pub(super) fn note(&mut self, queue: QueueId, positions: impl Iterator<Item = Position>) {
        self.known.entry(queue).or_default().extend(positions);
    }

    pub(super) fn knows(&self, queue: QueueId, position: Position) -> bool {
        let known = self.known.get(&queue);
        known.is_some_and(|it| it.contains(&position))
    }

    /// They have left, or stay for another reason.
    pub(super) fn forget(&mut self, queue: QueueId, ranges: &[PositionRange]) {
        let Some(known) = self.known.get_mut(&queue) else {
            return;
        };
        for position in ranges.iter().flat_map(|range| range.positions()) {
            known.remove(&position);
        }
        if known.is_empty() {
            self.known.remove(&queue);
        }
    }

    pub(super) fn forget_queue(&mut self, queue: QueueId) {
        self.known.remove(&queue);
        self.backlog.retain(|it| it.queue != queue);
        self.again.retain(|(_, it)| it.queue != queue);
    }

    /// Nobody took them, and they are to be kept.
    pub(super) fn try_again(
        &mut self,
        queue: QueueId,
        ranges: Vec<PositionRange>,
        reason: SettleReason,
    ) {
        let at = Instant::now() + RETRY_AFTER;
        let it = Settle {
            queue,
            ranges,
            reason,
        };
        self.again.push_back((at, it));
    }

    /// What of it has neither left nor been set aside since.
    fn still_known(&self, it: Settle) -> Option<Settle> {
        let known = self.known.get(&it.queue)?;
        let positions = it.ranges.iter().flat_map(|range| range.positions());
        let ranges = PositionRange::collect(positions.filter(|at| known.contains(at)));
        (!ranges.is_empty()).then_some(Settle { ranges, ..it })
    }

    pub(super) fn outgoing(&mut self, shard: ShardId, number: u64, row: OutgoingRow) {
        let known = self.known.entry(row.queue).or_default();
        known.extend(row.ranges.iter().flat_map(|range| range.positions()));
        let lane = self.lanes.entry(shard).or_default();
        lane.waiting.push_back((number, row));
    }

    /// The reads that are to be asked for now: `(ticket, queue, ranges)`.
    pub(super) fn due(&mut self) -> Vec<(u64, QueueId, Vec<PositionRange>)> {
        let now = Instant::now();
        while let Some((at, _)) = self.again.front()
            && *at <= now
            && let Some((_, it)) = self.again.pop_front()
        {
            if let Some(it) = self.still_known(it) {
                self.backlog.push_back(it);
            }
        }
        let mut reads = Vec::new();
        let mut wanted = Vec::new();
        for (&shard, lane) in &mut self.lanes {
            let copies: usize = lane.sent.iter().map(|it| it.copies.len()).sum();
            if !lane.reading
                && copies < LANE_COPIES_MAX
                && let Some((number, row)) = lane.waiting.front()
            {
                lane.reading = true;
                let number = *number;
                wanted.push((Job::Send { shard, number }, row.queue, row.ranges.clone()));
            }
        }
        let mut under_way = self.under_way() + wanted.len();
        while under_way < UNDER_WAY_MAX
            && let Some(it) = self.backlog.pop_front()
        {
            under_way += 1;
            let (queue, ranges) = (it.queue, it.ranges.clone());
            wanted.push((Job::Decide(it), queue, ranges));
        }
        for (job, queue, ranges) in wanted {
            reads.push((self.begin(job), queue, ranges));
        }
        reads
    }

    /// The ticket of the read that a job is for.
    pub(super) fn begin(&mut self, job: Job) -> u64 {
        self.tickets += 1;
        self.jobs.insert(self.tickets, job);
        self.tickets
    }

    pub(super) fn job(&mut self, ticket: u64) -> Option<Job> {
        self.jobs.remove(&ticket)
    }

    /// The row that was read for; its lane goes on.
    pub(super) fn take_waiting(&mut self, shard: ShardId, number: u64) -> Option<OutgoingRow> {
        let lane = self.lanes.get_mut(&shard)?;
        lane.reading = false;
        let (first, _) = lane.waiting.front()?;
        if *first != number {
            return None;
        }
        lane.waiting.pop_front().map(|(_, row)| row)
    }

    pub(super) fn sent(&mut self, shard: ShardId, sent: Sent) {
        let lane = self.lanes.entry(shard).or_default();
        lane.sent.push_back(sent);
        lane.sent_at.get_or_insert_with(Instant::now);
    }

    /// The target has taken a number. `None`: that is known.
    pub(super) fn answered(&mut self, shard: ShardId, number: BatchSequence) -> Option<Sent> {
        let lane = self.lanes.get_mut(&shard)?;
        let at = lane
            .sent
            .iter()
            .position(|it| it.batch.sequence == number)?;
        let sent = lane.sent.remove(at);
        lane.sent_at = (!lane.sent.is_empty()).then(Instant::now);
        if lane.sent.is_empty() && lane.waiting.is_empty() {
            self.lanes.remove(&shard);
        }
        sent
    }

    /// What has been without an answer for long, in order.
    pub(super) fn overdue(&mut self) -> Vec<(ShardId, Batch)> {
        let now = Instant::now();
        let mut overdue = Vec::new();
        for (&shard, lane) in &mut self.lanes {
            if lane
                .sent_at
                .is_some_and(|at| now.duration_since(at) >= RESEND_AFTER)
            {
                lane.sent_at = Some(now);
                overdue.extend(lane.sent.iter().map(|it| (shard, it.batch.clone())));
            }
        }
        overdue
    }
}
