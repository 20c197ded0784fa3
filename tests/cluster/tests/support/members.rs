//! What tests of nodes that come and go share: their load and its end, waiting for a state of the cluster, and that no term has two leaders.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use warren_client::{Cluster, Connection};
use warren_cluster::{Load, Shape};
use warren_testkit::checker::check;

const WITHIN: Duration = Duration::from_secs(120);

pub(crate) const SHAPE: Shape = Shape {
    queues: 3,
    publishers: 2,
    consumers: 2,
    pause: Duration::from_millis(5),
    body_bytes: 200,
};

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// What the clients saw is checked, and who led.
pub(crate) async fn end(load: Load, terms: Terms) -> Result<()> {
    let gap = load.longest_gap_ms();
    let report = check(&load.finish(Duration::from_secs(90)).await?);
    println!("{report}longest time a publisher went without a confirm: {gap} ms");
    ensure!(report.is_clean(), "{report}");
    ensure!(report.confirmed > 500, "hardly anything was confirmed");
    terms.end().await
}

/// Nothing is under way, and every shard is led.
pub(crate) fn no_change(cluster: &Cluster) -> bool {
    let told = |it: &String| it.contains("change") || it.contains("copies");
    cluster.is_ready() && !cluster.problems.iter().any(told)
}

/// Waits until the cluster, as a node sees it, is so.
pub(crate) async fn until(
    connection: &Connection,
    what: &str,
    is_so: impl Fn(&Cluster) -> bool,
) -> Result<()> {
    let began = Instant::now();
    loop {
        // A node that cannot tell now is asked again.
        let now = connection.cluster().await;
        if now.as_ref().is_ok_and(&is_so) {
            println!("{what}: after {:?}", began.elapsed());
            return Ok(());
        }
        if began.elapsed() > WITHIN {
            match now {
                Ok(now) => bail!("not so in time: {what}: {:?}", now.problems),
                Err(error) => bail!("not so in time: {what}: {error}"),
            }
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// Asks all the time who leads which group in which term. Two leaders in one term would be two majorities.
pub(crate) struct Terms {
    stop: oneshot::Sender<()>,
    watching: JoinHandle<Result<()>>,
}

impl Terms {
    pub(crate) fn watch(nodes: Vec<Connection>) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let watching = tokio::spawn(async move {
            let mut leaders = BTreeMap::new();
            while stopped.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
                for node in &nodes {
                    // One that is down now is asked again later.
                    let Ok(cluster) = node.cluster().await else {
                        continue;
                    };
                    for shard in cluster.shards {
                        let Some(leader) = shard.leader_node_id else {
                            continue;
                        };
                        let known = *leaders.entry((shard.shard, shard.term)).or_insert(leader);
                        ensure!(
                            known == leader,
                            "nodes {known} and {leader} lead group {} in term {}",
                            shard.shard,
                            shard.term
                        );
                    }
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            println!("{} terms had one leader each", leaders.len());
            ensure!(!leaders.is_empty(), "nobody answered");
            Ok(())
        });
        Self { stop, watching }
    }

    pub(crate) async fn end(self) -> Result<()> {
        // It has ended by itself if it found something.
        let _ = self.stop.send(());
        self.watching.await?
    }
}
