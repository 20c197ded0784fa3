//! Which publishes a queue at its limit refuses (features B41, B42, `x-overflow` reject-publish): decided by the leader in the order in
//! which messages enter its entries, so exact. Not here: limits that drop the head (`warren-queue`, dispatch).
//!
//! Room is what the limit leaves beside the messages that are ready now and those of entries that are not applied yet. A message in one
//! of those that turns out to be a duplicate holds its room until then.

use std::collections::{HashMap, VecDeque};

use warren_queue::entry::IndexRange;
use warren_queue::outcome::Tally;
use warren_types::{Facts, Overflow, QueueId, QueueSettings};

use crate::link::frame::Storing;

/// What entries on their way bring, in the order of their proposals.
#[derive(Default)]
pub(super) struct Rooms {
    coming: VecDeque<(u64, HashMap<QueueId, Tally>)>,
}

impl Rooms {
    /// The next entry, by the number of its proposal; one that was begun and not made is begun again.
    pub(super) fn begin(&mut self, proposal: u64) {
        match self.coming.back_mut() {
            Some((number, coming)) if *number == proposal => coming.clear(),
            Some(_) | None => self.coming.push_back((proposal, HashMap::new())),
        }
    }

    /// An entry is applied: what it brought counts as ready where it is.
    pub(super) fn applied(&mut self, proposal: u64) {
        while self
            .coming
            .front()
            .is_some_and(|(number, _)| *number <= proposal)
        {
            self.coming.pop_front();
        }
    }

    /// Which messages of each block find no room. If they are stored together and one finds none, none takes any.
    pub(super) fn admit_all<'a>(
        &mut self,
        storing: Storing,
        blocks: impl Iterator<Item = (QueueId, Option<&'a QueueSettings>, Tally, &'a Facts)>,
    ) -> Vec<Vec<IndexRange>> {
        let before = match storing {
            Storing::Each => None,
            Storing::Together => self.coming.back().map(|(_, coming)| coming.clone()),
        };
        let full = blocks.map(|(queue, settings, ready, facts)| {
            settings.map_or(Vec::new(), |it| self.admit(queue, it, ready, facts))
        });
        let full: Vec<Vec<IndexRange>> = full.collect();
        if let (Some(before), Some((_, coming))) = (before, self.coming.back_mut())
            && full.iter().any(|it| !it.is_empty())
        {
            *coming = before;
        }
        full
    }

    /// Which messages of a block find no room, ascending; the others take theirs.
    fn admit(
        &mut self,
        queue: QueueId,
        settings: &QueueSettings,
        ready: Tally,
        facts: &Facts,
    ) -> Vec<IndexRange> {
        match settings.overflow {
            Overflow::DropHead => return Vec::new(),
            Overflow::RejectPublish | Overflow::RejectPublishDeadLetter => {}
        }
        if settings.max_length.is_none() && settings.max_length_bytes.is_none() {
            return Vec::new();
        }
        let mut held = ready;
        for (_, coming) in &self.coming {
            held.add(coming.get(&queue).copied().unwrap_or_default());
        }
        let Some((_, coming)) = self.coming.back_mut() else {
            return Vec::new();
        };
        let taken = coming.entry(queue).or_default();
        let mut full: Vec<IndexRange> = Vec::new();
        for (index, &bytes) in (0_u32..).zip(&facts.body_size) {
            let one = Tally {
                messages: 1,
                body_bytes: u64::from(bytes),
            };
            let mut with = held;
            with.add(one);
            let fits = |limit: Option<u64>, has: u64| limit.is_none_or(|it| has <= it);
            if fits(settings.max_length, with.messages)
                && fits(settings.max_length_bytes, with.body_bytes)
            {
                held = with;
                taken.add(one);
                continue;
            }
            match full.last_mut() {
                Some(last) if last.first + last.count == index => last.count += 1,
                Some(_) | None => full.push(IndexRange {
                    first: index,
                    count: 1,
                }),
            }
        }
        full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(max_length: Option<u64>, max_length_bytes: Option<u64>) -> QueueSettings {
        QueueSettings {
            max_length,
            max_length_bytes,
            overflow: Overflow::RejectPublish,
            ..QueueSettings::default()
        }
    }

    fn facts(sizes: &[u32]) -> Facts {
        Facts {
            size: sizes.to_vec(),
            body_size: sizes.to_vec(),
            ..Facts::default()
        }
    }

    fn range(first: u32, count: u32) -> IndexRange {
        IndexRange { first, count }
    }

    #[test]
    fn publishes_beyond_the_limit_are_refused_over_all_entries_on_their_way() {
        let (queue, limit) = (QueueId(1), settings(Some(5), None));
        let ready = Tally {
            messages: 2,
            body_bytes: 20,
        };
        let mut rooms = Rooms::default();
        rooms.begin(1);
        assert_eq!(rooms.admit(queue, &limit, ready, &facts(&[1, 1])), vec![]);
        rooms.begin(2);
        let refused = rooms.admit(queue, &limit, ready, &facts(&[1, 1, 1]));
        assert_eq!(refused, vec![range(1, 2)]);
        assert_eq!(
            rooms.admit(QueueId(2), &limit, Tally::default(), &facts(&[1])),
            vec![]
        );
        // The first entry is applied and its messages were taken at once: there is room again.
        rooms.applied(1);
        rooms.begin(3);
        assert_eq!(
            rooms.admit(queue, &limit, ready, &facts(&[1, 1, 1])),
            vec![range(2, 1)]
        );
    }

    #[test]
    fn publishes_larger_than_what_is_left_are_refused_and_smaller_ones_taken() {
        let mut rooms = Rooms::default();
        rooms.begin(1);
        let limit = settings(None, Some(10));
        let refused = rooms.admit(QueueId(1), &limit, Tally::default(), &facts(&[6, 6, 4, 1]));
        assert_eq!(refused, vec![range(1, 1), range(3, 1)]);
    }

    #[test]
    fn blocks_stored_together_take_no_room_if_one_finds_none() {
        let (queue, limit) = (QueueId(1), settings(Some(2), None));
        let mut rooms = Rooms::default();
        rooms.begin(1);
        let facts = [facts(&[1]), facts(&[1, 1])];
        let blocks = || {
            let all = facts.iter();
            all.map(|it| (queue, Some(&limit), Tally::default(), it))
        };
        let refused = rooms.admit_all(Storing::Together, blocks());
        assert_eq!(refused, vec![vec![], vec![range(1, 1)]]);
        let taken = rooms.admit_all(Storing::Together, blocks().skip(1));
        assert_eq!(taken, vec![vec![]]);
        let refused = rooms.admit_all(Storing::Each, blocks().take(1));
        assert_eq!(refused, vec![vec![range(0, 1)]]);
    }

    #[test]
    fn an_entry_that_was_not_made_takes_no_room() {
        let (queue, limit) = (QueueId(1), settings(Some(1), None));
        let mut rooms = Rooms::default();
        for _ in 0..3 {
            rooms.begin(1);
            let refused = rooms.admit(queue, &limit, Tally::default(), &facts(&[1]));
            assert_eq!(refused, vec![]);
        }
    }
}
