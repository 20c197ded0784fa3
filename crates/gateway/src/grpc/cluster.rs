//! `warren.cluster.v1.ClusterService`: nodes and shards as this node sees them, drains of this node, leaders and copies of any. What
//! else changes a cluster is not available yet. Not here: what a drain does (`draining`), copies (`copies`), who is to lead
//! (`warren-topology`).

use std::collections::BTreeSet;
use std::pin::Pin;
use std::time::Duration;

use futures::Stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tracing::info;
use warren_proto::cluster_v1;
use warren_proto::cluster_v1::cluster_service_server::ClusterService;
use warren_proto::convert::error::ApiError;
use warren_topology::plan::{CopiesWish, LeaderMove};
use warren_topology::{FinaliseVersion, TopologyCommand, TopologyReply};
use warren_types::{ClusterVersion, GroupId, Level, NodeId, Watermarks};

use super::cluster_view::{nodes, problems, recoveries, shards};
use super::copies::{Asked, change};
use super::error::{bad_argument, of_hand_over, of_refusal, of_topology, unsupported};
use crate::gateway::Gateway;

/// How often leaders are looked at; changes of the topology are told at once.
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub(super) struct ClusterAdmin {
    gateway: Gateway,
    stop: CancellationToken,
}

impl ClusterAdmin {
    pub(super) fn new(gateway: Gateway, stop: CancellationToken) -> Self {
        Self { gateway, stop }
    }

    async fn set_leaving(&self, node: NodeId, leaving: bool) -> Result<(), ApiError> {
        let changed = self.gateway.broker().set_leaving(node, leaving).await;
        let reply = changed.map_err(|error| of_topology(&error))?;
        if let TopologyReply::Refused(refusal) = &reply {
            return Err(of_refusal(refusal));
        }
        Ok(())
    }

    /// Version 0 is the newest that all nodes know.
    async fn finalise(
        &self,
        version: u32,
        validate_only: bool,
    ) -> Result<cluster_v1::FinalizeUpgradeResponse, ApiError> {
        let broker = self.gateway.broker();
        let fresh = broker.topology().fresh().await;
        let topology = fresh.map_err(|error| of_topology(&error))?;
        let version = match version {
            0 => topology.version_to_finalise().unwrap_or(topology.version()),
            version => ClusterVersion(version),
        };
        let reply = if validate_only {
            topology.check(TopologyCommand::FinaliseVersion(FinaliseVersion {
                version,
            }))
        } else {
            let finalised = broker.finalise(version).await;
            finalised.map_err(|error| of_topology(&error))?
        };
        if let TopologyReply::Refused(refusal) = &reply {
            return Err(of_refusal(refusal));
        }
        let now = if validate_only {
            topology.version()
        } else {
            version
        };
        Ok(cluster_v1::FinalizeUpgradeResponse {
            finalized_version: now.0,
            target_version: version.0,
        })
    }

    /// What a node does by itself; 0 is the one that is asked.
    fn check_own(&self, node: u64) -> Result<(), ApiError> {
        if node == 0 || node == self.gateway.broker().node().0 {
            return Ok(());
        }
        let topology = self.gateway.topology();
        Err(match topology.node(NodeId(node)) {
            Some(it) => bad_argument(
                "node_id",
                format!(
                    "node {node} answers for itself: ask it at {}",
                    it.addresses.grpc
                ),
            ),
            None => bad_argument("node_id", format!("there is no node {node}")),
        })
    }

    fn watermarks(
        &self,
        request: &cluster_v1::SetWatermarksRequest,
    ) -> Result<cluster_v1::SetWatermarksResponse, ApiError> {
        self.check_own(request.node_id)?;
        let before = self.gateway.watermarks();
        let Watermarks {
            mut memory,
            mut disk_free,
        } = before;
        if let Some(asked) = &request.memory {
            memory = level("memory", asked)?;
            if memory.percent == 0 && memory.bytes < Watermarks::MEMORY_MIN {
                return Err(bad_argument(
                    "memory",
                    "an idle node may take as much: it needs 128 MiB at least",
                ));
            }
        }
        if let Some(asked) = &request.disk_free {
            disk_free = level("disk_free", asked)?;
        }
        let now = Watermarks { memory, disk_free };
        if now != before {
            info!(
                ?before,
                ?now,
                "watermarks changed, until this node starts again"
            );
            self.gateway.set_watermarks(now);
        }
        let told = |it: Level| cluster_v1::Level {
            bytes: it.bytes,
            percent: u32::from(it.percent),
        };
        Ok(cluster_v1::SetWatermarksResponse {
            memory: Some(told(memory)),
            disk_free: Some(told(disk_free)),
        })
    }
}

fn level(field: &str, asked: &cluster_v1::Level) -> Result<Level, ApiError> {
    let percent = u8::try_from(asked.percent).ok().filter(|it| *it <= 100);
    let percent = percent.ok_or_else(|| bad_argument(field, "a share is 0 to 100"))?;
    Ok(Level {
        bytes: asked.bytes,
        percent,
    })
}

