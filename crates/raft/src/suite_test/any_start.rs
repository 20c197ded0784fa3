//! openraft's suite begins logs where it likes and reads before their beginning; an engine of ours is only ever asked to begin
//! at 1. This stands between them.

use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use warren_storage::{Done, Durable, GroupLog, GroupLogState, LogError, LogRecord};
use warren_types::{LogId, LogIndex, Vote};

pub(crate) struct AnyStart {
    log: Arc<dyn GroupLog>,
    /// A purge that the suite did not ask for...
    hidden: Mutex<Option<LogId>>,
    /// ...and what it asked for there later.
    asked: Mutex<Option<LogId>>,
}

impl AnyStart {
    pub(crate) fn over(log: Arc<dyn GroupLog>) -> Arc<Self> {
        Arc::new(Self {
            log,
            hidden: Mutex::default(),
            asked: Mutex::default(),
        })
    }
}

impl GroupLog for AnyStart {
    fn state(&self) -> GroupLogState {
        let mut state = self.log.state();
        let hidden = *self.hidden.lock();
        if hidden.is_some() && state.purged == hidden {
            state.purged = *self.asked.lock();
            if state.last == hidden {
                state.last = state.purged;
            }
        }
        state
    }

    fn append(&self, records: Vec<LogRecord>, done: Done) {
        let first = records.first().map(|record| record.id);
        if let Some(first) = first.filter(|id| id.index.0 > 1 && self.log.state().last.is_none()) {
            let before = LogId {
                index: LogIndex(first.index.0 - 1),
                ..LogId::default()
            };
            self.log.purge(before);
            *self.hidden.lock() = Some(before);
        }
        self.log.append(records, done);
    }

    fn save_vote(&self, vote: Vote, done: Done) {
        self.log.save_vote(vote, done);
    }

    fn truncate_after(&self, last_kept: Option<LogId>) {
        self.log.truncate_after(last_kept);
    }

    fn save_committed(&self, committed: Option<LogId>) {
        self.log.save_committed(committed);
    }

    fn purge(&self, upto: LogId) {
        if self.hidden.lock().is_some_and(|it| it.index == upto.index) {
            *self.asked.lock() = Some(upto);
        }
        self.log.purge(upto);
    }

    fn read(&self, range: Range<LogIndex>, bytes_max: usize) -> Result<Vec<LogRecord>, LogError> {
        let first = self.log.state().purged.map_or(1, |id| id.index.0 + 1);
        let start = LogIndex(range.start.0.max(first));
        self.log.read(start..range.end.max(start), bytes_max)
    }

    fn log_id(&self, index: LogIndex) -> Result<Option<LogId>, LogError> {
        self.log.log_id(index)
    }

    fn durable(&self) -> watch::Receiver<Durable> {
        self.log.durable()
    }
}
