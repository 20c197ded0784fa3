//! Looking at a cluster from outside: waiting for a state of it, and that no shard is opened twice in a term. Not here: load.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
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

/// What a leader says in its node's log when it opens a shard, before it hands anything out.
const OPENED: &str = "warren_shard::leader::task: leading ";

/// No shard was opened twice in one term, by the logs of all nodes: deliveries are told apart by that term. Elected in one term can be
/// two (ADR 0087). How many were opened.
///
/// # Errors
/// Two were, or a log cannot be read or understood, or has none.
pub fn opened_once_per_term(directory: &Path) -> Result<usize> {
    let mut opened: BTreeMap<(u64, u64), String> = BTreeMap::new();
    for home in std::fs::read_dir(directory)? {
        let home = home?;
        // A data directory that a test has put aside has a directory of that name.
        let log = home.path().join("log");
        if !log.is_file() {
            continue;
        }
        for line in BufReader::new(File::open(log)?).split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            let Some((at, told)) = line.split_once(OPENED) else {
                continue;
            };
            let number = |name: &str| {
                let mut fields = told.split(' ').filter_map(|it| it.split_once('='));
                let value = fields.find(|(known, _)| *known == name);
                value.and_then(|(_, it)| it.trim().parse::<u64>().ok())
            };
            let (Some(shard), Some(term)) = (number("shard_id"), number("term")) else {
                bail!("not understood: {line}");
            };
            let now = format!("{} at {}", home.file_name().display(), at.trim());
            if let Some(first) = opened.get(&(shard, term)) {
                bail!("shard {shard} was opened in term {term} by {first} and by {now}");
            }
            opened.insert((shard, term), now);
        }
    }
    ensure!(!opened.is_empty(), "no log tells of a leader");
    Ok(opened.len())
}
