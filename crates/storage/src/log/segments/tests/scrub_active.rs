//! The same of the segment that is being written: what is synced of it is read, what stands behind that is not, and whoever appends
//! meanwhile is in nobody's way. Not here: segments that are written no more (`scrub`).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::scrub::{
    BUSY, Spot, WITHIN, all_spots, has_all_classes, last_of_each, open_scrubbed, until,
};
use super::*;
use crate::log::test_disk::{Left, Names};

const LONG: u64 = 1 << 20;

fn long_segments() -> LogOptions {
    LogOptions {
        segment_bytes: LONG,
        ..options()
    }
}

/// A log with frames of all kinds but rewrites, in one segment.
fn written() -> TestDisk {
    let disk = TestDisk::default();
    let engine = SegmentLog::open_on(Arc::new(disk.clone()), Path::new(DIR), long_segments());
    let engine = engine.unwrap();
    let busy = engine.open_group(BUSY, REPLICA).unwrap();
    for index in 1..=20 {
        append(&busy, vec![record(1, index, 403)]).unwrap();
    }
    for round in 0..3 {
        vote(&busy, 2 + round).unwrap();
        busy.save_committed(Some(id(1, 10)));
        append(&busy, vec![record(1, 21, 100)]).unwrap();
        busy.truncate_after(Some(id(1, 20)));
        busy.purge(id(1, 5));
        engine.open_group(GroupId(9), REPLICA).unwrap();
        let (done, removed) = answer();
        engine.remove_group(GroupId(9), done);
        wait(&removed).unwrap();
    }
    for index in 21..=24 {
        append(&busy, vec![record(1, index, 403)]).unwrap();
    }
    engine.close();
    assert_eq!(all_spots(&disk).len(), 1, "it is all in one segment");
    disk
}

fn spots(disk: &TestDisk) -> BTreeMap<String, Spot> {
    let mut all = all_spots(disk);
    last_of_each(vec![all.pop().unwrap()])
}

/// Whether batches stand in a segment.
fn holds(disk: &TestDisk, path: &Path) -> bool {
    let Ok(file) = disk.open(path) else {
        return false;
    };
    let mut scan = scan::Scan::new(&*file, path).unwrap();
    let Ok(head) = scan.head() else { return false };
    let end = scan.batches(head.epoch, None, &mut |_| Ok(()));
    end.is_ok_and(|it| it.batches > 0)
}

