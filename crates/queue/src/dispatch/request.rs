//! Settle and return requests that wait for their commits: one answer per request, when its last item is decided.
//! Not here: the decisions (`settle`, `give_back`, `applied`).

use std::sync::Arc;

use warren_types::NodeId;

use super::io::{Action, Actions, SettleResult, TogetherRequest, Token};
use crate::entry::Said;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RequestId(u32);

/// One item of a request, for what is decided out of the ordinary way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Item {
    pub(super) request: RequestId,
    pub(super) index: usize,
}

#[derive(Debug)]
struct Request {
    node: NodeId,
    token: Token,
    /// What the consumer said of its items.
    said: Option<Arc<Said>>,
    /// `None` becomes `Done` when its fact is committed.
    results: Vec<Option<SettleResult>>,
    undecided: usize,
    /// All of its items end, or none: one result is for all of them.
    is_together: bool,
}

#[derive(Debug, Default)]
pub(super) struct Requests {
    slots: Vec<Option<Request>>,
    free: Vec<u32>,
}

impl Requests {
    /// Every item starts undecided; `finish` must follow once all are looked at.
    pub(super) fn open(
        &mut self,
        node: NodeId,
        token: Token,
        items: usize,
        said: Option<Arc<Said>>,
    ) -> RequestId {
        let request = Request {
            node,
            token,
            said,
            results: vec![None; items],
            undecided: items,
            is_together: false,
        };
        if let Some(free) = self.free.pop() {
            let slot = self.slot(RequestId(free)).expect("a free slot exists");
            *slot = Some(request);
            return RequestId(free);
        }
        let id = u32::try_from(self.slots.len()).expect("bounded by what is in flight");
        self.slots.push(Some(request));
        RequestId(id)
    }

    /// As `open`, for items that end in one.
    pub(super) fn open_together(&mut self, it: &TogetherRequest, items: usize) -> RequestId {
        let id = self.open(it.node, it.token, items, it.said.clone());
        if let Some(Some(request)) = self.slot(id) {
            request.is_together = true;
        }
        id
    }

    pub(super) fn is_together(&self, id: RequestId) -> bool {
        let slot = self.slots.get(id.0 as usize);
        slot.and_then(Option::as_ref)
            .is_some_and(|it| it.is_together)
    }

    pub(super) fn node(&self, id: RequestId) -> Option<NodeId> {
        Some(self.slots.get(id.0 as usize)?.as_ref()?.node)
    }

    pub(super) fn said(&self, id: RequestId) -> Option<Arc<Said>> {
        self.slots.get(id.0 as usize)?.as_ref()?.said.clone()
    }

    /// Decided otherwise than by its own commit. Does not answer yet.
    pub(super) fn refuse(&mut self, item: Item, result: SettleResult) {
        let Some(Some(request)) = self.slot(item.request) else {
            return;
        };
        if let Some(open @ None) = request.results.get_mut(item.index) {
            *open = Some(result);
            request.undecided -= 1;
        }
    }

    /// As `refuse`, and answers when it was the last.
    pub(super) fn decide(&mut self, item: Item, result: SettleResult, out: &mut Actions) {
        self.refuse(item, result);
        self.answer_if_decided(item.request, out);
    }

    /// The fact of one undecided item is committed.
    pub(super) fn committed(&mut self, id: RequestId, out: &mut Actions) {
        if let Some(Some(request)) = self.slot(id) {
            debug_assert!(request.undecided > 0);
            request.undecided = request.undecided.saturating_sub(1);
        }
        self.answer_if_decided(id, out);
    }

    pub(super) fn answer_if_decided(&mut self, id: RequestId, out: &mut Actions) {
        let Some(slot) = self.slot(id) else {
            return;
        };
        if slot.as_ref().is_none_or(|it| it.undecided > 0) {
            return;
        }
        if let Some(request) = slot.take() {
            self.free.push(id.0);
            answer(request, SettleResult::Done, out);
        }
    }

    /// Nothing of it was done.
    pub(super) fn end(&mut self, id: RequestId, result: SettleResult, out: &mut Actions) {
        if let Some(mut request) = self.slot(id).and_then(Option::take) {
            self.free.push(id.0);
            request.results = vec![Some(result)];
            answer(request, result, out);
        }
    }

    /// The queue is deleted: what is undecided will never be. Of items that end in one, this is one; the others are decided by themselves.
    pub(super) fn queue_gone(&mut self, id: RequestId, out: &mut Actions) {
        if self.is_together(id) {
            if let Some(Some(request)) = self.slot(id)
                && let Some(first) = request.results.first_mut()
            {
                *first = Some(SettleResult::QueueGone);
            }
            return self.committed(id, out);
        }
        if let Some(request) = self.slot(id).and_then(Option::take) {
            self.free.push(id.0);
            answer(request, SettleResult::QueueGone, out);
        }
    }

    fn slot(&mut self, id: RequestId) -> Option<&mut Option<Request>> {
        self.slots.get_mut(id.0 as usize)
    }
}

fn answer(mut request: Request, undecided: SettleResult, out: &mut Actions) {
    if request.is_together {
        request.results.truncate(1);
    }
    out.list.push(Action::SettleResults {
        node: request.node,
        token: request.token,
        results: request
            .results
            .into_iter()
            .map(|it| it.unwrap_or(undecided))
            .collect(),
    });
}
