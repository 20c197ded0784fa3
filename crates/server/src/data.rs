//! A data directory looked at while no node runs on it: checked, or its log shown with what the entries mean. Not here: reading the
//! files (`warren-storage`), the entries' bytes (`warren-codec`).

use bytes::Bytes;
use prost::Message as _;
use warren_codec::{decode_entry, decode_topology_entry};
use warren_proto::stored_v1::StoredEntry;
use warren_proto::stored_v1::stored_entry::Body;
use warren_types::GroupId;

pub use warren_storage::{
    DataDirError, DumpError, DumpedGroup, Finding, Grade, LogRecord, Verified, dump_log, verify,
};

/// What an entry of the log says, for people; what cannot be decoded is said so.
#[must_use]
pub fn describe(group: GroupId, entry: &Bytes) -> String {
    let body = match StoredEntry::decode(entry.clone()) {
        Ok(stored) => stored.body,
        Err(error) => return format!("not readable: {error}"),
    };
    match body {
        Some(Body::Command(command)) => describe_command(group, &command),
        Some(Body::Membership(membership)) => format!("{membership:?}"),
        Some(Body::Blank(_)) => "blank: a leader's first entry".to_owned(),
        None => "not readable: of a kind that this program does not know".to_owned(),
    }
}

fn describe_command(group: GroupId, command: &Bytes) -> String {
    let described = if group == GroupId::TOPOLOGY {
        decode_topology_entry(command).map(|entry| format!("{entry:?}"))
    } else {
        decode_entry(command).map(|entry| format!("{entry:?}"))
    };
    described.unwrap_or_else(|error| format!("not readable: {error}"))
}

/// Whether a log is shown that has users' secrets in it: the topology's holds password hashes.
#[must_use]
pub fn holds_secrets(group: GroupId) -> bool {
    group == GroupId::TOPOLOGY
}

#[cfg(test)]
mod tests {
    use warren_codec::encode_entry;
    use warren_queue::entry::{ProposalId, ShardEntry};
    use warren_types::{ShardTime, TopologyIndex};

    use super::*;

    #[test]
    fn entry_is_described_by_its_kind() {
        let stored = |body| Bytes::from(StoredEntry { body }.encode_to_vec());
        let command = encode_entry(&ShardEntry {
            proposal: ProposalId::default(),
            now: ShardTime(1),
            topology: TopologyIndex(1),
            origins: Vec::new(),
            commands: Vec::new(),
        });
        let text = describe(GroupId(1), &stored(Some(Body::Command(command.clone()))));
        assert!(text.starts_with("ShardEntry"), "{text}");
        let text = describe(GroupId::TOPOLOGY, &stored(Some(Body::Command(command))));
        assert!(!text.starts_with("ShardEntry"), "{text}");
        let text = describe(GroupId(1), &stored(Some(Body::Blank(Default::default()))));
        assert!(text.starts_with("blank"), "{text}");
        assert!(describe(GroupId(1), &stored(None)).starts_with("not readable"));
        let bad = Bytes::from_static(&[0xff; 9]);
        assert!(describe(GroupId(1), &bad).starts_with("not readable"));
    }
}
