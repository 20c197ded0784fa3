//! A disk that fails, takes part of a write, or is full, at each call.

use std::io::ErrorKind;

use super::history::History;
use super::*;
use crate::log::test_disk::{Fault, Left, Names};

fn calls_of_the_history() -> u64 {
    let disk = TestDisk::default();
    assert!(History::default().run(&open_on(&disk).unwrap()));
    disk.calls().len() as u64
}

#[test]
fn error_at_any_call_is_final_and_loses_nothing_acknowledged() {
    let calls = calls_of_the_history();
    let mut failed = 0;
    for call in 0..calls {
        let disk = TestDisk::default();
        disk.fault_at(call, Fault::Error(ErrorKind::Other));
        let mut history = History::default();
        let Ok(engine) = open_on(&disk) else { continue };
        let whole = history.run(&engine);
        let cause = engine.failed().borrow().clone();
        assert!(whole || cause.is_some(), "call {call}");
        if cause.is_some() {
            failed += 1;
            let refused = engine.open_group(GROUP, REPLICA).map(drop);
            assert!(matches!(refused, Err(LogError::Failed(_))), "call {call}");
        }
        drop(engine);
        for left in [Left::Nothing, Left::All] {
            let about = format!("error at call {call}, {left:?}");
            history.check(&disk.after_power_cut(left, Names::Synced), &about);
        }
    }
    assert!(failed > 20, "{failed} of {calls}");
}

#[test]
fn failed_sync_fails_all_waiters_and_is_not_tried_again() {
    let disk = TestDisk::default();
    let engine = open_on(&disk).unwrap();
    let log = engine.open_group(GROUP, REPLICA).unwrap();
    let other = engine.open_group(GroupId(4), REPLICA).unwrap();
    append(&log, records(1, 1..=2)).unwrap();
    disk.fault_at(0, Fault::SegmentSync);
    assert!(matches!(
        append(&log, records(1, 3..=3)),
        Err(LogError::Failed(_))
    ));
    assert!(log.durable().borrow().poisoned && other.durable().borrow().poisoned);
    assert_eq!(log.durable().borrow().last, Some(id(1, 2)));
    assert!(matches!(
        append(&other, records(1, 1..=1)),
        Err(LogError::Failed(_))
    ));
    assert!(matches!(vote(&other, 9), Err(LogError::Failed(_))));
    assert_eq!(other.state().vote, None);
    let read = log.read(LogIndex(1)..LogIndex(2), 100);
    assert!(matches!(read, Err(LogError::Failed(_))));
    let calls = disk.calls().len();
    engine.close();
    assert_eq!(disk.calls().len(), calls, "a failed disk is left alone");
}

#[test]
fn short_write_at_any_call_changes_nothing() {
    for call in 0..calls_of_the_history() {
        let disk = TestDisk::default();
        disk.fault_at(call, Fault::Short);
        let engine = open_on(&disk).unwrap();
        let mut history = History::default();
        assert!(history.run(&engine), "call {call}");
        engine.close();
        history.check(&disk, &format!("short write at call {call}"));
    }
}

#[test]
fn full_disk_delays_and_heals_by_itself() {
    for call in (0..calls_of_the_history()).step_by(5) {
        let disk = TestDisk::default();
        disk.fault_at(call, Fault::FullFor(3));
        // At the very start there is nothing to wait for: it says so and is started again.
        let Ok(engine) = open_on(&disk) else { continue };
        let mut history = History::default();
        assert!(history.run(&engine), "call {call}");
        assert_eq!(*engine.failed().borrow(), None);
        engine.close();
        history.check(&disk, &format!("full at call {call}"));
    }
}

#[test]
fn space_that_returns_is_noticed_at_rest() {
    let disk = TestDisk::default();
    let engine = open_on(&disk).unwrap();
    let log = engine.open_group(GROUP, REPLICA).unwrap();
    disk.fault_at(0, Fault::NoNewFiles(3));
    // The second segment is ready, the third finds no space.
    append(&log, vec![record(1, 1, 3_000)]).unwrap();
    append(&log, vec![record(1, 2, 1_500)]).unwrap();
    let mut low = false;
    for _ in 0..200 {
        let now = engine.space().unwrap().is_low;
        if low && !now {
            return;
        }
        low |= now;
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!(
        "space was never {}",
        if low { "found again" } else { "low" }
    );
}

#[test]
fn read_error_is_reported_not_returned_as_records() {
    let disk = TestDisk::default();
    let engine = open_on(&disk).unwrap();
    let log = engine.open_group(GROUP, REPLICA).unwrap();
    for index in 1..=20 {
        append(&log, vec![record(1, index, 500)]).unwrap();
    }
    disk.damage(&segment_path(1), |bytes| bytes[5_000] ^= 1);
    let read = log.read(LogIndex(1)..LogIndex(20), usize::MAX);
    let error = read.map(|read| read.len()).unwrap_err().to_string();
    assert!(error.contains("damaged at offset"), "{error}");
}
