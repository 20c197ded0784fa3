//! Dead letters on the leader (features B44 to B47): which are moved, together, and what follows from the target's answer. Not here: the
//! books (`mover`), where each goes and what is written on it (`dead`), the headers themselves (`warren-queue`'s `death`).

use std::collections::BTreeMap;

use bytes::BytesMut;
use tracing::error;
use warren_codec::{StoredMessageView, encode_message};
use warren_queue::death;
use warren_queue::dispatch::io::Whereabouts;
use warren_queue::entry::{
    Arrived, Command, DropParked, MoveOut, MoveTarget, Park, ParkCause, Return, ReturnKind, Settle,
    SettleReason,
};
use warren_queue::outcome::Effect;
use warren_queue::rows::OutgoingRow;
use warren_queue::store::ReadMessage;
use warren_types::{
    BatchSequence, DeadLetter, DeadLetterStrategy, Facts, Incarnation, Message, Position,
    PositionRange, Priority, QueueId, ShardId, ShardTime,
};

use super::mover::{COPIES_MAX, Job, Sent};
use super::work::Leading;
use crate::dead::{Passing, Way, due, passed_on, reprioritised, way};
use crate::group::group_hash;
use crate::link::frame::{Batch, BatchException, Part, Storing};
use crate::replica::tap::Request;
use crate::time::wall_clock_ms;

impl Leading {
    /// A settle that dispatch decided: dead letters of queues with a target go another way.
    pub(super) fn settle_or_dead_letter(&mut self, it: Settle) {
        if self.is_dead_letter(&it) {
            self.mover.add(&it);
        } else {
            self.leave(it);
        }
    }

    pub(super) fn is_dead_letter(&self, it: &Settle) -> bool {
        let settings = self.settings.get(&it.queue);
        let has_target = settings.is_some_and(|it| it.dead_letter.is_some());
        has_target && death::reason_name(it.reason).is_some()
    }

    /// They leave without being moved; what has failed too often stays, set aside (features B49).
    fn leave(&mut self, it: Settle) {
        self.propose_or_park(match it.reason {
            SettleReason::DeliveryLimit => set_aside(it.queue, it.ranges, ParkCause::DeliveryLimit),
            SettleReason::Acked
            | SettleReason::Rejected
            | SettleReason::Expired
            | SettleReason::Dropped
            | SettleReason::DeadLettered
            | SettleReason::NoAck
            | SettleReason::Purged => Command::Settle(it),
        });
    }

    /// What is set aside beyond the queue's limit pushes the oldest out at once (features B49).
    pub(super) fn propose_or_park(&mut self, command: Command) {
        let parks = if let Command::Park(it) = &command {
            let count: u64 = it.ranges.iter().map(|range| range.count).sum();
            Some((it.queue, count))
        } else {
            None
        };
        self.batcher.command(command);
        if let Some((queue, count)) = parks {
            self.drop_parked(queue, count);
        }
    }

    /// Beyond the queue's limit of parked messages the oldest go; so many more are about to be parked.
    pub(super) fn drop_parked(&mut self, queue: QueueId, more: u64) {
        let settings = self.settings.get(&queue);
        if let Some(keep) = settings.and_then(|it| it.parked_max_length)
            && self.dispatch.parked(queue).saturating_add(more) > keep
        {
            self.batcher
                .command(Command::DropParked(DropParked { queue, keep }));
        }
    }

    /// What the moves must know of what was applied.
    pub(super) fn moves_hear(&mut self, effect: &Effect) {
        match effect {
            Effect::Outgoing { shard, number, row } => {
                self.mover.outgoing(*shard, *number, row.clone());
            }
            Effect::NotMoved {
                queue,
                ranges,
                reason,
            } => {
                if *reason == SettleReason::DeadLettered {
                    self.stay(*queue, ranges.clone());
                } else {
                    self.mover.try_again(*queue, ranges.clone(), *reason);
                }
            }
            Effect::Settled { queue, ranges, .. }
            | Effect::Purged { queue, ranges, .. }
            | Effect::Parked { queue, ranges, .. } => {
                if !self.mover.is_idle() {
                    self.mover.forget(*queue, ranges);
                }
            }
            Effect::Cancelled(it) => self.answer_cancel(it),
            Effect::QueueDeleted { queue } => self.mover.forget_queue(*queue),
            Effect::QueueCreated { .. }
            | Effect::Added(_)
            | Effect::Returned { .. }
            | Effect::Raised { .. }
            | Effect::Taken { .. }
            | Effect::Released(_)
            | Effect::OutputsRefused(_)
            | Effect::TogetherRefused(_)
            | Effect::TogetherDone { .. }
            | Effect::Rearmed { .. }
            | Effect::Activated { .. }
            | Effect::Time { .. } => {}
        }
    }

