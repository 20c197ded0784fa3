//! Deliveries of one channel that the client has not settled. Not here: what settling does. Bounded by the credit the
//! session grants; the space of settled ones is taken back even if an old one stays.

use std::collections::VecDeque;

use super::DeliveryTag;
use crate::error::AmqpError;

/// Settled entries in the middle are tolerated up to this many, then up to half of all.
const HOLES_MIN: usize = 64;

/// Numbers deliveries and keeps the caller's value for each until it is settled.
#[derive(Clone, Debug)]
pub struct UnackedTags<V> {
    next: u64,
    /// By ascending tag; `None` is a hole left by a settle. The front is never a hole.
    entries: VecDeque<(u64, Option<V>)>,
    live: usize,
}

impl<V> Default for UnackedTags<V> {
    fn default() -> Self {
        Self {
            next: 1,
            entries: VecDeque::new(),
            live: 0,
        }
    }
}

impl<V> UnackedTags<V> {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Numbers a delivery that needs no ack.
    pub fn next_tag(&mut self) -> DeliveryTag {
        let tag = self.next;
        self.next += 1;
        DeliveryTag(tag)
    }

    /// Numbers a delivery and keeps `value` for its settle.
    pub fn deliver(&mut self, value: V) -> DeliveryTag {
        let tag = self.next_tag();
        self.entries.push_back((tag.0, Some(value)));
        self.live += 1;
        tag
    }

    /// Outstanding deliveries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Outstanding deliveries by ascending tag.
    pub fn iter(&self) -> impl Iterator<Item = (DeliveryTag, &V)> {
        self.entries
            .iter()
            .filter_map(|(tag, value)| Some((DeliveryTag(*tag), value.as_ref()?)))
    }

    /// Takes out what an ack, nack or reject names and appends it to `settled`, by ascending tag. With `multiple` that is
    /// everything up to the tag, and everything at all for tag 0.
    ///
    /// # Errors
    /// 406 if the tag is not outstanding (also with `multiple`, except for tag 0); nothing is taken out then.
    pub fn settle(
        &mut self,
        tag: DeliveryTag,
        multiple: bool,
        settled: &mut Vec<(DeliveryTag, V)>,
    ) -> Result<(), AmqpError> {
        if tag.0 == 0 && multiple {
            settled.extend(self.take_all());
            return Ok(());
        }
        let index = self
            .find(tag.0)
            .ok_or_else(|| AmqpError::unknown_delivery_tag(tag))?;
        if multiple {
            let taken = self
                .entries
                .drain(..=index)
                .filter_map(|(tag, value)| Some((DeliveryTag(tag), value?)));
            let before = settled.len();
            settled.extend(taken);
            self.live -= settled.len() - before;
        } else if let Some(value) = self
            .entries
            .get_mut(index)
            .and_then(|(_, value)| value.take())
        {
            settled.push((tag, value));
            self.live -= 1;
        }
        self.tidy();
        Ok(())
    }

    /// Puts back what `settle` took out: a transaction is rolled back. A tag that is outstanding already keeps its value.
    pub fn restore(&mut self, tag: DeliveryTag, value: V) {
        match self.entries.binary_search_by_key(&tag.0, |(tag, _)| *tag) {
            Ok(index) => {
                if let Some((_, slot @ None)) = self.entries.get_mut(index) {
                    *slot = Some(value);
                    self.live += 1;
                }
            }
            Err(index) => {
                self.entries.insert(index, (tag.0, Some(value)));
                self.live += 1;
            }
        }
    }

    /// Takes out everything, by ascending tag: recover, or the channel has ended.
    pub fn take_all(&mut self) -> Vec<(DeliveryTag, V)> {
        self.live = 0;
        self.entries
            .drain(..)
            .filter_map(|(tag, value)| Some((DeliveryTag(tag), value?)))
            .collect()
    }

    /// Takes out the deliveries `which` says, by ascending tag: those of a queue that is gone, say.
    pub fn take_if(
        &mut self,
        mut which: impl FnMut(DeliveryTag, &V) -> bool,
    ) -> Vec<(DeliveryTag, V)> {
        let mut taken = Vec::new();
        for (tag, slot) in &mut self.entries {
            let tag = DeliveryTag(*tag);
            if slot.as_ref().is_some_and(|value| which(tag, value)) {
                taken.extend(slot.take().map(|value| (tag, value)));
            }
        }
        self.live -= taken.len();
        self.tidy();
        taken
    }

    fn find(&self, tag: u64) -> Option<usize> {
        let front = self.entries.front()?.0;
        let guess = usize::try_from(tag.checked_sub(front)?).unwrap_or(usize::MAX);
        let index = match self.entries.get(guess) {
            Some((found, _)) if *found == tag => guess,
            _ => self
                .entries
                .binary_search_by_key(&tag, |(tag, _)| *tag)
                .ok()?,
        };
        self.entries.get(index)?.1.as_ref()?;
        Some(index)
    }

