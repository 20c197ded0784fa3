//! What counts as a copy. Not here: doing it (`tests/cluster`, `recover`).

use std::path::Path;

use warren_storage::{AsideReplica, LogOptions, SegmentLog};
use warren_topology::{Addresses, FormCluster, Node, Software};
use warren_types::{ClusterVersion, Incarnation};

use super::*;

const REPLICA: ReplicaId = ReplicaId(7);

/// The directory of node 1 of three, with an entry in the log of each group.
fn written(root: &Path) -> Config {
    let mut config = Config::default();
    config.node.id = NodeId(1);
    config.node.data_dir = root.to_owned();
    let dir = DataDir::open(root, NodeId(1)).unwrap();
    let node = |number: u64| Node {
        id: NodeId(number),
        incarnation: Incarnation(u128::from(number)),
        addresses: Addresses {
            node: "a:1".into(),
            grpc: "a:2".into(),
            amqp: "".into(),
        },
        zone: "".into(),
        leaving: false,
        former: Vec::new(),
        software: Software::default(),
    };
    let record = Record {
        former: NodeId(1),
        cluster: FormCluster {
            cluster: ClusterId(5),
            name: "test".into(),
            version: ClusterVersion::FIRST,
            nodes: vec![node(1), node(2), node(3)],
            topology_members: Vec::new(),
            shards: 2,
            replication_factor: 3,
        },
    };
    record.write(&dir).unwrap();
    let log = SegmentLog::open(&dir.log_dir(), LogOptions::default()).unwrap();
    for group in 0..=2 {
        let log = warren_storage::LogEngine::open_group(&log, GroupId(group), REPLICA).unwrap();
        let id = LogId {
            term: Term(1),
            leader: REPLICA,
            index: LogIndex(1),
        };
        let bytes = vec![1].into();
        wait(|done| log.append(vec![LogRecord { id, bytes }], done)).unwrap();
    }
    config
}

fn put_aside(root: &Path, group: u32, replica: ReplicaId) {
    let aside = AsideReplica {
        replica,
        at_ms: 1,
        replaced_at_ms: 0,
        cause: "a row cannot be read".to_owned(),
    };
    let known = SetAside::of(root).unwrap();
    known.put(GroupId(group), aside).unwrap();
}

#[test]
fn replica_that_is_set_aside_is_no_copy_and_its_cause_is_told() {
    let root = tempfile::tempdir().unwrap();
    let config = written(root.path());
    let groups = |recovery: &Recovery| -> Vec<u32> {
        let copies = recovery.copies.iter();
        copies.map(|it| it.group.0).collect()
    };
    assert_eq!(groups(&look(&config).unwrap()), [0, 1, 2]);
    // An earlier replica of the group.
    put_aside(root.path(), 2, ReplicaId(3));
    assert_eq!(groups(&look(&config).unwrap()), [0, 1, 2]);
    put_aside(root.path(), 2, REPLICA);
    let refused = look(&config).unwrap_err();
    let text = refused.to_string();
    assert!(
        text.contains("no copy of shards [2] that counts")
            && text.ends_with("its copy of shard 2 is set aside: a row cannot be read"),
        "{text}"
    );
    let RecoverError::NotWhole { shards, aside, .. } = refused else {
        panic!("{text}");
    };
    assert_eq!((shards, aside.len()), (vec![2], 1));
}

#[test]
fn recovery_is_written_down_before_it_and_stays() {
    let root = tempfile::tempdir().unwrap();
    let config = written(root.path());
    let recovery = look(&config).unwrap();
    recover(&config, &recovery, "ada (uid 1000)").unwrap();
    assert!(matches!(look(&config), Err(RecoverError::Alone { .. })));
    let dir = DataDir::open(root.path(), NodeId(1)).unwrap();
    let [record] = <[RecoveryRecord; 1]>::try_from(dir.recoveries().unwrap()).unwrap();
    assert!(record.at_ms > 0);
    assert_eq!((&*record.by, record.node), ("ada (uid 1000)", NodeId(1)));
    assert_eq!(record.lost, [NodeId(2), NodeId(3)]);
    let kept = record.kept.iter().map(|it| (it.group.0, it.last_index.0));
    assert_eq!(kept.collect::<Vec<_>>(), [(0, 1), (1, 1), (2, 1)]);
    drop(dir);
    let verified = warren_storage::verify(root.path(), &mut |_, _| {}).unwrap();
    assert!(verified.findings.is_empty(), "{:?}", verified.findings);
}
