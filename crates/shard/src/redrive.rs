//! Sending dead letters back (features X6), moving or deleting a selection (X10): what the leader is asked and what it tells. Not here: doing it (`leader::redrive`).

use tokio::sync::oneshot;
use warren_types::{Position, QueueId};

use crate::Broker;
use crate::api::{Target, Unavailable};
use crate::peek::Look;
use crate::uplink::door::{Ask, Request};

/// Which messages of a queue are redriven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedriveOf {
    Ready,
    /// What is set aside; it came from the queue itself.
    Parked,
}

/// Where redriven messages go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedriveTo {
    /// All to this one.
    Queue(QueueId),
    /// Each to the queue it came from, which must be one of these: who asks may write to them. At most
    /// [`crate::PEEK_MESSAGES_MAX`].
    Sources(Vec<QueueId>),
    /// They are deleted (features X10).
    Nowhere,
    /// They stay in their queue, at its end, under this priority, as publishers name it (X10). What has it already is not meant.
    Priority(u8),
    /// They leave as if their time were up: dead letters, if the queue has a target (X10). Only what is ready.
    DeadLetters,
}

/// What is to become of a page of messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redrive {
    pub of: RedriveOf,
    pub to: RedriveTo,
    /// Only count.
    pub dry_run: bool,
}

/// What became of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedriveStep {
    /// Messages on their way now (or that would be): each is stored once at its target, or ready here again if that refuses it.
    pub moved: u64,
    /// Messages whose target is not known or not there.
    pub skipped: u64,
    /// Too much is on its way: nothing was done, ask for the page again.
    pub busy: bool,
    /// The queues that the page came from, when not all of them were named: nothing was done, ask again with those that may be
    /// written to.
    pub sources: Vec<QueueId>,
    /// Where to go on; `None` = the end.
    pub next: Option<Position>,
}

impl Broker {
    /// Redrives what is ready of a page of a queue's messages. `None`: the leader has no such queue (yet).
    ///
    /// # Errors
    /// The leader could not be asked, or its answer was lost: some may be on their way.
    pub async fn redrive(
        &self,
        target: Target,
        look: Look,
        wish: Redrive,
    ) -> Result<Option<RedriveStep>, Unavailable> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Ask(Ask::Redrive {
            queue: target.queue,
            look,
            wish,
            reply,
        });
        self.ask(target.shard, request).await?;
        answer.await.map_err(|_| Unavailable::NoQuorum)
    }
}
