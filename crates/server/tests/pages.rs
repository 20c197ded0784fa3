//! Health and metrics of a real node over HTTP.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::collections::BTreeSet;

use common::{Home, stop, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use warren_server::Node;

const OPERATIONS: &str = include_str!("../../../docs/operations.md");

fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

async fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn node_that_serves_is_ready_and_every_family_is_documented() {
    let home = Home::new(1);
    let (http, metrics) = (free_address(), free_address());
    let more = [
        ("listen.http", http.as_str()),
        ("listen.metrics", metrics.as_str()),
    ];
    let config = home.config_with(1, &more);
    let starting = Box::pin(Node::start(config, CancellationToken::new()));
    let node = within(starting).await.unwrap();
    within(node.ready()).await;
    for path in ["/livez", "/startupz", "/readyz"] {
        let page = get(&http, path).await;
        assert!(page.starts_with("HTTP/1.1 200 "), "{path}: {page}");
    }
    let page = get(&metrics, "/metrics").await;
    let families: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    assert!(families.contains("rabbitmq_raft_term"), "{page}");
    for family in families {
        let named = format!("`{family}`");
        assert!(
            OPERATIONS.contains(&named),
            "{family} is not in docs/operations.md"
        );
    }
    assert!(page.contains("\nwarren_node_ready 1\n"), "{page}");
    assert!(page.contains("rabbitmq_raft_term{shard=\"0\"} "), "{page}");
    stop(vec![node]).await;
    assert!(TcpStream::connect(&http).await.is_err());
    assert!(TcpStream::connect(&metrics).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn node_that_waits_for_others_is_live_and_started_but_not_ready() {
    let home = Home::new(3);
    let http = free_address();
    let config = home.config_with(1, &[("listen.http", http.as_str())]);
    let token = CancellationToken::new();
    let starting = {
        let token = token.clone();
        tokio::spawn(async move { Box::pin(Node::start(config, token)).await })
    };
    home.listens(1).await;
    assert!(get(&http, "/livez").await.starts_with("HTTP/1.1 200 "));
    within(async {
        while !get(&http, "/startupz").await.starts_with("HTTP/1.1 200 ") {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let ready = get(&http, "/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 503 "), "{ready}");
    assert!(ready.contains("not part of a cluster yet"), "{ready}");
    token.cancel();
    assert!(within(starting).await.unwrap().err().unwrap().is_stopped());
}
