//! The limits of a vhost (features E2). Not here: where they are felt (`gateway::places`, `warren-topology`).

use warren_proto::admin_v1 as pb;
use warren_proto::convert::error::ApiError;
use warren_topology::{SetVhostLimits, VhostLimits};
use warren_types::VhostName;

use super::{NO_USER, PolicyAdmin};
use crate::grpc::error::{bad_argument, of_operation, unsupported};
use crate::grpc::open::vhost_name;
use crate::operations::find_vhost;

impl PolicyAdmin {
    /// What the request leaves out has no limit.
    pub(super) async fn set_limits(
        &self,
        request: pb::SetVhostLimitsRequest,
    ) -> Result<pb::SetVhostLimitsResponse, ApiError> {
        let wanted = request
            .limits
            .ok_or_else(|| bad_argument("limits", "they are missing"))?;
        if wanted.max_messages.is_some() {
            return Err(unsupported("a limit of messages"));
        }
        let name = vhost_name(&wanted.vhost)?;
        let limits = VhostLimits {
            connections: wanted.max_connections,
            queues: wanted.max_queues,
            exchanges: wanted.max_exchanges,
            publishes_per_second: wanted.max_publishes_per_second,
            bytes: wanted.max_bytes,
        };
        let command = SetVhostLimits {
            name: name.clone(),
            limits,
        };
        let changed = self.gateway.change(command.into(), NO_USER).await;
        changed.map_err(|error| of_operation(&error))?;
        Ok(pb::SetVhostLimitsResponse {
            limits: Some(to_client(&name, limits)),
        })
    }

    pub(super) async fn get_limits(
        &self,
        request: pb::GetVhostLimitsRequest,
    ) -> Result<pb::GetVhostLimitsResponse, ApiError> {
        let name = vhost_name(&request.vhost)?;
        let limits = self.limits_now(&name).await?;
        Ok(pb::GetVhostLimitsResponse {
            limits: Some(to_client(&name, limits)),
        })
    }

    async fn limits_now(&self, name: &VhostName) -> Result<VhostLimits, ApiError> {
        let topology = self.fresh().await?;
        find_vhost(&topology, name).map_err(|error| of_operation(&error))?;
        let vhost = topology.vhost(name.as_str());
        Ok(vhost.map(|it| it.limits).unwrap_or_default())
    }
}

fn to_client(name: &VhostName, limits: VhostLimits) -> pb::VhostLimits {
    pb::VhostLimits {
        vhost: name.as_str().to_owned(),
        max_connections: limits.connections,
        max_queues: limits.queues,
        max_exchanges: limits.exchanges,
        max_publishes_per_second: limits.publishes_per_second,
        max_bytes: limits.bytes,
        ..pb::VhostLimits::default()
    }
}
