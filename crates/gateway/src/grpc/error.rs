//! What gRPC clients are told when something fails: one exhaustive function per error to a reason. Not here: reasons and their codes
//! (`proto`), AMQP's codes (`amqp`).

use warren_proto::convert::error::ApiError;
use warren_proto::convert::publish;
use warren_proto::convert::reason::Reason;
use warren_proto::v1::{PublishResult, SettleOutcome};
use warren_shard::api::Unavailable;
use warren_shard::{CopiesError, HandOverError, SettleResult, TopologyError};
use warren_topology::plan::CopiesRefused;
use warren_topology::{Denied, Refusal, Topology};
use warren_types::{Alarm, NameError, QueueId};

use crate::operations::OperationError;
use crate::publish::Refused;

/// What the topology refused.
pub(super) fn of_refusal(refusal: &Refusal) -> ApiError {
    let error = ApiError::new(reason_of(refusal), refusal.to_string());
    match refusal {
        Refusal::NoSuchExchange { exchange, .. } | Refusal::ExchangeInUse { exchange, .. } => {
            error.resource("exchange", exchange.as_str())
        }
        Refusal::NoSuchQueue { queue, .. } | Refusal::ResourceLocked { queue, .. } => {
            error.resource("queue", queue.as_str())
        }
        Refusal::InequivalentArgument {
            object,
            name,
            argument,
            ..
        }
        | Refusal::InvalidArgument {
            object,
            name,
            argument,
            ..
        } => error
            .with("argument", argument)
            .resource(&object.to_string(), &**name),
        Refusal::NameReserved { object, name } => error.resource(&object.to_string(), &**name),
        Refusal::ClusterNotFormed
        | Refusal::ClusterFormedOtherwise { .. }
        | Refusal::ClusterInvalid { .. }
        | Refusal::NoSuchNode { .. }
        | Refusal::OtherIncarnation { .. }
        | Refusal::NoSuchVhost { .. }
        | Refusal::DefaultExchange
        | Refusal::QueueTypeUnavailable { .. }
        | Refusal::ExclusiveWithoutOwner
        | Refusal::LimitReached { .. }
        | Refusal::VhostLimitReached { .. }
        | Refusal::PlacementRefused { .. }
        | Refusal::VersionNotKnown { .. }
        | Refusal::VersionGoesBack { .. }
        | Refusal::SoftwareNotFit { .. }
        | Refusal::BatchInvalid => error,
        Refusal::NoVhostNamed { vhost } | Refusal::VhostProtected { vhost } => {
            error.resource("vhost", vhost.as_str())
        }
        Refusal::NoSuchUser { user } | Refusal::UserExists { user } => {
            error.resource("user", user.as_str())
        }
    }
}

fn reason_of(refusal: &Refusal) -> Reason {
    match refusal {
        Refusal::ClusterNotFormed => Reason::NotReady,
        Refusal::ClusterFormedOtherwise { .. }
        | Refusal::ClusterInvalid { .. }
        | Refusal::NoSuchNode { .. }
        | Refusal::OtherIncarnation { .. }
        | Refusal::InvalidArgument { .. }
        | Refusal::ExclusiveWithoutOwner => Reason::BadArgument,
        Refusal::NoSuchVhost { .. } => Reason::VhostNotFound,
        Refusal::NoSuchExchange { .. } => Reason::ExchangeNotFound,
        Refusal::NoSuchQueue { .. } => Reason::QueueNotFound,
        Refusal::NameReserved { .. } | Refusal::DefaultExchange => Reason::AccessRefused,
        Refusal::QueueTypeUnavailable { .. } => Reason::UnsupportedFeature,
        Refusal::InequivalentArgument { .. } => Reason::InequivalentArgument,
        Refusal::ResourceLocked { .. } => Reason::ResourceLocked,
        Refusal::ExchangeInUse { .. } => Reason::InUse,
        Refusal::LimitReached { .. } | Refusal::VhostLimitReached { .. } => Reason::LimitReached,
        Refusal::NoVhostNamed { .. } => Reason::VhostNotFound,
        Refusal::NoSuchUser { .. } => Reason::UserNotFound,
        Refusal::UserExists { .. } => Reason::InequivalentArgument,
        Refusal::VhostProtected { .. } => Reason::InUse,
        Refusal::BatchInvalid => Reason::Bug,
        Refusal::PlacementRefused { .. } => Reason::BadArgument,
        Refusal::VersionNotKnown { .. }
        | Refusal::VersionGoesBack { .. }
        | Refusal::SoftwareNotFit { .. } => Reason::VersionMismatch,
    }
}

