//! `warren publish`: one message per line, confirmed. Not here: sending again after a broken connection (`warren-client`).

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read, stdin},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::Args;
use serde::Serialize;
use tokio::sync::mpsc;
use warren_client::{
    Error, Message, Outcome, Publication, PublishResult, Publisher, PublisherOptions, Target,
};

use crate::{
    args::{Global, Output, parse_seconds},
    exit::Failure,
    output,
    progress::Progress,
    signals::Interrupt,
};

/// Lines read at once.
const LINES_AT_ONCE: usize = 256;
const READ_BYTES: usize = 256 << 10;
/// Handles of scheduled messages that are shown: the first ones.
const HANDLES_MAX: usize = 10_000;
/// Chunks of lines read ahead.
const CHUNKS_AHEAD: usize = 4;

/// Options of `warren publish`.
#[derive(Debug, Args)]
#[command(after_help = "\
Each line is one message, without its line end. A message counts as confirmed when a majority of nodes has it on disk.
When a node dies, what is not confirmed is sent again through the next one and stored once.

The last line on stderr tells what became of the messages:
  published 1000, confirmed 1000, refused 0, 1.234 seconds, longest_gap_seconds 0.210

Examples:
  echo 'two coffees' | warren publish --queue orders
  warren publish --queue orders --file orders.txt --server 10.0.0.1:7101,10.0.0.2:7101
  echo 'a reminder' | warren publish --queue orders --delay 3600
  warren publish --exchange events --routing-key eu.login --file -")]
pub(crate) struct PublishArgs {
    /// Publish straight to this queue; refused if it does not exist
    #[arg(
        long,
        required_unless_present = "exchange",
        conflicts_with = "exchange"
    )]
    queue: Option<String>,
    /// Publish to this exchange
    #[arg(long)]
    exchange: Option<String>,
    /// Routing key, with --exchange
    #[arg(long, default_value = "", requires = "exchange")]
    routing_key: String,
    /// Refuse messages that no queue takes (always so with --queue)
    #[arg(long)]
    mandatory: bool,
    /// Deliver the messages only after so long; the handles that take them back go to stdout
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    delay: Option<f64>,
    /// File to read; - is stdin
    #[arg(long, default_value = "-")]
    file: PathBuf,
    /// Most messages without a confirm
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    window: u32,
    /// Gives up when nothing was confirmed for so long
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0, value_parser = parse_seconds)]
    timeout: f64,
}

/// What became of the messages.
#[derive(Debug, Default)]
struct Tally {
    published: u64,
    confirmed: u64,
    refused: u64,
    unknown: u64,
    first_refusal: Option<Outcome>,
    /// Of scheduled messages, with their sequences: the first ones.
    handles: Vec<(u64, Box<str>)>,
    /// Of the last confirm, or of the first message after which something was unconfirmed.
    silent_since: Option<Instant>,
    longest_gap: Duration,
}

impl Tally {
    fn unanswered(&self) -> u64 {
        self.published - self.confirmed - self.refused - self.unknown
    }

    /// In the order of the messages.
    fn take_handles(&mut self) -> Vec<Box<str>> {
        let mut handles = std::mem::take(&mut self.handles);
        handles.sort_unstable_by_key(|(sequence, _)| *sequence);
        handles.into_iter().map(|(_, handle)| handle).collect()
    }

    fn published(&mut self, count: u64, now: Instant) {
        if self.unanswered() == 0 {
            self.silent_since = Some(now);
        }
        self.published += count;
    }

    fn answered(&mut self, results: &[PublishResult], now: Instant) {
        if let Some(since) = self.silent_since {
            self.longest_gap = self.longest_gap.max(now.duration_since(since));
        }
        self.silent_since = Some(now);
        for result in results {
            match &result.outcome {
                Outcome::Committed {
                    schedule_handle: Some(handle),
                    ..
                } => {
                    self.confirmed += 1;
                    if self.handles.len() < HANDLES_MAX {
                        self.handles.push((result.sequence, handle.clone()));
                    }
                }
                Outcome::Committed { .. } | Outcome::Duplicate | Outcome::Unrouted => {
                    self.confirmed += 1;
                }
                Outcome::Refused(_) => {
                    self.refused += 1;
                    self.first_refusal
                        .get_or_insert_with(|| result.outcome.clone());
                }
                Outcome::Unknown(_) => {
                    self.unknown += 1;
                    self.first_refusal
                        .get_or_insert_with(|| result.outcome.clone());
                }
            }
        }
    }
}