    /// What was to be sent back stays: its target refused it. What was ready is so again.
    fn stay(&mut self, queue: QueueId, ranges: Vec<PositionRange>) {
        self.mover.forget(queue, &ranges);
        let positions = ranges.iter().flat_map(|it| it.positions());
        let taken_out = positions
            .filter(|&at| self.dispatch.whereabouts(queue, at) != Whereabouts::NotInFlight);
        let ranges = PositionRange::collect(taken_out);
        if ranges.is_empty() {
            return;
        }
        self.batcher.command(Command::Return(Return {
            queue,
            ranges,
            kind: ReturnKind::Untouched,
            not_before: None,
        }));
    }

    /// Asks for what is to be read next, sends again what was not answered.
    pub(super) fn drive_moves(&mut self) {
        if self.mover.is_idle() {
            return;
        }
        for (ticket, queue, ranges) in self.mover.due() {
            self.mailbox.ask(Request::Read {
                ticket,
                queue,
                ranges,
            });
        }
        for (shard, batch) in self.mover.overdue() {
            self.send_move(shard, batch);
        }
    }

    pub(super) fn moves_read(&mut self, ticket: u64, messages: Vec<ReadMessage>) {
        match self.mover.job(ticket) {
            Some(Job::Decide(it)) => self.decide(&it, messages),
            Some(Job::Together(it, dying)) => self.dying_read(&it, dying, messages),
            Some(Job::Send { shard, number }) => {
                if let Some(row) = self.mover.take_waiting(shard, number) {
                    let sent = self.write_down(number, row, messages);
                    self.send_move(shard, sent.batch.clone());
                    self.mover.sent(shard, sent);
                }
            }
            None => {}
        }
    }

    /// Proposes what becomes of each group of dead letters.
    fn decide(&mut self, it: &Settle, messages: Vec<ReadMessage>) {
        let ways = self.ways(it, messages);
        self.mover.forget(it.queue, &ways.gone);
        for way in ways.moves {
            self.batcher.command(Command::MoveOut(way));
        }
        if let Some(circles) = ways.circles {
            self.propose_or_park(Command::Park(circles));
        }
        self.not_routed(it, ways.strategy, ways.nowhere);
    }

    /// Groups dead letters by where they go.
    pub(super) fn ways(&self, it: &Settle, mut messages: Vec<ReadMessage>) -> Ways {
        messages.retain(|it| !it.parked);
        let settings = self.settings.get(&it.queue);
        let target = settings.and_then(|it| it.dead_letter.as_ref());
        let found = messages.iter().map(|it| it.position);
        let gone = without(&it.ranges, &PositionRange::collect(found));
        let (mut nowhere, mut circles) = (Vec::new(), Vec::new());
        let mut groups = BTreeMap::<_, Vec<Position>>::new();
        for message in messages {
            let way = match target {
                Some(target) => self.way(it, target, &message),
                None => Way::Nowhere,
            };
            match way {
                Way::Nowhere => nowhere.push(message.position),
                Way::Circle => circles.push(message.position),
                Way::To(targets) => {
                    let key: Vec<_> = targets
                        .into_iter()
                        .map(|it| (it.shard, it.queues))
                        .collect();
                    groups.entry(key).or_default().push(message.position);
                }
            }
        }
        let circles = PositionRange::collect(circles);
        Ways {
            gone,
            moves: target.map_or_else(Vec::new, |target| moves(it, target, groups)),
            circles: (!circles.is_empty()).then(|| park(it.queue, circles, ParkCause::Cycle)),
            nowhere: PositionRange::collect(nowhere),
            strategy: settings.map_or(DeadLetterStrategy::AtMostOnce, |it| it.dead_letter_strategy),
        }
    }

    /// Nothing is bound: dropped and counted, or kept and tried again, as the queue wants it.
    fn not_routed(
        &mut self,
        it: &Settle,
        strategy: DeadLetterStrategy,
        ranges: Vec<PositionRange>,
    ) {
        if ranges.is_empty() {
            return;
        }
        match strategy {
            DeadLetterStrategy::AtLeastOnce => self.mover.try_again(it.queue, ranges, it.reason),
            DeadLetterStrategy::AtMostOnce => self.leave(Settle {
                queue: it.queue,
                ranges,
                reason: it.reason,
            }),
        }
    }

