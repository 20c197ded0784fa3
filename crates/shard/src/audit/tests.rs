//! Digests of frozen rows: what is written and what is not, long ranges, damage. Not here: the comparison (`verdict`), random changes
//! (`replica::rows_view`).

use bytes::Bytes;
use warren_codec::{AuditPlace, encode_key, encode_row};
use warren_queue::rows::{BlockRow, Change, ProducerRow, Row, RowKey};
use warren_storage::{ReplicaState, RowBatch, StateOptions, StateStore, Table};
use warren_types::{
    Facts, GroupId, LogIndex, Position, Priority, ProducerId, QueueId, ReplicaId, ShardTime, Term,
};

use super::capture::{AuditId, Captured, Frozen};
use super::digest::{Damage, ROWS_MAX, digest};
use super::verdict::Seen;
use crate::replica::RowsView;

struct Subject {
    state: ReplicaState,
    rows: RowsView,
}

impl Subject {
    fn open(store: &StateStore, group: u32) -> Self {
        let state = store.replica(GroupId(group), ReplicaId(1)).unwrap();
        let rows = RowsView::new(state.clone());
        Self { state, rows }
    }

    fn put(&self, key: RowKey, row: Row) {
        self.rows.take(&mut vec![Change::Put(key, row)], 8);
    }

    fn write_out(&self) {
        let mut batch = RowBatch::default();
        self.rows.give(&mut batch);
        let meta = Bytes::from_static(b"meta");
        self.state.write(batch, meta).unwrap();
    }

    fn look(&self, place: &AuditPlace) -> Result<Seen, Damage> {
        digest(&captured(place, self.rows.freeze(place).unwrap())).map(|it| it.seen)
    }

    /// All audits of one pass.
    fn pass(&self) -> Vec<Seen> {
        let mut place = AuditPlace::start();
        let mut all = Vec::new();
        loop {
            let seen = self.look(&place).unwrap();
            let end = seen.end.clone();
            all.push(seen);
            match end {
                Some(next) => place = next,
                None => return all,
            }
        }
    }
}

fn captured(place: &AuditPlace, frozen: Frozen) -> Captured {
    Captured {
        id: AuditId {
            term: Term(1),
            number: 1,
        },
        index: LogIndex(1),
        place: place.clone(),
        frozen,
    }
}

fn producer(number: u64) -> (RowKey, Row) {
    let key = RowKey::Producer {
        queue: QueueId(1),
        producer: ProducerId(Bytes::copy_from_slice(&number.to_be_bytes())),
    };
    let row = ProducerRow {
        seen: ShardTime(number),
        ..ProducerRow::default()
    };
    (key, Row::Producer(row))
}

fn block(number: u64, bytes: usize) -> (RowKey, Row) {
    let first = Position(number);
    let key = RowKey::Block {
        queue: QueueId(1),
        priority: Priority::DEFAULT,
        first,
    };
    let size = u32::try_from(bytes).unwrap();
    let facts = Facts {
        size: vec![size],
        body_size: vec![size],
        ..Facts::default()
    };
    let row = BlockRow {
        first,
        facts: facts.into(),
        payload: vec![7; bytes].into(),
    };
    (key, Row::Block(row))
}

#[test]
fn long_rows_are_digested_in_the_same_parts_written_or_not() {
    let dir = tempfile::tempdir().unwrap();
    let store = StateStore::open(dir.path(), StateOptions::default()).unwrap();
    let (written, kept) = (Subject::open(&store, 1), Subject::open(&store, 2));
    for subject in [&written, &kept] {
        for number in 0..ROWS_MAX + 10 {
            let (key, row) = producer(number);
            subject.put(key, row);
            if number % 3_000 == 0 {
                written.write_out();
            }
        }
        for number in 0..5 {
            let (key, row) = block(number, 700 << 10);
            subject.put(key, row);
        }
    }
    written.write_out();
    let (written, kept) = (written.pass(), kept.pass());
    assert_eq!(written, kept);
    let rows: Vec<u64> = written.iter().map(|it| it.rows).collect();
    assert_eq!(
        rows,
        [3, ROWS_MAX, 12],
        "blocks end by bytes, small rows by count"
    );
}

#[test]
fn one_altered_row_changes_the_digest() {
    let dir = tempfile::tempdir().unwrap();
    let store = StateStore::open(dir.path(), StateOptions::default()).unwrap();
    let subject = Subject::open(&store, 1);
    for number in 0..100 {
        let (key, row) = producer(number);
        subject.put(key, row);
    }
    let before = subject.pass();
    let (key, _) = producer(50);
    let (_, other) = producer(51);
    subject.put(key, other);
    assert_ne!(subject.pass(), before);
}

#[test]
fn row_that_fails_its_checksum_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let store = StateStore::open(dir.path(), StateOptions::default()).unwrap();
    let subject = Subject::open(&store, 1);
    let (key, row) = producer(1);
    let key = encode_key(&key);
    let mut value = encode_row(&key, &row).to_vec();
    *value.last_mut().unwrap() ^= 1;
    let mut batch = RowBatch::default();
    batch.put(Table::Rows, key, value);
    subject.state.write(batch, Bytes::new()).unwrap();
    let seen = subject.look(&AuditPlace::start());
    assert!(matches!(seen, Err(Damage::Row { .. })), "{seen:?}");
}

#[test]
fn installed_rows_are_proven_when_that_is_said_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let store = StateStore::open(dir.path(), StateOptions::default()).unwrap();
    let (source, target) = (Subject::open(&store, 1), Subject::open(&store, 2));
    let (key, row) = producer(1);
    source.put(key, row);
    source.write_out();
    assert!(source.state.snapshot().unwrap().is_proven());
    let frozen = std::sync::Arc::new(source.state.snapshot().unwrap());
    for _ in 0..2 {
        let mut installer = target.state.installer().unwrap();
        for chunk in frozen.chunks(1 << 20) {
            installer.chunk(&chunk.unwrap()).unwrap();
        }
        installer.finish(Bytes::from_static(b"meta")).unwrap();
        let installed = target.state.snapshot().unwrap();
        assert!(!installed.is_proven(), "rows are new with each snapshot");
        assert!(target.state.prove(installed.life()).unwrap());
        let proven = target.state.snapshot().unwrap();
        assert!(proven.is_proven() && proven.life() == installed.life());
    }
}
