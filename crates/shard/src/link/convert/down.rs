//! Frames from a leader to an uplink. Not here: the way there (`up`).

use bytes::BytesMut;
use warren_codec::columns::{decode_not_stored, encode_not_stored};
use warren_proto::internal_v1 as wire;
use warren_proto::internal_v1::down_frame::Kind as DownKind;
use warren_queue::dispatch::io::{AttachResult, HandedOut, HeldState, SettleResult, Token};
use warren_types::{
    Attempt, BatchSequence, ConsumerId, NodeId, Position, Priority, QueueId, Run, ShardId, Term,
};

use super::{BadFrame, amount, bad, cancel, grant, peek};
use crate::api::{LeftTotals, LevelStats, QueueStats};
use crate::link::frame::{BatchException, Down, Welcome};

/// Roughly the bytes a frame takes on the wire, for closing a message in time.
pub(crate) fn down_bytes(frame: &Down) -> usize {
    match frame {
        Down::Deliver { deliveries, .. } => deliveries
            .iter()
            .map(|delivery| delivery.message.len() + 16)
            .sum(),
        Down::Moved { exceptions, .. } => exceptions.len() * 12 + 16,
        Down::Results {
            exceptions, places, ..
        } => exceptions.len() * 12 + cancel::places_bytes(places) + 16,
        Down::CancelResults { results, .. } => results.len() + 16,
        Down::SettleResults { results, .. } => results.len() + 16,
        Down::Peeked { page, .. } => peek::page_bytes(page.as_ref()),
        Down::Welcome(_)
        | Down::NotLeader { .. }
        | Down::Resume { .. }
        | Down::Attached { .. }
        | Down::Recalled { .. }
        | Down::Waiting { .. }
        | Down::Cancelled { .. }
        | Down::Forget { .. }
        | Down::Purged { .. }
        | Down::Redriven { .. }
        | Down::Stats { .. } => 64,
    }
}

pub(crate) fn encode_down(shard: ShardId, frame: Down) -> wire::DownFrame {
    let kind = match frame {
        Down::Welcome(welcome) => DownKind::Welcome(encode_welcome(&welcome)),
        Down::NotLeader { link, leader } => DownKind::NotLeader(wire::NotLeader {
            link,
            leader: leader.map_or(0, |node| node.0),
        }),
        Down::Results {
            upto,
            exceptions,
            places,
        } => DownKind::Results(wire::Results {
            upto: upto.0,
            exceptions: exceptions.iter().map(encode_exception).collect(),
            places: cancel::encode_places(&places),
        }),
        Down::CancelResults { token, results } => {
            DownKind::CancelResults(cancel::encode_answer(token, &results))
        }
        Down::Resume { last } => DownKind::Resume(wire::Resume { last: last.0 }),
        Down::Attached { consumer, result } => {
            DownKind::Attached(encode_attached(consumer, &result))
        }
        Down::Deliver {
            consumer,
            queue,
            fencing,
            deliveries,
        } => DownKind::Deliver(wire::Deliver {
            fencing,
            ..encode_deliver(consumer, queue, deliveries)
        }),
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
        Down::Purged { token, count } => DownKind::Purged(encode_purged(token, count)),
        Down::Redriven { token, step } => DownKind::Redriven(peek::encode_step(token, step)),
        Down::Peeked { token, page } => DownKind::Peeked(peek::encode_page(token, page)),
        Down::Stats { token, stats } => DownKind::Stats(encode_stats(token, stats)),
        Down::Moved {
            source,
            number,
            exceptions,
        } => DownKind::Moved(encode_moved(source, number, &exceptions)),
    };
    wire::DownFrame {
        shard: shard.0,
        kind: Some(kind),
    }
}

fn encode_welcome(welcome: &Welcome) -> wire::Welcome {
    let (run, last) = welcome.last.unwrap_or_default();
    wire::Welcome {
        link: welcome.link,
        term: welcome.term.0,
        last_run: run.0,
        last_sequence: last.0,
        exceptions: welcome.exceptions.iter().map(encode_exception).collect(),
        places: cancel::encode_places(&welcome.places),
    }
}

fn encode_purged(token: Token, count: u64) -> wire::QueueAnswer {
    wire::QueueAnswer {
        token: token.0,
        found: true,
        count,
        ..Default::default()
    }
}

fn encode_moved(
    source: ShardId,
    number: BatchSequence,
    exceptions: &[BatchException],
) -> wire::Moved {
    wire::Moved {
        source_shard: source.0,
        number: number.0,
        exceptions: exceptions.iter().map(encode_exception).collect(),
    }
}

