//! Power loss of all nodes at once: the disk loses what was not synced, and every confirmed message is there afterwards.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

use std::time::Duration;

use anyhow::Result;
use warren_cluster::run::{conclude, runtime};
use warren_cluster::{Load, Shape};
use warren_testkit::faults::{kill_all, start_all};
use warren_testkit::power::Disk;
use warren_testkit::process::{Cluster, Options};

const DISK_MIB: u64 = 4_096;

#[test]
#[ignore = "long form"]
fn power_cuts_of_all_nodes_lose_nothing_confirmed() {
    power_run(20, true).unwrap();
}

/// What is written past the page cache is in the image before it is synced. So a sync that is missing shows here, where log and state go
/// through the page cache, and there only in what the file system itself keeps back.
#[test]
#[ignore = "long form"]
fn power_cuts_with_files_in_the_page_cache_lose_nothing_confirmed() {
    power_run(20, false).unwrap();
}

fn power_run(cuts: u32, direct: bool) -> Result<()> {
    let runtime = runtime();
    let mut disk = Disk::create(DISK_MIB)?;
    let mut cluster = Cluster::prepare(Options {
        directory: Some(disk.mount_point()),
        ..Options::default()
    })?;
    for number in cluster.numbers() {
        for part in ["LOG", "STATE"] {
            let variable = format!("WARREN_STORAGE_{part}_DIRECT");
            cluster.set_environment(number, &variable, &direct.to_string());
        }
        cluster.spawn(number)?;
    }
    cluster.wait_all_ready()?;
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
    runtime.block_on(conclude(load, cluster.directory()))
}
