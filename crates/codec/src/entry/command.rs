//! The commands of a shard's log. Not here: what they do (`queue::store`).

use warren_proto::stored_v1 as pb;
use warren_proto::stored_v1::shard_command::Kind;
use warren_queue::entry::{
    AckWithOutputs, Activate, Cancel, Command, CreateQueue, Dedup, DeleteQueue, DropParked,
    Enqueue, EnqueueTogether, HandOut, IndexRange, Purge, Release, SettleReason,
};
use warren_types::{
    Attempt, Position, Priority, ProducerId, ProducerSpan, QueueId, QueueName, Term, TopologyIndex,
    VhostId,
};

use super::ends;
use super::moves;
use super::next_note;
use super::states::{decode_purge_states, decode_rearm, purge_states, rearm};
use crate::{
    error::{CodecError, malformed},
    facts, ranges, said,
};

pub(super) fn encode(command: &Command) -> pb::ShardCommand {
    let kind = match command {
        Command::Enqueue(it) => Kind::Enqueue(enqueue(it)),
        Command::Settle(it) => Kind::Settle(ends::settle(it)),
        Command::Return(it) => Kind::Return(ends::give_back(it)),
        Command::HandOut(it) => Kind::HandOut(pb::HandOut {
            queue: it.queue.0,
            priority: u32::from(it.priority.level()),
            up_to: it.up_to.map_or(0, |it| it.0),
            except: ranges::encode(&it.except),
            positions: ranges::encode(&it.positions),
        }),
        Command::Release(it) => Kind::Release(pb::Release {
            queue: it.queue.0,
            positions: ranges::encode(&it.ranges),
            hand_out: it.hand_out,
        }),
        Command::CreateQueue(it) => Kind::CreateQueue(pb::CreateQueue {
            queue: it.queue.0,
            vhost: it.vhost.0,
            name: it.name.as_str().into(),
            topology_index: it.topology.0,
            ..pb::CreateQueue::default()
        }),
        Command::DeleteQueue(it) => Kind::DeleteQueue(pb::DeleteQueue {
            queue: it.queue.0,
            topology_index: it.topology.0,
        }),
        Command::Purge(it) => Kind::Purge(purge(it)),
        Command::Activate(it) => Kind::SingleActiveActivated(pb::SingleActiveActivated {
            queue: it.queue.0,
            fencing: it.fencing,
        }),
        Command::MoveOut(it) => Kind::BeginMove(moves::begin(it)),
        Command::Arrived(it) => Kind::EndMove(moves::end(it)),
        Command::Park(it) => Kind::Park(ends::park(it)),
        Command::DropParked(it) => Kind::DropParked(pb::DropParked {
            queue: it.queue.0,
            keep: it.keep,
        }),
        Command::Rearm(it) => Kind::Rearm(rearm(it)),
        Command::EnqueueTogether(it) => Kind::EnqueueTogether(pb::EnqueueTogether {
            blocks: it.blocks.iter().map(enqueue).collect(),
        }),
        Command::AckWithOutputs(it) => Kind::AckWithOutputs(outputs(it)),
        Command::Remark(it) => Kind::Remark(said::encode_remark(it)),
        Command::SettleTogether(it) => Kind::SettleTogether(ends::together(it)),
        #[cfg(feature = "next-version")]
        Command::Note(it) => Kind::NextNote(next_note::encode(it)),
        Command::Cancel(it) => Kind::CancelScheduled(pb::CancelScheduled {
            queue: it.queue.0,
            positions: ranges::encode(&it.ranges),
        }),
    };
    pb::ShardCommand { kind: Some(kind) }
}