/// Waits for something while nothing is written.
fn rests_until(what: &str, is: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < WITHIN, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn flipped_byte_of_each_class_is_found_in_the_segment_that_is_written() {
    let disk = written();
    let spots = spots(&disk);
    has_all_classes(&spots, &[]);
    for (class, spot) in spots {
        let disk = disk.after_power_cut(Left::Nothing, Names::Seen);
        let engine = open_scrubbed(&disk);
        rests_until("it is read", || engine.scrub().segments_read > 2);
        assert_eq!(engine.scrub().damage_found, 0, "{class}");
        disk.damage(&spot.path, |bytes| bytes[spot.offset] ^= 0x10);
        rests_until(&class, || engine.scrub().damage_found == 1);
        assert_eq!(engine.scrub().damaged[0].path, spot.path);
        // It is closed when something is written, and goes when nobody needs what is in it.
        let busy = engine.open_group(BUSY, REPLICA).unwrap();
        let last = busy.state().last.unwrap();
        busy.purge(last);
        until(&busy, "its file goes", || engine.scrub().damaged.is_empty());
        until(&busy, "its name is free", || disk.open(&spot.path).is_err());
        assert_eq!(engine.scrub().damage_found, 1, "{class}");
        engine.close();
        let engine = open_on(&disk).unwrap();
        let busy = engine.open_group(BUSY, REPLICA).unwrap();
        assert_eq!(busy.state().last, Some(last), "{class}");
    }
}

#[test]
fn damaged_entries_of_the_segment_that_is_written_are_told_of_their_group() {
    let disk = written();
    let engine = open_scrubbed(&disk);
    let busy = engine.open_group(BUSY, REPLICA).unwrap();
    let other = engine.open_group(GroupId(50), REPLICA).unwrap();
    let spot = spots(&disk)["Append content"].clone();
    disk.damage(&spot.path, |bytes| bytes[spot.offset] ^= 0x10);
    rests_until("it is found", || busy.damage().is_some());
    assert!(other.damage().is_none());
    append(&busy, vec![record(5, 25, 100)]).unwrap();
    until(&other, "it is closed", || {
        disk.paths()
            .iter()
            .any(|it| *it != spot.path && holds(&disk, it))
    });
    until(&other, "it is told", || {
        let damaged = engine.scrub().damaged;
        damaged.first().is_some_and(|it| it.groups == [BUSY])
    });
    // What is appended from then on is elsewhere, and there after the file has gone.
    append(&busy, vec![record(5, 26, 100)]).unwrap();
    busy.purge(id(5, 25));
    until(&other, "its file goes", || {
        engine.scrub().damaged.is_empty()
    });
    assert!(busy.damage().is_none());
    assert_eq!(read_all(&busy), [record(5, 26, 100)]);
}

#[test]
fn what_stands_behind_the_synced_part_is_not_looked_at() {
    let disk = written();
    let path = all_spots(&disk).pop().unwrap().0;
    let end = {
        let file = disk.open(&path).unwrap();
        let mut scan = scan::Scan::new(&*file, &path).unwrap();
        let epoch = scan.head().unwrap().epoch;
        scan.batches(epoch, None, &mut |_| Ok(())).unwrap().offset
    };
    let engine = open_scrubbed(&disk);
    let (end, head) = (usize::try_from(end).unwrap(), format::HEAD_BYTES as usize);
    // Zeros, noise, and what looks like a batch.
    disk.damage(&path, |bytes| {
        let batch = bytes[head..head + 4_000].to_vec();
        bytes.resize(LONG as usize, 0);
        bytes[end + 80..end + 90].fill(0x5a);
        bytes[end + 512..end + 4_512].copy_from_slice(&batch);
    });
    let before = engine.scrub().segments_read;
    rests_until("it is read", || engine.scrub().segments_read > before + 5);
    assert_eq!(engine.scrub().damage_found, 0);
}

/// Appends of all sizes, by several groups, while segments are read over and over.
fn append_beside_the_scrub(engine: &SegmentLog) {
    let groups: Vec<_> = (1..=3)
        .map(|group| engine.open_group(GroupId(group), REPLICA).unwrap())
        .collect();
    let mut index = 0;
    let begun = Instant::now();
    while index < 600 || engine.scrub().segments_read < 100 {
        assert!(begun.elapsed() < 3 * WITHIN, "{:?}", engine.scrub());
        index += 1;
        let bytes = usize::try_from(index * 7_919 % 5_000).unwrap();
        for group in &groups {
            append(group, vec![record(1, index, bytes)]).unwrap();
            group.purge(id(1, index.saturating_sub(40).max(1)));
        }
    }
    let scrub = engine.scrub();
    println!("{index} entries, {} segments read", scrub.segments_read);
    assert_eq!((scrub.damage_found, scrub.damaged.len()), (0, 0));
    assert!(groups.iter().all(|it| it.damage().is_none()));
}

#[test]
fn appends_beside_the_scrub_are_no_damage() {
    for segment_bytes in [options().segment_bytes, 64 << 10, LONG] {
        let options = LogOptions {
            segment_bytes,
            scrub_every: Duration::from_micros(1),
            scrub_bytes_per_second: u64::MAX,
            ..options()
        };
        let disk = Arc::new(TestDisk::default());
        let engine = SegmentLog::open_on(disk, Path::new(DIR), options).unwrap();
        append_beside_the_scrub(&engine);
    }
}

#[test]
fn appends_beside_the_scrub_are_no_damage_on_a_real_disk() {
    for direct in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let options = LogOptions {
            direct,
            segment_bytes: 256 << 10,
            scrub_every: Duration::from_micros(1),
            scrub_bytes_per_second: u64::MAX,
            ..options()
        };
        let engine = SegmentLog::open(dir.path(), options).unwrap();
        append_beside_the_scrub(&engine);
    }
}
