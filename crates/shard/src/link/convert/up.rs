//! Frames from an uplink to a leader. Not here: the way back (`down`).

use bytes::Bytes;
use warren_codec::columns::{
    decode_facts, decode_settle_reason, decode_span, encode_facts, encode_settle_reason,
    encode_span,
};
use warren_proto::internal_v1 as wire;
use warren_proto::internal_v1::up_frame::Kind as UpKind;
use warren_queue::dispatch::io::{ConsumerOptions, Credit, Held, Refill, Token};
use warren_queue::entry::{PurgeStates, ReturnKind};
use warren_types::{
    Attempt, BatchSequence, ConsumerId, Incarnation, NodeId, Position, Priority, QueueId, Run,
    ShardId, Term, TopologyIndex,
};

use super::{BadFrame, amount, bad, cancel, grant, peek, said, together};
use crate::api::{AnswerTime, ReturnWait, StatsDepth};
use crate::link::frame::{AttachUp, Batch, Hello, Outputs, Part, ReturnUp, SettleUp, Storing, Up};

/// Roughly the bytes a frame takes on the wire, for closing a message in time.
pub(crate) fn up_bytes(frame: &Up) -> usize {
    match frame {
        Up::Publish(batch) | Up::Move { batch, .. } => batch.parts.iter().map(part_bytes).sum(),
        Up::Settle(settle) => {
            let outputs = settle.outputs.iter().flat_map(|it| &it.parts);
            let said = said::bytes(settle.said.as_deref());
            settle.items.len() * 8 + 32 + said + outputs.map(part_bytes).sum::<usize>()
        }
        Up::SettleTogether(it) => together::bytes(it),
        Up::Return(give_back) => {
            give_back.items.len() * 8 + 32 + said::bytes(give_back.said.as_deref())
        }
        Up::Attach(attach) => attach.held.len() * 8 + 64,
        Up::CancelScheduled(it) => it.positions.len() * 8 + 32,
        Up::Hello(_)
        | Up::Reported
        | Up::Credit { .. }
        | Up::Recall { .. }
        | Up::Detach { .. }
        | Up::Purge { .. }
        | Up::Peek(_)
        | Up::Redrive(..)
        | Up::Stats { .. } => 64,
    }
}

pub(super) fn part_bytes(part: &Part) -> usize {
    part.payload.len() + part.facts.size.len() * 6 + 32
}

pub(crate) fn encode_up(shard: ShardId, frame: Up) -> wire::UpFrame {
    let kind = match frame {
        Up::Hello(hello) => UpKind::Hello(wire::Hello {
            node: hello.node.0,
            incarnation: Bytes::copy_from_slice(&hello.incarnation.0.to_be_bytes()),
            run: hello.run.0,
            link: hello.link,
            term: hello.term.0,
            topology_index: hello.topology.0,
            confirmed: hello.confirmed.0,
        }),
        Up::Reported => UpKind::Reported(wire::Reported {}),
        Up::Publish(batch) => UpKind::Publish(encode_batch(batch)),
        Up::Move { source, batch } => UpKind::Move(wire::Move {
            source_shard: source.0,
            batch: Some(encode_batch(batch)),
        }),
        Up::Attach(attach) => UpKind::Attach(encode_attach(attach)),
        Up::Credit { consumer, add } => UpKind::Credit(grant(consumer, add)),
        Up::Recall { consumer, up_to } => UpKind::Recall(grant(consumer, up_to)),
        Up::Settle(settle) => UpKind::Settle(encode_settle(settle)),
        Up::SettleTogether(it) => UpKind::SettleTogether(together::encode(it)),
        Up::Return(give_back) => UpKind::Return(encode_return(&give_back)),
        Up::Detach { consumer, returns } => {
            let returns = match returns {
                None => wire::DetachReturns::Nothing,
                Some(ReturnKind::Failed) => wire::DetachReturns::Failed,
                Some(ReturnKind::Untouched) => wire::DetachReturns::Untouched,
            };
            UpKind::Detach(wire::Detach {
                consumer: consumer.0,
                returns: returns.into(),
            })
        }
        Up::Purge {
            queue,
            token,
            states,
        } => UpKind::Purge(wire::QueueQuestion {
            queue: queue.0,
            token: token.0,
            purge: Some(encode_states(states)),
            with_age: false,
            all_consumers: false,
        }),
        Up::Redrive(it, wish) => UpKind::Redrive(peek::encode_redrive(&it, wish)),
        Up::Peek(it) => UpKind::Peek(peek::encode_question(&it)),
        Up::CancelScheduled(it) => UpKind::CancelScheduled(cancel::encode_question(&it)),
        Up::Stats {
            queue,
            token,
            depth,
        } => UpKind::Stats(wire::QueueQuestion {
            queue: queue.0,
            token: token.0,
            purge: None,
            with_age: depth == StatsDepth::Age,
            all_consumers: depth == StatsDepth::Consumers,
        }),
    };
    wire::UpFrame {
        shard: shard.0,
        kind: Some(kind),
    }
}

