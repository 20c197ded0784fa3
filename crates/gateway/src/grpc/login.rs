//! Who calls: read from `authorization` before any call begins, and what calls need that do not ask for more themselves.
//! Not here: checking passwords (`auth`), what single calls need (`permit`).

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::{Extensions, Status};
use tower_layer::Layer;
use tower_service::Service;
use tracing::debug;
use warren_proto::convert::error::ApiError;
use warren_proto::convert::reason::Reason;
use warren_topology::Operation;
use warren_types::VhostId;

use super::connection::ConnectionInfo;
use super::error::of_operation;
use crate::auth::{LoginError, Password, Who};
use crate::gateway::Gateway;

/// Longer credentials are none.
const HEADER_BYTES_MAX: usize = 4_096;

/// Calls that need nobody to have logged in: they tell nothing of what is in the broker.
const OPEN: [&str; 2] = ["/grpc.health.v1.Health/", "/grpc.reflection."];
/// Calls that look at what they are asked for and refuse what their caller may not do.
const THEMSELVES: [&str; 55] = [
    "/warren.v1.MessagingService/Publish",
    "/warren.v1.MessagingService/PublishStream",
    "/warren.v1.MessagingService/Consume",
    "/warren.v1.MessagingService/Receive",
    "/warren.v1.MessagingService/Settle",
    "/warren.v1.MessagingService/Peek",
    "/warren.admin.v1.TopologyService/CreateVhost",
    "/warren.admin.v1.TopologyService/GetVhost",
    "/warren.admin.v1.TopologyService/ListVhosts",
    "/warren.admin.v1.TopologyService/UpdateVhost",
    "/warren.admin.v1.TopologyService/DeleteVhost",
    "/warren.admin.v1.TopologyService/CreateExchange",
    "/warren.admin.v1.TopologyService/GetExchange",
    "/warren.admin.v1.TopologyService/ListExchanges",
    "/warren.admin.v1.TopologyService/DeleteExchange",
    "/warren.admin.v1.TopologyService/CreateQueue",
    "/warren.admin.v1.TopologyService/GetQueue",
    "/warren.admin.v1.TopologyService/ListQueues",
    "/warren.admin.v1.TopologyService/DeleteQueue",
    "/warren.admin.v1.TopologyService/CreateBinding",
    "/warren.admin.v1.TopologyService/ListBindings",
    "/warren.admin.v1.TopologyService/DeleteBinding",
    "/warren.admin.v1.TopologyService/PurgeQueue",
    "/warren.admin.v1.TopologyService/GetQueueStats",
    "/warren.admin.v1.TopologyService/WatchQueueStats",
    "/warren.admin.v1.TopologyService/ExportDefinitions",
    "/warren.admin.v1.TopologyService/ImportDefinitions",
    "/warren.admin.v1.DeadLetterService/ListDeadLetters",
    "/warren.admin.v1.DeadLetterService/ListParked",
    "/warren.admin.v1.DeadLetterService/Redrive",
    "/warren.admin.v1.DeadLetterService/DeleteDeadLetters",
    "/warren.admin.v1.OperationService/GetOperation",
    "/warren.admin.v1.OperationService/ListOperations",
    "/warren.admin.v1.OperationService/WatchOperation",
    "/warren.admin.v1.OperationService/PauseOperation",
    "/warren.admin.v1.OperationService/CancelOperation",
    "/warren.admin.v1.PolicyService/SetPolicy",
    "/warren.admin.v1.PolicyService/GetPolicy",
    "/warren.admin.v1.PolicyService/ListPolicies",
    "/warren.admin.v1.PolicyService/DeletePolicy",
    "/warren.admin.v1.PolicyService/GetEffectivePolicy",
    "/warren.admin.v1.PolicyService/SetVhostLimits",
    "/warren.admin.v1.PolicyService/GetVhostLimits",
    "/warren.admin.v1.UserService/CreateUser",
    "/warren.admin.v1.UserService/GetUser",
    "/warren.admin.v1.UserService/ListUsers",
    "/warren.admin.v1.UserService/UpdateUser",
    "/warren.admin.v1.UserService/DeleteUser",
    "/warren.admin.v1.UserService/SetPermission",
    "/warren.admin.v1.UserService/ListPermissions",
    "/warren.admin.v1.UserService/DeletePermission",
    "/warren.admin.v1.UserService/SetTopicPermission",
    "/warren.admin.v1.UserService/ListTopicPermissions",
    "/warren.admin.v1.UserService/DeleteTopicPermission",
    "/warren.admin.v1.UserService/WhoAmI",
];

/// Puts [`Who`] into the extensions of each request, or answers that nobody is there.
#[derive(Clone)]
pub(super) struct LoginLayer {
    pub(super) gateway: Gateway,
}

impl<S> Layer<S> for LoginLayer {
    type Service = Login<S>;

    fn layer(&self, inner: S) -> Login<S> {
        Login {
            gateway: self.gateway.clone(),
            inner,
        }
    }
}