fn encode_stats(token: Token, stats: Option<QueueStats>) -> wire::QueueAnswer {
    let found = stats.is_some();
    let stats = stats.unwrap_or_default();
    wire::QueueAnswer {
        token: token.0,
        found,
        ready: stats.ready,
        unacked: stats.unacked,
        consumers: stats.consumers,
        enqueued: stats.enqueued,
        settled: stats.settled,
        body_bytes: stats.body_bytes,
        scheduled: stats.scheduled,
        delayed: stats.delayed,
        parked: stats.parked,
        count: 0,
        acked: stats.left.acked,
        rejected: stats.left.rejected,
        expired: stats.left.expired,
        dropped: stats.left.dropped,
        dead_lettered: stats.left.dead_lettered,
        purged: stats.left.purged,
        dead_lettering: stats.dead_lettering,
        ready_bytes: stats.ready_bytes,
        oldest_ready_ms: stats.oldest_ready_ms,
        levels: stats.levels.iter().map(encode_level).collect(),
        held_back: stats.held_back,
        duplicates: stats.duplicates,
        delivered: stats.delivered,
        redelivered: stats.redelivered,
    }
}

fn encode_level(it: &LevelStats) -> wire::LevelAnswer {
    wire::LevelAnswer {
        priority: it.priority.level().into(),
        live: it.live,
        scheduled: it.scheduled,
        parked: it.parked,
    }
}

fn decode_level(it: &wire::LevelAnswer) -> Result<LevelStats, BadFrame> {
    Ok(LevelStats {
        priority: Priority::clamped(u8::try_from(it.priority).map_err(bad)?),
        live: it.live,
        scheduled: it.scheduled,
        parked: it.parked,
    })
}

fn decode_stats(answer: wire::QueueAnswer) -> Result<Option<QueueStats>, BadFrame> {
    if !answer.found {
        return Ok(None);
    }
    let levels = answer.levels.iter().map(decode_level);
    Ok(Some(QueueStats {
        ready: answer.ready,
        held_back: answer.held_back,
        unacked: answer.unacked,
        consumers: answer.consumers,
        enqueued: answer.enqueued,
        settled: answer.settled,
        left: LeftTotals {
            acked: answer.acked,
            rejected: answer.rejected,
            expired: answer.expired,
            dropped: answer.dropped,
            dead_lettered: answer.dead_lettered,
            purged: answer.purged,
        },
        duplicates: answer.duplicates,
        delivered: answer.delivered,
        redelivered: answer.redelivered,
        dead_lettering: answer.dead_lettering,
        body_bytes: answer.body_bytes,
        ready_bytes: answer.ready_bytes,
        scheduled: answer.scheduled,
        delayed: answer.delayed,
        parked: answer.parked,
        oldest_ready_ms: answer.oldest_ready_ms,
        levels: levels.collect::<Result<_, _>>()?,
    }))
}

pub(crate) fn decode_down(frame: wire::DownFrame) -> Result<(ShardId, Down), BadFrame> {
    let down = match frame.kind.ok_or_else(|| bad("no kind"))? {
        DownKind::Welcome(welcome) => Down::Welcome(Welcome {
            link: welcome.link,
            term: Term(welcome.term),
            last: Some((Run(welcome.last_run), BatchSequence(welcome.last_sequence))),
            exceptions: decode_exceptions(welcome.exceptions)?,
            places: cancel::decode_places(welcome.places),
        }),
        DownKind::NotLeader(answer) => Down::NotLeader {
            link: answer.link,
            leader: (answer.leader != 0).then_some(NodeId(answer.leader)),
        },
        DownKind::Results(results) => Down::Results {
            upto: BatchSequence(results.upto),
            exceptions: decode_exceptions(results.exceptions)?,
            places: cancel::decode_places(results.places),
        },
        DownKind::CancelResults(answer) => cancel::decode_answer(&answer)?,
        DownKind::Moved(it) => Down::Moved {
            source: ShardId(it.source_shard),
            number: BatchSequence(it.number),
            exceptions: decode_exceptions(it.exceptions)?,
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
        DownKind::Redriven(answer) => peek::decode_step(&answer),
        DownKind::Peeked(answer) => peek::decode_page(answer)?,
        DownKind::Stats(answer) => Down::Stats {
            token: Token(answer.token),
            stats: decode_stats(answer)?,
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
        fencing: frame.fencing,
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
        SettleResult::OutputRefused { .. } => wire::SettleVerdict::OutputRefused as u32,
        SettleResult::DeadLetter => wire::SettleVerdict::DeadLetter as u32,
    });
    let refused = results.iter().find_map(|result| match result {
        SettleResult::OutputRefused { index, why } => Some((*index, encode_not_stored(*why))),
        SettleResult::Done
        | SettleResult::AlreadySettled
        | SettleResult::NotOwner
        | SettleResult::Expired
        | SettleResult::QueueGone
        | SettleResult::DeadLetter => None,
    });
    let (refused_index, refused_reason) = refused.unwrap_or_default();
    wire::SettleResults {
        token: token.0,
        results: if all_done {
            Vec::new()
        } else {
            listed.collect()
        },
        count: u32::try_from(results.len()).expect("a settle names fewer than 2^32 deliveries"),
        refused_index,
        refused_reason,
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
            6 => Ok(SettleResult::OutputRefused {
                index: frame.refused_index,
                why: decode_not_stored(frame.refused_reason).map_err(bad)?,
            }),
            7 => Ok(SettleResult::DeadLetter),
            other => Err(bad(format!("unknown settle verdict {other}"))),
        });
        verdicts.collect::<Result<_, _>>()?
    };
    Ok(Down::SettleResults {
        token: Token(frame.token),
        results,
    })
}
