//! Bindings: create, list, delete. Not here: what they route (`warren-topology`).

use warren_proto::admin_v1;
use warren_proto::admin_v1::DestinationKind;
use warren_proto::convert::error::ApiError;
use warren_proto::convert::value::{table_from_client, table_to_client};
use warren_topology::{
    Bind, BindTo, Binding, Destination, Refusal, Topology, TopologyCommand, Unbind,
};
use warren_types::{ExchangeName, RoutingKey, Table, VhostId, VhostName};

use super::exchanges::exchange_name;
use super::pages::Page;
use super::queues::find;
use super::{NO_USER, TopologyAdmin, check_validate_only};
use crate::auth::Who;
use crate::grpc::error::{bad_argument, of_name, of_operation, of_refusal};
use crate::grpc::open::{owner, queue_name, vhost_name};
use crate::grpc::permit::{may_view_exchange, may_view_queue};
use crate::operations::find_vhost;

/// A binding as a client names it, checked.
struct Named {
    vhost: VhostName,
    space: VhostId,
    source: ExchangeName,
    to: BindTo,
    routing_key: RoutingKey,
    arguments: Table,
}

impl TopologyAdmin {
    pub(super) async fn create_binding_here(
        &self,
        request: admin_v1::CreateBindingRequest,
    ) -> Result<admin_v1::CreateBindingResponse, ApiError> {
        check_validate_only(request.validate_only)?;
        let requester = owner(&request.client_id);
        let named = self.named(request.binding.unwrap_or_default())?;
        let (destination_kind, destination) = match &named.to {
            BindTo::Queue(name) => (DestinationKind::Queue, name.to_string()),
            BindTo::Exchange(name) => (DestinationKind::Exchange, name.to_string()),
        };
        let answer = admin_v1::Binding {
            vhost: named.vhost.to_string(),
            source: named.source.to_string(),
            destination,
            destination_kind: destination_kind.into(),
            routing_key: named.routing_key.to_string(),
            arguments: if named.arguments.is_empty() {
                None
            } else {
                table_to_client(&named.arguments)
            },
        };
        let command = Bind {
            vhost: named.space,
            source: named.source,
            to: named.to,
            routing_key: named.routing_key,
            arguments: named.arguments,
            requester,
        };
        let changed = self
            .gateway
            .change(TopologyCommand::Bind(command), NO_USER)
            .await;
        changed.map_err(|error| of_operation(&error))?;
        Ok(admin_v1::CreateBindingResponse {
            binding: Some(answer),
        })
    }

    pub(super) async fn delete_binding_here(
        &self,
        request: admin_v1::DeleteBindingRequest,
    ) -> Result<admin_v1::DeleteBindingResponse, ApiError> {
        check_validate_only(request.validate_only)?;
        let requester = owner(&request.client_id);
        let named = self.named(request.binding.unwrap_or_default())?;
        let command = Unbind {
            vhost: named.space,
            source: named.source,
            to: named.to,
            routing_key: named.routing_key,
            arguments: named.arguments,
            requester,
        };
        let changed = self
            .gateway
            .change(TopologyCommand::Unbind(command), NO_USER)
            .await;
        changed.map_err(|error| of_operation(&error))?;
        Ok(admin_v1::DeleteBindingResponse {})
    }

    pub(super) async fn list_bindings_here(
        &self,
        who: &Who,
        request: admin_v1::ListBindingsRequest,
    ) -> Result<admin_v1::ListBindingsResponse, ApiError> {
        let vhost = vhost_name(&request.vhost)?;
        let page = Page::new(request.page_size, &request.page_token)?;
        let topology = self
            .gateway
            .fresh_topology()
            .await
            .map_err(|error| of_operation(&error))?;
        let space = find_vhost(&topology, &vhost).map_err(|error| of_operation(&error))?;
        let found = self.found(&topology, space, &vhost, &request)?;
        let mut named: Vec<(String, admin_v1::Binding)> = found
            .into_iter()
            .filter_map(|binding| to_client(&topology, binding, &vhost))
            .filter(|it| may_view_exchange(&topology, who, space, &it.source))
            .filter(|it| match it.destination_kind() {
                DestinationKind::Exchange => {
                    may_view_exchange(&topology, who, space, &it.destination)
                }
                DestinationKind::Unspecified | DestinationKind::Queue => {
                    may_view_queue(&topology, who, space, &it.destination)
                }
            })
            .map(|binding| (order(&binding), binding))
            .collect();
        named.sort_by(|one, other| one.0.cmp(&other.0));
        let rest = named
            .into_iter()
            .filter(|(order, _)| page.after().is_none_or(|after| order.as_str() > after));
        let (bindings, next_page_token) = page.take(rest, |(order, _)| order.clone());
        let bindings = bindings.into_iter().map(|(_, binding)| binding).collect();
        Ok(admin_v1::ListBindingsResponse {
            bindings,
            next_page_token,
        })
    }