pub(super) fn decode(kind: Kind) -> Result<Command, CodecError> {
    Ok(match kind {
        Kind::Enqueue(it) => Command::Enqueue(decode_enqueue(it)?),
        Kind::Settle(it) => Command::Settle(ends::decode_settle(it)?),
        Kind::Return(it) => Command::Return(ends::decode_return(it)?),
        Kind::HandOut(it) => Command::HandOut(HandOut {
            queue: QueueId(it.queue),
            priority: priority(it.priority)?,
            up_to: (it.up_to != 0).then_some(Position(it.up_to)),
            except: ranges::decode(it.except)?,
            positions: ranges::decode(it.positions)?,
        }),
        Kind::Release(it) => Command::Release(Release {
            queue: QueueId(it.queue),
            ranges: ranges::decode(it.positions)?,
            hand_out: it.hand_out,
        }),
        Kind::CreateQueue(it) => Command::CreateQueue(CreateQueue {
            queue: QueueId(it.queue),
            vhost: VhostId(it.vhost),
            name: QueueName::try_from(it.name.as_str())?,
            topology: TopologyIndex(it.topology_index),
        }),
        Kind::DeleteQueue(it) => Command::DeleteQueue(DeleteQueue {
            queue: QueueId(it.queue),
            topology: TopologyIndex(it.topology_index),
        }),
        Kind::Purge(it) => Command::Purge(Purge {
            queue: QueueId(it.queue),
            below: Position(it.below),
            except: ranges::decode(it.except)?,
            states: decode_purge_states(&it.states)?,
        }),
        Kind::SingleActiveActivated(it) => Command::Activate(Activate {
            queue: QueueId(it.queue),
            fencing: it.fencing,
        }),
        Kind::BeginMove(it) => Command::MoveOut(moves::decode_begin(it)?),
        Kind::EndMove(it) => Command::Arrived(moves::decode_end(it)?),
        Kind::Park(it) => Command::Park(ends::decode_park(it)?),
        Kind::DropParked(it) => Command::DropParked(DropParked {
            queue: QueueId(it.queue),
            keep: it.keep,
        }),
        Kind::Rearm(it) => Command::Rearm(decode_rearm(&it)?),
        Kind::EnqueueTogether(it) => Command::EnqueueTogether(EnqueueTogether {
            blocks: decode_blocks(it.blocks)?,
        }),
        Kind::AckWithOutputs(it) => Command::AckWithOutputs(decode_outputs(it)?),
        Kind::Remark(it) => Command::Remark(said::decode_remark(it)?),
        Kind::SettleTogether(it) => Command::SettleTogether(ends::decode_together(it)?),
        Kind::CancelScheduled(it) => Command::Cancel(Cancel {
            queue: QueueId(it.queue),
            ranges: ranges::decode(it.positions)?,
        }),
        Kind::NextNote(it) => next_note::decode(&it)?,
        Kind::Move(_) | Kind::AutoDeleteHadConsumer(_) | Kind::MoveOut(_) | Kind::MoveIn(_) => {
            return Err(malformed("command", "its number is set aside"));
        }
    })
}

/// The number of a command that has one, but that this version neither writes nor understands.
pub(super) fn set_aside(kind: &Kind) -> Option<u32> {
    match kind {
        Kind::Enqueue(_)
        | Kind::Settle(_)
        | Kind::Return(_)
        | Kind::HandOut(_)
        | Kind::Release(_)
        | Kind::CreateQueue(_)
        | Kind::DeleteQueue(_)
        | Kind::Purge(_)
        | Kind::SingleActiveActivated(_)
        | Kind::BeginMove(_)
        | Kind::EndMove(_)
        | Kind::Park(_)
        | Kind::DropParked(_)
        | Kind::Rearm(_)
        | Kind::CancelScheduled(_)
        | Kind::EnqueueTogether(_)
        | Kind::AckWithOutputs(_)
        | Kind::Remark(_)
        | Kind::SettleTogether(_) => None,
        Kind::Move(_) => Some(6),
        Kind::AutoDeleteHadConsumer(_) => Some(10),
        Kind::MoveOut(_) => Some(12),
        Kind::MoveIn(_) => Some(13),
        Kind::NextNote(_) => (!cfg!(feature = "next-version")).then_some(1000),
    }
}

fn purge(it: &Purge) -> pb::Purge {
    pb::Purge {
        queue: it.queue.0,
        states: purge_states(it.states),
        below: it.below.0,
        except: ranges::encode(&it.except),
    }
}

fn outputs(it: &AckWithOutputs) -> pb::AckWithOutputs {
    pb::AckWithOutputs {
        queue: it.queue.0,
        position: it.position.0,
        attempt_term: it.attempt.term.0,
        attempt_number: it.attempt.number,
        blocks: it.blocks.iter().map(enqueue).collect(),
    }
}

fn decode_outputs(it: pb::AckWithOutputs) -> Result<AckWithOutputs, CodecError> {
    let attempt = Attempt {
        term: Term(it.attempt_term),
        number: it.attempt_number,
    };
    Ok(AckWithOutputs {
        queue: QueueId(it.queue),
        position: Position(it.position),
        attempt,
        blocks: decode_blocks(it.blocks)?,
    })
}

pub(super) fn decode_blocks(blocks: Vec<pb::Enqueue>) -> Result<Vec<Enqueue>, CodecError> {
    blocks.into_iter().map(decode_enqueue).collect()
}

