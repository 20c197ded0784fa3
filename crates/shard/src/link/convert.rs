//! Frames to and from their protobuf form. Not here: reading or writing the streams (`remote`, `service`).

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use warren_codec::columns::{
    decode_facts, decode_not_stored, decode_settle_reason, decode_span, encode_facts,
    encode_not_stored, encode_settle_reason, encode_span,
};
use warren_proto::internal_v1 as wire;
use warren_proto::internal_v1::down_frame::Kind as DownKind;
use warren_proto::internal_v1::up_frame::Kind as UpKind;
use warren_queue::dispatch::io::{
    AttachResult, ConsumerOptions, Credit, HandedOut, Held, HeldState, SettleResult, Token,
};
use warren_queue::entry::ReturnKind;
use warren_types::{
    Attempt, BatchSequence, ConsumerId, Incarnation, NodeId, Position, Priority, QueueId, Run,
    ShardId, Term, TopologyIndex,
};

use super::frame::{
    AttachUp, Batch, BatchException, Down, Hello, Part, ReturnUp, SettleUp, Up, Welcome,
};
use crate::api::QueueStats;

/// A frame of another node that makes no sense: its stream is closed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("link frame makes no sense: {0}")]
pub(crate) struct BadFrame(pub(crate) String);

fn bad(what: impl ToString) -> BadFrame {
    BadFrame(what.to_string())
}

/// Roughly the bytes a frame takes on the wire, for closing a message in time.
pub(crate) fn up_bytes(frame: &Up) -> usize {
    match frame {
        Up::Publish(batch) => batch
            .parts
            .iter()
            .map(|part| part.payload.len() + part.facts.size.len() * 6 + 32)
            .sum(),
        Up::Settle(settle) => settle.items.len() * 8 + 32,
        Up::Return(give_back) => give_back.items.len() * 8 + 32,
        Up::Attach(attach) => attach.held.len() * 8 + 64,
        Up::Hello(_)
        | Up::Reported
        | Up::Credit { .. }
        | Up::Recall { .. }
        | Up::Detach { .. }
        | Up::Purge { .. }
        | Up::Stats { .. } => 64,
    }
}

