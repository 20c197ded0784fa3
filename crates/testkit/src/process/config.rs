//! Writes what a node reads at its start: configuration and secret. Not here: what the keys mean (`server`).

use std::fs;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rand::Rng;

use super::NodeNumber;
use crate::ports::free_ports;

/// Who clients from another host log in as.
pub const FIRST_USER: &str = "admin";
/// Their password.
pub const FIRST_PASSWORD: &str = "password of the tests";

/// Where one node listens.
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

/// One node, for its configuration.
pub(super) struct Place<'a> {
    pub(super) number: NodeNumber,
    pub(super) host: Ipv4Addr,
    pub(super) ports: Ports,
    pub(super) home: &'a Path,
    /// Its clients come from other hosts and have to log in.
    pub(super) is_alone: bool,
}

/// The configuration of one node; `peers` has the address of each node it is to know, itself among them.
pub(super) fn render(
    place: &Place<'_>,
    peers: &[(NodeNumber, String)],
    secret: &Path,
    log_filter: &str,
) -> String {
    let peers: Vec<String> = peers
        .iter()
        .map(|(peer, address)| format!("    {{ id = {}, address = \"{address}\" }},\n", peer.0))
        .collect();
    let auth = if place.is_alone {
        format!("first_user = {FIRST_USER:?}")
    } else {
        "loopback_guest = true".to_owned()
    };
    let (host, ports) = (place.host, place.ports);
    format!(
        "[node]\nid = {id}\ndata_dir = {data:?}\n\n\
         [cluster]\nname = \"test\"\nsecret_file = {secret:?}\npeers = [\n{peers}]\n\n\
         [listen]\ngrpc = \"{host}:{grpc}\"\nnode = \"{host}:{node}\"\namqp = \"{host}:{amqp}\"\n\
         http = \"{host}:{http}\"\nmetrics = \"{host}:{metrics}\"\n\n\
         [auth]\n{auth}\n\n\
         [limits]\ndisk_free_min = \"16 MiB\"\n\n\
         [log]\nfilter = {log_filter:?}\nformat = \"text\"\n",
        id = place.number.0,
        data = place.home.join("data"),
        peers = peers.concat(),
        grpc = ports.grpc,
        node = ports.node,
        amqp = ports.amqp,
        http = ports.http,
        metrics = ports.metrics,
    )
}
