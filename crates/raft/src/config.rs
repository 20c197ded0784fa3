//! The types openraft is run with. Not here: how they look on disk and on the wire (`convert`).

use std::fmt;

use bytes::{Bytes, BytesMut};
use openraft::TokioRuntime;
use prost::encoding::{self, WireType};

openraft::declare_raft_types!(
    /// `NodeId` is a replica id: never a node's number, so that a replica that left a group can never come back as itself.
    pub(crate) TypeConfig:
        D = Command,
        R = (),
        NodeId = u64,
        Node = Home,
        AsyncRuntime = TokioRuntime,
);

pub(crate) type LogIdOf = openraft::alias::LogIdOf<TypeConfig>;
pub(crate) type VoteOf = openraft::alias::VoteOf<TypeConfig>;
pub(crate) type EntryOf = openraft::alias::EntryOf<TypeConfig>;
pub(crate) type MembershipOf = openraft::Membership<u64, Home>;
pub(crate) type StoredMembershipOf = openraft::alias::StoredMembershipOf<TypeConfig>;
pub(crate) type InstantOf = openraft::alias::InstantOf<TypeConfig>;
pub(crate) type SnapshotMetaOf = openraft::alias::SnapshotMetaOf<TypeConfig>;

/// The node a replica lives on. Addresses are not part of the membership: a node may move.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Home {
    pub node: u64,
}

/// Tag of `StoredEntry.command`.
const COMMAND_FIELD: u32 = 1;

/// One command of the state machine, in the form in which it is logged and sent: a `StoredEntry` whose body is the command.
///
/// It is encoded once, at the leader; log, followers and caches share these bytes.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Command {
    encoded: Bytes,
    /// Where the command's own bytes begin.
    body_at: usize,
}

impl Command {
    /// Encodes a command. Copies it once, behind the header.
    pub(crate) fn new(payload: &[u8]) -> Self {
        let length = payload.len() as u64;
        let body_at = encoding::key_len(COMMAND_FIELD) + encoding::encoded_len_varint(length);
        let mut encoded = BytesMut::with_capacity(body_at + payload.len());
        encoding::encode_key(COMMAND_FIELD, WireType::LengthDelimited, &mut encoded);
        encoding::encode_varint(length, &mut encoded);
        encoded.extend_from_slice(payload);
        Self {
            encoded: encoded.freeze(),
            body_at,
        }
    }

    /// Takes a stored entry's bytes as they are; `None` if they are not exactly one command.
    pub(crate) fn from_encoded(encoded: Bytes) -> Option<Self> {
        let mut rest: &[u8] = &encoded;
        let (field, wire_type) = encoding::decode_key(&mut rest).ok()?;
        if field != COMMAND_FIELD || wire_type != WireType::LengthDelimited {
            return None;
        }
        let length = encoding::decode_varint(&mut rest).ok()?;
        if rest.len() as u64 != length {
            return None;
        }
        let body_at = encoded.len() - rest.len();
        Some(Self { encoded, body_at })
    }

    /// The stored entry's bytes.
    pub(crate) fn encoded(&self) -> Bytes {
        self.encoded.clone()
    }

    /// The command's own bytes, as they were proposed.
    pub(crate) fn payload(&self) -> Bytes {
        self.encoded.slice(self.body_at..)
    }

    pub(crate) fn encoded_len(&self) -> usize {
        self.encoded.len()
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command({} bytes)", self.encoded.len())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;
    use warren_proto::stored_v1::{StoredEntry, stored_entry::Body};

    #[test]
    fn command_encoded_is_a_stored_entry() {
        for length in [0, 1, 127, 128, 20_000] {
            let payload = vec![7_u8; length];
            let command = Command::new(&payload);
            let entry = StoredEntry::decode(command.encoded()).expect("a stored entry");
            assert_eq!(
                entry.body,
                Some(Body::Command(Bytes::from(payload.clone())))
            );
            let again = Command::from_encoded(command.encoded()).expect("a command");
            assert_eq!(again.payload(), payload);
        }
    }

    #[test]
    fn command_from_other_bytes_is_none() {
        assert!(Command::from_encoded(Bytes::new()).is_none());
        assert!(Command::from_encoded(Bytes::from_static(&[0x0a, 5, 1])).is_none());
        assert!(Command::from_encoded(Bytes::from_static(&[0x0a, 1, 1, 1])).is_none());
        assert!(Command::from_encoded(Bytes::from_static(&[0x12, 0])).is_none());
    }
}
