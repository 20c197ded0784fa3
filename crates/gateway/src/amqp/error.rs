//! Our errors as AMQP's codes: one exhaustive function per kind of error. Not here: where they are raised.

use warren_amqp::method::basic;
use warren_amqp::{AmqpError, Code};
use warren_proto::convert::hints::HintError;
use warren_shard::TopologyError;
use warren_shard::api::Unavailable;
use warren_topology::{Denied, Refusal, RouteError};
use warren_types::VhostName;

use crate::copies::CopiesError;
use crate::operations::OperationError;

/// What an operation on the topology or a queue failed with.
pub(super) fn operation(error: &OperationError) -> AmqpError {
    let code = match error {
        OperationError::Refused(refusal) => refusal_code(refusal),
        OperationError::Denied(denied) => return self::denied(denied),
        OperationError::Topology(
            TopologyError::NoQuorum
            | TopologyError::NotReady
            | TopologyError::OutcomeUnknown
            | TopologyError::BadAnswer(_),
        )
        | OperationError::Unavailable { .. }
        | OperationError::DepthUnknown { .. }
        | OperationError::UnexpectedReply => Code::InternalError,
        OperationError::Topology(TopologyError::NotFinalised { .. })
        | OperationError::QueueInUse { .. }
        | OperationError::QueueNotEmpty { .. } => Code::PreconditionFailed,
    };
    AmqpError::new(code, error)
}

/// Something that the user may not do.
pub(super) fn denied(denied: &Denied) -> AmqpError {
    let code = match denied {
        Denied::UserGone { .. } => Code::ConnectionForced,
        Denied::OtherUser { .. } => Code::PreconditionFailed,
        Denied::Vhost { .. }
        | Denied::Name { .. }
        | Denied::RoutingKey { .. }
        | Denied::Tag { .. } => Code::AccessRefused,
    };
    AmqpError::new(code, denied)
}

fn refusal_code(refusal: &Refusal) -> Code {
    match refusal {
        Refusal::ClusterNotFormed
        | Refusal::ClusterFormedOtherwise { .. }
        | Refusal::ClusterInvalid { .. }
        | Refusal::NoSuchNode { .. }
        | Refusal::OtherIncarnation { .. } => Code::InternalError,
        Refusal::NoSuchVhost { .. } | Refusal::NoVhostNamed { .. } => Code::NotAllowed,
        Refusal::NoSuchExchange { .. } | Refusal::NoSuchQueue { .. } => Code::NotFound,
        Refusal::NameReserved { .. } | Refusal::DefaultExchange => Code::AccessRefused,
        Refusal::ResourceLocked { .. } => Code::ResourceLocked,
        Refusal::QueueTypeUnavailable { .. }
        | Refusal::InequivalentArgument { .. }
        | Refusal::InvalidArgument { .. }
        | Refusal::ExclusiveWithoutOwner
        | Refusal::ExchangeInUse { .. }
        | Refusal::LimitReached { .. }
        | Refusal::VhostLimitReached { .. } => Code::PreconditionFailed,
        // Of commands that AMQP has no method for.
        Refusal::NoSuchUser { .. }
        | Refusal::UserExists { .. }
        | Refusal::VhostProtected { .. }
        | Refusal::PlacementRefused { .. }
        | Refusal::VersionNotKnown { .. }
        | Refusal::VersionGoesBack { .. }
        | Refusal::SoftwareNotFit { .. }
        | Refusal::BatchInvalid => Code::InternalError,
    }
}

/// Why a message cannot be routed.
pub(super) fn route(error: &RouteError, vhost: &VhostName) -> AmqpError {
    match error {
        RouteError::NoSuchVhost { .. } => AmqpError::new(Code::NotAllowed, error),
        RouteError::NoSuchExchange { .. } => {
            AmqpError::new(Code::NotFound, format_args!("{error} in vhost '{vhost}'"))
        }
        RouteError::InternalExchange { .. } => AmqpError::new(
            Code::AccessRefused,
            format_args!("{error} in vhost '{vhost}'"),
        ),
    }
}

/// CC or BCC of a message are no keys.
pub(super) fn copies(error: CopiesError) -> AmqpError {
    AmqpError::precondition_failed(error).for_method(basic::Publish::ID)
}

/// What a message's properties ask for and cannot have.
pub(super) fn hint(error: &HintError) -> AmqpError {
    let code = match error {
        HintError::BadExpiration => Code::PreconditionFailed,
    };
    AmqpError::new(code, error)
}

/// A queue cannot be reached at the moment.
pub(super) fn unavailable(cause: Unavailable) -> AmqpError {
    let code = match cause {
        Unavailable::NoQuorum
        | Unavailable::NotReady
        | Unavailable::Overloaded
        | Unavailable::DeadlinePassed => Code::InternalError,
        Unavailable::Draining => Code::ConnectionForced,
    };
    AmqpError::new(code, cause)
}

#[cfg(test)]
mod tests {
    use warren_types::QueueName;

    use super::*;

    #[test]
    fn refusals_have_the_codes_of_the_standard() {
        let vhost = VhostName::try_from("/").unwrap();
        let queue = QueueName::try_from("q").unwrap();
        let missing = Refusal::NoSuchQueue {
            vhost: vhost.clone(),
            queue: queue.clone(),
        };
        let error = operation(&OperationError::Refused(missing));
        assert_eq!(error.code(), Code::NotFound);
        assert_eq!(error.text(), "NOT_FOUND - no queue 'q' in vhost '/'");
        let in_use = OperationError::QueueInUse { vhost, queue };
        assert_eq!(operation(&in_use).code(), Code::PreconditionFailed);
        let down = OperationError::Topology(TopologyError::NoQuorum);
        assert_eq!(operation(&down).code(), Code::InternalError);
    }
}
