//! The bytes of what is replicated or kept: messages, log entries, rows, the topology's commands and snapshot; versions and checksums.
//! Not here: files and tables (`storage`), what any of it means (`queue`, `topology`), the client's protocols (`proto`, `amqp`).
//!
//! Decoding is total: any bytes give a value or a [`CodecError`], and nothing is allocated from a declared length.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

pub mod columns;
mod entry;
mod error;
mod facts;
mod message;
mod ranges;
mod rows;
mod said;
mod topology;
mod version;
mod wire;

pub use entry::{Audit, AuditPlace, audit_of, decode_entry, encode_audit, encode_entry};
pub use error::CodecError;
pub use message::{MessageSizes, StoredMessageView, encode_message, encoded_bytes_max};
pub use rows::{
    KeyRange, RowTable, block_holding_range, blocks_from, blocks_of, check_row, counts_rows,
    decode_key, decode_row, encode_key, encode_row, marks_from, origin_rows, outgoing_rows,
    producer_rows, queue_rows, rows_of_queue, table_of, timer_rows,
};
pub use topology::{
    TopologyEntry, decode_reply, decode_topology, decode_topology_entry, encode_reply,
    encode_topology, encode_topology_entry,
};
pub use version::KNOWN_VERSIONS;
