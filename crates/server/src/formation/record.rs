//! The record of a cluster's beginning: its id, its first members with their incarnations, the topology's replicas. Kept in the
//! data directory as `FORMATION`, checksummed and synced. Not here: when it is made (`form`).

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;
use warren_codec::{TopologyEntry, decode_topology_entry, encode_topology_entry};
use warren_proto::internal_v1::FormClusterRequest;
use warren_proto::stored_v1 as stored;
use warren_queue::entry::ProposalId;
use warren_storage::DataDir;
use warren_topology::{FormCluster, TopologyCommand};
use warren_types::{Incarnation, Member, NodeId, Run, ShardTime};

use super::FormationError;
use crate::identity::id_bytes;

const FILE: &str = "FORMATION";
const MAGIC: &[u8; 8] = b"warrenF1";
const CHECKSUM_BYTES: usize = 4;
/// Nine nodes need about one KiB.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// How the cluster began.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Record {
    /// The node that formed it, and so initialises the topology's group.
    pub(crate) former: NodeId,
    pub(crate) cluster: FormCluster,
}

impl Record {
    pub(crate) fn nodes(&self) -> BTreeSet<NodeId> {
        self.cluster.nodes.iter().map(|node| node.id).collect()
    }

    pub(crate) fn topology_members(&self) -> Vec<Member> {
        self.cluster.topology_members.clone()
    }

    /// What is sent to a node that is to take part.
    pub(crate) fn to_request(&self, to: Incarnation) -> FormClusterRequest {
        FormClusterRequest {
            cluster_id: id_bytes(self.cluster.cluster.0),
            cluster_name: self.cluster.name.to_string(),
            cluster: stored::TopologyEntry::decode(self.encode())
                .ok()
                .and_then(form_cluster_of),
            from_node: self.former.0,
            to_incarnation: id_bytes(to.0),
        }
    }

    pub(crate) fn from_request(request: FormClusterRequest) -> Result<Self, String> {
        let entry = stored::TopologyEntry {
            format_version: 1,
            proposer_node: request.from_node,
            command: Some(stored::TopologyCommand {
                kind: request
                    .cluster
                    .map(stored::topology_command::Kind::FormCluster),
            }),
            ..stored::TopologyEntry::default()
        };
        Self::decode(&entry.encode_to_vec().into())
    }

    pub(crate) fn path(dir: &DataDir) -> PathBuf {
        dir.path().join(FILE)
    }

    /// `None`: there is none.
    pub(crate) fn read(dir: &Path) -> Result<Option<Self>, FormationError> {
        let path = dir.join(FILE);
        let damaged = |detail: &str| FormationError::Damaged {
            path: path.clone(),
            detail: detail.to_owned(),
        };
        match fs::metadata(&path) {
            Ok(about) if about.len() > FILE_BYTES_MAX => return Err(damaged("it is far too long")),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(FormationError::Io { path, source }),
        }
        let bytes = fs::read(&path).map_err(|source| FormationError::Io {
            path: path.clone(),
            source,
        })?;
        let content = bytes
            .strip_prefix(MAGIC)
            .ok_or_else(|| damaged("it does not begin as such a file does"))?;
        let (sum, content) = content
            .split_first_chunk::<CHECKSUM_BYTES>()
            .ok_or_else(|| damaged("it is too short"))?;
        if u32::from_be_bytes(*sum) != crc32c::crc32c(content) {
            return Err(damaged("its checksum does not match"));
        }
        Self::decode(&Bytes::copy_from_slice(content))
            .map(Some)
            .map_err(|why| damaged(&why))
    }

    /// Temporary file, sync, rename, sync of the directory: a crash leaves nothing or the whole.
    pub(crate) fn write(&self, dir: &DataDir) -> Result<(), FormationError> {
        let path = Self::path(dir);
        let temporary = path.with_extension("tmp");
        let content = self.encode();
        let steps = || {
            let mut file = File::create(&temporary)?;
            file.write_all(MAGIC)?;
            file.write_all(&crc32c::crc32c(&content).to_be_bytes())?;
            file.write_all(&content)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            File::open(dir.path())?.sync_all()
        };
        steps().map_err(|source| FormationError::Io {
            path: path.clone(),
            source,
        })
    }

