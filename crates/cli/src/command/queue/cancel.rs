//! `warren queue cancel`: scheduled messages are taken back. Not here: asking for it (`warren-client`).

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use warren_client::{Cancellation, Connection};

use crate::{args::Global, exit::Failure, output, table::TextTable};

/// Handles of one call.
const HANDLES_AT_ONCE: usize = 1_000;

#[derive(Debug, Args)]
#[command(after_help = "\
A message is taken back only while it waits to be due. Asking again gives the same answer. Ends with 1 if one was not taken back.

Examples:
  handle=$(echo 'a reminder' | warren publish --queue orders --delay 3600)
  warren queue cancel \"$handle\"")]
pub(crate) struct CancelArgs {
    /// What publishing gave for each message
    #[arg(required = true)]
    handles: Vec<String>,
}

#[derive(Serialize)]
struct ResultView {
    handle: String,
    outcome: &'static str,
    error: Option<String>,
}

pub(super) async fn cancel(
    global: &Global,
    connection: &Connection,
    args: CancelArgs,
) -> Result<()> {
    let mut views = Vec::with_capacity(args.handles.len());
    for handles in args.handles.chunks(HANDLES_AT_ONCE) {
        let results = connection.cancel_scheduled(&global.vhost, handles).await?;
        views.extend(
            handles
                .iter()
                .zip(results)
                .map(|(handle, it)| view(handle, it)),
        );
    }
    output::result(global.output, &views, |views| {
        let mut table = TextTable::new(&["outcome", "handle", "error"]);
        for it in views {
            let error = it.error.clone().unwrap_or_default();
            table.row(vec![it.outcome.to_owned(), it.handle.clone(), error]);
        }
        table.text()
    })?;
    if views.iter().all(|it| it.outcome == "cancelled") {
        Ok(())
    } else {
        Err(Failure::SAID_FAILED.into())
    }
}

fn view(handle: &str, result: Cancellation) -> ResultView {
    let (outcome, error) = match result {
        Cancellation::Cancelled => ("cancelled", None),
        Cancellation::TooLate => ("too_late", None),
        Cancellation::NotFound => ("not_found", None),
        Cancellation::Failed(refusal) => ("failed", Some(refusal.to_string())),
    };
    ResultView {
        handle: handle.to_owned(),
        outcome,
        error,
    }
}
