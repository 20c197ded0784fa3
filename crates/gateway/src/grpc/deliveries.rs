//! Deliveries as clients see them, packed into frames. Not here: which ones there are (`consume`, `receive`).

use bytes::BytesMut;
use warren_proto::convert::message::{message_to_client, time_ms_to_client};
use warren_proto::v1;
use warren_shard::Held;
use warren_shard::api::{Delivery, Target};
use warren_types::ClusterId;

use super::receipt::{RECEIPT_BYTES, Receipt};

/// A frame is closed when it holds so many bytes; one larger message travels alone.
pub(super) const FRAME_BYTES_MAX: u64 = 256 << 10;
pub(super) const FRAME_MESSAGES_MAX: usize = 1_000;

/// What a delivery's frame says of all its deliveries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) cluster: ClusterId,
    pub(super) target: Target,
    /// `None`: they are settled already.
    pub(super) lease_until_ms: Option<u64>,
}

/// How a delivery is named.
pub(super) fn held_of(delivery: &Delivery) -> Held {
    Held {
        position: delivery.position,
        attempt: delivery.attempt,
    }
}

/// Body bytes, as credit counts them.
pub(super) fn body_bytes(delivery: &Delivery) -> u64 {
    u64::try_from(delivery.message.body.len()).unwrap_or(u64::MAX)
}

/// Room for the receipts of a frame, so that they are one allocation.
pub(super) fn receipts(count: usize) -> BytesMut {
    BytesMut::with_capacity(count * RECEIPT_BYTES)
}

/// One delivery; `receipts` lends the room for its receipt.
pub(super) fn to_client(
    delivery: Delivery,
    tag: u64,
    frame: Frame,
    receipts: &mut BytesMut,
) -> v1::Delivery {
    let receipt = match frame.lease_until_ms {
        Some(_) => {
            Receipt {
                target: frame.target,
                held: held_of(&delivery),
            }
            .write(frame.cluster, receipts);
            receipts.split().freeze()
        }
        None => bytes::Bytes::new(),
    };
    let view = delivery.message;
    v1::Delivery {
        delivery_tag: tag,
        receipt,
        exchange: view.exchange().to_owned(),
        routing_key: view.routing_key().to_owned(),
        redelivered: delivery.redelivered,
        delivery_count: delivery.delivery_count,
        acquired_count: delivery.acquired_count,
        fencing: delivery.fencing,
        enqueued_at: Some(time_ms_to_client(view.enqueued_at.0)),
        lease_until: frame.lease_until_ms.map(time_ms_to_client),
        position: delivery.position.0,
        message: Some(message_to_client(&view.properties, view.body)),
    }
}
