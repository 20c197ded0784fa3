//! The exact bytes of every format, kept in `golden/*.txt`: what is on disks must stay readable, so a change here is a decision.
//! Not here: whether bytes are read back equal (`roundtrip.rs`), though each kept one is read as well.
//!
//! After a decided change: `cargo test -p warren-codec --test golden -- --ignored` writes the files anew.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "support/samples.rs"]
mod samples;

use std::{fmt::Write as _, fs, path::PathBuf};

use bytes::Bytes;
use samples::*;
use warren_codec::*;
use warren_types::NodeId;

fn hex(bytes: &[u8]) -> String {
    let mut out = String::new();
    for byte in bytes {
        write!(out, "{byte:02x}").unwrap();
    }
    out
}

fn unhex(text: &str) -> Bytes {
    let digits = text.trim().as_bytes();
    let pairs = digits.chunks(2);
    pairs
        .map(|it| u8::from_str_radix(std::str::from_utf8(it).unwrap(), 16).unwrap())
        .collect()
}

/// `name: bytes`, one per line.
fn lines() -> Vec<(&'static str, String)> {
    let mut files = Vec::new();
    let list = |items: Vec<(String, Bytes)>| -> String {
        let lines = items.into_iter();
        lines
            .map(|(name, it)| format!("{name}: {}\n", hex(&it)))
            .collect()
    };
    files.push((
        "message.txt",
        list(vec![("message".into(), encoded_message())]),
    ));
    files.push((
        "entry.txt",
        list(vec![
            ("entry".into(), encode_entry(&entry())),
            ("states".into(), encode_entry(&entry_of_states())),
            ("cancels".into(), encode_entry(&entry_of_cancels())),
            ("keys".into(), encode_entry(&entry_of_keys())),
            ("together".into(), encode_entry(&entry_of_a_batch())),
            ("outputs".into(), encode_entry(&entry_of_outputs())),
            ("parked".into(), encode_entry(&entry_of_parked())),
            ("audit".into(), encode_audit(NodeId(3), &audit())),
            ("remarks".into(), encode_entry(&entry_of_remarks())),
            ("ends".into(), encode_entry(&entry_of_ends())),
            ("dying".into(), encode_entry(&entry_of_dying())),
        ]),
    ));
    let keys = rows()
        .into_iter()
        .map(|(name, key, _)| (name.into(), encode_key(&key)));
    files.push(("keys.txt", list(keys.collect())));
    let values = rows().into_iter().map(|(name, key, row)| {
        let key = encode_key(&key);
        (name.into(), encode_row(&key, &row))
    });
    files.push(("rows.txt", list(values.collect())));
    let commands = topology_entries().into_iter();
    let commands = commands.map(|(name, it)| (name.into(), encode_topology_entry(&it)));
    files.push(("topology_entries.txt", list(commands.collect())));
    let snapshot = encode_topology(&topology());
    let later = encode_topology(&upgraded());
    let copies = encode_topology(&copies());
    let snapshots = vec![
        ("snapshot".into(), snapshot),
        ("upgraded".into(), later),
        ("copies".into(), copies),
    ];
    files.push(("topology.txt", list(snapshots)));
    files
}

fn audit() -> Audit {
    Audit {
        number: 7,
        place: AuditPlace {
            table: RowTable::Rows,
            after: Bytes::from_static(&[3, 0, 0, 0, 0, 0, 0, 0, 9]),
        },
    }
}

fn path(file: &str) -> PathBuf {
    let tests = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    tests.join("tests/golden").join(file)
}

#[test]
fn every_format_is_written_as_before() {
    for (file, lines) in lines() {
        let kept = fs::read_to_string(path(file)).unwrap();
        assert_eq!(kept, lines, "{file}: a stored format has changed");
    }
}

