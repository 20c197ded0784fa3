//! The topology's entries, replies and snapshot are read back equal. Not here: shards (`roundtrip.rs`), exact bytes (`golden.rs`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "support/replies.rs"]
mod replies;
#[path = "support/samples.rs"]
mod samples;

use bytes::Bytes;
use proptest::prelude::*;
use replies::replies;
use samples::*;
use warren_codec::*;
use warren_topology::TopologyReply;

#[test]
fn every_command_is_read_back() {
    for (name, entry) in topology_entries() {
        let read = decode_topology_entry(&encode_topology_entry(&entry)).unwrap();
        assert_eq!(read, entry, "{name}");
    }
}

#[test]
fn every_reply_is_read_back() {
    for reply in replies() {
        let read: TopologyReply = decode_reply(&encode_reply(&reply)).unwrap();
        assert_eq!(read, reply);
    }
}

#[test]
fn snapshot_is_read_back_and_goes_on_alike() {
    let original = topology();
    let mut read = decode_topology(&encode_topology(&original)).unwrap();
    assert_eq!(read, original);
    let mut other = original.clone();
    for (_, entry) in topology_entries() {
        let at = warren_types::TopologyIndex(read.index().0 + 1);
        assert_eq!(
            read.apply(at, entry.command.clone()),
            other.apply(at, entry.command)
        );
    }
    assert_eq!(read, other);
    let fresh = warren_topology::Topology::new();
    assert_eq!(decode_topology(&encode_topology(&fresh)).unwrap(), fresh);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_bytes_are_read_without_panic_and_a_damaged_snapshot_is_found(
        which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), bit in 0..8_u8,
    ) {
        let flip = |bytes: Bytes| {
            let mut changed = bytes.to_vec();
            let at = at.index(changed.len());
            changed[at] ^= 1 << bit;
            Bytes::from(changed)
        };
        let entries = topology_entries();
        let entry = encode_topology_entry(&entries[which.index(entries.len())].1);
        let _ = decode_topology_entry(&flip(entry));
        let replies = replies();
        let _ = decode_reply(&flip(encode_reply(&replies[which.index(replies.len())])));
        let snapshot = decode_topology(&flip(encode_topology(&topology())));
        let found = matches!(snapshot, Err(CodecError::Checksum { .. }));
        prop_assert!(found);
    }
}
