//! What a connection knows of one channel. Not here: what is done with it (the other files), its frames (`warren-amqp`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use warren_amqp::{ConfirmTracker, DeliveryTag, Publish, Request, Time, UnackedTags};
use warren_shard::Held;
use warren_shard::api::Target;
use warren_types::{ConsumerId, QueueName};

use super::consume::{Attaching, Cancelling};
use super::get::Getting;
use super::lend::Changing;
use super::names::NameCache;
use super::publishes::PublishKey;
use super::reply::ReplyConsumer;
use super::transaction::Transaction;

/// What a queued step is counted as beside its bytes.
const STEP_BYTES: usize = 512;

/// A delivery that the client has not settled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unacked {
    pub(super) consumer: ConsumerId,
    pub(super) target: Target,
    pub(super) held: Held,
    /// When it was delivered.
    pub(super) since: Time,
}

/// Something the client wants of a channel, in the order in which it came.
#[derive(Debug)]
pub(super) enum Step {
    Request(Request),
    Publish(Publish),
    Close,
    /// tx.commit: what is kept is done.
    Commit,
    /// The publishes of a commit are under way: its settles follow.
    CommitSettles,
    /// The settles of a commit are under way: its answer follows.
    CommitOk,
}

impl Step {
    /// What it is counted as while it waits.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Publish(publish) => {
                STEP_BYTES + publish.body.len() + publish.properties.as_wire().len()
            }
            Self::Request(_)
            | Self::Close
            | Self::Commit
            | Self::CommitSettles
            | Self::CommitOk => STEP_BYTES,
        }
    }
}

/// What a channel waits for; its later steps wait behind it.
#[derive(Debug, Default)]
pub(super) enum Busy {
    #[default]
    Free,
    /// An operation on the topology or a question to a queue's leader.
    Operation,
    /// The first waiting step looks into a queue: the channel's own publishes and settles must be done first.
    Behind,
    Attach(Attaching),
    Cancel(Cancelling),
    Get(Box<Getting>),
    Change(Box<Changing>),
}

impl Busy {
    /// When it has waited long enough.
    pub(super) fn until(&self) -> Option<Time> {
        match self {
            Self::Free | Self::Operation | Self::Behind => None,
            Self::Attach(it) => Some(it.until),
            Self::Cancel(it) => Some(it.until),
            Self::Get(it) => Some(it.until),
            Self::Change(it) => Some(it.until),
        }
    }
}

/// Publisher confirms from confirm.select on.
#[derive(Debug)]
pub(super) struct Confirms {
    pub(super) tracker: ConfirmTracker,
    /// The channel's publishes before confirm.select.
    pub(super) before: u64,
}

impl Confirms {
    /// The tag of a publish, by its number on the channel.
    pub(super) fn tag(&self, number: u64) -> Option<DeliveryTag> {
        number
            .checked_sub(self.before)
            .filter(|tag| *tag > 0)
            .map(DeliveryTag)
    }
}

#[derive(Debug, Default)]
pub(super) struct Channel {
    /// This opening of the channel's number: what comes late for an earlier one is told by it.
    pub(super) slot: u32,
    /// Publishes so far.
    pub(super) published: u64,
    /// Publishes without an outcome.
    pub(super) unresolved: u64,
    /// Requests to settle without an answer.
    pub(super) settling: u64,
    pub(super) confirms: Option<Confirms>,
    pub(super) transaction: Option<Box<Transaction>>,
    pub(super) unacked: UnackedTags<Unacked>,
    /// Unacked deliveries that are this client's no more: their ack does nothing but free its credit.
    pub(super) lost: BTreeSet<DeliveryTag>,
    pub(super) consumers: BTreeMap<Box<str>, ConsumerId>,
    /// Its consumer of direct replies.
    pub(super) replies: Option<ReplyConsumer>,
    /// Of consumers to come; 0 = no limit.
    pub(super) prefetch: u16,
    /// Over all of its consumers; 0 = no limit.
    pub(super) shared_limit: u16,
    pub(super) last_queue: Option<QueueName>,
    /// The topology's leader was asked for the next publish: a negative answer may be given.
    pub(super) certain: bool,
    pub(super) names: NameCache,
    pub(super) busy: Busy,
    pub(super) waiting: VecDeque<Step>,
}

impl Channel {
    pub(super) fn new(slot: u32) -> Self {
        Self {
            slot,
            ..Self::default()
        }
    }

    /// Numbers one more publish; its outcome is owed.
    pub(super) fn next_publish(&mut self) -> PublishKey {
        self.published += 1;
        self.unresolved += 1;
        PublishKey {
            slot: self.slot,
            number: self.published,
        }
    }

    pub(super) fn is_free(&self) -> bool {
        matches!(self.busy, Busy::Free)
    }

    /// Nothing is under way and nothing waits.
    pub(super) fn is_done(&self) -> bool {
        self.is_free() && self.waiting.is_empty()
    }
}
