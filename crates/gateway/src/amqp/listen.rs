//! Accepts AMQP connections and ends them all when the node stops. Not here: one connection (`run`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};
use warren_amqp::Config;
use warren_topology::{DeleteQueue, TopologyCommand};
use warren_types::{QueueId, QueueName};

use super::caller::Caller;
use super::run::Task;
use super::session::AmqpSession;
use crate::counters::CountedConnection;
use crate::gateway::Gateway;

/// Connections that have not opened yet; more wait unaccepted.
const HANDSHAKES_MAX: usize = 500;
/// After a failed accept (no file descriptors, say) before the next.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Serves AMQP 0-9-1 on a listener until `shutdown`; then every client is told (320) and has its connection closed.
pub async fn serve_amqp(gateway: Gateway, listener: TcpListener, shutdown: CancellationToken) {
    let config = Arc::new(config(&gateway));
    let connections = TaskTracker::new();
    let room = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    loop {
        let accepted = tokio::select! {
            biased; // stopping comes first
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &room) => accepted,
        };
        let Some((socket, permit)) = accepted else {
            tokio::time::sleep(ACCEPT_AGAIN).await;
            continue;
        };
        let Ok(peer) = socket.peer_addr() else {
            continue; // it has gone already
        };
        // Small answers are not held back to be sent together: the task itself gathers what can go together.
        if let Err(error) = socket.set_nodelay(true) {
            warn!(%peer, %error, "TCP_NODELAY not set");
        }
        let session = AmqpSession::new(gateway.clone(), Arc::clone(&config), peer);
        let task = Task::new(session, socket, shutdown.clone(), permit);
        let counted = CountedConnection::open(&gateway.counters().amqp);
        connections.spawn(gateway.tasks().track_future(async move {
            task.run().await;
            drop(counted);
        }));
    }
    info!(connections = connections.len(), "AMQP stops");
    connections.close();
    connections.wait().await;
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((socket, _)) => Some((socket, permit)),
        Err(error) => {
            warn!(%error, "connection not accepted");
            None
        }
    }
}

fn config(gateway: &Gateway) -> Config {
    let topology = gateway.topology();
    let options = &gateway.options().amqp;
    let cluster_name = topology
        .cluster()
        .map(|it| it.name.to_string())
        .unwrap_or_default();
    Config {
        cluster_name,
        message_bytes_max: gateway.options().max_message_bytes,
        product: options.product.clone(),
        version: options.version.clone(),
        channel_max: options.channel_max,
        ..Config::default()
    }
}

/// Deletes the exclusive queues of a connection that ends.
pub(super) async fn delete_queues(caller: &Caller, queues: BTreeMap<QueueName, QueueId>) {
    let deleted = queues.into_iter().map(|(name, id)| async move {
        let command = DeleteQueue {
            vhost: caller.vhost,
            name: name.clone(),
            only: Some(id),
            requester: Some(caller.owner.clone()),
        };
        let command = TopologyCommand::DeleteQueue(command);
        if let Err(error) = caller.gateway.change(command, caller.user.as_str()).await {
            warn!(queue = %name, %error, "exclusive queue is deleted later");
            caller.gateway.broker().delete_later(id);
        }
    });
    futures::future::join_all(deleted).await;
}
