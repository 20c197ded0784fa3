//! A shard's leader dies, and so does the word of a node with consumers: what nobody claims from the new leader within a second is ready
//! again (features A6). Not here: nodes that report (`tests/cluster`, `faults`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

use std::time::{Duration, Instant};

use serde_json::Value;
use warren_api::{Call, Consuming, runtime};
use warren_proto::v1;
use warren_testkit::process::{Cluster, NodeNumber, Options};

/// An election, and then the second. What a silent node's consumers hold comes back after five otherwise.
const AT_LATEST: Duration = Duration::from_millis(4_500);

fn shown(cluster: &Cluster, arguments: &[&str]) -> Value {
    let text = cluster.run(arguments).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn node(it: &Value) -> NodeNumber {
    NodeNumber(usize::try_from(it.as_u64().unwrap()).unwrap())
}

#[test]
fn what_nobody_claims_from_a_new_leader_is_ready_again_after_a_second() {
    let mut cluster = Cluster::start(Options {
        nodes: 5,
        ..Options::default()
    })
    .unwrap();
    runtime(async {
        let any = Call::to(&cluster.grpc_address(NodeNumber(1)));
        any.declare("orders").await.unwrap();
        any.fill("orders", &["a"]).await;
        let queue = shown(&cluster, &["queue", "show", "orders", "--output", "json"]);
        let status = shown(&cluster, &["cluster", "status", "--output", "json"]);
        let shards = status["shards"].as_array().unwrap();
        let shard = shards.iter().find(|it| it["shard"] == queue["shard"]);
        let shard = shard.unwrap();
        let leader = node(&shard["leader_node"]);
        let replicas = shard["replicas"].as_array().unwrap();
        let replicas: Vec<NodeNumber> = replicas.iter().map(|it| node(&it["node_id"])).collect();
        // It has no voice in the election, and consumers.
        let mut others = cluster.numbers().into_iter();
        let silent = others.find(|it| !replicas.contains(it)).unwrap();
        let open = v1::ConsumeOpen {
            queue: "orders".to_owned(),
            prefetch: 1,
            ..v1::ConsumeOpen::default()
        };
        let holder = Call::to(&cluster.grpc_address(silent));
        let (mut stream, _) = Consuming::open(&holder, open).await;
        assert_eq!(stream.deliveries(1).await.len(), 1);

        cluster.pause(silent).unwrap();
        cluster.kill(leader).unwrap();
        let began = Instant::now();
        let follower = replicas.iter().find(|it| **it != leader).unwrap();
        let call = Call::to(&cluster.grpc_address(*follower));
        let again = loop {
            if let Ok(taken) = call.receive("orders", 1).await
                && let Some(taken) = taken.into_iter().next()
            {
                break taken;
            }
            assert!(began.elapsed() < AT_LATEST, "it does not come back");
        };
        let took = began.elapsed();
        println!("back {took:.2?} after its leader was killed");
        assert!(again.redelivered);
        assert!(took < AT_LATEST, "{took:.2?}");
        cluster.resume(silent).unwrap();
    });
}
