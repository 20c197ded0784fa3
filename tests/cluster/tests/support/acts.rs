//! What can happen to five nodes under load, one thing at a time: network, kills, pauses, stops in good order, members that come and go,
//! leaders handed over. Not here: load, and what is expected of it (`long.rs`).

use std::fmt;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use warren_client::{Cluster as View, Connection, NodeState};
use warren_cluster::cuts::{Cut, Fault, HALVES, OF_FIVE, OF_THREE};
use warren_cluster::stage::Stage;
use warren_cluster::watch::{answered, no_change, until_within};
use warren_testkit::process::NodeNumber;

/// What a machine that does other work has for changes of members.
const CHANGED_WITHIN: Duration = Duration::from_secs(900);
const COPIES: usize = 3;
const TRANSFERS: usize = 6;
/// Longer than nodes may be silent before their replicas are replaced, as `long.rs` sets it.
const LOST_FOR: Duration = Duration::from_secs(26);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Cut(Fault),
    /// SIGKILL of so many at once.
    Kill(usize),
    /// SIGSTOP of so many, then SIGCONT.
    Freeze(usize),
    /// SIGTERM, and a start.
    Stop,
    /// Leaders are handed over by hand.
    Transfer,
    /// Killed, and away for so long that its replicas are replaced.
    LostForLong,
    /// Killed, and started with a blank directory.
    Blank,
    /// So many are removed, one after the other, and join again with blank directories.
    Leave(usize),
}

impl Kind {
    pub(crate) fn all() -> Vec<Self> {
        let faults = [&OF_THREE[..], &HALVES, &OF_FIVE].concat();
        let mut all: Vec<Self> = faults.into_iter().map(Self::Cut).collect();
        all.extend([1, 2, 5].map(Self::Kill));
        all.extend([1, 2].map(Self::Freeze));
        all.extend([Self::Stop, Self::Transfer, Self::LostForLong, Self::Blank]);
        all.extend([1, 2].map(Self::Leave));
        all
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut(Fault::IsolatedLeader) => write!(f, "network: leader isolated"),
            Self::Cut(Fault::IsolatedFollower) => write!(f, "network: follower isolated"),
            Self::Cut(Fault::OneWay) => write!(f, "network: one way"),
            Self::Cut(Fault::DeafLeader) => write!(f, "network: deaf leader"),
            Self::Cut(Fault::MuteLeader) => write!(f, "network: mute leader"),
            Self::Cut(Fault::Ring) => write!(f, "network: two do not reach each other"),
            Self::Cut(Fault::Flapping) => write!(f, "network: flapping"),
            Self::Cut(Fault::Loss) => write!(f, "network: 30 % loss"),
            Self::Cut(Fault::Delay) => write!(f, "network: 20 to 50 ms late"),
            Self::Cut(Fault::LeaderOfTwo) => write!(f, "network: halves, leader with two"),
            Self::Cut(Fault::LeaderOfThree) => write!(f, "network: halves, leader with three"),
            Self::Cut(Fault::MajorityRing) => write!(f, "network: circle of five"),
            Self::Cut(Fault::Bridge) => write!(f, "network: bridge"),
            Self::Kill(nodes) => write!(f, "SIGKILL of {nodes}"),
            Self::Freeze(nodes) => write!(f, "SIGSTOP of {nodes}"),
            Self::Stop => write!(f, "SIGTERM and start"),
            Self::Transfer => write!(f, "{TRANSFERS} leaders handed over"),
            Self::LostForLong => write!(f, "SIGKILL, replicas replaced"),
            Self::Blank => write!(f, "SIGKILL, back blank"),
            Self::Leave(nodes) => write!(f, "{nodes} removed, join again"),
        }
    }
}

/// Whom it took something from.
pub(crate) struct Done {
    away: Vec<NodeNumber>,
    cut: Option<Cut>,
    pub(crate) told: String,
}

