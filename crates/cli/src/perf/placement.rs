//! The queues of a run, and to which node the workers of each go.

use anyhow::{Context as _, Result};
use warren_client::{Connection, QueueDeletion, QueueSpec, ServerAddress};

use super::options::{Place, Plan};
use crate::args::Global;

/// One queue of the run.
#[derive(Debug, Clone)]
struct QueuePlace {
    name: String,
    /// Index of its leader's address among the servers.
    leader: Option<usize>,
}

/// The queues, declared.
#[derive(Debug)]
pub(super) struct Placement {
    queues: Vec<QueuePlace>,
    place: Place,
}

/// Where one worker goes.
pub(super) struct Worker {
    pub(super) connection: Connection,
    pub(super) vhost: String,
    pub(super) queue: String,
    pub(super) queue_index: usize,
}

/// A queue, before a worker connects for it.
pub(super) struct Spot<'a> {
    queue: &'a QueuePlace,
    queue_index: usize,
    place: Place,
}

impl Placement {
    /// Declares the queues, fresh unless they are to be kept.
    pub(super) async fn prepare(global: &Global, plan: &Plan) -> Result<Self> {
        let connection = global.connect()?;
        let addresses: Vec<ServerAddress> = connection.addresses().cloned().collect();
        let mut queues = Vec::new();
        for index in 0..plan.queues {
            let name = format!("{}-{index}", plan.queue_prefix);
            if !plan.keep {
                connection
                    .delete_queue(&global.vhost, &name, QueueDeletion::default())
                    .await
                    .with_context(|| format!("deleting queue {name} of an earlier run"))?;
            }
            let spec = QueueSpec {
                vhost: global.vhost.clone(),
                arguments: plan.arguments.clone(),
                ..QueueSpec::durable(&name)
            };
            let queue = connection
                .declare_queue(&spec)
                .await
                .with_context(|| format!("declaring queue {name}"))?;
            let endpoint = queue.leader_endpoint.parse::<ServerAddress>().ok();
            let leader = endpoint.and_then(|it| addresses.iter().position(|other| *other == it));
            queues.push(QueuePlace { name, leader });
        }
        Ok(Self {
            queues,
            place: plan.place,
        })
    }

    pub(super) fn queues(&self) -> impl Iterator<Item = &str> {
        self.queues.iter().map(|it| it.name.as_str())
    }

    /// Queues whose workers go to their leader.
    pub(super) fn at_leader(&self) -> usize {
        match self.place {
            Place::Leader => self.queues.iter().filter(|it| it.leader.is_some()).count(),
            Place::Spread => 0,
        }
    }

    pub(super) fn of_queue(&self, index: usize) -> Spot<'_> {
        Spot {
            queue: self
                .queues
                .get(index)
                .expect("workers take queues modulo their number"),
            queue_index: index,
            place: self.place,
        }
    }
}

impl Spot<'_> {
    /// A connection of the worker's own, to its node first and the others after it.
    pub(super) fn connect(self, global: &Global, worker: usize) -> Result<Worker> {
        let mut addresses = global.server.0.clone();
        let first = match (self.place, self.queue.leader) {
            (Place::Leader, Some(leader)) => leader,
            (Place::Leader, None) => self.queue_index,
            (Place::Spread, _) => worker,
        };
        let count = addresses.len().max(1);
        addresses.rotate_left(first % count);
        Ok(Worker {
            connection: Connection::new(&addresses, global.connection_options()?)?,
            vhost: global.vhost.clone(),
            queue: self.queue.name.clone(),
            queue_index: self.queue_index,
        })
    }
}
