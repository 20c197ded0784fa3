//! Bytes that change on the disk while the engine runs, in segments that are written no more and in what is synced of the one that is
//! written: found, told, and out of the way of the next start as far as nothing in them is lost. Appends beside it are no damage.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::*;
use crate::log::test_disk::{Left, Names};
use format::{BATCH_HEADER_BYTES, FRAME_HEADER_BYTES, HEAD_BYTES, Kind};

const IDLE: GroupId = GroupId(1);
pub(super) const BUSY: GroupId = GroupId(2);
const GONE: GroupId = GroupId(9);
pub(super) const WITHIN: Duration = Duration::from_secs(20);
static TERM: AtomicU64 = AtomicU64::new(100);

pub(super) fn open_scrubbed(disk: &TestDisk) -> SegmentLog {
    let options = LogOptions {
        scrub_every: Duration::from_millis(1),
        scrub_bytes_per_second: u64::MAX,
        ..options()
    };
    SegmentLog::open_on(Arc::new(disk.clone()), Path::new(DIR), options).unwrap()
}

/// A place in a file.
#[derive(Clone, Debug)]
pub(super) struct Spot {
    pub(super) path: PathBuf,
    pub(super) offset: usize,
}

/// One spot of each class of bytes, in segments that are written no more.
fn spots(disk: &TestDisk) -> BTreeMap<String, Spot> {
    let mut all = all_spots(disk);
    all.pop(); // the last one is being written
    last_of_each(all)
}

pub(super) fn last_of_each(all: Vec<(PathBuf, Vec<(String, u64)>)>) -> BTreeMap<String, Spot> {
    let mut spots = BTreeMap::new();
    for (path, found) in all {
        for (class, offset) in found {
            let offset = usize::try_from(offset).unwrap();
            let path = path.clone();
            spots.insert(class, Spot { path, offset });
        }
    }
    spots
}

/// Spots of each class of bytes, in each segment that holds any.
pub(super) fn all_spots(disk: &TestDisk) -> Vec<(PathBuf, Vec<(String, u64)>)> {
    let mut paths = disk.paths();
    paths.retain(|path| path.extension().is_some_and(|it| it == "segment"));
    let mut all = Vec::new();
    for path in paths {
        let mut found = Vec::new();
        let file = disk.open(&path).unwrap();
        let mut scan = scan::Scan::new(&*file, &path).unwrap();
        let epoch = scan.head().unwrap().epoch;
        let mut visit = |batch: &scan::WholeBatch<'_>| {
            let first = batch.frames.first().unwrap().offset;
            found.push((
                "batch header".to_owned(),
                first - BATCH_HEADER_BYTES as u64 + 20,
            ));
            for frame in &batch.frames {
                let kind = frame.header.kind;
                let content = frame.offset + FRAME_HEADER_BYTES as u64;
                found.push((format!("{kind:?} header"), frame.offset + 9));
                if frame.end > content {
                    found.push((format!("{kind:?} content"), frame.end - 1));
                }
            }
            let end = batch.frames.last().unwrap().end;
            if format::aligned(end) > end {
                found.push(("padding".to_owned(), end));
            }
            Ok(())
        };
        let end = scan.batches(epoch, None, &mut visit).unwrap();
        found.push(("head".to_owned(), 20));
        found.push(("head's zeros".to_owned(), HEAD_BYTES - 9));
        if end.batches > 0 {
            all.push((path, found));
        }
    }
    all
}

/// A log with frames of all kinds.
fn written() -> TestDisk {
    let disk = TestDisk::default();
    let engine = open_on(&disk).unwrap();
    let idle = engine.open_group(IDLE, REPLICA).unwrap();
    let busy = engine.open_group(BUSY, REPLICA).unwrap();
    append(&idle, records(1, 1..=3)).unwrap();
    let mut last = 0;
    // Until old segments were emptied, so that there are rewrites, and some more.
    while engine.stats().bytes_rewritten == 0 || last % 40 != 0 {
        last += 1;
        append(&busy, vec![record(1, last, 400)]).unwrap();
        busy.purge(id(1, last.saturating_sub(5).max(1)));
        assert!(last < 10_000);
    }
    for round in 0..12 {
        vote(&busy, 2 + round).unwrap();
        busy.save_committed(Some(id(1, last)));
        append(
            &busy,
            vec![record(1, last + 1, 400), record(1, last + 2, 100)],
        )
        .unwrap();
        busy.truncate_after(Some(id(1, last + 1)));
        last += 1;
        if round < 3 {
            busy.purge(id(1, last - 5));
            engine.open_group(GONE, REPLICA).unwrap();
            let (done, removed) = answer();
            engine.remove_group(GONE, done);
            wait(&removed).unwrap();
        }
    }
    for _ in 0..30 {
        last += 1;
        append(&busy, vec![record(1, last, 400)]).unwrap();
    }
    engine.close();
    disk
}

