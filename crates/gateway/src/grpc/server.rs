//! Serves gRPC on a listener until it is told to stop, then lets clients leave. Not here: the services.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use socket2::{SockRef, TcpKeepalive};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tracing::{debug, warn};
use warren_proto::FILE_DESCRIPTOR_SET;
use warren_proto::admin_v1::dead_letter_service_server::DeadLetterServiceServer;
use warren_proto::admin_v1::operation_service_server::OperationServiceServer;
use warren_proto::admin_v1::policy_service_server::PolicyServiceServer;
use warren_proto::admin_v1::topology_service_server::TopologyServiceServer;
use warren_proto::admin_v1::user_service_server::UserServiceServer;
use warren_proto::cluster_v1::cluster_service_server::ClusterServiceServer;
use warren_proto::v1::messaging_service_server::MessagingServiceServer;

use super::cluster::ClusterAdmin;
use super::connection::ClientIo;
use super::dead_letters::DeadLetters;
use super::login::LoginLayer;
use super::messaging::Messaging;
use super::named_errors::NamedErrors;
use super::operations::Operations;
use super::policies::PolicyAdmin;
use super::topology::TopologyAdmin;
use super::users::UserAdmin;
use crate::counters::CountedConnection;
use crate::gateway::Gateway;

/// A document of definitions: some hundred thousand objects.
const DEFINITIONS_BYTES_MAX: usize = 64 << 20;
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;
const STREAMS_MAX: u32 = 200;
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_WITHIN: Duration = Duration::from_secs(20);
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);
/// What is around a message in its frame.
const DECODE_SLACK: usize = 64 << 10;
/// A batch may hold many small messages, whatever the limit of one is.
const DECODE_MIN: usize = 4 << 20;
const HEALTH_EVERY: Duration = Duration::from_millis(100);
/// After the clients' time to leave, connections are closed.
const CLOSE_AFTER: Duration = Duration::from_secs(2);
const MESSAGING: &str = "warren.v1.MessagingService";

/// Why clients are not served.
#[derive(Debug, Error)]
pub enum ServeError {
    #[error("gRPC cannot be served")]
    Transport(#[from] tonic::transport::Error),
    #[error("gRPC reflection cannot be served")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Serves clients until `shutdown`; then takes no new streams, tells those that are open, and ends when they have left or
/// their time is over.
///
/// # Errors
/// [`ServeError`] if it cannot begin; what a client does is no error.
pub async fn serve_grpc(
    gateway: Gateway,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let doors = gateway.clone();
    let room = Arc::new(Semaphore::new(gateway.options().grpc_connections_max));
    let sockets = TcpListenerStream::new(listener).filter_map(move |accepted| {
        let client =
            accepted_socket(accepted).and_then(|socket| let_in(&doors, Arc::clone(&room), socket));
        std::future::ready(client.map(Ok::<_, io::Error>))
    });
    let (health, health_service) = tonic_health::server::health_reporter();
    let reflection = gateway.options().reflection.then(|| {
        let files = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
        files.build_v1()
    });
    let reflection = reflection.transpose()?;
    let drain = gateway.options().drain;
    let max_message = usize::try_from(gateway.options().max_message_bytes).unwrap_or(usize::MAX);
    let decode_max = max_message.saturating_add(DECODE_SLACK).max(DECODE_MIN);
    let messaging = MessagingServiceServer::new(Messaging::new(gateway.clone(), shutdown.clone()))
        .max_decoding_message_size(decode_max)
        .max_encoding_message_size(usize::MAX);
    let topology =
        TopologyServiceServer::new(TopologyAdmin::new(gateway.clone(), shutdown.clone()))
            .max_decoding_message_size(DEFINITIONS_BYTES_MAX);
    let policies = PolicyServiceServer::new(PolicyAdmin::new(gateway.clone()));
    let cluster = ClusterServiceServer::new(ClusterAdmin::new(gateway.clone(), shutdown.clone()));
    let dead_letters =
        DeadLetterServiceServer::new(DeadLetters::new(gateway.clone(), shutdown.clone()));
    let operations =
        OperationServiceServer::new(Operations::new(gateway.clone(), shutdown.clone()));
    let users = UserServiceServer::new(UserAdmin::new(gateway.clone()));
    let login = LoginLayer {
        gateway: gateway.clone(),
    };
    let server = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_WITHIN))
        .layer(NamedErrors)
        .layer(login)
        .add_service(messaging)
        .add_service(topology)
        .add_service(policies)
        .add_service(users)
        .add_service(cluster)
        .add_service(dead_letters)
        .add_service(operations)
        .add_service(health_service)
        .add_optional_service(reflection);
    let stopped = shutdown.clone();
    let serving =
        server.serve_with_incoming_shutdown(sockets, async move { stopped.cancelled().await });
    let watched = watch(gateway, health, shutdown.clone());
    let served = async { tokio::join!(serving, watched).0 };
    until_drained(served, shutdown, drain + CLOSE_AFTER).await
}

/// Runs the server to its end, which it finds within `drain` after the shutdown.
async fn until_drained(
    served: impl Future<Output = Result<(), tonic::transport::Error>>,
    shutdown: CancellationToken,
    drain: Duration,
) -> Result<(), ServeError> {
    tokio::pin!(served);
    tokio::select! {
        biased; // an end by itself is an error to be told
        ended = &mut served => return Ok(ended?),
        () = shutdown.cancelled() => {}
    }
    match timeout(drain, served).await {
        Ok(ended) => Ok(ended?),
        Err(_) => {
            debug!("connections that did not end in time are closed");
            Ok(())
        }
    }
}

/// A client's connection, if there is room for one more.
fn let_in(gateway: &Gateway, room: Arc<Semaphore>, socket: TcpStream) -> Option<ClientIo> {
    let Ok(place) = room.try_acquire_owned() else {
        debug!(
            max = gateway.options().grpc_connections_max,
            "too many gRPC connections: one is closed"
        );
        return None;
    };
    let counted = CountedConnection::open(&gateway.counters().grpc);
    let admission = gateway.admission().connection();
    ClientIo::new(socket, admission, counted, place).ok()
}

fn accepted_socket(accepted: io::Result<TcpStream>) -> Option<TcpStream> {
    let socket = match accepted {
        Ok(socket) => socket,
        // Of one client, or out of file descriptors: the listener goes on.
        Err(error) => {
            warn!(%error, "connection not accepted");
            return None;
        }
    };
    let keepalive = TcpKeepalive::new().with_time(TCP_KEEPALIVE);
    let set = socket
        .set_nodelay(true)
        .and_then(|()| SockRef::from(&socket).set_tcp_keepalive(&keepalive));
    if let Err(error) = set {
        debug!(%error, "socket options not set");
    }
    Some(socket)
}

/// Tells whether this node can serve, and notes how recent its topology is.
async fn watch(gateway: Gateway, health: HealthReporter, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(HEALTH_EVERY);
    let mut told = None;
    loop {
        tokio::select! {
            biased; // stopping comes first
            () = stop.cancelled() => break,
            _ = ticks.tick() => {}
        }
        gateway.look_for_leader();
        let status = if gateway.broker().is_ready() && !gateway.is_draining() {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        if told != Some(status) {
            told = Some(status);
            health.set_service_status(MESSAGING, status).await;
        }
    }
    health
        .set_service_status(MESSAGING, ServingStatus::NotServing)
        .await;
}
