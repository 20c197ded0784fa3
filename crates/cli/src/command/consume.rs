//! `warren consume`: bodies to stdout, acknowledged after they are written. Not here: going on with another node
//! (`warren-client`).

use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use warren_client::{Connection, Consumer, ConsumerOptions, Delivery};

use crate::{
    args::{Global, Output, parse_seconds},
    exit::Failure,
    output::{self, Reader},
    signals::Interrupt,
};

/// How long the last acknowledgements may take.
const CLOSE_WITHIN: Duration = Duration::from_secs(10);

/// Options of `warren consume`.
#[derive(Debug, Args)]
#[command(after_help = "\
Bodies go to stdout, one per line; each is acknowledged after it is written. On SIGINT and SIGTERM, and when stdout is closed,
what is written is acknowledged and the rest goes back to the queue. When a node dies, the next one is used.

The last line on stderr: consumed 1000, redelivered 3, seconds 12.345

Examples:
  warren consume --queue orders
  warren consume --queue orders --count 10 --timeout 5     # exit code 3 if there are fewer than 10
  warren consume --queue orders --timeout 2 > orders.txt   # what is there now")]
pub(crate) struct ConsumeArgs {
    /// The queue
    #[arg(long)]
    queue: String,
    /// Ends after so many messages
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Most messages that are not acknowledged
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    prefetch: u32,
    /// Ends when no message came for so long
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    timeout: Option<f64>,
}

/// Why it ended.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum End {
    Count,
    Silence,
    Interrupted,
    ReaderGone,
}

#[derive(Debug, Default, Serialize)]
struct Tally {
    consumed: u64,
    redelivered: u64,
    seconds: f64,
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    /// Where the body is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_hex: Option<String>,
    exchange: &'a str,
    routing_key: &'a str,
    redelivered: bool,
    delivery_count: u32,
}

/// Prints messages until an end is reached.
pub(crate) async fn run(global: &Global, args: ConsumeArgs) -> Result<()> {
    let mut interrupt = Interrupt::new()?;
    let connection = global.connect()?;
    let started = Instant::now();
    let mut tally = Tally::default();
    let result = tokio::select! {
        biased;
        () = interrupt.wait() => Ok(()),
        consumer = open(global, &args, &connection) => match consumer {
            Ok(consumer) => consume(global, &args, consumer, &mut interrupt, &mut tally).await,
            Err(error) => Err(error),
        },
    };
    tally.seconds = started.elapsed().as_secs_f64();
    let result = result.map_err(|error| Failure::say(&error).into());
    eprintln!("{}", last_line(&tally));
    result
}

async fn open(global: &Global, args: &ConsumeArgs, connection: &Connection) -> Result<Consumer> {
    // More than is asked for would only have to go back.
    let wanted = args
        .count
        .map_or(u32::MAX, |it| u32::try_from(it).unwrap_or(u32::MAX));
    let options = ConsumerOptions {
        vhost: global.vhost.clone(),
        prefetch: args.prefetch.min(wanted),
        ..ConsumerOptions::queue(&args.queue)
    };
    Ok(connection.consume(options).await?)
}

async fn consume(
    global: &Global,
    args: &ConsumeArgs,
    mut consumer: Consumer,
    interrupt: &mut Interrupt,
    tally: &mut Tally,
) -> Result<()> {
    let silence = args.timeout.map(Duration::from_secs_f64);
    let end = loop {
        if args.count.is_some_and(|it| tally.consumed >= it) {
            break End::Count;
        }
        let batch = tokio::select! {
            biased;
            () = interrupt.wait() => break End::Interrupted,
            batch = consumer.next_batch() => batch?,
            () = sleep_or_never(silence) => break End::Silence,
        };
        let left = args.count.map_or(u64::MAX, |it| it - tally.consumed);
        let mut batch = batch.unwrap_or_default();
        batch.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        if write(global.output, &batch)? == Reader::Gone {
            break End::ReaderGone;
        }
        for delivery in &batch {
            tally.consumed += 1;
            tally.redelivered += u64::from(delivery.redelivered);
            // Its result is waited for when the consumer is closed.
            consumer.ack(delivery).await?;
        }
    };
    consumer.close(CLOSE_WITHIN).await?;
    match (end, args.count) {
        (End::Silence, Some(count)) => Err(Failure::Unavailable(format!(
            "only {} of {count} messages came before {} s of silence",
            tally.consumed,
            args.timeout.unwrap_or_default()
        ))
        .into()),
        (End::Count | End::Silence | End::Interrupted | End::ReaderGone, _) => Ok(()),
    }
}

async fn sleep_or_never(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

/// All or nothing: what was not written is not acknowledged.
fn write(format: Output, batch: &[Delivery]) -> Result<Reader> {
    let mut out = Vec::new();
    for delivery in batch {
        match format {
            Output::Text => out.extend_from_slice(&delivery.message.body),
            Output::Json => serde_json::to_writer(&mut out, &line_of(delivery))?,
        }
        out.push(b'\n');
    }
    output::write(&out)
}

fn line_of(delivery: &Delivery) -> Line<'_> {
    let body = &delivery.message.body;
    let text = std::str::from_utf8(body).ok();
    Line {
        body: text,
        body_hex: text.is_none().then(|| hex(body)),
        exchange: &delivery.exchange,
        routing_key: &delivery.routing_key,
        redelivered: delivery.redelivered,
        delivery_count: delivery.delivery_count,
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(out, "{byte:02x}").expect("a string takes everything");
    }
    out
}

fn last_line(it: &Tally) -> String {
    format!(
        "consumed {}, redelivered {}, seconds {:.3}",
        it.consumed, it.redelivered, it.seconds
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_line_reads_as_documented() {
        let tally = Tally {
            consumed: 10,
            redelivered: 2,
            seconds: 0.5,
        };
        assert_eq!(
            last_line(&tally),
            "consumed 10, redelivered 2, seconds 0.500"
        );
    }

    #[test]
    fn hex_writes_two_digits_a_byte() {
        assert_eq!(hex(&[0, 255, 16]), "00ff10");
    }
}