pub(super) fn enqueue(it: &Enqueue) -> pb::Enqueue {
    pb::Enqueue {
        queue: it.queue.0,
        priority: u32::from(it.priority.level()),
        facts: Some(facts::encode(&it.facts)),
        payload: it.payload.clone(),
        producers: it.producers.iter().map(producer).collect(),
        hand_out_raise: it.raise,
        full_first: it.full.iter().map(|it| it.first).collect(),
        full_count: it.full.iter().map(|it| it.count).collect(),
        dedup_window_ms: it.dedup.map_or(0, |it| it.window_ms),
        dedup_keys_max: it.dedup.map_or(0, |it| it.keys_max),
        ..pb::Enqueue::default()
    }
}

fn decode_enqueue(it: pb::Enqueue) -> Result<Enqueue, CodecError> {
    if it.compression != 0 || it.key_id != 0 {
        return Err(CodecError::UnknownValue {
            what: "compression or key of a block",
            number: i64::from(it.compression),
        });
    }
    if it.full_first.len() != it.full_count.len() {
        return Err(malformed("enqueue", "the columns differ in length"));
    }
    let full = it.full_first.into_iter().zip(it.full_count);
    let full = full.map(|(first, count)| IndexRange { first, count });
    Ok(Enqueue {
        full: full.collect(),
        queue: QueueId(it.queue),
        priority: priority(it.priority)?,
        facts: facts::decode(it.facts, it.payload.len())?,
        payload: it.payload,
        producers: it
            .producers
            .into_iter()
            .map(decode_producer)
            .collect::<Result<_, _>>()?,
        raise: it.hand_out_raise,
        dedup: (it.dedup_window_ms > 0).then_some(Dedup {
            window_ms: it.dedup_window_ms,
            keys_max: it.dedup_keys_max,
        }),
    })
}

pub(crate) fn producer(it: &ProducerSpan) -> pb::ProducerSpan {
    pb::ProducerSpan {
        producer_id: it.producer.0.clone(),
        epoch: it.epoch,
        index: it.sequences.iter().map(|(index, _)| *index).collect(),
        sequence: it.sequences.iter().map(|(_, sequence)| *sequence).collect(),
    }
}

pub(crate) fn decode_producer(it: pb::ProducerSpan) -> Result<ProducerSpan, CodecError> {
    if it.index.len() != it.sequence.len() {
        return Err(malformed("producer span", "the columns differ in length"));
    }
    Ok(ProducerSpan {
        producer: ProducerId(it.producer_id),
        epoch: it.epoch,
        sequences: it.index.into_iter().zip(it.sequence).collect(),
    })
}

pub(crate) fn priority(level: u32) -> Result<Priority, CodecError> {
    match u8::try_from(level) {
        Ok(level) if level <= Priority::MAX.level() => Ok(Priority::clamped(level)),
        _ => Err(malformed("priority", "it is above 31")),
    }
}

pub(crate) fn reason(reason: SettleReason) -> pb::SettleReason {
    match reason {
        SettleReason::Acked => pb::SettleReason::Acked,
        SettleReason::Rejected => pb::SettleReason::Rejected,
        SettleReason::Expired => pb::SettleReason::Expired,
        SettleReason::Dropped => pb::SettleReason::Dropped,
        SettleReason::DeadLettered => pb::SettleReason::DeadLettered,
        SettleReason::NoAck => pb::SettleReason::NoAck,
        SettleReason::DeliveryLimit => pb::SettleReason::DeliveryLimit,
        SettleReason::Purged => pb::SettleReason::Purged,
    }
}

pub(crate) fn decode_reason(number: i32) -> Result<SettleReason, CodecError> {
    let unknown = || CodecError::UnknownValue {
        what: "settle reason",
        number: i64::from(number),
    };
    match pb::SettleReason::try_from(number).map_err(|_| unknown())? {
        pb::SettleReason::Acked => Ok(SettleReason::Acked),
        pb::SettleReason::Rejected => Ok(SettleReason::Rejected),
        pb::SettleReason::Expired => Ok(SettleReason::Expired),
        pb::SettleReason::Dropped => Ok(SettleReason::Dropped),
        pb::SettleReason::DeadLettered => Ok(SettleReason::DeadLettered),
        pb::SettleReason::NoAck => Ok(SettleReason::NoAck),
        pb::SettleReason::DeliveryLimit => Ok(SettleReason::DeliveryLimit),
        pb::SettleReason::Purged => Ok(SettleReason::Purged),
        pb::SettleReason::Unspecified
        | pb::SettleReason::Moved
        | pb::SettleReason::Cancelled
        | pb::SettleReason::Deleted => Err(unknown()),
    }
}
