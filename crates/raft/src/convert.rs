//! Between openraft's values, this project's, and the stored and sent messages. Not here: any decision.
//!
//! openraft numbers entries from 0, this project from 1: everything outside openraft, on disk and on the wire too, has the
//! greater number.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::impls::leader_id_adv::LeaderId;
use prost::Message as _;
use thiserror::Error;
use tokio::time::Instant;
use warren_proto::stored_v1 as stored;
use warren_storage::LogRecord;
use warren_types::{LogId, LogIndex, Member, NodeId, ReplicaId, Term, Vote};

use crate::config::{
    Command, EntryOf, Home, InstantOf, LogIdOf, MembershipOf, SnapshotMetaOf, StoredMembershipOf,
    VoteOf,
};

/// Bytes from the log, a row or another node that are not what they should be.
#[derive(Debug, Error)]
pub(crate) enum DecodeError {
    #[error("message is damaged")]
    Damaged(#[from] prost::DecodeError),
    #[error("entry has no body")]
    NoBody,
    #[error("membership is not valid: {0}")]
    Membership(String),
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("replica meta has format {0}, this version reads {META_FORMAT}")]
    Format(u32),
}

/// Version of the stored replica meta.
const META_FORMAT: u32 = 1;

/// openraft's number of an entry. "Nothing" (0) is no entry's number and is kept out by the callers' `Option`s.
pub(crate) fn index_to_raft(index: LogIndex) -> u64 {
    index.0.saturating_sub(1)
}

pub(crate) fn index_from_raft(index: u64) -> LogIndex {
    LogIndex(index.saturating_add(1))
}

pub(crate) fn log_id_to_raft(id: LogId) -> LogIdOf {
    let leader = LeaderId {
        term: id.term.0,
        node_id: id.leader.0,
    };
    LogIdOf::new(leader, index_to_raft(id.index))
}

pub(crate) fn log_id_from_raft(id: &LogIdOf) -> LogId {
    LogId {
        term: Term(id.leader_id.term),
        leader: ReplicaId(id.leader_id.node_id),
        index: index_from_raft(id.index),
    }
}

pub(crate) fn vote_to_raft(vote: Vote) -> VoteOf {
    VoteOf {
        leader_id: LeaderId {
            term: vote.term.0,
            node_id: vote.replica.0,
        },
        committed: vote.committed,
    }
}

pub(crate) fn vote_from_raft(vote: &VoteOf) -> Vote {
    Vote {
        term: Term(vote.leader_id.term),
        replica: ReplicaId(vote.leader_id.node_id),
        committed: vote.committed,
    }
}

pub(crate) fn log_id_to_proto(id: &LogIdOf) -> stored::StoredLogId {
    stored::StoredLogId {
        term: id.leader_id.term,
        leader: id.leader_id.node_id,
        index: index_from_raft(id.index).0,
    }
}

pub(crate) fn log_id_from_proto(id: &stored::StoredLogId) -> LogIdOf {
    let leader = LeaderId {
        term: id.term,
        node_id: id.leader,
    };
    LogIdOf::new(leader, index_to_raft(LogIndex(id.index)))
}

pub(crate) fn vote_to_proto(vote: &VoteOf) -> stored::StoredVote {
    stored::StoredVote {
        term: vote.leader_id.term,
        replica: vote.leader_id.node_id,
        committed: vote.committed,
    }
}

pub(crate) fn vote_from_proto(vote: Option<&stored::StoredVote>) -> Result<VoteOf, DecodeError> {
    let vote = vote.ok_or(DecodeError::Missing("vote"))?;
    Ok(VoteOf {
        leader_id: LeaderId {
            term: vote.term,
            node_id: vote.replica,
        },
        committed: vote.committed,
    })
}

fn membership_to_proto(membership: &MembershipOf) -> stored::StoredMembership {
    let configs = membership
        .get_joint_config()
        .iter()
        .map(|set| stored::stored_membership::VoterSet {
            replicas: set.iter().copied().collect(),
        })
        .collect();
    let members = membership
        .nodes()
        .map(|(replica, home)| stored::StoredMember {
            replica: *replica,
            node: home.node,
        })
        .collect();
    stored::StoredMembership { configs, members }
}

fn membership_from_proto(message: &stored::StoredMembership) -> Result<MembershipOf, DecodeError> {
    let configs: Vec<BTreeSet<u64>> = message
        .configs
        .iter()
        .map(|set| set.replicas.iter().copied().collect())
        .collect();
    let members: BTreeMap<u64, Home> = message
        .members
        .iter()
        .map(|it| (it.replica, Home { node: it.node }))
        .collect();
    if configs.is_empty() && members.is_empty() {
        return Ok(MembershipOf::default());
    }
    MembershipOf::new(configs, members).map_err(|e| DecodeError::Membership(e.to_string()))
}

