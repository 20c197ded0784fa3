//! Declares are felt on every node when they have answered (features A11), and cycles of declare, bind, publish, consume and delete
//! go on while nodes restart, without an error, and leave nothing behind. Not here: messages lost or doubled (`faults.rs`).
//!
//! The churn takes ten seconds, in the long form (`WARREN_LONG`) ten minutes; `WARREN_CHURN_SECONDS` and `WARREN_CHURN_RATE` (cycles
//! per second, 200) say otherwise.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

#[path = "support/pages.rs"]
mod pages;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use pages::{figure, page};
use warren_client::{
    Binding, BindingDestination, BindingFilter, Connection, ConsumerOptions, Exchange, Message,
    Outcome, QueueDeletion, QueueSpec, ReceiveOptions, Target,
};
use warren_cluster::connect;
use warren_testkit::process::{Cluster, NodeNumber, Options, run_within};

/// Cycles under way at once, at most.
const WORKERS: u64 = 48;
/// Between the end of one restart and the next.
const REST: Duration = Duration::from_secs(1);
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// What an origin of a shard may keep, and what is not the same after each stop: per shard and node.
const ROWS_OF_A_REPLICA: i64 = 4;

fn exchange(name: &str, kind: &str) -> Exchange {
    Exchange {
        vhost: String::new(),
        name: name.to_owned(),
        kind: kind.to_owned(),
        durable: true,
        auto_delete: false,
        internal: false,
        arguments: Default::default(),
    }
}

fn binding(source: &str, queue: &str, key: &str) -> Binding {
    Binding {
        vhost: String::new(),
        source: source.to_owned(),
        destination: BindingDestination::Queue(queue.to_owned()),
        routing_key: key.to_owned(),
        arguments: Default::default(),
    }
}

/// Published once even if it is sent again, as an unknown outcome asks for.
async fn publish(connection: &Connection, exchange: &str, key: &str) -> Result<Outcome> {
    let target = Target::exchange(exchange, key);
    let until = Instant::now() + ANSWER_WITHIN;
    loop {
        let messages = vec![Message::new("x")];
        let outcomes = connection.publish_now("", &target, messages).await?;
        let outcome = outcomes.into_iter().next().context("no outcome")?;
        let again = match &outcome {
            Outcome::Unknown(_) => true,
            Outcome::Refused(refusal) => is_transient(&refusal.reason),
            Outcome::Committed { .. } | Outcome::Duplicate | Outcome::Unrouted => false,
        };
        if !again || Instant::now() > until {
            return Ok(outcome);
        }
    }
}

/// Reasons that the contract says to try again for: a node restarts, a leader changes.
fn is_transient(reason: &str) -> bool {
    let again = [
        "NOT_READY",
        "NO_QUORUM",
        "LEADER_CHANGED",
        "NODE_DRAINING",
        "NOT_STARTED",
    ];
    again.contains(&reason)
}

/// One life of a queue and its binding, each step on the next node.
async fn cycle(nodes: &[Connection], exchange: &str, name: &str, number: usize) -> Result<()> {
    let at = |step: usize| &nodes[(number + step) % nodes.len()];
    at(0).declare_queue(&QueueSpec::durable(name)).await?;
    let bound = binding(exchange, name, &format!("{name}.#"));
    at(1).create_binding(&bound).await?;
    let outcome = publish(at(2), exchange, &format!("{name}.1")).await?;
    ensure!(
        // A duplicate: the first sending was stored, and its answer went with its node.
        matches!(outcome, Outcome::Committed { .. } | Outcome::Duplicate),
        "published after the bind had answered, and it was {outcome:?}"
    );
    if number.is_multiple_of(2) {
        take_one(at(1), name).await?;
    } else {
        consume_one(at(1), name).await?;
    }
    at(0)
        .delete_queue("", name, QueueDeletion::default())
        .await?;
    Ok(())
}

async fn take_one(node: &Connection, queue: &str) -> Result<()> {
    let options = ReceiveOptions {
        vhost: String::new(),
        queue: queue.to_owned(),
        max_messages: 1,
        wait: ANSWER_WITHIN,
        lease: None,
    };
    let received = node.receive(&options).await.context("receiving")?;
    ensure!(received.len() == 1, "nothing came");
    Ok(())
}

async fn consume_one(node: &Connection, queue: &str) -> Result<()> {
    let mut consumer = node.consume(ConsumerOptions::queue(queue)).await?;
    let delivery = tokio::time::timeout(ANSWER_WITHIN, consumer.next()).await;
    let delivery = delivery.context("nothing was delivered")??;
    let delivery = delivery.context("the consumer ended")?;
    let _settling = consumer.ack(&delivery).await?;
    consumer.close(ANSWER_WITHIN).await.context("closing")?;
    Ok(())
}