pub(crate) fn down_bytes(frame: &Down) -> usize {
    match frame {
        Down::Deliver { deliveries, .. } => deliveries
            .iter()
            .map(|delivery| delivery.message.len() + 16)
            .sum(),
        Down::Results { exceptions, .. } => exceptions.len() * 12 + 16,
        Down::SettleResults { results, .. } => results.len() + 16,
        Down::Welcome(_)
        | Down::NotLeader { .. }
        | Down::Resume { .. }
        | Down::Attached { .. }
        | Down::Recalled { .. }
        | Down::Waiting { .. }
        | Down::Cancelled { .. }
        | Down::Forget { .. }
        | Down::Purged { .. }
        | Down::Stats { .. } => 64,
    }
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
        Up::Publish(batch) => UpKind::Publish(wire::PublishBatch {
            sequence: batch.sequence.0,
            topology_index: batch.topology.0,
            parts: batch.parts.into_iter().map(encode_part).collect(),
        }),
        Up::Attach(attach) => UpKind::Attach(encode_attach(attach)),
        Up::Credit { consumer, add } => UpKind::Credit(grant(consumer, add)),
        Up::Recall { consumer, up_to } => UpKind::Recall(grant(consumer, up_to)),
        Up::Settle(settle) => UpKind::Settle(wire::SettleUp {
            token: settle.token.0,
            queue: settle.queue.0,
            items: Some(encode_held(&settle.items)),
            reason: encode_settle_reason(settle.reason),
        }),
        Up::Return(give_back) => UpKind::Return(wire::ReturnUp {
            token: give_back.token.0,
            queue: give_back.queue.0,
            items: Some(encode_held(&give_back.items)),
            failed: matches!(give_back.kind, ReturnKind::Failed),
            delay_ms: give_back.delay_ms,
        }),
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
        Up::Purge { queue, token } => UpKind::Purge(wire::QueueQuestion {
            queue: queue.0,
            token: token.0,
        }),
        Up::Stats { queue, token } => UpKind::Stats(wire::QueueQuestion {
            queue: queue.0,
            token: token.0,
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
        UpKind::Publish(batch) => Up::Publish(Batch {
            sequence: BatchSequence(batch.sequence),
            topology: TopologyIndex(batch.topology_index),
            parts: batch
                .parts
                .into_iter()
                .map(decode_part)
                .collect::<Result<_, _>>()?,
        }),
        UpKind::Attach(attach) => Up::Attach(decode_attach(attach)?),
        UpKind::Credit(credit) => Up::Credit {
            consumer: ConsumerId(credit.consumer),
            add: amount(&credit),
        },
        UpKind::Recall(credit) => Up::Recall {
            consumer: ConsumerId(credit.consumer),
            up_to: amount(&credit),
        },
        UpKind::Settle(settle) => Up::Settle(SettleUp {
            token: Token(settle.token),
            queue: QueueId(settle.queue),
            items: decode_held(settle.items)?,
            reason: decode_settle_reason(settle.reason).map_err(bad)?,
        }),
        UpKind::Return(give_back) => Up::Return(ReturnUp {
            token: Token(give_back.token),
            queue: QueueId(give_back.queue),
            items: decode_held(give_back.items)?,
            kind: if give_back.failed {
                ReturnKind::Failed
            } else {
                ReturnKind::Untouched
            },
            delay_ms: give_back.delay_ms,
        }),
        UpKind::Detach(detach) => {
            let returns = match wire::DetachReturns::try_from(detach.returns) {
                Ok(wire::DetachReturns::Nothing) => None,
                Ok(wire::DetachReturns::Failed) => Some(ReturnKind::Failed),
                Ok(wire::DetachReturns::Untouched) => Some(ReturnKind::Untouched),
                Ok(wire::DetachReturns::Unspecified) | Err(_) => {
                    return Err(bad("unknown way to detach"));
                }
            };
            Up::Detach {
                consumer: ConsumerId(detach.consumer),
                returns,
            }
        }
        UpKind::Purge(question) => Up::Purge {
            queue: QueueId(question.queue),
            token: Token(question.token),
        },
        UpKind::Stats(question) => Up::Stats {
            queue: QueueId(question.queue),
            token: Token(question.token),
        },
    };
    Ok((ShardId(frame.shard), up))
}

fn encode_part(part: Part) -> wire::PublishPart {
    wire::PublishPart {
        queue: part.queue.0,
        priority: u32::from(part.priority.level()),
        facts: Some(encode_facts(&part.facts)),
        payload: part.payload,
        producers: part.producers.iter().map(encode_span).collect(),
    }
}

fn decode_part(part: wire::PublishPart) -> Result<Part, BadFrame> {
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
        refill: attach.options.refill,
        priority: attach.options.priority,
        exclusive: attach.options.exclusive,
        uncommitted_max: attach.options.uncommitted_max,
        credit_messages: attach.credit.messages,
        credit_bytes: attach.credit.bytes,
        held: Some(encode_held(&attach.held)),
        topology_index: attach.topology.0,
        refill_messages_only: false,
        user: String::new(),
    }
}

fn decode_attach(attach: wire::Attach) -> Result<AttachUp, BadFrame> {
    Ok(AttachUp {
        consumer: ConsumerId(attach.consumer),
        queue: QueueId(attach.queue),
        options: ConsumerOptions {
            no_ack: attach.no_ack,
            refill: attach.refill,
            priority: attach.priority,
            exclusive: attach.exclusive,
            uncommitted_max: attach.uncommitted_max,
        },
        credit: Credit {
            messages: attach.credit_messages,
            bytes: attach.credit_bytes,
        },
        held: decode_held(attach.held)?,
        topology: TopologyIndex(attach.topology_index),
    })
}

fn encode_held(items: &[Held]) -> wire::HeldColumns {
    wire::HeldColumns {
        position: items.iter().map(|item| item.position.0).collect(),
        attempt_term: items.iter().map(|item| item.attempt.term.0).collect(),
        attempt_number: items.iter().map(|item| item.attempt.number).collect(),
    }
}

