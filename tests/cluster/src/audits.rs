//! What the cluster says of its own comparisons of replicas: each run ends with all of them alike. Not here: wrong ones (`tests/damage.rs`).

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use warren_client::{Cluster as Seen, Connection};

/// Shards are compared every ten seconds, those at rest every minute; a node that has just started has all entries to apply first.
const COMPARED_WITHIN: Duration = Duration::from_secs(150);

/// Whether a node's replicas were all found right since its start, the topology's too, and why not.
pub fn agrees(seen: &Seen) -> Result<(), String> {
    let own = seen.answering_node_id;
    for shard in &seen.shards {
        let number = shard.shard;
        if shard.in_doubt {
            return Err(format!("shard {number} is in doubt on node {own}"));
        }
        let Some(replica) = shard.replicas.iter().find(|it| it.node_id == own) else {
            continue;
        };
        if let Some(cause) = &replica.set_aside {
            return Err(format!(
                "shard {number} is set aside on node {own}: {cause}"
            ));
        }
        if shard.compared_at.is_none() {
            return Err(format!("shard {number} was not compared on node {own} yet"));
        }
    }
    Ok(())
}

/// Waits until every node says that its replicas agree with the others.
///
/// # Errors
/// A replica is in doubt or set aside, or was not compared in time.
pub async fn all_agree(nodes: &[Connection]) -> Result<()> {
    let deadline = Instant::now() + COMPARED_WITHIN;
    for node in nodes {
        loop {
            let seen = node.cluster().await?;
            let Err(why) = agrees(&seen) else { break };
            if Instant::now() >= deadline {
                bail!("{why}");
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    Ok(())
}
