//! Settles and returns, as nodes ask for them. Acks with outputs (features X4) stand between dispatch, which knows who holds the delivery,
//! and the log, which acks it and stores the outputs in one. Whether that was done is answered by what the queue remembers, so asking again
//! after a lost answer, whoever leads, is told the same. What this leader saw applied needs no memory: its answer may come much later, when the
//! dead letters among them have arrived. Not here: the command (`warren-queue`), what is asked (`warren-gateway`).

use std::collections::{BTreeMap, HashMap};

use warren_queue::dispatch::io::{
    End, Held, Input, OutputsId, ReturnRequest, SettleRequest, SettleResult, TogetherPart,
    TogetherRequest, Token,
};
use warren_queue::entry::{EndedDelivery, Ending, ReturnKind};
use warren_queue::outcome::{Effect, TogetherRefused, WhyNotTogether};
use warren_types::{NodeId, NotStored, QueueId, Run};

use super::batcher::{AckOf, Ends};
use super::work::Leading;
use crate::api::{AnswerTime, SettleAction, SettlePart, TOGETHER_MAX};
use crate::link::frame::{Down, Hello, Outputs, Part, ReturnUp, SettleUp, TogetherUp};
use crate::replica::tap::Request;

/// Those that are not answered. Bounded by what sessions may have unanswered.
#[derive(Default)]
pub(super) struct Acking {
    last: u64,
    by_token: HashMap<(NodeId, Token), UnderWay>,
    /// Outputs that dispatch has not asked for yet, and for whom.
    parts: BTreeMap<OutputsId, ((NodeId, Token), Vec<Part>)>,
    /// Deliveries that are to end in one, by the first of them, in an entry that is not applied.
    proposed: BTreeMap<EndedDelivery, ((NodeId, Token), OutputsId)>,
}

struct UnderWay {
    run: Run,
    outputs: OutputsId,
    /// Its entry is applied, and did it.
    is_done: bool,
    /// What its queues remember of these tells later whether it was done.
    proof: Vec<EndedDelivery>,
    ends: How,
}

/// How what is under way ends.
enum How {
    /// One delivery is acked.
    Ack,
    /// Several deliveries end in one; what dispatch said of them.
    Together(Vec<SettlePart>, Option<SettleResult>),
}

/// What becomes of what dispatch says.
#[derive(Debug, PartialEq)]
enum Next {
    Tell(Vec<SettleResult>),
    /// The store is asked whether it was done.
    Ask(Vec<EndedDelivery>),
}

/// What is asked here answers nobody.
const NOBODY: Token = Token(u64::MAX);

