//! Errors of the transport under their names: a message that cannot be decoded, or a method that is not there, is refused by tonic
//! before a call of ours sees it, and would have no reason (grpc-api.md section 3). Not here: our own errors (`error`).

use std::error::Error as _;
use std::task::{Context, Poll};

use futures::TryFutureExt;
use futures::future::MapOk;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::{Code, Status};
use tower_layer::Layer;
use warren_proto::convert::error::ApiError;
use warren_proto::convert::reason::Reason;

use super::error::bad_argument;

type Response = http::Response<Body>;

/// Puts a reason on every status that has none.
#[derive(Clone, Copy, Debug)]
pub(super) struct NamedErrors;

#[derive(Clone, Debug)]
pub(super) struct Naming<S> {
    inner: S,
}

impl<S> Layer<S> for NamedErrors {
    type Service = Naming<S>;

    fn layer(&self, inner: S) -> Naming<S> {
        Naming { inner }
    }
}

impl<S, B> Service<http::Request<B>> for Naming<S>
where
    S: Service<http::Request<B>, Response = Response>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = MapOk<S::Future, fn(Response) -> Response>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        self.inner
            .call(request)
            .map_ok(named_response as fn(Response) -> Response)
    }
}

/// Only answers that are nothing but a status are looked at: streams name their own ends.
fn named_response(response: Response) -> Response {
    let status = Status::from_header_map(response.headers());
    match status.as_ref().and_then(named) {
        Some(error) => Status::from(error).into_http(),
        None => response,
    }
}

/// A status of the transport as one of ours; `None`: it has its reason, or says nothing of the request.
pub(super) fn named(status: &Status) -> Option<ApiError> {
    // With a source it is about the connection, which broke.
    if !status.details().is_empty() || status.source().is_some() {
        return None;
    }
    let text = status.message();
    match status.code() {
        Code::OutOfRange | Code::ResourceExhausted => {
            Some(ApiError::new(Reason::MessageTooLarge, text))
        }
        // What tonic cannot decode is internal to it; ours always has its reason.
        Code::Internal => Some(bad_argument("request", text)),
        Code::Unimplemented => {
            let text = if text.is_empty() {
                "there is no such method"
            } else {
                text
            };
            Some(ApiError::new(Reason::UnsupportedFeature, text))
        }
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_with_a_reason_keeps_it() {
        let ours = Status::from(ApiError::new(Reason::Bug, "a fault"));
        assert!(named(&ours).is_none());
        assert!(named(&Status::cancelled("gone")).is_none());
    }

    #[test]
    fn status_of_the_transport_gets_a_reason() {
        let reason = |status: Status| named(&status).unwrap().reason();
        assert_eq!(reason(Status::out_of_range("x")), Reason::MessageTooLarge);
        assert_eq!(reason(Status::internal("x")), Reason::BadArgument);
        assert_eq!(
            reason(Status::unimplemented("")),
            Reason::UnsupportedFeature
        );
    }
}
