//! Dead letters are sent back page after page, at a rate, each to a queue that the caller may write to. Not here: the service
//! (`dead_letters`), moving a page (`warren-shard`).

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use warren_proto::admin_v1;
use warren_proto::convert::error::ApiError;
use warren_shard::{PEEK_MESSAGES_MAX, Redrive, RedriveOf, RedriveTo};
use warren_topology::{Operation, Queue};
use warren_types::{Position, QueueId};

use super::error::of_operation;
use super::peek::no_answer;
use super::permit::Permit;
use crate::auth::Who;
use crate::gateway::Gateway;
use crate::operations::target_of;

/// Messages that one call sends back, at most: the caller repeats it until it answers 0.
const REDRIVEN_MAX: u64 = 10_000;
/// While too much is on its way, the next page waits so long.
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// Kept for the answer before the call's deadline.
const ANSWER_TIME: Duration = Duration::from_millis(500);

/// Reading the queue that holds them, and writing to the one that is named. Where each goes back to its own queue, that one is asked
/// about when it is known ([`Redriving`]).
impl Permit for admin_v1::RedriveRequest {
    fn needs(&self) -> (&str, Vec<Operation<'_>>) {
        let from = &self.queue;
        let operation = match self.target_queue.as_str() {
            "" => Operation::Consume { queue: from },
            to => Operation::MoveMessages { from, to },
        };
        (&self.vhost, vec![operation])
    }
}

/// One call.
pub(super) struct Redriving<'a> {
    gateway: &'a Gateway,
    who: &'a Who,
    queue: &'a Queue,
    request: &'a admin_v1::RedriveRequest,
}

impl<'a> Redriving<'a> {
    pub(super) fn new(
        gateway: &'a Gateway,
        who: &'a Who,
        queue: &'a Queue,
        request: &'a admin_v1::RedriveRequest,
    ) -> Self {
        Self {
            gateway,
            who,
            queue,
            request,
        }
    }

    /// Sends pages back until there are no more, or enough, or the time is up; answers how many messages.
    ///
    /// # Errors
    /// The first page could not be sent: its leader says nothing, or a queue on it may not be written to. What stops a later page is
    /// told to the next call.
    pub(super) async fn run(&self, to: RedriveTo, deadline: Instant) -> Result<u64, ApiError> {
        let request = self.request;
        let most = match request.limit {
            0 if request.dry_run => u64::MAX,
            0 => REDRIVEN_MAX,
            limit if request.dry_run => limit,
            limit => limit.min(REDRIVEN_MAX),
        };
        let mut wish = Redrive {
            of: if request.parked {
                RedriveOf::Parked
            } else {
                RedriveOf::Ready
            },
            to,
            dry_run: request.dry_run,
        };
        let end = deadline.checked_sub(ANSWER_TIME).unwrap_or(deadline);
        let (mut moved, mut from) = (0, Position(0));
        while moved < most {
            let page = page_size(most - moved, request.messages_per_second);
            let broker = self.gateway.broker();
            let asked = broker.redrive(target_of(self.queue), from, page, wish.clone());
            let Ok(Ok(Some(step))) = timeout_at(deadline, asked).await else {
                return unless_begun(moved, no_answer(self.queue));
            };
            moved += step.moved;
            if step.busy {
                sleep(BUSY_PAUSE).await;
            } else if !step.sources.is_empty() {
                if let Err(refused) = self.may_write(&step.sources).await {
                    return unless_begun(moved, refused);
                }
                wish.to = RedriveTo::Sources(step.sources);
            } else if let Some(next) = step.next {
                from = next;
                sleep_until(end.min(Instant::now() + self.pause(step.moved))).await;
            } else {
                break;
            }
            if Instant::now() >= end {
                break;
            }
        }
        Ok(moved)
    }

    /// Whether the caller may write to the queues that messages go back to.
    async fn may_write(&self, sources: &[QueueId]) -> Result<(), ApiError> {
        let mut topology = self.gateway.topology();
        if sources.iter().any(|&it| topology.queue_by_id(it).is_none()) {
            let fresh = self.gateway.fresh_topology().await;
            topology = fresh.map_err(|error| of_operation(&error))?;
        }
        // One that is gone by now takes nothing.
        let names = sources.iter().filter_map(|&it| topology.queue_by_id(it));
        for to in names.map(|it| it.name.as_str()) {
            let from = self.queue.name.as_str();
            let operation = Operation::MoveMessages { from, to };
            let vhost = self.queue.vhost;
            let authorised = self.gateway.authorise(self.who, vhost, operation).await;
            authorised.map_err(|error| of_operation(&error))?;
        }
        Ok(())
    }

    /// How long so many messages may take.
    fn pause(&self, moved: u64) -> Duration {
        let per_second = u64::from(self.request.messages_per_second);
        if per_second == 0 || self.request.dry_run {
            return Duration::ZERO;
        }
        Duration::from_micros(moved.saturating_mul(1_000_000) / per_second)
    }
}

/// A call that has sent something answers how much.
fn unless_begun(moved: u64, error: ApiError) -> Result<u64, ApiError> {
    if moved > 0 { Ok(moved) } else { Err(error) }
}

/// So many messages at a time; with a rate, a tenth of a second's at most.
fn page_size(left: u64, per_second: u32) -> usize {
    let left = usize::try_from(left).unwrap_or(usize::MAX);
    let page = left.min(PEEK_MESSAGES_MAX);
    match usize::try_from(per_second).unwrap_or(usize::MAX) {
        0 => page,
        rate => page.min((rate / 10).max(1)),
    }
}
