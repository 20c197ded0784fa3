//! `warren health`: asks a node's health page, for containers whose image has no other client. Not here: what healthy means
//! (`warren-management`).

use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::args::parse_seconds;
use crate::exit::Failure;

/// A page is a few lines.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Probe {
    /// The process answers at all
    Live,
    /// The node takes part in its cluster and is near its leaders
    Ready,
    /// The node has read its disk
    Startup,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 yes, 1 no (the reasons are printed), 3 the node was not reached.

Example: the health check of a container
  warren health --probe ready --address 127.0.0.1:15672")]
pub(crate) struct HealthArgs {
    /// What to ask for
    #[arg(long, value_enum, default_value_t = Probe::Ready)]
    probe: Probe,
    /// The node's HTTP listener
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "WARREN_HEALTH_ADDRESS",
        default_value = "127.0.0.1:15672"
    )]
    address: String,
    /// Longest time to wait for the answer
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0, value_parser = parse_seconds)]
    within: f64,
}

pub(crate) async fn run(args: HealthArgs) -> Result<()> {
    let path = match args.probe {
        Probe::Live => "/livez",
        Probe::Ready => "/readyz",
        Probe::Startup => "/startupz",
    };
    let unreached = |why: String| Failure::Unavailable(format!("{}: {why}", args.address));
    let within = Duration::from_secs_f64(args.within);
    let answer = timeout(within, get(&args.address, path))
        .await
        .map_err(|_| unreached("no answer in time".to_owned()))?
        .map_err(|error| unreached(error.to_string()))?;
    let (status, body) =
        parse(&answer).ok_or_else(|| unreached("the answer is not HTTP".to_owned()))?;
    if status == 200 {
        return Ok(());
    }
    Err(Failure::Failed(format!("{path} says {status}: {}", body.trim())).into())
}

async fn get(address: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream
        .take(ANSWER_BYTES_MAX)
        .read_to_end(&mut answer)
        .await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Status and body.
fn parse(answer: &str) -> Option<(u16, &str)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some((status, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_is_taken_apart() {
        let answer = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nwhy\n";
        assert_eq!(parse(answer), Some((503, "why\n")));
        for bad in [
            "",
            "HTTP/1.1 200 OK\r\n",
            "SSH-2.0\r\n\r\n",
            "HTTP/1.1 xx\r\n\r\n",
        ] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