/// openraft's instant as tokio's. It keeps its inside to itself, so this goes by its age; the clock is read first, so the
/// answer is never later than the truth: leases rely on that.
pub(crate) fn instant(at: InstantOf) -> Instant {
    use openraft::Instant as _;
    let now = Instant::now();
    now.checked_sub(at.elapsed()).unwrap_or(now)
}

/// The members of a membership, voters and learners.
pub(crate) fn members(membership: &MembershipOf) -> Vec<Member> {
    membership
        .nodes()
        .map(|(replica, home)| Member {
            replica: ReplicaId(*replica),
            node: NodeId(home.node),
        })
        .collect()
}

/// An entry's bytes as they are logged and sent.
pub(crate) fn encode_entry(entry: &EntryOf) -> Bytes {
    use stored::stored_entry::{Blank, Body};
    let body = match &entry.payload {
        EntryPayload::Normal(command) => return command.encoded(),
        EntryPayload::Membership(membership) => Body::Membership(membership_to_proto(membership)),
        EntryPayload::Blank => Body::Blank(Blank {}),
    };
    stored::StoredEntry { body: Some(body) }
        .encode_to_vec()
        .into()
}

/// The entry of an id and its bytes; commands share the bytes.
pub(crate) fn decode_entry(id: LogIdOf, bytes: Bytes) -> Result<EntryOf, DecodeError> {
    use stored::stored_entry::Body;
    if let Some(command) = Command::from_encoded(bytes.clone()) {
        return Ok(EntryOf {
            log_id: id,
            payload: EntryPayload::Normal(command),
        });
    }
    let payload = match stored::StoredEntry::decode(bytes)?.body {
        Some(Body::Command(command)) => EntryPayload::Normal(Command::new(&command)),
        Some(Body::Membership(membership)) => {
            EntryPayload::Membership(membership_from_proto(&membership)?)
        }
        Some(Body::Blank(_)) => EntryPayload::Blank,
        None => return Err(DecodeError::NoBody),
    };
    Ok(EntryOf {
        log_id: id,
        payload,
    })
}

pub(crate) fn entry_to_record(entry: &EntryOf) -> LogRecord {
    LogRecord {
        id: log_id_from_raft(&entry.log_id),
        bytes: encode_entry(entry),
    }
}

pub(crate) fn entry_from_record(record: LogRecord) -> Result<EntryOf, DecodeError> {
    decode_entry(log_id_to_raft(record.id), record.bytes)
}

/// How far a replica has applied and the membership there, as written beside its rows.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct ReplicaMeta {
    pub applied: Option<LogIdOf>,
    pub membership: StoredMembershipOf,
}

impl ReplicaMeta {
    pub(crate) fn to_proto(&self) -> stored::StoredReplicaMeta {
        stored::StoredReplicaMeta {
            format: META_FORMAT,
            applied: self.applied.as_ref().map(log_id_to_proto),
            membership_at: self.membership.log_id().as_ref().map(log_id_to_proto),
            membership: Some(membership_to_proto(self.membership.membership())),
        }
    }

    pub(crate) fn from_proto(message: &stored::StoredReplicaMeta) -> Result<Self, DecodeError> {
        if message.format != META_FORMAT {
            return Err(DecodeError::Format(message.format));
        }
        let membership = message
            .membership
            .as_ref()
            .ok_or(DecodeError::Missing("membership"))?;
        Ok(Self {
            applied: message.applied.as_ref().map(log_id_from_proto),
            membership: StoredMembershipOf::new(
                message.membership_at.as_ref().map(log_id_from_proto),
                membership_from_proto(membership)?,
            ),
        })
    }

    pub(crate) fn encode(&self) -> Bytes {
        self.to_proto().encode_to_vec().into()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::from_proto(&stored::StoredReplicaMeta::decode(bytes)?)
    }

    pub(crate) fn snapshot_meta(&self) -> SnapshotMetaOf {
        SnapshotMetaOf {
            last_log_id: self.applied,
            last_membership: self.membership.clone(),
        }
    }

    pub(crate) fn from_snapshot_meta(meta: &SnapshotMetaOf) -> Self {
        Self {
            applied: meta.last_log_id,
            membership: meta.last_membership.clone(),
        }
    }
}
