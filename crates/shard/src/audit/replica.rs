//! The task of one replica that carries audits out: digests what the apply thread froze, tells the leader, and draws its conclusions
//! from the answer. Not here: asking for audits (`leader`), what becomes of a replica that is wrong (`broker`).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};
use warren_codec::CodecError;
use warren_raft::{Group, Peers};
use warren_storage::{RowsLife, StateError};
use warren_types::{LogIndex, Member, NodeId, ReplicaId, ShardId};

use super::book::AuditBook;
use super::capture::{AuditId, Captured};
use super::digest::{Damage, Digested, digest};
use super::pass::Pass;
use super::report::{AuditDoors, ask};
use super::verdict::{Answer, Report, Seen};

/// What all audits of a node read at most, in bytes per second.
const READ_PER_SECOND: u64 = 16 << 20;

/// An audit that cannot begin within this time is of no use: the leader has gone on without its report.
const TURN_WITHIN: Duration = Duration::from_secs(5);

/// Lets one audit of the node read at a time, and pauses after it.
#[derive(Clone)]
pub(crate) struct ReadRate {
    turn: Arc<Semaphore>,
}

impl Default for ReadRate {
    fn default() -> Self {
        Self {
            turn: Arc::new(Semaphore::new(1)),
        }
    }
}

/// A replica whose rows are not what they should be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Fault {
    pub(crate) shard: ShardId,
    pub(crate) replica: ReplicaId,
    /// In words.
    pub(crate) cause: String,
}

/// One replica's audits.
pub(crate) struct Auditor {
    pub(crate) shard: ShardId,
    pub(crate) node: NodeId,
    pub(crate) group: Group,
    pub(crate) captured: mpsc::Receiver<Captured>,
    pub(crate) doors: AuditDoors,
    pub(crate) peers: Peers,
    pub(crate) book: AuditBook,
    pub(crate) rate: ReadRate,
    pub(crate) faults: mpsc::Sender<Fault>,
    pub(crate) stop: CancellationToken,
}

/// What an audit was about, for its conclusions.
struct About {
    index: LogIndex,
    life: RowsLife,
    proven: bool,
}

impl Auditor {
    pub(crate) async fn run(mut self) {
        let stop = self.stop.clone();
        let mut pass = Pass::default();
        loop {
            tokio::select! {
                biased; // stopping comes first
                () = stop.cancelled() => return,
                captured = self.captured.recv() => match captured {
                    Some(captured) => tokio::select! {
                        biased; // stopping comes first
                        () = stop.cancelled() => return,
                        () = self.audit(captured, &mut pass) => {}
                    },
                    None => return,
                },
            }
        }
    }

