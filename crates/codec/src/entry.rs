//! Entries of a shard's log: `warren.stored.v1.ShardEntry`. Not here: what Raft adds to them (`raft`), what they do (`queue::store`).
//!
//! The log keeps its own checksum per record, so an entry has none.

mod audit;
pub(crate) mod command;
mod ends;
mod moves;
mod next_note;
mod origin;
pub(crate) mod states;

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use warren_proto::stored_v1 as pb;
use warren_queue::entry::{Command, ProposalId, ShardEntry};
use warren_types::{NodeId, Run, ShardTime, TopologyIndex};

use crate::{
    error::CodecError,
    version::stored_version,
    wire::{Field, Fields},
};

pub use audit::{Audit, AuditPlace, audit_of, encode_audit};
pub(crate) use command::{decode_reason, priority, reason};
pub(crate) use moves::decode_priority;
pub(crate) use origin::incarnation;

const WHAT: &str = "shard entry";
const FORMAT: u32 = 1;
/// Number of `ShardEntry.commands`.
const COMMANDS_FIELD: u64 = 12;

/// The payloads are copied once, into the result.
#[must_use]
pub fn encode_entry(entry: &ShardEntry) -> Bytes {
    let needed = entry.commands.iter().map(Command::since).max();
    let message = pb::ShardEntry {
        format_version: FORMAT,
        finalized_version: needed.map_or(0, stored_version),
        proposer_node: entry.proposal.node.0,
        proposer_run: entry.proposal.run.0,
        proposal_sequence: entry.proposal.number,
        leader_time_ms: entry.now.0,
        topology_index: entry.topology.0,
        origins: origin::encode(&entry.origins),
        commands: entry.commands.iter().map(command::encode).collect(),
        ..pb::ShardEntry::default()
    };
    let mut out = BytesMut::with_capacity(message.encoded_len());
    message
        .encode(&mut out)
        .expect("the buffer has the length it asked for, and grows");
    out.freeze()
}

/// The payloads are slices of `bytes`.
///
/// # Errors
/// [`CodecError`]; with a command this version does not know, [`CodecError::UnknownCommand`].
pub fn decode_entry(bytes: &Bytes) -> Result<ShardEntry, CodecError> {
    let entry = pb::ShardEntry::decode(bytes.clone()).map_err(CodecError::wire(WHAT))?;
    let unknown = |number| CodecError::UnknownCommand {
        number,
        format_version: entry.format_version,
        finalized_version: entry.finalized_version,
    };
    if let Some(at) = entry.commands.iter().position(|it| it.kind.is_none()) {
        return Err(unknown(command_number(bytes, at)?));
    }
    let kinds = || entry.commands.iter().filter_map(|it| it.kind.as_ref());
    if let Some(number) = kinds().find_map(command::set_aside) {
        return Err(unknown(number));
    }
    if entry.format_version != FORMAT {
        return Err(CodecError::UnknownFormat {
            what: WHAT,
            found: entry.format_version,
            known: FORMAT,
        });
    }
    Ok(ShardEntry {
        proposal: ProposalId {
            node: NodeId(entry.proposer_node),
            run: Run(entry.proposer_run),
            number: entry.proposal_sequence,
        },
        now: ShardTime(entry.leader_time_ms),
        topology: TopologyIndex(entry.topology_index),
        origins: origin::decode(entry.origins)?,
        commands: entry
            .commands
            .into_iter()
            .filter_map(|it| it.kind)
            .map(command::decode)
            .collect::<Result<_, _>>()?,
    })
}

/// The field number in command `at`; 0 = it has no field at all.
fn command_number(bytes: &Bytes, at: usize) -> Result<u32, CodecError> {
    let mut fields = Fields::new(WHAT, bytes);
    let mut seen = 0;
    while let Some((number, field)) = fields.next()? {
        let (COMMANDS_FIELD, Field::Bytes { from, to }) = (number, field) else {
            continue;
        };
        if seen == at {
            let command = bytes.slice(from..to);
            let first = Fields::new(WHAT, &command).next()?;
            return Ok(first.map_or(0, |(number, _)| u32::try_from(number).unwrap_or(u32::MAX)));
        }
        seen += 1;
    }
    Ok(0)
}
