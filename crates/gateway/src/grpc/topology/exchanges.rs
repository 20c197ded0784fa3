//! Exchanges: declare, get, list, delete. Not here: their rules (`warren-topology`).

use warren_proto::admin_v1;
use warren_proto::convert::error::ApiError;
use warren_proto::convert::reason::Reason;
use warren_proto::convert::value::{table_from_client, table_to_client};
use warren_topology::{
    DeclareExchange, DeleteExchange, Exchange, ExchangeKind, Refusal, Topology, TopologyCommand,
};
use warren_types::{ExchangeName, VhostName};

use super::pages::Page;
use super::{NO_USER, TopologyAdmin, check_validate_only};
use crate::auth::Who;
use crate::grpc::error::{bad_argument, of_name, of_operation, of_refusal};
use crate::grpc::open::vhost_name;
use crate::grpc::permit::may_view_exchange;
use crate::operations::find_vhost;

impl TopologyAdmin {
    pub(super) async fn create_exchange_here(
        &self,
        request: admin_v1::CreateExchangeRequest,
    ) -> Result<admin_v1::CreateExchangeResponse, ApiError> {
        check_validate_only(request.validate_only)?;
        let wanted = request.exchange.unwrap_or_default();
        let (vhost, name) = (vhost_name(&wanted.vhost)?, exchange_name(&wanted.name)?);
        if !request.passive {
            let space = find_vhost(&self.gateway.topology(), &vhost)
                .map_err(|error| of_operation(&error))?;
            let kind = ExchangeKind::try_from(wanted.r#type.as_str())
                .map_err(|error| bad_argument("exchange.type", error.to_string()))?;
            let arguments = table_from_client(wanted.arguments.unwrap_or_default())
                .map_err(|error| bad_argument("exchange.arguments", error.to_string()))?;
            let command = DeclareExchange {
                vhost: space,
                name: name.clone(),
                kind,
                durable: wanted.durable,
                auto_delete: wanted.auto_delete,
                internal: wanted.internal,
                arguments,
            };
            let changed = self
                .gateway
                .change(TopologyCommand::DeclareExchange(command), NO_USER)
                .await;
            changed.map_err(|error| of_operation(&error))?;
        }
        let exchange = self.exchange(&vhost, &name, !request.passive).await?;
        Ok(admin_v1::CreateExchangeResponse {
            exchange: Some(exchange),
        })
    }

    pub(super) async fn get_exchange_here(
        &self,
        request: admin_v1::GetExchangeRequest,
    ) -> Result<admin_v1::GetExchangeResponse, ApiError> {
        let (vhost, name) = (vhost_name(&request.vhost)?, exchange_name(&request.name)?);
        let exchange = self.exchange(&vhost, &name, false).await?;
        Ok(admin_v1::GetExchangeResponse {
            exchange: Some(exchange),
        })
    }

    pub(super) async fn list_exchanges_here(
        &self,
        who: &Who,
        request: admin_v1::ListExchangesRequest,
    ) -> Result<admin_v1::ListExchangesResponse, ApiError> {
        let vhost = vhost_name(&request.vhost)?;
        let page = Page::new(request.page_size, &request.page_token)?;
        let topology = self
            .gateway
            .fresh_topology()
            .await
            .map_err(|error| of_operation(&error))?;
        let space = find_vhost(&topology, &vhost).map_err(|error| of_operation(&error))?;
        let all = topology.exchanges_after(space, page.after());
        let all = all.filter(|it| may_view_exchange(&topology, who, space, it.name.as_str()));
        let (exchanges, next_page_token) = page.take(all, |exchange| exchange.name.to_string());
        let exchanges = exchanges
            .into_iter()
            .map(|exchange| to_client(&topology, exchange, &vhost))
            .collect();
        Ok(admin_v1::ListExchangesResponse {
            exchanges,
            next_page_token,
        })
    }

    pub(super) async fn delete_exchange_here(
        &self,
        request: admin_v1::DeleteExchangeRequest,
    ) -> Result<admin_v1::DeleteExchangeResponse, ApiError> {
        check_validate_only(request.validate_only)?;
        let (vhost, name) = (vhost_name(&request.vhost)?, exchange_name(&request.name)?);
        let space =
            find_vhost(&self.gateway.topology(), &vhost).map_err(|error| of_operation(&error))?;
        if !request.etag.is_empty() {
            let topology = self
                .gateway
                .fresh_topology()
                .await
                .map_err(|error| of_operation(&error))?;
            let etag = topology.exchange(space, name.as_str()).map(etag);
            check_etag(&request.etag, etag.as_deref())?;
        }
        let command = DeleteExchange {
            vhost: space,
            name,
            if_unused: request.if_unused,
        };
        let changed = self
            .gateway
            .change(TopologyCommand::DeleteExchange(command), NO_USER)
            .await;
        changed.map_err(|error| of_operation(&error))?;
        Ok(admin_v1::DeleteExchangeResponse {})
    }

    /// `applied`: this node's copy has it, since it has just answered the declare.
    async fn exchange(
        &self,
        vhost: &VhostName,
        name: &ExchangeName,
        applied: bool,
    ) -> Result<admin_v1::Exchange, ApiError> {
        let topology = if applied {
            self.gateway.topology()
        } else {
            self.gateway
                .fresh_topology()
                .await
                .map_err(|error| of_operation(&error))?
        };
        find(&topology, vhost, name)
    }
}

fn find(
    topology: &Topology,
    vhost: &VhostName,
    name: &ExchangeName,
) -> Result<admin_v1::Exchange, ApiError> {
    let space = find_vhost(topology, vhost).map_err(|error| of_operation(&error))?;
    let exchange = topology.exchange(space, name.as_str());
    let missing = || {
        of_refusal(&Refusal::NoSuchExchange {
            vhost: vhost.clone(),
            exchange: name.clone(),
        })
    };
    exchange
        .map(|it| to_client(topology, it, vhost))
        .ok_or_else(missing)
}

pub(super) fn exchange_name(name: &str) -> Result<ExchangeName, ApiError> {
    ExchangeName::try_from(name).map_err(|error| of_name("exchange", &error))
}

/// Exchanges cannot be changed, so the declare is what tells one from another.
fn etag(exchange: &Exchange) -> String {
    format!("e{}-{}", exchange.id, exchange.declared_at)
}

/// # Errors
/// The object is another one than the client has read, or is gone.
pub(in crate::grpc) fn check_etag(wanted: &str, current: Option<&str>) -> Result<(), ApiError> {
    if wanted.is_empty() || current == Some(wanted) {
        return Ok(());
    }
    Err(ApiError::new(
        Reason::EtagMismatch,
        "it was changed since it was read",
    ))
}

fn to_client(topology: &Topology, exchange: &Exchange, vhost: &VhostName) -> admin_v1::Exchange {
    admin_v1::Exchange {
        vhost: vhost.to_string(),
        name: exchange.name.to_string(),
        r#type: exchange.kind.name().to_owned(),
        durable: exchange.durable,
        auto_delete: exchange.auto_delete,
        internal: exchange.internal,
        arguments: if exchange.arguments.is_empty() {
            None
        } else {
            table_to_client(&exchange.arguments)
        },
        etag: etag(exchange),
        policy: topology
            .exchange_policies(exchange.id)
            .0
            .unwrap_or_default()
            .to_owned(),
        ..admin_v1::Exchange::default()
    }
}
