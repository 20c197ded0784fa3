//! Options of `warren perf`, and the plan they make.

use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};

use warren_types::Table;

use super::{body::HEADER_BYTES, shape::Shape};
use crate::{
    args::parse_seconds,
    arguments::{self, Argument},
    exit::Failure,
};

/// Options of `warren perf`.
#[derive(Debug, Args)]
#[command(after_help = "\
Queues are created fresh and deleted afterwards. The window is shared: --publishers 10 --window 1000 gives each publisher 100.
Latencies of a full window are mostly queueing: use --window 1 or --rate for latency. With --rate they count from the moment a
message should have been sent.

The last line on stdout is one JSON object.

Examples:
  warren perf --seconds 10 --size 1024 --window 1000 --prefetch 200 --verify
  warren perf --publishers 1 --consumers 1 --window 1              # latency with one message in flight
  warren perf --queues 10 --publishers 10 --consumers 10 --server 127.0.0.1:7101,127.0.0.1:7102,127.0.0.1:7103
  warren perf --consumers 0 --messages 1000000 --keep              # fill a queue
  warren perf --argument x-message-groups=strict --keys 100 --consumers 16 --prefetch 1 --work 5
  warren perf --consumers 0 --delay 3600 --messages 1000000        # scheduled messages
  warren perf --pids 101,102,103                                   # CPU, memory and writes of the node processes")]
pub(crate) struct PerfArgs {
    /// Publishers; 0 = none
    #[arg(long, default_value_t = 1)]
    publishers: usize,
    /// Consumers; 0 = none
    #[arg(long, default_value_t = 1)]
    consumers: usize,
    /// Queues; publishers and consumers take them in turn
    #[arg(long, default_value_t = 1)]
    queues: usize,
    /// Names of the queues: this, a dash and a number
    #[arg(long, default_value = "perf")]
    queue_prefix: String,
    /// Bytes of a message's body
    #[arg(long, default_value_t = 1024)]
    size: usize,
    /// Messages without a confirm, of all publishers together
    #[arg(long, default_value_t = 1000)]
    window: u32,
    /// Messages that are not acknowledged, of each consumer
    #[arg(long, default_value_t = 200)]
    prefetch: u32,
    /// Acknowledge so many at once [default: a quarter of the prefetch, at most 50]
    #[arg(long)]
    ack_every: Option<u32>,
    /// Messages per second, of all publishers together [default: as fast as can be]
    #[arg(long)]
    rate: Option<f64>,
    /// Measures for so long [default: 10; with --messages it is a limit, and 600]
    #[arg(long, value_parser = parse_seconds)]
    seconds: Option<f64>,
    /// Measures until so many are confirmed and consumed
    #[arg(long)]
    messages: Option<u64>,
    /// Seconds before the measurement starts [default: 1; 0 with --messages]
    #[arg(long)]
    warmup: Option<f64>,
    /// Most seconds to wait for confirms and for what is left in the queues
    #[arg(long, default_value_t = 20.0, value_parser = parse_seconds)]
    drain: f64,
    /// Check by sequence numbers what was lost, duplicated or out of order; exit code 1 if anything was. With --keys, --priorities or --delay
    /// only the order of each key counts
    #[arg(long)]
    verify: bool,
    /// Processes of the nodes, for CPU, memory and writes
    #[arg(long, value_delimiter = ',', value_name = "PID,...")]
    pids: Vec<u32>,
    /// To which node publishers and consumers go
    #[arg(long, value_enum, default_value_t = Place::Leader)]
    place: Place,
    /// Neither delete the queues before nor after
    #[arg(long)]
    keep: bool,
    /// Threads of this program
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Argument of the queues; may be repeated
    #[arg(long = "argument", value_name = "NAME=VALUE")]
    arguments: Vec<Argument>,
    /// Gives messages so many keys in turn (header x-group-key) and checks the order of each
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    keys: u64,
    /// Gives messages so many priorities in turn, from 0
    #[arg(long, default_value_t = 0, value_name = "COUNT", value_parser = clap::value_parser!(u8).range(0..=32))]
    priorities: u8,
    /// Time to live of every message, in seconds
    #[arg(long, value_parser = parse_seconds, value_name = "SECONDS")]
    ttl: Option<f64>,
    /// Messages are due so many seconds after they are published
    #[arg(long, value_parser = parse_seconds, value_name = "SECONDS")]
    delay: Option<f64>,
    /// Each message takes its consumer so many milliseconds, one after the other
    #[arg(long, default_value_t = 0, value_name = "MS")]
    work: u64,
    /// Kept in the report
    #[arg(long)]
    label: Option<String>,
}

/// To which node publishers and consumers go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Place {
    /// The one that leads the queue, if it is among the servers
    Leader,
    /// One after the other
    Spread,
}

