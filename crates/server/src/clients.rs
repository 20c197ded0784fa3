//! The client listeners: gRPC and AMQP, from the first accept to the last goodbye. Not here: the protocols (`warren-gateway`).

use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;
use warren_gateway::{AmqpOptions, Ceilings, Gateway, GatewayOptions, serve_amqp, serve_grpc};
use warren_types::Watermarks;

use crate::config::Config;
use crate::failure::{Failure, fail};
use crate::listeners::{Bound, ListenError};

/// Sockets that are bound, but not listening yet.
pub(crate) struct ClientSockets {
    pub(crate) grpc: Bound,
    pub(crate) amqp: Option<Bound>,
}

/// The running listeners.
pub(crate) struct Clients {
    /// No more clients are taken, and those there are told.
    closing: CancellationToken,
    /// Those that are left are cut off.
    cut: CancellationToken,
    tasks: TaskTracker,
}

impl Clients {
    pub(crate) fn serve(
        sockets: ClientSockets,
        gateway: &Gateway,
        failure: watch::Sender<Option<Failure>>,
    ) -> Result<Self, ListenError> {
        let clients = Self {
            closing: CancellationToken::new(),
            cut: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        // Both listen before either serves: a port that is taken leaves no client half served.
        let grpc = sockets.grpc.listen()?;
        let amqp = sockets.amqp.map(Bound::listen).transpose()?;
        let serving = serve_grpc(gateway.clone(), grpc, clients.closing.clone());
        clients.spawn("gRPC clients", failure.clone(), serving);
        if let Some(amqp) = amqp {
            let serving = serve_amqp(gateway.clone(), amqp, clients.closing.clone());
            let serving = async move {
                serving.await;
                Ok::<_, Infallible>(())
            };
            clients.spawn("AMQP clients", failure, serving);
        }
        Ok(clients)
    }

    /// Takes no more clients and tells those there are.
    pub(crate) fn close(&self) {
        self.closing.cancel();
        self.tasks.close();
    }

    /// Waits until all clients have gone, or cuts them off.
    pub(crate) async fn drained(&self, within: Duration) {
        if tokio::time::timeout(within, self.tasks.wait())
            .await
            .is_err()
        {
            warn!("clients that have not left are cut off");
            self.cut.cancel();
            self.tasks.wait().await;
        }
    }

    /// Runs one listener until it is closed. That it ends before is a failure of the node.
    fn spawn<E: std::fmt::Display>(
        &self,
        what: &'static str,
        failure: watch::Sender<Option<Failure>>,
        serving: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let (closing, cut) = (self.closing.clone(), self.cut.clone());
        self.tasks.spawn(async move {
            let served = tokio::select! {
                biased; // the end of a drain counts
                () = cut.cancelled() => return,
                served = serving => served,
            };
            let cause = match served {
                Ok(()) if closing.is_cancelled() => return,
                Ok(()) => "it ended by itself".to_owned(),
                Err(error) => error.to_string(),
            };
            fail(
                &failure,
                Failure::Listener {
                    what,
                    cause: cause.into(),
                },
            );
        });
    }
}

fn amqp_options(config: &Config) -> AmqpOptions {
    let amqp = &config.amqp;
    let defaults = AmqpOptions::default();
    let products = amqp.live_prefetch_products.split(',').map(str::trim);
    AmqpOptions {
        product: amqp.product.clone(),
        version: match amqp.version.as_str() {
            "" => defaults.version,
            version => version.to_owned(),
        },
        channel_max: amqp.channel_max,
        connections_max: amqp.connection_max,
        channels_max: (amqp.channel_max_per_node > 0).then_some(amqp.channel_max_per_node),
        channel_consumers_max: amqp.consumer_max_per_channel,
        live_prefetch_products: products
            .filter(|it| !it.is_empty())
            .map(str::to_owned)
            .collect(),
    }
}

/// What the configuration says of clients.
pub(crate) fn options(config: &Config) -> GatewayOptions {
    let connections = config.limits.grpc_connection_max;
    let usual = GatewayOptions::default();
    let largest = config.limits.max_message_size;
    GatewayOptions {
        max_message_bytes: largest,
        // Two of the largest, so that one can come while one is confirmed.
        connection_bytes: usual.connection_bytes.max(largest.saturating_mul(2)),
        admission_bytes: config.limits.admission_bytes,
        consumer_timeout: config.limits.consumer_timeout,
        ceilings: Ceilings {
            queues: config.limits.cluster_queue_max,
            exchanges: config.limits.cluster_exchange_max,
            vhosts: config.limits.vhost_max,
        },
        watermarks: Watermarks {
            memory: config.limits.memory_watermark,
            disk_free: config.limits.disk_free_min,
        },
        grpc_connections_max: usize::try_from(connections).unwrap_or(usize::MAX),
        amqp: amqp_options(config),
        default_queue_type: config.node.default_queue_type,
        loopback_guest: config.auth.loopback_guest,
        ..usual
    }
}
