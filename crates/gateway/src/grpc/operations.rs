//! `warren.admin.v1.OperationService`: long jobs of all nodes are listed, watched and steered, from any node. Not here: a node's own
//! jobs (`jobs`), what they do (`redrive_job`).

use std::pin::Pin;
use std::time::Duration;

use futures::future::join_all;
use futures::{Stream, stream};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use warren_proto::admin_v1::operation_service_server::OperationService;
use warren_proto::admin_v1::{self, OperationState};
use warren_proto::convert::error::ApiError;
use warren_proto::convert::reason::Reason;
use warren_proto::internal_v1 as wire;
use warren_topology::Operation;
use warren_types::NodeId;

use super::error::{bad_argument, of_operation};
use super::login::caller;
use super::permit::vhost_id;
use crate::auth::Who;
use crate::gateway::Gateway;
use crate::jobs::Jobs;

/// How often a watched job is looked at.
const WATCH_EVERY: Duration = Duration::from_millis(250);
/// Entries of one answer, at most and if none is said.
const PAGE_MAX: usize = 1_000;

#[derive(Clone)]
pub(super) struct Operations {
    gateway: Gateway,
    stop: CancellationToken,
}

impl Gateway {
    async fn jobs_of(
        &self,
        node: NodeId,
        request: wire::JobsRequest,
    ) -> Option<wire::JobsResponse> {
        if node == self.broker().node() {
            Some(self.jobs().answer(&request))
        } else {
            self.broker().ask_jobs(node, request).await
        }
    }

    /// The jobs of all nodes, and the nodes that do not answer.
    pub(super) async fn all_jobs(&self) -> (Vec<wire::Job>, Vec<NodeId>) {
        let topology = self.topology();
        let nodes: Vec<NodeId> = topology.nodes().map(|it| it.id).collect();
        let asked = nodes.iter().map(|&node| async move {
            let all = wire::JobsRequest::default();
            (node, self.jobs_of(node, all).await)
        });
        let (mut jobs, mut silent) = (Vec::new(), Vec::new());
        for (node, answer) in join_all(asked).await {
            match answer {
                Some(mut answer) => jobs.append(&mut answer.jobs),
                None => silent.push(node),
            }
        }
        (jobs, silent)
    }
}

impl Operations {
    pub(super) fn new(gateway: Gateway, stop: CancellationToken) -> Self {
        Self { gateway, stop }
    }

    /// A job that the caller may see: whoever may read its queue. With a steering it is asked for again.
    async fn job(
        &self,
        who: &Who,
        id: &str,
        steering: wire::JobSteering,
    ) -> Result<admin_v1::Operation, ApiError> {
        let found = self.ask(id, wire::JobSteering::Unspecified).await?;
        let vhost = vhost_id(&self.gateway, &found.vhost).await?;
        let queue = found.queue.as_str();
        let needed = Operation::Consume { queue };
        let authorised = self.gateway.authorise(who, vhost, needed).await;
        authorised.map_err(|error| of_operation(&error))?;
        match steering {
            wire::JobSteering::Unspecified => Ok(found),
            wire::JobSteering::Pause | wire::JobSteering::Resume | wire::JobSteering::Cancel => {
                self.ask(id, steering).await
            }
        }
    }

    /// What the node that runs a job says of it.
    async fn ask(
        &self,
        id: &str,
        steering: wire::JobSteering,
    ) -> Result<admin_v1::Operation, ApiError> {
        let none = || {
            let text = format!("there is no job {id:?}: it ended long ago, or with its node");
            ApiError::new(Reason::OperationNotFound, text).resource("operation", id)
        };
        let node = Jobs::node_of(id).ok_or_else(none)?;
        let is_known = self.gateway.topology().node(node).is_some();
        if !is_known {
            return Err(none());
        }
        let request = wire::JobsRequest {
            id: id.to_owned(),
            steering: steering.into(),
        };
        let answer = self.gateway.jobs_of(node, request).await;
        let answer = answer.ok_or_else(|| {
            let text = format!("node {}, which runs job {id}, does not answer", node.0);
            ApiError::new(Reason::NotReady, text)
        })?;
        let job = answer.jobs.into_iter().next();
        job.and_then(|it| it.operation).ok_or_else(none)
    }

    async fn may_see(&self, who: &Who, job: &admin_v1::Operation) -> bool {
        let Ok(vhost) = vhost_id(&self.gateway, &job.vhost).await else {
            return false;
        };
        let queue = job.queue.as_str();
        let needed = Operation::Consume { queue };
        self.gateway.authorise(who, vhost, needed).await.is_ok()
    }

