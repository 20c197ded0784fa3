//! The network between three or five real processes fails under load, in every way that packets can: nothing is lost, doubled or out of order,
//! the side that can serve does, the other one says so. Not here: nodes that die or freeze (`faults.rs`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::task::JoinHandle;
use warren_cluster::Shape;
use warren_cluster::cuts::{Cut, HALVES, OF_FIVE, OF_THREE, Plan, Step};
use warren_cluster::network::{Network, is_inside};
use warren_cluster::probe::{Answer, NACK};
use warren_cluster::run::{conclude, runtime, seed};
use warren_cluster::stage::{Setup, Stage};
use warren_proto::convert::reason::Reason;
use warren_testkit::history::PublishOutcome;
use warren_testkit::process::NodeNumber;

const SHAPE: Shape = Shape {
    queues: 3,
    publishers: 3,
    consumers: 3,
    pause: Duration::from_millis(5),
    body_bytes: 200,
};
/// Beside them, over AMQP: on each node a publisher and a consumer that stay with it, for each of so many queues.
const AMQP: (u32, Duration) = (1, Duration::from_millis(10));
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

const THREE: Setup<'static> = Setup {
    nodes: 3,
    environment: &[],
    shape: SHAPE,
};
/// Every group has a replica on each: whoever is with most nodes has most of every group.
const FIVE: Setup<'static> = Setup {
    nodes: 5,
    environment: &[("WARREN_CLUSTER_REPLICATION_FACTOR", "5")],
    shape: Shape {
        publishers: 5,
        consumers: 5,
        pause: Duration::from_millis(15),
        ..SHAPE
    },
};

const ASK_EVERY: Duration = Duration::from_millis(100);

type Asking = JoinHandle<Result<Vec<Answer>>>;

struct Run {
    stage: Stage,
}

impl Run {
    /// Asks these nodes until then, call after call, over both protocols.
    async fn ask(&self, nodes: &[NodeNumber], until: Instant) -> Result<Vec<Asking>> {
        let mut asking = Vec::new();
        for node in nodes {
            for queue in 0..SHAPE.queues {
                let mut probe = self.stage.probe(*node, queue)?;
                asking.push(tokio::spawn(async move {
                    let mut answers = Vec::new();
                    while Instant::now() < until {
                        answers.push(probe.publish(Duration::from_secs(20)).await);
                        tokio::time::sleep(ASK_EVERY).await;
                    }
                    Ok(answers)
                }));
            }
            let mut probe = self.stage.amqp_probe(*node, 0).await?;
            asking.push(tokio::spawn(async move {
                let mut answers = Vec::new();
                while Instant::now() < until {
                    answers.push(probe.publish(Duration::from_secs(20)).await?);
                    tokio::time::sleep(ASK_EVERY).await;
                }
                Ok(answers)
            }));
        }
        Ok(asking)
    }

    async fn play(&mut self, step: &Step, random: &mut StdRng) -> Result<String> {
        let (leader, terms) = self.stage.leads().await?;
        let nodes = self.stage.cluster.numbers().len();
        let cut = Cut::of(step.fault, nodes, leader, random);
        cut.make(&mut self.stage.network)?;
        let began = Instant::now();
        let until = began + step.held_for;
        let flapping = cut.flap(&self.stage.network, until, random.random());
        let asking = self.ask(&cut.alone, until).await?;
        let (served, flapped) = tokio::join!(
            self.stage.confirmed_by(&cut.serve, CONFIRM_WITHIN),
            flapping
        );
        flapped?;
        let served = served.with_context(|| format!("{cut:?}"))?;
        tokio::time::sleep(until.saturating_duration_since(Instant::now())).await;
        self.stage.network.heal()?;
        let healed = Instant::now();
        let mut answers = Vec::new();
        for one in asking {
            answers.extend(one.await??);
        }
        let told = judge(&answers, began, healed).with_context(|| format!("{cut:?}"))?;
        let all = self.stage.cluster.numbers();
        let whole = self.stage.confirmed_by(&all, CONFIRM_WITHIN).await;
        let whole = whole.with_context(|| format!("after the end of {cut:?}"))?;
        let (_, terms_now) = self.stage.leads().await?;
        Ok(format!(
            "{cut}: served after {}; {told}whole again after {}; {} elections",
            of_aim(served),
            of_aim(whole),
            terms_now.saturating_sub(terms)
        ))
    }
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
            says_so && it.retry.is_some() || it.text == NACK,
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

fn play(seed: u64, setup: &Setup<'_>, plan: &Plan) {
    let nodes = setup.nodes;
    println!("network faults of {nodes} nodes: seed {seed} (repeat with WARREN_SEED={seed})");
    let runtime = runtime();
    let network = Network::build(nodes).unwrap();
    let mut stage = runtime.block_on(Stage::start(network, setup)).unwrap();
    runtime.block_on(stage.add_amqp(AMQP)).unwrap();
    let mut run = Run { stage };
    let result = runtime.block_on(play_all(&mut run, seed, plan));
    assert!(result.is_ok(), "seed {seed}: {:?}", result.unwrap_err());
    let Stage { cluster, load, .. } = run.stage;
    let result = runtime.block_on(conclude(load, cluster.directory()));
    // While the cluster still is there: then its data and logs are kept.
    assert!(result.is_ok(), "seed {seed}: {:?}", result.unwrap_err());
}

async fn play_all(run: &mut Run, seed: u64, plan: &Plan) -> Result<()> {
    let mut random = StdRng::seed_from_u64(seed);
    for (number, step) in plan.steps.iter().enumerate() {
        let told = run.play(step, &mut random).await;
        let told = told.with_context(|| format!("step {}: {step:?}", number + 1))?;
        let (of, confirmed) = (plan.steps.len(), run.stage.load.confirmed());
        println!("{}/{of}: {told}; {confirmed} confirmed so far", number + 1);
    }
    Ok(())
}

/// `WARREN_NETWORK_STEPS`, else so many.
fn steps(otherwise: usize) -> usize {
    let given = std::env::var("WARREN_NETWORK_STEPS").ok();
    given.and_then(|it| it.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn every_fault_of_the_network_once_loses_and_doubles_nothing() {
    if is_inside("every_fault_of_the_network_once_loses_and_doubles_nothing") {
        play(seed(), &THREE, &Plan::each_once(&OF_THREE));
    }
}

#[test]
fn halves_of_five_nodes_serve_where_three_are_and_lose_and_double_nothing() {
    if is_inside("halves_of_five_nodes_serve_where_three_are_and_lose_and_double_nothing") {
        play(seed(), &FIVE, &Plan::each_once(&HALVES));
    }
}

#[test]
#[ignore = "long form"]
fn many_faults_of_the_network_lose_and_double_nothing() {
    if is_inside("many_faults_of_the_network_lose_and_double_nothing") {
        let seed = seed();
        play(seed, &THREE, &Plan::drawn(&OF_THREE, seed, steps(100)));
    }
}

#[test]
#[ignore = "long form"]
fn many_faults_of_five_nodes_lose_and_double_nothing() {
    if is_inside("many_faults_of_five_nodes_lose_and_double_nothing") {
        let seed = seed();
        let faults = [&HALVES[..], &HALVES, &OF_THREE, &OF_FIVE].concat();
        play(seed, &FIVE, &Plan::drawn(&faults, seed, steps(60)));
    }
}
