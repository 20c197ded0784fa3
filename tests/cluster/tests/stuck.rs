//! One message stays with its consumer, never settled, while very many pass it in the same queue: what lies on disk follows what is
//! alive, and the message is still the consumer's at the end. Not here: what a cluster does with messages of lost consumers (`faults`).
//!
//! A hundred thousand messages of 1 KiB, then ten seconds of rest; `WARREN_STUCK_MESSAGES` and `WARREN_STUCK_REST` (seconds) say otherwise.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "support/pages.rs"]
mod pages;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use pages::{figure, page};
use warren_client::{
    Connection, Consumer, ConsumerOptions, Message, Outcome, QueueSpec, ReceiveOptions, Target,
};
use warren_cluster::connect;
use warren_cluster::run::runtime;
use warren_testkit::process::{Cluster, NodeNumber, Options, run_within};

/// As `warren perf --queue-prefix stuck` names its first queue.
const QUEUE: &str = "stuck-0";
const STUCK: &str = "stays";
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Beyond twice what is alive.
const DISK_MAX: u64 = 2 << 30;

fn setting(variable: &str, default: u64) -> u64 {
    let given = std::env::var(variable).ok();
    given.map_or(default, |it| it.parse().unwrap())
}

/// What the files below a directory take. One that goes meanwhile takes nothing.
fn bytes_below(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(entries) = fs::read_dir(directory) else {
        return 0;
    };
    let taken = entries.flatten().map(|entry| match entry.metadata() {
        Ok(it) if it.is_dir() => bytes_below(&entry.path()),
        Ok(it) => it.blocks() * 512,
        Err(_) => 0,
    });
    taken.sum()
}

struct Held {
    disk: u64,
    resident: f64,
}

/// Of the node that has most.
fn held(cluster: &Cluster) -> Held {
    let resident = |number: NodeNumber| {
        let metrics = page(&cluster.metrics_address(number), "/metrics");
        figure(&metrics, "rabbitmq_process_resident_memory_bytes").unwrap_or(0.0)
    };
    let numbers = || cluster.numbers().into_iter();
    let disk = numbers().map(|it| bytes_below(&cluster.data_directory(it)));
    Held {
        disk: disk.max().unwrap_or(0),
        resident: numbers().map(resident).fold(0.0, f64::max),
    }
}

fn tell(what: &str, messages: u64, after: Duration, held: &Held) {
    println!(
        r#"{{"what": "stuck", "when": "{what}", "messages": {messages}, "seconds": {:.0}, "disk_mib": {}, "rss_mib": {:.0}}}"#,
        after.as_secs_f64(),
        held.disk >> 20,
        held.resident / 1_048_576.0
    );
}

/// A consumer that has the message, which is the first of its queue.
async fn take(node: &Connection) -> Result<Consumer> {
    node.declare_queue(&QueueSpec::durable(QUEUE)).await?;
    let target = Target::queue(QUEUE);
    let outcomes = node
        .publish_now("", &target, vec![Message::new(STUCK)])
        .await?;
    ensure!(
        matches!(outcomes[..], [Outcome::Committed { .. }]),
        "{outcomes:?}"
    );
    let mut options = ConsumerOptions::queue(QUEUE);
    options.prefetch = 1;
    let mut consumer = node.consume(options).await?;
    let delivery = tokio::time::timeout(ANSWER_WITHIN, consumer.next()).await;
    let delivery = delivery.context("nothing was delivered")??;
    let delivery = delivery.context("the consumer ended")?;
    ensure!(delivery.message.body == STUCK, "another message came");
    Ok(consumer)
}

fn pass(cluster: &Cluster, messages: u64) -> Result<()> {
    let mut perf = cluster.warren();
    perf.args(["perf", "--queue-prefix", "stuck", "--keep"])
        .args(["--messages", &messages.to_string()])
        .args(["--server", &cluster.servers_from(NodeNumber(1))]);
    let output = run_within(perf, Duration::from_secs(600))?;
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{}", said.lines().last().unwrap_or_default());
    ensure!(output.status.success(), "perf failed: {said}");
    Ok(())
}

#[test]
fn disk_follows_what_is_alive_while_one_message_is_never_settled() {
    let messages = setting("WARREN_STUCK_MESSAGES", 100_000);
    let rest = Duration::from_secs(setting("WARREN_STUCK_REST", 10));
    let cluster = Cluster::start(Options::default()).unwrap();
    let runtime = runtime();
    let node = runtime.block_on(async { connect(&cluster.servers_from(NodeNumber(2))).unwrap() });
    let consumer = runtime.block_on(take(&node)).unwrap();
    tell("before", 0, Duration::ZERO, &held(&cluster));
    for _ in 0..5 {
        pass(&cluster, messages / 5).unwrap();
        tell("passing", messages, Duration::ZERO, &held(&cluster));
    }
    let began = Instant::now();
    let mut now = held(&cluster);
    while began.elapsed() < rest {
        std::thread::sleep(LOOK_EVERY.min(rest - began.elapsed()));
        now = held(&cluster);
        tell("resting", messages, began.elapsed(), &now);
    }
    // What is alive is one message.
    assert!(now.disk <= DISK_MAX, "{} MiB on disk", now.disk >> 20);
    runtime.block_on(async {
        drop(consumer);
        let options = ReceiveOptions {
            vhost: String::new(),
            queue: QUEUE.to_owned(),
            max_messages: 10,
            wait: ANSWER_WITHIN,
            lease: None,
        };
        let left = node.receive(&options).await.unwrap();
        let bodies: Vec<_> = left.iter().map(|it| it.message.body.clone()).collect();
        assert_eq!(bodies, [STUCK], "what is left");
    });
}
