//! `warren queue peek`: what is in a queue, without taking it. Not here: asking for it (`warren-client`).

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde::Serialize;
use warren_client::{Connection, PeekOptions, PeekState, Peeked};

use crate::{args::Global, output, table::TextTable};

/// Characters of a body that a table shows.
const BODY_SHOWN: usize = 60;

#[derive(Debug, Args)]
#[command(after_help = "\
Nothing happens to the messages: no delivery is counted, no consumer misses one.

Examples:
  warren queue peek orders
  warren queue peek orders --state parked --limit 10
  warren queue peek orders --filter 'headers.tenant = acme and enqueued_at < 2026-01-31T08:00:00Z'
  warren queue peek orders --filter 'message_id = \"m 17\"'
  warren queue peek orders.dlq --output json | jq .messages[].headers")]
pub(crate) struct PeekArgs {
    /// Name of the queue
    name: String,
    /// Most messages
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    limit: u32,
    /// Only messages in this state; may be repeated
    #[arg(long, value_enum)]
    state: Vec<StateArg>,
    #[command(flatten)]
    filter: FilterArg,
    /// Go on here: the cursor that an earlier call ended with
    #[arg(long, default_value = "")]
    cursor: String,
}

/// Which messages are meant.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct FilterArg {
    /// Only messages that match: comparisons (= != < <= > >= ^=) of position, priority, delivery_count, body_bytes, enqueued_at, died_at,
    /// timestamp, exchange, routing_key, source_queue, cause, message_id, correlation_id, type, user_id, app_id, reply_to, content_type,
    /// content_encoding or headers.NAME, joined by "and"; FIELD alone = is there, !FIELD = is not
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) filter: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StateArg {
    Scheduled,
    Ready,
    Unacked,
    Delayed,
    Parked,
    DeadLettering,
}

#[derive(Serialize)]
struct PageView {
    messages: Vec<MessageView>,
    /// Empty = the end.
    next_cursor: String,
}

#[derive(Serialize)]
struct MessageView {
    state: &'static str,
    cause: String,
    /// Milliseconds since the Unix epoch.
    due_at: Option<u128>,
    exchange: String,
    routing_key: String,
    delivery_count: u32,
    message_id: String,
    /// The queue it died in first, and why.
    first_death: Option<String>,
    body_bytes: usize,
    body: String,
}

pub(crate) async fn peek(global: &Global, connection: &Connection, args: PeekArgs) -> Result<()> {
    let mut options = PeekOptions {
        vhost: global.vhost.clone(),
        queue: args.name,
        states: args.state.iter().map(|it| wanted(*it)).collect(),
        filter: args.filter.filter,
        limit: args.limit,
        cursor: args.cursor,
    };
    let mut messages = Vec::new();
    // A call looks at a part of a long queue: what is rare may be further on.
    let next_cursor = loop {
        let page = connection.peek(&options).await?;
        let found = u32::try_from(page.messages.len()).unwrap_or(u32::MAX);
        messages.extend(page.messages.iter().map(view));
        options.limit = options.limit.saturating_sub(found);
        if options.limit == 0 || page.next_cursor.is_empty() {
            break page.next_cursor;
        }
        options.cursor = page.next_cursor;
    };
    let view = PageView {
        messages,
        next_cursor,
    };
    output::result(global.output, &view, text)
}

fn text(page: &PageView) -> String {
    let mut table = TextTable::new(&[
        "state",
        "cause",
        "exchange",
        "routing key",
        "failed",
        "died",
        "bytes",
        "body",
    ]);
    for it in &page.messages {
        table.row(vec![
            it.state.to_owned(),
            it.cause.clone(),
            it.exchange.clone(),
            it.routing_key.clone(),
            it.delivery_count.to_string(),
            it.first_death.clone().unwrap_or_default(),
            it.body_bytes.to_string(),
            it.body.chars().take(BODY_SHOWN).collect(),
        ]);
    }
    let mut text = table.text();
    if !page.next_cursor.is_empty() {
        text += &format!("\nmore: --cursor {}", page.next_cursor);
    }
    text
}

fn view(it: &Peeked) -> MessageView {
    let headers = it.message.properties.headers().unwrap_or_default();
    let death = |name: &str| {
        headers
            .get_str(&format!("x-first-death-{name}"))
            .map(str::to_owned)
    };
    let first_death = death("queue").zip(death("reason"));
    MessageView {
        state: named(it.state),
        cause: it.cause.clone(),
        due_at: it.due.map(|due| due.as_millis()),
        exchange: it.exchange.clone(),
        routing_key: it.routing_key.clone(),
        delivery_count: it.delivery_count,
        message_id: it
            .message
            .properties
            .message_id()
            .unwrap_or_default()
            .to_owned(),
        first_death: first_death.map(|(queue, reason)| format!("{queue} ({reason})")),
        body_bytes: it.message.body.len(),
        body: String::from_utf8_lossy(&it.message.body)
            .chars()
            .map(|it| if it.is_control() { ' ' } else { it })
            .collect(),
    }
}

fn wanted(state: StateArg) -> PeekState {
    match state {
        StateArg::Scheduled => PeekState::Scheduled,
        StateArg::Ready => PeekState::Ready,
        StateArg::Unacked => PeekState::Unacked,
        StateArg::Delayed => PeekState::Delayed,
        StateArg::Parked => PeekState::Parked,
        StateArg::DeadLettering => PeekState::DeadLettering,
    }
}

fn named(state: PeekState) -> &'static str {
    match state {
        PeekState::Scheduled => "scheduled",
        PeekState::Ready => "ready",
        PeekState::Unacked => "unacked",
        PeekState::Delayed => "delayed",
        PeekState::Parked => "parked",
        PeekState::DeadLettering => "dead-lettering",
    }
}