/// The outputs are gone, with a request that another has taken the place of.
const GONE: WhyNotTogether = WhyNotTogether::Output {
    index: 0,
    why: NotStored::BatchRefused,
};

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
        let [held] = it.items[..] else {
            return self.refuse_outputs(hello.node, &it);
        };
        let proof = vec![ended(it.queue, held)];
        let Some(id) = self.acking.begin(hello, it.token, proof, How::Ack, outputs) else {
            return; // sent again over a new link, which hears the answer
        };
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

    pub(super) fn settle_together(&mut self, hello: &Hello, it: TogetherUp) {
        let TogetherUp {
            token,
            parts,
            outputs,
            said,
        } = it;
        let each = parts.iter().map(|it| it.items.len());
        // Not what a node of this cluster says.
        if !self.batcher.knows_together() || each.sum::<usize>() > TOGETHER_MAX {
            let results = vec![SettleResult::NotOwner];
            let refused = Down::SettleResults { token, results };
            return self.links.tell(hello.node, refused);
        }
        let (proof, ends) = (proof(&parts), How::Together(parts.clone(), None));
        let Some(id) = self.acking.begin(hello, token, proof, ends, outputs) else {
            return; // sent again over a new link, which hears the answer
        };
        let parts = parts.into_iter().map(|part| TogetherPart {
            queue: part.queue,
            items: part.items,
            end: match part.action {
                SettleAction::Settle(reason) => End::Settle(reason),
                SettleAction::Return { kind, wait } => End::Return(kind, self.wait(wait)),
            },
        });
        let request = TogetherRequest {
            node: hello.node,
            token,
            outputs: id,
            parts: parts.collect(),
            said,
        };
        self.acks.hurry();
        self.step(Input::SettleTogether(request));
    }

    /// Dispatch has made sure of all deliveries, and it is known where dead letters go: they end with their outputs in the next entry.
    pub(super) fn propose_ends(
        &mut self,
        outputs: OutputsId,
        deliveries: Vec<EndedDelivery>,
        endings: Vec<Ending>,
    ) {
        let Some(parts) = self.acking.propose(outputs, deliveries.first()) else {
            return self.refuse_together(deliveries, GONE);
        };
        let parks: Vec<(QueueId, u64)> = endings.iter().filter_map(parked).collect();
        let now = self.now();
        let settings = &self.settings;
        let ttl_ms = |queue| settings.get(&queue).and_then(|it| it.message_ttl_ms);
        let ends = Ends {
            deliveries,
            endings,
        };
        self.batcher.settle_together(ends, parts, now, ttl_ms);
        for (queue, count) in parks {
            self.drop_parked(queue, count);
        }
    }

    /// All are held as before.
    pub(super) fn refuse_together(&mut self, deliveries: Vec<EndedDelivery>, why: WhyNotTogether) {
        let refused = TogetherRefused { deliveries, why };
        self.step(Input::Applied(Effect::TogetherRefused(refused)));
    }

    /// Dispatch has made sure of the delivery: it is acked with its outputs in the next entry.
    pub(super) fn propose_outputs(&mut self, queue: QueueId, held: Held, outputs: OutputsId) {
        let Some(parts) = self.acking.propose(outputs, None) else {
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
        match self.acking.said((node, token), results) {
            Next::Tell(results) => self.outputs_answered(node, token, results),
            Next::Ask(proof) => self.mailbox.ask(Request::HasOutputs { node, token, proof }),
        }
    }

    pub(super) fn has_outputs(&mut self, node: NodeId, token: Token, has: bool) {
        let under_way = self.acking.by_token.get(&(node, token));
        let mut again = Vec::new();
        let mut result = SettleResult::AlreadySettled;
        if let Some(How::Together(parts, Some(said))) = under_way.map(|it| &it.ends)
            && *said != SettleResult::Done
        {
            result = *said;
            again.clone_from(parts);
        }
        if has {
            result = SettleResult::Done;
            self.return_again(node, again);
        }
        self.outputs_answered(node, token, vec![result]);
    }

    /// It was done under an older leader: what was returned then may have been claimed from this one by who held it.
    fn return_again(&mut self, node: NodeId, parts: Vec<SettlePart>) {
        for part in parts {
            if let SettleAction::Return { wait, .. } = part.action {
                self.give_back(
                    node,
                    ReturnUp {
                        token: NOBODY,
                        queue: part.queue,
                        items: part.items,
                        kind: ReturnKind::Untouched,
                        wait,
                        said: None,
                    },
                );
            }
        }
    }

    fn outputs_answered(&mut self, node: NodeId, token: Token, results: Vec<SettleResult>) {
        if let Some(under_way) = self.acking.by_token.remove(&(node, token)) {
            self.acking.parts.remove(&under_way.outputs);
        }
        self.links
            .tell(node, Down::SettleResults { token, results });
    }
}

impl Acking {
    /// `None`: it is under way.
    fn begin(
        &mut self,
        hello: &Hello,
        token: Token,
        proof: Vec<EndedDelivery>,
        ends: How,
        outputs: Outputs,
    ) -> Option<OutputsId> {
        let key = (hello.node, token);
        let known = self.by_token.get(&key);
        if known.is_some_and(|known| known.run == hello.run) {
            return None;
        }
        self.last += 1;
        let id = OutputsId(self.last);
        let under_way = UnderWay {
            run: hello.run,
            outputs: id,
            is_done: false,
            proof,
            ends,
        };
        if let Some(older) = self.by_token.insert(key, under_way) {
            self.parts.remove(&older.outputs);
        }
        self.parts.insert(id, (key, outputs.parts));
        Some(id)
    }

    /// They come into an entry, with deliveries that end in one if there is a first.
    fn propose(&mut self, outputs: OutputsId, first: Option<&EndedDelivery>) -> Option<Vec<Part>> {
        let (key, parts) = self.parts.remove(&outputs)?;
        if let Some(first) = first {
            self.proposed.insert(*first, (key, outputs));
        }
        Some(parts)
    }

    /// Of what was applied, what is under way must know.
    pub(super) fn hears(&mut self, effect: &Effect) {
        if let Effect::TogetherDone { first } = effect {
            if let Some((key, outputs)) = self.proposed.remove(first)
                && let Some(under_way) = self.by_token.get_mut(&key)
            {
                under_way.is_done |= under_way.outputs == outputs;
            }
        } else if let Effect::TogetherRefused(it) = effect
            && let Some(first) = it.deliveries.first()
        {
            self.proposed.remove(first);
        }
    }