/// Waits for something, with a group that is written meanwhile: the writer tidies up when it has something to do.
pub(super) fn until(log: &Arc<dyn GroupLog>, what: &str, is: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < WITHIN, "{what}");
        // A vote never goes back.
        vote(log, TERM.fetch_add(1, Ordering::Relaxed)).unwrap();
    }
}

/// Every class of byte is there: those of all frames but rewrites, of batches and heads, and of `more`.
pub(super) fn has_all_classes(spots: &BTreeMap<String, Spot>, more: &[Kind]) {
    let kinds = [
        Kind::Append,
        Kind::Vote,
        Kind::Committed,
        Kind::Truncate,
        Kind::Purge,
        Kind::Checkpoint,
        Kind::Create,
        Kind::Remove,
    ];
    let frames = kinds.iter().chain(more);
    let frames = frames.map(|kind| format!("{kind:?} header"));
    let others = ["batch header", "padding", "head", "head's zeros"].map(str::to_owned);
    for class in frames.chain(others) {
        assert!(
            spots.contains_key(&class),
            "no {class} in {:?}",
            spots.keys()
        );
    }
}

#[test]
fn flipped_byte_of_each_class_is_found_while_the_engine_runs() {
    let disk = written();
    let spots = spots(&disk);
    has_all_classes(&spots, &[Kind::Rewrite]);
    for (class, spot) in spots {
        let disk = disk.after_power_cut(Left::Nothing, Names::Seen);
        let engine = open_scrubbed(&disk);
        let other = engine.open_group(GroupId(50), REPLICA).unwrap();
        until(&other, "all is read", || engine.scrub().segments_read > 2);
        assert_eq!(engine.scrub().damage_found, 0, "{class}");
        disk.damage(&spot.path, |bytes| bytes[spot.offset] ^= 0x10);
        until(&other, &class, || engine.scrub().damage_found == 1);
        println!("{class} at {spot:?}: {:?}", engine.scrub());
    }
}

#[test]
fn damaged_entries_are_told_of_their_group_until_they_are_purged() {
    let disk = written();
    let engine = open_scrubbed(&disk);
    let busy = engine.open_group(BUSY, REPLICA).unwrap();
    let idle = engine.open_group(IDLE, REPLICA).unwrap();
    assert!(busy.damage().is_none());
    let spot = spots(&disk)["Append content"].clone();
    disk.damage(&spot.path, |bytes| bytes[spot.offset] ^= 0x10);
    until(&idle, "it is found", || busy.damage().is_some());
    assert!(idle.damage().is_none());
    until(&idle, "it is told", || engine.scrub().damaged.len() == 1);
    let told = engine.scrub().damaged[0].clone();
    assert_eq!((told.path, told.groups), (spot.path, vec![BUSY]));
    assert!(busy.damage().unwrap().contains("damaged at offset"));
    let last = busy.state().last.unwrap();
    busy.purge(last);
    assert!(busy.damage().is_none());
    until(&idle, "its file goes", || engine.scrub().damaged.is_empty());
    engine.close();
    let engine = open_on(&disk).unwrap();
    let busy = engine.open_group(BUSY, REPLICA).unwrap();
    assert_eq!(busy.state().last, Some(last));
}

