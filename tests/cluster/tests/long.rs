//! One long run on five nodes in namespaces: every kind of fault in turn, drawn from one seed, with all that queues can do in use over both
//! protocols. The checker is fed all the time. Not here: the faults (`support/acts.rs`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

#[path = "support/acts.rs"]
mod acts;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::fs;
use std::time::{Duration, Instant};

use acts::{Done, Kind};
use anyhow::{Context as _, Result, ensure};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use warren_cluster::Shape;
use warren_cluster::audits::all_agree;
use warren_cluster::judge::Judge;
use warren_cluster::network::{Network, is_inside};
use warren_cluster::pulse::Times;
use warren_cluster::redrive::Redriver;
use warren_cluster::run::{runtime, seed};
use warren_cluster::stage::{Setup, Stage};
use warren_cluster::watch::{answered, opened_once_per_term};
use warren_testkit::memory::Memory;
use warren_testkit::process::NodeNumber;

/// `WARREN_LONG_MINUTES` says otherwise.
const MINUTES: u64 = 60;
/// So much load that an hour of it is some two million messages: the checker remembers each.
const SETUP: Setup<'static> = Setup {
    nodes: 5,
    environment: &[
        ("WARREN_CLUSTER_REPAIR_AFTER", "20s"),
        ("WARREN_CLUSTER_LEADER_REST", "5s"),
    ],
    shape: Shape {
        queues: 4,
        publishers: 5,
        consumers: 3,
        pause: Duration::from_millis(70),
        body_bytes: 200,
    },
};
const AMQP: (u32, Duration) = (2, Duration::from_millis(70));
const LANES_PAUSE: Duration = Duration::from_millis(100);
/// How long these queues go without a confirm is told. Those of AMQP have a publisher on every node that stays there, so it is the time
/// that no node serves them; the publishers of the others look for a node that does, which takes them time of their own.
const WATCHED: [&str; 2] = [STAYING, "faults-"];
const STAYING: &str = "amqp-";
/// Told where it is exceeded.
const AIM: Duration = Duration::from_secs(5);
/// Nothing is held against a busy machine; but what does not come back in this time hangs.
const BACK_WITHIN: Duration = Duration::from_secs(120);
/// Consumers that take nothing any more would leave more than this.
const MISSING_MAX: usize = 30_000;
const LAST_WITHIN: Duration = Duration::from_secs(120);

type Ledger = BTreeMap<Kind, Entry>;

/// What came of one kind of fault.
#[derive(Default)]
struct Entry {
    count: usize,
    /// Times without a confirm, of each queue whose replicas had a majority all the time...
    staying: Times,
    moving: Times,
    /// ...and of the others.
    without: Times,
}

/// Where a queue is.
struct Home {
    shard: u64,
    replicas: Vec<NodeNumber>,
    leader: Option<u64>,
}

impl fmt::Display for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let replicas: Vec<usize> = self.replicas.iter().map(|it| it.0).collect();
        let leader = self.leader.unwrap_or(0);
        write!(
            f,
            "shard {}, replicas {replicas:?}, led by {leader}",
            self.shard
        )
    }
}

/// Where each watched queue is now.
async fn homes(stage: &Stage) -> Result<BTreeMap<String, Home>> {
    let admin = stage.any_of(&stage.cluster.numbers())?;
    let view = admin.cluster().await?;
    let mut homes = BTreeMap::new();
    for prefix in WATCHED {
        for (queue, _) in admin.queues("/", prefix).await? {
            let shard = view.shards.iter().find(|it| it.shard == queue.shard);
            let shard = shard.context("its shard is known")?;
            let replicas = shard.replicas.iter();
            let nodes = replicas.map(|it| Ok(NodeNumber(usize::try_from(it.node_id)?)));
            let home = Home {
                shard: queue.shard,
                replicas: nodes.collect::<Result<_>>()?,
                leader: shard.leader_node_id,
            };
            homes.insert(queue.name, home);
        }
    }
    Ok(homes)
}

impl Entry {
    /// What is worth telling of it: the longest time, and where it was too long.
    fn add(
        &mut self,
        done: &Done,
        homes: &BTreeMap<String, Home>,
        pulses: &BTreeMap<String, Duration>,
    ) -> String {
        self.count += 1;
        let (mut longest, mut told) = (Duration::ZERO, String::new());
        for (queue, home) in homes {
            let silent = pulses.get(queue).copied().unwrap_or_default();
            if !done.leaves_majority(&home.replicas) {
                self.without.add(silent);
                continue;
            }
            if !queue.starts_with(STAYING) {
                self.moving.add(silent);
                continue;
            }
            longest = longest.max(silent);
            self.staying.add(silent);
            if silent > AIM {
                write!(told, "; {queue} {silent:.1?} ({home})").unwrap();
            }
        }
        format!(
            "at most {longest:.1?} without a confirm from any node where there was a majority{told}"
        )
    }
}

async fn play(stage: &mut Stage, judge: &Judge, seed: u64, minutes: u64) -> Result<()> {
    let mut ledger = Ledger::new();
    let played = play_all(stage, judge, (seed, minutes), &mut ledger).await;
    println!("{}", table(&ledger));
    played?;
    let opened = opened_once_per_term(stage.cluster.directory())?;
    println!("{opened} times a leader opened a shard, each in a term of its own");
    Ok(())
}

