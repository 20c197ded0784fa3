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
    /// Where to; empty = each to the queue it came from, what is set aside to the end of its own.
    pub target_queue: String,
    /// At most this many per second; 0 = no limit.
    pub messages_per_second: u32,
    /// At most this many; 0 = as many as one call may.
    pub limit: u64,
    /// Count only.
    pub dry_run: bool,
}

impl Connection {
    /// Sends dead letters back; answers how many are on their way. Each is stored once at its target, or stays. Repeat it until it
    /// answers 0.
    ///
    /// # Errors
    /// `QUEUE_NOT_FOUND`; no node answers in time: some may be on their way, and calling again is safe.
    pub async fn redrive(&self, options: &RedriveOptions) -> Result<u64, Error> {
        let request = admin_v1::RedriveRequest {
            vhost: options.vhost.clone(),
            queue: options.queue.clone(),
            parked: options.parked,
            filter: String::new(),
            target_queue: options.target_queue.clone(),
            messages_per_second: options.messages_per_second,
            limit: options.limit,
            dry_run: options.dry_run,
            request_id: request_id(),
        };
        let call = |attempt: Attempt| {
            let request = attempt.request(request.clone());
            async move {
                DeadLetterServiceClient::new(attempt.channel.clone())
                    .redrive(request)
                    .await
            }
        };
        Ok(self.call("redriving", call).await?.messages)
    }
}