impl Done {
    fn to(away: Vec<NodeNumber>, told: String) -> Self {
        Self {
            away,
            cut: None,
            told,
        }
    }

    /// Whether a group of these replicas could go on meanwhile.
    pub(crate) fn leaves_majority(&self, replicas: &[NodeNumber]) -> bool {
        let left = replicas.iter().filter(|it| !self.away.contains(it)).count();
        let is_cut = self
            .cut
            .as_ref()
            .is_some_and(|it| !it.leaves_majority(replicas));
        left * 2 > replicas.len() && !is_cut
    }
}

/// Does it, and undoes it. All nodes run afterwards, and are members.
pub(crate) async fn play(stage: &mut Stage, kind: Kind, random: &mut StdRng) -> Result<Done> {
    match kind {
        Kind::Cut(fault) => cut(stage, fault, random).await,
        Kind::Kill(nodes) => {
            let nodes = draw(stage, nodes, random);
            kill(stage, &nodes)?;
            sleep(random, 0..8_000).await;
            start(stage, &nodes)?;
            Ok(Done::to(nodes.clone(), numbers(&nodes)))
        }
        Kind::Freeze(nodes) => {
            let nodes = draw(stage, nodes, random);
            nodes.iter().try_for_each(|it| stage.cluster.pause(*it))?;
            sleep(random, 500..12_000).await;
            nodes.iter().try_for_each(|it| stage.cluster.resume(*it))?;
            Ok(Done::to(nodes.clone(), numbers(&nodes)))
        }
        Kind::Stop => {
            let nodes = draw(stage, 1, random);
            for node in &nodes {
                let status = stage.cluster.terminate(*node, Duration::from_secs(120))?;
                ensure!(status.success(), "node {} ended with {status}", node.0);
            }
            start(stage, &nodes)?;
            Ok(Done::to(nodes.clone(), numbers(&nodes)))
        }
        Kind::Transfer => transfer(stage, random).await,
        Kind::LostForLong => {
            let nodes = draw(stage, 1, random);
            kill(stage, &nodes)?;
            tokio::time::sleep(LOST_FOR).await;
            start(stage, &nodes)?;
            until_whole(stage).await?;
            Ok(Done::to(nodes.clone(), numbers(&nodes)))
        }
        Kind::Blank => {
            let nodes = draw(stage, 1, random);
            kill(stage, &nodes)?;
            wipe(stage, &nodes)?;
            start(stage, &nodes)?;
            until_whole(stage).await?;
            Ok(Done::to(nodes.clone(), numbers(&nodes)))
        }
        Kind::Leave(nodes) => leave(stage, nodes, random).await,
    }
}

fn draw(stage: &Stage, nodes: usize, random: &mut StdRng) -> Vec<NodeNumber> {
    let mut all = stage.cluster.numbers();
    all.shuffle(random);
    all.truncate(nodes);
    all
}

fn numbers(nodes: &[NodeNumber]) -> String {
    let all: Vec<String> = nodes.iter().map(|it| it.0.to_string()).collect();
    format!("of {}", all.join(", "))
}

async fn sleep(random: &mut StdRng, ms: std::ops::Range<u64>) {
    tokio::time::sleep(Duration::from_millis(random.random_range(ms))).await;
}

fn kill(stage: &mut Stage, nodes: &[NodeNumber]) -> Result<()> {
    nodes.iter().try_for_each(|it| stage.cluster.kill(*it))
}

fn wipe(stage: &Stage, nodes: &[NodeNumber]) -> Result<()> {
    for node in nodes {
        fs::remove_dir_all(stage.cluster.data_directory(*node))?;
    }
    Ok(())
}

/// All at once: none may be ready alone.
fn start(stage: &mut Stage, nodes: &[NodeNumber]) -> Result<()> {
    nodes.iter().try_for_each(|it| stage.cluster.spawn(*it))?;
    nodes
        .iter()
        .try_for_each(|it| stage.cluster.wait_ready(*it))
}