/// The topology could not be read or changed.
pub(super) fn of_topology(error: &TopologyError) -> ApiError {
    let reason = match error {
        TopologyError::NoQuorum => Reason::NoQuorum,
        TopologyError::NotReady => Reason::NotReady,
        TopologyError::OutcomeUnknown => Reason::OutcomeUnknown,
        TopologyError::BadAnswer(_) => Reason::Bug,
        TopologyError::NotFinalised { .. } => Reason::NotFinalized,
    };
    ApiError::new(reason, error.to_string())
}

/// A leadership was not handed over.
pub(super) fn of_hand_over(error: HandOverError) -> ApiError {
    let reason = match error {
        HandOverError::NoSuchGroup(_) | HandOverError::NoVoter => Reason::BadArgument,
        HandOverError::NoLeader => Reason::NoQuorum,
        HandOverError::NotCaughtUp | HandOverError::NotReady => Reason::NotReady,
        HandOverError::Unknown => Reason::OutcomeUnknown,
    };
    ApiError::new(reason, error.to_string())
}

/// The copies of a shard were not changed.
pub(super) fn of_copies(error: &CopiesError) -> ApiError {
    let refused = match error {
        CopiesError::Refused(refused) => refused,
        CopiesError::Topology(error) => return of_topology(error),
        CopiesError::Placement(refusal) => return of_refusal(refusal),
    };
    let field = |field| bad_argument(field, refused.to_string());
    let reason = match refused {
        CopiesRefused::NoSuchShard(_) | CopiesRefused::Topology => return field("shard"),
        CopiesRefused::NoSuchNode(_) => return field("node_id"),
        CopiesRefused::Count { .. } => return field("copies"),
        CopiesRefused::Changing(_) => Reason::NotReady,
        CopiesRefused::NoLeader(_) => Reason::NoQuorum,
        CopiesRefused::Leaving(_)
        | CopiesRefused::Draining(_)
        | CopiesRefused::NotUp(_)
        | CopiesRefused::InDoubt(_)
        | CopiesRefused::LastCopy(_)
        | CopiesRefused::NoMajority { .. } => Reason::CopiesRefused,
    };
    ApiError::new(reason, refused.to_string())
}

/// A shard cannot serve now.
pub(super) fn of_unavailable(why: Unavailable) -> ApiError {
    let reason = match why {
        Unavailable::NoQuorum => Reason::NoQuorum,
        Unavailable::NotReady => Reason::NotReady,
        Unavailable::Draining => Reason::NodeDraining,
        Unavailable::Overloaded => Reason::LimitReached,
        Unavailable::DeadlinePassed => Reason::NotStarted,
    };
    ApiError::new(reason, why.to_string())
}

/// A node that would have to keep the message is short of something.
pub(super) fn of_alarm(alarm: Alarm) -> ApiError {
    let reason = match alarm {
        Alarm::Memory => Reason::MemoryLow,
        Alarm::Disk => Reason::DiskLow,
    };
    let text = format!("a node that would have to keep the message is short of {alarm}");
    ApiError::new(reason, text)
}