    /// As the entry of the topology's log that will say the same.
    fn encode(&self) -> Bytes {
        encode_topology_entry(&TopologyEntry {
            proposal: ProposalId {
                node: self.former,
                run: Run(0),
                number: 0,
            },
            now: ShardTime(0),
            command: TopologyCommand::FormCluster(self.cluster.clone()),
        })
    }

    fn decode(bytes: &Bytes) -> Result<Self, String> {
        let entry = decode_topology_entry(bytes).map_err(|error| error.to_string())?;
        let former = entry.proposal.node;
        match entry.command {
            TopologyCommand::FormCluster(cluster) => Ok(Self { former, cluster }),
            TopologyCommand::UpdateNode(_)
            | TopologyCommand::DeclareExchange(_)
            | TopologyCommand::DeleteExchange(_)
            | TopologyCommand::DeclareQueue(_)
            | TopologyCommand::DeleteQueue(_)
            | TopologyCommand::Bind(_)
            | TopologyCommand::Unbind(_)
            | TopologyCommand::NoteConsumer(_)
            | TopologyCommand::SetPolicy(_)
            | TopologyCommand::DeletePolicy(_)
            | TopologyCommand::Tenancy(_)
            | TopologyCommand::Placement(_)
            | TopologyCommand::Batch(_)
            | TopologyCommand::FinaliseVersion(_) => Err("it forms no cluster".to_owned()),
        }
    }
}

fn form_cluster_of(entry: stored::TopologyEntry) -> Option<stored::FormCluster> {
    let kind = entry.command?.kind?;
    if let stored::topology_command::Kind::FormCluster(cluster) = kind {
        Some(cluster)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use warren_topology::{Addresses, Node, Software};
    use warren_types::{ClusterId, ClusterVersion, ReplicaId};

    use super::*;

    pub(super) fn record() -> Record {
        let node = |number: u64| Node {
            id: NodeId(number),
            incarnation: Incarnation(u128::from(number) << 90),
            addresses: Addresses {
                node: "a:1".into(),
                grpc: "a:2".into(),
                amqp: "".into(),
            },
            zone: "z".into(),
            leaving: false,
            former: Vec::new(),
            software: Software::default(),
        };
        Record {
            former: NodeId(1),
            cluster: FormCluster {
                cluster: ClusterId(77 << 80),
                name: "test".into(),
                version: ClusterVersion::FIRST,
                nodes: vec![node(1), node(2), node(3)],
                topology_members: (1..=3)
                    .map(|n| Member {
                        replica: ReplicaId(n),
                        node: NodeId(n),
                    })
                    .collect(),
                shards: 16,
                replication_factor: 3,
            },
        }
    }

    #[test]
    fn record_survives_file_and_wire() {
        let root = tempfile::tempdir().unwrap();
        let dir = DataDir::open(root.path(), NodeId(1)).unwrap();
        assert_eq!(Record::read(dir.path()).unwrap(), None);
        record().write(&dir).unwrap();
        assert_eq!(Record::read(dir.path()).unwrap(), Some(record()));
        let request = record().to_request(Incarnation(5));
        assert_eq!(Record::from_request(request), Ok(record()));
    }

    #[test]
    fn record_with_any_byte_flipped_or_cut_off_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let dir = DataDir::open(root.path(), NodeId(1)).unwrap();
        record().write(&dir).unwrap();
        let path = Record::path(&dir);
        let good = fs::read(&path).unwrap();
        for byte in 0..good.len() {
            let mut bad = good.clone();
            bad[byte] ^= 1;
            fs::write(&path, bad).unwrap();
            assert!(
                matches!(
                    Record::read(dir.path()),
                    Err(FormationError::Damaged { .. })
                ),
                "byte {byte}"
            );
        }
        for length in 0..good.len() {
            fs::write(&path, &good[..length]).unwrap();
            assert!(
                matches!(
                    Record::read(dir.path()),
                    Err(FormationError::Damaged { .. })
                ),
                "length {length}"
            );
        }
    }
}
