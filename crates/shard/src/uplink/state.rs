//! What an uplink remembers between turns: its link, its books, its questions. Not here: what it does with them (`task`).

use std::time::Duration;

use tokio::time::Instant;
use warren_queue::dispatch::io::Token;
use warren_types::{NodeId, Run, Term};

use super::attachments::Attachments;
use super::encode::Tokens;
use super::pending::Pending;
use super::questions::Question;
use super::waiting::Waiting;
use crate::api::{PublishOutcome, Unavailable};
use crate::link::frame::Up;

/// A leader that does not answer the first hello within this time is asked again, or another one is...
pub(super) const HELLO_WAIT: Duration = Duration::from_millis(500);
/// ...and is given twice the time then, up to this: answers to all but the last hello are not heard, so without that nodes that need longer
/// would never be linked.
const HELLO_WAIT_MAX: Duration = Duration::from_secs(4);

pub(super) enum Link {
    /// Looking for the leader.
    Down {
        since: Instant,
        retry_at: Instant,
    },
    /// A hello is on its way.
    Asked {
        node: NodeId,
        since: Instant,
        at: Instant,
        /// How long it is waited for.
        wait: Duration,
    },
    Open {
        node: NodeId,
    },
}

pub(super) struct State {
    pub(super) link: Link,
    pub(super) links: u64,
    pub(super) term: Term,
    pub(super) hint: Option<NodeId>,
    pub(super) turn: usize,
    pub(super) pending: Pending,
    pub(super) attachments: Attachments,
    pub(super) tokens: Tokens,
    pub(super) questions: Vec<(Token, Question)>,
    /// Publishes not numbered yet.
    pub(super) waiting: Waiting,
    /// Since when publishes have waited without one being numbered.
    pub(super) stuck_since: Option<Instant>,
    /// Since when the leader that the link goes to has been without a majority, on this node, or silent, on another.
    pub(super) powerless_since: Option<Instant>,
    pub(super) out: Vec<Up>,
}

impl Link {
    pub(super) fn node(&self) -> Option<NodeId> {
        match self {
            Self::Open { node } | Self::Asked { node, .. } => Some(*node),
            Self::Down { .. } => None,
        }
    }

    /// How long the next hello is to be waited for. Whatever was answered to the last one, the link is down after it.
    pub(super) fn next_wait(&self) -> Duration {
        match self {
            Self::Asked { wait, .. } => wait.saturating_mul(2).min(HELLO_WAIT_MAX),
            Self::Down { .. } | Self::Open { .. } => HELLO_WAIT,
        }
    }
}

impl State {
    pub(super) fn new(run: Run) -> Self {
        let now = Instant::now();
        Self {
            link: Link::Down {
                since: now,
                retry_at: now,
            },
            links: 0,
            term: Term(0),
            hint: None,
            turn: 0,
            pending: Pending::default(),
            attachments: Attachments::default(),
            tokens: Tokens::of(run),
            questions: Vec::new(),
            waiting: Waiting::default(),
            stuck_since: None,
            powerless_since: None,
            out: Vec::new(),
        }
    }

    pub(super) fn lose_link(&mut self) {
        let now = Instant::now();
        let since = match self.link {
            Link::Open { .. } => self.powerless_since.take().unwrap_or(now),
            Link::Asked { since, .. } | Link::Down { since, .. } => since,
        };
        self.link = Link::Down {
            since,
            retry_at: now,
        };
        self.out.clear();
        for (_, question) in self.questions.drain(..) {
            question.give_up();
        }
    }

    /// Whether anything here happens by time alone. An idle uplink with a link is not to be woken for nothing.
    pub(super) fn needs_time(&self) -> bool {
        !matches!(self.link, Link::Open { .. })
            || self.powerless_since.is_some()
            || !self.questions.is_empty()
            || !self.waiting.is_empty()
            || self.waiting.has_refused()
            || !self.pending.is_empty()
    }

    /// How long there has been no link to a leader that can lead; `None`: there is one.
    pub(super) fn leaderless_for(&self, now: Instant) -> Option<Duration> {
        match self.link {
            Link::Open { .. } => self.powerless_since.map(|since| now.duration_since(since)),
            Link::Asked { since, .. } | Link::Down { since, .. } => Some(now.duration_since(since)),
        }
    }

    pub(super) fn refuse_waiting(&mut self, outcome: PublishOutcome) {
        self.waiting.refuse_all(outcome);
        self.stuck_since = None;
    }

    /// What waits longer than its client does is not begun any more.
    pub(super) fn refuse_overdue(&mut self, now: Instant) {
        let outcome = PublishOutcome::NotStarted(Unavailable::DeadlinePassed);
        self.waiting.refuse_overdue(now, outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hello_without_answer_is_waited_for_longer_each_time_until_something_is_answered() {
        let mut state = State::new(Run(1));
        let mut waited = Vec::new();
        for _ in 0..5 {
            let wait = state.link.next_wait();
            let now = Instant::now();
            state.link = Link::Asked {
                node: NodeId(2),
                since: now,
                at: now,
                wait,
            };
            waited.push(wait.as_millis());
        }
        assert_eq!(waited, [500, 1_000, 2_000, 4_000, 4_000]);
        state.lose_link();
        assert_eq!(state.link.next_wait(), HELLO_WAIT);
    }
}