pub(crate) fn decode_up(frame: wire::UpFrame) -> Result<(ShardId, Up), BadFrame> {
    let up = match frame.kind.ok_or_else(|| bad("no kind"))? {
        UpKind::Hello(hello) => Up::Hello(Hello {
            node: NodeId(hello.node),
            incarnation: incarnation(&hello.incarnation)?,
            run: Run(hello.run),
            link: hello.link,
            term: Term(hello.term),
            topology: TopologyIndex(hello.topology_index),
            confirmed: BatchSequence(hello.confirmed),
        }),
        UpKind::Reported(wire::Reported {}) => Up::Reported,
        UpKind::Publish(batch) => Up::Publish(decode_batch(batch)?),
        UpKind::Move(it) => Up::Move {
            source: ShardId(it.source_shard),
            batch: decode_batch(it.batch.ok_or_else(|| bad("no batch"))?)?,
        },
        UpKind::Attach(attach) => Up::Attach(decode_attach(attach)?),
        UpKind::Credit(credit) => Up::Credit {
            consumer: ConsumerId(credit.consumer),
            add: amount(&credit),
        },
        UpKind::Recall(credit) => Up::Recall {
            consumer: ConsumerId(credit.consumer),
            up_to: amount(&credit),
        },
        UpKind::Settle(settle) => Up::Settle(decode_settle(settle)?),
        UpKind::SettleTogether(it) => Up::SettleTogether(together::decode(it)?),
        UpKind::Return(give_back) => Up::Return(decode_return(give_back)?),
        UpKind::Detach(detach) => decode_detach(&detach)?,
        UpKind::Purge(question) => Up::Purge {
            queue: QueueId(question.queue),
            token: Token(question.token),
            states: decode_states(question.purge),
        },
        UpKind::Redrive(question) => peek::decode_redrive(&question)?,
        UpKind::Peek(question) => Up::Peek(peek::decode_question(&question)?),
        UpKind::CancelScheduled(it) => Up::CancelScheduled(cancel::decode_question(it)),
        UpKind::Stats(question) => Up::Stats {
            queue: QueueId(question.queue),
            token: Token(question.token),
            depth: match (question.with_age, question.all_consumers) {
                (true, _) => StatsDepth::Age,
                (false, true) => StatsDepth::Consumers,
                (false, false) => StatsDepth::Counts,
            },
        },
    };
    Ok((ShardId(frame.shard), up))
}

fn encode_settle(settle: SettleUp) -> wire::SettleUp {
    let (topology_index, outputs) = match settle.outputs {
        Some(it) => (it.topology.0, it.parts),
        None => (0, Vec::new()),
    };
    wire::SettleUp {
        token: settle.token.0,
        queue: settle.queue.0,
        items: Some(encode_held(&settle.items)),
        reason: encode_settle_reason(settle.reason),
        answer_at_once: settle.answer == AnswerTime::AtOnce,
        outputs: outputs.into_iter().map(encode_part).collect(),
        topology_index,
        said: settle.said.as_deref().map(said::encode),
    }
}

