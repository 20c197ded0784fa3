//! Three real processes under load on all nodes, killed and frozen at random: nothing is lost, doubled, altered or out of order.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use warren_cluster::audits::all_agree;
use warren_cluster::lanes::{PARKING, UNPARKED};
use warren_cluster::run::{conclude, runtime, seed};
use warren_cluster::{Load, Shape, connect};
use warren_testkit::faults::{self, plan, run};
use warren_testkit::process::{Cluster, Options, run_within};

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

fn play(cluster: &mut Cluster, seed: u64, steps: usize, shape: faults::Shape) -> Result<()> {
    let runtime = runtime();
    let servers: Vec<String> = cluster
        .numbers()
        .into_iter()
        .map(|number| cluster.servers_from(number))
        .collect();
    let load = runtime.block_on(Load::start(&servers, SHAPE))?;
    let mut done = 0;
    run(cluster, &plan(seed, 3, steps, shape), |step| {
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

/// Brings what is parked to where it is consumed, again and again, until it is told to stop. A run that a fault ends is made again: moves
/// are exact.
fn redrive_parked(mut warren: impl FnMut() -> Command, servers: &str, stop: &AtomicBool) -> u64 {
    let mut runs = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut command = warren();
        command.args(["dlq", "redrive", PARKING, "--parked", "--to", UNPARKED]);
        command.args(["--server", servers]);
        let ended = run_within(command, Duration::from_secs(60));
        runs += u64::from(ended.is_ok_and(|it| it.status.success()));
        std::thread::sleep(Duration::from_millis(500));
    }
    runs
}

/// The same with all that queues can do in use at once (`lanes`).
fn lanes_run(seed: u64, steps: usize) -> Result<()> {
    println!(
        "fault run of all features: seed {seed} (repeat with WARREN_SEED={seed}), {steps} faults"
    );
    let mut cluster = Cluster::start(Options::default())?;
    let runtime = runtime();
    let numbers = cluster.numbers().into_iter();
    let servers: Vec<String> = numbers.map(|it| cluster.servers_from(it)).collect();
    let load = runtime.block_on(Load::start_lanes(&servers))?;
    let (stop, program) = (AtomicBool::new(false), cluster.warren());
    let program = program.get_program().to_owned();
    std::thread::scope(|scope| {
        let redriver =
            scope.spawn(|| redrive_parked(|| Command::new(&program), &servers[0], &stop));
        let mut done = 0;
        let shape = faults::Shape {
            kill_all: 1,
            ..faults::Shape::default()
        };
        let ran = run(&mut cluster, &plan(seed, 3, steps, shape), |step| {
            done += 1;
            println!(
                "{done}/{steps}: {:?}; {} confirmed so far",
                step.fault,
                load.confirmed()
            );
        });
        let ended = ran.and_then(|()| runtime.block_on(conclude(load, cluster.directory())));
        let ended = ended.and_then(|()| alike(&cluster));
        stop.store(true, Ordering::Relaxed);
        let runs = redriver.join().expect("it does not panic");
        println!("parked messages were redriven {runs} times");
        ended
    })
}

#[test]
fn all_features_at_once_lose_and_double_nothing() {
    let seed = seed();
    lanes_run(seed, 10).unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
}

#[test]
#[ignore = "long form"]
fn all_features_at_once_lose_and_double_nothing_in_two_hundred_faults() {
    let seed = seed();
    lanes_run(seed, 200).unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
}

#[test]
#[ignore = "long form"]
fn two_hundred_faults_lose_and_double_nothing() {
    let shape = faults::Shape {
        kill_all: 1,
        ..faults::Shape::default()
    };
    fault_run(seed(), 200, shape);
}
