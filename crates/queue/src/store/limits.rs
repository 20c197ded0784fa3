//! Bounds that decide results, so they are equal on every replica: changing one changes what stored entries mean.
//! Not here: bounds on memory alone (`StoreOptions`).

/// A producer's last sequence and the 1,023 numbers below it are told apart; what is older is refused.
pub const PRODUCER_WINDOW: u64 = 1_024;

/// A producer that has not published to a queue for longer (shard time: seven days) is forgotten by it.
pub const PRODUCER_IDLE_MS_MAX: u64 = 7 * 24 * 60 * 60 * 1_000;

/// Producers a queue remembers; beyond it the one not seen for longest is forgotten.
pub const PRODUCERS_MAX: usize = 10_000;

/// Idle producers forgotten per use of a producer: enough to keep up, never a long stop.
pub(super) const PRODUCERS_FORGOTTEN_AT_ONCE: usize = 4;

/// Batches of a node, counted back from its last one, whose results are remembered. Four times what may be unconfirmed.
pub const ORIGIN_BATCHES_REMEMBERED: u64 = 4_096;

/// Exceptions remembered per node over all its batches; beyond it the oldest batches' are forgotten, never the last one's.
pub const EXCEPTIONS_MAX: usize = 16_384;

/// Batches of a node, counted back from its last one, of which it is remembered where their scheduled messages are. As many as may be
/// unconfirmed.
pub const PLACED_BATCHES_REMEMBERED: u64 = 1_024;

/// Places remembered per node over all its batches; beyond it the oldest batches' are forgotten, never the last one's.
pub const PLACES_MAX: usize = 16_384;

/// Cancelled messages a queue remembers; beyond it the oldest are forgotten, and asking for one of them is too late.
pub const CANCELS_REMEMBERED: u64 = 16_384;

/// Deliveries that ended with outputs, or with others, which a queue remembers, so that whoever asks again is told; beyond it the oldest are
/// forgotten, and asking for one of them again is told that it was settled.
pub(super) const OUTPUTS_REMEMBERED: u64 = 16_384;

/// Things a memory forgets for being old each time something new comes: enough to keep up, never a long stop.
pub(super) const FORGOTTEN_AT_ONCE: u32 = 4;

/// Messages a batch may name that its entry does not hold (which no proposer does) before the rest goes unmentioned.
pub(super) const PHANTOMS_MAX: usize = 1_024;

/// How far beyond the queue's next position a hand-out mark may lie.
pub const MARK_AHEAD_MAX: u64 = 1 << 20;

/// Numbers on their way to other shards at once. Beyond it nothing more begins its way: the leader asks again.
pub const OUTGOING_MAX: usize = 4_096;

/// Ranges in "released, not handed out" per priority. Beyond it the lowest are forgotten: those messages are then
/// flagged redelivered after a change of leader though nobody saw them, which is the safe side.
pub const RELEASED_RANGES_MAX: usize = 1_024;

/// A message that is in flight when it expires is looked at again after so long, by shard time: whoever held it may have let go.
pub const TIMER_RECHECK_MS: u64 = 5_000;

/// Parked messages that one command drops at most: it is to take no replica long.
pub const PARKED_DROPPED_AT_ONCE: u64 = 4_096;

/// What consumers said of a message that is kept: the newest so many.
pub(super) const SAID_MAX: usize = 8;

/// Bytes of what consumers said of a block's messages; beyond it nothing more is kept until some of them leave.
pub(super) const SAID_BLOCK_BYTES_MAX: usize = 64 << 10;
