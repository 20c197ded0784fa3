//! Gathers what arrives while earlier entries are on their way into the next one. An entry is made as soon as one may be; only
//! acks alone wait a little (`acks`).
//! Not here: when that is (`task`), who is told what came of it.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use tracing::error;
use warren_queue::dispatch::io::Held;
use warren_queue::entry::{
    AckWithOutputs, Command, Dedup, Enqueue, EnqueueTogether, IndexRange, OriginBatch, OriginPart,
    ProposalId, Settle, SettleReason, ShardEntry,
};
use warren_types::{
    ClusterVersion, Facts, Incarnation, PositionRange, Priority, ProducerSpan, QueueId, Run,
    ShardTime, TopologyIndex,
};

use super::facts::{set_times, without};
use crate::link::frame::{Batch, Part, Storing};

/// An entry is closed when it holds so many payload bytes; one larger batch travels alone.
pub(crate) const ENTRY_BYTES_MAX: usize = 1 << 20;

/// Commands and messages of the next entry.
#[derive(Default)]
pub(crate) struct Batcher {
    /// Creations and deletions: before everything that names their queues.
    structure: Vec<Command>,
    blocks: Vec<Pending>,
    block_of: HashMap<(QueueId, Priority), usize>,
    settles: Vec<Settle>,
    settle_of: HashMap<(QueueId, SettleReason), usize>,
    others: Vec<Command>,
    origins: Vec<OriginBatch>,
    bytes: usize,
    /// What the cluster has finalised.
    version: ClusterVersion,
}

/// A command is of a later version than the cluster has finalised: some member might not know it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("it needs version {needs}, and the cluster has finalised version {finalised}")]
pub(crate) struct NotFinalised {
    needs: ClusterVersion,
    finalised: ClusterVersion,
}

enum Pending {
    Block(Box<PendingBlock>),
    /// Of one atomic batch.
    Together(Vec<PendingBlock>),
    /// Of an ack with outputs.
    Outputs(AckOf, Vec<PendingBlock>),
}

/// The delivery that is acked with outputs.
#[derive(Clone, Copy)]
pub(crate) struct AckOf {
    pub(crate) queue: QueueId,
    pub(crate) held: Held,
}

struct PendingBlock {
    queue: QueueId,
    priority: Priority,
    facts: Facts,
    payload: Vec<Bytes>,
    producers: Vec<ProducerSpan>,
}

impl Batcher {
    pub(crate) fn is_empty(&self) -> bool {
        self.structure.is_empty()
            && self.blocks.is_empty()
            && self.settles.is_empty()
            && self.others.is_empty()
            && self.origins.is_empty()
    }

    /// There are acks for the next entry, and nothing else.
    pub(crate) fn holds_acks_only(&self) -> bool {
        let is_ack = |settle: &Settle| match settle.reason {
            SettleReason::Acked | SettleReason::NoAck => true,
            SettleReason::Rejected
            | SettleReason::Expired
            | SettleReason::Dropped
            | SettleReason::DeliveryLimit
            | SettleReason::DeadLettered
            | SettleReason::Purged => false,
        };
        self.structure.is_empty()
            && self.blocks.is_empty()
            && self.others.is_empty()
            && self.origins.is_empty()
            && !self.settles.is_empty()
            && self.settles.iter().all(is_ack)
    }

