//! The task that has a shard's rows compared while this node's replica leads it: proposes audits one after the other, collects what
//! replicas report, judges and answers. Followers answer only. Not here: the judgement (`verdict`), digests (`replica`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};
use warren_codec::{Audit, AuditPlace, encode_audit};
use warren_raft::Group;
use warren_types::{Leadership, LogIndex, Member, NodeId, ReplicaId, ShardId, Term};

use super::capture::AuditId;
use super::report::Reported;
use super::verdict::{Answer, Report, Verdict, judge};

/// After an audit that did not reach the end of the rows, the next one comes after this time;
const AFTER_AUDIT: Duration = Duration::from_secs(1);
/// after one that did, after this time,
const AFTER_PASS: Duration = Duration::from_secs(8);
/// or so many times as long as it took to go through all rows.
const REST_SHARE: u32 = 9;
/// and so much later if nothing but audits was applied meanwhile and all was well: a cluster at rest is to rest. Something that is applied
/// ends it.
const AFTER_IDLE_PASS: Duration = Duration::from_secs(52);
const REST_STEP: Duration = Duration::from_secs(2);
/// Replicas that have not reported within this time are not waited for.
const REPORT_WITHIN: Duration = Duration::from_secs(5);

/// One replica's leading side.
pub(crate) struct Comparer {
    pub(crate) shard: ShardId,
    pub(crate) node: NodeId,
    pub(crate) group: Group,
    pub(crate) reports: mpsc::Receiver<Reported>,
    /// Audits so far: one number is never used twice in a term, whatever becomes of the leadership.
    pub(crate) count: u64,
    pub(crate) stop: CancellationToken,
}

/// Whether anything but audits came between two passes.
#[derive(Default)]
struct Idle {
    applied: Option<LogIndex>,
    audits: u64,
    /// Of the pass under way: something was not as it should be.
    is_unclean: bool,
}

impl Idle {
    fn audit(&mut self, is_clean: bool) {
        self.is_unclean |= !is_clean;
    }

    /// A pass has ended with so much applied and so many audits.
    fn pass(&mut self, applied: Option<LogIndex>, audits: u64) -> bool {
        let own = audits.saturating_sub(std::mem::replace(&mut self.audits, audits));
        let before = std::mem::replace(&mut self.applied, applied);
        let is_clean = !std::mem::take(&mut self.is_unclean);
        let came = |before: LogIndex, now: LogIndex| now.0.saturating_sub(before.0);
        before
            .zip(applied)
            .is_some_and(|(before, now)| is_clean && came(before, now) <= own)
    }
}

/// What an audit brought.
enum Compared {
    /// The replica leads no more, or stops.
    Over,
    /// Nobody reported, or none was proposed: the same once more.
    Again,
    /// Rows up to here; `None`: all.
    UpTo {
        end: Option<AuditPlace>,
        /// All voters have the same.
        is_clean: bool,
    },
}

/// What has come in of one audit.
#[derive(Default)]
struct Reports {
    by_replica: BTreeMap<ReplicaId, Report>,
    waiting: Vec<(Member, oneshot::Sender<Answer>)>,
}

impl Comparer {
    pub(crate) async fn run(mut self) {
        let mut leadership = self.group.leadership();
        loop {
            let now = *leadership.borrow_and_update();
            if self.leads(now) {
                self.lead(now.term, &mut leadership).await;
                let after = *leadership.borrow();
                if after.term != now.term && self.leads(after) {
                    continue; // it was lost and won again
                }
            }
            let stop = self.stop.clone();
            tokio::select! {
                biased; // stopping comes first
                () = stop.cancelled() => return,
                changed = leadership.changed() => if changed.is_err() { return },
            }
        }
    }

    fn leads(&self, leadership: Leadership) -> bool {
        let leader = leadership.leader;
        leader.is_some_and(|leader| leader.replica == self.group.replica())
    }

    async fn lead(&mut self, term: Term, leadership: &mut watch::Receiver<Leadership>) {
        let mut place = AuditPlace::start();
        // Waiting for replicas that are silent is no work, so the pauses of a pass stand for its length.
        let mut worked = Duration::ZERO;
        // Shards that got their leaders together need not be read together.
        let mut pause = AFTER_AUDIT + Duration::from_millis(u64::from(self.shard.0 * 97 % 1_000));
        let mut idle = Idle::default();
        while self.pause(pause, term, leadership).await {
            self.count += 1;
            let id = AuditId {
                term,
                number: self.count,
            };
            pause = AFTER_AUDIT;
            match self.compare(id, &place, leadership).await {
                Compared::Over => return,
                Compared::Again => {}
                Compared::UpTo {
                    end: Some(next),
                    is_clean,
                } => {
                    idle.audit(is_clean);
                    place = next;
                    worked += AFTER_AUDIT;
                }
                Compared::UpTo {
                    end: None,
                    is_clean,
                } => {
                    idle.audit(is_clean);
                    place = AuditPlace::start();
                    let is_idle = idle.pass(self.group.status().applied, self.count);
                    pause = AFTER_PASS.max(worked * REST_SHARE);
                    worked = Duration::ZERO;
                    if is_idle && !self.rest(term, leadership).await {
                        return;
                    }
                }
            }
        }
    }