fn decode_held(held: Option<wire::HeldColumns>) -> Result<Vec<Held>, BadFrame> {
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

fn grant(consumer: ConsumerId, credit: Credit) -> wire::CreditGrant {
    wire::CreditGrant {
        consumer: consumer.0,
        messages: credit.messages,
        bytes: credit.bytes,
    }
}

fn amount(grant: &wire::CreditGrant) -> Credit {
    Credit {
        messages: grant.messages,
        bytes: grant.bytes,
    }
}

fn incarnation(bytes: &[u8]) -> Result<Incarnation, BadFrame> {
    let bytes: [u8; 16] = bytes
        .try_into()
        .map_err(|_| bad("an incarnation has 16 bytes"))?;
    Ok(Incarnation(u128::from_be_bytes(bytes)))
}

pub(crate) fn encode_down(shard: ShardId, frame: Down) -> wire::DownFrame {
    let kind = match frame {
        Down::Welcome(welcome) => {
            let (run, last) = welcome.last.unwrap_or_default();
            DownKind::Welcome(wire::Welcome {
                link: welcome.link,
                term: welcome.term.0,
                last_run: run.0,
                last_sequence: last.0,
                exceptions: welcome.exceptions.iter().map(encode_exception).collect(),
            })
        }
        Down::NotLeader { link, leader } => DownKind::NotLeader(wire::NotLeader {
            link,
            leader: leader.map_or(0, |node| node.0),
        }),
        Down::Results { upto, exceptions } => DownKind::Results(wire::Results {
            upto: upto.0,
            exceptions: exceptions.iter().map(encode_exception).collect(),
        }),
        Down::Resume { last } => DownKind::Resume(wire::Resume { last: last.0 }),
        Down::Attached { consumer, result } => {
            DownKind::Attached(encode_attached(consumer, &result))
        }
        Down::Deliver {
            consumer,
            queue,
            deliveries,
        } => DownKind::Deliver(encode_deliver(consumer, queue, deliveries)),
        Down::SettleResults { token, results } => {
            DownKind::SettleResults(encode_results(token, &results))
        }
        Down::Recalled { consumer, credit } => DownKind::Recalled(grant(consumer, credit)),
        Down::Waiting { consumer } => DownKind::Waiting(wire::ConsumerNotice {
            consumer: consumer.0,
        }),
        Down::Cancelled { consumer } => DownKind::Cancelled(wire::ConsumerNotice {
            consumer: consumer.0,
        }),
        Down::Forget {
            consumer,
            queue,
            position,
        } => DownKind::Forget(wire::Forget {
            consumer: consumer.0,
            queue: queue.0,
            position: position.0,
        }),
        Down::Purged { token, count } => DownKind::Purged(wire::QueueAnswer {
            token: token.0,
            found: true,
            count,
            ..Default::default()
        }),
        Down::Stats { token, stats } => {
            let found = stats.is_some();
            let stats = stats.unwrap_or_default();
            DownKind::Stats(wire::QueueAnswer {
                token: token.0,
                found,
                ready: stats.ready,
                unacked: stats.unacked,
                consumers: stats.consumers,
                enqueued: stats.enqueued,
                settled: stats.settled,
                body_bytes: stats.body_bytes,
                count: 0,
            })
        }
    };
    wire::DownFrame {
        shard: shard.0,
        kind: Some(kind),
    }
}

pub(crate) fn decode_down(frame: wire::DownFrame) -> Result<(ShardId, Down), BadFrame> {
    let down = match frame.kind.ok_or_else(|| bad("no kind"))? {
        DownKind::Welcome(welcome) => Down::Welcome(Welcome {
            link: welcome.link,
            term: Term(welcome.term),
            last: Some((Run(welcome.last_run), BatchSequence(welcome.last_sequence))),
            exceptions: decode_exceptions(welcome.exceptions)?,
        }),
        DownKind::NotLeader(answer) => Down::NotLeader {
            link: answer.link,
            leader: (answer.leader != 0).then_some(NodeId(answer.leader)),
        },
        DownKind::Results(results) => Down::Results {
            upto: BatchSequence(results.upto),
            exceptions: decode_exceptions(results.exceptions)?,
        },
        DownKind::Resume(resume) => Down::Resume {
            last: BatchSequence(resume.last),
        },
        DownKind::Attached(attached) => decode_attached(&attached)?,
        DownKind::Deliver(deliver) => decode_deliver(deliver)?,
        DownKind::SettleResults(results) => decode_results(&results)?,
        DownKind::Recalled(credit) => Down::Recalled {
            consumer: ConsumerId(credit.consumer),
            credit: amount(&credit),
        },
        DownKind::Waiting(notice) => Down::Waiting {
            consumer: ConsumerId(notice.consumer),
        },
        DownKind::Cancelled(notice) => Down::Cancelled {
            consumer: ConsumerId(notice.consumer),
        },
        DownKind::Forget(forget) => Down::Forget {
            consumer: ConsumerId(forget.consumer),
            queue: QueueId(forget.queue),
            position: Position(forget.position),
        },
        DownKind::Purged(answer) => Down::Purged {
            token: Token(answer.token),
            count: answer.count,
        },
        DownKind::Stats(answer) => Down::Stats {
            token: Token(answer.token),
            stats: answer.found.then_some(QueueStats {
                ready: answer.ready,
                unacked: answer.unacked,
                consumers: answer.consumers,
                enqueued: answer.enqueued,
                settled: answer.settled,
                body_bytes: answer.body_bytes,
            }),
        },
    };
    Ok((ShardId(frame.shard), down))
}

fn encode_exception(exception: &BatchException) -> wire::BatchException {
    wire::BatchException {
        sequence: exception.sequence.0,
        index: exception.index,
        reason: encode_not_stored(exception.why),
    }
}

fn decode_exceptions(
    exceptions: Vec<wire::BatchException>,
) -> Result<Vec<BatchException>, BadFrame> {
    exceptions
        .into_iter()
        .map(|exception| {
            Ok(BatchException {
                sequence: BatchSequence(exception.sequence),
                index: exception.index,
                why: decode_not_stored(exception.reason).map_err(bad)?,
            })
        })
        .collect()
}

fn encode_attached(consumer: ConsumerId, result: &AttachResult) -> wire::Attached {
    let (verdict, held) = match result {
        AttachResult::Ok { held } => (wire::AttachVerdict::Ok, held.as_slice()),
        AttachResult::QueueGone => (wire::AttachVerdict::QueueGone, [].as_slice()),
        AttachResult::Exclusive => (wire::AttachVerdict::Exclusive, [].as_slice()),
    };
    let held = held.iter().map(|state| match state {
        HeldState::StillYours => wire::HeldVerdict::StillYours as u32,
        HeldState::Settled => wire::HeldVerdict::Settled as u32,
        HeldState::Lost => wire::HeldVerdict::Lost as u32,
    });
    wire::Attached {
        consumer: consumer.0,
        verdict: verdict.into(),
        held: held.collect(),
    }
}

fn decode_attached(attached: &wire::Attached) -> Result<Down, BadFrame> {
    let result = match wire::AttachVerdict::try_from(attached.verdict) {
        Ok(wire::AttachVerdict::Ok) => {
            let held = attached.held.iter().map(|&state| match state {
                1 => Ok(HeldState::StillYours),
                2 => Ok(HeldState::Settled),
                3 => Ok(HeldState::Lost),
                other => Err(bad(format!("unknown held verdict {other}"))),
            });
            AttachResult::Ok {
                held: held.collect::<Result<_, _>>()?,
            }
        }
        Ok(wire::AttachVerdict::QueueGone) => AttachResult::QueueGone,
        Ok(wire::AttachVerdict::Exclusive) => AttachResult::Exclusive,
        Ok(wire::AttachVerdict::Unspecified) | Err(_) => return Err(bad("unknown attach verdict")),
    };
    Ok(Down::Attached {
        consumer: ConsumerId(attached.consumer),
        result,
    })
}

/// Deliveries of one frame are of one term; the bodies follow each other in one buffer.
fn encode_deliver(
    consumer: ConsumerId,
    queue: QueueId,
    deliveries: Vec<HandedOut>,
) -> wire::Deliver {
    let bytes = deliveries
        .iter()
        .map(|delivery| delivery.message.len())
        .sum();
    let mut messages = BytesMut::with_capacity(bytes);
    let counted = deliveries
        .iter()
        .any(|it| it.delivery_count != 0 || it.acquired_count != 0);
    let mut frame = wire::Deliver {
        consumer: consumer.0,
        queue: queue.0,
        term: deliveries
            .first()
            .map_or(0, |delivery| delivery.attempt.term.0),
        ..Default::default()
    };
    for delivery in deliveries {
        frame.position.push(delivery.position.0);
        frame.attempt_number.push(delivery.attempt.number);
        frame
            .size
            .push(u32::try_from(delivery.message.len()).expect("a message is far below 4 GiB"));
        frame.redelivered.push(delivery.redelivered);
        if counted {
            frame.delivery_count.push(delivery.delivery_count);
            frame.acquired_count.push(delivery.acquired_count);
        }
        messages.extend_from_slice(&delivery.message);
    }
    frame.messages = messages.freeze();
    frame
}

fn decode_deliver(frame: wire::Deliver) -> Result<Down, BadFrame> {
    let count = frame.position.len();
    let counted = !frame.delivery_count.is_empty();
    let columns = [
        frame.attempt_number.len(),
        frame.size.len(),
        frame.redelivered.len(),
    ];
    let counts = [frame.delivery_count.len(), frame.acquired_count.len()];
    if columns.iter().any(|&len| len != count)
        || (counted && counts.iter().any(|&len| len != count))
    {
        return Err(bad("columns of different length"));
    }
    let mut messages = frame.messages;
    let mut deliveries = Vec::with_capacity(count);
    let mut delivery_counts = frame.delivery_count.into_iter();
    let mut acquired_counts = frame.acquired_count.into_iter();
    let rows = frame
        .position
        .into_iter()
        .zip(frame.attempt_number)
        .zip(frame.size)
        .zip(frame.redelivered);
    for (((position, number), size), redelivered) in rows {
        let size = size as usize;
        if size > messages.len() {
            return Err(bad("the sizes of deliveries exceed their bytes"));
        }
        deliveries.push(HandedOut {
            position: Position(position),
            attempt: Attempt {
                term: Term(frame.term),
                number,
            },
            redelivered,
            delivery_count: delivery_counts.next().unwrap_or(0),
            acquired_count: acquired_counts.next().unwrap_or(0),
            message: messages.split_to(size),
        });
    }
    Ok(Down::Deliver {
        consumer: ConsumerId(frame.consumer),
        queue: QueueId(frame.queue),
        deliveries,
    })
}

fn encode_results(token: Token, results: &[SettleResult]) -> wire::SettleResults {
    let all_done = results
        .iter()
        .all(|result| matches!(result, SettleResult::Done));
    let listed = results.iter().map(|result| match result {
        SettleResult::Done => wire::SettleVerdict::Done as u32,
        SettleResult::AlreadySettled => wire::SettleVerdict::AlreadySettled as u32,
        SettleResult::NotOwner => wire::SettleVerdict::NotOwner as u32,
        SettleResult::Expired => wire::SettleVerdict::Expired as u32,
        SettleResult::QueueGone => wire::SettleVerdict::QueueGone as u32,
    });
    wire::SettleResults {
        token: token.0,
        results: if all_done {
            Vec::new()
        } else {
            listed.collect()
        },
        count: u32::try_from(results.len()).expect("a settle names fewer than 2^32 deliveries"),
    }
}

fn decode_results(frame: &wire::SettleResults) -> Result<Down, BadFrame> {
    let results = if frame.results.is_empty() {
        vec![SettleResult::Done; frame.count as usize]
    } else {
        let verdicts = frame.results.iter().map(|&verdict| match verdict {
            1 => Ok(SettleResult::Done),
            2 => Ok(SettleResult::AlreadySettled),
            3 => Ok(SettleResult::NotOwner),
            4 => Ok(SettleResult::Expired),
            5 => Ok(SettleResult::QueueGone),
            other => Err(bad(format!("unknown settle verdict {other}"))),
        });
        verdicts.collect::<Result<_, _>>()?
    };
    Ok(Down::SettleResults {
        token: Token(frame.token),
        results,
    })
}
