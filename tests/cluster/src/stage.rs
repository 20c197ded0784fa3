//! Nodes in namespaces of their own with load on all of them: what runs with network faults share. Not here: the faults (`cuts`), what is
//! expected (the tests).

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use warren_client::{Connection, ConnectionOptions, Credentials};
use warren_testkit::history::PublishOutcome;
use warren_testkit::process::{Cluster, FIRST_PASSWORD, FIRST_USER, NodeNumber, Options};

use crate::network::Network;
use crate::probe::{AmqpProbe, Probe};
use crate::{Load, Shape, connect_as};

/// On a machine that does other work, too.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// How it is to be.
#[derive(Debug, Clone, Copy)]
pub struct Setup<'a> {
    pub nodes: usize,
    /// For every node.
    pub environment: &'a [(&'a str, &'a str)],
    pub shape: Shape,
}

/// A cluster, the network under it, and its clients.
pub struct Stage {
    pub cluster: Cluster,
    pub network: Network,
    pub load: Load,
    options: ConnectionOptions,
    queues: u32,
}

impl Stage {
    /// All nodes are ready, and the plain load has begun.
    ///
    /// # Errors
    /// A node does not become ready, or the queues cannot be declared.
    pub async fn start(mut network: Network, setup: &Setup<'_>) -> Result<Self> {
        network.heal()?;
        let mut cluster = Cluster::prepare(Options {
            nodes: setup.nodes,
            hosts: network.hosts(),
            ready_within: READY_WITHIN,
            ..Options::default()
        })?;
        for number in cluster.numbers() {
            for (variable, value) in setup.environment {
                cluster.set_environment(number, variable, value);
            }
            cluster.spawn(number)?;
        }
        cluster.wait_all_ready()?;
        let options = ConnectionOptions {
            credentials: Some(Credentials {
                user: FIRST_USER.to_owned(),
                password: FIRST_PASSWORD.to_owned(),
            }),
            ..ConnectionOptions::default()
        };
        let load = Load::start_as(&servers(&cluster), setup.shape, options.clone()).await?;
        Ok(Self {
            cluster,
            network,
            load,
            options,
            queues: setup.shape.queues,
        })
    }

    /// Clients over AMQP on every node, for so many queues more.
    ///
    /// # Errors
    /// If the queues cannot be declared.
    pub async fn add_amqp(&mut self, queues: (u32, Duration)) -> Result<()> {
        let numbers = self.cluster.numbers().into_iter();
        let addresses: Vec<String> = numbers.map(|it| self.cluster.amqp_address(it)).collect();
        let servers = servers(&self.cluster);
        self.load.add_amqp(&servers, &addresses, queues).await
    }

    /// All that queues can do.
    ///
    /// # Errors
    /// If the queues cannot be declared.
    pub async fn add_lanes(&mut self, pause: Duration) -> Result<()> {
        let servers = servers(&self.cluster);
        self.load.add_lanes(&servers, pause).await
    }

    /// # Errors
    /// None: the address is one.
    pub fn connection(&self, node: NodeNumber) -> Result<Connection> {
        connect_as(&self.cluster.grpc_address(node), &self.options)
    }

    /// To each node.
    ///
    /// # Errors
    /// None: the addresses are some.
    pub fn connections(&self) -> Result<Vec<Connection>> {
        let numbers = self.cluster.numbers().into_iter();
        numbers.map(|it| self.connection(it)).collect()
    }

    /// To whichever of these nodes answers.
    ///
    /// # Errors
    /// None: the addresses are some.
    pub fn any_of(&self, nodes: &[NodeNumber]) -> Result<Connection> {
        let addresses = nodes.iter().map(|it| self.cluster.grpc_address(*it));
        let addresses: Vec<String> = addresses.collect();
        connect_as(&addresses.join(","), &self.options)
    }

    /// # Errors
    /// None: the address is one.
    pub fn probe(&self, node: NodeNumber, queue: u32) -> Result<Probe> {
        self.load.probe(&self.cluster.grpc_address(node), queue)
    }

    /// # Errors
    /// The node lets nobody in.
    pub async fn amqp_probe(&self, node: NodeNumber, queue: u32) -> Result<AmqpProbe> {
        let address = self.cluster.amqp_address(node);
        self.load.amqp_probe(&address, queue).await
    }

    /// Who leads the topology, and all terms of all groups, by the word of any node.
    ///
    /// # Errors
    /// No node knows.
    pub async fn leads(&self) -> Result<(NodeNumber, u64)> {
        for connection in self.connections()? {
            let Ok(view) = connection.cluster().await else {
                continue;
            };
            let terms = view.shards.iter().map(|it| it.term).sum();
            let topology = view.shards.iter().find(|it| it.shard == 0);
            if let Some(leader) = topology.and_then(|it| it.leader_node_id) {
                return Ok((NodeNumber(usize::try_from(leader)?), terms));
            }
        }
        bail!("no node knows who leads the topology")
    }

    /// Ends the load (`Load::settle`).
    ///
    /// # Errors
    /// If a client failed, which none may.
    pub async fn settle(&mut self, quiet: Duration) -> Result<()> {
        let nothing = Load::empty(self.options.clone());
        std::mem::replace(&mut self.load, nothing)
            .settle(quiet)
            .await
    }

    /// Until each of these nodes has confirmed a message that began now, for every queue; the longest it took.
    ///
    /// # Errors
    /// A node did not, within this time.
    pub async fn confirmed_by(&self, nodes: &[NodeNumber], within: Duration) -> Result<Duration> {
        let began = Instant::now();
        let mut asked = Vec::new();
        for node in nodes {
            for queue in 0..self.queues {
                let mut probe = self.probe(*node, queue)?;
                let node = *node;
                asked.push(tokio::spawn(async move {
                    loop {
                        let answer = probe.publish(Duration::from_secs(3)).await;
                        if answer.outcome == PublishOutcome::Confirmed {
                            return Ok(began.elapsed());
                        }
                        ensure!(
                            began.elapsed() < within,
                            "node {} does not confirm for queue {queue}: {answer:?}",
                            node.0
                        );
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }));
            }
        }
        let mut longest = Duration::ZERO;
        for one in asked {
            longest = longest.max(one.await??);
        }
        Ok(longest)
    }
}

/// One list per node, each beginning with its node.
fn servers(cluster: &Cluster) -> Vec<String> {
    let numbers = cluster.numbers().into_iter();
    numbers.map(|it| cluster.servers_from(it)).collect()
}
