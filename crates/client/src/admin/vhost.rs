//! Vhosts: create, change, list, delete, limit. Not here: what is in them.

use warren_proto::admin_v1;

use super::{PAGE_SIZE, present, request_id};
use crate::{
    connection::{Attempt, Connection},
    error::Error,
};

/// A vhost with its settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vhost {
    pub name: String,
    pub description: String,
    pub tags: Vec<String>,
    /// Of queues whose declare names no type; empty = the server's.
    pub default_queue_type: String,
    /// Classic and quorum count as equal when a queue is declared again.
    pub relaxed_queue_type: bool,
    /// Messages wait for their delay or due time only on exchanges of type `x-delayed-message`.
    pub ignores_delays: bool,
    /// AMQP: basic.qos changes the limit of the channel's consumers that are there, too.
    pub live_prefetch: bool,
    /// It cannot be deleted.
    pub is_protected: bool,
}

/// Most of something that a vhost may have; `None` = no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VhostLimits {
    /// To all nodes together.
    pub connections: Option<u32>,
    pub queues: Option<u32>,
    /// Without the predeclared ones.
    pub exchanges: Option<u32>,
    /// Shared by the nodes where they come in; more wait.
    pub publishes_per_second: Option<u32>,
    /// Of message bodies that are stored; then publishes are refused.
    pub bytes: Option<u64>,
}

impl Connection {
    /// The limits of a vhost.
    ///
    /// # Errors
    /// `VHOST_NOT_FOUND`; `ACCESS_REFUSED`; no node answers in time.
    pub async fn vhost_limits(&self, name: &str) -> Result<VhostLimits, Error> {
        let request = admin_v1::GetVhostLimitsRequest {
            vhost: name.to_owned(),
        };
        let call = |attempt: Attempt| {
            let request = attempt.request(request.clone());
            async move { attempt.policies().get_vhost_limits(request).await }
        };
        let response = self.call("asking for limits", call).await?;
        Ok(plain_limits(&response.limits.unwrap_or_default()))
    }

    /// Replaces the limits of a vhost. What exceeds them already stays.
    ///
    /// # Errors
    /// `VHOST_NOT_FOUND`; `ACCESS_REFUSED`; no node answers in time.
    pub async fn set_vhost_limits(
        &self,
        name: &str,
        limits: VhostLimits,
    ) -> Result<VhostLimits, Error> {
        let request = admin_v1::SetVhostLimitsRequest {
            limits: Some(admin_v1::VhostLimits {
                vhost: name.to_owned(),
                max_connections: limits.connections,
                max_queues: limits.queues,
                max_exchanges: limits.exchanges,
                max_publishes_per_second: limits.publishes_per_second,
                max_bytes: limits.bytes,
                ..admin_v1::VhostLimits::default()
            }),
            request_id: request_id(),
        };
        let call = |attempt: Attempt| {
            let request = attempt.request(request.clone());
            async move { attempt.policies().set_vhost_limits(request).await }
        };
        let response = self.call("setting limits", call).await?;
        Ok(plain_limits(&response.limits.unwrap_or_default()))
    }

    /// Creates a vhost: one that exists is a success and stays as it is.
    ///
    /// # Errors
    /// `ACCESS_REFUSED`; no node answers in time.
    pub async fn create_vhost(&self, vhost: &Vhost) -> Result<Vhost, Error> {
        let request = admin_v1::CreateVhostRequest {
            vhost: Some(wire(vhost)),
            validate_only: false,
            request_id: request_id(),
        };
        let call = |attempt: Attempt| {
            let request = attempt.request(request.clone());
            async move { attempt.topology().create_vhost(request).await }
        };
        let response = self.call("creating a vhost", call).await?;
        Ok(plain(present("creating a vhost", response.vhost)?))
    }

    /// Replaces a vhost's settings.
    ///
    /// # Errors
    /// `VHOST_NOT_FOUND`; `ACCESS_REFUSED`; no node answers in time.
    pub async fn update_vhost(&self, vhost: &Vhost) -> Result<Vhost, Error> {
        let paths = [
            "description",
            "tags",
            "default_queue_type",
            "relaxed_queue_type",
            "ignores_delays",
            "live_prefetch",
            "protected_from_deletion",
        ];
        let request = admin_v1::UpdateVhostRequest {
            vhost: Some(wire(vhost)),
            update_mask: Some(prost_types::FieldMask {
                paths: paths.into_iter().map(str::to_owned).collect(),
            }),
            validate_only: false,
            request_id: request_id(),
        };
        let call = |attempt: Attempt| {
            let request = attempt.request(request.clone());
            async move { attempt.topology().update_vhost(request).await }
        };
        let response = self.call("changing a vhost", call).await?;
        Ok(plain(present("changing a vhost", response.vhost)?))
    }

    /// Every vhost that the caller may see.
    ///
    /// # Errors
    /// No node answers in time.
    pub async fn vhosts(&self) -> Result<Vec<Vhost>, Error> {
        let request = admin_v1::ListVhostsRequest {
            page_size: PAGE_SIZE,
            page_token: String::new(),
        };
        let call = |attempt: Attempt, page_token: String| {
            let request = attempt.request(admin_v1::ListVhostsRequest {
                page_token,
                ..request.clone()
            });
            async move { attempt.topology().list_vhosts(request).await }
        };
        let mut list = Vec::new();
        let take = |page: admin_v1::ListVhostsResponse| {
            list.extend(page.vhosts.into_iter().map(plain));
            Ok(page.next_page_token)
        };
        self.pages("listing vhosts", call, take).await?;
        Ok(list)
    }

    /// Deletes a vhost with everything in it. One that does not exist is a success.
    ///
    /// # Errors
    /// `IN_USE` if it is protected; `ACCESS_REFUSED`; no node answers in time.
    pub async fn delete_vhost(&self, name: &str) -> Result<(), Error> {
        let request = admin_v1::DeleteVhostRequest {
            name: name.to_owned(),
            etag: String::new(),
            validate_only: false,
            request_id: request_id(),
        };
        let call = |attempt: Attempt| {
            let request = attempt.request(request.clone());
            async move { attempt.topology().delete_vhost(request).await }
        };
        self.call("deleting a vhost", call).await.map(|_| ())
    }
}

fn plain_limits(it: &admin_v1::VhostLimits) -> VhostLimits {
    VhostLimits {
        connections: it.max_connections,
        queues: it.max_queues,
        exchanges: it.max_exchanges,
        publishes_per_second: it.max_publishes_per_second,
        bytes: it.max_bytes,
    }
}

fn wire(it: &Vhost) -> admin_v1::Vhost {
    admin_v1::Vhost {
        name: it.name.clone(),
        description: it.description.clone(),
        tags: it.tags.clone(),
        default_queue_type: it.default_queue_type.clone(),
        relaxed_queue_type: it.relaxed_queue_type,
        ignores_delays: it.ignores_delays,
        live_prefetch: it.live_prefetch,
        protected_from_deletion: it.is_protected,
        ..admin_v1::Vhost::default()
    }
}

fn plain(it: admin_v1::Vhost) -> Vhost {
    Vhost {
        name: it.name,
        description: it.description,
        tags: it.tags,
        default_queue_type: it.default_queue_type,
        relaxed_queue_type: it.relaxed_queue_type,
        ignores_delays: it.ignores_delays,
        live_prefetch: it.live_prefetch,
        is_protected: it.protected_from_deletion,
    }
}
