//! `warren queue shovel`: a queue's messages go to a queue or exchange of another cluster or vhost, once each. Not here: moves within a
//! vhost, which the cluster carries out by itself (`select`).

mod acks;
mod back;
mod carry;
mod copy;
mod course;
mod ends;
mod outflow;
mod quiet;
mod take;

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use warren_client::{Connection, QueueStats, Target};

use super::peek::FilterArg;
use crate::args::{Global, Servers, parse_seconds, parse_servers};
use crate::exit::Failure;
use crate::output;
use course::{Course, End, OnRefusal, SKIPPED_BYTES_MAX, SKIPPED_MAX, Tally};
use ends::{numbers, target_connection};
use outflow::{Outflow, WINDOW_BYTES};
use quiet::Patience;
use take::Source;

#[derive(Debug, Args)]
#[command(after_help = "\
A message leaves its queue when the target has confirmed it. The target knows it again by its place in its queue: a run that was interrupted
or killed is repeated with the same command, which brings nothing twice; a node may die on either side. The order is kept, but around messages that were refused. Properties and
headers stay, time to live and delay go on; CC was followed already and is left out. Messages that are not due yet stay until they are; parked ones stay.

The user needs the tag monitoring on both sides, the right to read the source and to write to the target. --to-login's password:
--to-password-file or WARREN_TO_PASSWORD.

With a rate, few messages are held at a time. On SIGINT and SIGTERM what is under way is waited for. Exit code 0: the queue is empty, the
limit is reached, or it was interrupted; else by what the target or the source said: 3 it does not answer, has no room now (full, short of
memory or disk), or the source has not taken all acks: the same command again; 4 there is no such queue, or no queue for a message; 6 a tag or right is missing; 1 another refusal, or messages were skipped.

Examples:
  warren queue shovel orders --to-server 10.1.0.1:7101,10.1.0.2:7101 --to-login mover
  warren queue shovel orders --to-vhost shop --to-exchange orders --rate 500 --follow
  warren queue shovel orders --copy --filter 'position > 1200' --to-server 10.1.0.1:7101 --to-queue orders.test")]
pub(crate) struct ShovelArgs {
    /// Name of the queue that is emptied
    name: String,
    /// Nodes of the cluster that receives; by default this one
    #[arg(long, value_name = "HOST:PORT[,HOST:PORT]", value_parser = parse_servers)]
    to_server: Option<Servers>,
    /// Its vhost; by default that of --vhost
    #[arg(long, value_name = "VHOST")]
    to_vhost: Option<String>,
    /// The queue that receives; by default of the same name
    #[arg(long, value_name = "QUEUE", conflicts_with = "to_exchange")]
    to_queue: Option<String>,
    /// Publish to this exchange instead
    #[arg(long, value_name = "EXCHANGE")]
    to_exchange: Option<String>,
    /// With this routing key; by default each message's own
    #[arg(long, value_name = "KEY", requires = "to_exchange")]
    to_routing_key: Option<String>,
    /// User to log in as there; without --to-server that of --login is used
    #[arg(long, value_name = "USER", env = "WARREN_TO_LOGIN")]
    to_login: Option<String>,
    /// File with its password
    #[arg(long, value_name = "PATH", env = "WARREN_TO_PASSWORD_FILE")]
    to_password_file: Option<PathBuf>,
    /// Leave the messages where they are; a copy that is repeated copies everything again
    #[arg(long, conflicts_with_all = ["follow", "shared"])]
    copy: bool,
    #[command(flatten)]
    filter: FilterArg,
    /// Wait for more when the queue is empty
    #[arg(long)]
    follow: bool,
    /// Beside other consumers: what they hold may be overtaken
    #[arg(long)]
    shared: bool,
    /// At most so many messages
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// At most so many per second
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    rate: u32,
    /// Most messages on their way
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    window: u32,
    /// When the target refuses a message
    #[arg(long, value_enum, default_value_t = OnRefusal::Stop)]
    on_refusal: OnRefusal,
    /// Give up when the target or the source says nothing for so long
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0, value_parser = parse_seconds)]
    timeout: f64,
}

/// Where messages are published.
#[derive(Debug, Clone)]
enum Route {
    Queue(String),
    /// With each message's own routing key, or this one.
    Exchange(String, Option<String>),
}

impl Route {
    fn of(args: &ShovelArgs) -> Self {
        match (&args.to_exchange, &args.to_queue) {
            (Some(exchange), _) => Self::Exchange(exchange.clone(), args.to_routing_key.clone()),
            (None, Some(queue)) => Self::Queue(queue.clone()),
            (None, None) => Self::Queue(args.name.clone()),
        }
    }

    fn target(&self, routing_key: &str) -> Target {
        match self {
            Self::Queue(queue) => Target::queue(queue),
            Self::Exchange(exchange, key) => {
                Target::exchange(exchange, key.as_deref().unwrap_or(routing_key))
            }
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queue(queue) => write!(f, "queue {queue}"),
            Self::Exchange(exchange, _) => write!(f, "exchange {exchange}"),
        }
    }
}

