//! Three real processes under load on all nodes, killed and frozen at random: nothing is lost, doubled, altered or out of order.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

use std::time::Duration;

use anyhow::{Result, ensure};
use warren_cluster::{Load, Shape};
use warren_testkit::checker::check;
use warren_testkit::faults::{self, plan, run};
use warren_testkit::history::write_json_lines;
use warren_testkit::process::{Cluster, Options};

const SHAPE: Shape = Shape {
    queues: 3,
    publishers: 3,
    consumers: 3,
    pause: Duration::from_millis(4),
    body_bytes: 200,
};

fn seed() -> u64 {
    let given = std::env::var("WARREN_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    given.unwrap_or_else(|| u64::from(std::process::id()))
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
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
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
    ensure!(
        report.confirmed > 500,
        "hardly anything was confirmed: {}",
        report.confirmed
    );
    Ok(())
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

#[test]
#[ignore = "long form"]
fn two_hundred_faults_lose_and_double_nothing() {
    let shape = faults::Shape {
        kill_all: 1,
        ..faults::Shape::default()
    };
    fault_run(seed(), 200, shape);
}