    async fn list(
        &self,
        who: &Who,
        request: admin_v1::ListOperationsRequest,
    ) -> Result<admin_v1::ListOperationsResponse, ApiError> {
        let from: usize = match request.page_token.as_str() {
            "" => 0,
            token => token
                .parse()
                .map_err(|_| bad_argument("page_token", "is of no response"))?,
        };
        let size = match usize::try_from(request.page_size).unwrap_or(usize::MAX) {
            0 => PAGE_MAX,
            size => size.min(PAGE_MAX),
        };
        let (jobs, silent) = self.gateway.all_jobs().await;
        let mut seen = Vec::new();
        for it in jobs.into_iter().filter_map(|it| it.operation) {
            let is_meant = request.vhost.is_empty() || it.vhost == request.vhost;
            if is_meant && self.may_see(who, &it).await {
                seen.push(it);
            }
        }
        let began = |it: &admin_v1::Operation| it.started_at.map(|at| (at.seconds, at.nanos));
        seen.sort_by(|a, b| (began(b), &b.id).cmp(&(began(a), &a.id)));
        let more = seen.len() > from.saturating_add(size);
        Ok(admin_v1::ListOperationsResponse {
            operations: seen.into_iter().skip(from).take(size).collect(),
            next_page_token: if more {
                (from + size).to_string()
            } else {
                String::new()
            },
            silent_node_ids: silent.into_iter().map(|it| it.0).collect(),
        })
    }

    /// The job whenever it has changed, until it has ended.
    async fn next_change(
        &self,
        who: &Who,
        last: &admin_v1::Operation,
    ) -> Option<Result<admin_v1::Operation, Status>> {
        if has_ended(last) {
            return None;
        }
        loop {
            tokio::select! {
                biased; // stopping comes first
                () = self.stop.cancelled() => return None,
                () = sleep(WATCH_EVERY) => {}
            }
            match self
                .job(who, &last.id, wire::JobSteering::Unspecified)
                .await
            {
                Ok(job) if job == *last => {}
                Ok(job) => return Some(Ok(job)),
                Err(error) => return Some(Err(error.into())),
            }
        }
    }
}

fn has_ended(job: &admin_v1::Operation) -> bool {
    match job.state() {
        OperationState::Unspecified
        | OperationState::Pending
        | OperationState::Running
        | OperationState::Paused => false,
        OperationState::Succeeded | OperationState::Failed | OperationState::Cancelled => true,
    }
}

#[tonic::async_trait]
impl OperationService for Operations {
    async fn get_operation(
        &self,
        request: Request<admin_v1::GetOperationRequest>,
    ) -> Result<Response<admin_v1::GetOperationResponse>, Status> {
        let who = caller(request.extensions())?;
        let id = request.into_inner().id;
        let operation = self.job(&who, &id, wire::JobSteering::Unspecified).await?;
        Ok(Response::new(admin_v1::GetOperationResponse {
            operation: Some(operation),
        }))
    }

    async fn list_operations(
        &self,
        request: Request<admin_v1::ListOperationsRequest>,
    ) -> Result<Response<admin_v1::ListOperationsResponse>, Status> {
        let who = caller(request.extensions())?;
        let listed = self.list(&who, request.into_inner()).await?;
        Ok(Response::new(listed))
    }

    type WatchOperationStream =
        Pin<Box<dyn Stream<Item = Result<admin_v1::WatchOperationResponse, Status>> + Send>>;

    async fn watch_operation(
        &self,
        request: Request<admin_v1::WatchOperationRequest>,
    ) -> Result<Response<Self::WatchOperationStream>, Status> {
        let who = caller(request.extensions())?;
        let id = request.into_inner().id;
        let first = self.job(&who, &id, wire::JobSteering::Unspecified).await?;
        let answer = |operation| admin_v1::WatchOperationResponse {
            operation: Some(operation),
        };
        let service = self.clone();
        let begin = (Some(first.clone()), first);
        let changes = stream::unfold(Some(begin), move |state| {
            let (service, who) = (service.clone(), who.clone());
            async move {
                let (untold, last) = state?;
                if let Some(first) = untold {
                    return Some((Ok(answer(first)), Some((None, last))));
                }
                match service.next_change(&who, &last).await? {
                    Ok(job) => Some((Ok(answer(job.clone())), Some((None, job)))),
                    Err(status) => Some((Err(status), None)),
                }
            }
        });
        Ok(Response::new(Box::pin(changes)))
    }

    async fn pause_operation(
        &self,
        request: Request<admin_v1::PauseOperationRequest>,
    ) -> Result<Response<admin_v1::PauseOperationResponse>, Status> {
        let who = caller(request.extensions())?;
        let request = request.into_inner();
        let steering = if request.resume {
            wire::JobSteering::Resume
        } else {
            wire::JobSteering::Pause
        };
        let operation = self.job(&who, &request.id, steering).await?;
        Ok(Response::new(admin_v1::PauseOperationResponse {
            operation: Some(operation),
        }))
    }

    async fn cancel_operation(
        &self,
        request: Request<admin_v1::CancelOperationRequest>,
    ) -> Result<Response<admin_v1::CancelOperationResponse>, Status> {
        let who = caller(request.extensions())?;
        let id = request.into_inner().id;
        let operation = self.job(&who, &id, wire::JobSteering::Cancel).await?;
        Ok(Response::new(admin_v1::CancelOperationResponse {
            operation: Some(operation),
        }))
    }
}
