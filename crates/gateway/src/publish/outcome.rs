//! What became of a published message. Not here: which answers say so (`tracker`), what clients are told (`grpc`, `amqp`).

use warren_shard::api::Unavailable;
use warren_topology::Denied;
use warren_types::{Alarm, NotStored, Position, QueueId};

/// What became of a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// On the disks of a majority for so many queues.
    Committed { queues: u32 },
    /// The same; in these queues it waits to be due.
    Scheduled { queues: u32, places: Vec<Place> },
    /// Every target had it before, under the same producer and sequence.
    Duplicate,
    /// No queue takes it, or every one it was routed to is gone; stored nowhere.
    Unrouted,
    /// Not stored in at least one target; the others keep it.
    Refused(Refused),
}

impl Outcome {
    /// As [`Refused::is_for_now`].
    pub(super) fn is_for_now(&self) -> bool {
        matches!(self, Self::Refused(why) if why.is_for_now())
    }
}

/// A message in a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) queue: QueueId,
    pub(crate) position: Position,
}

/// Why a message was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    /// By this queue; never a duplicate or a queue that is gone.
    NotStored {
        queue: QueueId,
        why: NotStored,
    },
    /// It was not begun: safe to try again.
    Unavailable(Unavailable),
    /// A node that would have to keep it is short of this: safe to try again.
    Low(Alarm),
    /// The vhost stores as many bytes as it may: safe to try again.
    OverQuota,
    /// Its atomic batch goes to queues of several shards.
    CrossShard,
    /// The messages of its atomic batch, counted for each queue they go to, have more bytes than one entry may.
    TogetherTooLarge {
        bytes: u64,
        limit: u64,
    },
    /// Another message of its atomic batch was refused.
    Aborted,
    /// What its producer sent before it to one of its shards was refused for now, and is to come again first.
    OutOfOrder,
    /// It wants a consumer, and none of its queues has one; the first of them, if there is any.
    NoResponders {
        queue: Option<QueueId>,
    },
    /// Whether it is stored is not known.
    Unknown,
    /// AMQP 0-9-1: 403.
    Denied(Denied),
    NoSuchVhost,
    /// AMQP 0-9-1: 404.
    NoSuchExchange {
        exchange: Box<str>,
    },
    /// AMQP 0-9-1: 403.
    InternalExchange {
        exchange: Box<str>,
    },
}

impl Refused {
    /// Where it goes takes nothing for now: its publisher is told to send it again, and does so before anything later that goes there. What
    /// may be stored comes to its place by itself.
    pub(crate) fn is_for_now(&self) -> bool {
        match self {
            Self::Unavailable(why) => match why {
                Unavailable::NoQuorum
                | Unavailable::NotReady
                | Unavailable::Draining
                | Unavailable::DeadlinePassed => true,
                Unavailable::Overloaded => false,
            },
            Self::Low(_) | Self::OutOfOrder => true,
            // Clients take these for an end.
            Self::NotStored { .. }
            | Self::OverQuota
            | Self::CrossShard
            | Self::TogetherTooLarge { .. }
            | Self::Aborted
            | Self::NoResponders { .. }
            | Self::Unknown
            | Self::Denied(_)
            | Self::NoSuchVhost
            | Self::NoSuchExchange { .. }
            | Self::InternalExchange { .. } => false,
        }
    }
}
