//! Nodes of one test, in this process: free loopback ports, temporary directories. Not here: what is tested.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing
)]

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use warren_server::config::{Config, Inputs};
use warren_server::{Node, StartError};

pub const SECRET: &str = "0123456789abcdef-test";
const WITHIN: Duration = Duration::from_secs(60);

/// Where the nodes of a test live.
pub struct Home {
    pub root: TempDir,
    ports: Vec<u16>,
    /// The nodes that form the cluster; those after them join it.
    formed: usize,
}

impl Home {
    pub fn new(nodes: usize) -> Self {
        Self::with_more(nodes, 0)
    }

    /// The later ones are named in their own configuration alone.
    pub fn with_more(formed: usize, more: usize) -> Self {
        // Shown for a test that fails, as RUST_LOG says; only the first test of the process can set it.
        let _second = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let held: Vec<TcpListener> = (0..formed + more)
            .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap())
            .collect();
        let ports = held
            .iter()
            .map(|it| it.local_addr().unwrap().port())
            .collect();
        Self {
            root: tempfile::tempdir().unwrap(),
            ports,
            formed,
        }
    }

    pub fn data_dir(&self, node: usize) -> PathBuf {
        self.root.path().join(format!("node-{node}"))
    }

    pub fn node_address(&self, node: usize) -> String {
        format!("127.0.0.1:{}", self.ports[node - 1])
    }

    pub fn config(&self, node: usize) -> Config {
        self.config_with(node, &[])
    }

    pub fn config_with(&self, node: usize, more: &[(&str, &str)]) -> Config {
        let known = if node > self.formed {
            self.ports.len()
        } else {
            self.formed
        };
        let peers: Vec<String> = (1..=known)
            .map(|peer| format!("{peer}={}", self.node_address(peer)))
            .collect();
        let mut flags = vec![
            ("node.id", node.to_string()),
            (
                "node.data_dir",
                self.data_dir(node).to_str().unwrap().to_owned(),
            ),
            ("cluster.name", "test".to_owned()),
            ("cluster.peers", peers.join(",")),
            ("listen.node", self.node_address(node)),
            ("listen.grpc", "127.0.0.1:0".to_owned()),
            ("listen.amqp", String::new()),
            ("listen.http", String::new()),
            ("listen.metrics", String::new()),
        ];
        flags.extend(
            more.iter()
                .map(|(name, value)| (*name, (*value).to_owned())),
        );
        let flags = flags
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        let environment = vec![("WARREN_CLUSTER_SECRET".to_owned(), SECRET.to_owned())];
        Config::load(&Inputs {
            file: None,
            environment,
            flags,
            hostname: None,
        })
        .unwrap()
        .config
    }

    /// Begins the start of a node; it ends when the cluster is formed.
    pub fn begin(&self, node: usize) -> JoinHandle<Result<Node, StartError>> {
        let config = self.config(node);
        tokio::spawn(async move { Box::pin(Node::start(config, CancellationToken::new())).await })
    }

    /// Starts nodes in this order, each when the one before listens.
    pub async fn start(&self, order: &[usize]) -> Vec<Node> {
        let mut starting = Vec::new();
        for &node in order {
            starting.push(self.begin(node));
            self.listens(node).await;
        }
        let mut nodes = Vec::new();
        for start in starting {
            nodes.push(within(start).await.unwrap().unwrap());
        }
        for node in &nodes {
            within(node.ready()).await;
        }
        nodes
    }

    pub async fn listens(&self, node: usize) {
        let address = self.node_address(node);
        within(async {
            while tokio::net::TcpStream::connect(&address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

pub async fn stop(nodes: Vec<Node>) {
    for node in nodes {
        within(node.shutdown()).await;
    }
}

pub async fn within<T>(what: impl Future<Output = T>) -> T {
    timeout(WITHIN, what).await.expect("it takes far too long")
}
