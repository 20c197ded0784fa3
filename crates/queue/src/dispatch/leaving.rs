//! The one decision what happens to a message that leaves its queue otherwise than acked. Not here: who finds that it must leave
//! (`hand_out`, `due`, `limits`, `dispose`), the commit (`applied`).

use warren_types::{Attempt, Position, Priority, QueueSettings};

use super::consumer::Holder;
use super::hot::Stored;
use super::in_flight::{Flight, State};
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
pub(super) fn fate(_settings: &QueueSettings, why: Leaving) -> Fate {
    match why {
        Leaving::Expired => Fate::Settle(SettleReason::Expired),
        Leaving::Overflow => Fate::Settle(SettleReason::Dropped),
        Leaving::DeliveryLimit => Fate::Park(ParkCause::DeliveryLimit),
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
    queue.in_flight.insert(
        position,
        Flight {
            priority: flight.priority,
            body_bytes: flight.body_bytes,
            state: State::Settling,
            ..Flight::claimed(Attempt::default(), Holder::NOBODY)
        },
    );
    queue.settling += 1;
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
    let flight = Flight::claimed(Attempt::default(), Holder::NOBODY).verified(priority, stored);
    queue.in_flight.insert(
        position,
        Flight {
            state: State::Settling,
            ..flight
        },
    );
    queue.settling += 1;
    queue.claimed_end = queue.claimed_end.max(position.plus(1));
    proposals.leave(fate(&queue.settings, why), position);
}
