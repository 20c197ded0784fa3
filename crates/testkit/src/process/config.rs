//! Writes what a node reads at its start: configuration and secret. Not here: what the keys mean (`server`).

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rand::Rng;

use super::NodeNumber;
use crate::ports::free_ports;

/// Where one node listens, all on 127.0.0.1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ports {
    /// Clients over gRPC.
    pub grpc: u16,
    /// Node to node.
    pub node: u16,
    /// Clients over AMQP.
    pub amqp: u16,
    /// Health.
    pub http: u16,
    /// Metrics.
    pub metrics: u16,
}

impl Ports {
    /// Free ports for so many nodes.
    pub(super) fn find(nodes: usize) -> Result<Vec<Self>> {
        let ports = free_ports(nodes * 5)?;
        let mut ports = ports.into_iter();
        let mut next = || ports.next().context("five ports for each node");
        (0..nodes)
            .map(|_| {
                Ok(Self {
                    grpc: next()?,
                    node: next()?,
                    amqp: next()?,
                    http: next()?,
                    metrics: next()?,
                })
            })
            .collect()
    }
}

/// Makes the cluster's secret, readable by its owner only.
pub(super) fn write_secret(directory: &Path) -> Result<PathBuf> {
    let path = directory.join("secret");
    let secret: [u8; 32] = rand::rng().random();
    let text: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    fs::create_dir_all(directory)?;
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)?
        .write_all(text.as_bytes())?;
    Ok(path)
}

/// The configuration of one node; `peers` has the port of each node it is to know, itself among them.
pub(super) fn render(
    number: NodeNumber,
    own: &Ports,
    peers: &[(NodeNumber, u16)],
    home: &Path,
    secret: &Path,
    log_filter: &str,
) -> String {
    let peers: Vec<String> = peers
        .iter()
        .map(|(peer, port)| {
            let address = format!("127.0.0.1:{port}");
            format!("    {{ id = {}, address = \"{address}\" }},\n", peer.0)
        })
        .collect();
    format!(
        "[node]\nid = {id}\ndata_dir = {data:?}\n\n\
         [cluster]\nname = \"test\"\nsecret_file = {secret:?}\npeers = [\n{peers}]\n\n\
         [listen]\ngrpc = \"127.0.0.1:{grpc}\"\nnode = \"127.0.0.1:{node}\"\namqp = \"127.0.0.1:{amqp}\"\n\
         http = \"127.0.0.1:{http}\"\nmetrics = \"127.0.0.1:{metrics}\"\n\n\
         [auth]\nloopback_guest = true\n\n\
         [limits]\ndisk_free_min = \"16 MiB\"\n\n\
         [log]\nfilter = {log_filter:?}\nformat = \"text\"\n",
        id = number.0,
        data = home.join("data"),
        peers = peers.concat(),
        grpc = own.grpc,
        node = own.node,
        amqp = own.amqp,
        http = own.http,
        metrics = own.metrics,
    )
}
