//! The pages of a node: read over HTTP, and single figures of its metrics. Not here: what they mean.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

/// The whole answer, its head too.
pub(crate) fn page(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A metric's value in the page `/metrics`; `None`: it is not told.
#[allow(dead_code)] // not in each test that includes this file
pub(crate) fn figure(metrics: &str, name: &str) -> Option<f64> {
    let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
    metrics.lines().find_map(value)
}