    /// What dispatch says of a settle.
    fn said(&mut self, key: (NodeId, Token), results: Vec<SettleResult>) -> Next {
        let Some(under_way) = self.by_token.get_mut(&key) else {
            return Next::Tell(results);
        };
        if under_way.is_done {
            return Next::Tell(vec![SettleResult::Done]);
        }
        let result = results.first().copied();
        let may_be_done = match result {
            Some(SettleResult::Done | SettleResult::AlreadySettled) => true,
            // Since it was done, what was returned may have become another's, a queue may have gone or got a dead-letter target.
            Some(
                SettleResult::NotOwner
                | SettleResult::Expired
                | SettleResult::QueueGone
                | SettleResult::DeadLetter,
            ) => under_way.ends.is_together(),
            Some(SettleResult::OutputRefused { .. }) | None => false,
        };
        if !may_be_done {
            return Next::Tell(results);
        }
        if let How::Together(_, said) = &mut under_way.ends {
            *said = result;
        }
        Next::Ask(under_way.proof.clone())
    }
}

impl How {
    fn is_together(&self) -> bool {
        match self {
            Self::Ack => false,
            Self::Together(..) => true,
        }
    }
}

/// All deliveries of a request.
fn proof(parts: &[SettlePart]) -> Vec<EndedDelivery> {
    let each = parts.iter().flat_map(|part| {
        let items = part.items.iter();
        items.map(|held| ended(part.queue, *held))
    });
    each.collect()
}

fn ended(queue: QueueId, held: Held) -> EndedDelivery {
    EndedDelivery {
        queue,
        position: held.position,
        attempt: held.attempt,
    }
}

/// How many of a queue are set aside.
fn parked(it: &Ending) -> Option<(QueueId, u64)> {
    match it {
        Ending::Park(it) => {
            let count = it.ranges.iter().map(|range| range.count).sum();
            Some((it.queue, count))
        }
        Ending::Remark(_) | Ending::Settle(_) | Ending::Return(_) | Ending::MoveOut(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use warren_types::{Attempt, BatchSequence, Incarnation, Position, Term, TopologyIndex};

    use super::*;

    const KEY: (NodeId, Token) = (NodeId(2), Token(7));
    const ENDED: EndedDelivery = EndedDelivery {
        queue: QueueId(1),
        position: Position(5),
        attempt: Attempt {
            term: Term(3),
            number: 9,
        },
    };

    /// The request of a node's run, in an entry.
    fn proposed(acking: &mut Acking, run: u64) -> OutputsId {
        let hello = Hello {
            node: KEY.0,
            incarnation: Incarnation(1),
            run: Run(run),
            link: 1,
            term: Term(3),
            topology: TopologyIndex(1),
            confirmed: BatchSequence(0),
        };
        let outputs = Outputs {
            topology: TopologyIndex(1),
            parts: Vec::new(),
        };
        let ends = How::Together(Vec::new(), None);
        let id = acking.begin(&hello, KEY.1, vec![ENDED], ends, outputs);
        let id = id.expect("it is new");
        assert!(acking.propose(id, Some(&ENDED)).is_some());
        id
    }

    fn done() -> Effect {
        Effect::TogetherDone { first: ENDED }
    }

    /// Its dead letters had a full target, and 16,384 other deliveries of its queue ended before they were taken: nobody remembered it.
    #[test]
    fn request_that_was_seen_applied_is_told_done_whatever_its_queues_remember() {
        let mut acking = Acking::default();
        proposed(&mut acking, 1);
        let said = vec![SettleResult::Done];
        let next = acking.said(KEY, said.clone());
        assert_eq!(next, Next::Ask(vec![ENDED]), "not applied yet");
        acking.hears(&done());
        assert_eq!(acking.said(KEY, said), Next::Tell(vec![SettleResult::Done]));
        let next = acking.said(KEY, vec![SettleResult::AlreadySettled]);
        assert_eq!(next, Next::Tell(vec![SettleResult::Done]));
        assert!(acking.proposed.is_empty());
    }

    #[test]
    fn request_that_came_to_nothing_or_is_of_another_run_is_not_done_by_it() {
        let mut acking = Acking::default();
        proposed(&mut acking, 1);
        acking.hears(&Effect::TogetherRefused(TogetherRefused {
            deliveries: vec![ENDED],
            why: GONE,
        }));
        assert!(acking.proposed.is_empty());
        acking.hears(&done());
        let said = vec![SettleResult::AlreadySettled];
        assert_eq!(acking.said(KEY, said.clone()), Next::Ask(vec![ENDED]));
        // The node has started again, and its token means something else.
        let older = proposed(&mut acking, 2);
        acking.proposed.insert(ENDED, (KEY, OutputsId(older.0 - 1)));
        acking.hears(&done());
        assert_eq!(acking.said(KEY, said), Next::Ask(vec![ENDED]));
    }
}