    fn tidy(&mut self) {
        while self
            .entries
            .front()
            .is_some_and(|(_, value)| value.is_none())
        {
            self.entries.pop_front();
        }
        if self.entries.len() > HOLES_MIN + 2 * self.live {
            self.entries.retain(|(_, value)| value.is_some());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::error::Code;

    fn settle(
        it: &mut UnackedTags<char>,
        tag: u64,
        multiple: bool,
    ) -> Result<Vec<(u64, char)>, Code> {
        let mut settled = Vec::new();
        it.settle(DeliveryTag(tag), multiple, &mut settled)
            .map_err(|error| error.code())?;
        Ok(settled
            .into_iter()
            .map(|(tag, value)| (tag.0, value))
            .collect())
    }

    fn with(values: &str) -> UnackedTags<char> {
        let mut it = UnackedTags::new();
        for value in values.chars() {
            it.deliver(value);
        }
        it
    }

    #[test]
    fn ack_of_a_known_tag_gives_its_value_and_of_a_used_one_is_406() {
        let mut it = with("abc");
        assert_eq!(settle(&mut it, 2, false), Ok(vec![(2, 'b')]));
        assert_eq!(settle(&mut it, 2, false), Err(Code::PreconditionFailed));
        assert_eq!(settle(&mut it, 2, true), Err(Code::PreconditionFailed));
        assert_eq!(settle(&mut it, 4, false), Err(Code::PreconditionFailed));
        assert_eq!(settle(&mut it, 0, false), Err(Code::PreconditionFailed));
        assert_eq!(settle(&mut it, 3, true), Ok(vec![(1, 'a'), (3, 'c')]));
        assert!(it.is_empty());
    }

    #[test]
    fn unknown_tag_is_named_in_the_error() {
        let error = UnackedTags::<()>::new()
            .settle(DeliveryTag(9), false, &mut Vec::new())
            .unwrap_err();
        assert_eq!(error.text(), "PRECONDITION_FAILED - unknown delivery tag 9");
    }

    #[test]
    fn tag_zero_with_multiple_settles_all_even_if_there_are_none() {
        let mut it = with("ab");
        assert_eq!(settle(&mut it, 0, true), Ok(vec![(1, 'a'), (2, 'b')]));
        assert_eq!(settle(&mut it, 0, true), Ok(vec![]));
    }

    #[test]
    fn numbers_go_on_over_deliveries_without_ack() {
        let mut it = UnackedTags::new();
        assert_eq!(it.deliver('a'), DeliveryTag(1));
        assert_eq!(it.next_tag(), DeliveryTag(2));
        assert_eq!(it.deliver('c'), DeliveryTag(3));
        assert_eq!(settle(&mut it, 2, false), Err(Code::PreconditionFailed));
        assert_eq!(settle(&mut it, 3, true), Ok(vec![(1, 'a'), (3, 'c')]));
    }

    #[test]
    fn one_old_delivery_does_not_keep_the_space_of_all_later_ones() {
        let mut it = with("a");
        for _ in 0..100_000 {
            let tag = it.deliver('x');
            assert!(settle(&mut it, tag.0, false).is_ok());
        }
        assert_eq!(it.len(), 1);
        assert!(it.entries.len() <= HOLES_MIN + 2);
    }

    proptest! {
        #[test]
        fn behaves_like_a_map_of_tags(steps in vec((0u8..7, 0u64..200), 0..400)) {
            let (mut it, mut model, mut next) = (UnackedTags::new(), BTreeMap::new(), 1u64);
            for (step, number) in steps {
                match step {
                    0 | 1 => {
                        model.insert(next, 'v');
                        prop_assert_eq!(it.deliver('v'), DeliveryTag(next));
                        next += 1;
                    }
                    2 => next = it.next_tag().0 + 1,
                    6 => {
                        let tag = 1 + number % next;
                        if tag < next {
                            it.restore(DeliveryTag(tag), 'v');
                            model.insert(tag, 'v');
                        }
                    }
                    3 => {
                        let taken = it.take_if(|tag, _| tag.0 % 7 == number % 7);
                        model.retain(|tag, _| tag % 7 != number % 7);
                        prop_assert!(taken.iter().all(|(tag, _)| tag.0 % 7 == number % 7));
                    }
                    _ => {
                        let multiple = step == 5;
                        let want = if model.contains_key(&number) {
                            let tags: Vec<u64> = if multiple {
                                model.range(..=number).map(|(tag, _)| *tag).collect()
                            } else {
                                vec![number]
                            };
                            Ok(tags.into_iter().map(|tag| (tag, model.remove(&tag).unwrap())).collect())
                        } else if number == 0 && multiple {
                            Ok(std::mem::take(&mut model).into_iter().collect())
                        } else {
                            Err(Code::PreconditionFailed)
                        };
                        prop_assert_eq!(settle(&mut it, number, multiple), want);
                    }
                }
                prop_assert_eq!(it.len(), model.len());
                prop_assert!(it.iter().map(|(tag, _)| tag.0).eq(model.keys().copied()));
            }
        }
    }
}
