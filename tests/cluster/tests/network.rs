//! The network between three real processes fails under load, in every way that packets can: nothing is lost, doubled or out of order,
//! the side that can serve does, the other one says so. Not here: nodes that die or freeze (`faults.rs`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

#[path = "support/cuts.rs"]
mod cuts;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use cuts::{Cut, NODES, Plan, Step};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::task::JoinHandle;
use warren_client::{Connection, ConnectionOptions, Credentials};
use warren_cluster::network::{Network, is_inside};
use warren_cluster::probe::Answer;
use warren_cluster::watch::Terms;
use warren_cluster::{Load, Shape, connect_as};
use warren_proto::convert::reason::Reason;
use warren_testkit::checker::check;
use warren_testkit::history::{PublishOutcome, write_json_lines};
use warren_testkit::process::{Cluster, FIRST_PASSWORD, FIRST_USER, NodeNumber, Options};

const SHAPE: Shape = Shape {
    queues: 3,
    publishers: 3,
    consumers: 3,
    pause: Duration::from_millis(5),
    body_bytes: 200,
};
/// The side that can serve is to confirm again within this time; told, not held against a busy machine...
const AIM: Duration = Duration::from_secs(5);
/// ...which has this long.
const CONFIRM_WITHIN: Duration = Duration::from_secs(15);
/// A call that begins when a leader may yet be elected waits for it at most so long.
const ANSWER_WITHIN: Duration = Duration::from_secs(13);
/// From then on there is no hope for a node that is cut off, and it knows.
const KNOWS_AFTER: Duration = Duration::from_secs(7);
/// So it answers at once; held against a busy machine.
const AT_ONCE: Duration = Duration::from_secs(2);

struct Run {
    cluster: Cluster,
    network: Network,
    load: Load,
    options: ConnectionOptions,
}

impl Run {
    async fn start(mut network: Network) -> Result<Self> {
        network.heal()?;
        let cluster = Cluster::start(Options {
            hosts: network.hosts(),
            ..Options::default()
        })?;
        let options = ConnectionOptions {
            credentials: Some(Credentials {
                user: FIRST_USER.to_owned(),
                password: FIRST_PASSWORD.to_owned(),
            }),
            ..ConnectionOptions::default()
        };
        let servers = cluster.numbers().into_iter();
        let servers: Vec<String> = servers.map(|it| cluster.servers_from(it)).collect();
        let load = Load::start_as(&servers, SHAPE, options.clone()).await?;
        Ok(Self {
            cluster,
            network,
            load,
            options,
        })
    }

    fn connection(&self, node: NodeNumber) -> Result<Connection> {
        connect_as(&self.cluster.grpc_address(node), &self.options)
    }

    /// Who leads the topology, and all terms of all groups, by the word of any node.
    async fn leads(&self) -> Result<(NodeNumber, u64)> {
        for node in self.cluster.numbers() {
            let Ok(view) = self.connection(node)?.cluster().await else {
                continue;
            };
            let terms = view.shards.iter().map(|it| it.term).sum();
            let topology = view.shards.iter().find(|it| it.shard == 0);
            if let Some(leader) = topology.and_then(|it| it.leader_node_id) {
                return Ok((NodeNumber(usize::try_from(leader)?), terms));
            }
        }
        anyhow::bail!("no node knows who leads the topology")
    }

    /// Until each of these nodes has confirmed a message that began now, for every queue; the longest it took.
    async fn confirmed_by(&self, nodes: &[NodeNumber]) -> Result<Duration> {
        let began = Instant::now();
        let mut asked = Vec::new();
        for node in nodes {
            for queue in 0..SHAPE.queues {
                let mut probe = self.load.probe(&self.cluster.grpc_address(*node), queue)?;
                let node = *node;
                asked.push(tokio::spawn(async move {
                    loop {
                        let answer = probe.publish(Duration::from_secs(3)).await;
                        if answer.outcome == PublishOutcome::Confirmed {
                            return Ok(began.elapsed());
                        }
                        ensure!(
                            began.elapsed() < CONFIRM_WITHIN,
                            "node {} does not confirm for queue {queue}: {answer:?}",
                            node.0
                        );
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }));
            }
        }
        let mut longest = Duration::ZERO;
        for one in asked {
            longest = longest.max(one.await??);
        }
        Ok(longest)
    }

    /// Asks these nodes until then, call after call.
    fn ask(&self, nodes: &[NodeNumber], until: Instant) -> Result<Vec<JoinHandle<Vec<Answer>>>> {
        let mut asking = Vec::new();
        for node in nodes {
            for queue in 0..SHAPE.queues {
                let mut probe = self.load.probe(&self.cluster.grpc_address(*node), queue)?;
                asking.push(tokio::spawn(async move {
                    let mut answers = Vec::new();
                    while Instant::now() < until {
                        answers.push(probe.publish(Duration::from_secs(20)).await);
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    answers
                }));
            }
        }
        Ok(asking)
    }

    async fn play(&mut self, step: &Step, random: &mut StdRng) -> Result<String> {
        let (leader, terms) = self.leads().await?;
        let cut = Cut::of(step.fault, leader, random);
        cut.make(&mut self.network)?;
        let began = Instant::now();
        let until = began + step.held_for;
        let flapping = flap(&self.network, &cut, until, random.random());
        let asking = self.ask(&cut.alone, until)?;
        let (served, flapped) = tokio::join!(self.confirmed_by(&cut.serve), flapping);
        flapped?;
        let served = served.with_context(|| format!("{cut:?}"))?;
        tokio::time::sleep(until.saturating_duration_since(Instant::now())).await;
        self.network.heal()?;
        let healed = Instant::now();
        let mut answers = Vec::new();
        for one in asking {
            answers.extend(one.await?);
        }
        let told = judge(&answers, began, healed).with_context(|| format!("{cut:?}"))?;
        let all = self.cluster.numbers();
        let whole = self.confirmed_by(&all).await;
        let whole = whole.with_context(|| format!("after the end of {cut:?}"))?;
        let (_, terms_now) = self.leads().await?;
        Ok(format!(
            "{cut}: served after {}; {told}whole again after {}; {} elections",
            of_aim(served),
            of_aim(whole),
            terms_now.saturating_sub(terms)
        ))
    }
}

/// Opens and closes a cut that flaps.
async fn flap(network: &Network, cut: &Cut, until: Instant, seed: u64) -> Result<()> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut is_open = false;
    while cut.flaps && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(random.random_range(30..700))).await;
        is_open = !is_open;
        network.cut(if is_open { &[] } else { &cut.ways })?;
    }
    Ok(())
}

