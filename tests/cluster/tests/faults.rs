//! Three real processes under load on all nodes, killed and frozen at random: nothing is lost, doubled, altered or out of order.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::runtime::Runtime;
use warren_cluster::audits::all_agree;
use warren_cluster::redrive::Redriver;
use warren_cluster::run::{conclude, runtime, seed};
use warren_cluster::{Load, Shape, connect};
use warren_testkit::faults::{self, Step, plan, run};
use warren_testkit::process::{Cluster, Options};

const SHAPE: Shape = Shape {
    queues: 3,
    publishers: 3,
    consumers: 3,
    pause: Duration::from_millis(4),
    body_bytes: 200,
};

/// No fault makes replicas differ, and none was blamed on the way.
fn alike(cluster: &Cluster) -> Result<()> {
    for number in cluster.numbers() {
        let aside = cluster.data_directory(number).join("set-aside");
        ensure!(!aside.exists(), "a replica was set aside on {number:?}");
    }
    runtime().block_on(async {
        let numbers = cluster.numbers().into_iter();
        let nodes: Result<Vec<_>> = numbers
            .map(|it| connect(&cluster.grpc_address(it)))
            .collect();
        all_agree(&nodes?).await
    })
}

/// Ends with a panic while the cluster still is there: then its data and logs are kept.
fn fault_run(seed: u64, steps: usize, shape: faults::Shape) {
    println!("fault run: seed {seed} (repeat with WARREN_SEED={seed}), {steps} faults");
    let mut cluster = Cluster::start(Options::default()).unwrap();
    if let Err(error) = play(&mut cluster, seed, steps, shape) {
        panic!("seed {seed}: {error:?}");
    }
}

fn servers(cluster: &Cluster) -> Vec<String> {
    let numbers = cluster.numbers().into_iter();
    numbers.map(|it| cluster.servers_from(it)).collect()
}

fn play(cluster: &mut Cluster, seed: u64, steps: usize, shape: faults::Shape) -> Result<()> {
    let runtime = runtime();
    let load = runtime.block_on(Load::start(&servers(cluster), SHAPE))?;
    play_under(&runtime, cluster, load, &plan(seed, 3, steps, shape))
}

/// The faults, one after the other, and then the checker.
fn play_under(runtime: &Runtime, cluster: &mut Cluster, load: Load, plan: &[Step]) -> Result<()> {
    let (mut done, steps) = (0, plan.len());
    run(cluster, plan, |step| {
        done += 1;
        println!(
            "{done}/{steps}: {:?}; {} confirmed so far",
            step.fault,
            load.confirmed()
        );
    })?;
    runtime.block_on(conclude(load, cluster.directory()))?;
    alike(cluster)
}

#[test]
fn random_kills_and_pauses_lose_and_double_nothing() {
    fault_run(seed(), 20, faults::Shape::default());
}

#[test]
fn all_nodes_killed_at_once_lose_nothing() {
    let shape = faults::Shape {
        kill: 0,
        pause: 0,
        terminate: 0,
        kill_all: 1,
        ..faults::Shape::default()
    };
    fault_run(seed(), 2, shape);
}

/// The same with all that queues can do in use at once (`lanes`).
fn lanes_run(seed: u64, steps: usize) {
    println!(
        "fault run of all features: seed {seed} (repeat with WARREN_SEED={seed}), {steps} faults"
    );
    let mut cluster = Cluster::start(Options::default()).unwrap();
    if let Err(error) = play_lanes(&mut cluster, seed, steps) {
        panic!("seed {seed}: {error:?}");
    }
}

fn play_lanes(cluster: &mut Cluster, seed: u64, steps: usize) -> Result<()> {
    let runtime = runtime();
    let servers = servers(cluster);
    let load = runtime.block_on(Load::start_lanes(&servers))?;
    let redriver = Redriver::start(&cluster.warren(), &servers[0]);
    let shape = faults::Shape {
        kill_all: 1,
        ..faults::Shape::default()
    };
    play_under(&runtime, cluster, load, &plan(seed, 3, steps, shape))?;
    println!("parked messages were redriven {} times", redriver.end());
    Ok(())
}

#[test]
fn all_features_at_once_lose_and_double_nothing() {
    lanes_run(seed(), 10);
}

/// How many faults the long forms have: `WARREN_FAULTS`, 200 if it does not say.
fn long_steps() -> usize {
    let given = std::env::var("WARREN_FAULTS").ok();
    given.map_or(200, |it| it.parse().expect("WARREN_FAULTS is a number"))
}

#[test]
#[ignore = "long form"]
fn all_features_at_once_lose_and_double_nothing_in_two_hundred_faults() {
    lanes_run(seed(), long_steps());
}

#[test]
#[ignore = "long form"]
fn two_hundred_faults_lose_and_double_nothing() {
    let shape = faults::Shape {
        kill_all: 1,
        ..faults::Shape::default()
    };
    fault_run(seed(), long_steps(), shape);
}
