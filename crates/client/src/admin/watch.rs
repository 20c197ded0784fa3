//! Watching the figures of queues as they change. Not here: asking once (`queue`).

use std::time::Duration;

use warren_proto::admin_v1;

use super::queue::{QueueStats, plain_stats};
use crate::{
    backoff::Backoff,
    connection::{Attempt, Connection},
    error::Error,
};

/// What has changed, at most as old as the interval that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueRound {
    /// Queues whose figures have changed; in the first round of a node all.
    pub stats: Vec<QueueStats>,
    /// Queues whose figures are not known now: they are not 0.
    pub unknown: Vec<String>,
}

/// Rounds as a node sends them; another goes on when it is gone.
#[derive(Debug)]
pub struct QueueWatch {
    connection: Connection,
    request: admin_v1::WatchQueueStatsRequest,
    stream: Option<tonic::Streaming<admin_v1::WatchQueueStatsResponse>>,
    backoff: Backoff,
}

impl Connection {
    /// Watches the named queues of a vhost, or all of it. `interval` is at least 100 ms.
    #[must_use]
    pub fn watch_queues(&self, vhost: &str, names: &[String], interval: Duration) -> QueueWatch {
        QueueWatch {
            connection: self.clone(),
            request: admin_v1::WatchQueueStatsRequest {
                vhost: vhost.to_owned(),
                queues: names.to_vec(),
                interval: prost_types::Duration::try_from(interval).ok(),
            },
            stream: None,
            backoff: Backoff::new(),
        }
    }
}

impl QueueWatch {
    /// The next round in which something has changed.
    ///
    /// # Errors
    /// `ACCESS_REFUSED`; `LIMIT_REACHED`: the node serves as many watches as it may; no node answers in time.
    ///
    /// # Cancel safety
    /// A round may be lost while the watch is (re)opened; then the next has all figures.
    pub async fn next(&mut self) -> Result<QueueRound, Error> {
        loop {
            let stream = match &mut self.stream {
                Some(stream) => stream,
                None => {
                    let call = |attempt: Attempt| {
                        let request = attempt.stream_request(self.request.clone());
                        async move { attempt.topology().watch_queue_stats(request).await }
                    };
                    let opened = self.connection.call("watching queues", call).await?;
                    self.stream.insert(opened)
                }
            };
            match stream.message().await {
                Ok(Some(round)) => {
                    self.backoff.reset();
                    return Ok(QueueRound {
                        stats: round.stats.into_iter().map(plain_stats).collect(),
                        unknown: round.unknown,
                    });
                }
                Ok(None) => {}
                Err(status) => {
                    let error = self.connection.error_of(&status);
                    if !error.is_transient() {
                        return Err(error);
                    }
                }
            }
            self.stream = None;
            tokio::time::sleep(self.backoff.after_failure(None)).await;
        }
    }
}
