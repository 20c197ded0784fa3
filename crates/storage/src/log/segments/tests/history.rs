//! A fixed history of two groups, and what must be true of a log that it was cut off in anywhere.

use std::collections::{BTreeMap, BTreeSet};

use warren_types::{LogId, Term, Vote};

use super::*;
use crate::log::contract::LogRecord;

/// What one group was told.
#[derive(Default)]
struct Told {
    /// Entries that were acknowledged and not truncated since.
    acked: BTreeMap<u64, LogId>,
    /// All that were ever appended.
    attempted: BTreeSet<LogId>,
    purged: u64,
    voted: u64,
    voted_attempt: u64,
    last: u64,
}

#[derive(Default)]
pub(super) struct History {
    groups: BTreeMap<u32, Told>,
}

const GROUPS: [u32; 2] = [1, 2];

fn body(id: LogId) -> LogRecord {
    record(
        id.term.0,
        id.index.0,
        150 + usize::try_from(id.index.0 % 90).unwrap(),
    )
}

/// Whoever gives up at the first error hears no second answer.
fn answer_if_heard() -> (Done, mpsc::Receiver<Result<(), LogError>>) {
    let (send, receive) = mpsc::sync_channel(1);
    (Box::new(move |result| drop(send.send(result))), receive)
}

impl History {
    /// Runs until the end or the first error; says whether it came to the end.
    pub(super) fn run(&mut self, engine: &SegmentLog) -> bool {
        let logs: Vec<_> = GROUPS
            .iter()
            .map(|group| engine.open_group(GroupId(*group), REPLICA))
            .collect();
        let Ok(logs) = logs.into_iter().collect::<Result<Vec<_>, _>>() else {
            return false;
        };
        for round in 1..=6_u64 {
            for (group, log) in GROUPS.iter().zip(&logs) {
                let told = self.groups.entry(*group).or_default();
                if told.round(log, round).is_err() {
                    return false;
                }
            }
        }
        true
    }

    /// Opens the engine on a disk after the cut: what was acknowledged is there, nothing else than what was written is.
    pub(super) fn check(&self, disk: &TestDisk, about: &str) {
        let engine = open_on(disk).unwrap_or_else(|error| panic!("{about}: {error}"));
        for (group, told) in &self.groups {
            let log = engine
                .open_group(GroupId(*group), REPLICA)
                .unwrap_or_else(|error| panic!("{about}: {error}"));
            let state = log.state();
            let found: BTreeMap<u64, LogRecord> = read_all(&log)
                .into_iter()
                .map(|record| (record.id.index.0, record))
                .collect();
            let purged = state.purged.map_or(0, |id| id.index.0);
            assert!(purged <= told.purged, "{about}: purged {purged}");
            for (index, id) in told.acked.range(purged + 1..) {
                assert_eq!(
                    found.get(index).map(|it| it.id),
                    Some(*id),
                    "{about}: group {group}"
                );
            }
            for record in found.values() {
                assert!(
                    told.attempted.contains(&record.id),
                    "{about}: {:?}",
                    record.id
                );
                assert_eq!(*record, body(record.id), "{about}");
            }
            let vote = state.vote.map_or(0, |vote| vote.term.0);
            assert!(
                (told.voted..=told.voted_attempt).contains(&vote),
                "{about}: vote {vote}"
            );
            // It goes on from there.
            let next = state.last.map_or(1, |id| id.index.0 + 1);
            append(&log, vec![record(99, next, 30)]).unwrap();
        }
        engine.close();
        open_on(disk).unwrap_or_else(|error| panic!("{about}, opened again: {error}"));
    }
}

impl Told {
    fn round(&mut self, log: &Arc<dyn GroupLog>, round: u64) -> Result<(), LogError> {
        let term = round;
        self.voted_attempt = term;
        let (done, answered) = answer_if_heard();
        let saved = Vote {
            term: Term(term),
            replica: REPLICA,
            committed: true,
        };
        log.save_vote(saved, done);
        // Two at once, so that batches of several frames are cut too.
        let first: Vec<_> = (1..=5)
            .map(|more| body(id(term, self.last + more)))
            .collect();
        self.attempted.extend(first.iter().map(|it| it.id));
        let (done, appended) = answer_if_heard();
        log.append(first.clone(), done);
        wait(&answered)?;
        self.voted = term;
        wait(&appended)?;
        self.last += 5;
        self.acked
            .extend(first.iter().map(|it| (it.id.index.0, it.id)));
        log.save_committed(Some(id(term, self.last - 1)));
        if round.is_multiple_of(2) {
            self.last -= 2;
            self.acked.retain(|index, _| *index <= self.last);
            log.truncate_after(Some(id(term, self.last)));
        }
        if round.is_multiple_of(3) {
            self.purged = self.last - 4;
            let upto = self.acked[&self.purged];
            log.purge(upto);
        }
        Ok(())
    }
}
