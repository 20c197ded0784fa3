//! Bindings: create, list, delete.

use warren_proto::admin_v1::{self, DestinationKind};
use warren_types::Table;

use super::{PAGE_SIZE, plain_table, request_id, vhost_or_default, wire_table};
use crate::{
    connection::{Attempt, Connection},
    error::Error,
};

/// Where a binding leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BindingDestination {
    Queue(String),
    Exchange(String),
}

impl BindingDestination {
    fn into_wire(self) -> (String, i32) {
        match self {
            Self::Queue(name) => (name, DestinationKind::Queue.into()),
            Self::Exchange(name) => (name, DestinationKind::Exchange.into()),
        }
    }
}

/// A binding. Source, routing key, arguments and destination together are its identity.
#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    /// Empty = "/".
    pub vhost: String,
    /// The exchange messages come from.
    pub source: String,
    pub destination: BindingDestination,
    pub routing_key: String,
    pub arguments: Table,
}

/// Which bindings to list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BindingFilter {
    /// Empty = "/".
    pub vhost: String,
    /// Only from this exchange.
    pub source: Option<String>,
    /// Only to this queue or exchange.
    pub destination: Option<BindingDestination>,
}

impl Connection {
    /// Binds; a binding that exists is a success.
    ///
    /// # Errors
    /// `QUEUE_NOT_FOUND`, `EXCHANGE_NOT_FOUND`; no node answers in time.
    pub async fn create_binding(&self, binding: &Binding) -> Result<(), Error> {
        let request = admin_v1::CreateBindingRequest {
            binding: Some(wire_binding(binding)),
            validate_only: false,
            request_id: request_id(),
            client_id: self.options().client_id.clone(),
        };
        let call = |attempt: Attempt| {
            let request = attempt.request(request.clone());
            async move { attempt.topology().create_binding(request).await }
        };
        self.call("creating a binding", call).await.map(|_| ())
    }

    /// The bindings that match.
    ///
    /// # Errors
    /// No node answers in time.
    pub async fn bindings(&self, filter: &BindingFilter) -> Result<Vec<Binding>, Error> {
        let (destination, destination_kind) = match filter.destination.clone() {
            Some(it) => it.into_wire(),
            None => (String::new(), DestinationKind::Unspecified.into()),
        };
        let request = admin_v1::ListBindingsRequest {
            vhost: filter.vhost.clone(),
            source: filter.source.clone(),
            destination,
            destination_kind,
            page_size: PAGE_SIZE,
            page_token: String::new(),
        };
        let call = |attempt: Attempt, page_token: String| {
            let request = attempt.request(admin_v1::ListBindingsRequest {
                page_token,
                ..request.clone()
            });
            async move { attempt.topology().list_bindings(request).await }
        };
        let mut list = Vec::new();
        let take = |page: admin_v1::ListBindingsResponse| {
            for binding in page.bindings {
                list.push(plain_binding(binding)?);
            }
            Ok(page.next_page_token)
        };
        self.pages("listing bindings", call, take).await?;
        Ok(list)
    }

    /// Removes a binding; one that does not exist is a success.
    ///
    /// # Errors
    /// No node answers in time.
    pub async fn delete_binding(&self, binding: &Binding) -> Result<(), Error> {
        let request = admin_v1::DeleteBindingRequest {
            binding: Some(wire_binding(binding)),
            validate_only: false,
            request_id: request_id(),
            client_id: self.options().client_id.clone(),
        };
        let call = |attempt: Attempt| {
            let request = attempt.request(request.clone());
            async move { attempt.topology().delete_binding(request).await }
        };
        self.call("deleting a binding", call).await.map(|_| ())
    }
}

fn wire_binding(binding: &Binding) -> admin_v1::Binding {
    let (destination, destination_kind) = binding.destination.clone().into_wire();
    admin_v1::Binding {
        vhost: binding.vhost.clone(),
        source: binding.source.clone(),
        destination,
        destination_kind,
        routing_key: binding.routing_key.clone(),
        arguments: wire_table(&binding.arguments),
    }
}

fn plain_binding(wire: admin_v1::Binding) -> Result<Binding, Error> {
    let destination = match DestinationKind::try_from(wire.destination_kind) {
        Ok(DestinationKind::Exchange) => BindingDestination::Exchange(wire.destination),
        Ok(DestinationKind::Queue | DestinationKind::Unspecified) => {
            BindingDestination::Queue(wire.destination)
        }
        Err(_) => {
            return Err(Error::BadAnswer {
                operation: "listing bindings",
                detail: format!("destination kind {}", wire.destination_kind),
            });
        }
    };
    Ok(Binding {
        vhost: vhost_or_default(wire.vhost),
        source: wire.source,
        destination,
        routing_key: wire.routing_key,
        arguments: plain_table("listing bindings", wire.arguments)?,
    })
}
