//! Dead letters are sent back page after page, at a rate, each to a queue that the caller may write to; a selection of messages is moved or
//! deleted in the same way. Not here: the services (`dead_letters`, `selection`), moving a page (`warren-shard`).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use warren_proto::admin_v1;
use warren_proto::convert::error::ApiError;
use warren_shard::{Look, PEEK_MESSAGES_MAX, Redrive, RedriveOf, RedriveTo};
use warren_topology::{Operation, Queue, Refusal};
use warren_types::{Filter, Position, QueueId};

use super::error::of_operation;
use super::filter::filter;
use super::peek::{cursor, no_answer};
use super::permit::Permit;
use crate::auth::Who;
use crate::gateway::Gateway;
use crate::operations::{OperationError, target_of};

/// Messages that one call sends back, at most: the caller repeats it with its cursor.
const REDRIVEN_MAX: u64 = 10_000;
/// While too much is on its way, the next page waits so long.
pub(super) const BUSY_PAUSE: Duration = Duration::from_millis(20);
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

/// What is done with what is meant of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    SendBack(RedriveTo),
    Move(QueueId),
    Reprioritise(u8),
    Delete,
    Expire,
}

impl Doing {
    /// As operations name it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::SendBack(_) => "redrive",
            Self::Move(_) => "move",
            Self::Reprioritise(_) => "reprioritise",
            Self::Delete => "delete",
            Self::Expire => "expire",
        }
    }

    fn to(&self) -> RedriveTo {
        match self {
            Self::SendBack(to) => to.clone(),
            Self::Move(to) => RedriveTo::Queue(*to),
            Self::Reprioritise(priority) => RedriveTo::Priority(*priority),
            Self::Delete => RedriveTo::Nowhere,
            Self::Expire => RedriveTo::DeadLetters,
        }
    }
}

/// Goes through what is meant of a queue, a page at a time.
pub(super) struct Redriving {
    gateway: Gateway,
    who: Who,
    queue: Queue,
    request: admin_v1::RedriveRequest,
    kind: &'static str,
    wish: Redrive,
    filter: Option<Arc<Filter>>,
    /// Where the next page begins; `None` = there is none.
    next: Option<Position>,
    moved: u64,
    skipped: u64,
}

/// What became of a page.
pub(super) enum Step {
    /// So many messages are on their way.
    Sent(u64),
    /// The same page again, as soon as may be.
    Again,
    /// The same page again, after a while: too much is on its way.
    Busy,
}

impl Redriving {
    /// # Errors
    /// The request's filter or cursor is none.
    pub(super) fn new(
        gateway: &Gateway,
        who: Who,
        queue: Queue,
        request: admin_v1::RedriveRequest,
        doing: &Doing,
    ) -> Result<Self, ApiError> {
        let of = if request.parked {
            RedriveOf::Parked
        } else {
            RedriveOf::Ready
        };
        Ok(Self {
            gateway: gateway.clone(),
            who,
            queue,
            kind: doing.kind(),
            wish: Redrive {
                of,
                to: doing.to(),
                dry_run: request.dry_run,
            },
            filter: filter(&request.filter)?,
            next: Some(cursor(&request.cursor)?),
            moved: 0,
            skipped: 0,
            request,
        })
    }

    /// Sends pages back until there are no more, or enough, or the time is up.
    ///
    /// # Errors
    /// The first page could not be sent: its leader says nothing, or a queue on it may not be written to. What stops a later page is
    /// told to the next call.
    pub(super) async fn run(
        mut self,
        deadline: Instant,
    ) -> Result<admin_v1::RedriveResponse, ApiError> {
        let most = match self.request.limit {
            0 if self.request.dry_run => u64::MAX,
            0 => REDRIVEN_MAX,
            limit if self.request.dry_run => limit,
            limit => limit.min(REDRIVEN_MAX),
        };
        let end = deadline.checked_sub(ANSWER_TIME).unwrap_or(deadline);
        let first = self.next;
        while self.moved < most && self.next.is_some() {
            let step = timeout_at(deadline, self.step(most - self.moved)).await;
            match step.unwrap_or_else(|_| Err(no_answer(&self.queue))) {
                Ok(Step::Sent(moved)) => {
                    sleep_until(end.min(Instant::now() + self.pause(moved))).await;
                }
                Ok(Step::Again) => {}
                Ok(Step::Busy) => sleep(BUSY_PAUSE).await,
                Err(error) if self.next == first => return Err(error),
                Err(_) => break,
            }
            if Instant::now() >= end {
                break;
            }
        }
        Ok(admin_v1::RedriveResponse {
            operation_id: String::new(),
            messages: self.moved,
            next_cursor: self.next.map_or_else(String::new, |it| it.0.to_string()),
        })
    }

