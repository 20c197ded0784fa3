//! Entries that have rows compared: they hold no commands, so a reader that does not know of them applies an entry without effect.
//! Not here: digests and verdicts (`warren-shard`, `audit`).

use bytes::Bytes;
use prost::Message as _;
use warren_proto::stored_v1 as pb;
use warren_types::NodeId;

use super::FORMAT;
use crate::rows::RowTable;

/// Stored: never renumber or reuse.
const BLOCKS: u32 = 1;
const ROWS: u32 = 2;

/// Rows of a shard are to be digested as of this entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Audit {
    /// Counts those of a term, from 1.
    pub number: u64,
    pub place: AuditPlace,
}

/// A place in the rows of a shard, blocks first: what follows it is meant.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AuditPlace {
    pub table: RowTable,
    /// Empty: from the first row of the table on.
    pub after: Bytes,
}

impl AuditPlace {
    /// Before all rows.
    #[must_use]
    pub fn start() -> Self {
        Self {
            table: RowTable::Blocks,
            after: Bytes::new(),
        }
    }
}

/// The payload of an entry.
#[must_use]
pub fn encode_audit(proposer: NodeId, audit: &Audit) -> Bytes {
    let AuditPlace { table, after } = &audit.place;
    let message = pb::ShardEntry {
        format_version: FORMAT,
        proposer_node: proposer.0,
        audit: Some(pb::Audit {
            number: audit.number,
            table: match table {
                RowTable::Blocks => BLOCKS,
                RowTable::Rows => ROWS,
            },
            after_key: after.clone(),
        }),
        ..pb::ShardEntry::default()
    };
    message.encode_to_vec().into()
}

/// What an entry asks for beside its commands. `None`: nothing, or something of a later version.
#[must_use]
pub fn audit_of(entry: &Bytes) -> Option<Audit> {
    let audit = pb::ShardEntry::decode(entry.clone()).ok()?.audit?;
    let table = match audit.table {
        BLOCKS => RowTable::Blocks,
        ROWS => RowTable::Rows,
        _ => return None,
    };
    Some(Audit {
        number: audit.number,
        place: AuditPlace {
            table,
            after: audit.after_key,
        },
    })
}
