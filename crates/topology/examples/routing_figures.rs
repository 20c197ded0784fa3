//! What routing costs on one core: keys per second by kind of exchange, memory of many bindings, a hostile pattern.
//! `cargo run --release -p warren-topology --example routing_figures`. Not here: pass or fail.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use support::*;
use warren_topology::{ExchangeKind, Published, Targets, Topology, TopologyCommand, Vhost};
use warren_types::{Properties, PropertiesBuilder, Table};

const RUN_FOR: Duration = Duration::from_millis(1_500);

fn per_second(topology: &Topology, messages: &[Published<'_>]) -> f64 {
    let mut out = Targets::new();
    let (mut routed, mut hits) = (0_u64, 0_usize);
    let began = Instant::now();
    while began.elapsed() < RUN_FOR {
        for message in messages {
            topology.route(Vhost::ROOT, message, &mut out).unwrap();
            hits += out.len();
        }
        routed += messages.len() as u64;
    }
    assert!(hits > 0);
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let count = routed as f64;
    count / began.elapsed().as_secs_f64()
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|it| it.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn with_queues(count: usize) -> Topology {
    let mut topology = formed();
    for at in 0..count {
        run(&mut topology, declare_queue(&format!("q{at}")));
    }
    topology
}

fn direct() -> f64 {
    let mut topology = with_queues(1_000);
    for at in 0..1_000 {
        let queue = format!("q{at}");
        run(
            &mut topology,
            bind("amq.direct", &format!("orders.{at}"), &queue),
        );
    }
    let keys: Vec<String> = (0..1_000).map(|at| format!("orders.{at}")).collect();
    let messages: Vec<_> = keys
        .iter()
        .map(|key| Published::new("amq.direct", key))
        .collect();
    per_second(&topology, &messages)
}

fn topic() -> f64 {
    let mut topology = with_queues(1_000);
    for at in 0..10_000 {
        let (region, customer, kind) = (at % 20, at / 20 % 500, at % 7);
        let pattern = match at % 10 {
            0 => format!("orders.*.c{customer}.#"),
            1 => format!("*.r{region}.c{customer}.k{kind}"),
            _ => format!("orders.r{region}.c{customer}.k{kind}"),
        };
        run(
            &mut topology,
            bind("amq.topic", &pattern, &format!("q{}", at % 1_000)),
        );
    }
    let keys: Vec<String> = (0..10_000)
        .map(|at| format!("orders.r{}.c{}.k{}", at % 20, at / 20 % 500, at % 7))
        .collect();
    let messages: Vec<_> = keys
        .iter()
        .map(|key| Published::new("amq.topic", key))
        .collect();
    per_second(&topology, &messages)
}

fn headers() -> f64 {
    let mut topology = with_queues(100);
    for at in 0..100_i32 {
        let arguments = Table::new()
            .with("x-match", if at % 2 == 0 { "all" } else { "any" })
            .with("customer", at)
            .with("format", if at % 3 == 0 { "pdf" } else { "zip" });
        run(
            &mut topology,
            bind_with("amq.headers", "", &format!("q{at}"), arguments),
        );
    }
    let properties: Vec<Properties> = (0..100_i32)
        .map(|at| {
            let headers = Table::new()
                .with("type", "report")
                .with("customer", at)
                .with("format", "pdf");
            PropertiesBuilder::new().headers(&headers).build().unwrap()
        })
        .collect();
    let began = Instant::now();
    let mut out = Targets::new();
    let mut routed = 0_u32;
    // Each message decodes its headers, so it is made anew.
    while began.elapsed() < RUN_FOR {
        for it in &properties {
            let message = Published::new("amq.headers", "").with_properties(it);
            topology.route(Vhost::ROOT, &message, &mut out).unwrap();
            routed += 1;
        }
    }
    f64::from(routed) / began.elapsed().as_secs_f64()
}

fn bindings() -> (u64, f64) {
    let mut topology = with_queues(1_000);
    run(&mut topology, declare_exchange("many", ExchangeKind::Topic));
    let commands: Vec<TopologyCommand> = (0..100_000)
        .map(|at| {
            let key = format!("orders.{}.{}", at % 300, at / 300);
            bind("many", &key, &format!("q{}", at % 1_000))
        })
        .collect();
    let (before, began) = (resident_kib(), Instant::now());
    for command in commands {
        let _reader = topology.clone();
        run(&mut topology, command);
    }
    let took = began.elapsed().as_secs_f64();
    (resident_kib().saturating_sub(before), took)
}

/// Longer and longer keys against patterns that make backtracking explode.
fn hostile() -> Vec<(usize, f64)> {
    let mut topology = with_queues(1);
    for number in 0..1_000_u32 {
        let words: Vec<&str> = (0..62)
            .map(|bit| {
                if number >> (bit % 10) & 1 == 1 {
                    "a"
                } else {
                    "b"
                }
            })
            .collect();
        let pattern = format!("#.{}", words.join(".#."));
        run(&mut topology, bind("amq.topic", &pattern, "q0"));
    }
    let mut out = Targets::new();
    [16, 32, 64, 128]
        .into_iter()
        .map(|words| {
            let key = vec!["a"; words].join(".");
            let began = Instant::now();
            for _ in 0..50 {
                let message = Published::new("amq.topic", &key);
                topology.route(Vhost::ROOT, &message, &mut out).unwrap();
            }
            (words, began.elapsed().as_secs_f64() / 50.0 * 1e6)
        })
        .collect()
}

fn main() {
    println!("direct, 1,000 bindings:    {:>10.0} keys/s", direct());
    println!("topic, 10,000 bindings:    {:>10.0} keys/s", topic());
    println!("headers, 100 bindings:     {:>10.0} messages/s", headers());
    let (kib, seconds) = bindings();
    println!(
        "100,000 bindings:          {:>10} KiB, {seconds:.1} s, each applied alone",
        kib
    );
    for (words, micros) in hostile() {
        println!("1,000 hostile patterns, key of {words:>3} words: {micros:>8.0} us");
    }
}