pub(super) fn of_operation(error: &OperationError) -> ApiError {
    let (reason, queue) = match error {
        OperationError::Refused(refusal) => return of_refusal(refusal),
        OperationError::Denied(denied) => return of_denied(denied),
        OperationError::Topology(error) => return of_topology(error),
        OperationError::Unavailable { cause, queue } => {
            return of_unavailable(*cause).resource("queue", queue.as_str());
        }
        OperationError::DepthUnknown { queue } => (Reason::DepthUnknown, queue),
        OperationError::QueueInUse { queue, .. } => (Reason::InUse, queue),
        OperationError::QueueNotEmpty { queue, .. } => (Reason::NotEmpty, queue),
        OperationError::UnexpectedReply => return ApiError::new(Reason::Bug, error.to_string()),
    };
    ApiError::new(reason, error.to_string()).resource("queue", queue.as_str())
}

/// Something that the user may not do.
pub(super) fn of_denied(denied: &Denied) -> ApiError {
    let reason = match denied {
        Denied::UserGone { .. } => Reason::BadCredentials,
        Denied::OtherUser { .. } => Reason::UserIdMismatch,
        Denied::Vhost { .. }
        | Denied::Name { .. }
        | Denied::RoutingKey { .. }
        | Denied::Tag { .. } => Reason::AccessRefused,
    };
    ApiError::new(reason, denied.to_string())
}

/// A name that is none.
pub(super) fn of_name(field: &str, error: &NameError) -> ApiError {
    bad_argument(field, error.to_string())
}

pub(super) fn bad_argument(field: &str, text: impl Into<String>) -> ApiError {
    let text = text.into();
    ApiError::new(Reason::BadArgument, format!("{field}: {text}")).field(field, text)
}

pub(super) fn unsupported(what: &str) -> ApiError {
    ApiError::new(
        Reason::UnsupportedFeature,
        format!("{what} is not available"),
    )
    .with("feature", what)
}

/// The result of a published message that was refused.
pub(super) fn refused_publish(index: u32, refused: &Refused, topology: &Topology) -> PublishResult {
    let error = match refused {
        Refused::NotStored { queue, why } => {
            return publish::not_stored(index, &queue_name(topology, *queue), *why);
        }
        Refused::Unavailable(why) => of_unavailable(*why),
        Refused::Low(alarm) => of_alarm(*alarm),
        Refused::OverQuota => over_quota(),
        Refused::CrossShard => ApiError::new(
            Reason::CrossShard,
            "the queues of an atomic batch must share a shard: x-placement-group sees to it",
        ),
        Refused::TogetherTooLarge { bytes, limit } => ApiError::new(
            Reason::MessageTooLarge,
            format!(
                "the messages of an atomic batch, counted for each queue they go to, have {bytes} bytes; the limit is {limit}"
            ),
        ),
        Refused::Aborted => aborted(),
        Refused::OutOfOrder => out_of_order(),
        Refused::NoResponders { queue } => {
            let text = "no queue that takes the message has a consumer";
            let error = ApiError::new(Reason::NoResponders, text);
            match queue {
                Some(queue) => error.resource("queue", queue_name(topology, *queue)),
                None => error,
            }
        }
        Refused::Unknown => ApiError::new(
            Reason::OutcomeUnknown,
            "whether the message is stored is not known",
        ),
        Refused::Denied(denied) => of_denied(denied),
        Refused::NoSuchVhost => ApiError::new(Reason::VhostNotFound, "there is no such vhost"),
        Refused::NoSuchExchange { exchange } => ApiError::new(
            Reason::ExchangeNotFound,
            format!("no exchange '{exchange}'"),
        )
        .resource("exchange", &**exchange),
        Refused::InternalExchange { exchange } => {
            let text = format!("exchange '{exchange}' is internal: clients cannot publish to it");
            ApiError::new(Reason::AccessRefused, text).resource("exchange", &**exchange)
        }
    };
    publish::refused(index, &error)
}

/// A vhost is full.
pub(super) fn over_quota() -> ApiError {
    let text = "the vhost stores as many bytes of messages as it may";
    ApiError::new(Reason::OverQuota, text)
}

/// What is to come again first may go where this goes.
pub(super) fn out_of_order() -> ApiError {
    let text = "what its producer sent before it was refused for now, and is to come again first";
    ApiError::new(Reason::NotReady, text)
}

/// Another message of the same atomic batch was refused.
pub(super) fn aborted() -> ApiError {
    ApiError::new(
        Reason::BatchAborted,
        "another message of the atomic batch was refused",
    )
}

