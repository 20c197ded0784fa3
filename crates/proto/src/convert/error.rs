//! Errors as clients see them: a `google.rpc.Status` with `ErrorInfo` of domain "warren", in-band or as the status of a call.
//! Not here: which operation fails why (each operation has its own error and maps it to a reason).

use std::{collections::BTreeMap, fmt, time::Duration};

use prost::{Message, Name};
use prost_types::Any;

use super::message::duration_to_client;
use super::reason::Reason;
use crate::google_rpc::{BadRequest, ErrorInfo, ResourceInfo, RetryInfo, Status, bad_request};

/// The domain of every reason.
pub const ERROR_DOMAIN: &str = "warren";

const TYPE_URL_PREFIX: &str = "type.googleapis.com/";

/// An error on its way to a client, or as a client received it.
#[derive(Clone, PartialEq, Debug)]
pub struct ApiError {
    reason: Reason,
    message: String,
    metadata: BTreeMap<String, String>,
    retry_delay: Option<Duration>,
    fields: Vec<(String, String)>,
    resource: Option<(String, String)>,
}

impl ApiError {
    /// An error for this reason. Reasons that call for a later retry carry a delay from the start.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            metadata: BTreeMap::new(),
            retry_delay: reason.default_retry_delay(),
            fields: Vec::new(),
            resource: None,
        }
    }

    /// Adds a fact, for example the queue's name. Units belong into the name.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.metadata.insert(name.to_owned(), value.to_string());
        self
    }

    /// Sets after which time to try again.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_delay = Some(delay);
        self
    }

    /// Names a wrong field of the request.
    #[must_use]
    pub fn field(mut self, path: impl Into<String>, description: impl Into<String>) -> Self {
        self.fields.push((path.into(), description.into()));
        self
    }

    /// Names the resource it is about, for example ("queue", "orders").
    #[must_use]
    pub fn resource(mut self, kind: &str, name: impl Into<String>) -> Self {
        self.resource = Some((kind.to_owned(), name.into()));
        self
    }

    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason
    }

    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The facts that came with it.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// After which time to try again.
    #[must_use]
    pub fn retry_delay(&self) -> Option<Duration> {
        self.retry_delay
    }

    /// The in-band form.
    #[must_use]
    pub fn to_status(&self) -> Status {
        Status {
            code: i32::from(self.reason.code()),
            message: self.message.clone(),
            details: self.details(),
        }
    }

    fn details(&self) -> Vec<Any> {
        let mut details = vec![pack(&ErrorInfo {
            reason: self.reason.as_str().to_owned(),
            domain: ERROR_DOMAIN.to_owned(),
            metadata: self.metadata.clone(),
        })];
        if let Some(delay) = self.retry_delay {
            details.push(pack(&RetryInfo {
                retry_delay: Some(duration_to_client(delay)),
            }));
        }
        if !self.fields.is_empty() {
            let violation = |(field, description): &(String, String)| bad_request::FieldViolation {
                field: field.clone(),
                description: description.clone(),
            };
            details.push(pack(&BadRequest {
                field_violations: self.fields.iter().map(violation).collect(),
            }));
        }
        if let Some((kind, name)) = &self.resource {
            details.push(pack(&ResourceInfo {
                resource_type: kind.clone(),
                resource_name: name.clone(),
                ..ResourceInfo::default()
            }));
        }
        details
    }

    /// Reads an in-band error. `None` if it is not one of ours, or of a reason this version does not know.
    #[must_use]
    pub fn from_status(status: &Status) -> Option<Self> {
        let mut info = None;
        let mut retry_delay = None;
        let mut fields = Vec::new();
        let mut resource = None;
        for detail in &status.details {
            if let Some(it) = unpack::<ErrorInfo>(detail).filter(|it| it.domain == ERROR_DOMAIN) {
                info = Some(it);
            } else if let Some(it) = unpack::<RetryInfo>(detail) {
                // A negative delay is no delay.
                retry_delay = it.retry_delay.map(|it| it.try_into().unwrap_or_default());
            } else if let Some(it) = unpack::<BadRequest>(detail) {
                let pair = |it: bad_request::FieldViolation| (it.field, it.description);
                fields.extend(it.field_violations.into_iter().map(pair));
            } else if let Some(it) = unpack::<ResourceInfo>(detail) {
                resource = Some((it.resource_type, it.resource_name));
            }
        }
        let info = info?;
        Some(Self {
            reason: Reason::parse(&info.reason)?,
            message: status.message.clone(),
            metadata: info.metadata,
            retry_delay,
            fields,
            resource,
        })
    }

    /// Reads the status of a call. `None` if it is not one of ours, or of a reason this version does not know.
    #[must_use]
    pub fn from_tonic(status: &tonic::Status) -> Option<Self> {
        Self::from_status(&Status::decode(status.details()).ok()?)
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.as_str(), self.message)
    }
}

impl std::error::Error for ApiError {}

impl From<&ApiError> for tonic::Status {
    fn from(error: &ApiError) -> Self {
        let details = error.to_status().encode_to_vec();
        Self::with_details(error.reason.code(), error.message.clone(), details.into())
    }
}

impl From<ApiError> for tonic::Status {
    fn from(error: ApiError) -> Self {
        Self::from(&error)
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        error.to_status()
    }
}

fn pack<M: Message + Name>(message: &M) -> Any {
    Any {
        type_url: format!("{TYPE_URL_PREFIX}{}", M::full_name()),
        value: message.encode_to_vec(),
    }
}

fn unpack<M: Message + Name + Default>(any: &Any) -> Option<M> {
    let (_, name) = any.type_url.rsplit_once('/')?;
    if name != M::full_name() {
        return None;
    }
    M::decode(any.value.as_slice()).ok()
}

#[cfg(test)]
mod tests;
