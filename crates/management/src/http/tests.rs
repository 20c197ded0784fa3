//! What the two sites answer, over real sockets.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use warren_types::NodeId;

use super::*;
use crate::overview::NodeFacts;

/// A site of a node that has only just begun to start.
struct Served {
    address: std::net::SocketAddr,
    overview: Overview,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

impl Served {
    async fn new(site: Site) -> Self {
        Self::with(site, PATIENCE).await
    }

    async fn with(site: Site, patience: Patience) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let overview = Overview::new(NodeFacts {
            node: NodeId(7),
            version: "1.2.3",
        });
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve_with(
            listener,
            site,
            overview.clone(),
            stop.clone(),
            patience,
        ));
        Self {
            address,
            overview,
            stop,
            serving,
        }
    }

    async fn ask(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // The server may refuse before it has all of it.
        let _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    async fn get(&self, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        self.ask(request.as_bytes()).await
    }
}

#[tokio::test]
async fn starting_node_is_live_and_neither_started_nor_ready() {
    let site = Served::new(Site::Probes).await;
    assert!(site.get("/livez").await.starts_with("HTTP/1.1 200 "));
    assert!(site.get("/startupz").await.starts_with("HTTP/1.1 503 "));
    site.overview.opened();
    assert!(site.get("/startupz").await.starts_with("HTTP/1.1 200 "));
    let ready = site.get("/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 503 "), "{ready}");
    assert!(
        ready.ends_with("the node is not part of a cluster yet\n"),
        "{ready}"
    );
}

#[tokio::test]
async fn site_has_its_own_pages_only() {
    let probes = Served::new(Site::Probes).await;
    let metrics = Served::new(Site::Metrics).await;
    assert!(metrics.get("/metrics").await.starts_with("HTTP/1.1 200 "));
    for page in [
        probes.get("/metrics").await,
        metrics.get("/readyz").await,
        probes.get("/../livez").await,
        probes.get("/").await,
    ] {
        assert!(page.starts_with("HTTP/1.1 404 "), "{page}");
    }
}

#[tokio::test]
async fn other_methods_and_long_requests_are_refused() {
    let site = Served::new(Site::Probes).await;
    let post = b"POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert!(site.ask(post).await.starts_with("HTTP/1.1 405 "));
    let announced = format!(
        "GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        BODY_BYTES_MAX + 1
    );
    let refused = site.ask(announced.as_bytes()).await;
    assert!(refused.starts_with("HTTP/1.1 413 "), "{refused}");
    let long = format!(
        "GET /livez HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n",
        "x".repeat(HEAD_BYTES_MAX)
    );
    let refused = site.ask(long.as_bytes()).await;
    assert!(
        refused.starts_with("HTTP/1.1 431 ") || refused.is_empty(),
        "{refused}"
    );
}

#[tokio::test]
async fn connection_that_stays_silent_is_ended() {
    let soon = Duration::from_millis(20);
    let for_head = Patience {
        head: soon,
        ..PATIENCE
    };
    let for_all = Patience {
        connection: soon,
        ..PATIENCE
    };
    for patience in [for_head, for_all] {
        let site = Served::with(Site::Probes, patience).await;
        let mut silent = TcpStream::connect(site.address).await.unwrap();
        silent.write_all(b"GET /livez HT").await.unwrap();
        let mut answer = Vec::new();
        // Returns when the server has closed the connection: it would wait for ever otherwise.
        let _ = silent.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP/1.1 200 "));
    }
}

#[tokio::test]
async fn stop_ends_open_connections() {
    let site = Served::new(Site::Probes).await;
    let mut open = TcpStream::connect(site.address).await.unwrap();
    open.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut first = [0; 12];
    open.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    site.stop.cancel();
    site.serving.await.unwrap();
    let mut rest = Vec::new();
    let _ = open.read_to_end(&mut rest).await;
}
