//! Settles and returns, as nodes ask for them. Acks with outputs (features X4) stand between dispatch, which knows who holds the delivery,
//! and the log, which acks it and stores the outputs in one. Whether that was done is answered by what the queue remembers, so asking again
//! after a lost answer, whoever leads, is told the same. Not here: the command (`warren-queue`), what is asked (`warren-gateway`).

use std::collections::{BTreeMap, HashMap};

use warren_queue::dispatch::io::{
    Held, Input, OutputsId, ReturnRequest, SettleRequest, SettleResult, Token,
};
use warren_types::{NodeId, QueueId, Run};

use super::batcher::AckOf;
use super::work::Leading;
use crate::api::AnswerTime;
use crate::link::frame::{Down, Hello, Outputs, Part, ReturnUp, SettleUp};
use crate::replica::tap::Request;

/// Those that are not answered. Bounded by what sessions may have unanswered.
#[derive(Default)]
pub(super) struct Acking {
    last: u64,
    by_token: HashMap<(NodeId, Token), UnderWay>,
    /// Outputs that dispatch has not asked for yet.
    parts: BTreeMap<OutputsId, Vec<Part>>,
}

struct UnderWay {
    run: Run,
    outputs: OutputsId,
    queue: QueueId,
    held: Held,
}

impl Leading {
    pub(super) fn give_back(&mut self, node: NodeId, it: ReturnUp) {
        let wait = self.wait(it.wait);
        self.step(Input::Return(ReturnRequest {
            node,
            token: it.token,
            queue: it.queue,
            items: it.items,
            kind: it.kind,
            wait,
            said: it.said,
        }));
    }

    pub(super) fn settle(&mut self, hello: &Hello, mut settle: SettleUp) {
        if let Some(outputs) = settle.outputs.take() {
            return self.ack_with_outputs(hello, settle, outputs);
        }
        if settle.answer == AnswerTime::AtOnce {
            self.acks.hurry();
        }
        self.step(Input::Settle(SettleRequest {
            node: hello.node,
            token: settle.token,
            queue: settle.queue,
            items: settle.items,
            reason: settle.reason,
            outputs: None,
            said: settle.said,
        }));
    }

    fn ack_with_outputs(&mut self, hello: &Hello, it: SettleUp, outputs: Outputs) {
        let key = (hello.node, it.token);
        let [held] = it.items[..] else {
            return self.refuse_outputs(hello.node, &it);
        };
        let known = self.acking.by_token.get(&key);
        if known.is_some_and(|known| known.run == hello.run) {
            return; // sent again over a new link, which hears the answer
        }
        self.acking.last += 1;
        let id = OutputsId(self.acking.last);
        let under_way = UnderWay {
            run: hello.run,
            outputs: id,
            queue: it.queue,
            held,
        };
        if let Some(older) = self.acking.by_token.insert(key, under_way) {
            self.acking.parts.remove(&older.outputs);
        }
        self.acking.parts.insert(id, outputs.parts);
        self.acks.hurry();
        self.step(Input::Settle(SettleRequest {
            node: hello.node,
            token: it.token,
            queue: it.queue,
            items: it.items,
            reason: it.reason,
            outputs: Some(id),
            said: None,
        }));
    }

    /// Not what a node of this cluster says: outputs come with one delivery.
    fn refuse_outputs(&mut self, node: NodeId, it: &SettleUp) {
        let (token, results) = (it.token, vec![SettleResult::NotOwner; it.items.len()]);
        self.links
            .tell(node, Down::SettleResults { token, results });
    }

    /// Dispatch has made sure of the delivery: it is acked with its outputs in the next entry.
    pub(super) fn propose_outputs(&mut self, queue: QueueId, held: Held, outputs: OutputsId) {
        let Some(parts) = self.acking.parts.remove(&outputs) else {
            return;
        };
        let now = self.now();
        let settings = &self.settings;
        let ttl_ms = |queue| settings.get(&queue).and_then(|it| it.message_ttl_ms);
        let ack = AckOf { queue, held };
        self.batcher.ack_with_outputs(ack, parts, now, ttl_ms);
    }

    /// Dispatch knows what became of a settle. If the delivery was acked, the store knows whether these outputs came with it.
    pub(super) fn tell_settled(&mut self, node: NodeId, token: Token, results: Vec<SettleResult>) {
        let Some(under_way) = self.acking.by_token.get(&(node, token)) else {
            return self
                .links
                .tell(node, Down::SettleResults { token, results });
        };
        match results.first() {
            Some(SettleResult::Done | SettleResult::AlreadySettled) => {
                self.mailbox.ask(Request::HasOutputs {
                    node,
                    token,
                    queue: under_way.queue,
                    held: under_way.held,
                });
            }
            Some(
                SettleResult::NotOwner
                | SettleResult::Expired
                | SettleResult::QueueGone
                | SettleResult::OutputRefused { .. },
            )
            | None => self.outputs_answered(node, token, results),
        }
    }

    pub(super) fn has_outputs(&mut self, node: NodeId, token: Token, has: bool) {
        let result = if has {
            SettleResult::Done
        } else {
            SettleResult::AlreadySettled
        };
        self.outputs_answered(node, token, vec![result]);
    }

    fn outputs_answered(&mut self, node: NodeId, token: Token, results: Vec<SettleResult>) {
        if let Some(under_way) = self.acking.by_token.remove(&(node, token)) {
            self.acking.parts.remove(&under_way.outputs);
        }
        self.links
            .tell(node, Down::SettleResults { token, results });
    }
}
