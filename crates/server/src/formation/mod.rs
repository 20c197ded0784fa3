//! Forming a cluster from the static list of nodes, in any start order, and never from a blank directory that others know; joining
//! one that is there (`join`), keeping its members in mind (`renew`).
//!
//! Every node says hello to all others. When all are blank and name the same nodes, the one with the lowest number writes down
//! the cluster's id and members (`record`), and tells the others until all have written it down, too (`spread`): a crash in
//! between continues with the same cluster. A node that holds the record starts its replicas; the topology is told by its
//! leader (`announce`). Nodes that do not know the cluster's version do not run (`version`). Not here: the handshake that keeps strangers out (`warren-raft`), placement (`warren-topology`).

mod announce;
mod error;
mod form;
mod join;
mod record;
mod renew;
mod spread;
#[cfg(test)]
mod tests;
mod version;

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::watch;
use warren_storage::DataDir;
use warren_types::{ClusterId, NodeId};

pub(crate) use announce::announce;
pub use error::FormationError;
pub(crate) use form::wait_formed;
pub(crate) use join::serve as serve_join;
pub(crate) use record::Record;
pub(crate) use renew::renew;
pub(crate) use spread::{look_round, spread};
pub(crate) use version::{unknown_version, watch_version};

use self::version::check_version;
use crate::identity::Identity;

/// What this node knows of its cluster's beginning, in memory and in the data directory.
pub(crate) struct Formation {
    /// The node holds the directory, and with it its lock: connections that linger must not.
    dir: Weak<DataDir>,
    us: Arc<Identity>,
    record: watch::Sender<Option<Arc<Record>>>,
    adopting: Mutex<()>,
}

/// What became of a record that was offered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Adopted {
    Joined,
    Already,
    OtherCluster(ClusterId),
}

impl Formation {
    /// Reads what is kept. Blocks on the disk.
    ///
    /// # Errors
    /// What is kept is damaged, incomplete, or not this node's.
    pub(crate) fn open(dir: &Arc<DataDir>, us: Arc<Identity>) -> Result<Self, FormationError> {
        let record = Record::read(dir.path())?;
        match (&record, dir.cluster()) {
            (None, None) => {}
            (Some(record), kept) => {
                check_own(record, &us, dir)?;
                if kept.is_some() {
                    check_storage(dir)?;
                }
                // The process may have ended between the two writes; another cluster's id is refused in there.
                dir.set_cluster(record.cluster.cluster)?;
            }
            (None, Some(cluster)) => {
                return Err(FormationError::Missing {
                    path: Record::path(dir),
                    cluster,
                });
            }
        }
        Ok(Self {
            dir: Arc::downgrade(dir),
            us,
            record: watch::Sender::new(record.map(Arc::new)),
            adopting: Mutex::new(()),
        })
    }

    pub(crate) fn us(&self) -> &Arc<Identity> {
        &self.us
    }

    /// `None`: this node's directory is blank.
    pub(crate) fn record(&self) -> Option<Arc<Record>> {
        self.record.borrow().clone()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Option<Arc<Record>>> {
        self.record.subscribe()
    }

    /// The nodes of its cluster, or those it is configured to form one with.
    pub(crate) fn members(&self) -> BTreeSet<NodeId> {
        self.record()
            .map_or_else(|| self.us.peers.clone(), |record| record.nodes())
    }

    /// Replaces the record by that of the same cluster as it is now. Blocks on the disk.
    ///
    /// # Errors
    /// The disk's, and if the record does not name this node as it is.
    fn renew(&self, record: Record) -> Result<(), FormationError> {
        let _one_at_a_time = self.adopting.lock();
        let dir = self.dir.upgrade().ok_or(FormationError::Stopped)?;
        check_own(&record, &self.us, &dir)?;
        record.write(&dir)?;
        self.record.send_replace(Some(Arc::new(record)));
        Ok(())
    }

    /// Makes the record this node's own, unless it has one; on disk when it returns. Blocks on the disk.
    ///
    /// # Errors
    /// The disk's, and if the record does not name this node as it is.
    pub(crate) fn adopt(&self, record: Record) -> Result<Adopted, FormationError> {
        let _one_at_a_time = self.adopting.lock();
        if let Some(own) = self.record() {
            let cluster = own.cluster.cluster;
            let same = cluster == record.cluster.cluster;
            return Ok(if same {
                Adopted::Already
            } else {
                Adopted::OtherCluster(cluster)
            });
        }
        let dir = self.dir.upgrade().ok_or(FormationError::Stopped)?;
        check_own(&record, &self.us, &dir)?;
        record.write(&dir)?;
        dir.set_cluster(record.cluster.cluster)?;
        self.record.send_replace(Some(Arc::new(record)));
        Ok(Adopted::Joined)
    }
}

/// The record must name this node with this directory, and the cluster must be the configured one.
fn check_own(record: &Record, us: &Identity, dir: &DataDir) -> Result<(), FormationError> {
    if *record.cluster.name != *us.cluster_name {
        return Err(FormationError::OtherName {
            path: dir.path().to_owned(),
            found: record.cluster.name.to_string(),
            expected: us.cluster_name.clone(),
        });
    }
    check_version(record.cluster.cluster, record.cluster.version)?;
    let own = record.cluster.nodes.iter().find(|node| node.id == us.node);
    if own.is_none_or(|own| own.incarnation != us.incarnation) {
        return Err(FormationError::Damaged {
            path: Record::path(dir),
            detail: format!(
                "it does not name node {} as incarnation {}",
                us.node, us.incarnation
            ),
        });
    }
    Ok(())
}

/// A node that was part of a cluster has a log and a state: if they are gone it must not go on as if nothing had been.
fn check_storage(dir: &DataDir) -> Result<(), FormationError> {
    for path in [dir.log_dir(), dir.state_dir()] {
        let blank = match std::fs::read_dir(&path) {
            Ok(mut items) => items.next().is_none(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
            Err(source) => return Err(FormationError::Io { path, source }),
        };
        if blank {
            return Err(FormationError::StorageMissing { path });
        }
    }
    Ok(())
}