/// A queue's name, or its number if it is gone.
pub(super) fn queue_name(topology: &Topology, queue: QueueId) -> String {
    topology
        .queue_by_id(queue)
        .map_or_else(|| queue.to_string(), |it| it.name.to_string())
}

/// The outcome of a settle, with an error where it was not done.
pub(super) fn of_settle(result: SettleResult) -> (SettleOutcome, Option<ApiError>) {
    let (outcome, reason, text) = match result {
        SettleResult::Done => return (SettleOutcome::Done, None),
        SettleResult::AlreadySettled => (
            SettleOutcome::AlreadySettled,
            Reason::AlreadySettled,
            "the delivery was settled before",
        ),
        SettleResult::NotOwner => (
            SettleOutcome::NotOwner,
            Reason::NotOwner,
            "another consumer has the message, or had it last",
        ),
        SettleResult::Expired => (
            SettleOutcome::Expired,
            Reason::Expired,
            "the delivery had returned to its queue",
        ),
        SettleResult::QueueGone => (
            SettleOutcome::Refused,
            Reason::QueueNotFound,
            "the queue is gone",
        ),
        SettleResult::OutputRefused { .. } => (
            SettleOutcome::Refused,
            Reason::BatchAborted,
            "a message that comes with it is not stored: nothing was done",
        ),
        SettleResult::DeadLetter => (
            SettleOutcome::Refused,
            Reason::BatchAborted,
            "a dead letter of it goes to no queue, or too many are on their way: nothing was done",
        ),
    };
    (outcome, Some(ApiError::new(reason, text)))
}

#[cfg(test)]
mod tests {
    use warren_types::NotStored;

    use super::*;

    #[test]
    fn unavailable_is_always_told_with_a_delay() {
        let all = [
            Unavailable::NoQuorum,
            Unavailable::NotReady,
            Unavailable::Draining,
            Unavailable::Overloaded,
        ];
        for why in all {
            assert!(of_unavailable(why).retry_delay().is_some(), "{why}");
        }
        for alarm in [Alarm::Memory, Alarm::Disk] {
            assert!(of_alarm(alarm).retry_delay().is_some(), "{alarm}");
        }
        for error in [TopologyError::NoQuorum, TopologyError::NotReady] {
            assert!(of_topology(&error).retry_delay().is_some(), "{error}");
        }
    }

    #[test]
    fn refused_copies_are_told_with_a_delay_only_where_waiting_helps() {
        let group = warren_types::GroupId(5);
        let told = |refused| of_copies(&CopiesError::Refused(refused));
        for refused in [
            CopiesRefused::Changing(group),
            CopiesRefused::NoLeader(group),
        ] {
            assert!(told(refused).retry_delay().is_some(), "{refused}");
        }
        let last = told(CopiesRefused::LastCopy(group));
        assert_eq!(last.reason(), Reason::CopiesRefused);
        assert_eq!(last.retry_delay(), None);
        let nowhere = told(CopiesRefused::NoSuchShard(group));
        assert_eq!(nowhere.reason(), Reason::BadArgument);
    }

    #[test]
    fn refused_message_names_the_queue_by_number_if_it_is_gone() {
        let refused = Refused::NotStored {
            queue: QueueId(7),
            why: NotStored::QueueFull,
        };
        let result = refused_publish(3, &refused, &Topology::new());
        let error = ApiError::from_status(result.error.as_ref().unwrap()).unwrap();
        assert_eq!((result.index, error.reason()), (3, Reason::QueueFull));
        assert_eq!(error.metadata().get("queue").unwrap(), "7");
    }

    #[test]
    fn settle_that_was_done_has_no_error() {
        assert_eq!(of_settle(SettleResult::Done), (SettleOutcome::Done, None));
        let (outcome, error) = of_settle(SettleResult::NotOwner);
        assert_eq!(
            (outcome, error.unwrap().reason()),
            (SettleOutcome::NotOwner, Reason::NotOwner)
        );
    }
}
