//! The bytes of looking at messages, and of sending them back. Not here: other frames (`up`, `down`).

use std::sync::Arc;

use warren_proto::internal_v1 as wire;
use warren_queue::dispatch::io::Token;
use warren_queue::entry::ParkCause;
use warren_queue::store::{PeekedMessage, PeekedState};
use warren_types::{Position, Priority, QueueId, ShardTime};

use super::{BadFrame, bad, said};
use crate::link::frame::{Down, PeekUp, Up};
use crate::peek::{Look, PEEK_MESSAGES_MAX, PeekState, StoredPage};
use crate::redrive::{Redrive, RedriveOf, RedriveStep, RedriveTo};

pub(super) fn encode_question(it: &PeekUp) -> wire::PeekQuestion {
    wire::PeekQuestion {
        queue: it.queue.0,
        token: it.token.0,
        from: it.look.from.0,
        max: u32::try_from(it.look.max).unwrap_or(u32::MAX),
        filter: it.look.filter.as_ref().map(|it| it.text().to_owned()),
    }
}

pub(super) fn decode_question(it: &wire::PeekQuestion) -> Result<PeekUp, BadFrame> {
    let filter = it.filter.as_ref().map(|text| text.parse().map(Arc::new));
    Ok(PeekUp {
        queue: QueueId(it.queue),
        token: Token(it.token),
        look: Look {
            from: Position(it.from),
            max: usize::try_from(it.max)
                .unwrap_or(usize::MAX)
                .min(PEEK_MESSAGES_MAX),
            filter: filter.transpose().map_err(bad)?,
        },
    })
}

pub(super) fn page_bytes(page: Option<&StoredPage>) -> usize {
    let messages = page.map_or([].as_slice(), |it| it.messages.as_slice());
    let bytes = messages.iter().map(|(it, _)| {
        let said = it.said.iter().map(|it| said::bytes(Some(&it.said)) + 16);
        it.message.len() + 48 + said.sum::<usize>()
    });
    bytes.sum::<usize>() + 64
}

pub(super) fn encode_page(token: Token, page: Option<StoredPage>) -> wire::PeekAnswer {
    let mut answer = wire::PeekAnswer {
        token: token.0,
        found: page.is_some(),
        ..wire::PeekAnswer::default()
    };
    let Some(page) = page else { return answer };
    answer.next = page.next.map_or(0, |it| it.0);
    let messages = page.messages.into_iter();
    answer.messages = messages.map(|(it, state)| encode(it, state)).collect();
    answer
}

fn encode(it: PeekedMessage, state: PeekState) -> wire::PeekedMessage {
    let (state, at) = match state {
        PeekState::Ready => (wire::PeekedState::Ready, 0),
        PeekState::Unacked => (wire::PeekedState::Unacked, 0),
        PeekState::Leaving => (wire::PeekedState::Leaving, 0),
        PeekState::Scheduled(at) => (wire::PeekedState::Scheduled, at.0),
        PeekState::Delayed(at) => (wire::PeekedState::Delayed, at.0),
        PeekState::Parked(ParkCause::DeliveryLimit) => (wire::PeekedState::ParkedDeliveryLimit, 0),
        PeekState::Parked(ParkCause::Rejected) => (wire::PeekedState::ParkedRejected, 0),
        PeekState::Parked(ParkCause::Cycle) => (wire::PeekedState::ParkedCycle, 0),
    };
    wire::PeekedMessage {
        position: it.position.0,
        priority: it.priority.level().into(),
        state: state.into(),
        at,
        delivery_count: it.delivery_count,
        acquired_count: it.acquired_count,
        message: it.message,
        said: it.said.iter().map(said::encode_at).collect(),
    }
}

pub(super) fn decode_page(answer: wire::PeekAnswer) -> Result<Down, BadFrame> {
    let messages = answer.messages.into_iter().map(decode);
    let messages: Vec<_> = messages.collect::<Result<_, _>>()?;
    let page = answer.found.then_some(StoredPage {
        messages,
        next: (answer.next != 0).then_some(Position(answer.next)),
    });
    Ok(Down::Peeked {
        token: Token(answer.token),
        page,
    })
}

