//! A routing key's words, and sets of places between them. Not here: patterns (`trie`).

use std::cell::OnceCell;

/// A key of 255 bytes has at most 256 words, and so 257 places.
const PLACES: usize = 257;
const BITS: usize = u64::BITS as usize;
const PARTS: usize = PLACES.div_ceil(BITS);

/// Places in a key, as a bit set: place `n` is before word `n`, the last one is the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Positions {
    bits: [u64; PARTS],
}

impl Positions {
    pub(super) fn one(place: usize) -> Self {
        let mut it = Self::default();
        it.insert(place);
        it
    }

    fn insert(&mut self, place: usize) {
        if let Some(part) = self.bits.get_mut(place / BITS) {
            *part |= 1 << (place % BITS);
        }
    }

    pub(super) fn contains(self, place: usize) -> bool {
        let part = self.bits.get(place / BITS).copied().unwrap_or_default();
        part & (1 << (place % BITS)) != 0
    }

    pub(super) fn is_empty(self) -> bool {
        self.bits == [0; PARTS]
    }

    fn lowest(self) -> Option<usize> {
        let mut base = 0;
        for part in self.bits {
            if part != 0 {
                return Some(base + usize::try_from(part.trailing_zeros()).unwrap_or(0));
            }
            base += BITS;
        }
        None
    }

    /// The place, if it is the only one.
    pub(super) fn single(self) -> Option<usize> {
        let count: u32 = self.bits.iter().map(|part| part.count_ones()).sum();
        if count == 1 { self.lowest() } else { None }
    }

    fn and(mut self, other: Self) -> Self {
        for (part, other) in self.bits.iter_mut().zip(other.bits) {
            *part &= other;
        }
        self
    }

    /// Each one place further.
    fn after(mut self) -> Self {
        let mut carry = 0;
        for part in &mut self.bits {
            let next = *part >> (BITS - 1);
            *part = *part << 1 | carry;
            carry = next;
        }
        self
    }

    /// Every place from the lowest one to `end`.
    pub(super) fn and_on(self, end: usize) -> Self {
        let mut all = Self::default();
        if let Some(lowest) = self.lowest() {
            for place in lowest..=end {
                all.insert(place);
            }
        }
        all
    }
}

/// A routing key, split. An empty one has no words (features B4).
pub(super) struct Words<'k> {
    words: Vec<&'k str>,
    /// Each distinct word, in order, with the places before it; made when a pattern needs it.
    groups: OnceCell<Vec<(&'k str, Positions)>>,
}

impl<'k> Words<'k> {
    pub(super) fn new(key: &'k str) -> Self {
        let words = if key.is_empty() {
            Vec::new()
        } else {
            key.split('.').collect()
        };
        Self {
            words,
            groups: OnceCell::new(),
        }
    }

    /// The last place.
    pub(super) fn end(&self) -> usize {
        self.words.len()
    }

    pub(super) fn word(&self, place: usize) -> Option<&'k str> {
        self.words.get(place).copied()
    }

    pub(super) fn groups(&self) -> &[(&'k str, Positions)] {
        self.groups.get_or_init(|| {
            let mut placed: Vec<(&str, usize)> = self.words.iter().copied().zip(0..).collect();
            placed.sort_unstable();
            let mut groups: Vec<(&str, Positions)> = Vec::new();
            for (word, place) in placed {
                match groups.last_mut() {
                    Some((known, places)) if *known == word => places.insert(place),
                    _ => groups.push((word, Positions::one(place))),
                }
            }
            groups
        })
    }

    /// The places after `word`, from those in `at`.
    pub(super) fn after_word(&self, at: Positions, word: &str) -> Positions {
        if let Some(place) = at.single() {
            return match self.word(place) {
                Some(found) if found == word => Positions::one(place + 1),
                Some(_) | None => Positions::default(),
            };
        }
        let groups = self.groups();
        match groups.binary_search_by(|(it, _)| (*it).cmp(word)) {
            Ok(found) => groups
                .get(found)
                .map_or_else(Positions::default, |(_, places)| at.and(*places).after()),
            Err(_) => Positions::default(),
        }
    }

    /// The places after `places`, of those that are in `at`.
    pub(super) fn after_places(at: Positions, places: Positions) -> Positions {
        at.and(places).after()
    }

    /// The places after any one word.
    pub(super) fn after_any(&self, at: Positions) -> Positions {
        let mut next = at.after();
        let beyond = self.end() + 1;
        if let Some(part) = next.bits.get_mut(beyond / BITS) {
            *part &= !(1 << (beyond % BITS));
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_move_over_the_edges_of_parts() {
        let key = vec!["w"; 256].join(".");
        assert_eq!(key.len(), 511);
        let key = ".".repeat(255);
        let words = Words::new(&key);
        assert_eq!(words.end(), 256);
        for place in [0, 63, 64, 127, 255] {
            assert_eq!(
                words.after_any(Positions::one(place)),
                Positions::one(place + 1)
            );
        }
        assert!(words.after_any(Positions::one(256)).is_empty());
        assert_eq!(Positions::one(250).and_on(256).single(), None);
        assert_eq!(Positions::one(256).and_on(256).single(), Some(256));
    }

    #[test]
    fn empty_key_has_no_words_and_a_dot_two_empty_ones() {
        assert_eq!(Words::new("").end(), 0);
        assert_eq!(Words::new(".").end(), 2);
    }
}