async fn play_all(
    stage: &mut Stage,
    judge: &Judge,
    (seed, minutes): (u64, u64),
    ledger: &mut Ledger,
) -> Result<()> {
    let began = Instant::now();
    let ends = began + Duration::from_secs(minutes * 60);
    let mut random = StdRng::seed_from_u64(seed);
    let (mut round, mut number) = (Vec::new(), 0);
    while Instant::now() < ends {
        if round.is_empty() {
            round = Kind::all();
            round.shuffle(&mut random);
            println!("{}", memory(stage));
        }
        let kind = round.pop().expect("it was filled just now");
        number += 1;
        let entry = ledger.entry(kind).or_default();
        let told = step(stage, judge, kind, &mut random, entry).await;
        let told = told.with_context(|| format!("step {number}: {kind}"))?;
        println!("{:.0?} {number}: {kind}: {told}", began.elapsed());
    }
    Ok(())
}

async fn step(
    stage: &mut Stage,
    judge: &Judge,
    kind: Kind,
    random: &mut StdRng,
    entry: &mut Entry,
) -> Result<String> {
    tokio::time::sleep(Duration::from_millis(random.random_range(500..4_000))).await;
    let homes = answered(async || homes(stage).await).await?;
    stage.load.begin_pulses();
    let began = Instant::now();
    let done = acts::play(stage, kind, random).await?;
    let took = began.elapsed();
    let all = stage.cluster.numbers();
    let whole = stage.confirmed_by(&all, BACK_WITHIN).await?;
    let longest = entry.add(&done, &homes, &stage.load.pulses());
    // One that has ended by itself is told here.
    stage.cluster.wait_all_ready()?;
    stage.load.is_under_way().await?;
    judge.is_clean_so_far()?;
    let (confirmed, missing) = (stage.load.confirmed(), stage.load.missing());
    ensure!(
        missing < MISSING_MAX,
        "{missing} messages were not delivered"
    );
    Ok(format!(
        "{}; took {took:.1?}, whole again after {whole:.1?}, {longest}; \
         {confirmed} confirmed, {missing} under way",
        done.told
    ))
}

fn table(ledger: &Ledger) -> String {
    let mut out = "ms without a confirm, p50 / p99 / most\n\
                   | fault | count | from any node | of clients that look for one | without a majority |\n\
                   |---|---|---|---|---|\n"
        .to_owned();
    for (kind, entry) in ledger {
        let Entry {
            count,
            staying,
            moving,
            without,
        } = entry;
        writeln!(
            out,
            "| {kind} | {count} | {staying} | {moving} | {without} |"
        )
        .unwrap();
    }
    out
}

fn memory(stage: &Stage) -> String {
    let nodes = Memory::watch(&stage.cluster).begin();
    let own = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let own = own.lines().find(|it| it.starts_with("VmRSS:"));
    let own = own.unwrap_or_default().split_whitespace().nth(1);
    format!(
        "memory: nodes {nodes}; this process {} kB",
        own.unwrap_or("?")
    )
}

/// No node may panic; what they call an error is shown.
fn read_logs(stage: &Stage) -> Result<()> {
    let (mut panics, mut errors) = (Vec::new(), BTreeSet::new());
    for node in stage.cluster.numbers() {
        let path = stage
            .cluster
            .directory()
            .join(format!("node-{}/log", node.0));
        let text = fs::read(path)?;
        for line in String::from_utf8_lossy(&text).lines() {
            if line.contains("panicked") {
                panics.push(format!("node {}: {line}", node.0));
            }
            if let Some((_, said)) = line.split_once("ERROR") {
                errors.insert(said.chars().take(100).collect::<String>());
            }
        }
    }
    for error in errors.iter().take(20) {
        println!("told by nodes: {error}");
    }
    ensure!(panics.is_empty(), "{panics:?}");
    Ok(())
}

async fn run(stage: &mut Stage, seed: u64, minutes: u64) -> Result<()> {
    stage.add_amqp(AMQP).await?;
    stage.add_lanes(LANES_PAUSE).await?;
    let judge = Judge::start(stage.load.recorder(), stage.cluster.directory())?;
    let servers = stage.cluster.servers_from(NodeNumber(1));
    let redriver = Redriver::start(&stage.cluster.warren(), &servers);
    let played = play(stage, &judge, seed, minutes).await;
    read_logs(stage)?;
    played?;
    stage.settle(LAST_WITHIN).await?;
    let report = judge.end()?;
    println!(
        "{report}parked messages were redriven {} times",
        redriver.end()
    );
    println!("{}", memory(stage));
    ensure!(report.is_clean(), "{report}");
    for number in stage.cluster.numbers() {
        let aside = stage.cluster.data_directory(number).join("set-aside");
        ensure!(!aside.exists(), "a replica was set aside on {number:?}");
    }
    all_agree(&stage.connections()?).await
}

#[test]
#[ignore = "long form"]
fn every_fault_in_turn_for_an_hour_loses_and_doubles_nothing() {
    if !is_inside("every_fault_in_turn_for_an_hour_loses_and_doubles_nothing") {
        return;
    }
    let given = std::env::var("WARREN_LONG_MINUTES").ok();
    let minutes = given.and_then(|it| it.parse().ok()).unwrap_or(MINUTES);
    let seed = seed();
    println!("long run: seed {seed} (repeat with WARREN_SEED={seed}), {minutes} minutes");
    let runtime = runtime();
    let network = Network::build(SETUP.nodes).unwrap();
    let mut stage = runtime.block_on(Stage::start(network, &SETUP)).unwrap();
    let result = runtime.block_on(run(&mut stage, seed, minutes));
    // While the cluster still is there: then its data and logs are kept.
    assert!(result.is_ok(), "seed {seed}: {:?}", result.unwrap_err());
}