fn nodes(cluster: &Cluster) -> Result<Vec<Connection>> {
    let numbers = cluster.numbers().into_iter();
    numbers
        .map(|number| connect(&cluster.servers_from(number)))
        .collect()
}

#[test]
fn declares_are_felt_on_every_node_when_they_have_answered() {
    let cluster = Cluster::start(Options::default()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime
        .block_on(async {
            let nodes = nodes(&cluster)?;
            for round in 0..30 {
                let name = format!("felt-{round}");
                nodes[round % 3]
                    .declare_exchange(&exchange(&name, "topic"))
                    .await?;
                cycle(&nodes, &name, &name, round).await?;
                nodes[(round + 1) % 3]
                    .delete_exchange("", &name, false)
                    .await?;
            }
            anyhow::Ok(())
        })
        .unwrap();
}

fn setting(variable: &str, default: u64) -> u64 {
    let given = std::env::var(variable).ok();
    given.and_then(|it| it.parse().ok()).unwrap_or(default)
}

/// Cycles at a rate, until it is stopped. A worker that is late begins at once.
struct Churn {
    started: Instant,
    rate: u64,
    begun: AtomicU64,
    done: AtomicU64,
    slowest_ms: AtomicU64,
    stop: AtomicBool,
}

impl Churn {
    fn new(rate: u64) -> Self {
        Self {
            started: Instant::now(),
            rate,
            begun: AtomicU64::new(0),
            done: AtomicU64::new(0),
            slowest_ms: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        }
    }

    async fn work(&self, nodes: &[Connection]) -> Result<()> {
        while !self.stop.load(Ordering::Relaxed) {
            let number = self.begun.fetch_add(1, Ordering::Relaxed);
            let at = self.started + Duration::from_micros(number * 1_000_000 / self.rate);
            tokio::time::sleep_until(at.into()).await;
            let began = Instant::now();
            let name = format!("churn-{number}");
            let number = usize::try_from(number)?;
            let done = cycle(nodes, EXCHANGE, &name, number).await;
            done.with_context(|| format!("{name}, after {:?}", began.elapsed()))?;
            let took = u64::try_from(began.elapsed().as_millis())?;
            self.slowest_ms.fetch_max(took, Ordering::Relaxed);
            self.done.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

const EXCHANGE: &str = "churned";

/// What all nodes together hold; nothing of it may grow.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    queues: usize,
    exchanges: usize,
    bindings: usize,
    /// As the leaders count them, of all queues that there are.
    messages: u64,
    consumers: u64,
}

async fn held(cluster: &Cluster, node: &Connection) -> Result<Held> {
    let sum = |name: &str| -> Result<u64> {
        let mut sum = 0.0;
        for number in cluster.numbers() {
            let metrics = page(&cluster.metrics_address(number), "/metrics");
            sum += figure(&metrics, name).with_context(|| format!("no {name}"))?;
        }
        // Counts, far below what a float holds.
        Ok(format!("{sum}").parse()?)
    };
    Ok(Held {
        queues: node.queues("", "").await?.len(),
        exchanges: node.exchanges("").await?.len(),
        bindings: node.bindings(&BindingFilter::default()).await?.len(),
        messages: sum("rabbitmq_queue_messages")?,
        consumers: sum("rabbitmq_queue_consumers")?,
    })
}

fn resident_mib(cluster: &Cluster, node: NodeNumber) -> u64 {
    let metrics = page(&cluster.metrics_address(node), "/metrics");
    let bytes = figure(&metrics, "rabbitmq_process_resident_memory_bytes");
    format!("{:.0}", bytes.unwrap_or(0.0) / 1_048_576.0)
        .parse()
        .unwrap_or(0)
}

/// Stops every node, counts the rows of the shards in its directory (and reads all of it), and starts it again. The topology's are
/// left out: its entries are folded into one row whenever they are as large as it.
fn stored_rows(cluster: &mut Cluster) -> BTreeMap<NodeNumber, i64> {
    for number in cluster.numbers() {
        cluster.terminate(number, Duration::from_secs(60)).unwrap();
    }
    let numbers = cluster.numbers().into_iter();
    let rows = numbers
        .map(|number| (number, shard_rows(cluster, number)))
        .collect();
    for number in cluster.numbers() {
        cluster.spawn(number).unwrap();
    }
    cluster.wait_all_ready().unwrap();
    rows
}

/// From `"group_rows":{"0":12,"1":34}`; group 0 is the topology.
fn shard_rows(cluster: &Cluster, number: NodeNumber) -> i64 {
    let mut verify = cluster.warren();
    verify.args(["data", "verify", "--output", "json"]);
    verify.arg(cluster.data_directory(number));
    let output = run_within(verify, Duration::from_secs(120)).unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let (_, rest) = text.split_once("\"group_rows\":{").unwrap();
    let (groups, _) = rest.split_once('}').unwrap();
    let rows = groups.split(',').filter_map(|group| {
        let (group, rows) = group.split_once(':').unwrap();
        let rows: i64 = rows.trim().parse().unwrap();
        (group.trim() != "\"0\"").then_some(rows)
    });
    rows.sum()
}

/// One node after the other, in good order and killed by turns.
fn restart_nodes(cluster: &mut Cluster, churn: &Churn, until: Instant) {
    let numbers = cluster.numbers();
    for (round, &victim) in (0_u32..).zip(numbers.iter().cycle()) {
        if Instant::now() >= until {
            return;
        }
        let resident = resident_mib(cluster, victim);
        println!(
            "{:?}: {} cycles, slowest {} ms; node {} has {resident} MiB and restarts",
            churn.started.elapsed(),
            churn.done.load(Ordering::Relaxed),
            churn.slowest_ms.swap(0, Ordering::Relaxed),
            victim.0,
        );
        if round % 2 == 0 {
            cluster.terminate(victim, Duration::from_secs(60)).unwrap();
        } else {
            cluster.kill(victim).unwrap();
        }
        cluster.restart(victim).unwrap();
        std::thread::sleep(REST);
    }
}

#[test]
fn churn_of_the_topology_goes_on_while_nodes_restart_and_leaves_nothing() {
    let is_long = std::env::var_os("WARREN_LONG").is_some();
    let seconds = setting("WARREN_CHURN_SECONDS", if is_long { 600 } else { 10 });
    let churn = Arc::new(Churn::new(setting("WARREN_CHURN_RATE", 200).max(1)));
    let mut cluster = Cluster::start(Options::default()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // Clients are made in it.
    let _entered = runtime.enter();
    let clients = Arc::new(nodes(&cluster).unwrap());
    runtime
        .block_on(async {
            clients[0]
                .declare_exchange(&exchange(EXCHANGE, "topic"))
                .await?;
            // What stays of the first use of anything is not what the churn leaves behind.
            for round in 0..30 {
                cycle(&clients, EXCHANGE, &format!("first-{round}"), round).await?;
            }
            anyhow::Ok(())
        })
        .unwrap();
    let rows_before = stored_rows(&mut cluster);
    let before = runtime.block_on(held(&cluster, &clients[0])).unwrap();

    let churn = Arc::new(Churn::new(churn.rate));
    let workers = (0..WORKERS).map(|_| {
        let (churn, clients) = (Arc::clone(&churn), Arc::clone(&clients));
        runtime.spawn(async move { churn.work(&clients).await })
    });
    let workers: Vec<_> = workers.collect();
    restart_nodes(
        &mut cluster,
        &churn,
        Instant::now() + Duration::from_secs(seconds),
    );
    churn.stop.store(true, Ordering::Relaxed);
    for worker in workers {
        runtime.block_on(worker).unwrap().unwrap();
    }
    let (done, took) = (churn.done.load(Ordering::Relaxed), churn.started.elapsed());
    let rate = u128::from(done) * 1000 / took.as_millis().max(1);
    println!("{done} cycles in {took:?}: {rate} per second");
    assert!(done > 0);

    // The sums on the pages may be some seconds old.
    let deadline = Instant::now() + ANSWER_WITHIN;
    loop {
        let after = runtime.block_on(held(&cluster, &clients[0])).unwrap();
        if after == before {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "{before:?} before, {after:?} after"
        );
        std::thread::sleep(Duration::from_millis(500));
    }
    for number in cluster.numbers() {
        println!("node {}: {} MiB", number.0, resident_mib(&cluster, number));
    }
    let rows_after = stored_rows(&mut cluster);
    println!("rows in the directories, before {rows_before:?}, after {rows_after:?}");
    let shards = runtime.block_on(clients[0].cluster()).unwrap().shards.len();
    let slack = ROWS_OF_A_REPLICA * i64::try_from(shards).unwrap();
    for (number, rows) in rows_after {
        let more = rows - rows_before[&number];
        assert!(more <= slack, "node {}: {more} more rows", number.0);
    }
}
