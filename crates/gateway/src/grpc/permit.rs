//! What the calls about vhosts, exchanges, queues and bindings need: one row per request (features E5). Not here: the table of rights
//! (`warren_topology::Operation`), messages (`publish`, `consume`), users (`users`).

use tonic::Request;
use warren_proto::admin_v1::{self, DestinationKind, PolicyKind};
use warren_proto::convert::error::ApiError;
use warren_proto::v1;
use warren_proto::v1::value::Kind;
use warren_topology::{NewQueueName, Operation, Rights, Topology, dead_letter_queue_of};
use warren_types::VhostId;

use super::error::of_operation;
use super::login::caller;
use super::open::vhost_name;
use crate::auth::Who;
use crate::gateway::Gateway;
use crate::operations::find_vhost;

/// A request with what it needs.
pub(super) trait Permit {
    /// In which vhost ("" = "/"), and all that is to be done there.
    fn needs(&self) -> (&str, Vec<Operation<'_>>);
}

/// The caller and its request, if it may.
///
/// # Errors
/// There is no such vhost, or the caller may not do it.
pub(super) async fn permitted<T: Permit>(
    gateway: &Gateway,
    request: Request<T>,
) -> Result<(Who, T), ApiError> {
    let who = caller(request.extensions())?;
    let request = request.into_inner();
    let (vhost, operations) = request.needs();
    let vhost = vhost_id(gateway, vhost).await?;
    for operation in operations {
        let authorised = gateway.authorise(&who, vhost, operation).await;
        authorised.map_err(|error| of_operation(&error))?;
    }
    Ok((who, request))
}

/// The caller, if it may do something that is in no vhost.
///
/// # Errors
/// It may not.
pub(super) async fn permitted_to<T>(
    gateway: &Gateway,
    request: Request<T>,
    operation: Operation<'_>,
) -> Result<(Who, T), ApiError> {
    let who = caller(request.extensions())?;
    let authorised = gateway.authorise(&who, VhostId(0), operation).await;
    authorised.map_err(|error| of_operation(&error))?;
    Ok((who, request.into_inner()))
}

/// A vhost by name: from this node's copy if it is there, else as it is now.
///
/// # Errors
/// There is none.
pub(super) async fn vhost_id(gateway: &Gateway, name: &str) -> Result<VhostId, ApiError> {
    let name = vhost_name(name)?;
    if let Ok(found) = find_vhost(&gateway.topology(), &name) {
        return Ok(found);
    }
    let topology = gateway.fresh_topology().await;
    let found = topology.and_then(|topology| find_vhost(&topology, &name));
    found.map_err(|error| of_operation(&error))
}

/// Opens a vhost for a caller that publishes.
///
/// # Errors
/// There is none, or the caller has no access to it.
pub(super) async fn open_vhost(
    gateway: &Gateway,
    who: &Who,
    name: &str,
) -> Result<Rights, ApiError> {
    let vhost = vhost_id(gateway, name).await?;
    let opened = gateway.authorise(who, vhost, Operation::OpenVhost).await;
    opened.map_err(|error| of_operation(&error))?;
    Ok(who.rights(vhost))
}

/// Entries of a list: what the caller may see at all.
pub(super) fn may_view_queue(topology: &Topology, who: &Who, vhost: VhostId, queue: &str) -> bool {
    let operation = Operation::ViewQueue { queue };
    topology.authorise(who.asker(vhost), operation).is_ok()
}

pub(super) fn may_view_exchange(
    topology: &Topology,
    who: &Who,
    vhost: VhostId,
    exchange: &str,
) -> bool {
    let operation = Operation::ViewExchange { exchange };
    topology.authorise(who.asker(vhost), operation).is_ok()
}

/// A text among a client's arguments.
fn text<'a>(arguments: Option<&'a v1::Table>, name: &str) -> Option<&'a str> {
    match arguments?.fields.get(name)?.kind.as_ref()? {
        Kind::StringValue(text) => Some(text),
        Kind::BytesValue(bytes) => std::str::from_utf8(bytes).ok(),
        Kind::BoolValue(_)
        | Kind::IntValue(_)
        | Kind::DoubleValue(_)
        | Kind::TimeValue(_)
        | Kind::TableValue(_)
        | Kind::ListValue(_) => None,
    }
}

