//! Looking at a cluster from outside: waiting for a state of it, and that no term of a group has two leaders. Not here: load.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use warren_client::{Cluster, Connection};

const WITHIN: Duration = Duration::from_secs(120);

/// Nothing is under way, and every shard is led.
#[must_use]
pub fn no_change(cluster: &Cluster) -> bool {
    let told = |it: &String| it.contains("change") || it.contains("copies");
    cluster.is_ready() && !cluster.problems.iter().any(told)
}

fn told(cluster: &Cluster, began: Instant) -> String {
    let (node, problems) = (cluster.answering_node_id, &cluster.problems);
    format!("node {node} after {:.0?}: {problems:?}", began.elapsed())
}

/// Waits until the cluster, as a node sees it, is so.
///
/// # Errors
/// When it is not so in time.
pub async fn until(
    connection: &Connection,
    what: &str,
    is_so: impl Fn(&Cluster) -> bool,
) -> Result<()> {
    until_within(connection, what, WITHIN, is_so).await
}

/// The same where it may take longer.
///
/// # Errors
/// When it is not so in time.
pub async fn until_within(
    connection: &Connection,
    what: &str,
    within: Duration,
    is_so: impl Fn(&Cluster) -> bool,
) -> Result<()> {
    let began = Instant::now();
    let mut last = "nobody answered".to_owned();
    loop {
        // A node that cannot tell now is asked again.
        let now = connection.cluster().await;
        if now.as_ref().is_ok_and(&is_so) {
            eprintln!("{what}: after {:?}", began.elapsed());
            return Ok(());
        }
        if began.elapsed() > within {
            let now = now.map_or_else(|error| error.to_string(), |it| told(&it, began));
            bail!("not so in time: {what}: {now}; before: {last}");
        }
        if let Ok(now) = &now {
            last = told(now, began);
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// Asks until there is an answer: a machine that does other work may take a call's time.
///
/// # Errors
/// The last one, when there was none in time.
pub async fn answered<T>(ask: impl AsyncFn() -> Result<T>) -> Result<T> {
    let began = Instant::now();
    loop {
        let answer = ask().await;
        if answer.is_ok() || began.elapsed() > WITHIN {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// Asks all the time who leads which group in which term. Two leaders in one term would be two majorities.
pub struct Terms {
    stop: oneshot::Sender<()>,
    watching: JoinHandle<Result<()>>,
}

impl Terms {
    /// Begins, in a task.
    #[must_use]
    pub fn watch(nodes: Vec<Connection>) -> Self {
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
            eprintln!("{} terms had one leader each", leaders.len());
            ensure!(!leaders.is_empty(), "nobody answered");
            Ok(())
        });
        Self { stop, watching }
    }

    /// Ends it.
    ///
    /// # Errors
    /// What was found; or nobody ever answered.
    pub async fn end(self) -> Result<()> {
        // It has ended by itself if it found something.
        let _ = self.stop.send(());
        self.watching.await?
    }
}
