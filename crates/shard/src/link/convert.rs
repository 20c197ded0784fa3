//! Frames to and from their protobuf form. Not here: reading or writing the streams (`remote`, `service`).

mod cancel;
mod down;
mod peek;
mod said;
mod together;
mod up;

use thiserror::Error;
use warren_proto::internal_v1 as wire;
use warren_queue::dispatch::io::Credit;
use warren_types::ConsumerId;

pub(crate) use down::{decode_down, down_bytes, encode_down};
pub(crate) use up::{decode_held, decode_up, encode_held, encode_up, up_bytes};

/// A frame of another node that makes no sense: its stream is closed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("link frame makes no sense: {0}")]
pub(crate) struct BadFrame(pub(crate) String);

fn bad(what: impl ToString) -> BadFrame {
    BadFrame(what.to_string())
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