    fn found<'a>(
        &self,
        topology: &'a Topology,
        space: VhostId,
        vhost: &VhostName,
        request: &admin_v1::ListBindingsRequest,
    ) -> Result<Vec<&'a Binding>, ApiError> {
        let source = match &request.source {
            Some(source) => {
                let name = exchange_name(source)?;
                let missing = || {
                    of_refusal(&Refusal::NoSuchExchange {
                        vhost: vhost.clone(),
                        exchange: name.clone(),
                    })
                };
                Some(
                    topology
                        .exchange(space, name.as_str())
                        .ok_or_else(missing)?
                        .id,
                )
            }
            None => None,
        };
        if !request.destination.is_empty() {
            let to = self.destination(topology, space, vhost, request)?;
            let to = topology.bindings_into(to);
            return Ok(to
                .filter(|it| source.is_none_or(|source| it.source == source))
                .collect());
        }
        Ok(match source {
            Some(source) => topology.bindings_from(source).collect(),
            None => {
                let exchanges = topology.exchanges_after(space, None);
                exchanges
                    .flat_map(|exchange| topology.bindings_from(exchange.id))
                    .collect()
            }
        })
    }

    fn destination(
        &self,
        topology: &Topology,
        space: VhostId,
        vhost: &VhostName,
        request: &admin_v1::ListBindingsRequest,
    ) -> Result<Destination, ApiError> {
        match kind(request.destination_kind)? {
            Kind::Queue => {
                let name = queue_name(&request.destination)?;
                Ok(Destination::Queue(find(topology, vhost, &name)?.id))
            }
            Kind::Exchange => {
                let name = exchange_name(&request.destination)?;
                let missing = || {
                    of_refusal(&Refusal::NoSuchExchange {
                        vhost: vhost.clone(),
                        exchange: name.clone(),
                    })
                };
                let found = topology.exchange(space, name.as_str());
                Ok(Destination::Exchange(found.ok_or_else(missing)?.id))
            }
        }
    }

    fn named(&self, binding: admin_v1::Binding) -> Result<Named, ApiError> {
        let to = match kind(binding.destination_kind)? {
            Kind::Queue => BindTo::Queue(queue_name(&binding.destination)?),
            Kind::Exchange => BindTo::Exchange(exchange_name(&binding.destination)?),
        };
        let vhost = vhost_name(&binding.vhost)?;
        let space =
            find_vhost(&self.gateway.topology(), &vhost).map_err(|error| of_operation(&error))?;
        let arguments = table_from_client(binding.arguments.unwrap_or_default())
            .map_err(|error| bad_argument("binding.arguments", error.to_string()))?;
        Ok(Named {
            vhost,
            space,
            source: exchange_name(&binding.source)?,
            to,
            routing_key: RoutingKey::try_from(binding.routing_key.as_str())
                .map_err(|error| of_name("binding.routing_key", &error))?,
            arguments,
        })
    }
}

/// What a binding leads to.
enum Kind {
    Queue,
    Exchange,
}

/// # Errors
/// The client names a kind that this version does not know.
fn kind(kind: i32) -> Result<Kind, ApiError> {
    match DestinationKind::try_from(kind) {
        Ok(DestinationKind::Unspecified | DestinationKind::Queue) => Ok(Kind::Queue),
        Ok(DestinationKind::Exchange) => Ok(Kind::Exchange),
        Err(_) => Err(bad_argument("destination_kind", "is unknown")),
    }
}

/// By source, destination, routing key, arguments.
fn order(binding: &admin_v1::Binding) -> String {
    let arguments = binding
        .arguments
        .as_ref()
        .map(|it| format!("{:?}", it.fields))
        .unwrap_or_default();
    format!(
        "{}\u{0}{}\u{0}{}\u{0}{}\u{0}{arguments}",
        binding.source, binding.destination_kind, binding.destination, binding.routing_key
    )
}

/// `None`: one of its ends has gone meanwhile.
fn to_client(
    topology: &Topology,
    binding: &Binding,
    vhost: &VhostName,
) -> Option<admin_v1::Binding> {
    let (destination_kind, destination) = match binding.destination {
        Destination::Queue(queue) => {
            let queue = topology.queue_by_id(queue)?;
            (DestinationKind::Queue, queue.name.to_string())
        }
        Destination::Exchange(exchange) => {
            let exchange = topology.exchange_by_id(exchange)?;
            (DestinationKind::Exchange, exchange.name.to_string())
        }
    };
    Some(admin_v1::Binding {
        vhost: vhost.to_string(),
        source: topology.exchange_by_id(binding.source)?.name.to_string(),
        destination,
        destination_kind: destination_kind.into(),
        routing_key: binding.routing_key.to_string(),
        arguments: if binding.arguments.is_empty() {
            None
        } else {
            table_to_client(&binding.arguments)
        },
    })
}
