//! The order of one publisher's messages, where some are refused for now and come again: per shard, since a queue lives in one, and order is
//! promised per producer and queue. What goes to other shards goes on. Not here: which refusals are for now (`tracker`), how long and how many
//! are awaited (`warren_shard::Awaited`).

use std::collections::BTreeMap;

use tokio::time::Instant;
use warren_shard::Awaited;
use warren_types::ShardId;

/// What is to come again, by the numbers that its producer gave. Messages without a number are in no order.
#[derive(Debug, Default)]
pub(crate) struct Order {
    /// Refused before it was known where it goes: everything later waits for it.
    anywhere: Awaited,
    /// By shard of its targets. Bounded by the shards there are, each by what `Awaited` holds.
    shards: BTreeMap<ShardId, Awaited>,
}

impl Order {
    /// Refused for now, and it is not known where it goes.
    pub(crate) fn refused_anywhere(&mut self, sequences: impl IntoIterator<Item = u64>) {
        let now = Instant::now();
        for sequence in sequences.into_iter().filter(|it| *it != 0) {
            self.anywhere.refused(sequence, now);
        }
    }

    /// Refused for now in these shards.
    pub(crate) fn refused(&mut self, sequence: u64, shards: impl IntoIterator<Item = ShardId>) {
        if sequence == 0 {
            return;
        }
        let now = Instant::now();
        for shard in shards {
            self.shards.entry(shard).or_default().refused(sequence, now);
        }
    }

    /// Whether these may be routed, all or none: nothing before them is awaited that might go where they go.
    pub(crate) fn may_be_routed(&mut self, sequences: impl Iterator<Item = u64>) -> bool {
        if self.anywhere.holds_nothing() {
            return true;
        }
        let now = Instant::now();
        if self.anywhere.is_empty(now) {
            return true;
        }
        let sequences: Vec<u64> = sequences.filter(|it| *it != 0).collect();
        self.anywhere.may_pass(&sequences, now)
    }

    /// Whether these may go to these shards, all or none: nothing before them is awaited in any. If not, they are refused.
    pub(crate) fn may_go(
        &mut self,
        sequences: &[u64],
        shards: impl Iterator<Item = ShardId> + Clone,
    ) -> bool {
        if self.shards.is_empty() || sequences.is_empty() {
            return true;
        }
        let now = Instant::now();
        self.shards.retain(|_, it| !it.is_empty(now));
        let known = &mut self.shards;
        let passes = shards.clone().all(|shard| {
            let awaited = known.get_mut(&shard);
            awaited.is_none_or(|it| it.is_next(sequences, now))
        });
        if passes {
            for shard in shards {
                if let Some(awaited) = known.get_mut(&shard) {
                    awaited.taken(sequences);
                }
            }
        }
        passes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ShardId = ShardId(1);
    const B: ShardId = ShardId(2);
    const C: ShardId = ShardId(3);

    fn goes(order: &mut Order, sequences: &[u64], shards: &[ShardId]) -> bool {
        let may_go = order.may_go(sequences, shards.iter().copied());
        if !may_go {
            let each = sequences.iter();
            each.for_each(|it| order.refused(*it, shards.iter().copied()));
        }
        may_go
    }

    #[test]
    fn message_for_another_shard_goes_on_and_one_for_the_same_waits() {
        let mut order = Order::default();
        order.refused(1, [A]);
        assert!(goes(&mut order, &[2], &[B]));
        assert!(!goes(&mut order, &[3], &[A]));
        assert!(goes(&mut order, &[4], &[B]));
        assert!(!goes(&mut order, &[3], &[A]), "1 comes first");
        assert!(goes(&mut order, &[1], &[A]));
        assert!(!goes(&mut order, &[5], &[A]), "3 comes first");
        assert!(goes(&mut order, &[3], &[A]));
        assert!(goes(&mut order, &[5], &[A]));
        assert!(goes(&mut order, &[6], &[A, B]));
        assert!(
            order
                .shards
                .values_mut()
                .all(|it| it.is_empty(Instant::now()))
        );
    }

    #[test]
    fn message_for_several_shards_waits_for_each_and_is_waited_for_in_all() {
        let mut order = Order::default();
        order.refused(1, [A]);
        assert!(!goes(&mut order, &[2], &[A, B]));
        assert!(!goes(&mut order, &[3], &[B]), "2 goes there, too");
        assert!(goes(&mut order, &[4], &[C]));
        for (sequence, targets) in [(1, &[A][..]), (2, &[A, B][..]), (3, &[B][..])] {
            assert!(goes(&mut order, &[sequence], targets), "{sequence}");
        }
        // One of several shards refused it: the other has it.
        order.refused(5, [B]);
        assert!(goes(&mut order, &[6], &[A]));
        assert!(!goes(&mut order, &[7], &[B]));
        assert!(goes(&mut order, &[5], &[A, B]));
    }

    #[test]
    fn what_is_stored_together_passes_together() {
        let mut order = Order::default();
        order.refused(1, [A]);
        assert!(!goes(&mut order, &[2, 3], &[A]));
        assert!(!goes(&mut order, &[4], &[A]));
        assert!(goes(&mut order, &[1, 2, 3], &[A]));
        assert!(goes(&mut order, &[4], &[A]));
    }

    #[test]
    fn everything_waits_for_what_might_go_anywhere() {
        let mut order = Order::default();
        order.refused_anywhere([0, 2]);
        assert!(order.may_be_routed([1].into_iter()));
        assert!(!order.may_be_routed([3, 4].into_iter()));
        assert!(order.may_be_routed([0].into_iter()), "it has no number");
        assert!(order.may_be_routed([2, 3, 4].into_iter()));
        assert!(order.may_be_routed([5].into_iter()));
        order.refused(0, [A]);
        assert!(
            goes(&mut order, &[6], &[A]),
            "what has no number is in no order"
        );
    }
}