    fn way(&self, it: &Settle, target: &DeadLetter, message: &ReadMessage) -> Way {
        match StoredMessageView::open(&message.message) {
            Ok(view) => way(&self.topology, it.queue, it.reason, target, &view),
            Err(error) => {
                error!(queue = %it.queue, %error, "dead letter cannot be opened");
                Way::Nowhere
            }
        }
    }

    /// Writes a number's messages as they go on. The same row and messages give the same batch, whoever leads.
    fn write_down(&self, number: u64, row: OutgoingRow, messages: Vec<ReadMessage>) -> Sent {
        let from = self.topology.queue_by_id(row.queue);
        let is_delay = from.is_some_and(|it| it.delays_for().is_some());
        let name = from.map(|it| it.name.clone());
        let name = name.as_ref().map_or("", |it| it.as_str());
        let (mut parts, mut copies) = (Vec::new(), Vec::new());
        for &queue in &row.queues {
            let there = self.topology.queue_by_id(queue);
            let there = there.map(|it| self.topology.queue_settings(it));
            let mut by_level: BTreeMap<Priority, Vec<(&ReadMessage, Message)>> = BTreeMap::new();
            for message in &messages {
                let goes_on = if is_delay {
                    is_due(message)
                } else {
                    dead(&row, name, message)
                };
                let Some(dead) = goes_on else { continue };
                let level = there
                    .as_ref()
                    .map_or(message.priority, |it| it.level(dead.properties.priority()));
                by_level.entry(level).or_default().push((message, dead));
            }
            for (priority, dead) in by_level {
                let (mut facts, mut payload) = (Facts::default(), BytesMut::new());
                for (message, dead) in dead {
                    let sizes = encode_message(&mut payload, &dead, ShardTime(wall_clock_ms()));
                    facts.size.push(sizes.encoded);
                    facts.body_size.push(sizes.body);
                    facts.group_hash.push(match &there {
                        Some(it) if it.message_groups.is_some() => group_hash(&dead),
                        Some(_) | None => message.group_hash,
                    });
                    facts.fairness_hash.push(message.fairness_hash);
                    facts.expiry.push(dead.ttl_ms.map(ShardTime));
                    copies.push(message.position);
                }
                for column in [&mut facts.group_hash, &mut facts.fairness_hash] {
                    if column.iter().all(|&it| it == 0) {
                        column.clear();
                    }
                }
                if facts.expiry.iter().all(Option::is_none) {
                    facts.expiry.clear();
                }
                if !facts.size.is_empty() {
                    parts.push(Part {
                        queue,
                        priority,
                        facts,
                        payload: payload.freeze(),
                        producers: Vec::new(),
                    });
                }
            }
        }
        let batch = Batch {
            sequence: BatchSequence(number),
            topology: self.topology.index(),
            parts,
            storing: Storing::Each,
        };
        Sent { batch, copies, row }
    }

    /// The target shard has taken a number: what it stored has arrived.
    pub(super) fn moved(
        &mut self,
        shard: ShardId,
        number: BatchSequence,
        exceptions: &[BatchException],
    ) {
        let Some(sent) = self.mover.answered(shard, number) else {
            return;
        };
        let refused_at = |index: usize| exceptions.iter().any(|it| it.index as usize == index);
        let stored = sent.copies.iter().enumerate();
        let mut stored: Vec<Position> = stored
            .filter(|(index, _)| !refused_at(*index))
            .map(|(_, &at)| at)
            .collect();
        stored.sort_unstable();
        stored.dedup();
        let refused = without(&sent.row.ranges, &PositionRange::collect(stored));
        let (queue, settings) = (sent.row.queue, self.settings.get(&sent.row.queue));
        let tries_again =
            settings.is_some_and(|it| it.dead_letter_strategy == DeadLetterStrategy::AtLeastOnce);
        let failed = sent.row.reason == SettleReason::DeliveryLimit;
        let parked = (failed && !tries_again && !refused.is_empty())
            .then(|| set_aside(queue, refused.clone(), ParkCause::DeliveryLimit));
        self.batcher.command(Command::Arrived(Arrived {
            shard,
            number: number.0,
            refused,
            keep: tries_again || failed || sent.row.reason == SettleReason::DeadLettered,
        }));
        if let Some(parked) = parked {
            self.propose_or_park(parked);
        }
    }

