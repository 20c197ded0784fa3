//! Numbered batches that come up: publishes of nodes, moves of other shards; each is taken once, in order. Not here: joining them into an
//! entry (`batcher`), what has been taken (`links`).

use warren_types::{Incarnation, NodeId, Run, ShardId};

use super::dead_letter::origin_of;
use super::links::{Acceptance, MOVES_RUN};
use super::work::Leading;
use crate::link::frame::{Batch, Down, Hello};

impl Leading {
    pub(super) fn publish(&mut self, hello: &Hello, batch: Batch) {
        match self.links.accept(hello, batch.sequence) {
            Acceptance::Take => self.take_batch(hello.incarnation, hello.run, batch),
            Acceptance::Known => {}
            Acceptance::Resume(last) => self.links.tell(hello.node, Down::Resume { last }),
        }
    }

    fn take_batch(&mut self, origin: Incarnation, run: Run, batch: Batch) {
        let now = self.now();
        let settings = &self.settings;
        let ttl_ms = |queue| settings.get(&queue).and_then(|it| it.message_ttl_ms);
        self.batcher.batch(origin, run, batch, now, ttl_ms);
    }

    pub(super) fn take_moves(&mut self, source: ShardId, node: NodeId, batch: Batch) {
        match self.links.accept_move(source, node, batch.sequence) {
            Acceptance::Take => self.take_batch(origin_of(source), MOVES_RUN, batch),
            // Told already if it is applied, else when it is; the mover sends the rest again in order.
            Acceptance::Known | Acceptance::Resume(_) => {}
        }
    }
}
