//! The topology's state machine as the replication layer runs it. Its rows are the last snapshot and the entries since, which are
//! applied again when the replica is opened: the machine is pure, so that gives the same state. Not here: the rules (`warren-topology`).

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tracing::{debug, info};
use warren_codec::{decode_topology, decode_topology_entry, encode_topology};
use warren_queue::entry::ProposalId;
use warren_raft::{Changes, Committed, Machine, MachineError, MachineFactory, MachineWaker};
use warren_storage::{ReplicaState, RowBatch, Table};
use warren_topology::{Topology, TopologyReply};
use warren_types::{LogId, TopologyIndex};

use super::stored::{ENTRY_PREFIX, SNAPSHOT_KEY, Stored, StoredRows, entry_key};

/// Entries are folded into the snapshot when they hold more bytes than it, and at least so many.
const FOLD_BYTES_MIN: usize = 64 << 10;

/// Who waits for an answer on this node, by the proposal in the entry.
#[derive(Clone, Default)]
pub(crate) struct Waiting {
    replies: Arc<Mutex<HashMap<ProposalId, oneshot::Sender<Answer>>>>,
}

pub(crate) type Answer = (TopologyIndex, TopologyReply);

impl Waiting {
    pub(crate) fn wait_for(&self, request: ProposalId) -> oneshot::Receiver<Answer> {
        let (reply, answer) = oneshot::channel();
        self.replies.lock().insert(request, reply);
        answer
    }

    pub(crate) fn forget(&self, request: ProposalId) {
        self.replies.lock().remove(&request);
    }

    fn answer(&self, request: ProposalId, answer: Answer) {
        if let Some(reply) = self.replies.lock().remove(&request) {
            // Whoever asked may have stopped waiting.
            let _gone = reply.send(answer);
        }
    }
}

pub(crate) struct TopologyMachineFactory {
    pub(crate) view: watch::Sender<Arc<Topology>>,
    /// Told only when rights have changed: every session waits for it.
    pub(crate) access: watch::Sender<TopologyIndex>,
    /// The same for policies.
    pub(crate) policies: watch::Sender<TopologyIndex>,
    pub(crate) waiting: Waiting,
    pub(crate) stored: Stored,
}

impl MachineFactory for TopologyMachineFactory {
    fn open(
        &self,
        state: ReplicaState,
        _waker: MachineWaker,
        applied: Option<LogId>,
    ) -> Result<Box<dyn Machine>, MachineError> {
        let mut machine = TopologyMachine {
            view: self.view.clone(),
            access: self.access.clone(),
            policies: self.policies.clone(),
            waiting: self.waiting.clone(),
            topology: Topology::new(),
            snapshot_bytes: 0,
            entry_bytes: 0,
            answers: Vec::new(),
        };
        if let Err(why) = machine.load(&state) {
            machine.publish();
            return Err(MachineError(why));
        }
        self.stored.set(state);
        if let Some(applied) = applied {
            machine.topology.advance(TopologyIndex(applied.index.0));
        }
        debug!(?applied, index = %machine.topology.index(), "topology opened");
        machine.publish();
        Ok(Box::new(machine))
    }
}

struct TopologyMachine {
    view: watch::Sender<Arc<Topology>>,
    access: watch::Sender<TopologyIndex>,
    policies: watch::Sender<TopologyIndex>,
    waiting: Waiting,
    topology: Topology,
    snapshot_bytes: usize,
    /// Of the entries since the snapshot.
    entry_bytes: usize,
    /// Of the chunk, until it is written.
    answers: Vec<(ProposalId, Answer)>,
}

impl Machine for TopologyMachine {
    fn apply(&mut self, entries: &[Committed], rows: &mut RowBatch) -> Changes {
        for committed in entries {
            let at = TopologyIndex(committed.id.index.0);
            if let Err(error) = self.apply_one(at, &committed.payload, true) {
                // Every replica meets it: going on would make them differ. The replica stops and says what it needs. The version
                // may have been finalised in this very chunk: whoever watches for one that is not known is to see it.
                self.publish();
                panic!("topology cannot apply entry {at}: {error}");
            }
            rows.put(Table::Rows, entry_key(at), committed.payload.clone());
            self.entry_bytes += committed.payload.len();
        }
        if self.entry_bytes > self.snapshot_bytes.max(FOLD_BYTES_MIN) {
            self.fold(rows);
        }
        Changes::Given
    }

    fn give(&mut self, _rows: &mut RowBatch) {}

    fn applied(&mut self, applied: LogId) {
        // Blank entries and membership changes move the index as well: readers wait for it.
        self.topology.advance(TopologyIndex(applied.index.0));
        self.publish();
        for (request, answer) in self.answers.drain(..) {
            self.waiting.answer(request, answer);
        }
    }