    /// No more publishes belong into this entry.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= ENTRY_BYTES_MAX
    }

    /// From now on commands up to this version may be proposed.
    pub(crate) fn allow(&mut self, version: ClusterVersion) {
        self.version = version;
    }

    /// For commands that every version has; one that is refused all the same is a mistake here, and must not enter the log.
    pub(crate) fn command(&mut self, command: Command) {
        if let Err(refused) = self.offer(command) {
            error!(%refused, "command not proposed");
        }
    }

    /// The one door of commands to the log (guarantee G23).
    ///
    /// # Errors
    /// [`NotFinalised`]: it is not proposed.
    pub(crate) fn offer(&mut self, command: Command) -> Result<(), NotFinalised> {
        let (needs, finalised) = (command.since(), self.version);
        if needs > finalised {
            return Err(NotFinalised { needs, finalised });
        }
        self.add(command);
        Ok(())
    }

    fn add(&mut self, command: Command) {
        match command {
            Command::CreateQueue(_) | Command::DeleteQueue(_) => self.structure.push(command),
            Command::Settle(settle) => self.settle(settle),
            Command::Remark(ref it) => {
                self.bytes += it.said.bytes();
                self.others.push(command);
            }
            Command::Enqueue(_)
            | Command::EnqueueTogether(_)
            | Command::AckWithOutputs(_)
            | Command::Return(_)
            | Command::HandOut(_)
            | Command::Release(_)
            | Command::Park(_)
            | Command::DropParked(_)
            | Command::Rearm(_)
            | Command::Cancel(_)
            | Command::Purge(_)
            | Command::Activate(_)
            | Command::MoveOut(_)
            | Command::Arrived(_) => self.others.push(command),
            #[cfg(feature = "next-version")]
            Command::Note(_) => self.others.push(command),
        }
    }

    fn settle(&mut self, settle: Settle) {
        let key = (settle.queue, settle.reason);
        let next = self.settles.len();
        let at = *self.settle_of.entry(key).or_insert(next);
        match self.settles.get_mut(at) {
            Some(pending) => pending.ranges.extend(settle.ranges),
            None => self.settles.push(settle),
        }
    }

    /// Adds a node's batch; its messages join the blocks of their queues and priorities, in order.
    /// Expiry and due times come as durations and become shard time here.
    pub(crate) fn batch(
        &mut self,
        incarnation: Incarnation,
        run: Run,
        batch: Batch,
        now: ShardTime,
        ttl_ms: impl Fn(QueueId) -> Option<u64>,
    ) {
        let parts = match batch.storing {
            Storing::Each => {
                let parts = batch.parts.into_iter().map(|part| {
                    let ttl_ms = ttl_ms(part.queue);
                    self.part(part, now, ttl_ms)
                });
                parts.collect()
            }
            Storing::Together => self.together(batch.parts, now, ttl_ms),
        };
        self.origins.push(OriginBatch {
            incarnation,
            run,
            sequence: batch.sequence,
            parts,
        });
    }

    /// Blocks of their own, at their place: what comes later for the same queues comes after them.
    fn together(
        &mut self,
        parts: Vec<Part>,
        now: ShardTime,
        ttl_ms: impl Fn(QueueId) -> Option<u64>,
    ) -> Vec<OriginPart> {
        let command = narrow(self.blocks.len() as u64);
        let (mut origin, mut first) = (Vec::new(), 0);
        for part in &parts {
            let count = narrow(part.facts.count());
            origin.push(OriginPart {
                command,
                first,
                count,
            });
            first += count;
        }
        let blocks = self.own_blocks(parts, now, ttl_ms);
        self.blocks.push(Pending::Together(blocks));
        origin
    }

    /// A delivery is acked and messages come with it, at their place among the others.
    pub(crate) fn ack_with_outputs(
        &mut self,
        ack: AckOf,
        parts: Vec<Part>,
        now: ShardTime,
        ttl_ms: impl Fn(QueueId) -> Option<u64>,
    ) {
        let blocks = self.own_blocks(parts, now, ttl_ms);
        self.blocks.push(Pending::Outputs(ack, blocks));
    }

    /// What comes later for the same queues gets other blocks.
    fn own_blocks(
        &mut self,
        parts: Vec<Part>,
        now: ShardTime,
        ttl_ms: impl Fn(QueueId) -> Option<u64>,
    ) -> Vec<PendingBlock> {
        self.block_of.clear();
        let blocks = parts.into_iter().map(|mut part| {
            set_times(&mut part.facts, now, ttl_ms(part.queue));
            self.bytes += part.payload.len();
            PendingBlock {
                queue: part.queue,
                priority: part.priority,
                facts: part.facts,
                payload: vec![part.payload],
                producers: part.producers,
            }
        });
        blocks.collect()
    }

    fn part(&mut self, mut part: Part, now: ShardTime, ttl_ms: Option<u64>) -> OriginPart {
        set_times(&mut part.facts, now, ttl_ms);
        self.bytes += part.payload.len();
        let next = self.blocks.len();
        let at = *self
            .block_of
            .entry((part.queue, part.priority))
            .or_insert(next);
        if at == next {
            self.blocks.push(Pending::Block(Box::new(PendingBlock {
                queue: part.queue,
                priority: part.priority,
                facts: Facts::default(),
                payload: Vec::new(),
                producers: Vec::new(),
            })));
        }
        let Some(Pending::Block(block)) = self.blocks.get_mut(at) else {
            unreachable!("the block was found or pushed above")
        };
        let first = narrow(block.facts.count());
        let count = narrow(part.facts.count());
        for mut span in part.producers {
            for (index, _) in &mut span.sequences {
                *index += first;
            }
            join_span(&mut block.producers, span);
        }
        join_facts(&mut block.facts, part.facts);
        block.payload.push(part.payload);
        OriginPart {
            command: narrow(at as u64),
            first,
            count,
        }
    }

    /// The entry, if there is anything to say. `raise` tells how far a block's enqueue may raise its hand-out mark.
    pub(crate) fn build(
        &mut self,
        proposal: ProposalId,
        now: ShardTime,
        topology: TopologyIndex,
        raise: impl Fn(QueueId, Priority) -> Option<u32>,
        mut admit: impl FnMut(Storing, &[(QueueId, &Facts)]) -> Vec<Vec<IndexRange>>,
        dedup: impl Fn(QueueId) -> Option<Dedup>,
    ) -> Option<ShardEntry> {
        if self.is_empty() {
            return None;
        }
        let Self {
            structure,
            blocks,
            settles,
            others,
            mut origins,
            version,
            ..
        } = std::mem::take(self);
        self.version = version;
        let offset = narrow(structure.len() as u64);
        for part in origins.iter_mut().flat_map(|origin| &mut origin.parts) {
            part.command += offset;
        }
        let mut commands = structure;
        commands.extend(blocks.into_iter().map(|pending| match pending {
            Pending::Block(block) => {
                let full = admit(Storing::Each, &[(block.queue, &block.facts)]).pop();
                let raise = raise(block.queue, block.priority);
                let dedup = dedup(block.queue);
                Command::Enqueue(block.enqueue(full.unwrap_or_default(), raise, dedup))
            }
            Pending::Together(blocks) => Command::EnqueueTogether(EnqueueTogether {
                blocks: all_or_none(blocks, &mut admit, &dedup),
            }),
            Pending::Outputs(AckOf { queue, held }, blocks) => {
                Command::AckWithOutputs(AckWithOutputs {
                    queue,
                    position: held.position,
                    attempt: held.attempt,
                    blocks: all_or_none(blocks, &mut admit, &dedup),
                })
            }
        }));
        commands.extend(settles.into_iter().map(|mut settle| {
            settle.ranges = join_ranges(settle.ranges);
            Command::Settle(settle)
        }));
        commands.extend(others);
        debug_assert!(commands.iter().all(|it| it.since() <= version));
        Some(ShardEntry {
            proposal,
            now,
            topology,
            origins,
            commands,
        })
    }
}

