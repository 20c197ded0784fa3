//! What a run may do and has done: its limit and rate, what became of its messages, the wish to end it. Not here: moving anything
//! (`take`, `copy`).

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;
use warren_client::{Consumer, Delivery};

use super::acks::Acks;
use super::carry::Pace;
use super::outflow::{Outflow, Verdict};
use crate::exit::Failure;
use crate::progress::Progress;
use crate::signals::Interrupt;

/// Refused messages that are left in the queue before a run stops all the same: they are held until its end.
pub(super) const SKIPPED_MAX: u32 = 100;
/// As many bytes of them as that.
pub(super) const SKIPPED_BYTES_MAX: u64 = 16 << 20;
/// How long the last acknowledgements may take.
const CLOSE_WITHIN: Duration = Duration::from_secs(30);
/// How long a consumer may take to end that waits for nothing.
const GOODBYE: Duration = Duration::from_secs(2);

/// Of messages without an outcome.
const AGAIN: &str = "the target has not confirmed; the same command again goes on from here";

/// What is done when the target refuses a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum OnRefusal {
    /// End; it and what comes after it stay
    Stop,
    /// Leave it in the queue and go on, up to 100 of them or 16 MiB
    Skip,
}

/// Why a run ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum End {
    Empty,
    /// Messages are left that wait behind refused ones.
    Behind,
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
    pub(super) refused: usize,
    pub(super) first_refusal: Option<String>,
    /// Of the last that is at the target.
    pub(super) last_position: u64,
    /// At the target, and perhaps in the source still.
    pub(super) unsettled: usize,
}

/// Messages that were refused and are left.
#[derive(Debug, Default)]
struct Skipped {
    positions: BTreeSet<u64>,
    /// With this consumer until it ends.
    held: u32,
    held_bytes: u64,
}

pub(super) struct Course {
    pub(super) interrupt: Interrupt,
    pub(super) pace: Pace,
    pub(super) tally: Tally,
    on_refusal: OnRefusal,
    /// Messages that may still go.
    left: u64,
    skipped: Skipped,
    pub(super) acks: Acks,
    /// While what was under way was waited for.
    pub(super) is_interrupted: bool,
    progress: Progress,
}

/// What is to be done about a message whose fate is known.
#[derive(Debug, PartialEq, Eq)]
enum After {
    Ack,
    Leave,
}

impl Skipped {
    /// One that a new consumer has brought again counts once. False: no more may be left.
    fn add(&mut self, position: u64, held_bytes: u64) -> bool {
        self.positions.insert(position);
        self.held += 1;
        self.held_bytes = self.held_bytes.saturating_add(held_bytes);
        let positions = u32::try_from(self.positions.len()).unwrap_or(u32::MAX);
        positions < SKIPPED_MAX && self.held_bytes < SKIPPED_BYTES_MAX
    }
}

impl Course {
    pub(super) fn new(rate: u32, limit: Option<u64>, on_refusal: OnRefusal) -> Result<Self> {
        Ok(Self {
            interrupt: Interrupt::new()?,
            pace: Pace::new(rate, Instant::now()),
            tally: Tally::default(),
            on_refusal,
            left: limit.unwrap_or(u64::MAX),
            skipped: Skipped::default(),
            acks: Acks::default(),
            is_interrupted: false,
            progress: Progress::new(limit, "messages"),
        })
    }

    /// A new consumer holds nothing.
    pub(super) fn begin(&mut self) {
        self.skipped.held = 0;
        self.skipped.held_bytes = 0;
    }

    /// Refused messages that its consumer holds.
    pub(super) fn held(&self) -> u32 {
        self.skipped.held
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
        let position = item.position;
        let held_bytes = match &item.delivery {
            Some(_) => u64::try_from(item.message.body.len()).unwrap_or(u64::MAX),
            None => 0,
        };
        match self.judge(position, held_bytes, verdict)? {
            After::Ack => self.ack(position, item.delivery.as_ref(), consumer).await?,
            After::Leave => {}
        }
        self.progress
            .set(self.tally.stored + self.tally.stored_before);
        Ok(())
    }

    /// The target has it.
    async fn ack(
        &mut self,
        position: u64,
        delivery: Option<&Delivery>,
        consumer: Option<&Consumer>,
    ) -> Result<()> {
        self.tally.last_position = position;
        let acked = match (delivery, consumer) {
            (Some(delivery), Some(consumer)) => consumer.ack(delivery).await,
            (Some(_), None) => return self.acks.lose(position),
            (None, _) => return Ok(()),
        };
        match acked {
            Ok(settling) => self.acks.push(position, settling),
            Err(error) => {
                self.acks.lose(position)?;
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// Waits for the results of all acks, and ends the consumer; a second interrupt ends that.
    ///
    /// # Errors
    /// The source refuses acks, or does not answer.
    pub(super) async fn close(&mut self, consumer: Consumer) -> Result<()> {
        let until = tokio::time::Instant::now() + CLOSE_WITHIN;
        let rested = tokio::select! {
            biased;
            () = self.interrupt.wait() => {
                self.is_interrupted = true;
                Ok(())
            }
            rested = self.acks.rest(until) => rested,
        };
        // It waits for nothing any more, or in vain.
        let closed = consumer.close(GOODBYE).await;
        rested?;
        Ok(closed?)
    }

    /// What the target has, and the source perhaps as well, is told as a failure: consumers of the source would get it, too.
    pub(super) fn unsettled_is_no_success(&mut self, ended: Result<End>) -> Result<End> {
        let unsettled = self.acks.unsettled();
        self.tally.unsettled = unsettled;
        match ended {
            Ok(_) if unsettled > 0 => {
                let what = format!(
                    "{unsettled} messages are at the target and perhaps in the source still: the same command again settles them, and brings none twice"
                );
                Err(Failure::Unavailable(what).into())
            }
            ended => ended,
        }
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
                () = self.interrupt.wait() => {
                    self.is_interrupted = true;
                    return first;
                }
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

    fn judge(&mut self, position: u64, held_bytes: u64, verdict: Verdict) -> Result<After> {
        match verdict {
            Verdict::Stored => self.tally.stored += 1,
            Verdict::StoredBefore => self.tally.stored_before += 1,
            Verdict::StoredPerhapsTwice => {
                self.tally.stored += 1;
                self.tally.perhaps_twice += 1;
            }
            Verdict::Refused(error) => {
                let has_room = self.skipped.add(position, held_bytes);
                self.tally.refused = self.skipped.positions.len();
                let first = &mut self.tally.first_refusal;
                first.get_or_insert_with(|| error.to_string());
                match self.on_refusal {
                    OnRefusal::Skip if has_room => return Ok(After::Leave),
                    OnRefusal::Skip | OnRefusal::Stop => {}
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_messages_are_left_up_to_a_number_and_size_and_count_once() {
        let mut skipped = Skipped::default();
        assert!(skipped.add(7, 10));
        skipped.held = 0;
        skipped.held_bytes = 0;
        assert!(skipped.add(7, 10), "its consumer began anew");
        assert_eq!((skipped.positions.len(), skipped.held), (1, 1));
        assert!(!skipped.add(8, SKIPPED_BYTES_MAX));
        let mut skipped = Skipped::default();
        let left = (0..200).filter(|it| skipped.add(*it, 0)).count();
        assert_eq!(left, 99);
    }
}