    fn restored(&mut self, state: ReplicaState, applied: LogId) {
        info!(index = %applied.index, "topology restored from a snapshot");
        self.topology = Topology::new();
        self.snapshot_bytes = 0;
        self.entry_bytes = 0;
        self.answers.clear();
        if let Err(error) = self.load(&state) {
            self.publish();
            panic!("topology snapshot makes no sense: {error}");
        }
        self.topology.advance(TopologyIndex(applied.index.0));
        self.publish();
    }

    fn poll(&mut self) {}
}

impl TopologyMachine {
    fn load(&mut self, state: &ReplicaState) -> Result<(), String> {
        let rows = StoredRows::of(state).map_err(|error| error.to_string())?;
        self.snapshot_bytes = rows.snapshot.as_ref().map_or(0, Bytes::len);
        self.entry_bytes = rows.entries.iter().map(|(_, entry)| entry.len()).sum();
        if let Some(bytes) = &rows.snapshot {
            self.topology = decode_topology(bytes).map_err(|error| error.to_string())?;
        }
        for (index, payload) in &rows.entries {
            self.apply_one(*index, payload, false)?;
        }
        Ok(())
    }

    fn apply_one(
        &mut self,
        at: TopologyIndex,
        payload: &Bytes,
        answer: bool,
    ) -> Result<(), String> {
        let entry = decode_topology_entry(payload).map_err(|error| error.to_string())?;
        let reply = self.topology.apply(at, entry.command);
        if answer {
            self.answers.push((entry.proposal, (at, reply)));
        }
        Ok(())
    }

    fn fold(&mut self, rows: &mut RowBatch) {
        let snapshot = encode_topology(&self.topology);
        self.snapshot_bytes = snapshot.len();
        self.entry_bytes = 0;
        rows.delete_range(Table::Rows, vec![ENTRY_PREFIX], vec![ENTRY_PREFIX + 1]);
        rows.put(Table::Rows, SNAPSHOT_KEY, snapshot);
    }

    /// What was seen stays seen: a replica that is opened again begins with what was written, and gets the rest from the log.
    fn publish(&self) {
        let newer = self.view.send_if_modified(|seen| {
            let newer = seen.index() <= self.topology.index();
            if newer {
                *seen = Arc::new(self.topology.clone());
            }
            newer
        });
        if !newer {
            return;
        }
        tell(&self.access, self.topology.access_changed_at());
        tell(&self.policies, self.topology.policies_changed_at());
    }
}

fn tell(watched: &watch::Sender<TopologyIndex>, changed_at: TopologyIndex) {
    watched.send_if_modified(|known| {
        let changed = *known != changed_at;
        *known = changed_at;
        changed
    });
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use warren_codec::{TopologyEntry, encode_topology_entry};
    use warren_topology::{FinaliseVersion, TopologyCommand};
    use warren_types::{ClusterVersion, LogIndex, ReplicaId, ShardTime, Term};

    use super::*;
    use crate::topology::testing::form_cluster;

    fn committed(index: u64, payload: Bytes) -> Committed {
        let (term, index) = (Term(1), LogIndex(index));
        let leader = ReplicaId(1);
        let id = LogId {
            term,
            leader,
            index,
        };
        Committed { id, payload }
    }

    fn entry(index: u64, command: TopologyCommand) -> Committed {
        let entry = TopologyEntry {
            proposal: ProposalId::default(),
            now: ShardTime(0),
            command,
        };
        committed(index, encode_topology_entry(&entry))
    }

    fn machine(view: &watch::Sender<Arc<Topology>>) -> TopologyMachine {
        TopologyMachine {
            view: view.clone(),
            access: watch::Sender::new(TopologyIndex(0)),
            policies: watch::Sender::new(TopologyIndex(0)),
            waiting: Waiting::default(),
            topology: Topology::new(),
            snapshot_bytes: 0,
            entry_bytes: 0,
            answers: Vec::new(),
        }
    }

    #[test]
    fn version_finalised_just_before_what_cannot_be_applied_is_seen_and_stays_seen() {
        let version = ClusterVersion(2);
        let finalise = TopologyCommand::FinaliseVersion(FinaliseVersion { version });
        let chunk = [
            entry(1, form_cluster(2)),
            entry(2, finalise),
            committed(3, Bytes::new()),
        ];
        let view = watch::Sender::new(Arc::new(Topology::new()));
        let mut rows = RowBatch::default();
        let mut stopped = machine(&view);
        let applied = catch_unwind(AssertUnwindSafe(|| stopped.apply(&chunk, &mut rows)));
        assert!(applied.is_err());
        assert_eq!(view.borrow().version(), version);
        assert_eq!(view.borrow().index(), TopologyIndex(2));
        // Opened again, it begins with less.
        let mut again = machine(&view);
        let Some((first, _)) = chunk.split_first() else {
            panic!("it has entries");
        };
        again.apply(std::slice::from_ref(first), &mut rows);
        again.applied(first.id);
        assert_eq!(view.borrow().version(), version);
    }
}