#[derive(Serialize)]
struct Summary {
    published: u64,
    confirmed: u64,
    refused: u64,
    unknown: u64,
    seconds: f64,
    longest_gap_seconds: f64,
    resent: u64,
    reconnects: u64,
    /// What `warren queue cancel` takes, in the order of the lines.
    schedule_handles: Vec<Box<str>>,
}

/// Publishes every line of the file.
pub(crate) async fn run(global: &Global, args: PublishArgs) -> Result<()> {
    let target = match (&args.queue, &args.exchange) {
        (Some(queue), _) => Target::queue(queue),
        (None, exchange) => {
            Target::exchange(exchange.as_deref().unwrap_or_default(), &args.routing_key)
        }
    };
    let lines = read_lines(&args.file)?;
    let tally = Arc::new(Mutex::new(Tally::default()));
    let sink_tally = tally.clone();
    let publisher = global.connect()?.publisher(PublisherOptions {
        vhost: global.vhost.clone(),
        window_messages: args.window,
        give_up_after: Duration::from_secs_f64(args.timeout),
        sink: Some(Box::new(move |results: &[PublishResult]| {
            with(&sink_tally, |it| it.answered(results, Instant::now()));
        })),
        ..PublisherOptions::default()
    });
    let started = Instant::now();
    let mandatory = args.mandatory || args.queue.is_some();
    let to = Route {
        target,
        mandatory,
        delay: args.delay.map(Duration::from_secs_f64),
    };
    let sent = send(&publisher, lines, &to, &tally).await;
    let flushed = publisher.flush().await;
    let seconds = started.elapsed().as_secs_f64();
    let stats = publisher.stats();
    let summary = with(&tally, |it| Summary {
        published: it.published,
        confirmed: it.confirmed,
        refused: it.refused,
        unknown: it.unanswered() + it.unknown,
        seconds,
        longest_gap_seconds: it.longest_gap.as_secs_f64(),
        resent: stats.resent,
        reconnects: stats.reconnects,
        schedule_handles: it.take_handles(),
    });
    let first_refusal = with(&tally, |it| it.first_refusal.take());
    let verdict = verdict(sent, flushed, &summary, first_refusal.as_ref());
    if global.output == Output::Json {
        output::json(&summary)?;
    } else {
        for handle in &summary.schedule_handles {
            output::line(handle)?;
        }
    }
    eprintln!("{}", last_line(&summary));
    verdict
}

/// Where the lines go.
struct Route {
    target: Target,
    mandatory: bool,
    delay: Option<Duration>,
}

/// Whether all input was sent.
#[derive(Debug, PartialEq, Eq)]
enum Input {
    Ended,
    Interrupted,
}

async fn send(
    publisher: &Publisher,
    mut lines: mpsc::Receiver<std::io::Result<Vec<Vec<u8>>>>,
    to: &Route,
    tally: &Mutex<Tally>,
) -> Result<Input> {
    let mut interrupt = Interrupt::new()?;
    let progress = Progress::new(None, "messages published");
    loop {
        let chunk = tokio::select! {
            biased;
            () = interrupt.wait() => return Ok(Input::Interrupted),
            chunk = lines.recv() => chunk,
        };
        let Some(chunk) = chunk else {
            progress.end();
            return Ok(Input::Ended);
        };
        for line in chunk.context("cannot read the input")? {
            with(tally, |it| it.published(1, Instant::now()));
            let message = Message::new(line);
            let publication = Publication {
                target: to.target.clone(),
                message: match to.delay {
                    Some(delay) => message.after(delay)?,
                    None => message,
                },
                mandatory: to.mandatory,
                token: 0,
            };
            tokio::select! {
                biased;
                sent = publisher.submit(publication) => if let Err(error) = sent {
                    with(tally, |it| it.published -= 1);
                    return Err(error.into());
                },
                () = interrupt.wait() => {
                    with(tally, |it| it.published -= 1);
                    return Ok(Input::Interrupted);
                }
            }
        }
        progress.set(with(tally, |it| it.published));
    }
}

fn last_line(it: &Summary) -> String {
    format!(
        "published {}, confirmed {}, refused {}, {:.3} seconds, longest_gap_seconds {:.3}",
        it.published, it.confirmed, it.refused, it.seconds, it.longest_gap_seconds
    )
}

