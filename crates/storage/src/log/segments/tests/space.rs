//! Old segments go, whoever has entries in them.

use super::*;

fn segment_count(disk: &TestDisk) -> usize {
    let paths = disk.paths();
    let segments = paths
        .iter()
        .filter(|path| path.extension().is_some_and(|it| it == "segment"));
    segments.count()
}

#[test]
fn idle_group_does_not_hold_the_disk() {
    let disk = TestDisk::default();
    let engine = open_on(&disk).unwrap();
    let idle = engine.open_group(GroupId(1), REPLICA).unwrap();
    append(&idle, records(1, 1..=3)).unwrap();
    vote(&idle, 2).unwrap();
    idle.save_committed(Some(id(1, 2)));
    let busy = engine.open_group(GroupId(2), REPLICA).unwrap();
    let mut most = 0;
    for index in 1..=400 {
        append(&busy, vec![record(1, index, 400)]).unwrap();
        if index > 5 {
            busy.purge(id(1, index - 5));
        }
        most = most.max(segment_count(&disk));
    }
    assert!(
        most < 12,
        "{most} segments of {} bytes",
        options().segment_bytes
    );
    let stats = engine.stats();
    assert!(stats.bytes_rewritten > 0, "{stats:?}");
    assert!(stats.bytes_rewritten < stats.bytes_written / 4, "{stats:?}");
    assert!(engine.space().unwrap().used_bytes < 14 * options().segment_bytes);
    assert_eq!(read_all(&idle), records(1, 1..=3));
    engine.close();
    let engine = open_on(&disk).unwrap();
    let idle = engine.open_group(GroupId(1), REPLICA).unwrap();
    assert_eq!(read_all(&idle), records(1, 1..=3));
    let state = idle.state();
    assert_eq!(state.vote.map(|vote| vote.term.0), Some(2));
    assert_eq!(state.committed, Some(id(1, 2)));
    let busy = engine.open_group(GroupId(2), REPLICA).unwrap();
    assert_eq!(busy.state().last, Some(id(1, 400)));
}

#[test]
fn log_beyond_its_size_is_tidied_when_that_pays() {
    let disk = TestDisk::default();
    let options = LogOptions {
        log_bytes_max: 5 * options().segment_bytes,
        ..options()
    };
    let engine = SegmentLog::open_on(Arc::new(disk.clone()), Path::new(DIR), options).unwrap();
    // It fills the oldest segments, so emptying them is not cheap; behind them nearly all is purged.
    let large = engine.open_group(GroupId(1), REPLICA).unwrap();
    let kept: Vec<_> = (1..=16).map(|index| record(1, index, 400)).collect();
    append(&large, kept.clone()).unwrap();
    let busy = engine.open_group(GroupId(2), REPLICA).unwrap();
    for index in 1..=600 {
        append(&busy, vec![record(1, index, 400)]).unwrap();
        if index > 2 {
            busy.purge(id(1, index - 2));
        }
    }
    assert!(segment_count(&disk) < 14, "{}", segment_count(&disk));
    assert_eq!(read_all(&large), kept);
}

#[test]
fn log_in_which_everything_lives_is_left_alone() {
    let disk = TestDisk::default();
    let engine = open_on(&disk).unwrap();
    let log = engine.open_group(GROUP, REPLICA).unwrap();
    let all: Vec<_> = (1..=200).map(|index| record(1, index, 400)).collect();
    for record in &all {
        append(&log, vec![record.clone()]).unwrap();
    }
    assert_eq!(engine.stats().bytes_rewritten, 0);
    assert_eq!(read_all(&log), all);
}

#[test]
fn newest_entries_within_some_bytes_are_told() {
    let disk = TestDisk::default();
    let engine = open_on(&disk).unwrap();
    let group = engine.open_group(GroupId(1), REPLICA).unwrap();
    assert_eq!(group.newest_within(1), LogIndex(0));
    for index in 1..=200 {
        append(&group, vec![record(1, index, 4_000)]).unwrap();
    }
    assert_eq!(group.newest_within(u64::MAX), LogIndex(0));
    assert_eq!(group.newest_within(0), LogIndex(201));
    let first = group.newest_within(400_000).0;
    assert!((100..=110).contains(&first), "{first}");
    // Entries that came together lie in one span.
    let together = engine.open_group(GroupId(2), REPLICA).unwrap();
    append(&together, (1..=30).map(|it| record(1, it, 4_000)).collect()).unwrap();
    let first = together.newest_within(40_000).0;
    assert!((21..=22).contains(&first), "{first}");
    group.purge(id(1, 150));
    // The writer has met the purge when what comes behind it is on disk.
    append(&group, vec![record(1, 201, 4_000)]).unwrap();
    assert_eq!(read_all(&group).len(), 51);
    assert_eq!(group.newest_within(400_000), LogIndex(0));
}
