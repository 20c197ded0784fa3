//! What all streams of clients have in common: their end when the node stops, and waiting. Not here: the streams.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tonic::Status;
use warren_proto::convert::error::ApiError;
use warren_proto::convert::message::time_ms_to_client;
use warren_proto::convert::reason::Reason;
use warren_proto::v1;

use super::error::bad_argument;
use super::named_errors::named;
use crate::clock::{millis, wall_clock_ms};

/// Frames that wait for the transport.
pub(super) const FRAMES_QUEUED: usize = 4;
/// How long a client has to say what it wants.
pub(super) const OPEN_WITHIN: Duration = Duration::from_secs(10);
/// Small frames that wait to be sent; then nothing is read.
pub(super) const CONTROL_MAX: usize = 64;

/// The status of a stream that ends because the node stops.
pub(super) fn draining() -> ApiError {
    ApiError::new(Reason::NodeDraining, "the node is shutting down")
}

pub(super) fn draining_notice(within: Duration) -> v1::Notice {
    v1::Notice {
        kind: v1::NoticeKind::Draining.into(),
        status: Some(draining().to_status()),
        deadline: Some(time_ms_to_client(
            wall_clock_ms().saturating_add(millis(within)),
        )),
        ..v1::Notice::default()
    }
}

/// The first frame cannot be read.
pub(super) fn unreadable(status: &Status) -> ApiError {
    named(status).unwrap_or_else(|| bad_argument("frame", status.message()))
}

/// Waits for an instant; for ever without one.
pub(super) async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Waits for room for a frame; only the caller sends, so it stays. False: the client is gone.
pub(super) async fn has_room<T>(outbound: &mpsc::Sender<T>) -> bool {
    outbound.reserve().await.is_ok()
}