#[test]
fn kept_bytes_are_read_as_what_they_were_written_from() {
    let kept = |file: &str| -> Vec<Bytes> {
        let text = fs::read_to_string(path(file)).unwrap();
        let lines = text.lines();
        lines
            .map(|it| unhex(it.split_once(": ").unwrap().1))
            .collect()
    };
    let view = StoredMessageView::open(&kept("message.txt")[0]).unwrap();
    assert_eq!(view.routing_key(), "orders");
    assert_eq!(decode_entry(&kept("entry.txt")[0]).unwrap(), entry());
    assert_eq!(
        decode_entry(&kept("entry.txt")[1]).unwrap(),
        entry_of_states()
    );
    assert_eq!(
        decode_entry(&kept("entry.txt")[2]).unwrap(),
        entry_of_cancels()
    );
    assert_eq!(
        decode_entry(&kept("entry.txt")[3]).unwrap(),
        entry_of_keys()
    );
    assert_eq!(
        decode_entry(&kept("entry.txt")[4]).unwrap(),
        entry_of_a_batch()
    );
    assert_eq!(
        decode_entry(&kept("entry.txt")[5]).unwrap(),
        entry_of_outputs()
    );
    assert_eq!(
        decode_entry(&kept("entry.txt")[9]).unwrap(),
        entry_of_ends()
    );
    assert_eq!(
        decode_entry(&kept("entry.txt")[10]).unwrap(),
        entry_of_dying()
    );
    let audit_entry = &kept("entry.txt")[7];
    assert_eq!(audit_of(audit_entry), Some(audit()));
    let passed_over = decode_entry(audit_entry).unwrap();
    assert!(passed_over.commands.is_empty() && passed_over.now.0 == 0);
    assert_eq!(audit_of(&kept("entry.txt")[0]), None);
    let (keys, values) = (kept("keys.txt"), kept("rows.txt"));
    for (at, (_, key, row)) in rows().into_iter().enumerate() {
        assert_eq!(decode_key(&keys[at]).unwrap(), key);
        assert_eq!(decode_row(&keys[at], &values[at]).unwrap(), row);
    }
    let entries = kept("topology_entries.txt");
    for (at, (_, entry)) in topology_entries().into_iter().enumerate() {
        assert_eq!(decode_topology_entry(&entries[at]).unwrap(), entry);
    }
    let snapshots = kept("topology.txt");
    assert_eq!(decode_topology(&snapshots[0]).unwrap(), topology());
    let later = decode_topology(&snapshots[1]).unwrap();
    assert_eq!(later, upgraded());
    assert_eq!(decode_topology(&snapshots[2]).unwrap(), copies());
}

#[test]
fn snapshot_of_the_time_before_replicas_moved_is_settled() {
    let text = fs::read_to_string(path("topology_before_placement.txt")).unwrap();
    let topology = decode_topology(&unhex(text.split_once(": ").unwrap().1)).unwrap();
    assert_eq!(topology.placements().len(), 3);
    for placement in topology.placements() {
        assert!(placement.settled, "{placement:?}");
        assert_eq!(placement.members.len(), 3);
        assert_eq!(placement.replicas().count(), 3);
    }
    assert!(topology.nodes().all(|it| !it.leaving));
    // Nor had anyone told what it runs.
    let first = warren_types::KnownVersions::FIRST;
    assert!(topology.nodes().all(|it| it.software.versions == first));
    assert_eq!(topology.version(), first.newest);
}

#[test]
fn snapshot_of_the_time_before_vhosts_is_read_and_goes_on() {
    let text = fs::read_to_string(path("topology_before_vhosts.txt")).unwrap();
    let bytes = unhex(text.split_once(": ").unwrap().1);
    let mut topology = decode_topology(&bytes).unwrap();
    assert_eq!(topology.user_count(), 0);
    let create = warren_topology::CreateVhost {
        name: warren_types::VhostName::try_from("v").unwrap(),
        settings: warren_topology::VhostSettings::default(),
    };
    let at = warren_types::TopologyIndex(topology.index().0 + 1);
    let reply = topology.apply(at, create.into());
    let created = warren_topology::TopologyReply::VhostCreated {
        vhost: warren_types::VhostId(2),
        declared: warren_topology::Declared::Created,
    };
    assert_eq!(reply, created);
}

#[test]
#[ignore = "writes the files: only after a decided change of a format"]
fn write_golden_files() {
    for (file, lines) in lines() {
        fs::write(path(file), lines).unwrap();
    }
}
