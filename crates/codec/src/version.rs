//! What this software knows of versions. Not here: what each command needs (`topology`, `queue`: `since`).

use warren_types::{ClusterVersion, KnownVersions};

/// The versions of commands, rows and frames that this software reads and writes.
pub const KNOWN_VERSIONS: KnownVersions = KnownVersions {
    oldest: ClusterVersion::FIRST,
    newest: NEWEST,
};

#[cfg(not(feature = "next-version"))]
const NEWEST: ClusterVersion = ClusterVersion(2);
/// Of the build that plays the next version in tests of upgrades.
#[cfg(feature = "next-version")]
const NEWEST: ClusterVersion = ClusterVersion(3);

/// A version as it is stored: the first as nothing.
pub(crate) fn stored_version(version: ClusterVersion) -> u32 {
    if version == ClusterVersion::FIRST {
        0
    } else {
        version.0
    }
}

#[cfg(all(test, feature = "next-version"))]
mod tests {
    use warren_queue::entry::{Command, Note, ProposalId, ShardEntry};
    use warren_types::{QueueId, ShardTime, TopologyIndex};

    use super::*;
    use crate::{decode_entry, encode_entry};

    #[test]
    fn entry_with_a_command_of_the_next_version_says_so() {
        let (queue, note) = (QueueId(1), 7);
        let entry = ShardEntry {
            proposal: ProposalId::default(),
            now: ShardTime(1),
            topology: TopologyIndex(1),
            origins: Vec::new(),
            commands: vec![Command::Note(Note { queue, note })],
        };
        let bytes = encode_entry(&entry);
        // Field 2, the version that it needs, after field 1, the format.
        assert_eq!(bytes.get(..4), Some(&[0x08, 1, 0x10, 3][..]));
        assert_eq!(decode_entry(&bytes), Ok(entry));
        assert_eq!(KNOWN_VERSIONS.newest, ClusterVersion(3));
    }
}