fn decode_settle(settle: wire::SettleUp) -> Result<SettleUp, BadFrame> {
    let parts = settle.outputs.into_iter().map(decode_part);
    let parts = parts.collect::<Result<Vec<_>, _>>()?;
    let topology = TopologyIndex(settle.topology_index);
    Ok(SettleUp {
        token: Token(settle.token),
        queue: QueueId(settle.queue),
        items: decode_held(settle.items)?,
        reason: decode_settle_reason(settle.reason).map_err(bad)?,
        answer: if settle.answer_at_once {
            AnswerTime::AtOnce
        } else {
            AnswerTime::Soon
        },
        outputs: (!parts.is_empty()).then_some(Outputs { topology, parts }),
        said: said::decode_some(settle.said)?,
    })
}

fn encode_return(give_back: &ReturnUp) -> wire::ReturnUp {
    wire::ReturnUp {
        token: give_back.token.0,
        queue: give_back.queue.0,
        items: Some(encode_held(&give_back.items)),
        failed: matches!(give_back.kind, ReturnKind::Failed),
        delay_ms: match give_back.wait {
            ReturnWait::Ms(delay) => Some(delay),
            ReturnWait::Not | ReturnWait::Parked | ReturnWait::ByPolicy => None,
        },
        by_policy: give_back.wait == ReturnWait::ByPolicy,
        park: give_back.wait == ReturnWait::Parked,
        said: give_back.said.as_deref().map(said::encode),
    }
}

fn decode_return(give_back: wire::ReturnUp) -> Result<ReturnUp, BadFrame> {
    Ok(ReturnUp {
        token: Token(give_back.token),
        queue: QueueId(give_back.queue),
        items: decode_held(give_back.items)?,
        kind: if give_back.failed {
            ReturnKind::Failed
        } else {
            ReturnKind::Untouched
        },
        wait: match (give_back.delay_ms, give_back.by_policy) {
            _ if give_back.park => ReturnWait::Parked,
            (Some(delay), _) => ReturnWait::Ms(delay),
            (None, true) => ReturnWait::ByPolicy,
            (None, false) => ReturnWait::Not,
        },
        said: said::decode_some(give_back.said)?,
    })
}

fn encode_states(states: PurgeStates) -> wire::PurgeStates {
    wire::PurgeStates {
        ready: states.ready,
        delayed: states.delayed,
        scheduled: states.scheduled,
        parked: states.parked,
        dead_lettering: states.dead_lettering,
    }
}

fn decode_states(states: Option<wire::PurgeStates>) -> PurgeStates {
    states.map_or(PurgeStates::default(), |it| PurgeStates {
        ready: it.ready,
        delayed: it.delayed,
        scheduled: it.scheduled,
        parked: it.parked,
        dead_lettering: it.dead_lettering,
    })
}

fn decode_detach(detach: &wire::Detach) -> Result<Up, BadFrame> {
    let returns = match wire::DetachReturns::try_from(detach.returns) {
        Ok(wire::DetachReturns::Nothing) => None,
        Ok(wire::DetachReturns::Failed) => Some(ReturnKind::Failed),
        Ok(wire::DetachReturns::Untouched) => Some(ReturnKind::Untouched),
        Ok(wire::DetachReturns::Unspecified) | Err(_) => return Err(bad("unknown way to detach")),
    };
    Ok(Up::Detach {
        consumer: ConsumerId(detach.consumer),
        returns,
    })
}

fn encode_batch(batch: Batch) -> wire::PublishBatch {
    wire::PublishBatch {
        sequence: batch.sequence.0,
        topology_index: batch.topology.0,
        parts: batch.parts.into_iter().map(encode_part).collect(),
        atomic: batch.storing == Storing::Together,
    }
}