/// The exit code. What is to be said about it is said here, before the last line.
fn verdict(
    sent: Result<Input>,
    flushed: Result<(), Error>,
    summary: &Summary,
    first: Option<&Outcome>,
) -> Result<()> {
    match first {
        Some(Outcome::Refused(refusal)) => eprintln!("first refusal: {refusal}"),
        Some(Outcome::Unknown(error)) => {
            eprintln!("{} without an answer: {error}", summary.unknown);
        }
        Some(Outcome::Committed { .. } | Outcome::Duplicate | Outcome::Unrouted) | None => {}
    }
    let input = sent.map_err(|error| Failure::say(&error))?;
    flushed.map_err(|error| Failure::say(&error.into()))?;
    if summary.unknown > 0 {
        return Err(Failure::SAID_UNAVAILABLE.into());
    }
    if input == Input::Interrupted {
        eprintln!("interrupted before the end of the input");
    }
    if summary.refused > 0 || input == Input::Interrupted {
        return Err(Failure::SAID_FAILED.into());
    }
    Ok(())
}

/// Reads in a thread of its own, since files and terminals block. It ends with the process.
fn read_lines(path: &Path) -> Result<mpsc::Receiver<std::io::Result<Vec<Vec<u8>>>>> {
    let input: Box<dyn Read + Send> = if path == Path::new("-") {
        Box::new(stdin())
    } else {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        Box::new(file)
    };
    let mut input = BufReader::with_capacity(READ_BYTES, input);
    let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
    std::thread::Builder::new()
        .name("read-input".to_owned())
        .spawn(move || {
            loop {
                let chunk = read_chunk(&mut input);
                let is_end = matches!(&chunk, Ok(lines) if lines.is_empty());
                let is_error = chunk.is_err();
                if is_end || sender.blocking_send(chunk).is_err() || is_error {
                    return;
                }
            }
        })
        .context("cannot start the reader")?;
    Ok(receiver)
}

/// The lines that are there, at least one; none at the end. Waits for the first one only, so that a slow writer's lines go out
/// as they come.
fn read_chunk<R: Read>(input: &mut BufReader<R>) -> std::io::Result<Vec<Vec<u8>>> {
    let mut lines = Vec::new();
    while lines.is_empty() || (lines.len() < LINES_AT_ONCE && input.buffer().contains(&b'\n')) {
        let mut line = Vec::new();
        if input.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        lines.push(line);
    }
    Ok(lines)
}

fn with<R>(tally: &Mutex<Tally>, change: impl FnOnce(&mut Tally) -> R) -> R {
    change(&mut tally.lock().unwrap_or_else(PoisonError::into_inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(outcome: Outcome) -> PublishResult {
        PublishResult {
            sequence: 1,
            token: 0,
            outcome,
        }
    }

    #[test]
    fn lines_keep_their_bytes_and_the_last_needs_no_end() {
        let mut input = BufReader::new(&b"a\n\nb \xff\r\nlast"[..]);
        let mut all = Vec::new();
        loop {
            let chunk = read_chunk(&mut input).unwrap();
            if chunk.is_empty() {
                break;
            }
            all.extend(chunk);
        }
        let expected: [&[u8]; 4] = [b"a", b"", b"b \xff\r", b"last"];
        assert_eq!(all, expected);
    }

    #[test]
    fn longest_gap_counts_only_while_something_is_unconfirmed() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let committed = Outcome::Committed {
            queues: None,
            schedule_handle: None,
        };
        let mut tally = Tally::default();
        tally.published(1, at(0));
        tally.answered(&[result(committed.clone())], at(10));
        // Nothing is under way from 10 to 5000.
        tally.published(1, at(5000));
        tally.published(1, at(5010));
        tally.answered(&[result(committed.clone())], at(5030));
        tally.answered(&[result(Outcome::Unrouted)], at(5100));
        assert_eq!(tally.longest_gap, Duration::from_millis(70));
        assert_eq!((tally.confirmed, tally.unanswered()), (3, 0));
    }

    #[test]
    fn last_line_reads_as_documented() {
        let summary = Summary {
            published: 1000,
            confirmed: 1000,
            refused: 0,
            unknown: 0,
            seconds: 1.2344,
            longest_gap_seconds: 0.21,
            resent: 0,
            reconnects: 0,
            schedule_handles: Vec::new(),
        };
        let expected =
            "published 1000, confirmed 1000, refused 0, 1.234 seconds, longest_gap_seconds 0.210";
        assert_eq!(last_line(&summary), expected);
    }
}