impl Permit for admin_v1::GetVhostRequest {
    fn needs(&self) -> (&str, Vec<Operation<'_>>) {
        (&self.name, vec![Operation::ViewVhost])
    }
}

impl Permit for admin_v1::CreateExchangeRequest {
    fn needs(&self) -> (&str, Vec<Operation<'_>>) {
        let Some(it) = &self.exchange else {
            return ("", vec![Operation::OpenVhost]);
        };
        let operation = if self.passive {
            Operation::ViewExchange { exchange: &it.name }
        } else {
            Operation::DeclareExchange {
                exchange: &it.name,
                alternate: text(it.arguments.as_ref(), "alternate-exchange"),
            }
        };
        (&it.vhost, vec![operation])
    }
}

impl Permit for admin_v1::GetExchangeRequest {
    fn needs(&self) -> (&str, Vec<Operation<'_>>) {
        let exchange = &self.name;
        (&self.vhost, vec![Operation::ViewExchange { exchange }])
    }
}

impl Permit for admin_v1::ListExchangesRequest {
    fn needs(&self) -> (&str, Vec<Operation<'_>>) {
        (&self.vhost, vec![Operation::OpenVhost])
    }
}

impl Permit for admin_v1::DeleteExchangeRequest {
    fn needs(&self) -> (&str, Vec<Operation<'_>>) {
        let exchange = &self.name;
        (&self.vhost, vec![Operation::DeleteExchange { exchange }])
    }
}

impl Permit for admin_v1::CreateQueueRequest {
    fn needs(&self) -> (&str, Vec<Operation<'_>>) {
        let Some(it) = &self.queue else {
            return ("", vec![Operation::OpenVhost]);
        };
        // A name that the server chooses begins like this.
        let queue = if it.name.is_empty() {
            NewQueueName::PREFIX
        } else {
            &it.name
        };
        let operation = if self.passive {
            Operation::ViewQueue { queue }
        } else {
            Operation::DeclareQueue {
                queue,
                dead_letter_exchange: text(it.arguments.as_ref(), "x-dead-letter-exchange"),
            }
        };
        (&it.vhost, vec![operation])
    }
}

/// What the dead-letter queue needs that is made with a queue (`x-dead-letter-queue`): the queue is read for it.
///
/// # Errors
/// The caller may not declare it, or not read the queue.
pub(super) async fn may_declare_dead_letter_queue(
    gateway: &Gateway,
    who: &Who,
    request: &admin_v1::CreateQueueRequest,
) -> Result<(), ApiError> {
    let wanted = request.queue.as_ref().filter(|_| !request.passive);
    let asks = |it: &&admin_v1::Queue| text(it.arguments.as_ref(), "x-dead-letter-queue").is_some();
    let Some(wanted) = wanted.filter(asks) else {
        return Ok(());
    };
    let Some(dead) = dead_letter_queue_of(&wanted.name) else {
        return Ok(());
    };
    let vhost = vhost_id(gateway, &wanted.vhost).await?;
    let operations = [
        Operation::Consume {
            queue: &wanted.name,
        },
        Operation::DeclareQueue {
            queue: dead.as_str(),
            dead_letter_exchange: None,
        },
    ];
    for operation in operations {
        let authorised = gateway.authorise(who, vhost, operation).await;
        authorised.map_err(|error| of_operation(&error))?;
    }
    Ok(())
}

impl Permit for admin_v1::GetQueueRequest {
    fn needs(&self) -> (&str, Vec<Operation<'_>>) {
        let queue = &self.name;
        (&self.vhost, vec![Operation::ViewQueue { queue }])
    }
}

impl Permit for admin_v1::ListQueuesRequest {
    fn needs(&self) -> (&str, Vec<Operation<'_>>) {
        (&self.vhost, vec![Operation::OpenVhost])
    }
}

impl Permit for admin_v1::DeleteQueueRequest {
    fn needs(&self) -> (&str, Vec<Operation<'_>>) {
        let queue = &self.name;
        (&self.vhost, vec![Operation::DeleteQueue { queue }])
    }
}

