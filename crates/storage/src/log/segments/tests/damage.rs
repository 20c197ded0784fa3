//! Bytes that changed on the disk, files that are missing or old: all of it is found, and said with file and offset.

use super::*;

/// A closed log of several segments whose last batch is an append; no group has purged anything.
fn written() -> TestDisk {
    let disk = TestDisk::default();
    let engine = open_on(&disk).unwrap();
    let log = engine.open_group(GROUP, REPLICA).unwrap();
    vote(&log, 3).unwrap();
    for index in 1..=40 {
        append(&log, vec![record(1, index, 300)]).unwrap();
    }
    engine.close();
    disk
}

/// What opening and reading everything says, if anything is wrong.
fn complaint(disk: &TestDisk) -> Option<String> {
    let engine = match open_on(disk) {
        Ok(engine) => engine,
        Err(error) => return Some(error.to_string()),
    };
    let log = match engine.open_group(GROUP, REPLICA) {
        Ok(log) => log,
        Err(error) => return Some(error.to_string()),
    };
    match log.read(LogIndex(1)..LogIndex(41), usize::MAX) {
        Ok(read) if read.len() == 40 => None,
        Ok(read) => Some(format!("only {} are left", read.len())),
        Err(error) => Some(error.to_string()),
    }
}

fn segments(disk: &TestDisk) -> Vec<PathBuf> {
    let mut paths = disk.paths();
    paths.retain(|path| path.extension().is_some_and(|it| it == "segment"));
    paths
}

/// Where the last batch of the segment ends.
fn end_of(disk: &TestDisk, path: &Path) -> u64 {
    let file = disk.open(path).unwrap();
    let mut scan = scan::Scan::new(&*file, path).unwrap();
    let epoch = scan.head().unwrap().epoch;
    scan.batches(epoch, None, &mut |_| Ok(())).unwrap().offset
}

#[test]
fn flipped_byte_anywhere_is_found() {
    let disk = written();
    assert_eq!(complaint(&disk), None);
    let step = if std::env::var_os("WARREN_LONG").is_some() {
        1
    } else {
        101
    };
    let paths = segments(&disk);
    assert!(paths.len() > 3);
    for path in &paths {
        for byte in (0..end_of(&disk, path)).step_by(step) {
            let disk = disk.after_power_cut(
                crate::log::test_disk::Left::Nothing,
                crate::log::test_disk::Names::Seen,
            );
            let place = usize::try_from(byte).unwrap();
            disk.damage(path, |bytes| bytes[place] ^= 0x20);
            let complaint = complaint(&disk);
            let empty = end_of_all(&paths, path) && byte >= format::HEAD_BYTES;
            assert!(
                complaint.is_some() || empty,
                "{} byte {byte}",
                path.display()
            );
        }
    }
}

/// The segment that is ready to be written next has nothing but a head.
fn end_of_all(paths: &[PathBuf], path: &Path) -> bool {
    paths.last().is_some_and(|last| last == path)
}

#[test]
fn damage_before_a_later_batch_is_named_by_file_and_offset() {
    let disk = written();
    let path = segments(&disk)[1].clone();
    disk.damage(&path, |bytes| bytes[5_000] ^= 1);
    let error = open_on(&disk).map(drop).unwrap_err();
    assert!(matches!(error, LogError::Corrupt(_)), "{error:?}");
    let error = error.to_string();
    let name = path.display().to_string();
    assert!(error.contains(&name) && error.contains("offset"), "{error}");
    assert!(error.contains("a later one stands at"), "{error}");
}

#[test]
fn segment_that_lost_its_end_is_not_taken_for_a_torn_one() {
    let disk = written();
    let path = segments(&disk)[1].clone();
    // From a batch's begin on nothing is left: as if the write had never been made.
    let end = usize::try_from(end_of(&disk, &path)).unwrap();
    disk.damage(&path, |bytes| {
        let last = bytes[..end]
            .windows(4)
            .rposition(|it| it == format::BATCH_MAGIC);
        bytes[last.unwrap()..].fill(0);
    });
    let error = open_on(&disk).map(drop).unwrap_err().to_string();
    assert!(
        error.contains("the next segment begins with batch"),
        "{error}"
    );
}

#[test]
fn missing_segment_is_named() {
    let disk = written();
    let path = segments(&disk)[1].clone();
    disk.remove(&path).unwrap();
    let error = open_on(&disk).map(drop).unwrap_err().to_string();
    assert!(error.contains(&path.display().to_string()), "{error}");
}

#[test]
fn missing_first_segment_damages_the_group_that_needs_it() {
    let disk = written();
    disk.remove(&segments(&disk)[0]).unwrap();
    let engine = open_on(&disk).unwrap();
    let error = engine.open_group(GROUP, REPLICA).map(drop).unwrap_err();
    assert!(error.to_string().contains("entry 1 is missing"), "{error}");
    // Set aside, it may come back under a new replica id.
    let other = engine.open_group(GROUP, ReplicaId(99)).map(drop);
    assert!(matches!(other, Err(LogError::WrongReplica { .. })));
    let (done, answered) = answer();
    engine.remove_group(GROUP, done);
    wait(&answered).unwrap();
    engine.open_group(GROUP, ReplicaId(99)).unwrap();
    engine.close();
    open_on(&disk)
        .unwrap()
        .open_group(GROUP, ReplicaId(99))
        .unwrap();
}

#[test]
fn log_that_lost_its_tail_is_damaged_not_shorter() {
    let disk = written();
    let path = segments(&disk)
        .into_iter()
        .rfind(|path| end_of(&disk, path) > format::HEAD_BYTES)
        .unwrap();
    let end = usize::try_from(end_of(&disk, &path)).unwrap();
    disk.damage(&path, |bytes| bytes[end - 20] ^= 1);
    let engine = open_on(&disk).unwrap();
    let error = engine.open_group(GROUP, REPLICA).map(drop).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("ends at 39") && text.contains("up to 40"),
        "{text}"
    );
}

#[test]
fn lost_vote_is_damage_too() {
    let disk = TestDisk::default();
    let engine = open_on(&disk).unwrap();
    let log = engine.open_group(GROUP, REPLICA).unwrap();
    vote(&log, 7).unwrap();
    engine.close();
    let end = usize::try_from(end_of(&disk, &segment_path(1))).unwrap();
    disk.damage(&segment_path(1), |bytes| bytes[end - 20] ^= 1);
    let engine = open_on(&disk).unwrap();
    let error = engine.open_group(GROUP, REPLICA).map(drop).unwrap_err();
    assert!(
        error.to_string().contains("term 7 was acknowledged"),
        "{error}"
    );
}

#[test]
fn newer_format_is_refused_by_number() {
    let disk = written();
    let path = segments(&disk)[0].clone();
    disk.damage(&path, |bytes| {
        bytes[11] = 9;
        let sum = crate::files::checksum(&[&bytes[..28]]);
        bytes[28..32].copy_from_slice(&sum.to_be_bytes());
    });
    let error = open_on(&disk).map(drop).unwrap_err();
    assert!(matches!(error, LogError::Failed(_)), "it is not damage");
    let error = error.to_string();
    assert!(error.contains("format 9 is not known"), "{error}");
}
