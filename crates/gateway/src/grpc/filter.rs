//! Filters of requests, read at the edge. Not here: what they mean (`warren-types`), looking at messages (`peek`, `redrive`).

use std::sync::Arc;

use warren_proto::convert::error::ApiError;
use warren_proto::convert::reason::Reason;
use warren_types::Filter;

/// `None`: all messages are meant.
///
/// # Errors
/// `BAD_FILTER`.
pub(super) fn filter(text: &str) -> Result<Option<Arc<Filter>>, ApiError> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let filter = text.parse::<Filter>().map_err(|error| {
        let why = error.to_string();
        ApiError::new(Reason::BadFilter, format!("filter: {why}")).field("filter", why)
    });
    Ok(Some(Arc::new(filter?)))
}