fn state(gateway: &Gateway) -> cluster_v1::WatchTopologyResponse {
    cluster_v1::WatchTopologyResponse {
        nodes: nodes(gateway),
        shards: shards(gateway),
        topology_index: gateway.topology().index().0,
    }
}

/// What makes a state worth telling: not how far each log has got.
fn essence(state: &cluster_v1::WatchTopologyResponse) -> cluster_v1::WatchTopologyResponse {
    let mut essence = state.clone();
    essence.topology_index = 0;
    for shard in &mut essence.shards {
        shard.committed_index = 0;
        shard.applied_index = 0;
        shard.compared_at = None;
        shard
            .replicas
            .iter_mut()
            .for_each(|replica| replica.matched_index = 0);
    }
    essence
}

async fn watch(
    gateway: Gateway,
    out: mpsc::Sender<Result<cluster_v1::WatchTopologyResponse, Status>>,
    stop: CancellationToken,
) {
    let mut view = gateway.broker().topology().watch();
    let mut told = None;
    loop {
        let now = state(&gateway);
        let essence = essence(&now);
        if told.as_ref() != Some(&essence) {
            told = Some(essence);
            if out.send(Ok(now)).await.is_err() {
                return;
            }
        }
        tokio::select! {
            biased; // stopping comes first
            () = stop.cancelled() => return,
            () = out.closed() => return,
            changed = view.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

#[tonic::async_trait]
impl ClusterService for ClusterAdmin {
    async fn get_cluster(
        &self,
        request: Request<cluster_v1::GetClusterRequest>,
    ) -> Result<Response<cluster_v1::GetClusterResponse>, Status> {
        let needing = if request.get_ref().ask_needing {
            self.gateway.broker().needed_for().await
        } else {
            BTreeSet::new()
        };
        let topology = self.gateway.topology();
        let cluster = topology.cluster();
        Ok(Response::new(cluster_v1::GetClusterResponse {
            cluster_name: cluster.map(|it| it.name.to_string()).unwrap_or_default(),
            cluster_id: cluster.map(|it| it.id.to_string()).unwrap_or_default(),
            answering_node_id: self.gateway.broker().node().0,
            nodes: nodes(&self.gateway),
            shards: shards(&self.gateway),
            topology_index: topology.index().0,
            finalized_version: cluster.map_or(0, |it| it.finalised_version.0),
            upgrade_version: topology.version_to_finalise().map_or(0, |it| it.0),
            problems: problems(&self.gateway),
            recoveries: recoveries(&self.gateway),
            needing: needing.into_iter().map(|it| it.0.into()).collect(),
        }))
    }

    type WatchTopologyStream =
        Pin<Box<dyn Stream<Item = Result<cluster_v1::WatchTopologyResponse, Status>> + Send>>;

    async fn watch_topology(
        &self,
        _request: Request<cluster_v1::WatchTopologyRequest>,
    ) -> Result<Response<Self::WatchTopologyStream>, Status> {
        let (out, states) = mpsc::channel(1);
        self.gateway
            .tasks()
            .spawn(watch(self.gateway.clone(), out, self.stop.clone()));
        Ok(Response::new(Box::pin(ReceiverStream::new(states))))
    }

    async fn add_node(
        &self,
        _request: Request<cluster_v1::AddNodeRequest>,
    ) -> Result<Response<cluster_v1::AddNodeResponse>, Status> {
        Err(unsupported("AddNode").into())
    }

    async fn remove_node(
        &self,
        request: Request<cluster_v1::RemoveNodeRequest>,
    ) -> Result<Response<cluster_v1::RemoveNodeResponse>, Status> {
        self.set_leaving(NodeId(request.get_ref().node_id), true)
            .await?;
        Ok(Response::new(cluster_v1::RemoveNodeResponse::default()))
    }

    async fn drain_node(
        &self,
        request: Request<cluster_v1::DrainNodeRequest>,
    ) -> Result<Response<cluster_v1::DrainNodeResponse>, Status> {
        self.check_own(request.get_ref().node_id)?;
        self.gateway.drain(self.stop.clone());
        Ok(Response::new(cluster_v1::DrainNodeResponse::default()))
    }

    async fn revive_node(
        &self,
        request: Request<cluster_v1::ReviveNodeRequest>,
    ) -> Result<Response<cluster_v1::ReviveNodeResponse>, Status> {
        let own = self.gateway.broker().node();
        let node = match request.get_ref().node_id {
            0 => own,
            number => NodeId(number),
        };
        let topology = self.gateway.topology();
        if topology.node(node).is_some_and(|it| it.leaving) {
            self.set_leaving(node, false).await?;
        } else if node != own {
            self.check_own(node.0)?;
        }
        if node == own {
            self.gateway.revive();
        }
        let node = nodes(&self.gateway)
            .into_iter()
            .find(|it| it.node_id == node.0);
        Ok(Response::new(cluster_v1::ReviveNodeResponse { node }))
    }

    async fn add_replica(
        &self,
        request: Request<cluster_v1::AddReplicaRequest>,
    ) -> Result<Response<cluster_v1::AddReplicaResponse>, Status> {
        let it = request.get_ref();
        let wish = CopiesWish::Add(NodeId(it.node_id));
        let asked = Asked {
            shard: it.shard,
            vhost: &it.vhost,
            queue: &it.queue,
            wish,
            dry_run: it.dry_run,
        };
        let told = change(&self.gateway, &asked).await?;
        Ok(Response::new(cluster_v1::AddReplicaResponse {
            operation_id: String::new(),
            change: Some(told),
        }))
    }

    async fn remove_replica(
        &self,
        request: Request<cluster_v1::RemoveReplicaRequest>,
    ) -> Result<Response<cluster_v1::RemoveReplicaResponse>, Status> {
        let it = request.get_ref();
        let wish = CopiesWish::Remove(NodeId(it.node_id));
        let asked = Asked {
            shard: it.shard,
            vhost: &it.vhost,
            queue: &it.queue,
            wish,
            dry_run: it.dry_run,
        };
        let told = change(&self.gateway, &asked).await?;
        Ok(Response::new(cluster_v1::RemoveReplicaResponse {
            operation_id: String::new(),
            change: Some(told),
        }))
    }

    async fn set_copies(
        &self,
        request: Request<cluster_v1::SetCopiesRequest>,
    ) -> Result<Response<cluster_v1::SetCopiesResponse>, Status> {
        let it = request.get_ref();
        let wish = CopiesWish::Count((it.copies != 0).then_some(it.copies));
        let asked = Asked {
            shard: it.shard,
            vhost: &it.vhost,
            queue: &it.queue,
            wish,
            dry_run: it.dry_run,
        };
        let told = change(&self.gateway, &asked).await?;
        Ok(Response::new(cluster_v1::SetCopiesResponse {
            change: Some(told),
        }))
    }

    async fn transfer_leader(
        &self,
        request: Request<cluster_v1::TransferLeaderRequest>,
    ) -> Result<Response<cluster_v1::TransferLeaderResponse>, Status> {
        let request = request.into_inner();
        let group = u32::try_from(request.shard).map(GroupId);
        let group = group.map_err(|_| bad_argument("shard", "there is no such shard"))?;
        let to = (request.node_id != 0).then_some(NodeId(request.node_id));
        let handed = self.gateway.broker().transfer_leader(group, to).await;
        let (node, term) = handed.map_err(of_hand_over)?;
        Ok(Response::new(cluster_v1::TransferLeaderResponse {
            node_id: node.0,
            term: term.0,
        }))
    }

    async fn rebalance(
        &self,
        request: Request<cluster_v1::RebalanceRequest>,
    ) -> Result<Response<cluster_v1::RebalanceResponse>, Status> {
        let broker = self.gateway.broker();
        let moves = broker.leader_moves();
        if !request.get_ref().dry_run && !moves.is_empty() {
            broker.spread_leaders().await.map_err(of_hand_over)?;
        }
        let text = |it: &LeaderMove| {
            format!(
                "leader of shard {}: from node {} to node {}",
                it.group, it.from, it.to
            )
        };
        Ok(Response::new(cluster_v1::RebalanceResponse {
            operation_id: String::new(),
            moves: moves.iter().map(text).collect(),
        }))
    }

    async fn recover_majority(
        &self,
        _request: Request<cluster_v1::RecoverMajorityRequest>,
    ) -> Result<Response<cluster_v1::RecoverMajorityResponse>, Status> {
        Err(unsupported("RecoverMajority").into())
    }

    async fn start_backup(
        &self,
        _request: Request<cluster_v1::StartBackupRequest>,
    ) -> Result<Response<cluster_v1::StartBackupResponse>, Status> {
        Err(unsupported("StartBackup").into())
    }

    async fn start_restore(
        &self,
        _request: Request<cluster_v1::StartRestoreRequest>,
    ) -> Result<Response<cluster_v1::StartRestoreResponse>, Status> {
        Err(unsupported("StartRestore").into())
    }

    async fn finalize_upgrade(
        &self,
        request: Request<cluster_v1::FinalizeUpgradeRequest>,
    ) -> Result<Response<cluster_v1::FinalizeUpgradeResponse>, Status> {
        let request = request.get_ref();
        let answer = self
            .finalise(request.version, request.validate_only)
            .await?;
        Ok(Response::new(answer))
    }

    async fn set_watermarks(
        &self,
        request: Request<cluster_v1::SetWatermarksRequest>,
    ) -> Result<Response<cluster_v1::SetWatermarksResponse>, Status> {
        let answer = self.watermarks(request.get_ref())?;
        Ok(Response::new(answer))
    }
}