#[test]
fn group_with_damaged_entries_is_removed_and_the_next_start_succeeds() {
    let disk = written();
    let engine = open_scrubbed(&disk);
    let busy = engine.open_group(BUSY, REPLICA).unwrap();
    let idle = engine.open_group(IDLE, REPLICA).unwrap();
    let spot = spots(&disk)["Append content"].clone();
    disk.damage(&spot.path, |bytes| bytes[spot.offset] ^= 0x10);
    until(&idle, "it is found", || busy.damage().is_some());
    let refused = open_on(&disk.after_power_cut(Left::Nothing, Names::Seen));
    assert!(refused.is_err(), "the damaged file is still there");
    drop(busy);
    let (done, removed) = answer();
    engine.remove_group(BUSY, done);
    wait(&removed).unwrap();
    until(&idle, "its file goes", || engine.scrub().damaged.is_empty());
    engine.close();
    let engine = open_on(&disk).unwrap();
    let idle = engine.open_group(IDLE, REPLICA).unwrap();
    assert_eq!(read_all(&idle), records(1, 1..=3));
    engine.open_group(BUSY, ReplicaId(77)).unwrap();
}

#[test]
fn damage_that_nobody_needs_is_told_and_does_not_stop_the_next_start() {
    let disk = written();
    let engine = open_scrubbed(&disk);
    let busy = engine.open_group(BUSY, REPLICA).unwrap();
    let idle = engine.open_group(IDLE, REPLICA).unwrap();
    let before = read_all(&busy);
    let spot = spots(&disk)["head's zeros"].clone();
    disk.damage(&spot.path, |bytes| bytes[spot.offset] ^= 0x10);
    until(&idle, "it is found", || engine.scrub().damage_found == 1);
    until(&idle, "what lives there is written again", || {
        engine.scrub().damaged.is_empty()
    });
    assert!(busy.damage().is_none() && idle.damage().is_none());
    assert_eq!(read_all(&busy), before);
    engine.close();
    let engine = open_on(&disk).unwrap();
    let busy = engine.open_group(BUSY, REPLICA).unwrap();
    assert_eq!(read_all(&busy), before);
    let idle = engine.open_group(IDLE, REPLICA).unwrap();
    assert_eq!(read_all(&idle), records(1, 1..=3));
}

#[test]
fn engine_is_closed_while_a_segment_is_read() {
    let disk = written();
    let options = LogOptions {
        scrub_every: Duration::from_millis(1),
        scrub_bytes_per_second: 1,
        ..options()
    };
    let engine = SegmentLog::open_on(Arc::new(disk), Path::new(DIR), options).unwrap();
    let other = engine.open_group(GroupId(50), REPLICA).unwrap();
    until(&other, "reading begins", || engine.scrub().bytes_read > 0);
    engine.close();
    let scrub = engine.scrub();
    assert_eq!((scrub.segments_read, scrub.damage_found), (0, 0));
}

#[test]
fn segment_that_is_read_slowly_goes_when_nothing_lives_in_it() {
    let disk = written();
    let options = LogOptions {
        scrub_every: Duration::from_millis(1),
        scrub_bytes_per_second: 1,
        ..options()
    };
    let engine = SegmentLog::open_on(Arc::new(disk.clone()), Path::new(DIR), options).unwrap();
    let busy = engine.open_group(BUSY, REPLICA).unwrap();
    let other = engine.open_group(GroupId(50), REPLICA).unwrap();
    until(&other, "reading begins", || engine.scrub().bytes_read > 0);
    let first = |disk: &TestDisk| {
        let mut paths = disk.paths();
        paths.retain(|path| path.extension().is_some_and(|it| it == "segment"));
        paths.into_iter().min()
    };
    let before = first(&disk);
    busy.purge(busy.state().last.unwrap());
    let (done, removed) = answer();
    engine.remove_group(IDLE, done);
    wait(&removed).unwrap();
    until(&other, "it goes", || first(&disk) != before);
    assert_eq!(engine.scrub().damage_found, 0);
}

#[test]
fn what_the_disk_does_not_give_is_no_damage() {
    let disk = written();
    let engine = open_on(&disk).unwrap();
    let busy = engine.open_group(BUSY, REPLICA).unwrap();
    let group = engine.groups.lock()[&BUSY].clone();
    let last = busy.state().last.unwrap().index;
    let failed = || read::ReadError::Failed("input/output error".to_owned());
    assert!(matches!(failed().of(BUSY), LogError::Unread { .. }));
    group.note(last, failed());
    assert!(busy.damage().is_none());
    let damaged = || read::ReadError::Damaged("damaged at offset 5".to_owned());
    assert!(matches!(damaged().of(BUSY), LogError::Damaged { .. }));
    group.note(last, damaged());
    assert!(busy.damage().is_some());
}
