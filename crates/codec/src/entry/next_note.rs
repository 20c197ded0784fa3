//! The command that only the build has that plays the next version in tests of upgrades; to any other it is unknown.

use warren_proto::stored_v1 as pb;
use warren_queue::entry::Command;

use crate::error::CodecError;

#[cfg(feature = "next-version")]
pub(super) fn encode(it: &warren_queue::entry::Note) -> pb::NextNote {
    pb::NextNote {
        queue: it.queue.0,
        note: it.note,
    }
}

#[cfg(feature = "next-version")]
#[expect(
    clippy::unnecessary_wraps,
    reason = "without the feature it is refused"
)]
pub(super) fn decode(it: &pb::NextNote) -> Result<Command, CodecError> {
    Ok(Command::Note(warren_queue::entry::Note {
        queue: warren_types::QueueId(it.queue),
        note: it.note,
    }))
}

#[cfg(not(feature = "next-version"))]
pub(super) fn decode(_: &pb::NextNote) -> Result<Command, CodecError> {
    Err(crate::error::malformed(
        "command",
        "its number is set aside",
    ))
}
