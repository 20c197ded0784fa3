//! The first frame of a `PublishStream`: who publishes, where, and whether it may. Not here: the stream (`publish_stream`).

use std::sync::Arc;

use tokio::time::timeout;
use warren_proto::convert::error::ApiError;
use warren_proto::convert::reason::Reason;
use warren_proto::v1;
use warren_proto::v1::publish_stream_request::Frame as Request;
use warren_topology::Rights;

use super::entry::Publisher;
use super::error::{bad_argument, of_operation};
use super::open::{check_features, vhost_name};
use super::permit::open_vhost;
use super::publish_stream::PublishParts;
use super::streams::{OPEN_WITHIN, unreadable};
use crate::gateway::Gateway;
use crate::operations::find_vhost;
use crate::places::Place;

/// # Errors
/// Why the stream is not opened.
pub(super) async fn open(
    parts: &mut PublishParts,
) -> Result<(Publisher, Rights, Arc<Place>), ApiError> {
    let (gateway, who) = (&parts.gateway, &mut parts.who);
    let inbound = &mut parts.inbound;
    let first = timeout(OPEN_WITHIN, inbound.message()).await;
    let first = first.map_err(|_| bad_argument("frame", "no open frame came"))?;
    let frame = first
        .map_err(|status| unreadable(&status))?
        .and_then(|it| it.frame);
    let Some(Request::Open(open)) = frame else {
        return Err(bad_argument(
            "frame",
            "the first frame of a stream is `open`",
        ));
    };
    check_features(&open.features)?;
    if !gateway.may_serve() {
        return Err(ApiError::new(
            Reason::NotReady,
            "the node does not know the cluster's topology yet",
        ));
    }
    who.client_id = open.client_id.into();
    let rights = open_vhost(gateway, who, &open.vhost).await?;
    let publisher = publisher(gateway, &open.vhost, open.producer)?;
    let seat = parts.seats.take(gateway, who, rights.vhost())?;
    Ok((publisher, rights, seat))
}

/// Checks vhost and producer.
///
/// # Errors
/// There is no such vhost, or a name is none.
pub(super) fn publisher(
    gateway: &Gateway,
    vhost: &str,
    producer: Option<v1::Producer>,
) -> Result<Publisher, ApiError> {
    let vhost = vhost_name(vhost)?;
    let vhost = find_vhost(&gateway.topology(), &vhost).map_err(|error| of_operation(&error))?;
    Publisher::new(vhost, producer, gateway.options().max_message_bytes)
}