fn of_aim(took: Duration) -> String {
    let beyond = if took > AIM {
        " (more than aimed at)"
    } else {
        ""
    };
    format!("{took:.1?}{beyond}")
}

/// What a node that is cut off may answer, and how soon.
fn judge(answers: &[Answer], began: Instant, healed: Instant) -> Result<String> {
    let (mut longest, mut later) = (Duration::ZERO, 0);
    for it in answers {
        longest = longest.max(it.took);
        ensure!(it.took < ANSWER_WITHIN, "no answer in time: {it:?}");
        if it.asked + it.took >= healed {
            continue;
        }
        ensure!(
            it.outcome != PublishOutcome::Confirmed,
            "confirmed without a majority: {it:?}"
        );
        if it.asked < began + KNOWS_AFTER {
            continue;
        }
        later += 1;
        ensure!(it.took < AT_ONCE, "it knew, and was silent: {it:?}");
        let says_so = matches!(it.reason, Some(Reason::NoQuorum | Reason::NotReady));
        ensure!(
            says_so && it.retry.is_some(),
            "not an answer to act on: {it:?}"
        );
    }
    if answers.is_empty() {
        return Ok(String::new());
    }
    Ok(format!(
        "cut off: {} answers, the longest after {longest:.1?}, {later} at once; ",
        answers.len()
    ))
}

fn play(seed: u64, plan: &Plan) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let network = Network::build(NODES)?;
    let mut run = runtime.block_on(Run::start(network))?;
    let result = runtime.block_on(play_all(&mut run, seed, plan));
    assert!(result.is_ok(), "seed {seed}: {:?}", result.unwrap_err());
    let (cluster, load) = (run.cluster, run.load);
    let gap = load.longest_gap_ms();
    let events = runtime.block_on(load.finish(Duration::from_secs(90)))?;
    let report = check(&events);
    println!("{report}longest time a publisher went without a confirm: {gap} ms");
    if !report.is_clean() {
        let path = cluster.directory().join("history.jsonl");
        write_json_lines(&events, &mut std::fs::File::create(&path)?)?;
        println!("history kept at {}", path.display());
    }
    assert!(report.is_clean(), "seed {seed}: {report}");
    assert!(report.confirmed > 500, "hardly anything was confirmed");
    Ok(())
}

async fn play_all(run: &mut Run, seed: u64, plan: &Plan) -> Result<()> {
    let mut random = StdRng::seed_from_u64(seed);
    let all = run.cluster.numbers().into_iter();
    let all: Result<Vec<Connection>> = all.map(|it| run.connection(it)).collect();
    let terms = Terms::watch(all?);
    for (number, step) in plan.steps.iter().enumerate() {
        let told = run.play(step, &mut random).await;
        let told = told.with_context(|| format!("step {}: {step:?}", number + 1))?;
        let (of, confirmed) = (plan.steps.len(), run.load.confirmed());
        println!("{}/{of}: {told}; {confirmed} confirmed so far", number + 1);
    }
    terms.end().await
}

fn seed() -> u64 {
    let given = std::env::var("WARREN_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    given.unwrap_or_else(|| u64::from(std::process::id()) ^ u64::from(uptime_ms()))
}

/// In a namespace of processes every test is the second one.
fn uptime_ms() -> u32 {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let digits = text.split(' ').next().unwrap_or_default().replace('.', "");
    digits.parse().unwrap_or_default()
}

#[test]
fn every_fault_of_the_network_once_loses_and_doubles_nothing() {
    if is_inside("every_fault_of_the_network_once_loses_and_doubles_nothing") {
        let seed = seed();
        println!("network faults: seed {seed} (repeat with WARREN_SEED={seed})");
        play(seed, &Plan::each_once()).unwrap();
    }
}

/// `WARREN_NETWORK_STEPS` says how many.
#[test]
#[ignore = "long form"]
fn many_faults_of_the_network_lose_and_double_nothing() {
    if is_inside("many_faults_of_the_network_lose_and_double_nothing") {
        let given = std::env::var("WARREN_NETWORK_STEPS").ok();
        let steps = given.and_then(|it| it.parse().ok()).unwrap_or(100);
        let seed = seed();
        println!("network faults: seed {seed} (repeat with WARREN_SEED={seed}), {steps} steps");
        play(seed, &Plan::drawn(seed, steps)).unwrap();
    }
}
