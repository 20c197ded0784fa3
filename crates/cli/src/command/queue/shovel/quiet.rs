//! A queue that gives nothing: what its figures say, and when that ends a run. Not here: taking messages (`take`).

use std::time::{Duration, Instant};

use anyhow::Result;
use warren_client::{ErrorKind, QueueStats};

use super::course::End;
use super::take::Source;
use crate::exit::Failure;

/// Beside other consumers one look is not enough: a message may be on its way here, or have come just now.
const EMPTY_LOOKS_SHARED: u32 = 2;
/// What is ready and does not come for so long, while refused messages are held, waits behind these.
const BEHIND_AFTER: Duration = Duration::from_secs(5);

/// What a queue's figures say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    Empty,
    Filled,
    /// Nothing: nobody answers.
    Silent,
}

/// What a run does about it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub(super) follows: bool,
    pub(super) is_shared: bool,
    pub(super) give_up_after: Duration,
}

/// Since when nothing has come, and what was seen meanwhile.
#[derive(Debug)]
pub(super) struct Quiet {
    empty_looks: u32,
    came: Instant,
    heard: Instant,
}

impl Quiet {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            empty_looks: 0,
            came: now,
            heard: now,
        }
    }

    /// A message has.
    pub(super) fn came(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    /// Whether this look ends the run. `held`: refused messages that are left.
    ///
    /// # Errors
    /// The source has not answered for long.
    pub(super) fn looked(
        &mut self,
        look: Look,
        patience: Patience,
        held: u32,
        now: Instant,
    ) -> Result<Option<End>, Failure> {
        let is_empty = look == Look::Empty;
        self.empty_looks = if is_empty { self.empty_looks + 1 } else { 0 };
        match look {
            Look::Empty | Look::Filled => self.heard = now,
            Look::Silent if now.duration_since(self.heard) > patience.give_up_after => {
                let what = "the source does not answer; the same command again goes on from here";
                return Err(Failure::Unavailable(what.to_owned()));
            }
            Look::Silent => {}
        }
        let wanted = if patience.is_shared {
            EMPTY_LOOKS_SHARED
        } else {
            1
        };
        let is_behind =
            look == Look::Filled && held > 0 && now.duration_since(self.came) >= BEHIND_AFTER;
        Ok(match (patience.follows, is_behind) {
            (true, _) => None,
            (false, true) => Some(End::Behind),
            (false, false) => (self.empty_looks >= wanted).then_some(End::Empty),
        })
    }
}

/// # Errors
/// There is no such queue, or its figures are not for this user.
pub(super) async fn look(source: &Source, held: u32) -> Result<Look> {
    let names = [source.queue.clone()];
    let stats = source.connection.queue_stats(&source.vhost, &names).await;
    let is_empty = |it: &QueueStats| {
        // With others, what they hold is theirs.
        it.ready == 0 && (source.patience.is_shared || it.unacked <= u64::from(held))
    };
    match stats {
        Ok(list) => Ok(match list.first() {
            Some(it) if is_empty(it) => Look::Empty,
            Some(_) => Look::Filled,
            None => Look::Silent,
        }),
        Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) => {
            Ok(Look::Silent)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALONE: Patience = Patience {
        follows: false,
        is_shared: false,
        give_up_after: Duration::from_secs(60),
    };
    const SHARED: Patience = Patience {
        is_shared: true,
        ..ALONE
    };
    const FOLLOWING: Patience = Patience {
        follows: true,
        ..ALONE
    };

    #[test]
    fn empty_queue_ends_a_run_beside_others_at_the_second_look() {
        let now = Instant::now();
        let looked = |quiet: &mut Quiet, look, patience| quiet.looked(look, patience, 0, now);
        let mut quiet = Quiet::new(now);
        assert_eq!(looked(&mut quiet, Look::Filled, ALONE).unwrap(), None);
        let empty = Some(End::Empty);
        assert_eq!(looked(&mut quiet, Look::Empty, ALONE).unwrap(), empty);
        let mut quiet = Quiet::new(now);
        assert_eq!(looked(&mut quiet, Look::Empty, SHARED).unwrap(), None);
        quiet.came(now);
        assert_eq!(looked(&mut quiet, Look::Empty, SHARED).unwrap(), None);
        assert_eq!(looked(&mut quiet, Look::Filled, SHARED).unwrap(), None);
        assert_eq!(looked(&mut quiet, Look::Empty, SHARED).unwrap(), None);
        assert_eq!(looked(&mut quiet, Look::Empty, SHARED).unwrap(), empty);
        let mut quiet = Quiet::new(now);
        for _ in 0..9 {
            assert_eq!(looked(&mut quiet, Look::Empty, FOLLOWING).unwrap(), None);
        }
    }

    #[test]
    fn run_ends_when_what_is_left_waits_behind_what_was_refused() {
        let begin = Instant::now();
        let mut quiet = Quiet::new(begin);
        let mut filled = |held, later| {
            let looked = quiet.looked(Look::Filled, ALONE, held, begin + later);
            looked.unwrap()
        };
        assert_eq!(filled(1, BEHIND_AFTER / 2), None);
        assert_eq!(filled(0, BEHIND_AFTER), None);
        assert_eq!(filled(1, BEHIND_AFTER), Some(End::Behind));
        let looked = quiet.looked(Look::Filled, FOLLOWING, 1, begin + BEHIND_AFTER);
        assert_eq!(looked.unwrap(), None);
    }

    #[test]
    fn source_that_says_nothing_for_long_is_given_up() {
        let begin = Instant::now();
        let mut quiet = Quiet::new(begin);
        let long = ALONE.give_up_after + Duration::from_secs(1);
        let mut silent = |later| quiet.looked(Look::Silent, FOLLOWING, 0, begin + later);
        assert_eq!(silent(ALONE.give_up_after).unwrap(), None);
        silent(long).unwrap_err();
        quiet
            .looked(Look::Filled, FOLLOWING, 0, begin + long)
            .unwrap();
        let looked = quiet.looked(Look::Silent, FOLLOWING, 0, begin + long * 2);
        looked.unwrap_err();
    }
}
