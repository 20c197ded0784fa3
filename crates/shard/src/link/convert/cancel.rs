//! The bytes of taking scheduled messages back, and of where they are. Not here: other frames (`up`, `down`).

use warren_proto::internal_v1 as wire;
use warren_proto::stored_v1 as stored;
use warren_queue::dispatch::io::Token;
use warren_types::{BatchSequence, Position, QueueId};

use super::{BadFrame, bad};
use crate::api::CancelResult;
use crate::link::frame::{BatchPlaces, CancelUp, Down};

pub(super) fn encode_question(it: &CancelUp) -> wire::CancelQuestion {
    wire::CancelQuestion {
        queue: it.queue.0,
        token: it.token.0,
        position: it.positions.iter().map(|it| it.0).collect(),
    }
}

pub(super) fn decode_question(it: wire::CancelQuestion) -> CancelUp {
    CancelUp {
        queue: QueueId(it.queue),
        token: Token(it.token),
        positions: it.position.into_iter().map(Position).collect(),
    }
}

pub(super) fn encode_answer(token: Token, results: &[CancelResult]) -> wire::CancelAnswer {
    let verdict = |it: &CancelResult| match it {
        CancelResult::Cancelled => wire::CancelVerdict::Cancelled,
        CancelResult::TooLate => wire::CancelVerdict::TooLate,
        CancelResult::NotFound => wire::CancelVerdict::NotFound,
    };
    wire::CancelAnswer {
        token: token.0,
        results: results.iter().map(|it| verdict(it).into()).collect(),
    }
}

pub(super) fn decode_answer(answer: &wire::CancelAnswer) -> Result<Down, BadFrame> {
    let verdict = |it: &i32| match wire::CancelVerdict::try_from(*it) {
        Ok(wire::CancelVerdict::Cancelled) => Ok(CancelResult::Cancelled),
        Ok(wire::CancelVerdict::TooLate) => Ok(CancelResult::TooLate),
        Ok(wire::CancelVerdict::NotFound) => Ok(CancelResult::NotFound),
        Ok(wire::CancelVerdict::Unspecified) | Err(_) => Err(bad("unknown cancel verdict")),
    };
    Ok(Down::CancelResults {
        token: Token(answer.token),
        results: answer
            .results
            .iter()
            .map(verdict)
            .collect::<Result<_, _>>()?,
    })
}

pub(super) fn places_bytes(places: &[BatchPlaces]) -> usize {
    places.iter().map(|it| it.first.len() * 8 + 12).sum()
}

pub(super) fn encode_places(places: &[BatchPlaces]) -> Vec<stored::BatchPlaces> {
    let encoded = places.iter().map(|it| stored::BatchPlaces {
        sequence: it.sequence.0,
        first: it.first.iter().map(|it| it.0).collect(),
    });
    encoded.collect()
}

pub(super) fn decode_places(places: Vec<stored::BatchPlaces>) -> Vec<BatchPlaces> {
    let decoded = places.into_iter().map(|it| BatchPlaces {
        sequence: BatchSequence(it.sequence),
        first: it.first.into_iter().map(Position).collect(),
    });
    decoded.collect()
}
