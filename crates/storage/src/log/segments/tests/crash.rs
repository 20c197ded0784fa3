//! The power goes between any two steps, and within a write at any byte.

use super::history::History;
use super::*;
use crate::log::test_disk::{Fault, Left, Names};

/// How many calls the history makes in all.
fn calls_of_the_history() -> u64 {
    let disk = TestDisk::default();
    assert!(History::default().run(&open_on(&disk).unwrap()));
    disk.calls().len() as u64
}

fn cut_at(call: u64) -> (TestDisk, History) {
    let disk = TestDisk::default();
    let mut history = History::default();
    disk.fault_at(call, Fault::Cut);
    if let Ok(engine) = open_on(&disk) {
        history.run(&engine);
        engine.close();
    }
    (disk, history)
}

#[test]
fn power_cut_between_any_two_steps_keeps_what_was_acknowledged() {
    let calls = calls_of_the_history();
    assert!(calls > 60, "{calls}");
    for call in 0..calls + 3 {
        let (disk, history) = cut_at(call);
        for left in [
            Left::Nothing,
            Left::All,
            Left::Torn(70),
            Left::TornFront(70),
        ] {
            for names in [Names::Synced, Names::Seen] {
                let about = format!("cut at call {call} of {calls}, {left:?}, {names:?}");
                history.check(&disk.after_power_cut(left, names), &about);
            }
        }
    }
}

#[test]
fn write_torn_at_any_byte_is_the_end_of_the_log() {
    let step = if std::env::var_os("WARREN_LONG").is_some() {
        1
    } else {
        21
    };
    let mut torn = 0;
    for call in (0..calls_of_the_history()).step_by(step) {
        let (disk, history) = cut_at(call);
        let Some(length) = disk.last_unsynced_write() else {
            continue;
        };
        torn += 1;
        for bytes in (0..=length).step_by(if step == 1 { 1 } else { 5 }) {
            for left in [Left::Torn(bytes), Left::TornFront(bytes)] {
                let about = format!("cut at call {call}, {left:?} of {length}");
                history.check(&disk.after_power_cut(left, Names::Synced), &about);
            }
        }
    }
    assert!(torn > 0);
}
