//! Deliveries that are to end in one, and the messages that come with it: all of it is done, or all is held as before. Answered as a shard's
//! leader does: whatever dispatch says, the store is asked whether it was done. Not here: their sessions' other life (`world`).

use bytes::Bytes;
use warren_queue::dispatch::io::{
    Action, ConsumerKey, End, Held, Input, OutputsId, ReturnRequest, SettleResult, TogetherPart,
    TogetherRequest, Token, Wait,
};
use warren_queue::entry::{Command, Enqueue, ReturnKind, SettleReason, SettleTogether};
use warren_types::{Facts, NodeId, Priority, QueueId};

use crate::sessions::{Link, body_size};
use crate::world::World;

/// Answers to it are nobody's.
const NOBODY: Token = Token(u64::MAX);
const MISSING: QueueId = QueueId(99);

/// What a session has asked and not been answered.
#[derive(Clone, Debug)]
pub(crate) struct Together {
    pub(crate) key: ConsumerKey,
    queue: QueueId,
    acks: Vec<Held>,
    backs: Vec<Held>,
    outputs: OutputsId,
}

impl World {
    pub(crate) fn end_some_together(&mut self) {
        let Some(key) = self.pick(Link::Attached) else {
            return;
        };
        let session = self.sessions.get_mut(&key).unwrap();
        let mut acks = session.promise_some(&mut self.random);
        if acks.is_empty() {
            return;
        }
        let queue = session.queue;
        let kept = self.random.below(acks.len() as u64 + 1) as usize;
        let backs = acks.split_off(kept);
        let outputs = match self.random.below(4) {
            0 => OutputsId(0),
            1 => OutputsId(MISSING.0),
            _ => OutputsId(self.queue().0),
        };
        self.ask_together(Together {
            key,
            queue,
            acks,
            backs,
            outputs,
        });
    }

    pub(crate) fn ask_together(&mut self, asked: Together) {
        self.next_id += 1;
        let token = Token(self.next_id);
        let part = |items: &Vec<Held>, end| TogetherPart {
            queue: asked.queue,
            items: items.clone(),
            end,
        };
        let parts = vec![
            part(&asked.acks, End::Settle(SettleReason::Acked)),
            part(&asked.backs, End::Return(ReturnKind::Failed, Wait::Not)),
        ];
        let input = Input::SettleTogether(TogetherRequest {
            node: asked.key.node,
            token,
            outputs: asked.outputs,
            parts,
            said: None,
        });
        self.together.insert(token.0, asked);
        self.step(input);
    }

    /// A node asks again what it has no answer to.
    pub(crate) fn ask_together_again(&mut self, node: NodeId) {
        let of_node = self.together.iter().filter(|(_, it)| it.key.node == node);
        let tokens: Vec<u64> = of_node.map(|(&token, _)| token).collect();
        for token in tokens {
            let again = self.together.remove(&token).unwrap();
            self.ask_together(again);
        }
    }

    pub(crate) fn propose_together(&mut self, action: Action) {
        let Action::ProposeTogether {
            outputs,
            deliveries,
            endings,
        } = action
        else {
            unreachable!("asked for one")
        };
        self.next_id += 1;
        let body = Bytes::from(format!("t{}", self.next_id));
        let block = Enqueue {
            queue: QueueId(outputs.0),
            priority: Priority::DEFAULT,
            facts: Facts {
                size: vec![body.len() as u32],
                body_size: vec![body_size(&body) as u32],
                ..Facts::default()
            },
            payload: body,
            producers: Vec::new(),
            raise: None,
            full: Vec::new(),
            dedup: None,
        };
        let blocks = (outputs.0 != 0).then_some(block).into_iter().collect();
        self.pipeline
            .push_back(Command::SettleTogether(SettleTogether {
                deliveries,
                endings,
                blocks,
            }));
    }

    /// False: it is no answer to such a request.
    pub(crate) fn ended_together(&mut self, token: Token, results: &[SettleResult]) -> bool {
        let Some(asked) = self.together.remove(&token.0) else {
            return token == NOBODY;
        };
        let &[result] = results else {
            panic!("one result for all: {results:?}")
        };
        let (store, rows) = (&self.store, &self.rows);
        let known = |items: &[Held]| -> Vec<bool> {
            let each = items
                .iter()
                .map(|it| store.has_outputs(rows, asked.queue, it.position, it.attempt));
            each.collect()
        };
        // What was returned may have ended once more since; what was acked may not.
        let (acks, backs) = (known(&asked.acks), known(&asked.backs));
        assert!(acks.iter().all(|it| *it == acks[0]), "in part: {asked:?}");
        let first = acks.first().copied();
        let is_done = first.unwrap_or_else(|| backs.contains(&true));
        assert!(is_done || !backs.contains(&true), "in part: {asked:?}");
        let again = is_done && result != SettleResult::Done;
        if is_done {
            let acked = asked.acks.iter().map(|it| (asked.queue, it.position));
            self.done.extend(acked);
            assert_ne!(asked.outputs.0, MISSING.0);
        }
        if let Some(session) = self.sessions.get_mut(&asked.key) {
            for held in asked.acks.iter().chain(&asked.backs) {
                session.promised.remove(&held.position);
                let is_its = session
                    .held
                    .get(&held.position)
                    .is_some_and(|it| it.0 == held.attempt);
                if is_done && is_its {
                    session.held.remove(&held.position);
                }
            }
        }
        if again && !asked.backs.is_empty() {
            self.later.push_back(Input::Return(ReturnRequest {
                node: asked.key.node,
                token: NOBODY,
                queue: asked.queue,
                items: asked.backs,
                kind: ReturnKind::Untouched,
                wait: Wait::Not,
                said: None,
            }));
        }
        true
    }
}
