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
    /// What comes with it: its number, by which the message is known in all proposals of it, and the queue.
    outputs: OutputsId,
}

const APART: u64 = 100;

/// 0: no message comes with it.
fn target(outputs: OutputsId) -> u64 {
    outputs.0 % APART
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
        let to = match self.random.below(4) {
            0 => 0,
            1 => MISSING.0,
            _ => self.queue().0,
        };
        self.next_id += 1;
        let outputs = OutputsId(self.next_id * APART + to);
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
        let body = Bytes::from(format!("t{}", outputs.0 / APART));
        let block = Enqueue {
            queue: QueueId(target(outputs)),
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
        let blocks = (target(outputs) != 0)
            .then_some(block)
            .into_iter()
            .collect();
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
        let mut all = known(&asked.acks);
        all.extend(known(&asked.backs));
        assert!(all.iter().all(|it| *it == all[0]), "in part: {asked:?}");
        let is_done = all[0];
        let again = is_done && result != SettleResult::Done;
        if is_done {
            let acked = asked.acks.iter().map(|it| (asked.queue, it.position));
            self.done.extend(acked);
            assert_ne!(target(asked.outputs), MISSING.0);
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

    /// However often it was proposed, the message of a request is stored once.
    pub(crate) fn comes_once(&mut self, body: &Bytes) {
        if body.starts_with(b"t") {
            let is_first = self.came_together.insert(body.clone());
            assert!(is_first, "stored twice: {body:?}");
        }
    }
}
