//! The way to the target: messages go out in order under the numbers that their queue gave them, and each gets a verdict. Not here: where
//! they come from (`take`, `copy`), what is done about a refusal (`shovel`).

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context as _, Result};
use warren_client::{
    Confirm, Connection, Delivery, Error, ErrorKind, Message, Outcome, Publisher, PublisherOptions,
    Target,
};

use super::carry::{Name, Names, slot};

/// Most bytes on their way.
pub(super) const WINDOW_BYTES: u32 = 16 << 20;
/// Publishers that are kept for when it is their turn again: a queue gives positions of few blocks at a time.
const RESTING_MAX: usize = 8;

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
    /// By their positions in their queue: of all runs.
    Of(Names),
    /// Within this run.
    Fresh,
}

pub(super) struct Outflow {
    connection: Connection,
    vhost: String,
    numbers: Numbers,
    /// Most messages on their way.
    window: u32,
    give_up_after: Duration,
    publisher: Option<(Lane, Publisher)>,
    /// With nothing on their way; the one used last at the end.
    resting: VecDeque<(Lane, Publisher)>,
    /// Of what is on its way.
    lane: Lane,
    pending: VecDeque<(Item, Confirm)>,
}

/// Which publisher: the slot of the producer, or the only one.
type Lane = Option<u64>;

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
            publisher: None,
            resting: VecDeque::new(),
            lane: None,
            pending: VecDeque::new(),
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether it may go now. Publishers do not wait for each other, so what goes by another one waits here: the order is kept.
    pub(super) fn takes(&self, item: &Item) -> bool {
        let room = u32::try_from(self.pending.len()).is_ok_and(|it| it < self.window);
        room && (self.pending.is_empty() || self.lane_of(item) == self.lane)
    }

    fn lane_of(&self, item: &Item) -> Lane {
        match self.numbers {
            Numbers::Of(_) => Some(slot(item.position)),
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
        let name = match &self.numbers {
            Numbers::Of(names) => Some(names.of_slot(item.position)),
            Numbers::Fresh => None,
        };
        let publisher = self.publisher(name.as_ref());
        let confirm = match name {
            Some(name) => {
                let sent = publisher.publish_as(name.sequence, &item.target, message);
                sent.await
            }
            None => publisher.publish(&item.target, message).await,
        };
        let confirm = confirm.context("the target")?;
        self.pending.push_back((item, confirm));
        Ok(())
    }

    /// Of the present lane.
    fn publisher(&mut self, name: Option<&Name>) -> &Publisher {
        if let Some(publisher) = self.publisher.take() {
            if publisher.0 == self.lane {
                return &self.publisher.insert(publisher).1;
            }
            self.resting.push_back(publisher);
        }
        let found = self.resting.iter().position(|it| it.0 == self.lane);
        let publisher = match found.and_then(|it| self.resting.remove(it)) {
            Some((_, publisher)) => publisher,
            None => self.new_publisher(name),
        };
        if self.resting.len() > RESTING_MAX {
            self.resting.pop_front();
        }
        &self.publisher.insert((self.lane, publisher)).1
    }

    fn new_publisher(&self, name: Option<&Name>) -> Publisher {
        self.connection.publisher(PublisherOptions {
            vhost: self.vhost.clone(),
            window_messages: self.window,
            window_bytes: WINDOW_BYTES,
            producer_id: name.map(|it| it.producer.clone()),
            give_up_after: self.give_up_after,
            ..PublisherOptions::default()
        })
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
                let name = names.of_block(item.position);
                self.send_alone(&item, &name).await
            }
            (Judged::TooOld(error), Numbers::Fresh) => Verdict::Refused(error),
            (Judged::Is(verdict), _) => verdict,
        };
        Some((item, verdict))
    }

    /// Others have overtaken it by so much that its slot is another block's: it goes under its block's own name.
    async fn send_alone(&self, item: &Item, name: &Name) -> Verdict {
        let publisher = self.new_publisher(Some(name));
        let message = item.message.clone();
        let sent = publisher.publish_as(name.sequence, &item.target, message);
        let outcome = match sent.await {
            Ok(confirm) => confirm.await,
            Err(error) => Err(error),
        };
        match outcome.map(verdict) {
            Ok(Judged::Is(Verdict::Stored)) if item.was_out => Verdict::StoredPerhapsTwice,
            Ok(Judged::Is(verdict)) => verdict,
            Ok(Judged::TooOld(error)) => Verdict::Refused(error),
            Err(error) => Verdict::Unknown(error),
        }
    }
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
