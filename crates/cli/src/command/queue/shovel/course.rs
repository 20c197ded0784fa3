//! What a run may do and has done: its limit and rate, what became of its messages, the wish to end it. Not here: moving anything
//! (`take`, `copy`).

use std::time::Instant;

use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;
use warren_client::Consumer;

use super::carry::Pace;
use super::outflow::{Outflow, Verdict};
use crate::progress::Progress;
use crate::signals::Interrupt;

/// Refused messages that are left in the queue before a run stops all the same: they are held until its end.
pub(super) const SKIPPED_MAX: u32 = 100;

/// Of messages without an outcome.
const AGAIN: &str = "the target has not confirmed; the same command again goes on from here";

/// What is done when the target refuses a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum OnRefusal {
    /// End; it and what comes after it stay
    Stop,
    /// Leave it in the queue and go on, up to 100 of them
    Skip,
}

/// Why a run ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum End {
    Empty,
    Limit,
    Interrupted,
}

/// What became of the messages.
#[derive(Debug, Default, Clone, Serialize)]
pub(super) struct Tally {
    /// Stored at the target, by this run.
    pub(super) stored: u64,
    /// Found at the target: an earlier run, or an earlier attempt of this one, had brought them.
    pub(super) stored_before: u64,
    /// Among the stored: an earlier run may have brought them too, too long ago to say.
    pub(super) perhaps_twice: u64,
    pub(super) refused: u64,
    pub(super) first_refusal: Option<String>,
    /// Of the last that is at the target.
    pub(super) last_position: u64,
}

pub(super) struct Course {
    pub(super) interrupt: Interrupt,
    pub(super) pace: Pace,
    pub(super) tally: Tally,
    on_refusal: OnRefusal,
    /// Messages that may still go.
    left: u64,
    /// With this consumer until it ends.
    pub(super) skipped: u32,
    progress: Progress,
}

/// What is to be done about a message whose fate is known.
#[derive(Debug, PartialEq, Eq)]
enum After {
    Ack,
    Leave,
}

impl Course {
    pub(super) fn new(rate: u32, limit: Option<u64>, on_refusal: OnRefusal) -> Result<Self> {
        Ok(Self {
            interrupt: Interrupt::new()?,
            pace: Pace::new(rate, Instant::now()),
            tally: Tally::default(),
            on_refusal,
            left: limit.unwrap_or(u64::MAX),
            skipped: 0,
            progress: Progress::new(limit, "messages"),
        })
    }

    pub(super) fn is_over(&self) -> bool {
        self.left == 0
    }

    /// A message has gone out.
    pub(super) fn took(&mut self) {
        self.left = self.left.saturating_sub(1);
        self.pace.took(Instant::now());
    }

    /// Acknowledges the oldest message on its way, which has this outcome, if the target has it.
    ///
    /// # Errors
    /// It was refused and that ends the run; its outcome is unknown; the consumer has ended.
    pub(super) async fn settle(
        &mut self,
        out: &mut Outflow,
        consumer: Option<&Consumer>,
        outcome: warren_client::Outcome,
    ) -> Result<()> {
        let Some((item, verdict)) = out.settle(outcome).await else {
            return Ok(());
        };
        match (self.judge(verdict)?, consumer, &item.delivery) {
            (After::Ack, Some(consumer), Some(delivery)) => {
                self.tally.last_position = item.position;
                // Its result is waited for when the consumer is closed.
                consumer.ack(delivery).await?;
            }
            (After::Ack, _, _) => self.tally.last_position = item.position,
            (After::Leave, _, _) => {}
        }
        self.progress
            .set(self.tally.stored + self.tally.stored_before);
        Ok(())
    }

    /// Settles all that is on its way; a second interrupt ends that.
    ///
    /// # Errors
    /// As for [`Self::settle`], the first of them; the rest is settled all the same.
    pub(super) async fn settle_rest(
        &mut self,
        out: &mut Outflow,
        consumer: Option<&Consumer>,
    ) -> Result<()> {
        let mut first = Ok(());
        while !out.is_idle() {
            let outcome = tokio::select! {
                biased;
                () = self.interrupt.wait() => return first,
                outcome = out.oldest() => outcome,
            };
            let settled = match outcome {
                Ok(outcome) => self.settle(out, consumer, outcome).await,
                // The publisher has ended, and with it everything on its way.
                Err(error) => return first.and(Err(error)),
            };
            first = first.and(settled);
        }
        first
    }

    fn judge(&mut self, verdict: Verdict) -> Result<After> {
        match verdict {
            Verdict::Stored => self.tally.stored += 1,
            Verdict::StoredBefore => self.tally.stored_before += 1,
            Verdict::StoredPerhapsTwice => {
                self.tally.stored += 1;
                self.tally.perhaps_twice += 1;
            }
            Verdict::Refused(error) => {
                self.tally.refused += 1;
                self.skipped += 1;
                let first = &mut self.tally.first_refusal;
                first.get_or_insert_with(|| error.to_string());
                let goes_on = self.on_refusal == OnRefusal::Skip && self.skipped < SKIPPED_MAX;
                if goes_on {
                    return Ok(After::Leave);
                }
                let what = "the target refuses a message, which stays where it was";
                return Err(anyhow::Error::from(error).context(what));
            }
            Verdict::Unknown(error) => {
                return Err(anyhow::Error::from(error).context(AGAIN));
            }
        }
        Ok(After::Ack)
    }

    /// Takes the progress away, so that what follows stands alone.
    pub(super) fn end(self) -> Tally {
        self.progress.end();
        self.tally
    }
}
