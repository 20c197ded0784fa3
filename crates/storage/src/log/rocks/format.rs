//! Keys and values of the log in RocksDB. Not here: when they are written (`writer`), the acknowledged marks (`acked`).
//!
//! Every value carries a CRC-32C over its key and content, so that neither a flipped bit nor a value under another's key passes.

use bytes::Bytes;
use warren_types::{GroupId, LogId, LogIndex, ReplicaId, Term, Vote};

use crate::files::{seal, sealed, take_u8, take_u32, take_u64, unseal};
use crate::log::contract::LogRecord;

pub(super) const ENTRIES: &str = "entries";
pub(super) const GROUPS: &str = "groups";
/// Key, in the default column family, of the format number.
pub(super) const FORMAT_KEY: &[u8] = b"format";
pub(super) const FORMAT: u32 = 1;

const CHECKSUM_BYTES: usize = 4;
const HEADER_BYTES: usize = CHECKSUM_BYTES + 16;

pub(super) type EntryKey = [u8; 12];
pub(super) type FieldKey = [u8; 5];

/// What is kept of a group beside its entries. The numbers are on disk: never reuse one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Field {
    Replica = 1,
    Vote = 2,
    Purged = 3,
    Committed = 4,
}

pub(super) const FIELDS: [Field; 4] =
    [Field::Replica, Field::Vote, Field::Purged, Field::Committed];

pub(super) fn entry_key(group: GroupId, index: LogIndex) -> EntryKey {
    let mut key = [0; 12];
    let (head, tail) = key.split_at_mut(4);
    head.copy_from_slice(&group.0.to_be_bytes());
    tail.copy_from_slice(&index.0.to_be_bytes());
    key
}

/// The index in an entry's key, if the key belongs to `group`.
pub(super) fn entry_index(group: GroupId, mut key: &[u8]) -> Option<LogIndex> {
    let found = take_u32(&mut key)?;
    let index = take_u64(&mut key)?;
    (found == group.0 && key.is_empty()).then_some(LogIndex(index))
}

pub(super) fn field_key(group: GroupId, field: Field) -> FieldKey {
    let [a, b, c, d] = group.0.to_be_bytes();
    [a, b, c, d, field as u8]
}

/// Writes a record's value into `out`, which is reused between records.
pub(super) fn encode_record(key: &[u8], record: &LogRecord, out: &mut Vec<u8>) {
    out.clear();
    out.reserve(HEADER_BYTES + record.bytes.len());
    out.extend_from_slice(&[0; CHECKSUM_BYTES]);
    out.extend_from_slice(&record.id.term.0.to_be_bytes());
    out.extend_from_slice(&record.id.leader.0.to_be_bytes());
    out.extend_from_slice(&record.bytes);
    seal(key, out);
}

/// Reads a record's value; `None` if it does not match its checksum.
pub(super) fn decode_record(key: &[u8], index: LogIndex, value: Vec<u8>) -> Option<LogRecord> {
    let id = decode_record_id(key, index, &value)?;
    Some(LogRecord {
        id,
        bytes: Bytes::from(value).slice(HEADER_BYTES..),
    })
}

/// Same, without the bytes.
pub(super) fn decode_record_id(key: &[u8], index: LogIndex, value: &[u8]) -> Option<LogId> {
    let mut content = unseal(key, value)?;
    let term = Term(take_u64(&mut content)?);
    let leader = ReplicaId(take_u64(&mut content)?);
    Some(LogId {
        term,
        leader,
        index,
    })
}

pub(super) fn encode_replica(key: &[u8], replica: ReplicaId) -> Vec<u8> {
    sealed(key, |out| out.extend_from_slice(&replica.0.to_be_bytes()))
}

pub(super) fn decode_replica(key: &[u8], value: &[u8]) -> Option<ReplicaId> {
    let mut content = unseal(key, value)?;
    let replica = ReplicaId(take_u64(&mut content)?);
    content.is_empty().then_some(replica)
}

pub(super) fn encode_vote(key: &[u8], vote: Vote) -> Vec<u8> {
    sealed(key, |out| {
        out.extend_from_slice(&vote.term.0.to_be_bytes());
        out.extend_from_slice(&vote.replica.0.to_be_bytes());
        out.push(u8::from(vote.committed));
    })
}

pub(super) fn decode_vote(key: &[u8], value: &[u8]) -> Option<Vote> {
    let mut content = unseal(key, value)?;
    let term = Term(take_u64(&mut content)?);
    let replica = ReplicaId(take_u64(&mut content)?);
    let committed = take_u8(&mut content)? == 1;
    content.is_empty().then_some(Vote {
        term,
        replica,
        committed,
    })
}

pub(super) fn encode_log_id(key: &[u8], id: LogId) -> Vec<u8> {
    sealed(key, |out| {
        out.extend_from_slice(&id.term.0.to_be_bytes());
        out.extend_from_slice(&id.leader.0.to_be_bytes());
        out.extend_from_slice(&id.index.0.to_be_bytes());
    })
}

pub(super) fn decode_log_id(key: &[u8], value: &[u8]) -> Option<LogId> {
    let mut content = unseal(key, value)?;
    let term = Term(take_u64(&mut content)?);
    let leader = ReplicaId(take_u64(&mut content)?);
    let index = LogIndex(take_u64(&mut content)?);
    content.is_empty().then_some(LogId {
        term,
        leader,
        index,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_with_any_flipped_bit_or_foreign_key_is_refused() {
        let key = entry_key(GroupId(7), LogIndex(9));
        let id = LogId {
            term: Term(3),
            leader: ReplicaId(4),
            index: LogIndex(9),
        };
        let record = LogRecord {
            id,
            bytes: Bytes::from_static(b"some bytes"),
        };
        let mut value = Vec::new();
        encode_record(&key, &record, &mut value);
        assert_eq!(
            decode_record(&key, LogIndex(9), value.clone()),
            Some(record)
        );
        assert_eq!(
            decode_record(
                &entry_key(GroupId(7), LogIndex(8)),
                LogIndex(8),
                value.clone()
            ),
            None
        );
        for bit in 0..value.len() * 8 {
            let mut flipped = value.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode_record(&key, LogIndex(9), flipped), None, "bit {bit}");
        }
        for length in 0..value.len() {
            assert_eq!(
                decode_record(&key, LogIndex(9), value[..length].to_vec()),
                None,
                "length {length}"
            );
        }
    }

    #[test]
    fn entry_keys_sort_by_group_then_index() {
        let keys = [
            entry_key(GroupId(1), LogIndex(256)),
            entry_key(GroupId(1), LogIndex(u64::MAX)),
            entry_key(GroupId(2), LogIndex(0)),
            entry_key(GroupId(256), LogIndex(1)),
        ];
        assert!(keys.is_sorted());
        assert_eq!(entry_index(GroupId(1), &keys[0]), Some(LogIndex(256)));
        assert_eq!(entry_index(GroupId(2), &keys[0]), None);
    }
}