#[derive(Clone)]
pub(super) struct Login<S> {
    gateway: Gateway,
    inner: S,
}

impl<S> Service<Request<Body>> for Login<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // The one that said it is ready is the one that is called.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let gateway = self.gateway.clone();
        let asked = asked(&request);
        Box::pin(async move {
            let admitted = match asked {
                Ok(asked) => admit(&gateway, asked).await,
                Err(error) => Err(error),
            };
            match admitted {
                Ok(Some(who)) => {
                    request.extensions_mut().insert(who);
                }
                Ok(None) => {}
                Err(error) => return Ok(Status::from(error).into_http()),
            }
            inner.call(request).await
        })
    }
}

/// What a request says of its caller.
struct Asked {
    path: String,
    peer: IpAddr,
    /// `None`: there is no `authorization`.
    login: Option<Result<(String, Password), LoginError>>,
}

fn asked(request: &Request<Body>) -> Result<Asked, ApiError> {
    let connection = request.extensions().get::<ConnectionInfo>();
    let connection = connection.ok_or_else(|| refused(LoginError::NoCredentials))?;
    let header = request.headers().get("authorization");
    Ok(Asked {
        path: request.uri().path().to_owned(),
        peer: connection.peer.ip(),
        login: header.map(|it| basic(it.as_bytes()).ok_or(LoginError::MechanismUnavailable)),
    })
}

async fn admit(gateway: &Gateway, asked: Asked) -> Result<Option<Who>, ApiError> {
    let Asked { path, peer, login } = asked;
    if OPEN.iter().any(|it| path.starts_with(it)) {
        return Ok(None);
    }
    let principal = match login {
        None => gateway.anonymous(peer),
        Some(Ok((user, password))) => gateway.log_in(&user, password, peer).await,
        Some(Err(error)) => Err(error),
    };
    let who = principal.map(Who::new).map_err(|error| {
        debug!(%peer, %error, "call refused");
        refused(error)
    })?;
    if let Some(operation) = needed(&path) {
        let authorised = gateway.authorise(&who, VhostId(0), operation).await;
        authorised.map_err(|error| of_operation(&error))?;
    }
    Ok(Some(who))
}

/// What a call needs that does not ask for itself. One that is new and is not listed is for administrators.
fn needed(path: &str) -> Option<Operation<'static>> {
    match path {
        "/warren.cluster.v1.ClusterService/GetCluster"
        | "/warren.cluster.v1.ClusterService/WatchTopology" => Some(Operation::ViewCluster),
        _ if THEMSELVES.contains(&path) => None,
        _ => Some(Operation::ChangeCluster),
    }
}

/// The same whatever is wrong; why is in the log.
fn refused(error: LoginError) -> ApiError {
    let text = match error {
        LoginError::NoCredentials => "credentials are needed",
        LoginError::WrongCredentials
        | LoginError::NotFromHere
        | LoginError::MechanismUnavailable
        | LoginError::TooManyFailures
        | LoginError::Stopping => "the credentials are not accepted",
    };
    ApiError::new(Reason::BadCredentials, text)
}

/// `Basic` and user, colon, password in base64 (RFC 7617).
fn basic(header: &[u8]) -> Option<(String, Password)> {
    let (scheme, encoded) = header.split_at_checked("Basic ".len())?;
    if !scheme.eq_ignore_ascii_case(b"Basic ") || header.len() > HEADER_BYTES_MAX {
        return None;
    }
    let decoded = Bytes::from(STANDARD.decode(encoded.trim_ascii()).ok()?);
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let user = std::str::from_utf8(decoded.get(..colon)?).ok()?.to_owned();
    Some((user, Password::new(decoded.slice(colon + 1..))))
}

/// The caller of a call that was admitted.
///
/// # Errors
/// It was not.
pub(super) fn caller(extensions: &Extensions) -> Result<Who, ApiError> {
    let who = extensions.get::<Who>().cloned();
    who.ok_or_else(|| refused(LoginError::NoCredentials))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_gives_user_and_password_and_nothing_else_does() {
        let (user, password) = basic(b"basic dTpwOnc=").unwrap();
        assert_eq!((user.as_str(), password), ("u", Password::new(&b"p:w"[..])));
        for header in [
            &b"Bearer dTpw"[..],
            b"Basic",
            b"Basic dQ==",
            b"Basic !",
            b"",
        ] {
            assert!(basic(header).is_none(), "{header:?}");
        }
    }

    #[test]
    fn call_that_is_not_listed_is_for_administrators() {
        let needs = |path| needed(path);
        assert_eq!(
            needs("/warren.admin.v1.TopologyService/Unheard"),
            Some(Operation::ChangeCluster)
        );
        assert_eq!(
            needs("/warren.cluster.v1.ClusterService/DrainNode"),
            Some(Operation::ChangeCluster)
        );
        assert_eq!(
            needs("/warren.cluster.v1.ClusterService/GetCluster"),
            Some(Operation::ViewCluster)
        );
        assert_eq!(needs("/warren.v1.MessagingService/Publish"), None);
    }
}
