//! Settles and returns whose results are not known: sent again over a new link, and told to who asked. Not here: what consumers hold.

use std::sync::Arc;

use warren_queue::dispatch::io::{Held, SettleResult, Token};
use warren_queue::entry::Said;
use warren_types::QueueId;

use super::Attachments;
use crate::api::{
    AnswerTime, RequestToken, SessionEvent, SettleAction, SettlePart, SettleSpec, TogetherSpec,
};
use crate::link::frame::{Outputs, ReturnUp, SettleUp, TogetherUp, Up};
use crate::link::outbox::Outbox;
use crate::uplink::outputs::SentOutputs;

/// A settle or return whose result is not known yet.
pub(super) struct Unanswered {
    inbox: Outbox<SessionEvent>,
    token: RequestToken,
    queue: QueueId,
    items: Vec<Held>,
    action: SettleAction,
    said: Option<Arc<Said>>,
    /// It was sent over an earlier link as well, so that it may have been done already.
    resent: bool,
    outputs: Option<SentOutputs>,
}

/// Deliveries that end in one, or not: they are held until that is known.
pub(super) struct Together {
    inbox: Outbox<SessionEvent>,
    token: RequestToken,
    parts: Vec<SettlePart>,
    said: Option<Arc<Said>>,
    outputs: SentOutputs,
}

impl Together {
    fn frame(&self, token: Token) -> Up {
        Up::SettleTogether(TogetherUp {
            token,
            parts: self.parts.clone(),
            outputs: self.outputs.outputs.clone(),
            said: self.said.clone(),
        })
    }
}

impl Attachments {
    pub(crate) fn settle(
        &mut self,
        token: Token,
        spec: SettleSpec,
        outputs: Option<SentOutputs>,
        answer_to: RequestToken,
        inbox: Outbox<SessionEvent>,
    ) -> Up {
        let queue = spec.target.queue;
        if outputs.is_none() {
            self.release_settled(queue, &spec.items, &inbox);
        }
        let sent = outputs.as_ref().map(|it| it.outputs.clone());
        let how = How {
            answer: spec.answer,
            outputs: sent,
            said: spec.said.clone(),
        };
        let frame = settle_frame(token, queue, spec.items.clone(), spec.action, how);
        self.unanswered.insert(
            token,
            Unanswered {
                inbox,
                token: answer_to,
                queue,
                items: spec.items,
                action: spec.action,
                said: spec.said,
                resent: false,
                outputs,
            },
        );
        frame
    }

    pub(crate) fn settle_together(
        &mut self,
        token: Token,
        spec: TogetherSpec,
        outputs: SentOutputs,
        answer_to: RequestToken,
        inbox: Outbox<SessionEvent>,
    ) -> Up {
        let together = Together {
            inbox,
            token: answer_to,
            parts: spec.parts,
            said: spec.said,
            outputs,
        };
        let frame = together.frame(token);
        self.together.insert(token, together);
        frame
    }

    /// What a new link must be asked again.
    pub(super) fn report_unanswered(&mut self, frames: &mut Vec<Up>) {
        for (&token, settle) in &mut self.unanswered {
            settle.resent = true;
            let how = How {
                answer: AnswerTime::AtOnce,
                outputs: settle.outputs.as_ref().map(|it| it.outputs.clone()),
                said: settle.said.clone(),
            };
            let (items, action) = (settle.items.clone(), settle.action);
            frames.push(settle_frame(token, settle.queue, items, action, how));
        }
        frames.extend(self.together.iter().map(|(&token, it)| it.frame(token)));
    }

    pub(crate) fn settled(&mut self, token: Token, results: Vec<SettleResult>) {
        if let Some(together) = self.together.remove(&token) {
            return self.ended(together, results);
        }
        if let Some(settle) = self.unanswered.remove(&token) {
            let results = if let Some(sent) = &settle.outputs {
                if !SentOutputs::is_refused(&results) {
                    self.release_settled(settle.queue, &settle.items, &settle.inbox);
                }
                sent.named(results)
            } else if settle.resent {
                own_doing(results)
            } else {
                results
            };
            settle.inbox.push(SessionEvent::Settled {
                token: settle.token,
                results,
            });
        }
    }

    /// Done, all of it; else all of it is held as before, but for what its consumer hears of otherwise.
    fn ended(&mut self, together: Together, results: Vec<SettleResult>) {
        if results == [SettleResult::Done] {
            for part in &together.parts {
                self.release_settled(part.queue, &part.items, &together.inbox);
            }
        }
        together.inbox.push(SessionEvent::Settled {
            token: together.token,
            results: together.outputs.named(results),
        });
    }
}

/// What goes with a settle or return.
struct How {
    answer: AnswerTime,
    outputs: Option<Outputs>,
    said: Option<Arc<Said>>,
}

fn settle_frame(
    token: Token,
    queue: QueueId,
    items: Vec<Held>,
    action: SettleAction,
    how: How,
) -> Up {
    match action {
        SettleAction::Settle(reason) => Up::Settle(SettleUp {
            token,
            queue,
            items,
            reason,
            answer: how.answer,
            outputs: how.outputs,
            said: how.said,
        }),
        SettleAction::Return { kind, wait } => Up::Return(ReturnUp {
            token,
            queue,
            items,
            kind,
            wait,
            said: how.said,
        }),
    }
}

/// The answer to a settle that was sent again: what was settled already, it settled itself.
fn own_doing(mut results: Vec<SettleResult>) -> Vec<SettleResult> {
    for result in &mut results {
        if matches!(result, SettleResult::AlreadySettled) {
            *result = SettleResult::Done;
        }
    }
    results
}