    /// A shard at rest is left alone for a while, until something is applied. False: the leadership is over.
    async fn rest(&self, term: Term, leadership: &mut watch::Receiver<Leadership>) -> bool {
        let applied = self.group.status().applied;
        let until = Instant::now() + AFTER_IDLE_PASS;
        while Instant::now() < until && self.group.status().applied == applied {
            if !self.pause(REST_STEP, term, leadership).await {
                return false;
            }
        }
        true
    }

    /// False: the leadership is over.
    async fn pause(
        &self,
        pause: Duration,
        term: Term,
        leadership: &mut watch::Receiver<Leadership>,
    ) -> bool {
        let over = leadership.wait_for(|now| now.term != term || !self.leads(*now));
        tokio::select! {
            biased; // stopping comes first
            () = self.stop.cancelled() => false,
            _over = over => false,
            () = tokio::time::sleep(pause) => true,
        }
    }

    async fn compare(
        &mut self,
        id: AuditId,
        place: &AuditPlace,
        leadership: &mut watch::Receiver<Leadership>,
    ) -> Compared {
        let Some(voters) = self.voters() else {
            return Compared::Again;
        };
        let audit = Audit {
            number: id.number,
            place: place.clone(),
        };
        if self.group.is_handing_over() {
            return Compared::Again;
        }
        if let Err(refused) = self
            .group
            .propose(id.term, &encode_audit(self.node, &audit))
        {
            debug!(shard_id = %self.shard, error = %refused, "audit not proposed");
            return Compared::Again;
        }
        let Some(reports) = self.collect(id, &voters, leadership).await else {
            return Compared::Over;
        };
        self.conclude(id, &voters, reports)
    }

    /// `None`: they are changing.
    fn voters(&self) -> Option<Vec<Member>> {
        let status = self.group.status();
        (!status.is_joint()).then_some(status.voters)
    }

    /// Waits for the reports of all voters, for a while. `None`: the leadership is over.
    async fn collect(
        &mut self,
        id: AuditId,
        voters: &[Member],
        leadership: &mut watch::Receiver<Leadership>,
    ) -> Option<Reports> {
        let deadline = Instant::now() + REPORT_WITHIN;
        let mut reports = Reports::default();
        while reports.by_replica.len() < voters.len() {
            let own = self.group.replica();
            let leads = |now: &Leadership| {
                now.term == id.term && now.leader.is_some_and(|it| it.replica == own)
            };
            tokio::select! {
                biased; // what ends the leadership first
                () = self.stop.cancelled() => return None,
                _over = leadership.wait_for(|now| !leads(now)) => return None,
                reported = self.reports.recv() => reports.take(reported?, id, voters),
                () = tokio::time::sleep_until(deadline) => break,
            }
        }
        Some(reports)
    }

    fn conclude(&self, id: AuditId, voters: &[Member], reports: Reports) -> Compared {
        let Reports {
            by_replica,
            waiting,
        } = reports;
        let readable = |it: &&Report| !it.seen.is_unreadable();
        let own = by_replica.get(&self.group.replica()).filter(readable);
        let end = own.or_else(|| by_replica.values().find(readable));
        let end = end.map(|it| it.seen.end.clone());
        let ids: BTreeSet<ReplicaId> = voters.iter().map(|it| it.replica).collect();
        // Of voters that changed meanwhile nobody knows how many are most.
        let verdict = if self.voters().as_deref() == Some(voters) {
            judge(&ids, &by_replica)
        } else {
            Verdict::Nothing
        };
        for (member, reply) in waiting {
            let Some(report) = by_replica.get(&member.replica) else {
                continue;
            };
            let answer = verdict.of(&report.seen);
            if answer == Answer::Wrong {
                error!(shard_id = %self.shard, replica = %member.replica, node_id = %member.node, term = %id.term, audit = id.number, seen = ?report.seen, "a replica has other rows than most");
            }
            // A replica that has stopped waiting hears it at the next comparison.
            let _gone = reply.send(answer);
        }
        match (verdict, end) {
            (Verdict::Right(right), _) => {
                let same = by_replica.values().filter(|it| it.seen == right);
                Compared::UpTo {
                    is_clean: same.count() == voters.len(),
                    end: right.end,
                }
            }
            (Verdict::Nothing | Verdict::Doubt, Some(end)) => Compared::UpTo {
                end,
                is_clean: false,
            },
            (Verdict::Nothing | Verdict::Doubt, None) => Compared::Again,
        }
    }
}

impl Reports {
    /// Reports of other audits, and of replicas that do not vote, are not answered.
    fn take(&mut self, reported: Reported, id: AuditId, voters: &[Member]) {
        let Reported {
            from,
            id: of,
            report,
            reply,
        } = reported;
        if of == id && voters.contains(&from) {
            self.by_replica.insert(from.replica, report);
            self.waiting.push((from, reply));
        }
    }
}
