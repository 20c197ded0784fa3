//! The one place that writes to stdout. A reader that has gone away (`| head`) is no error: the command ends quietly.
//! Not here: what is written.

use std::io::{self, ErrorKind, Write as _};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::args::Output;

/// Whether someone still reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    Present,
    Gone,
}

/// Writes and flushes.
pub(crate) fn write(bytes: &[u8]) -> Result<Reader> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(Reader::Present),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(error).context("cannot write to stdout"),
    }
}

/// Writes a line.
pub(crate) fn line(text: &str) -> Result<Reader> {
    write(format!("{text}\n").as_bytes())
}

/// Writes a value as one line of JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<Reader> {
    line(&serde_json::to_string(value).context("cannot write JSON")?)
}

/// Writes a result as the user wants it: JSON, or the text that `text` makes.
pub(crate) fn result<T: Serialize>(
    output: Output,
    value: &T,
    text: impl FnOnce(&T) -> String,
) -> Result<()> {
    match output {
        Output::Json => json(value)?,
        Output::Text => line(text(value).trim_end_matches('\n'))?,
    };
    Ok(())
}
