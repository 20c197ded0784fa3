//! A cluster that serves is written to a file, and restored into a new one: what is declared, and every message. Not here: the file
//! (`cli`), definitions by themselves (`definitions.rs`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use warren_client::{Connection, Message, PeekState, Peeked, PublisherOptions, QueueSpec, Target};
use warren_cluster::run::runtime;
use warren_cluster::{Load, Shape, connect, content};
use warren_testkit::process::{Cluster, NodeNumber, Options, run_within};

const WITHIN: Duration = Duration::from_secs(120);
const EACH: usize = 1_200;

fn backup(cluster: &Cluster, arguments: &[&str], file: &Path) -> (Option<i32>, String) {
    let mut command = cluster.warren();
    command
        .args(["backup", arguments[0]])
        .arg(file)
        .args(&arguments[1..]);
    command.args(["--server", &cluster.servers_from(NodeNumber(1))]);
    let output = run_within(command, WITHIN).unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = text(&output.stdout) + &text(&output.stderr);
    println!("backup {}: {} {said}", arguments.join(" "), output.status);
    (output.status.code(), said)
}

async fn fill(connection: &Connection) -> Result<()> {
    for queue in ["orders", "later", "empty"] {
        connection.declare_queue(&QueueSpec::durable(queue)).await?;
    }
    let publisher = connection.publisher(PublisherOptions::default());
    let mut confirms = Vec::new();
    for number in 0..EACH {
        let message = Message::new(format!("order {number}"));
        confirms.push(publisher.publish(&Target::queue("orders"), message).await?);
    }
    for number in 0..20 {
        let message = Message::new(format!("later {number}")).after(Duration::from_secs(3_600))?;
        confirms.push(publisher.publish(&Target::queue("later"), message).await?);
    }
    for confirm in confirms {
        ensure!(confirm.await?.is_success());
    }
    Ok(())
}

async fn run(old: &Cluster, new: &Cluster) -> Result<()> {
    let file = old.directory().join("cluster.backup");
    let from = connect(&old.servers_from(NodeNumber(1)))?;
    fill(&from).await?;
    // Others publish and consume meanwhile, through other queues.
    let shape = Shape {
        queues: 1,
        publishers: 1,
        consumers: 1,
        pause: Duration::from_millis(2),
        body_bytes: 100,
    };
    let load = Load::start(&[old.servers_from(NodeNumber(2))], shape).await?;
    let (code, said) = backup(old, &["create"], &file);
    ensure!(code == Some(0), "{said}");
    let events = load.finish(Duration::from_secs(60)).await?;
    ensure!(warren_testkit::checker::check(&events).is_clean());
    let (code, checked) = backup(old, &["check"], &file);
    ensure!(code == Some(0) && checked == said, "{checked}");

    let to = connect(&new.servers_from(NodeNumber(1)))?;
    let (code, said) = backup(new, &["restore"], &file);
    ensure!(code == Some(0), "{said}");
    ensure!(said.starts_with("4 queues, "), "{said}");
    let (code, said) = backup(new, &["restore"], &file);
    ensure!(
        code == Some(5) && said.contains("holds messages already"),
        "{said}"
    );
    for queue in ["orders", "later", "empty"] {
        let (was, is) = (content(&from, queue).await?, content(&to, queue).await?);
        let essence = |all: &[Peeked]| -> Vec<(String, bool)> {
            let essence = |it: &Peeked| {
                let body = String::from_utf8_lossy(&it.message.body).into_owned();
                (body, it.state == PeekState::Scheduled)
            };
            all.iter().map(essence).collect()
        };
        ensure!(essence(&was) == essence(&is), "{queue}");
        let dues = was
            .iter()
            .zip(&is)
            .filter_map(|(was, is)| Some((was.due?, is.due?)));
        let apart: BTreeMap<u128, ()> = dues
            .map(|(was, is)| (was.abs_diff(is).as_millis(), ()))
            .collect();
        let most = apart.keys().next_back().copied().unwrap_or(0);
        println!(
            "{queue}: {} messages, due times at most {most} ms apart",
            is.len()
        );
        ensure!(most < 60_000, "{queue}");
    }
    ensure!(content(&to, "orders").await?.len() == EACH);

    let mut bytes = std::fs::read(&file)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes)?;
    let (code, said) = backup(new, &["restore", "--add"], &file);
    ensure!(
        code == Some(1) && said.contains("is damaged or not whole"),
        "{said}"
    );
    ensure!(
        content(&to, "orders").await?.len() == EACH,
        "nothing was done"
    );
    Ok(())
}

#[test]
fn cluster_that_serves_is_backed_up_and_restored_into_a_new_one() {
    let (old, new) = (
        Options::default(),
        Options {
            nodes: 1,
            ..Options::default()
        },
    );
    let (old, new) = (Cluster::start(old).unwrap(), Cluster::start(new).unwrap());
    runtime().block_on(run(&old, &new)).unwrap();
}