/// Blocks of which all or none are stored: room is taken for all of them, or for none.
fn all_or_none(
    blocks: Vec<PendingBlock>,
    mut admit: impl FnMut(Storing, &[(QueueId, &Facts)]) -> Vec<Vec<IndexRange>>,
    dedup: impl Fn(QueueId) -> Option<Dedup>,
) -> Vec<Enqueue> {
    let named: Vec<_> = blocks.iter().map(|it| (it.queue, &it.facts)).collect();
    let full = admit(Storing::Together, &named);
    let blocks = blocks.into_iter().zip(full);
    let blocks = blocks.map(|(block, full)| {
        let dedup = dedup(block.queue);
        block.enqueue(full, None, dedup)
    });
    blocks.collect()
}

impl PendingBlock {
    fn enqueue(self, full: Vec<IndexRange>, raise: Option<u32>, dedup: Option<Dedup>) -> Enqueue {
        let (mut facts, mut payload) = (self.facts, join_payload(self.payload));
        if !full.is_empty() {
            payload = without(&mut facts, &payload, &full);
        }
        Enqueue {
            queue: self.queue,
            priority: self.priority,
            facts,
            payload,
            producers: self.producers,
            raise,
            full,
            dedup,
        }
    }
}

/// Counts inside one entry are far below 2^32: an entry is at most a few tens of MiB.
fn narrow(count: u64) -> u32 {
    u32::try_from(count).expect("an entry holds fewer than 2^32 messages")
}

fn join_payload(mut segments: Vec<Bytes>) -> Bytes {
    if segments.len() == 1
        && let Some(only) = segments.pop()
    {
        return only;
    }
    let mut joined = BytesMut::with_capacity(segments.iter().map(Bytes::len).sum());
    for segment in &segments {
        joined.extend_from_slice(segment);
    }
    joined.freeze()
}

/// Ascending, joined, without overlap.
fn join_ranges(mut ranges: Vec<PositionRange>) -> Vec<PositionRange> {
    if ranges.is_sorted_by(|a, b| a.end() < b.first) {
        return ranges;
    }
    ranges.sort_unstable();
    let mut joined: Vec<PositionRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.first <= last.end() => {
                let end = last.end().max(range.end());
                last.count = end.0 - last.first.0;
            }
            _ => joined.push(range),
        }
    }
    joined
}

fn join_span(spans: &mut Vec<ProducerSpan>, span: ProducerSpan) {
    match spans
        .iter_mut()
        .find(|known| known.producer == span.producer && known.epoch == span.epoch)
    {
        Some(known) => known.sequences.extend(span.sequences),
        None => spans.push(span),
    }
}

/// Appends `more`'s columns; an optional column appears as soon as one part has it.
fn join_facts(facts: &mut Facts, more: Facts) {
    let before = facts.size.len();
    let after = before + more.size.len();
    if before == 0 {
        *facts = more;
        return;
    }
    join_column(&mut facts.expiry, more.expiry, before, after);
    join_column(&mut facts.due, more.due, before, after);
    join_column(&mut facts.group_hash, more.group_hash, before, after);
    join_column(&mut facts.fairness_hash, more.fairness_hash, before, after);
    join_column(&mut facts.dedup_hash, more.dedup_hash, before, after);
    join_column(&mut facts.dedup_body, more.dedup_body, before, after);
    facts.size.extend(more.size);
    facts.body_size.extend(more.body_size);
}

fn join_column<T: Clone + Default>(column: &mut Vec<T>, more: Vec<T>, before: usize, after: usize) {
    if column.is_empty() && more.is_empty() {
        return;
    }
    column.resize(before, T::default());
    column.extend(more);
    column.resize(after, T::default());
}

#[cfg(test)]
mod tests;
