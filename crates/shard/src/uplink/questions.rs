//! Questions to a shard's leader that wait for its answer. They are lost with the link: who asked is told, and may ask again.
//! Not here: what is asked (`door`), the frames (`task`).

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use warren_queue::dispatch::io::Token;

use super::door::Ask;
use super::state::State;
use crate::api::{CancelResult, QueueStats, RequestToken, SessionEvent, Unavailable};
use crate::link::frame::{CancelUp, PeekUp, Up};
use crate::link::outbox::Outbox;
use crate::peek::StoredPage;
use crate::redrive::RedriveStep;

pub(super) enum Question {
    Purge {
        inbox: Outbox<SessionEvent>,
        token: RequestToken,
        asked: Instant,
    },
    Stats(oneshot::Sender<Option<QueueStats>>, Instant),
    Peek(oneshot::Sender<Option<StoredPage>>, Instant),
    Redrive(oneshot::Sender<Option<RedriveStep>>, Instant),
    Cancel(oneshot::Sender<Vec<CancelResult>>, Instant),
}

/// What a leader says to a question.
pub(super) enum Said {
    Purged(u64),
    Stats(Option<QueueStats>),
    Peeked(Option<StoredPage>),
    Redriven(Option<RedriveStep>),
    Cancelled(Vec<CancelResult>),
}

impl State {
    /// Notes a question and gives its frame; without a link to a leader that knows it, it is answered at once.
    pub(super) fn ask(&mut self, open: bool, ask: Ask) -> Option<Up> {
        let now = Instant::now();
        match ask {
            Ask::Purge {
                queue,
                token,
                states,
                inbox,
            } => {
                let asked = Question::Purge {
                    inbox,
                    token,
                    asked: now,
                };
                self.question(open, asked, |token| Up::Purge {
                    queue,
                    token,
                    states,
                })
            }
            Ask::Peek { queue, look, reply } => {
                self.question(open, Question::Peek(reply, now), |token| {
                    Up::Peek(PeekUp { token, queue, look })
                })
            }
            Ask::Redrive {
                queue,
                look,
                wish,
                reply,
            } => self.question(open, Question::Redrive(reply, now), |token| {
                Up::Redrive(PeekUp { token, queue, look }, wish)
            }),
            Ask::CancelScheduled {
                queue,
                positions,
                reply,
            } => self.question(open, Question::Cancel(reply, now), |token| {
                Up::CancelScheduled(CancelUp {
                    token,
                    queue,
                    positions,
                })
            }),
            Ask::Stats {
                queue,
                depth,
                reply,
            } => self.question(open, Question::Stats(reply, now), |token| Up::Stats {
                queue,
                token,
                depth,
            }),
        }
    }

    fn question(
        &mut self,
        open: bool,
        question: Question,
        frame: impl FnOnce(Token) -> Up,
    ) -> Option<Up> {
        if !open {
            question.give_up();
            return None;
        }
        let token = self.tokens.next();
        self.questions.push((token, question));
        Some(frame(token))
    }

    pub(super) fn answer(&mut self, token: Token, said: Said) {
        let Some(at) = self.questions.iter().position(|(known, _)| *known == token) else {
            return;
        };
        match (self.questions.swap_remove(at).1, said) {
            (Question::Purge { inbox, token, .. }, Said::Purged(count)) => {
                let result = Ok(count);
                inbox.push(SessionEvent::Purged { token, result });
            }
            // The asker may have stopped waiting.
            (Question::Stats(reply, _), Said::Stats(stats)) => drop(reply.send(stats)),
            (Question::Peek(reply, _), Said::Peeked(page)) => drop(reply.send(page)),
            (Question::Redrive(reply, _), Said::Redriven(step)) => drop(reply.send(step)),
            (Question::Cancel(reply, _), Said::Cancelled(results)) => drop(reply.send(results)),
            // No answer to what was asked.
            (
                question,
                Said::Purged(_)
                | Said::Stats(_)
                | Said::Peeked(_)
                | Said::Redriven(_)
                | Said::Cancelled(_),
            ) => question.give_up(),
        }
    }

    pub(super) fn expire_questions(&mut self, now: Instant, after: Duration) {
        let (late, fresh): (Vec<_>, Vec<_>) = self
            .questions
            .drain(..)
            .partition(|(_, question)| now - question.asked() >= after);
        self.questions = fresh;
        for (_, question) in late {
            question.give_up();
        }
    }
}

impl Question {
    pub(super) fn asked(&self) -> Instant {
        match self {
            Self::Purge { asked, .. }
            | Self::Stats(_, asked)
            | Self::Peek(_, asked)
            | Self::Redrive(_, asked)
            | Self::Cancel(_, asked) => *asked,
        }
    }

    pub(super) fn give_up(self) {
        match self {
            Self::Purge { inbox, token, .. } => {
                inbox.push(SessionEvent::Purged {
                    token,
                    result: Err(Unavailable::NoQuorum),
                });
            }
            // Dropping the sender tells the asker that depth is unknown.
            Self::Stats(reply, _) => drop(reply),
            Self::Peek(reply, _) => drop(reply),
            // Some may be on their way: it may be asked again.
            Self::Redrive(reply, _) => drop(reply),
            // That it is not known whether they are taken back: it may be asked again.
            Self::Cancel(reply, _) => drop(reply),
        }
    }
}