    /// A page with at most so many messages.
    ///
    /// # Errors
    /// Its leader says nothing: some may be on their way. A queue on it may not be written to: none is.
    pub(super) async fn step(&mut self, left: u64) -> Result<Step, ApiError> {
        let Some(from) = self.next else {
            return Ok(Step::Sent(0));
        };
        let look = Look {
            from,
            max: page_size(left, self.request.messages_per_second),
            filter: self.filter.clone(),
        };
        let target = target_of(&self.queue);
        let asked = self
            .gateway
            .broker()
            .redrive(target, look, self.wish.clone());
        let Ok(Some(step)) = asked.await else {
            return Err(self.no_answer());
        };
        if step.busy {
            return Ok(Step::Busy);
        }
        if !step.sources.is_empty() {
            self.may_write(&step.sources).await?;
            self.wish.to = RedriveTo::Sources(step.sources);
            return Ok(Step::Again);
        }
        self.moved += step.moved;
        self.skipped += step.skipped;
        self.next = step.next;
        Ok(Step::Sent(step.moved))
    }

    /// The next page of a job, if its caller may still do this.
    ///
    /// # Errors
    /// As [`Redriving::step`].
    pub(super) async fn checked_step(&mut self) -> Result<Step, ApiError> {
        self.may_go_on().await?;
        self.step(self.left()).await
    }

    /// Whether the caller may still do this, with the queues that are known to be written to.
    ///
    /// # Errors
    /// The right was taken, or the queue is gone.
    pub(super) async fn may_go_on(&self) -> Result<(), ApiError> {
        let queue = self.queue.name.as_str();
        let operations = match self.wish.to {
            RedriveTo::Nowhere | RedriveTo::DeadLetters => {
                vec![Operation::PurgeQueue { queue }]
            }
            RedriveTo::Queue(_) | RedriveTo::Sources(_) | RedriveTo::Priority(_) => {
                self.request.needs().1
            }
        };
        for operation in operations {
            let vhost = self.queue.vhost;
            let authorised = self.gateway.authorise(&self.who, vhost, operation).await;
            authorised.map_err(|error| of_operation(&error))?;
        }
        if let RedriveTo::Sources(sources) = &self.wish.to {
            self.may_write(sources).await?;
        }
        if self.gateway.topology().queue_by_id(self.queue.id).is_none() {
            return Err(self.no_answer());
        }
        Ok(())
    }

    /// The same, which only counts. A job without a limit ends after as many: what comes back meanwhile is not meant.
    pub(super) fn counting(&self) -> Self {
        Self {
            gateway: self.gateway.clone(),
            who: self.who.clone(),
            queue: self.queue.clone(),
            kind: self.kind,
            request: admin_v1::RedriveRequest {
                dry_run: true,
                messages_per_second: 0,
                ..self.request.clone()
            },
            wish: Redrive {
                dry_run: true,
                ..self.wish.clone()
            },
            filter: self.filter.clone(),
            next: self.next,
            moved: 0,
            skipped: 0,
        }
    }

    /// Ends after so many messages.
    pub(super) fn limit(&mut self, messages: u64) {
        self.request.limit = messages;
    }

    pub(super) fn request(&self) -> &admin_v1::RedriveRequest {
        &self.request
    }

    pub(super) fn kind(&self) -> &'static str {
        self.kind
    }

    pub(super) fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Messages on their way, and messages that have no target.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.moved, self.skipped)
    }

    /// There are no more, or it was enough.
    pub(super) fn is_done(&self) -> bool {
        self.next.is_none() || self.left() == 0
    }

    fn left(&self) -> u64 {
        match self.request.limit {
            0 => u64::MAX,
            limit => limit.saturating_sub(self.moved),
        }
    }

    fn no_answer(&self) -> ApiError {
        let topology = self.gateway.topology();
        let vhost = topology.vhost_by_id(self.queue.vhost);
        let is_recent = self.gateway.broker().topology().is_recent();
        match vhost {
            Some(vhost) if is_recent && topology.queue_by_id(self.queue.id).is_none() => {
                of_operation(&OperationError::Refused(Refusal::NoSuchQueue {
                    vhost: vhost.name.clone(),
                    queue: self.queue.name.clone(),
                }))
            }
            Some(_) | None => no_answer(&self.queue),
        }
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
            let authorised = self.gateway.authorise(&self.who, vhost, operation).await;
            authorised.map_err(|error| of_operation(&error))?;
        }
        Ok(())
    }

    /// How long so many messages may take.
    pub(super) fn pause(&self, moved: u64) -> Duration {
        let per_second = u64::from(self.request.messages_per_second);
        if per_second == 0 || self.request.dry_run {
            return Duration::ZERO;
        }
        Duration::from_micros(moved.saturating_mul(1_000_000) / per_second)
    }
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
