//! Exchanges: declare, list, delete. Not here: bindings.

use warren_proto::admin_v1;
use warren_types::Table;

use super::{PAGE_SIZE, plain_table, present, request_id, vhost_or_default, wire_table};
use crate::{
    connection::{Attempt, Connection},
    error::Error,
};

/// An exchange.
#[derive(Debug, Clone, PartialEq)]
pub struct Exchange {
    /// Empty = "/".
    pub vhost: String,
    pub name: String,
    /// "direct", "fanout", "topic", "headers", ...
    pub kind: String,
    pub durable: bool,
    pub auto_delete: bool,
    pub internal: bool,
    pub arguments: Table,
}

impl Connection {
    /// Declares an exchange: one that exists with equal settings is a success.
    ///
    /// # Errors
    /// `INEQUIVALENT_ARGUMENT` if it exists with other settings; no node answers in time.
    pub async fn declare_exchange(&self, exchange: &Exchange) -> Result<Exchange, Error> {
        let request = admin_v1::CreateExchangeRequest {
            exchange: Some(admin_v1::Exchange {
                vhost: exchange.vhost.clone(),
                name: exchange.name.clone(),
                r#type: exchange.kind.clone(),
                durable: exchange.durable,
                auto_delete: exchange.auto_delete,
                internal: exchange.internal,
                arguments: wire_table(&exchange.arguments),
                ..admin_v1::Exchange::default()
            }),
            passive: false,
            validate_only: false,
            request_id: request_id(),
        };
        let call = |attempt: Attempt| {
            let request = attempt.request(request.clone());
            async move { attempt.topology().create_exchange(request).await }
        };
        let response = self.call("declaring an exchange", call).await?;
        plain_exchange(present("declaring an exchange", response.exchange)?)
    }

    /// Every exchange of a vhost.
    ///
    /// # Errors
    /// No node answers in time.
    pub async fn exchanges(&self, vhost: &str) -> Result<Vec<Exchange>, Error> {
        let request = admin_v1::ListExchangesRequest {
            vhost: vhost.to_owned(),
            page_size: PAGE_SIZE,
            page_token: String::new(),
        };
        let call = |attempt: Attempt, page_token: String| {
            let request = attempt.request(admin_v1::ListExchangesRequest {
                page_token,
                ..request.clone()
            });
            async move { attempt.topology().list_exchanges(request).await }
        };
        let mut list = Vec::new();
        let take = |page: admin_v1::ListExchangesResponse| {
            for exchange in page.exchanges {
                list.push(plain_exchange(exchange)?);
            }
            Ok(page.next_page_token)
        };
        self.pages("listing exchanges", call, take).await?;
        Ok(list)
    }

    /// Deletes an exchange with its bindings. One that does not exist is a success.
    ///
    /// # Errors
    /// `IN_USE` if it has bindings and `if_unused`; no node answers in time.
    pub async fn delete_exchange(
        &self,
        vhost: &str,
        name: &str,
        if_unused: bool,
    ) -> Result<(), Error> {
        let request = admin_v1::DeleteExchangeRequest {
            vhost: vhost.to_owned(),
            name: name.to_owned(),
            if_unused,
            etag: String::new(),
            validate_only: false,
            request_id: request_id(),
        };
        let call = |attempt: Attempt| {
            let request = attempt.request(request.clone());
            async move { attempt.topology().delete_exchange(request).await }
        };
        self.call("deleting an exchange", call).await.map(|_| ())
    }
}

fn plain_exchange(wire: admin_v1::Exchange) -> Result<Exchange, Error> {
    Ok(Exchange {
        vhost: vhost_or_default(wire.vhost),
        name: wire.name,
        kind: wire.r#type,
        durable: wire.durable,
        auto_delete: wire.auto_delete,
        internal: wire.internal,
        arguments: plain_table("reading an exchange", wire.arguments)?,
    })
}
