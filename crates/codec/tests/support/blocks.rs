//! Random enqueues. Not here: their facts and producers, other commands.

use proptest::{collection::vec, option, prelude::*};
use warren_queue::entry::*;
use warren_types::*;

use super::{block, priority, producer};

pub(super) fn enqueue() -> impl Strategy<Value = Command> {
    block_of_queue().prop_map(Command::Enqueue)
}

pub(super) fn block_of_queue() -> impl Strategy<Value = Enqueue> {
    (
        any::<u64>().prop_map(QueueId),
        priority(),
        block(),
        vec(producer(), 0..3),
        option::of(any::<u32>()),
        vec(any::<(u32, u32)>(), 0..3),
        option::of((1..u64::MAX, any::<u64>())),
    )
        .prop_map(
            |(queue, priority, (facts, payload), producers, raise, full, dedup)| {
                let full = full.into_iter();
                let full = full.map(|(first, count)| IndexRange { first, count });
                Enqueue {
                    queue,
                    priority,
                    facts,
                    payload,
                    producers,
                    raise,
                    full: full.collect(),
                    dedup: dedup.map(|(window_ms, keys_max)| Dedup {
                        window_ms,
                        keys_max,
                    }),
                }
            },
        )
}
