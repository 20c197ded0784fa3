//! The one decision what happens to a message that leaves its queue otherwise than acked. Not here: who finds that it must leave
//! (`hand_out`, `due`, `limits`, `dispose`), the commit (`applied`).

use warren_types::{Position, Priority, QueueSettings};

use super::applied;
use super::hot::Stored;
use super::in_flight::Flight;
use super::io::LeavingOpening;
use super::proposals::Proposals;
use super::queue::Queue;
use crate::entry::{ParkCause, SettleReason};

/// Why it must leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Leaving {
    /// Its time is up.
    Expired,
    /// The queue is over its limit.
    Overflow,
    /// Too many failed deliveries.
    DeliveryLimit,
}

/// What is proposed about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    Settle(SettleReason),
    /// It stays, set aside (features B49).
    Park(ParkCause),
}

/// The decision, by what is in force for the queue.
pub(super) fn fate(settings: &QueueSettings, why: Leaving) -> Fate {
    match why {
        Leaving::Expired => Fate::Settle(SettleReason::Expired),
        Leaving::Overflow => Fate::Settle(SettleReason::Dropped),
        // A dead letter (the shard's leader moves it), or kept.
        Leaving::DeliveryLimit if settings.dead_letter.is_some() => {
            Fate::Settle(SettleReason::DeliveryLimit)
        }
        Leaving::DeliveryLimit => Fate::Park(ParkCause::DeliveryLimit),
    }
}

/// Messages of a queue with a dead-letter target that may be leaving at once; what is beyond waits where it is. Their moves take longer
/// than a settle, and all of them are in memory meanwhile.
const LEAVING_MAX: u64 = 16_384;

/// How many more may begin to leave now, for other reasons than their consumers'.
pub(super) fn room(queue: &Queue) -> u64 {
    match &queue.settings.dead_letter {
        Some(_) => LEAVING_MAX.saturating_sub(queue.settling),
        None => u64::MAX,
    }
}

/// Messages leave for other queues, as the shard's leader wants it; what is in flight stays.
pub(super) fn take_out(queue: &mut Queue, messages: &[LeavingOpening]) {
    for it in messages {
        if queue.in_flight.get(it.position).is_none() {
            applied::forget(queue, it.position);
            queue.take_leaving_one(it);
        }
    }
}

/// A message that has just come back leaves, as nobody's.
pub(super) fn leave_from_flight(
    queue: &mut Queue,
    position: Position,
    flight: &Flight,
    why: Leaving,
    proposals: &mut Proposals,
) {
    queue.take_settling(position, flight.priority, flight.body_bytes, flight.group);
    proposals.leave(fate(&queue.settings, why), position);
}

/// A ready message that was taken out of its level leaves: nobody holds it until that is committed.
pub(super) fn leave(
    queue: &mut Queue,
    position: Position,
    priority: Priority,
    stored: &Stored,
    why: Leaving,
    proposals: &mut Proposals,
) {
    queue.take_settling(position, priority, stored.body_bytes, stored.group);
    proposals.leave(fate(&queue.settings, why), position);
}
