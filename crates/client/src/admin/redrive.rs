//! Sending dead letters back. Not here: looking at them (`peek`).

use warren_proto::admin_v1;
use warren_proto::admin_v1::dead_letter_service_client::DeadLetterServiceClient;

use super::request_id;
use crate::{
    connection::{Attempt, Connection},
    error::Error,
};

/// Which dead letters go where.
#[derive(Debug, Clone, Default)]
pub struct RedriveOptions {
    /// Empty = "/".
    pub vhost: String,
    /// The queue that holds them.
    pub queue: String,
    /// What is set aside there instead of what is ready.
    pub parked: bool,
    /// Only those that match; empty = all.
    pub filter: String,
    /// Where to; empty = each to the queue it came from, what is set aside to the end of its own.
    pub target_queue: String,
    /// At most this many per second; 0 = no limit.
    pub messages_per_second: u32,
    /// At most this many; 0 = as many as one call may.
    pub limit: u64,
    /// Count only.
    pub dry_run: bool,
    /// Where to go on, from an earlier call; empty = from the oldest message.
    pub cursor: String,
}

/// What one call did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Redriven {
    /// Messages on their way; after a dry run, messages that would be.
    pub messages: u64,
    /// Where to go on; empty = the end.
    pub next_cursor: String,
}

impl Connection {
    /// Sends dead letters back. Each is stored once at its target, or stays. One call looks at a part of a long queue: repeat it with
    /// its cursor until that is empty.
    ///
    /// # Errors
    /// `QUEUE_NOT_FOUND`; no node answers in time: some may be on their way, and calling again is safe.
    pub async fn redrive(&self, options: &RedriveOptions) -> Result<Redriven, Error> {
        let request = options.to_wire(false);
        let answer = self.call_redrive(request).await?;
        Ok(Redriven {
            messages: answer.messages,
            next_cursor: answer.next_cursor,
        })
    }

    /// Has a node send dead letters back by itself; answers the job's id ([`Connection::job`]). It goes through the queue once.
    ///
    /// # Errors
    /// `QUEUE_NOT_FOUND`; `LIMIT_REACHED`: the node runs too many jobs; no node answers in time.
    pub async fn start_redrive(&self, options: &RedriveOptions) -> Result<String, Error> {
        let request = options.to_wire(true);
        Ok(self.call_redrive(request).await?.operation_id)
    }

    async fn call_redrive(
        &self,
        request: admin_v1::RedriveRequest,
    ) -> Result<admin_v1::RedriveResponse, Error> {
        let call = |attempt: Attempt| {
            let request = attempt.request(request.clone());
            async move {
                DeadLetterServiceClient::new(attempt.channel.clone())
                    .redrive(request)
                    .await
            }
        };
        self.call("redriving", call).await
    }
}

impl RedriveOptions {
    fn to_wire(&self, background: bool) -> admin_v1::RedriveRequest {
        admin_v1::RedriveRequest {
            vhost: self.vhost.clone(),
            queue: self.queue.clone(),
            parked: self.parked,
            filter: self.filter.clone(),
            target_queue: self.target_queue.clone(),
            messages_per_second: self.messages_per_second,
            limit: self.limit,
            dry_run: self.dry_run,
            request_id: request_id(),
            cursor: self.cursor.clone(),
            background,
        }
    }
}