#[derive(Serialize)]
struct ShovelView {
    queue: String,
    vhost: String,
    to: String,
    to_vhost: String,
    #[serde(flatten)]
    tally: Tally,
    /// None: it failed.
    ended: Option<End>,
    seconds: f64,
    /// None: not known.
    left: Option<LeftView>,
}

/// What is in the queue now.
#[derive(Serialize)]
struct LeftView {
    ready: u64,
    unacked: u64,
    scheduled: u64,
    delayed: u64,
    parked: u64,
}

pub(super) async fn shovel(
    global: &Global,
    connection: &Connection,
    args: ShovelArgs,
) -> Result<()> {
    let began = Instant::now();
    let to = target_connection(global, connection, &args)?;
    let to_vhost = args
        .to_vhost
        .clone()
        .unwrap_or_else(|| global.vhost.clone());
    let numbers = numbers(global, connection, &to, &to_vhost, &args).await?;
    let source = source(global, connection, &args);
    let give_up_after = source.patience.give_up_after;
    let mut out = Outflow::new(to, &to_vhost, numbers, held_at_once(&args), give_up_after);
    let mut course = Course::new(args.rate, args.limit, args.on_refusal)?;
    let ended = if args.copy {
        copy::copy(&source, &args.filter.filter, &mut out, &mut course).await
    } else {
        take::take(&source, &mut out, &mut course).await
    };
    let ended = course.unsettled_is_no_success(ended);
    let tally = course.end();
    let stats = connection.queue_stats(&source.vhost, &[args.name]).await;
    let view = ShovelView {
        queue: source.queue,
        vhost: source.vhost,
        to: source.route.to_string(),
        to_vhost,
        tally,
        ended: ended.as_ref().ok().copied(),
        seconds: began.elapsed().as_secs_f64(),
        left: stats.ok().and_then(|it| it.first().map(left)),
    };
    let verdict = match ended {
        Err(error) => Err(Failure::say(&error).into()),
        Ok(_) if view.tally.refused > 0 => Err(Failure::SAID_FAILED.into()),
        Ok(End::Empty | End::Behind | End::Limit | End::Interrupted) => Ok(()),
    };
    output::result(global.output, &view, text)?;
    verdict
}

fn source(global: &Global, connection: &Connection, args: &ShovelArgs) -> Source {
    let window = held_at_once(args);
    // What is skipped is held, and its room is needed by what is not.
    let (prefetch, prefetch_bytes) = match args.on_refusal {
        OnRefusal::Stop => (window, u64::from(WINDOW_BYTES)),
        OnRefusal::Skip => (
            window + SKIPPED_MAX,
            u64::from(WINDOW_BYTES) + SKIPPED_BYTES_MAX,
        ),
    };
    Source {
        connection: connection.clone(),
        vhost: global.vhost.clone(),
        queue: args.name.clone(),
        prefetch,
        prefetch_bytes,
        patience: Patience {
            follows: args.follow,
            is_shared: args.shared,
            give_up_after: Duration::from_secs_f64(args.timeout),
        },
        route: Route::of(args),
    }
}

/// No more than the limit asks for, nor than the rate lets go in ten seconds.
fn held_at_once(args: &ShovelArgs) -> u32 {
    let limit = args.limit.and_then(|it| u32::try_from(it).ok());
    let by_rate = match args.rate {
        0 => u32::MAX,
        rate => rate.saturating_mul(10),
    };
    args.window.min(limit.unwrap_or(u32::MAX)).min(by_rate)
}

fn left(stats: &QueueStats) -> LeftView {
    LeftView {
        ready: stats.ready,
        unacked: stats.unacked,
        scheduled: stats.scheduled,
        delayed: stats.delayed,
        parked: stats.parked,
    }
}

fn text(it: &ShovelView) -> String {
    let tally = &it.tally;
    let mut text = format!(
        "queue {}: {} stored in {} of {}, {} had been there, {} refused, {:.1} s; ",
        it.queue, tally.stored, it.to, it.to_vhost, tally.stored_before, tally.refused, it.seconds
    );
    text += match it.ended {
        Some(End::Empty) => "ended at the end of the queue",
        Some(End::Behind) => "what is left waits behind messages that were refused",
        Some(End::Limit) => "ended at the limit",
        Some(End::Interrupted) => "interrupted",
        None => "failed",
    };
    if let (Some(first), Some(_)) = (&tally.first_refusal, it.ended) {
        text += &format!("; first refusal: {first}");
    }
    if tally.perhaps_twice > 0 {
        text += &format!("; {} perhaps twice", tally.perhaps_twice);
    }
    if tally.unsettled > 0 {
        text += &format!("; {} perhaps in the queue still", tally.unsettled);
    }
    if let Some(left) = &it.left {
        text += &format!(
            "\nin the queue now: {} ready, {} unacked, {} scheduled, {} delayed, {} parked",
            left.ready, left.unacked, left.scheduled, left.delayed, left.parked
        );
    }
    text
}
