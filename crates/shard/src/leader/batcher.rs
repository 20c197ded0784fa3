//! Gathers what arrives while earlier entries are on their way into the next one. An entry is made as soon as one may be; only
//! acks alone wait a little (`acks`).
//! Not here: when that is (`task`), who is told what came of it.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use thiserror::Error;
use tracing::error;
use warren_queue::dispatch::io::Held;
use warren_queue::entry::{
    AckWithOutputs, Command, Dedup, EndedDelivery, Ending, Enqueue, EnqueueTogether, IndexRange,
    MoveOut, OriginBatch, OriginPart, ProposalId, Settle, SettleReason, SettleTogether, ShardEntry,
};
use warren_types::{
    ClusterVersion, Facts, Incarnation, Priority, ProducerSpan, QueueId, Run, ShardTime,
    TopologyIndex,
};

use self::join::{join_facts, join_payload, join_ranges, join_span, narrow};
use super::facts::{set_times, without};
use crate::link::frame::{Batch, Part, Storing};

mod join;

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
    /// Ends with outputs that find the entry full, and their bytes: they come with the next. Bounded by what sessions may have unanswered.
    later: VecDeque<(Pending, usize)>,
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
    /// Of deliveries that end in one.
    Ends(Ends, Vec<PendingBlock>),
}

/// Deliveries that end in one, and how.
pub(crate) struct Ends {
    pub(crate) deliveries: Vec<EndedDelivery>,
    pub(crate) endings: Vec<Ending>,
}

impl Ends {
    const DELIVERY_BYTES: usize = 48;

    /// What they take in an entry, roughly.
    fn bytes(&self) -> usize {
        let said = self.endings.iter().map(|it| match it {
            Ending::Remark(it) => it.said.bytes(),
            Ending::MoveOut(it) => moved_bytes(it),
            Ending::Settle(_) | Ending::Return(_) | Ending::Park(_) => 0,
        });
        self.deliveries.len() * Self::DELIVERY_BYTES + said.sum::<usize>()
    }
}

/// What names the way of dead letters takes, roughly.
fn moved_bytes(it: &MoveOut) -> usize {
    const NUMBER_BYTES: usize = 8;
    let key = it.routing_key.as_ref().map_or(0, |it| it.as_str().len());
    let targets = it.targets.iter().map(|it| it.queues.len() + 1);
    it.exchange.as_str().len() + key + targets.sum::<usize>() * NUMBER_BYTES
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

    /// About what the entry will take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
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
            | Command::SettleTogether(_)
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
        let (blocks, bytes) = own_blocks(parts, now, ttl_ms);
        self.push_own(Pending::Together(blocks), bytes);
        origin
    }

    /// What comes later for the same queues gets other blocks.
    fn push_own(&mut self, pending: Pending, bytes: usize) {
        self.block_of.clear();
        self.bytes += bytes;
        self.blocks.push(pending);
    }

    /// Into this entry, or one after it.
    fn push_or_later(&mut self, pending: Pending, bytes: usize) {
        if self.is_full() || !self.later.is_empty() {
            self.later.push_back((pending, bytes));
        } else {
            self.push_own(pending, bytes);
        }
    }

    /// A delivery is acked and messages come with it, at their place among the others.
    pub(crate) fn ack_with_outputs(
        &mut self,
        ack: AckOf,
        parts: Vec<Part>,
        now: ShardTime,
        ttl_ms: impl Fn(QueueId) -> Option<u64>,
    ) {
        let (blocks, bytes) = own_blocks(parts, now, ttl_ms);
        self.push_or_later(Pending::Outputs(ack, blocks), bytes);
    }

    /// Whether deliveries may end in one yet.
    pub(crate) fn knows_together(&self) -> bool {
        SettleTogether::SINCE <= self.version
    }

    /// Deliveries end in one and messages come with it, at their place among the others. [`Self::knows_together`] was asked.
    pub(crate) fn settle_together(
        &mut self,
        ends: Ends,
        parts: Vec<Part>,
        now: ShardTime,
        ttl_ms: impl Fn(QueueId) -> Option<u64>,
    ) {
        debug_assert!(self.knows_together());
        let (blocks, bytes) = own_blocks(parts, now, ttl_ms);
        let bytes = bytes + ends.bytes();
        self.push_or_later(Pending::Ends(ends, blocks), bytes);
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
            later,
            ..
        } = std::mem::take(self);
        self.version = version;
        for (pending, bytes) in later {
            self.push_or_later(pending, bytes);
        }
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
            Pending::Ends(ends, blocks) => Command::SettleTogether(SettleTogether {
                deliveries: ends.deliveries,
                endings: ends.endings,
                blocks: all_or_none(blocks, &mut admit, &dedup),
            }),
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

/// Blocks that are shared with nothing else, and their bytes.
fn own_blocks(
    parts: Vec<Part>,
    now: ShardTime,
    ttl_ms: impl Fn(QueueId) -> Option<u64>,
) -> (Vec<PendingBlock>, usize) {
    let bytes = parts.iter().map(|it| it.payload.len()).sum();
    let blocks = parts.into_iter().map(|mut part| {
        set_times(&mut part.facts, now, ttl_ms(part.queue));
        PendingBlock {
            queue: part.queue,
            priority: part.priority,
            facts: part.facts,
            payload: vec![part.payload],
            producers: part.producers,
        }
    });
    (blocks.collect(), bytes)
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

#[cfg(test)]
mod tests;
