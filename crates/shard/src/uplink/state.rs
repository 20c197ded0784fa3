//! What an uplink remembers between turns: its link, its books, its questions. Not here: what it does with them (`task`).

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;
use warren_queue::dispatch::io::Token;
use warren_types::{NodeId, Term};

use super::attachments::Attachments;
use super::encode::{Group, Publish, Tokens};
use super::pending::{Pending, Told};
use super::questions::Question;
use crate::api::{PublishOutcome, Unavailable};
use crate::link::frame::{Storing, Up};

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
    pub(super) waiting: VecDeque<Publish>,
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
}

impl State {
    pub(super) fn new() -> Self {
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
            tokens: Tokens::default(),
            questions: Vec::new(),
            waiting: VecDeque::new(),
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
            || !self.pending.is_empty()
    }

    /// How long there has been no link to a leader that can lead; `None`: there is one.
    pub(super) fn leaderless_for(&self, now: Instant) -> Option<Duration> {
        match self.link {
            Link::Open { .. } => self.powerless_since.map(|since| now.duration_since(since)),
            Link::Asked { since, .. } | Link::Down { since, .. } => Some(now.duration_since(since)),
        }
    }

    /// Takes the next batch of what waits, up to so many bytes of bodies; one larger message goes alone, as does what is stored together.
    pub(super) fn next_batch(&mut self, bytes_max: usize) -> (Vec<Publish>, Storing) {
        if let Some(Group::Together { following }) = self.waiting.front().map(|it| it.group) {
            let count = self.waiting.len().min(following.saturating_add(1));
            return (self.waiting.drain(..count).collect(), Storing::Together);
        }
        let mut bytes = 0;
        let mut next = Vec::new();
        while bytes < bytes_max
            && let Some(publish) = self.waiting.pop_front_if(|it| it.group == Group::Alone)
        {
            bytes += publish.item.message.body.len();
            next.push(publish);
        }
        (next, Storing::Each)
    }

    pub(super) fn refuse_waiting(&mut self, outcome: PublishOutcome) {
        let mut told = Told::default();
        for publish in self.waiting.drain(..) {
            told.add(publish.waiter(), outcome);
        }
        told.deliver();
        self.stuck_since = None;
    }

    /// What waits longer than its client does is not begun any more.
    pub(super) fn refuse_overdue(&mut self, now: Instant) {
        let mut told = Told::default();
        self.waiting.retain(|publish| {
            let is_overdue = publish.deadline.is_some_and(|deadline| deadline <= now);
            if is_overdue {
                let outcome = PublishOutcome::NotStarted(Unavailable::DeadlinePassed);
                told.add(publish.waiter(), outcome);
            }
            !is_overdue
        });
        told.deliver();
    }
}
