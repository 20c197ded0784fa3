//! The way to the target: messages go out in order under the numbers that their queue gave them, and each gets a verdict. Not here: where
//! they come from (`take`, `copy`), what is done about a refusal (`shovel`).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use anyhow::{Context as _, Result};
use warren_client::{
    Confirm, Connection, Delivery, Error, ErrorKind, Message, Outcome, Publisher, PublisherOptions,
    Target,
};

use super::carry::Names;

/// Most bytes on their way.
pub(super) const WINDOW_BYTES: u32 = 16 << 20;

/// A message on its way.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) message: Message,
    pub(super) target: Target,
    /// In the queue that it comes from.
    pub(super) position: u64,
    /// It was with a consumer before: perhaps with an earlier run, which published it.
    pub(super) was_out: bool,
    /// What is acknowledged when the target has it; none of a copy.
    pub(super) delivery: Option<Delivery>,
}

impl Item {
    fn priority(&self) -> Option<u8> {
        self.message.properties.priority()
    }
}

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Stored,
    /// An earlier attempt had brought it.
    StoredBefore,
    /// Stored, by an earlier attempt perhaps a first time.
    StoredPerhapsTwice,
    /// Not stored; trying again does not help by itself.
    Refused(Error),
    /// Perhaps stored.
    Unknown(Error),
}

/// How the target knows messages again.
#[derive(Debug)]
pub(super) enum Numbers {
    /// By what their queue calls them: of all runs.
    Of(Names),
    /// Within this run.
    Fresh,
}

pub(super) struct Outflow {
    connection: Connection,
    vhost: String,
    numbers: Numbers,
    window: u32,
    give_up_after: Duration,
    /// By priority, so at most 257.
    publishers: BTreeMap<Option<u8>, Publisher>,
    /// The priority of those on their way.
    lane: Option<u8>,
    /// At most the window.
    pending: VecDeque<(Item, Confirm)>,
}