/// What is to be done.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) publishers: usize,
    pub(super) consumers: usize,
    pub(super) queues: usize,
    pub(super) queue_prefix: String,
    pub(super) size_bytes: usize,
    pub(super) window: u32,
    pub(super) window_each: u32,
    pub(super) prefetch: u32,
    pub(super) ack_every: u32,
    /// Messages per second of each publisher.
    pub(super) rate_each: Option<f64>,
    pub(super) rate: Option<f64>,
    pub(super) seconds: f64,
    pub(super) messages: Option<u64>,
    pub(super) warmup_s: f64,
    pub(super) drain_s: f64,
    pub(super) verify: bool,
    pub(super) pids: Vec<u32>,
    pub(super) place: Place,
    pub(super) keep: bool,
    pub(super) arguments: Table,
    pub(super) shape: Shape,
    pub(super) work: Duration,
    pub(super) label: Option<String>,
}

impl PerfArgs {
    pub(crate) fn threads(&self) -> usize {
        self.threads.clamp(1, 64)
    }

    /// Checks what belongs together; names everything that is wrong.
    pub(super) fn plan(self) -> Result<Plan> {
        let mut wrong = Vec::new();
        if self.publishers == 0 && self.consumers == 0 {
            wrong
                .push("--publishers and --consumers are both 0: there is nothing to do".to_owned());
        }
        if self.queues == 0 {
            wrong.push("--queues must be at least 1".to_owned());
        }
        if self.size < HEADER_BYTES {
            wrong.push(format!(
                "--size must be at least {HEADER_BYTES}: that much is needed to know messages apart"
            ));
        }
        if self.window == 0 || self.prefetch == 0 || self.ack_every == Some(0) {
            wrong.push("--window, --prefetch and --ack-every must be at least 1".to_owned());
        }
        if self.ack_every.is_some_and(|it| it > self.prefetch) {
            wrong.push(
                "--ack-every must not be above --prefetch: nothing would be acknowledged"
                    .to_owned(),
            );
        }
        if self.rate.is_some_and(|it| it.is_nan() || it <= 0.0) {
            wrong.push("--rate must be above 0".to_owned());
        }
        if self.warmup.is_some_and(|it| it.is_nan() || it < 0.0) {
            wrong.push("--warmup must not be negative".to_owned());
        }
        if !wrong.is_empty() {
            return Err(Failure::Usage(wrong.join("; ")).into());
        }
        let each = self.publishers.max(1);
        let each_u32 = u32::try_from(each).unwrap_or(u32::MAX);
        let has_end = self.messages.is_some();
        Ok(Plan {
            publishers: self.publishers,
            consumers: self.consumers,
            queues: self.queues,
            queue_prefix: self.queue_prefix,
            size_bytes: self.size,
            window: self.window,
            window_each: (self.window / each_u32).max(1),
            prefetch: self.prefetch,
            ack_every: self
                .ack_every
                .unwrap_or_else(|| (self.prefetch / 4).clamp(1, 50)),
            rate_each: self.rate.map(|it| it / f64::from(each_u32)),
            rate: self.rate,
            seconds: self.seconds.unwrap_or(if has_end { 600.0 } else { 10.0 }),
            messages: self.messages,
            warmup_s: self.warmup.unwrap_or(if has_end { 0.0 } else { 1.0 }),
            drain_s: self.drain,
            verify: self.verify,
            pids: self.pids,
            place: self.place,
            keep: self.keep,
            arguments: arguments::table(&self.arguments)?,
            shape: Shape {
                keys: self.keys,
                priorities: self.priorities,
                ttl: self.ttl.map(Duration::from_secs_f64),
                delay: self.delay.map(Duration::from_secs_f64),
            },
            work: Duration::from_millis(self.work),
            label: self.label,
        })
    }
}

impl Plan {
    /// What the report calls it.
    pub(super) fn mode(&self) -> &'static str {
        match (self.publishers, self.consumers) {
            (_, 0) => "publish",
            (0, _) => "consume",
            (_, _) => "both",
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Perf {
        #[command(flatten)]
        args: PerfArgs,
    }

    fn plan(line: &str) -> Result<Plan> {
        let words = std::iter::once("perf").chain(line.split_whitespace());
        Perf::try_parse_from(words)?.args.plan()
    }

    #[test]
    fn window_and_rate_are_shared_by_the_publishers() {
        let plan = plan("--publishers 10 --window 1000 --rate 500").unwrap();
        assert_eq!(plan.window_each, 100);
        assert_eq!(plan.rate_each, Some(50.0));
        assert_eq!(plan.mode(), "both");
    }

    #[test]
    fn everything_that_is_wrong_is_named_at_once() {
        let error = plan("--queues 0 --size 1 --prefetch 10 --ack-every 20").unwrap_err();
        let text = error.to_string();
        for option in ["--queues", "--size", "--ack-every"] {
            assert!(text.contains(option), "{text}");
        }
    }

    #[test]
    fn fixed_number_of_messages_is_measured_from_the_start() {
        let plan = plan("--messages 1000").unwrap();
        assert_eq!((plan.warmup_s, plan.seconds), (0.0, 600.0));
    }
}
