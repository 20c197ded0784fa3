//! Acks whose results are waited for: what of the source is not settled though the target has it. Not here: which messages are
//! acknowledged (`course`).

use std::collections::{BTreeSet, VecDeque};

use anyhow::Result;
use tokio::time::{Instant, timeout_at};
use warren_client::{Error, SettleOutcome, Settling};

use crate::exit::Failure;

/// Most acks without a result: with more no message is taken.
const WAITING_MAX: usize = 4_096;
/// Most acks that did not count: with more the run ends.
const LOST_MAX: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Acks {
    /// With the positions of their messages.
    waiting: VecDeque<(u64, Settling)>,
    /// Positions whose ack did not count: they come again, and their next ack may.
    lost: BTreeSet<u64>,
}

impl Acks {
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < WAITING_MAX
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn push(&mut self, position: u64, settling: Settling) {
        self.waiting.push_back((position, settling));
    }

    /// Waits for the result of the oldest; for ever if there is none. It stays there until [`Self::settle`] takes it.
    ///
    /// # Cancel safety
    /// If dropped before it is ready, nothing is lost.
    pub(super) async fn oldest(&mut self) -> Result<SettleOutcome, Error> {
        match self.waiting.front_mut() {
            Some((_, settling)) => settling.await,
            None => std::future::pending().await,
        }
    }

    /// The oldest has this result.
    ///
    /// # Errors
    /// The source refuses it, or too many did not count.
    pub(super) fn settle(&mut self, result: Result<SettleOutcome, Error>) -> Result<()> {
        match self.waiting.pop_front() {
            Some((position, _)) => self.judge(position, result),
            None => Ok(()),
        }
    }

    fn judge(&mut self, position: u64, result: Result<SettleOutcome, Error>) -> Result<()> {
        match result {
            Ok(SettleOutcome::Done | SettleOutcome::AlreadySettled) => {
                self.lost.remove(&position);
                Ok(())
            }
            // Its consumer has ended: who reads deliveries is told why.
            Ok(SettleOutcome::Expired | SettleOutcome::NotOwner) | Err(_) => self.lose(position),
            Ok(SettleOutcome::Refused(refusal)) => {
                self.lose(position)?;
                let what = "the source refuses an ack of a message that the target has";
                Err(anyhow::Error::from(Error::Refused(*refusal)).context(what))
            }
        }
    }

    /// The target has a message, and its ack did not reach the source.
    ///
    /// # Errors
    /// There are too many of them.
    pub(super) fn lose(&mut self, position: u64) -> Result<()> {
        self.lost.insert(position);
        if self.lost.len() > LOST_MAX {
            let what = "the source takes no acks of messages that the target has";
            return Err(Failure::Unavailable(what.to_owned()).into());
        }
        Ok(())
    }

    /// Waits for all results.
    ///
    /// # Errors
    /// As for [`Self::settle`], the first of them; some have no result in time.
    pub(super) async fn rest(&mut self, until: Instant) -> Result<()> {
        let mut first = Ok(());
        while !self.is_idle() {
            match timeout_at(until, self.oldest()).await {
                Ok(result) => first = first.and(self.settle(result)),
                Err(_) => {
                    let what = format!("{} acks have no result", self.waiting.len());
                    return first.and(Err(Failure::Unavailable(what).into()));
                }
            }
        }
        first
    }

    /// How many messages the target has that may be in the source still.
    pub(super) fn unsettled(&self) -> usize {
        self.lost.len() + self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> SettleOutcome {
        SettleOutcome::Refused(Box::new(warren_client::Refusal {
            kind: warren_client::ErrorKind::Denied,
            reason: "ACCESS_REFUSED".to_owned(),
            message: String::new(),
            retry: warren_client::RetryAdvice::No,
        }))
    }

    #[test]
    fn ack_that_did_not_count_is_told_until_the_message_has_come_again() {
        let mut acks = Acks::default();
        acks.judge(1, Ok(SettleOutcome::Done)).unwrap();
        assert_eq!(acks.unsettled(), 0);
        acks.judge(2, Ok(SettleOutcome::Expired)).unwrap();
        acks.judge(3, Ok(SettleOutcome::NotOwner)).unwrap();
        acks.judge(4, Err(Error::NoAddress)).unwrap();
        acks.judge(2, Ok(SettleOutcome::Expired)).unwrap();
        assert_eq!(acks.unsettled(), 3);
        acks.judge(2, Ok(SettleOutcome::Done)).unwrap();
        acks.judge(4, Ok(SettleOutcome::AlreadySettled)).unwrap();
        assert_eq!(acks.unsettled(), 1);
    }

    #[test]
    fn ack_that_is_refused_ends_the_run_and_so_do_too_many_that_do_not_count() {
        let mut acks = Acks::default();
        let error = acks.judge(1, Ok(refused())).unwrap_err();
        assert!(format!("{error:#}").contains("refuses an ack"), "{error:#}");
        assert_eq!(acks.unsettled(), 1);
        let many = u64::try_from(LOST_MAX).unwrap();
        for position in 2..=many {
            acks.lose(position).unwrap();
        }
        acks.lose(many).unwrap();
        acks.lose(many + 1).unwrap_err();
    }
}