async fn cut(stage: &mut Stage, fault: Fault, random: &mut StdRng) -> Result<Done> {
    let (leader, _) = answered(async || stage.leads().await).await?;
    let cut = Cut::of(fault, stage.cluster.numbers().len(), leader, random);
    cut.make(&mut stage.network)?;
    let until = Instant::now() + Duration::from_millis(random.random_range(1_500..15_000));
    cut.flap(&stage.network, until, random.random()).await?;
    tokio::time::sleep(until.saturating_duration_since(Instant::now())).await;
    stage.network.heal()?;
    Ok(Done {
        away: Vec::new(),
        told: cut.to_string(),
        cut: Some(cut),
    })
}

async fn transfer(stage: &Stage, random: &mut StdRng) -> Result<Done> {
    let admin = stage.any_of(&stage.cluster.numbers())?;
    let view = answered(async || Ok(admin.cluster().await?)).await?;
    let mut done = 0;
    for _ in 0..TRANSFERS {
        let shard = view.shards.choose(random).context("there are shards")?;
        let to = shard.replicas.choose(random).context("it has replicas")?;
        // One that is behind is refused: nothing was done.
        done += usize::from(admin.transfer_leader(shard.shard, to.node_id).await.is_ok());
    }
    Ok(Done::to(Vec::new(), format!("{done} done")))
}

/// Every shard has its copies, all nodes are there, and nothing changes.
fn is_whole(view: &View, nodes: usize) -> bool {
    let mut shards = view.shards.iter().filter(|it| it.shard > 0);
    no_change(view)
        && view.nodes.len() == nodes
        && view.nodes.iter().all(|it| it.state == NodeState::Up)
        && shards.all(|it| it.replicas.len() == COPIES)
}

async fn until_whole(stage: &Stage) -> Result<()> {
    let all = stage.cluster.numbers();
    let admin = stage.any_of(&all)?;
    let what = "all nodes are members, all shards have their copies";
    until_within(&admin, what, CHANGED_WITHIN, |it| is_whole(it, all.len())).await
}

async fn leave(stage: &mut Stage, nodes: usize, random: &mut StdRng) -> Result<Done> {
    let leaving = draw(stage, nodes, random);
    let mut kept = stage.cluster.numbers();
    kept.retain(|it| !leaving.contains(it));
    let admin = stage.any_of(&kept)?;
    let (mut away, mut told) = (Vec::new(), numbers(&leaving));
    for node in &leaving {
        remove(&admin, *node).await?;
        if random.random_bool(0.4) {
            // Whatever is under way goes on when a node comes back.
            sleep(random, 0..2_000).await;
            let other = *kept.choose(random).context("some are kept")?;
            kill(stage, &[other])?;
            sleep(random, 0..3_000).await;
            start(stage, &[other])?;
            told += &format!(", {} killed meanwhile", other.0);
            away.push(other);
        }
        let id = u64::try_from(node.0)?;
        let is_forgotten = |it: &View| it.nodes.iter().all(|it| it.node_id != id);
        until_within(
            &admin,
            "the node is forgotten",
            CHANGED_WITHIN,
            is_forgotten,
        )
        .await?;
        kill(stage, &[*node])?;
        wipe(stage, &[*node])?;
    }
    let left = kept.len();
    let what = "all shards have their copies on those that are left";
    until_within(&admin, what, CHANGED_WITHIN, |it| is_whole(it, left)).await?;
    sleep(random, 500..3_000).await;
    start(stage, &leaving)?;
    until_whole(stage).await?;
    Ok(Done::to(away, told))
}

/// Asked again while leaders change.
async fn remove(admin: &Connection, node: NodeNumber) -> Result<()> {
    let began = Instant::now();
    let id = u64::try_from(node.0)?;
    loop {
        let Err(error) = admin.remove_node(id).await else {
            return Ok(());
        };
        ensure!(began.elapsed() < Duration::from_secs(60), "{error}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
