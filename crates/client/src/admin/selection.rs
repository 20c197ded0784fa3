//! Moving and deleting a selection of a queue's messages. Not here: following the job (`job`), looking first (`peek`).

use warren_proto::admin_v1;
use warren_proto::v1::MessageState;

use super::request_id;
use crate::{
    connection::{Attempt, Connection},
    error::Error,
};

/// Which messages of a queue are meant; what consumers hold is not.
#[derive(Debug, Clone, Default)]
pub struct SelectionOptions {
    /// Empty = "/".
    pub vhost: String,
    pub queue: String,
    /// What is set aside instead of what is ready.
    pub parked: bool,
    /// Only those that match, in the language of a peek; empty = all.
    pub filter: String,
    /// At most this many; 0 = all.
    pub limit: u64,
}

impl SelectionOptions {
    fn selection(&self) -> admin_v1::MessageSelection {
        let state = if self.parked {
            MessageState::Parked
        } else {
            MessageState::Ready
        };
        admin_v1::MessageSelection {
            states: vec![state.into()],
            filter: self.filter.clone(),
            limit: self.limit,
        }
    }
}

impl Connection {
    /// How many messages are meant.
    ///
    /// # Errors
    /// `QUEUE_NOT_FOUND`, `BAD_FILTER`; `NOT_STARTED`: there was no time to look at all of the queue.
    pub async fn count_selected(&self, options: &SelectionOptions) -> Result<u64, Error> {
        let request = delete_request(options, true);
        Ok(self.call_delete(request).await?.messages)
    }

    /// Has a node delete messages; answers the job's id ([`Connection::job`]).
    ///
    /// # Errors
    /// `QUEUE_NOT_FOUND`, `BAD_FILTER`; `LIMIT_REACHED`: the node runs too many jobs; no node answers in time.
    pub async fn start_delete_messages(&self, options: &SelectionOptions) -> Result<String, Error> {
        let request = delete_request(options, false);
        Ok(self.call_delete(request).await?.operation_id)
    }

    /// The same, as if their time were up: they become dead letters, if the queue has a target for them.
    ///
    /// # Errors
    /// As [`Connection::start_delete_messages`].
    pub async fn start_expire_messages(&self, options: &SelectionOptions) -> Result<String, Error> {
        let request = admin_v1::DeleteMessagesRequest {
            expire: true,
            ..delete_request(options, false)
        };
        Ok(self.call_delete(request).await?.operation_id)
    }

    /// Has a node move messages to another queue, each stored once there; answers the job's id ([`Connection::job`]).
    ///
    /// # Errors
    /// As [`Connection::start_delete_messages`].
    pub async fn start_move_messages(
        &self,
        options: &SelectionOptions,
        target_queue: &str,
        messages_per_second: u32,
    ) -> Result<String, Error> {
        let request = admin_v1::MoveMessagesRequest {
            vhost: options.vhost.clone(),
            queue: options.queue.clone(),
            selection: Some(options.selection()),
            target_queue: target_queue.to_owned(),
            messages_per_second,
            request_id: request_id(),
            ..admin_v1::MoveMessagesRequest::default()
        };
        self.call_move(request).await
    }

    /// Has a node give messages another priority, 0 to 255: each is stored once at the end of its queue. Answers the job's id
    /// ([`Connection::job`]).
    ///
    /// # Errors
    /// As [`Connection::start_delete_messages`].
    pub async fn start_reprioritise_messages(
        &self,
        options: &SelectionOptions,
        priority: u8,
        messages_per_second: u32,
    ) -> Result<String, Error> {
        let request = admin_v1::MoveMessagesRequest {
            vhost: options.vhost.clone(),
            queue: options.queue.clone(),
            selection: Some(options.selection()),
            messages_per_second,
            request_id: request_id(),
            priority: Some(priority.into()),
            ..admin_v1::MoveMessagesRequest::default()
        };
        self.call_move(request).await
    }

    async fn call_move(&self, request: admin_v1::MoveMessagesRequest) -> Result<String, Error> {
        let call = |attempt: Attempt| {
            let request = attempt.request(request.clone());
            async move { attempt.topology().move_messages(request).await }
        };
        Ok(self.call("moving messages", call).await?.operation_id)
    }

    async fn call_delete(
        &self,
        request: admin_v1::DeleteMessagesRequest,
    ) -> Result<admin_v1::DeleteMessagesResponse, Error> {
        let call = |attempt: Attempt| {
            let request = attempt.request(request.clone());
            async move { attempt.topology().delete_messages(request).await }
        };
        self.call("deleting messages", call).await
    }
}

fn delete_request(
    options: &SelectionOptions,
    validate_only: bool,
) -> admin_v1::DeleteMessagesRequest {
    admin_v1::DeleteMessagesRequest {
        vhost: options.vhost.clone(),
        queue: options.queue.clone(),
        selection: Some(options.selection()),
        validate_only,
        expire: false,
        request_id: request_id(),
    }
}