impl Outflow {
    pub(super) fn new(
        connection: Connection,
        vhost: &str,
        numbers: Numbers,
        window: u32,
        give_up_after: Duration,
    ) -> Self {
        Self {
            connection,
            vhost: vhost.to_owned(),
            numbers,
            window,
            give_up_after,
            publishers: BTreeMap::new(),
            lane: None,
            pending: VecDeque::new(),
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether it may go now. Publishers of two priorities do not wait for each other, so what goes after the other waits here.
    pub(super) fn takes(&self, item: &Item) -> bool {
        let room = u32::try_from(self.pending.len()).is_ok_and(|it| it < self.window);
        room && (self.pending.is_empty() || self.lane_of(item) == self.lane)
    }

    fn lane_of(&self, item: &Item) -> Option<u8> {
        match self.numbers {
            Numbers::Of(_) => item.priority(),
            Numbers::Fresh => None,
        }
    }

    /// Sends it, once there is room for its bytes. Only if [`Self::takes`] says so.
    ///
    /// # Errors
    /// The publisher has ended.
    ///
    /// # Cancel safety
    /// If dropped before it is ready, nothing was sent.
    pub(super) async fn send(&mut self, item: Item) -> Result<()> {
        self.lane = self.lane_of(&item);
        let message = item.message.clone();
        let (publisher, number) = self.publisher();
        let confirm = match number {
            Number::Given => {
                let sent = publisher.publish_as(item.position, &item.target, message);
                sent.await
            }
            Number::Made => publisher.publish(&item.target, message).await,
        };
        let confirm = confirm.context("the target")?;
        self.pending.push_back((item, confirm));
        Ok(())
    }

    fn publisher(&mut self) -> (&Publisher, Number) {
        let (producer_id, number) = match &self.numbers {
            Numbers::Of(names) => (Some(names.of_priority(self.lane)), Number::Given),
            Numbers::Fresh => (None, Number::Made),
        };
        let publisher = self.publishers.entry(self.lane).or_insert_with(|| {
            self.connection.publisher(PublisherOptions {
                vhost: self.vhost.clone(),
                window_messages: self.window,
                window_bytes: WINDOW_BYTES,
                producer_id,
                give_up_after: self.give_up_after,
                ..PublisherOptions::default()
            })
        });
        (&*publisher, number)
    }

    /// Waits for the outcome of the oldest on its way; for ever if there is none. It stays there until [`Self::settle`] takes it.
    ///
    /// # Errors
    /// The publisher has ended.
    ///
    /// # Cancel safety
    /// If dropped before it is ready, nothing is lost.
    pub(super) async fn oldest(&mut self) -> Result<Outcome> {
        match self.pending.front_mut() {
            Some((_, confirm)) => confirm.await.context("the target"),
            None => std::future::pending().await,
        }
    }

    /// The oldest, which has this outcome, with what became of it.
    pub(super) async fn settle(&mut self, outcome: Outcome) -> Option<(Item, Verdict)> {
        let (item, _) = self.pending.pop_front()?;
        let verdict = match (verdict(outcome), &self.numbers) {
            (Judged::TooOld(_), Numbers::Of(names)) => {
                let producer = names.of_position(item.position);
                self.send_alone(&item, &producer).await
            }
            (Judged::TooOld(error), Numbers::Fresh) => Verdict::Refused(error),
            (Judged::Is(verdict), _) => verdict,
        };
        Some((item, verdict))
    }

    /// Others have overtaken it by more than the target remembers of its producer: it gets one of its own.
    async fn send_alone(&self, item: &Item, producer: &str) -> Verdict {
        let message = item.message.clone();
        let sent = self
            .connection
            .publish_one_as(producer, &self.vhost, &item.target, message);
        match sent.await.map(verdict) {
            Ok(Judged::Is(Verdict::Stored)) if item.was_out => Verdict::StoredPerhapsTwice,
            Ok(Judged::Is(verdict)) => verdict,
            Ok(Judged::TooOld(error)) => Verdict::Refused(error),
            Err(error) => Verdict::Unknown(error),
        }
    }
}

/// Whose the numbers of a publisher are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    Given,
    Made,
}

#[derive(Debug, PartialEq, Eq)]
enum Judged {
    Is(Verdict),
    /// It may have been stored, too long ago to say.
    TooOld(Error),
}

fn verdict(outcome: Outcome) -> Judged {
    Judged::Is(match outcome {
        Outcome::Committed { .. } => Verdict::Stored,
        Outcome::Duplicate => Verdict::StoredBefore,
        Outcome::Unrouted => Verdict::Refused(unrouted()),
        Outcome::Refused(refusal) if refusal.reason == "SEQUENCE_TOO_OLD" => {
            return Judged::TooOld(Error::Refused(*refusal));
        }
        Outcome::Refused(refusal) => Verdict::Refused(Error::Refused(*refusal)),
        Outcome::Unknown(error) => Verdict::Unknown(*error),
    })
}

fn unrouted() -> Error {
    Error::Refused(warren_client::Refusal {
        kind: ErrorKind::NotFound,
        reason: "UNROUTABLE".to_owned(),
        message: "no queue takes the message there".to_owned(),
        retry: warren_client::RetryAdvice::No,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(reason: &str) -> Outcome {
        Outcome::Refused(Box::new(warren_client::Refusal {
            kind: ErrorKind::Exhausted,
            reason: reason.to_owned(),
            message: String::new(),
            retry: warren_client::RetryAdvice::No,
        }))
    }

    #[test]
    fn outcome_that_stores_nothing_is_a_refusal_and_one_too_old_to_say_is_neither() {
        let committed = Outcome::Committed {
            queues: None,
            schedule_handle: None,
        };
        assert_eq!(verdict(committed), Judged::Is(Verdict::Stored));
        let before = Judged::Is(Verdict::StoredBefore);
        assert_eq!(verdict(Outcome::Duplicate), before);
        let old = verdict(refused("SEQUENCE_TOO_OLD"));
        assert!(matches!(&old, Judged::TooOld(_)), "{old:?}");
        for outcome in [Outcome::Unrouted, refused("QUEUE_FULL")] {
            let judged = verdict(outcome);
            let is_refused = matches!(&judged, Judged::Is(Verdict::Refused(_)));
            assert!(is_refused, "{judged:?}");
        }
    }
}
