//! A queue is shovelled from one cluster into another while nodes of both are killed, and the shovel itself: everything arrives once, as it
//! was, in order. Not here: what a shovel does with refusals, times and limits (`tests/api`, `shovel`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use warren_client::{Connection, Message, Peeked, PublisherOptions, QueueSpec, Target};
use warren_cluster::run::runtime;
use warren_cluster::{connect, content};
use warren_testkit::process::{Cluster, NodeNumber, Options};
use warren_types::{PropertiesBuilder, Property, Table};

const MESSAGES: usize = 20_000;
const WITHIN: Duration = Duration::from_secs(120);
const TTL_MS: u64 = 3_600_000;

/// Every fifth message has properties of another kind.
fn message(number: usize) -> Message {
    let headers = Table::new().with("number", i64::try_from(number).unwrap());
    let nested = headers.clone().with("nested", headers.clone());
    let properties = PropertiesBuilder::new().headers(&headers);
    let properties = match number % 5 {
        0 => PropertiesBuilder::new(),
        1 => properties.headers(&nested).message_id("the same for many"),
        2 => properties.expiration(&TTL_MS.to_string()),
        3 => properties.priority(u8::try_from(number % 4).unwrap()),
        _ => properties
            .content_type("text/plain")
            .correlation_id("c")
            .reply_to("r")
            .message_type("t")
            .app_id("a")
            .timestamp(1_700_000_000)
            .persistent(),
    };
    let body = format!("{number} {}", "x".repeat(number % 7 * 60));
    Message::new(body).with_properties(properties.build().unwrap())
}

async fn fill(connection: &Connection) -> Result<()> {
    connection
        .declare_queue(&QueueSpec::durable("orders"))
        .await?;
    let publisher = connection.publisher(PublisherOptions::default());
    let mut confirms = Vec::new();
    for number in 0..MESSAGES {
        let target = Target::queue("orders");
        confirms.push(publisher.publish(&target, message(number)).await?);
    }
    for confirm in confirms {
        ensure!(confirm.await?.is_success());
    }
    Ok(())
}