fn bind(binding: Option<&admin_v1::Binding>) -> (&str, Vec<Operation<'_>>) {
    let Some(it) = binding else {
        return ("", vec![Operation::OpenVhost]);
    };
    let (source, routing_key) = (&*it.source, &*it.routing_key);
    let operation = match it.destination_kind() {
        DestinationKind::Exchange => Operation::BindExchange {
            source,
            destination: &it.destination,
            routing_key,
        },
        DestinationKind::Unspecified | DestinationKind::Queue => Operation::BindQueue {
            source,
            queue: &it.destination,
            routing_key,
        },
    };
    (&it.vhost, vec![operation])
}

impl Permit for admin_v1::CreateBindingRequest {
    fn needs(&self) -> (&str, Vec<Operation<'_>>) {
        bind(self.binding.as_ref())
    }
}

impl Permit for admin_v1::DeleteBindingRequest {
    fn needs(&self) -> (&str, Vec<Operation<'_>>) {
        bind(self.binding.as_ref())
    }
}

impl Permit for admin_v1::ListBindingsRequest {
    fn needs(&self) -> (&str, Vec<Operation<'_>>) {
        (&self.vhost, vec![Operation::OpenVhost])
    }
}

impl Permit for admin_v1::PurgeQueueRequest {
    fn needs(&self) -> (&str, Vec<Operation<'_>>) {
        let queue = &self.queue;
        (&self.vhost, vec![Operation::PurgeQueue { queue }])
    }
}

impl Permit for admin_v1::GetQueueStatsRequest {
    fn needs(&self) -> (&str, Vec<Operation<'_>>) {
        (&self.vhost, view_all(&self.queues))
    }
}

impl Permit for admin_v1::WatchQueueStatsRequest {
    fn needs(&self) -> (&str, Vec<Operation<'_>>) {
        (&self.vhost, view_all(&self.queues))
    }
}

impl Permit for admin_v1::GetVhostLimitsRequest {
    fn needs(&self) -> (&str, Vec<Operation<'_>>) {
        (&self.vhost, vec![Operation::ViewVhost])
    }
}

impl Permit for admin_v1::SetPolicyRequest {
    fn needs(&self) -> (&str, Vec<Operation<'_>>) {
        let Some(it) = &self.policy else {
            return ("", vec![Operation::ChangePolicies]);
        };
        (&it.vhost, vec![change_policies(it.kind())])
    }
}

impl Permit for admin_v1::DeletePolicyRequest {
    fn needs(&self) -> (&str, Vec<Operation<'_>>) {
        (&self.vhost, vec![change_policies(self.kind())])
    }
}

impl Permit for admin_v1::GetPolicyRequest {
    fn needs(&self) -> (&str, Vec<Operation<'_>>) {
        (&self.vhost, vec![Operation::ViewPolicies])
    }
}

impl Permit for admin_v1::ListPoliciesRequest {
    fn needs(&self) -> (&str, Vec<Operation<'_>>) {
        (&self.vhost, vec![Operation::ViewPolicies])
    }
}

impl Permit for admin_v1::GetEffectivePolicyRequest {
    fn needs(&self) -> (&str, Vec<Operation<'_>>) {
        use admin_v1::get_effective_policy_request::Target;
        let operation = match &self.target {
            Some(Target::Queue(queue)) => Operation::ViewQueue { queue },
            Some(Target::Exchange(exchange)) => Operation::ViewExchange { exchange },
            None => Operation::OpenVhost,
        };
        (&self.vhost, vec![operation])
    }
}

/// An operator's policy is the operator's to change: the users it limits may not.
fn change_policies(kind: PolicyKind) -> Operation<'static> {
    match kind {
        PolicyKind::Unspecified | PolicyKind::User => Operation::ChangePolicies,
        PolicyKind::Operator => Operation::ChangeOperatorPolicies,
    }
}

fn view_all(queues: &[String]) -> Vec<Operation<'_>> {
    let queues = queues.iter().map(|queue| Operation::ViewQueue { queue });
    std::iter::once(Operation::OpenVhost)
        .chain(queues)
        .collect()
}
