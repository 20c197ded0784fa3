//! `warren queue watch`: the figures of queues as they change. Not here: asking for them (`warren-client`).

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use warren_client::{Connection, QueueRound, QueueStats};

use super::known;
use crate::{
    args::{Global, Output},
    output::{self, Reader},
    signals::Interrupt,
    table::TextTable,
    view::StatsView,
};

#[derive(Debug, Args)]
#[command(after_help = "\
Prints the queues whose figures have changed, at most once per interval, until it is interrupted. From any node; what is not known at the
moment (a change of leader) is shown as ?, never as 0.

Examples:
  warren queue watch orders bills
  warren queue watch --interval 0.2
  warren --output json queue watch orders | jq .messages_ready")]
pub(crate) struct WatchArgs {
    /// Names of the queues; none = every queue of the vhost
    names: Vec<String>,
    /// Seconds between looks
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    interval: f64,
    /// End after so many rounds with news
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: Option<u64>,
}

/// One queue's line.
#[derive(Serialize)]
struct LineView {
    name: String,
    #[serde(flatten)]
    stats: StatsView,
}

impl From<QueueStats> for LineView {
    fn from(it: QueueStats) -> Self {
        Self {
            name: it.queue.clone(),
            stats: it.into(),
        }
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "is not a number".to_owned())?;
    if (0.1..=3600.0).contains(&seconds) {
        Ok(seconds)
    } else {
        Err("must be from 0.1 to 3600".to_owned())
    }
}

pub(crate) async fn watch(
    global: &Global,
    connection: &Connection,
    args: &WatchArgs,
) -> Result<()> {
    let mut interrupt = Interrupt::new()?;
    let interval = Duration::from_secs_f64(args.interval);
    let mut watch = connection.watch_queues(&global.vhost, &args.names, interval);
    let mut rounds = 0;
    while args.rounds.is_none_or(|most| rounds < most) {
        let round = tokio::select! {
            biased; // an end is an end, whatever has changed
            () = interrupt.wait() => return Ok(()),
            round = watch.next() => round?,
        };
        if show(global.output, round)? == Reader::Gone {
            return Ok(());
        }
        rounds += 1;
    }
    Ok(())
}

fn show(format: Output, round: QueueRound) -> Result<Reader> {
    let known = round.stats.into_iter().map(LineView::from);
    let unknown = round.unknown.into_iter().map(|name| LineView {
        name,
        stats: StatsView::default(),
    });
    let lines: Vec<LineView> = known.chain(unknown).collect();
    match format {
        Output::Json => {
            for line in &lines {
                if output::json(line)? == Reader::Gone {
                    return Ok(Reader::Gone);
                }
            }
            Ok(Reader::Present)
        }
        Output::Text => output::line(&table(&lines)),
    }
}

fn table(lines: &[LineView]) -> String {
    let mut table = TextTable::new(&[
        "name",
        "ready",
        "unacked",
        "scheduled",
        "delayed",
        "parked",
        "consumers",
        "oldest s",
    ]);
    for LineView { name, stats } in lines {
        // Without a ready message, and where the queue was not named, there is no age.
        let age = stats.oldest_ready_age_seconds;
        table.row(vec![
            name.clone(),
            known(stats.messages_ready),
            known(stats.messages_unacked),
            known(stats.messages_scheduled),
            known(stats.messages_delayed),
            known(stats.messages_parked),
            known(stats.consumers),
            age.map_or_else(|| "-".to_owned(), |it| format!("{it:.1}")),
        ]);
    }
    table.text()
}
