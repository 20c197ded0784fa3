//! The dispatcher's limits with their defaults. Not here: what a single consumer asked for (`io::ConsumerOptions`).

/// Limits of one shard's dispatcher.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// By how many positions the hand-out mark is raised; bounds how many messages a change of leader flags in vain.
    pub chunk: u32,
    /// Bytes of blocks kept ready for one queue; what does not fit is read again when its turn comes.
    pub queue_hot_bytes: usize,
    /// Bytes of blocks kept ready for all queues together.
    pub shard_hot_bytes: usize,
    /// The next cold block is asked for when less than this is left of the hot ones.
    pub read_ahead_bytes: usize,
    /// Messages in flight on one node, all its consumers together. When full, nothing more is handed out to that node.
    pub node_in_flight_max: usize,
    /// Where keys are kept in order: messages of a queue that wait for their keys in memory while later ones are looked at. When full,
    /// later ones wait until some of these go; the shard's queues may have eight times as many together, and each of them 256 in any case.
    pub group_window: usize,
    /// What consumers of a lost node hold stays theirs for so long, unless their queue says otherwise (features A8).
    pub consumer_disconnected_timeout_ms: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            chunk: 1_024,
            queue_hot_bytes: 8 << 20,
            shard_hot_bytes: 64 << 20,
            read_ahead_bytes: 256 << 10,
            node_in_flight_max: 200_000,
            group_window: 16_384,
            consumer_disconnected_timeout_ms: 5_000,
        }
    }
}
