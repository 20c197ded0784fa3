//! A service whose place on the node listener is taken before there is anything behind it. Not here: any service.
//!
//! Nodes must meet before a cluster is formed, and Raft runs after that, on the same listener.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::NamedService;

/// Answers `UNAVAILABLE` until the service is there. Clones share it.
pub(crate) struct Late<S> {
    service: Arc<OnceLock<S>>,
}

impl<S> Late<S> {
    pub(crate) fn new() -> Self {
        Self {
            service: Arc::default(),
        }
    }

    /// From now on this service answers. Only the first one counts.
    pub(crate) fn set(&self, service: S) {
        let first = self.service.set(service).is_ok();
        debug_assert!(first, "a node starts its services once");
    }
}

impl<S> Clone for Late<S> {
    fn clone(&self) -> Self {
        Self {
            service: self.service.clone(),
        }
    }
}

impl<S: NamedService> NamedService for Late<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Late<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible> + Clone,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Generated services are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        match self.service.get() {
            Some(service) => Box::pin(service.clone().call(request)),
            None => Box::pin(async {
                Ok(Status::unavailable("the node has not joined its cluster yet").into_http())
            }),
        }
    }
}