fn number_of(message: &Message) -> usize {
    let text = std::str::from_utf8(&message.body).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// Once each, as they were in the source, those of a priority in their order.
fn judge(all: &[Peeked], before: &[Peeked]) -> Result<()> {
    let before = before
        .iter()
        .map(|it| (number_of(&it.message), &it.message));
    let before: BTreeMap<usize, &Message> = before.collect();
    ensure!(before.len() == MESSAGES, "{} were there", before.len());
    let mut last: BTreeMap<Option<u8>, usize> = BTreeMap::new();
    let mut seen = vec![false; MESSAGES];
    for it in all {
        let number = number_of(&it.message);
        ensure!(!seen[number], "{number} is there twice");
        seen[number] = true;
        let was = before.get(&number).context("it was in the source")?;
        ensure!(it.message.body == was.body, "body of {number}");
        let without = |it: &Message| {
            let rest = PropertiesBuilder::from(&it.properties).remove(Property::Expiration);
            rest.build().unwrap()
        };
        ensure!(
            without(&it.message) == without(was),
            "properties of {number}"
        );
        let ttl = it.message.properties.raw(Property::Expiration);
        let ttl = ttl.map(|it| String::from_utf8(it.to_vec()).unwrap().parse::<u64>());
        let ttl = ttl.transpose()?;
        let is_right = match ttl {
            Some(left) => number % 5 == 2 && left < TTL_MS && left > TTL_MS - 600_000,
            None => number % 5 != 2,
        };
        ensure!(is_right, "time to live of {number}: {ttl:?}");
        let priority = was.properties.priority();
        let before = last.insert(priority, number);
        ensure!(
            before.is_none_or(|it| it < number),
            "{number} after {before:?}"
        );
    }
    let missing = seen.iter().position(|it| !it);
    ensure!(missing.is_none(), "{missing:?} is missing");
    Ok(())
}

fn start(from: &Cluster, to: &Cluster, rate: u32) -> Result<Child> {
    let mut command = from.warren();
    command.args(["queue", "shovel", "orders", "--output", "json"]);
    command.args(["--rate", &rate.to_string()]);
    command.args(["--server", &from.servers_from(NodeNumber(1))]);
    command.args(["--to-server", &to.servers_from(NodeNumber(1))]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command.spawn()?)
}

async fn ready(connection: &Connection) -> Option<u64> {
    let stats = connection.queue_stats("/", &["orders".to_owned()]).await;
    Some(stats.ok()?.first()?.ready)
}

async fn until_arrived(connection: &Connection, count: u64) -> Result<()> {
    let began = Instant::now();
    while ready(connection).await.is_none_or(|it| it < count) {
        ensure!(began.elapsed() < WITHIN, "{count} have not arrived");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("{count} have arrived");
    Ok(())
}

fn kill(mut shovel: Child) -> Result<()> {
    ensure!(shovel.try_wait()?.is_none(), "the shovel ended by itself");
    shovel.kill()?;
    shovel.wait()?;
    println!("the shovel is killed");
    Ok(())
}

async fn kill_leader(cluster: &mut Cluster, connection: &Connection) -> Result<NodeNumber> {
    let details = connection.queue_details("/", "orders").await?;
    let leader = details.leader_node.context("no leader")?;
    let leader = NodeNumber(usize::try_from(leader)?);
    cluster.kill(leader)?;
    println!("node {} that leads the queue is killed", leader.0);
    Ok(leader)
}

async fn ends_well(shovel: Child) -> Result<serde_json::Value> {
    let ended = tokio::task::spawn_blocking(move || shovel.wait_with_output());
    let output = tokio::time::timeout(WITHIN, ended).await???;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let view = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{}: {view}{said}", output.status);
    ensure!(output.status.success(), "{said}");
    Ok(serde_json::from_str(&view)?)
}

async fn run(old: &mut Cluster, new: &mut Cluster) -> Result<()> {
    let from = connect(&old.servers_from(NodeNumber(1)))?;
    let to = connect(&new.servers_from(NodeNumber(1)))?;
    fill(&from).await?;
    let before = content(&from, "orders").await?;
    to.declare_queue(&QueueSpec::durable("orders")).await?;
    let shovel = start(old, new, 2_000)?;
    until_arrived(&to, 2_000).await?;
    kill(shovel)?;
    let shovel = start(old, new, 2_000)?;
    until_arrived(&to, 5_000).await?;
    let killed = kill_leader(old, &from).await?;
    until_arrived(&to, 8_000).await?;
    old.restart(killed)?;
    let killed = kill_leader(new, &to).await?;
    until_arrived(&to, 11_000).await?;
    new.restart(killed)?;
    kill(shovel)?;
    let shovel = start(old, new, 0)?;
    let view = ends_well(shovel).await?;
    ensure!(view["ended"] == "empty" && view["refused"] == 0, "{view}");
    ensure!(view["perhaps_twice"] == 0, "{view}");
    ensure!(view["unsettled"] == 0, "{view}");
    ensure!(view["left"]["ready"] == 0 && view["left"]["unacked"] == 0);
    judge(&content(&to, "orders").await?, &before)?;
    ensure!(
        content(&from, "orders").await?.is_empty(),
        "the source holds some"
    );
    // There is nothing to do, and that is a success.
    let view = ends_well(start(old, new, 0)?).await?;
    ensure!(view["stored"] == 0 && view["stored_before"] == 0, "{view}");
    Ok(())
}

#[test]
fn queue_is_shovelled_into_another_cluster_once_and_in_order_whoever_is_killed() {
    let mut old = Cluster::start(Options::default()).unwrap();
    let mut new = Cluster::start(Options::default()).unwrap();
    runtime().block_on(run(&mut old, &mut new)).unwrap();
}
