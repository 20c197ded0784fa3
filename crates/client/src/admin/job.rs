//! Long jobs of the cluster, watched and steered. Not here: starting them (`redrive`).

use std::time::SystemTime;

use warren_proto::admin_v1::{self, OperationState};

use super::{plain_time, present};
use crate::{
    connection::{Attempt, Connection},
    error::Error,
};

/// Where a job is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobState {
    Running,
    Paused,
    Succeeded,
    Failed,
    Cancelled,
}

impl JobState {
    /// Nothing of it changes any more.
    #[must_use]
    pub fn has_ended(self) -> bool {
        match self {
            Self::Running | Self::Paused => false,
            Self::Succeeded | Self::Failed | Self::Cancelled => true,
        }
    }
}

/// A long job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    pub id: String,
    /// "redrive", "move", "delete" or "expire".
    pub kind: String,
    pub vhost: String,
    /// What it works on, in words.
    pub subject: String,
    pub state: JobState,
    /// Messages on their way, or deleted.
    pub done: u64,
    /// Messages left where they are: their target is not known or not there.
    pub left_out: u64,
    /// Messages in all; 0 = unknown.
    pub total: u64,
    /// Why it failed.
    pub error: String,
    pub started_by: String,
    pub started_at: Option<SystemTime>,
    pub ended_at: Option<SystemTime>,
}

/// Jobs, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobList {
    pub jobs: Vec<Job>,
    /// Nodes that did not say what they run.
    pub silent_nodes: Vec<u64>,
}

impl Connection {
    /// The jobs of all nodes in a vhost whose queues the caller may read; empty = in all vhosts.
    ///
    /// # Errors
    /// No node answers in time.
    pub async fn jobs(&self, vhost: &str) -> Result<JobList, Error> {
        let request = admin_v1::ListOperationsRequest {
            vhost: vhost.to_owned(),
            ..admin_v1::ListOperationsRequest::default()
        };
        let call = |attempt: Attempt| {
            let request = attempt.request(request.clone());
            async move { attempt.operations().list_operations(request).await }
        };
        let answer = self.call("listing jobs", call).await?;
        let jobs = answer.operations.into_iter().map(plain);
        Ok(JobList {
            jobs: jobs.collect::<Result<_, _>>()?,
            silent_nodes: answer.silent_node_ids,
        })
    }

    /// # Errors
    /// `OPERATION_NOT_FOUND`: it ended with its node; no node answers in time.
    pub async fn job(&self, id: &str) -> Result<Job, Error> {
        let request = admin_v1::GetOperationRequest { id: id.to_owned() };
        let call = |attempt: Attempt| {
            let request = attempt.request(request.clone());
            async move { attempt.operations().get_operation(request).await }
        };
        let answer = self.call("looking at a job", call).await?;
        plain(present("looking at a job", answer.operation)?)
    }

    /// Holds a job, or lets it go on.
    ///
    /// # Errors
    /// As [`Connection::job`].
    pub async fn pause_job(&self, id: &str, resume: bool) -> Result<Job, Error> {
        let request = admin_v1::PauseOperationRequest {
            id: id.to_owned(),
            resume,
        };
        let call = |attempt: Attempt| {
            let request = attempt.request(request.clone());
            async move { attempt.operations().pause_operation(request).await }
        };
        let answer = self.call("pausing a job", call).await?;
        plain(present("pausing a job", answer.operation)?)
    }

    /// Ends a job for good; what is on its way arrives.
    ///
    /// # Errors
    /// As [`Connection::job`].
    pub async fn cancel_job(&self, id: &str) -> Result<Job, Error> {
        let request = admin_v1::CancelOperationRequest { id: id.to_owned() };
        let call = |attempt: Attempt| {
            let request = attempt.request(request.clone());
            async move { attempt.operations().cancel_operation(request).await }
        };
        let answer = self.call("cancelling a job", call).await?;
        plain(present("cancelling a job", answer.operation)?)
    }
}

fn plain(wire: admin_v1::Operation) -> Result<Job, Error> {
    let state = match wire.state() {
        OperationState::Pending | OperationState::Running => JobState::Running,
        OperationState::Paused => JobState::Paused,
        OperationState::Succeeded => JobState::Succeeded,
        OperationState::Failed => JobState::Failed,
        OperationState::Cancelled => JobState::Cancelled,
        OperationState::Unspecified => {
            return Err(Error::BadAnswer {
                operation: "looking at a job",
                detail: "a job in an unknown state".to_owned(),
            });
        }
    };
    Ok(Job {
        id: wire.id,
        kind: wire.kind,
        vhost: wire.vhost,
        subject: wire.subject,
        state,
        done: wire.done,
        left_out: wire.failed,
        total: wire.total,
        error: wire.error.map(|it| it.message).unwrap_or_default(),
        started_by: wire.started_by,
        started_at: plain_time(wire.started_at),
        ended_at: plain_time(wire.ended_at),
    })
}