    async fn audit(&self, captured: Captured, pass: &mut Pass) {
        if let Some(damage) = self.group.log_damage() {
            // Its rows may be right; but it can neither lead nor start again with such a log.
            let cause = format!("entries of its log cannot be read: {damage}");
            let proven = captured.frozen.snapshot.is_proven();
            return self.damaged(captured.id, proven, cause).await;
        }
        // What was frozen holds back what RocksDB would drop, and the leader does not wait longer.
        let turn = timeout(TURN_WITHIN, self.rate.turn.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            return debug!(shard_id = %self.shard, "others are read: this audit is left out");
        };
        let (id, place) = (captured.id, captured.place.clone());
        let snapshot = &captured.frozen.snapshot;
        let about = About {
            index: captured.index,
            life: snapshot.life(),
            proven: snapshot.is_proven(),
        };
        let state = captured.frozen.state.clone();
        let read = tokio::task::spawn_blocking(move || digest(&captured)).await;
        let Digested { seen, bytes } = match read {
            Ok(Ok(digested)) => digested,
            Ok(Err(damage)) => {
                drop(turn); // others need not wait for the leader's answer
                if let Some(cause) = self.cause(about.index, &damage) {
                    self.damaged(id, about.proven, cause).await;
                }
                return;
            }
            Err(error) => return warn!(shard_id = %self.shard, %error, "rows not digested"),
        };
        self.book.audited();
        let pause = Duration::from_millis(bytes.saturating_mul(1_000) / READ_PER_SECOND);
        let rest = async {
            tokio::time::sleep(pause).await;
            drop(turn);
        };
        let report = Report {
            seen: seen.clone(),
            proven: about.proven,
        };
        let (answer, ()) = tokio::join!(self.report(id, report), rest);
        debug!(shard_id = %self.shard, log_index = %about.index, ?place, ?seen, ?answer, "rows compared");
        match answer {
            Answer::NotCompared | Answer::Agrees => {}
            Answer::Doubt => self.doubt(&about),
            Answer::Wrong => {
                let (rows, from, to) = (seen.rows, &place, &seen.end);
                let cause = format!(
                    "its {rows} rows from {from:02x?} to {to:02x?} differ from those of most replicas at log index {}",
                    about.index
                );
                self.fault(cause).await;
            }
        }
        if pass.note(about.life, &place, seen.end, answer) {
            self.book.clean(self.shard);
            if !about.proven {
                let proved = tokio::task::spawn_blocking(move || state.prove(about.life)).await;
                info!(shard_id = %self.shard, ?proved, "rows that came by a snapshot are those of most replicas");
            }
        }
    }

    async fn report(&self, id: AuditId, report: Report) -> Answer {
        let leadership = *self.group.leadership().borrow();
        let Some(leader) = leadership.leader.filter(|_| leadership.term == id.term) else {
            return Answer::NotCompared;
        };
        let replica = self.group.replica();
        if leader.node == self.node {
            let node = self.node;
            let from = Member { replica, node };
            return self.doors.tell(self.shard, from, id, report).await;
        }
        ask(&self.peers, leader.node, (self.shard, replica), id, report).await
    }

    fn doubt(&self, about: &About) {
        let voters = self.group.status().voters;
        if self.book.doubt(self.shard, &voters) {
            warn!(shard_id = %self.shard, log_index = %about.index, "rows differ between replicas, and it is not known which are right");
        }
    }

    /// In words. `None`: the store fails or closes as a whole (who owns it hears of that), or the row is whole and not of this version's
    /// making.
    fn cause(&self, index: LogIndex, damage: &Damage) -> Option<String> {
        let is_damage = match damage {
            Damage::Unreadable(error) => matches!(error, StateError::Damaged(_)),
            Damage::Row { source, .. } => matches!(
                source,
                CodecError::Checksum { .. } | CodecError::Truncated { .. }
            ),
        };
        let mut cause = damage.to_string();
        let mut source = std::error::Error::source(damage);
        while let Some(next) = source {
            cause = format!("{cause}: {next}");
            source = next.source();
        }
        if !is_damage {
            warn!(shard_id = %self.shard, log_index = %index, cause, "rows not digested");
            return None;
        }
        Some(format!(
            "a row cannot be read at log index {index}: {cause}"
        ))
    }

    /// A row or an entry cannot be read. The replica goes on until most voters are known to be right without it: it may be the one that is
    /// needed.
    async fn damaged(&self, id: AuditId, proven: bool, cause: String) {
        let voters = self.group.status().voters;
        if self.book.doubt(self.shard, &voters) {
            error!(shard_id = %self.shard, cause, "replica is damaged");
        }
        let seen = Seen::unreadable(self.group.replica());
        let report = Report { seen, proven };
        match self.report(id, report).await {
            Answer::Wrong => self.fault(cause).await,
            Answer::NotCompared | Answer::Agrees | Answer::Doubt => {}
        }
    }

    async fn fault(&self, cause: String) {
        let fault = Fault {
            shard: self.shard,
            replica: self.group.replica(),
            cause,
        };
        // Nobody listens when the node stops.
        let _stopping = self.faults.send(fault).await;
    }
}
