//! What the calls that open something check and answer alike. Not here: the streams.

use warren_proto::convert::error::ApiError;
use warren_proto::v1;
use warren_topology::QueueOwner;
use warren_types::{QueueName, VhostName};

use super::error::{of_name, unsupported};
use crate::gateway::{Gateway, LeaderSeen};
use crate::options::GatewayOptions;
use warren_types::ShardId;

/// The one durability class: on the disks of a majority before it is confirmed.
pub(super) const DURABILITY: &str = "persisted";

/// An empty vhost is "/".
pub(super) fn vhost_name(name: &str) -> Result<VhostName, ApiError> {
    let name = if name.is_empty() { "/" } else { name };
    VhostName::try_from(name).map_err(|error| of_name("vhost", &error))
}

pub(super) fn queue_name(name: &str) -> Result<QueueName, ApiError> {
    QueueName::try_from(name).map_err(|error| of_name("queue", &error))
}

/// The client id that owns an exclusive queue, or asks for one.
pub(super) fn owner(client_id: &str) -> Option<QueueOwner> {
    (!client_id.is_empty()).then(|| QueueOwner::Client(client_id.into()))
}

/// There are no features to ask for yet.
pub(super) fn check_features(wanted: &[String]) -> Result<(), ApiError> {
    wanted
        .first()
        .map_or(Ok(()), |feature| Err(unsupported(feature)))
}

pub(super) fn limits(options: &GatewayOptions) -> v1::Limits {
    v1::Limits {
        max_message_bytes: options.max_message_bytes,
        max_batch: options.max_batch,
        max_prefetch: options.max_prefetch,
    }
}

/// Where a shard is led, for clients that want to go there.
pub(super) fn leader_hint(gateway: &Gateway, shard: ShardId) -> Option<v1::LeaderHint> {
    gateway.leader(shard).map(|seen| hint_of(&seen))
}

pub(super) fn hint_of(seen: &LeaderSeen) -> v1::LeaderHint {
    v1::LeaderHint {
        node: seen.node.to_string(),
        endpoint: seen.endpoint.to_string(),
        term: seen.term.0,
    }
}

/// The hint as the value of `warren-leader`.
pub(super) fn leader_metadata(
    gateway: &Gateway,
    shard: ShardId,
) -> Option<tonic::metadata::AsciiMetadataValue> {
    gateway.leader(shard).and_then(|seen| metadata_of(&seen))
}

/// The topology's leader as the value of `warren-leader`.
pub(super) fn topology_leader_metadata(
    gateway: &Gateway,
) -> Option<tonic::metadata::AsciiMetadataValue> {
    gateway
        .topology_leader()
        .and_then(|seen| metadata_of(&seen))
}

fn metadata_of(seen: &LeaderSeen) -> Option<tonic::metadata::AsciiMetadataValue> {
    format!(
        "node={};endpoint={};term={}",
        seen.node, seen.endpoint, seen.term
    )
    .parse()
    .ok()
}

/// An answer or an error with a hint.
pub(super) fn with_hint<T>(
    hint: Option<tonic::metadata::AsciiMetadataValue>,
    result: Result<T, ApiError>,
) -> Result<tonic::Response<T>, tonic::Status> {
    match result {
        Ok(answer) => {
            let mut response = tonic::Response::new(answer);
            if let Some(hint) = hint {
                response.metadata_mut().insert(LEADER_METADATA, hint);
            }
            Ok(response)
        }
        Err(error) => {
            let mut status = tonic::Status::from(error);
            if let Some(hint) = hint {
                status.metadata_mut().insert(LEADER_METADATA, hint);
            }
            Err(status)
        }
    }
}

/// Name of the metadata, in headers of answers and in trailers of errors.
pub(super) const LEADER_METADATA: &str = "warren-leader";
