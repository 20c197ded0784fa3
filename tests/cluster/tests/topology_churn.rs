//! Declares are felt on every node when they have answered (features A11), and cycles of declare, bind, publish, consume and delete
//! go on while nodes restart, and leave nothing behind. `WARREN_CHURN_SECONDS` makes the second longer. Not here: messages lost or
//! doubled (`faults.rs`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use warren_client::{
    Binding, BindingDestination, Connection, Exchange, Message, Outcome, QueueDeletion, QueueSpec,
    ReceiveOptions, Target,
};
use warren_cluster::connect;
use warren_testkit::process::{Cluster, Options};

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

async fn publish(connection: &Connection, exchange: &str, key: &str) -> Result<Outcome> {
    let target = Target::exchange(exchange, key);
    let messages = vec![Message::new("x")];
    let outcomes = connection.publish_now("", &target, messages).await?;
    outcomes.into_iter().next().context("no outcome")
}

/// One life of an exchange and its queue, each step on the next node.
async fn cycle(nodes: &[Connection], name: &str) -> Result<()> {
    let at = |step: usize| &nodes[step % nodes.len()];
    at(0).declare_exchange(&exchange(name, "topic")).await?;
    at(1).declare_queue(&QueueSpec::durable(name)).await?;
    at(2).create_binding(&binding(name, name, "k.#")).await?;
    let outcome = publish(at(0), name, "k.1").await?;
    ensure!(
        matches!(outcome, Outcome::Committed { .. }),
        "{name}: published after the bind had answered, and it was {outcome:?}"
    );
    let options = ReceiveOptions {
        vhost: String::new(),
        queue: name.to_owned(),
        max_messages: 1,
        wait: Duration::from_secs(10),
        lease: None,
    };
    let received = at(1).receive(&options).await?;
    ensure!(received.len() == 1, "{name}: nothing came");
    at(2).delete_binding(&binding(name, name, "k.#")).await?;
    at(0)
        .delete_queue("", name, QueueDeletion::default())
        .await?;
    at(1).delete_exchange("", name, false).await?;
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
                cycle(&nodes, &format!("felt-{round}")).await?;
            }
            anyhow::Ok(())
        })
        .unwrap();
}

#[test]
fn churn_of_the_topology_goes_on_while_nodes_restart_and_leaves_nothing() {
    let seconds = std::env::var("WARREN_CHURN_SECONDS").ok();
    let seconds = seconds.and_then(|it| it.parse().ok()).unwrap_or(6);
    let mut cluster = Cluster::start(Options::default()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // Clients are made in it.
    let _entered = runtime.enter();
    let (stop, cycles) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let mut workers = Vec::new();
    for worker in 0..4 {
        let nodes = nodes(&cluster).unwrap();
        let (stop, cycles) = (Arc::clone(&stop), Arc::clone(&cycles));
        workers.push(runtime.spawn(async move {
            let mut round = 0;
            while !stop.load(Ordering::Relaxed) {
                cycle(&nodes, &format!("churn-{worker}-{round}")).await?;
                cycles.fetch_add(1, Ordering::Relaxed);
                round += 1;
            }
            anyhow::Ok(())
        }));
    }
    let until = Instant::now() + Duration::from_secs(seconds);
    let numbers = cluster.numbers();
    let mut victims = numbers.iter().cycle();
    while Instant::now() < until {
        let &victim = victims.next().unwrap();
        cluster.terminate(victim, Duration::from_secs(20)).unwrap();
        cluster.spawn(victim).unwrap();
        cluster.wait_all_ready().unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    runtime
        .block_on(async {
            for worker in workers {
                worker.await??;
            }
            let node = connect(&cluster.servers_from(numbers[0]))?;
            ensure!(
                node.queues("", "churn").await?.is_empty(),
                "queues are left"
            );
            let left = node.exchanges("").await?;
            let left = left.iter().filter(|it| it.name.starts_with("churn"));
            ensure!(left.count() == 0, "exchanges are left");
            anyhow::Ok(())
        })
        .unwrap();
    println!("{} cycles", cycles.load(Ordering::Relaxed));
}
