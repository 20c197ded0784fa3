//! `warren dlq list`: dead letters and parked messages with what became of them. Not here: asking for them (`warren-client`), sending them
//! back (`dlq`).

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use warren_client::{AttemptRecord, Connection, DeadLetter, DeadLetterOptions};

use crate::{args::Global, command::queue::peek::FilterArg, output, table::TextTable};

/// Characters of a body, and of a reason, that a table shows.
const TEXT_SHOWN: usize = 40;

#[derive(Debug, Args)]
#[command(after_help = "\
Nothing happens to the messages. \"last reason\" is what the last consumer that said something said of it; --output json has all of it.

Examples:
  warren dlq list orders.dlq
  warren dlq list orders --parked
  warren dlq list orders.dlq --filter 'source_queue = orders' --output json | jq .dead_letters[].attempts")]
pub(crate) struct ListArgs {
    /// Name of the queue that holds them
    name: String,
    /// What is parked instead of what is ready
    #[arg(long)]
    parked: bool,
    /// Most messages
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    limit: u32,
    #[command(flatten)]
    filter: FilterArg,
    /// Go on here: the cursor that an earlier call ended with
    #[arg(long, default_value = "")]
    cursor: String,
}

#[derive(Serialize)]
struct PageView {
    dead_letters: Vec<DeadLetterView>,
    /// Empty = the end.
    next_cursor: String,
}

#[derive(Serialize)]
struct DeadLetterView {
    source_queue: String,
    cause: String,
    delivery_count: u32,
    exchange: String,
    routing_key: String,
    message_id: String,
    attempts: Vec<AttemptView>,
    body_bytes: usize,
    body: String,
}

#[derive(Serialize)]
struct AttemptView {
    /// Milliseconds since the Unix epoch.
    at: u128,
    outcome: String,
    reason: String,
    detail: String,
    consumer_tag: String,
}

pub(crate) async fn list(global: &Global, connection: &Connection, args: ListArgs) -> Result<()> {
    let mut options = DeadLetterOptions {
        vhost: global.vhost.clone(),
        queue: args.name,
        parked: args.parked,
        filter: args.filter.filter,
        limit: args.limit,
        cursor: args.cursor,
    };
    let mut dead_letters = Vec::new();
    // A call looks at a part of a long queue: what is rare may be further on.
    let next_cursor = loop {
        let page = connection.dead_letters(&options).await?;
        let found = u32::try_from(page.dead_letters.len()).unwrap_or(u32::MAX);
        dead_letters.extend(page.dead_letters.into_iter().map(view));
        options.limit = options.limit.saturating_sub(found);
        if options.limit == 0 || page.next_cursor.is_empty() {
            break page.next_cursor;
        }
        options.cursor = page.next_cursor;
    };
    let view = PageView {
        dead_letters,
        next_cursor,
    };
    output::result(global.output, &view, text)
}

fn text(page: &PageView) -> String {
    let mut table = TextTable::new(&[
        "source",
        "cause",
        "failed",
        "last reason",
        "routing key",
        "bytes",
        "body",
    ]);
    for it in &page.dead_letters {
        let reason = it.attempts.last().map_or("", |it| it.reason.as_str());
        table.row(vec![
            it.source_queue.clone(),
            it.cause.clone(),
            it.delivery_count.to_string(),
            shown(reason),
            it.routing_key.clone(),
            it.body_bytes.to_string(),
            shown(&it.body),
        ]);
    }
    let mut text = table.text();
    if !page.next_cursor.is_empty() {
        text += &format!("\nmore: --cursor {}", page.next_cursor);
    }
    text
}

fn shown(text: &str) -> String {
    let plain = text
        .chars()
        .map(|it| if it.is_control() { ' ' } else { it });
    plain.take(TEXT_SHOWN).collect()
}

fn view(it: DeadLetter) -> DeadLetterView {
    let message_id = it.message.properties.message_id().unwrap_or_default();
    DeadLetterView {
        message_id: message_id.to_owned(),
        source_queue: it.source_queue,
        cause: it.cause,
        delivery_count: it.delivery_count,
        exchange: it.exchange,
        routing_key: it.routing_key,
        attempts: it.attempts.into_iter().map(attempt).collect(),
        body_bytes: it.message.body.len(),
        body: String::from_utf8_lossy(&it.message.body).into_owned(),
    }
}

fn attempt(it: AttemptRecord) -> AttemptView {
    AttemptView {
        at: it.at.as_millis(),
        outcome: it.outcome,
        reason: it.reason,
        detail: it.detail,
        consumer_tag: it.consumer_tag,
    }
}
