//! Reports of replicas to the leader of their shard, and its answers: between nodes, or within this one. Not here: what is reported
//! (`digest`), what is answered (`leader`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::RwLock;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::debug;
use warren_codec::{AuditPlace, RowTable};
use warren_proto::internal_v1 as wire;
use warren_proto::internal_v1::forward_service_client::ForwardServiceClient;
use warren_raft::{Lane, Peers};
use warren_types::{Member, NodeId, ReplicaId, ShardId, Term};

use super::capture::AuditId;
use super::verdict::{Answer, Report, Seen};

/// A leader that does not answer within this time has not compared: it waits for others for five seconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(7);
/// Reports that wait for one leader; there is one per replica and audit.
const REPORTS_MAX: usize = 32;

/// A replica's report on its way to the leader. Dropping the reply says that nothing was compared.
pub(crate) struct Reported {
    pub(super) from: Member,
    pub(super) id: AuditId,
    pub(super) report: Report,
    pub(super) reply: oneshot::Sender<Answer>,
}

/// The leaders' sides of this node's replicas. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct AuditDoors {
    doors: Arc<RwLock<BTreeMap<ShardId, mpsc::Sender<Reported>>>>,
}

impl AuditDoors {
    pub(crate) fn open(&self, shard: ShardId) -> mpsc::Receiver<Reported> {
        let (sender, receiver) = mpsc::channel(REPORTS_MAX);
        self.doors.write().insert(shard, sender);
        receiver
    }

    /// There is no replica of the shard here any more.
    pub(crate) fn close(&self, shard: ShardId) {
        self.doors.write().remove(&shard);
    }

    /// Hands a report to this node's replica and waits for what it says.
    pub(super) async fn tell(
        &self,
        shard: ShardId,
        from: Member,
        id: AuditId,
        report: Report,
    ) -> Answer {
        let door = self.doors.read().get(&shard).cloned();
        let Some(door) = door else {
            return Answer::NotCompared;
        };
        let (reply, answer) = oneshot::channel();
        let reported = Reported {
            from,
            id,
            report,
            reply,
        };
        // More than there is room for is of audits that nobody waits for.
        if door.try_send(reported).is_err() {
            return Answer::NotCompared;
        }
        let answered = timeout(ANSWER_WITHIN, answer).await;
        answered.map_or(Answer::NotCompared, |it| it.unwrap_or(Answer::NotCompared))
    }

    /// Answers a replica on another node.
    pub(crate) async fn answer(
        &self,
        node: NodeId,
        request: wire::CompareReplicasRequest,
    ) -> wire::CompareReplicasResponse {
        let replica = ReplicaId(request.replica);
        let (shard, from) = (ShardId(request.shard), Member { replica, node });
        let id = AuditId {
            term: Term(request.term),
            number: request.number,
        };
        let answer = match decode(request) {
            Some(report) => self.tell(shard, from, id, report).await,
            None => Answer::NotCompared,
        };
        wire::CompareReplicasResponse {
            comparison: comparison(answer).into(),
        }
    }
}

/// Tells the leader's node what a replica of this one saw.
pub(super) async fn ask(
    peers: &Peers,
    leader: NodeId,
    (shard, replica): (ShardId, ReplicaId),
    id: AuditId,
    report: Report,
) -> Answer {
    let Some(channel) = peers.channel(leader, Lane::Forward) else {
        return Answer::NotCompared;
    };
    let mut client = ForwardServiceClient::new(channel);
    let request = encode((shard, replica), id, report);
    match timeout(ANSWER_WITHIN, client.compare_replicas(request)).await {
        Ok(Ok(response)) => answered(response.into_inner().comparison()),
        Ok(Err(status)) => {
            debug!(shard_id = %shard, node_id = %leader, error = %status, "rows not compared");
            Answer::NotCompared
        }
        Err(_) => Answer::NotCompared,
    }
}

fn encode(
    (shard, replica): (ShardId, ReplicaId),
    id: AuditId,
    report: Report,
) -> wire::CompareReplicasRequest {
    let Report { seen, proven } = report;
    let (end_table, end_after) = match seen.end {
        None => (wire::AuditTable::Unspecified, Bytes::new()),
        Some(AuditPlace {
            table: RowTable::Blocks,
            after,
        }) => (wire::AuditTable::Blocks, after),
        Some(AuditPlace {
            table: RowTable::Rows,
            after,
        }) => (wire::AuditTable::Rows, after),
    };
    wire::CompareReplicasRequest {
        shard: shard.0,
        replica: replica.0,
        term: id.term.0,
        number: id.number,
        proven,
        rows: seen.rows,
        digest: Bytes::copy_from_slice(&seen.digest.to_be_bytes()),
        end_table: end_table.into(),
        end_after,
    }
}

/// `None`: it is no report that this version understands.
fn decode(request: wire::CompareReplicasRequest) -> Option<Report> {
    let table = match wire::AuditTable::try_from(request.end_table).ok()? {
        wire::AuditTable::Unspecified => None,
        wire::AuditTable::Blocks => Some(RowTable::Blocks),
        wire::AuditTable::Rows => Some(RowTable::Rows),
    };
    let end = table.map(|table| AuditPlace {
        table,
        after: request.end_after,
    });
    let digest = request.digest.as_ref().try_into().ok()?;
    Some(Report {
        seen: Seen {
            end,
            rows: request.rows,
            digest: u128::from_be_bytes(digest),
        },
        proven: request.proven,
    })
}

pub(super) fn comparison(answer: Answer) -> wire::Comparison {
    match answer {
        Answer::NotCompared => wire::Comparison::Unspecified,
        Answer::Agrees => wire::Comparison::Agrees,
        Answer::Doubt => wire::Comparison::Doubt,
        Answer::Wrong => wire::Comparison::Wrong,
    }
}

pub(super) fn answered(comparison: wire::Comparison) -> Answer {
    match comparison {
        wire::Comparison::Unspecified => Answer::NotCompared,
        wire::Comparison::Agrees => Answer::Agrees,
        wire::Comparison::Doubt => Answer::Doubt,
        wire::Comparison::Wrong => Answer::Wrong,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_is_read_as_it_was_sent() {
        let ends = [
            None,
            Some((RowTable::Blocks, &b"k"[..])),
            Some((RowTable::Rows, &b""[..])),
        ];
        for end in ends {
            let end = end.map(|(table, after)| AuditPlace {
                table,
                after: Bytes::from_static(after),
            });
            let report = Report {
                seen: Seen {
                    end,
                    rows: 5,
                    digest: 1 << 127 | 9,
                },
                proven: true,
            };
            let id = AuditId {
                term: Term(3),
                number: 4,
            };
            let sent = encode((ShardId(1), ReplicaId(2)), id, report.clone());
            assert_eq!(decode(sent), Some(report));
        }
    }
}