fn decode(it: wire::PeekedMessage) -> Result<(PeekedMessage, PeekState), BadFrame> {
    let at = ShardTime(it.at);
    let state = match wire::PeekedState::try_from(it.state) {
        Ok(wire::PeekedState::Ready) => PeekState::Ready,
        Ok(wire::PeekedState::Unacked) => PeekState::Unacked,
        Ok(wire::PeekedState::Leaving) => PeekState::Leaving,
        Ok(wire::PeekedState::Scheduled) => PeekState::Scheduled(at),
        Ok(wire::PeekedState::Delayed) => PeekState::Delayed(at),
        Ok(wire::PeekedState::ParkedDeliveryLimit) => PeekState::Parked(ParkCause::DeliveryLimit),
        Ok(wire::PeekedState::ParkedRejected) => PeekState::Parked(ParkCause::Rejected),
        Ok(wire::PeekedState::ParkedCycle) => PeekState::Parked(ParkCause::Cycle),
        Ok(wire::PeekedState::Unspecified) | Err(_) => return Err(bad("unknown state")),
    };
    let priority = u8::try_from(it.priority).map_err(bad)?;
    let message = PeekedMessage {
        position: Position(it.position),
        priority: Priority::clamped(priority),
        state: PeekedState::Ready,
        delivery_count: it.delivery_count,
        acquired_count: it.acquired_count,
        expiry: None,
        group_hash: 0,
        said: it
            .said
            .into_iter()
            .map(said::decode_at)
            .collect::<Result<_, _>>()?,
        message: it.message,
    };
    Ok((message, state))
}

pub(super) fn encode_redrive(it: &PeekUp, wish: Redrive) -> wire::RedriveQuestion {
    let (to, sources) = match wish.to {
        RedriveTo::Queue(to) => (to.0, Vec::new()),
        RedriveTo::Sources(sources) => (0, sources),
        RedriveTo::Nowhere => {
            return wire::RedriveQuestion {
                deleted: Some(encode_question(it)),
                dry_run: wish.dry_run,
                parked: wish.of == RedriveOf::Parked,
                ..wire::RedriveQuestion::default()
            };
        }
        RedriveTo::Priority(priority) => {
            return wire::RedriveQuestion {
                reprioritised: Some(encode_question(it)),
                priority: priority.into(),
                dry_run: wish.dry_run,
                parked: wish.of == RedriveOf::Parked,
                ..wire::RedriveQuestion::default()
            };
        }
        RedriveTo::DeadLetters => {
            return wire::RedriveQuestion {
                expired: Some(encode_question(it)),
                dry_run: wish.dry_run,
                ..wire::RedriveQuestion::default()
            };
        }
    };
    let page = encode_question(it);
    let (page, filtered) = match page.filter {
        Some(_) => (None, Some(page)),
        None => (Some(page), None),
    };
    wire::RedriveQuestion {
        page,
        filtered,
        to,
        dry_run: wish.dry_run,
        sources: sources.into_iter().map(|it| it.0).collect(),
        parked: wish.of == RedriveOf::Parked,
        ..wire::RedriveQuestion::default()
    }
}

pub(super) fn decode_redrive(it: &wire::RedriveQuestion) -> Result<Up, BadFrame> {
    let page = it.page.as_ref().or(it.filtered.as_ref());
    let page = page.or(it.deleted.as_ref()).or(it.expired.as_ref());
    let page = page.or(it.reprioritised.as_ref());
    let page = page.ok_or_else(|| bad("no page"))?;
    if it.sources.len() > PEEK_MESSAGES_MAX {
        return Err(bad("more queues than messages"));
    }
    let wish = Redrive {
        of: if it.parked {
            RedriveOf::Parked
        } else {
            RedriveOf::Ready
        },
        to: match it.to {
            _ if it.deleted.is_some() => RedriveTo::Nowhere,
            _ if it.expired.is_some() => RedriveTo::DeadLetters,
            _ if it.reprioritised.is_some() => {
                RedriveTo::Priority(u8::try_from(it.priority).map_err(bad)?)
            }
            0 => RedriveTo::Sources(it.sources.iter().map(|&it| QueueId(it)).collect()),
            to => RedriveTo::Queue(QueueId(to)),
        },
        dry_run: it.dry_run,
    };
    Ok(Up::Redrive(decode_question(page)?, wish))
}

pub(super) fn encode_step(token: Token, step: Option<RedriveStep>) -> wire::RedriveAnswer {
    let mut answer = wire::RedriveAnswer {
        token: token.0,
        found: step.is_some(),
        ..wire::RedriveAnswer::default()
    };
    if let Some(step) = step {
        answer.moved = step.moved;
        answer.skipped = step.skipped;
        answer.busy = step.busy;
        answer.sources = step.sources.into_iter().map(|it| it.0).collect();
        answer.next = step.next.map_or(0, |it| it.0);
    }
    answer
}

pub(super) fn decode_step(answer: &wire::RedriveAnswer) -> Down {
    let step = answer.found.then_some(RedriveStep {
        moved: answer.moved,
        skipped: answer.skipped,
        busy: answer.busy,
        sources: answer.sources.iter().map(|&it| QueueId(it)).collect(),
        next: (answer.next != 0).then_some(Position(answer.next)),
    });
    Down::Redriven {
        token: Token(answer.token),
        step,
    }
}
