//! Figures, not checks: run with `--ignored --nocapture`.

use std::time::{Duration, Instant};

use crate::common::Cluster;
use bytes::Bytes;
use warren_raft::ProposeError;
use warren_types::GroupId;

/// CPU seconds used by this process so far: all three nodes and the load.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after = stat.rsplit(')').next().unwrap();
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}

/// Keeps `window` commands of `size` bytes in flight in every group.
fn run(groups: u32, size: usize, window: usize, total: u64) {
    let cluster = Cluster::start(3, groups, |_| {});
    let leaders: Vec<_> = (1..=groups)
        .map(|group| (GroupId(group), cluster.leader(GroupId(group))))
        .collect();
    let payload = Bytes::from(vec![b'z'; size]);
    let (cpu, started) = (cpu_seconds(), Instant::now());
    let before = cluster.node(1).log.stats();
    std::thread::scope(|scope| {
        for (group, leader) in &leaders {
            let (handle, view) = cluster.node(*leader).group(*group).unwrap();
            let payload = &payload;
            scope.spawn(move || {
                let term = handle.leadership().borrow().term;
                let share = total / u64::from(groups);
                let mut sent = 0;
                while view.count() < share {
                    while sent < share && sent - view.count() < window as u64 {
                        match handle.propose(term, payload) {
                            Ok(()) => sent += 1,
                            Err(ProposeError::Full) => break,
                            Err(error) => panic!("{error}"),
                        }
                    }
                    std::thread::sleep(Duration::from_micros(200));
                }
            });
        }
    });
    let (elapsed, cpu) = (started.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let syncs = cluster.node(1).log.stats().syncs - before.syncs;
    println!(
        "{groups} groups, {size} B, window {window}: {:.0}/s, {:.1} MB/s, {:.1} CPU s per million, {:.0} syncs/s on node 1",
        total as f64 / elapsed,
        total as f64 * size as f64 / elapsed / 1e6,
        cpu * 1e6 / total as f64,
        syncs as f64 / elapsed,
    );
}

#[test]
#[ignore = "figures"]
fn throughput_three_nodes_one_process() {
    run(1, 1024, 1, 500);
    run(1, 1024, 1000, 100_000);
    run(4, 1024, 1000, 200_000);
    run(16, 16 << 10, 64, 40_000);
    run(4, 100 << 10, 16, 8_000);
}

#[test]
#[ignore = "figures"]
fn idle_cost_of_seventeen_groups() {
    let cluster = Cluster::start(3, 17, |_| {});
    for group in 1..=17 {
        cluster.leader(GroupId(group));
    }
    std::thread::sleep(Duration::from_secs(2));
    let cpu = cpu_seconds();
    std::thread::sleep(Duration::from_secs(10));
    let used = (cpu_seconds() - cpu) / 10.0;
    println!(
        "three idle nodes with 17 groups: {:.1} % of a core, {:.1} % each",
        used * 100.0,
        used * 100.0 / 3.0
    );
}

#[test]
#[ignore = "figures"]
fn failover_after_a_kill() {
    for round in 0..8 {
        let mut cluster = Cluster::start(3, 1, |_| {});
        let leader = cluster.leader(GroupId(1));
        std::thread::sleep(Duration::from_millis(300));
        let killed = Instant::now();
        cluster.kill(leader);
        cluster.leader(GroupId(1));
        println!(
            "round {round}: leader that may act after {:?}",
            killed.elapsed()
        );
    }
}