    fn send_move(&self, shard: ShardId, batch: Batch) {
        let request = crate::uplink::door::Request::Move {
            source: self.shard,
            batch,
        };
        // One that is not taken is sent again when no answer comes.
        if let Some(uplink) = self.uplinks.read().get(&shard) {
            let _full = uplink.requests.try_send(request);
        }
    }
}

/// Where dead letters go of those that were looked at together.
pub(super) struct Ways {
    /// They are dead letters no more.
    pub(super) gone: Vec<PositionRange>,
    pub(super) moves: Vec<MoveOut>,
    /// They came back without a rejection.
    pub(super) circles: Option<Park>,
    /// No queue is bound; what their own wants then.
    pub(super) nowhere: Vec<PositionRange>,
    pub(super) strategy: DeadLetterStrategy,
}

/// Messages that go to the same queues go under the same numbers, if they are not too many.
fn moves(
    it: &Settle,
    target: &DeadLetter,
    groups: BTreeMap<Vec<(ShardId, Vec<QueueId>)>, Vec<Position>>,
) -> Vec<MoveOut> {
    let mut moves = Vec::with_capacity(groups.len());
    for (targets, positions) in groups {
        let queues: usize = targets.iter().map(|(_, queues)| queues.len()).sum();
        let targets = targets.into_iter();
        let targets = targets.map(|(shard, queues)| MoveTarget { shard, queues });
        let targets: Vec<MoveTarget> = targets.collect();
        let at_once = (COPIES_MAX / queues.max(1)).max(1);
        moves.extend(positions.chunks(at_once).map(|some| MoveOut {
            queue: it.queue,
            ranges: PositionRange::collect(some.iter().copied()),
            reason: it.reason,
            exchange: target.exchange.clone(),
            routing_key: target.routing_key.clone(),
            priority: None,
            targets: targets.clone(),
        }));
    }
    moves
}

fn set_aside(queue: QueueId, ranges: Vec<PositionRange>, cause: ParkCause) -> Command {
    Command::Park(park(queue, ranges, cause))
}

fn park(queue: QueueId, ranges: Vec<PositionRange>, cause: ParkCause) -> Park {
    let kind = match cause {
        ParkCause::DeliveryLimit => ReturnKind::Failed,
        ParkCause::Rejected | ParkCause::Cycle => ReturnKind::Untouched,
    };
    Park {
        queue,
        ranges,
        cause,
        kind,
    }
}

/// Above the shard's number in the origin of its moves: no node's incarnation, which is a random UUID (RFC 9562: version 4), begins so.
const MOVES_ORIGIN: u128 = 0xffff_ffff_ffff_0fff_ffff_ffff;

/// As what a shard's moves are numbered at their target: an origin like a node. Stored: never change it.
pub(crate) fn origin_of(shard: ShardId) -> Incarnation {
    Incarnation((MOVES_ORIGIN << u32::BITS) | u128::from(shard.0))
}

/// The shard whose moves an origin is; `None` for a node's.
pub(crate) fn source_of(origin: Incarnation) -> Option<ShardId> {
    let shard = origin.0 ^ (MOVES_ORIGIN << u32::BITS);
    u32::try_from(shard).ok().map(ShardId)
}

/// The message as it goes on. `None`: it cannot be opened, and so not be moved.
fn dead(row: &OutgoingRow, queue: &str, message: &ReadMessage) -> Option<Message> {
    let view = StoredMessageView::open(&message.message).ok()?;
    let passing = Passing {
        queue,
        reason: row.reason,
        exchange: &row.exchange,
        routing_key: row.routing_key.as_ref(),
        time_s: row.at.0 / 1_000,
        said: &message.said,
    };
    let (group, fairness) = (message.group_hash, message.fairness_hash);
    if let Some(priority) = row.priority {
        let left_ms = message.expiry.map(|it| it.0.saturating_sub(row.at.0));
        let as_it_was = due(&view, message.priority, group, fairness)?;
        return Some(reprioritised(as_it_was, &passing, priority, left_ms));
    }
    passed_on(&view, &passing, message.priority, group, fairness)
}

/// A message that waited in the queue of a delayed exchange.
fn is_due(message: &ReadMessage) -> Option<Message> {
    let view = StoredMessageView::open(&message.message).ok()?;
    let (group, fairness) = (message.group_hash, message.fairness_hash);
    due(&view, message.priority, group, fairness)
}

fn without(these: &[PositionRange], those: &[PositionRange]) -> Vec<PositionRange> {
    let rest = these
        .iter()
        .flat_map(|range| range.positions())
        .filter(|&at| !those.iter().any(|it| it.contains(at)));
    PositionRange::collect(rest)
}
