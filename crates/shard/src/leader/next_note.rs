//! What the next version adds, as far as tests of upgrades are concerned: the number in a queue's argument `x-next-note` is noted in its
//! row. Not here: what it does (`warren-queue`).

use tracing::warn;
use warren_queue::entry::{Command, Note};
use warren_topology::Topology;
use warren_types::QueueId;

use super::work::Leading;

/// The argument; a declare with it needs the next version, too (`warren-topology`).
const ARGUMENT: &str = "x-next-note";

impl Leading {
    pub(super) fn next_note(&mut self, topology: &Topology, queue: QueueId) {
        let queue_of = topology.queue_by_id(queue);
        let Some(value) = queue_of.and_then(|it| it.arguments.get_int(ARGUMENT)) else {
            return;
        };
        let note = u64::try_from(value).unwrap_or_default();
        if let Err(refused) = self.batcher.offer(Command::Note(Note { queue, note })) {
            warn!(shard_id = %self.shard, %queue, %refused, "command refused");
        }
    }
}
