//! Power loss of all nodes at once: the disk loses what was not synced, and every confirmed message is there afterwards.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

use std::time::Duration;

use anyhow::Result;
use warren_cluster::{Load, Shape};
use warren_testkit::checker::check;
use warren_testkit::faults::{kill_all, start_all};
use warren_testkit::power::Disk;
use warren_testkit::process::{Cluster, Options};

const DISK_MIB: u64 = 4_096;

#[test]
#[ignore = "long form"]
fn power_cuts_of_all_nodes_lose_nothing_confirmed() {
    power_run(20).unwrap();
}

fn power_run(cuts: u32) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let mut disk = Disk::create(DISK_MIB)?;
    let mut cluster = Cluster::start(Options {
        directory: Some(disk.mount_point()),
        ..Options::default()
    })?;
    disk.keep()?;
    let servers: Vec<String> = cluster
        .numbers()
        .into_iter()
        .map(|number| cluster.servers_from(number))
        .collect();
    let shape = Shape {
        queues: 2,
        publishers: 3,
        consumers: 2,
        pause: Duration::from_millis(2),
        body_bytes: 300,
    };
    let load = runtime.block_on(Load::start(&servers, shape))?;
    for cut in 1..=cuts {
        std::thread::sleep(Duration::from_millis(700 + u64::from(cut) * 37 % 900));
        kill_all(&mut cluster)?;
        disk.cut()?;
        start_all(&mut cluster)?;
        println!("cut {cut} of {cuts}: {} confirmed so far", load.confirmed());
    }
    let events = runtime.block_on(load.finish(Duration::from_secs(90)))?;
    let report = check(&events);
    println!("{report}");
    assert!(report.is_clean(), "{report}");
    Ok(())
}
