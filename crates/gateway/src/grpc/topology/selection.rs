//! Moving and deleting a selection of a queue's messages (features X10): counted, or done by a job. Not here: going through the queue
//! (`redrive`), the job (`redrive_job`).

use tokio::time::Instant;
use warren_proto::admin_v1;
use warren_proto::convert::error::ApiError;
use warren_proto::v1::MessageState;
use warren_topology::{Operation, Queue};

use super::TopologyAdmin;
use crate::auth::Who;
use crate::grpc::error::{bad_argument, of_operation};
use crate::grpc::open::{queue_name, vhost_name};
use crate::grpc::permit::Permit;
use crate::grpc::redrive::{Doing, Redriving};
use crate::grpc::redrive_job::{self, Begun};

impl Permit for admin_v1::MoveMessagesRequest {
    fn needs(&self) -> (&str, Vec<Operation<'_>>) {
        let from = &self.queue;
        let to = match self.target_queue.as_str() {
            "" => from,
            to => to,
        };
        (&self.vhost, vec![Operation::MoveMessages { from, to }])
    }
}

impl Permit for admin_v1::DeleteMessagesRequest {
    fn needs(&self) -> (&str, Vec<Operation<'_>>) {
        let queue = &self.queue;
        (&self.vhost, vec![Operation::PurgeQueue { queue }])
    }
}

impl TopologyAdmin {
    pub(super) async fn move_messages_here(
        &self,
        who: &Who,
        it: admin_v1::MoveMessagesRequest,
        deadline: Instant,
    ) -> Result<admin_v1::MoveMessagesResponse, ApiError> {
        let queue = self.find(&it.vhost, &it.queue).await?;
        let target = match it.target_queue.as_str() {
            "" if it.priority.is_some() => queue.clone(),
            name => self.find(&it.vhost, name).await?,
        };
        let doing = doing(&queue, &target, it.priority)?;
        let request = admin_v1::RedriveRequest {
            vhost: it.vhost,
            queue: it.queue,
            target_queue: target.name.to_string(),
            messages_per_second: it.messages_per_second,
            dry_run: it.validate_only,
            request_id: it.request_id,
            ..admin_v1::RedriveRequest::default()
        };
        let request = selected(request, it.selection.unwrap_or_default())?;
        if doing == Doing::Move(queue.id) && !request.parked {
            return Err(bad_argument("target_queue", "is the queue itself"));
        }
        let begun = self.begin(who, queue, request, &doing, deadline).await?;
        Ok(admin_v1::MoveMessagesResponse {
            operation_id: begun.operation_id,
            messages: begun.messages,
        })
    }

    pub(super) async fn delete_messages_here(
        &self,
        who: &Who,
        it: admin_v1::DeleteMessagesRequest,
        deadline: Instant,
    ) -> Result<admin_v1::DeleteMessagesResponse, ApiError> {
        let queue = self.find(&it.vhost, &it.queue).await?;
        let request = admin_v1::RedriveRequest {
            vhost: it.vhost,
            queue: it.queue,
            dry_run: it.validate_only,
            request_id: it.request_id,
            ..admin_v1::RedriveRequest::default()
        };
        let request = selected(request, it.selection.unwrap_or_default())?;
        let doing = if it.expire {
            Doing::Expire
        } else {
            Doing::Delete
        };
        if it.expire && request.parked {
            return Err(bad_argument("expire", "is for what is ready"));
        }
        let begun = self.begin(who, queue, request, &doing, deadline).await?;
        Ok(admin_v1::DeleteMessagesResponse {
            operation_id: begun.operation_id,
            messages: begun.messages,
        })
    }

    async fn find(&self, vhost: &str, queue: &str) -> Result<Queue, ApiError> {
        let (vhost, name) = (vhost_name(vhost)?, queue_name(queue)?);
        let found = self.gateway.find_queue(&vhost, &name, None).await;
        found.map_err(|error| of_operation(&error))
    }

    async fn begin(
        &self,
        who: &Who,
        queue: Queue,
        request: admin_v1::RedriveRequest,
        doing: &Doing,
        deadline: Instant,
    ) -> Result<Begun, ApiError> {
        let going = Redriving::new(&self.gateway, who.clone(), queue, request, doing)?;
        redrive_job::begin(&self.gateway, who, going, deadline, self.stop.clone()).await
    }
}

/// # Errors
/// A priority beyond what publishers can name, or one for another queue.
fn doing(queue: &Queue, target: &Queue, priority: Option<u32>) -> Result<Doing, ApiError> {
    let Some(priority) = priority else {
        return Ok(Doing::Move(target.id));
    };
    if target.id != queue.id {
        let text = "comes without another target: they stay in their queue";
        return Err(bad_argument("priority", text));
    }
    let priority = u8::try_from(priority);
    let priority = priority.map_err(|_| bad_argument("priority", "is above 255"))?;
    Ok(Doing::Reprioritise(priority))
}

/// # Errors
/// The selection is of states that cannot be told apart from what consumers hold, or of several.
fn selected(
    request: admin_v1::RedriveRequest,
    selection: admin_v1::MessageSelection,
) -> Result<admin_v1::RedriveRequest, ApiError> {
    let states: Vec<MessageState> = selection.states().collect();
    let parked = match states.as_slice() {
        [] | [MessageState::Ready] => false,
        [MessageState::Parked] => true,
        _ => {
            let text = "names one of ready and parked; what is scheduled is cancelled or purged";
            return Err(bad_argument("selection.states", text));
        }
    };
    Ok(admin_v1::RedriveRequest {
        parked,
        filter: selection.filter,
        limit: selection.limit,
        ..request
    })
}
