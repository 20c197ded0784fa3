//! Messages that come with an ack (features X4), as they are sent with it, and sent again. Not here: the ack (`attachments`).

use warren_queue::dispatch::io::SettleResult;
use warren_topology::Topology;

use super::encode::{Group, Publish, encode};
use super::state::State;
use crate::api::{PublishItem, RequestToken, SessionEvent, SettleSpec, TogetherSpec};
use crate::link::frame::{Outputs, Up};
use crate::link::outbox::Outbox;
use crate::time::wall_clock_ms;

/// What it comes with is held until it is done.
#[derive(Clone)]
pub(crate) struct SentOutputs {
    pub(super) outputs: Outputs,
    /// As their session names them, in their order.
    tokens: Vec<RequestToken>,
}

impl SentOutputs {
    /// What comes with a settle; `None`: nothing does.
    pub(super) fn of(
        spec: &SettleSpec,
        inbox: &Outbox<SessionEvent>,
        topology: &Topology,
    ) -> Option<Self> {
        let any = !spec.outputs.is_empty();
        any.then(|| Self::encode(&spec.outputs, inbox, topology))
    }

    pub(super) fn encode(
        items: &[PublishItem],
        inbox: &Outbox<SessionEvent>,
        topology: &Topology,
    ) -> Self {
        let publishes = items.iter().map(|item| Publish {
            item: item.clone(),
            inbox: inbox.clone(),
            deadline: None,
            group: Group::Alone,
        });
        let encoded = encode(publishes, wall_clock_ms(), topology);
        Self {
            outputs: Outputs {
                topology: topology.index(),
                parts: encoded.parts,
            },
            tokens: encoded.waiters.into_iter().map(|it| it.token).collect(),
        }
    }

    /// Nothing was done: what was to be acked is held still.
    pub(super) fn is_refused(results: &[SettleResult]) -> bool {
        matches!(results, [SettleResult::OutputRefused { .. }])
    }

    /// The leader counts outputs in their order; their session is told its own name of the one that was refused.
    pub(super) fn named(&self, results: Vec<SettleResult>) -> Vec<SettleResult> {
        let [SettleResult::OutputRefused { index, why }] = results[..] else {
            return results;
        };
        let at = usize::try_from(index).ok();
        let token = at.and_then(|at| self.tokens.get(at));
        let index = token.and_then(|it| u32::try_from(it.0).ok());
        let index = index.unwrap_or_default();
        vec![SettleResult::OutputRefused { index, why }]
    }
}

impl State {
    /// The frame of a settle, which is noted until it is answered.
    pub(super) fn settle(
        &mut self,
        spec: SettleSpec,
        token: RequestToken,
        inbox: Outbox<SessionEvent>,
        topology: &Topology,
    ) -> Up {
        let own = self.tokens.next();
        let outputs = SentOutputs::of(&spec, &inbox, topology);
        self.attachments.settle(own, spec, outputs, token, inbox)
    }

    /// The same of deliveries that end in one.
    pub(super) fn settle_together(
        &mut self,
        spec: TogetherSpec,
        token: RequestToken,
        inbox: Outbox<SessionEvent>,
        topology: &Topology,
    ) -> Up {
        let own = self.tokens.next();
        let outputs = SentOutputs::encode(&spec.outputs, &inbox, topology);
        self.attachments
            .settle_together(own, spec, outputs, token, inbox)
    }
}
