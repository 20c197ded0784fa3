//! The two HTTP listeners: probes, and metrics. One request is one small page; nothing is read but the request's head.
//! Not here: what the pages say (`health`, `metrics`).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::health::Verdict;
use crate::metrics;
use crate::overview::Overview;

/// Connections of one listener; more wait unaccepted, and none stays longer than [`PATIENCE`].
const CONNECTIONS_MAX: usize = 256;
/// A longer request head is refused (431).
const HEAD_BYTES_MAX: usize = 16 << 10;
const PATIENCE: Patience = Patience {
    head: Duration::from_secs(10),
    connection: Duration::from_secs(60),
};
/// A request that announces more is refused; less is not read either.
const BODY_BYTES_MAX: u64 = 1 << 20;
/// After a failed accept (no file descriptors, say) before the next.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
const TEXT: &str = "text/plain; charset=utf-8";

/// Which pages a listener has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Site {
    /// `/livez`, `/readyz`, `/startupz`.
    Probes,
    /// `/metrics`.
    Metrics,
}

/// How long clients may take.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// A request head that is not there by then ends the connection.
    head: Duration,
    /// Whatever it does, a connection ends then; clients make another.
    connection: Duration,
}

type Page = Response<Full<Bytes>>;

/// Serves a site until `stop`; the pages under way are then cut off.
pub async fn serve(listener: TcpListener, site: Site, overview: Overview, stop: CancellationToken) {
    serve_with(listener, site, overview, stop, PATIENCE).await;
}

async fn serve_with(
    listener: TcpListener,
    site: Site,
    overview: Overview,
    stop: CancellationToken,
    patience: Patience,
) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let tasks = TaskTracker::new();
    loop {
        let accepted = async {
            let permit = Arc::clone(&room).acquire_owned().await.ok()?;
            match listener.accept().await {
                Ok((socket, _)) => Some((socket, permit)),
                Err(error) => {
                    warn!(%error, ?site, "connection not accepted");
                    None
                }
            }
        };
        let accepted = tokio::select! {
            biased; // stopping comes first
            () = stop.cancelled() => break,
            accepted = accepted => accepted,
        };
        let Some((socket, permit)) = accepted else {
            tokio::time::sleep(ACCEPT_AGAIN).await;
            continue;
        };
        let (overview, stop) = (overview.clone(), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                biased; // stopping comes first
                () = stop.cancelled() => {}
                () = connection(socket, site, overview, patience) => {}
            }
            drop(permit);
        });
    }
    tasks.close();
    tasks.wait().await;
}

async fn connection(socket: TcpStream, site: Site, overview: Overview, patience: Patience) {
    let service = service_fn(move |request: Request<Incoming>| {
        let overview = overview.clone();
        async move { Ok::<_, Infallible>(answer(request, site, &overview).await) }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(patience.head)
        .max_buf_size(HEAD_BYTES_MAX);
    let serving = builder.serve_connection(TokioIo::new(socket), service);
    match timeout(patience.connection, serving).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "HTTP connection ended"),
        Err(_) => debug!("HTTP connection ended: its time is over"),
    }
}

async fn answer(request: Request<Incoming>, site: Site, overview: &Overview) -> Page {
    let (head, body) = request.into_parts();
    let announced = body.size_hint().lower();
    if announced > BODY_BYTES_MAX {
        return page(
            StatusCode::PAYLOAD_TOO_LARGE,
            TEXT,
            "the body is too large\n",
        );
    }
    if ![Method::GET, Method::HEAD].contains(&head.method) {
        let mut refused = page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET or HEAD\n");
        refused
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match (site, head.uri.path()) {
        (Site::Probes, "/livez") => told(Ok(())),
        (Site::Probes, "/readyz") => told(overview.ready()),
        (Site::Probes, "/startupz") => told(overview.startup()),
        (Site::Metrics, "/metrics") => {
            let text = metrics::render(overview).await;
            page(StatusCode::OK, metrics::CONTENT_TYPE, text)
        }
        (Site::Probes | Site::Metrics, _) => page(StatusCode::NOT_FOUND, TEXT, "no such page\n"),
    }
}

fn told(verdict: Verdict) -> Page {
    match verdict {
        Ok(()) => page(StatusCode::OK, TEXT, "ok\n"),
        Err(reasons) => {
            let text = reasons.join("\n") + "\n";
            page(StatusCode::SERVICE_UNAVAILABLE, TEXT, text)
        }
    }
}

fn page(status: StatusCode, kind: &'static str, text: impl Into<Bytes>) -> Page {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        "x-content-type-options",
        HeaderValue::from_static("nosniff"),
    );
    response
}

#[cfg(test)]
mod tests;
