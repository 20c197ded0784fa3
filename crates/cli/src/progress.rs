//! Progress of long work, on stderr and only when that is a terminal.

use std::{
    io::{IsTerminal as _, stderr},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

/// A bar, a counter, or nothing.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// With a known end it is a bar, else a counter.
    pub(crate) fn new(total: Option<u64>, unit: &str) -> Self {
        if !stderr().is_terminal() {
            return Self {
                bar: ProgressBar::hidden(),
            };
        }
        let (bar, template) = match total {
            Some(total) => (
                ProgressBar::new(total),
                format!("{{elapsed_precise}} {{wide_bar}} {{pos}}/{{len}} {unit} {{msg}}"),
            ),
            None => (
                ProgressBar::new_spinner(),
                format!("{{elapsed_precise}} {{spinner}} {{pos}} {unit} {{msg}}"),
            ),
        };
        let style = ProgressStyle::with_template(&template);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar }
    }

    pub(crate) fn set(&self, position: u64) {
        self.bar.set_position(position);
    }

    pub(crate) fn say(&self, text: String) {
        self.bar.set_message(text);
    }

    /// Takes the bar away, so that what follows stands alone.
    pub(crate) fn end(self) {
        self.bar.finish_and_clear();
    }
}