fn decode_batch(batch: wire::PublishBatch) -> Result<Batch, BadFrame> {
    Ok(Batch {
        sequence: BatchSequence(batch.sequence),
        topology: TopologyIndex(batch.topology_index),
        parts: batch
            .parts
            .into_iter()
            .map(decode_part)
            .collect::<Result<_, _>>()?,
        storing: if batch.atomic {
            Storing::Together
        } else {
            Storing::Each
        },
    })
}

pub(super) fn encode_part(part: Part) -> wire::PublishPart {
    wire::PublishPart {
        queue: part.queue.0,
        priority: u32::from(part.priority.level()),
        facts: Some(encode_facts(&part.facts)),
        payload: part.payload,
        producers: part.producers.iter().map(encode_span).collect(),
    }
}

pub(super) fn decode_part(part: wire::PublishPart) -> Result<Part, BadFrame> {
    let facts = decode_facts(part.facts, part.payload.len()).map_err(bad)?;
    Ok(Part {
        queue: QueueId(part.queue),
        priority: u8::try_from(part.priority)
            .map(Priority::clamped)
            .map_err(bad)?,
        facts,
        payload: part.payload,
        producers: part
            .producers
            .into_iter()
            .map(decode_span)
            .collect::<Result<_, _>>()
            .map_err(bad)?,
    })
}

fn encode_attach(attach: AttachUp) -> wire::Attach {
    wire::Attach {
        consumer: attach.consumer.0,
        queue: attach.queue.0,
        no_ack: attach.options.no_ack,
        refill: attach.options.refill != Refill::Nothing,
        priority: attach.options.priority,
        exclusive: attach.options.exclusive,
        uncommitted_max: attach.options.uncommitted_max,
        credit_messages: attach.credit.messages,
        credit_bytes: attach.credit.bytes,
        held: Some(encode_held(&attach.held)),
        topology_index: attach.topology.0,
        refill_messages_only: attach.options.refill == Refill::Messages,
        user: String::new(),
        passing: attach.options.passing,
    }
}

fn decode_attach(attach: wire::Attach) -> Result<AttachUp, BadFrame> {
    Ok(AttachUp {
        consumer: ConsumerId(attach.consumer),
        queue: QueueId(attach.queue),
        options: ConsumerOptions {
            no_ack: attach.no_ack,
            refill: match (attach.refill, attach.refill_messages_only) {
                (false, _) => Refill::Nothing,
                (true, true) => Refill::Messages,
                (true, false) => Refill::All,
            },
            priority: attach.priority,
            exclusive: attach.exclusive,
            uncommitted_max: attach.uncommitted_max,
            passing: attach.passing,
        },
        credit: Credit {
            messages: attach.credit_messages,
            bytes: attach.credit_bytes,
        },
        held: decode_held(attach.held)?,
        topology: TopologyIndex(attach.topology_index),
    })
}

pub(crate) fn encode_held(items: &[Held]) -> wire::HeldColumns {
    wire::HeldColumns {
        position: items.iter().map(|item| item.position.0).collect(),
        attempt_term: items.iter().map(|item| item.attempt.term.0).collect(),
        attempt_number: items.iter().map(|item| item.attempt.number).collect(),
    }
}

pub(crate) fn decode_held(held: Option<wire::HeldColumns>) -> Result<Vec<Held>, BadFrame> {
    let held = held.unwrap_or_default();
    if held.position.len() != held.attempt_term.len()
        || held.position.len() != held.attempt_number.len()
    {
        return Err(bad("columns of different length"));
    }
    let columns = held
        .position
        .into_iter()
        .zip(held.attempt_term)
        .zip(held.attempt_number);
    Ok(columns
        .map(|((position, term), number)| Held {
            position: Position(position),
            attempt: Attempt {
                term: Term(term),
                number,
            },
        })
        .collect())
}

fn incarnation(bytes: &[u8]) -> Result<Incarnation, BadFrame> {
    let bytes: [u8; 16] = bytes
        .try_into()
        .map_err(|_| bad("an incarnation has 16 bytes"))?;
    Ok(Incarnation(u128::from_be_bytes(bytes)))
}
