//! Which messages were confirmed and which arrived: what was lost, came twice, or came out of order. Not here: what is allowed
//! (a duplicate that is flagged redelivered is).

use std::collections::{BTreeMap, HashMap};

/// A set of sequence numbers.
#[derive(Debug, Default)]
struct Numbers {
    words: Vec<u64>,
}

impl Numbers {
    /// Answers whether it is new.
    fn insert(&mut self, number: u64) -> bool {
        let word = usize::try_from(number / 64).unwrap_or(usize::MAX - 1);
        let bit = 1_u64 << (number % 64);
        if self.words.len() <= word {
            self.words.resize(word + 1 + word / 2, 0);
        }
        let Some(slot) = self.words.get_mut(word) else {
            return false;
        };
        let is_new = *slot & bit == 0;
        *slot |= bit;
        is_new
    }

    fn len(&self) -> u64 {
        self.words.iter().map(|it| u64::from(it.count_ones())).sum()
    }

    /// How many are in here and not in `other`.
    fn without(&self, other: &Self) -> u64 {
        let theirs = other.words.iter().copied().chain(std::iter::repeat(0));
        let pairs = self.words.iter().zip(theirs);
        pairs
            .map(|(mine, theirs)| u64::from((mine & !theirs).count_ones()))
            .sum()
    }
}

#[derive(Debug, Default)]
struct Publisher {
    confirmed: Numbers,
    seen: Numbers,
}

/// What is known about one queue's messages.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    publishers: BTreeMap<u32, Publisher>,
    /// Highest sequence by consumer and publisher.
    last: BTreeMap<(usize, u32), u64>,
    duplicates: u64,
    duplicates_redelivered: u64,
    out_of_order: u64,
    is_unordered: bool,
}

/// The judgement.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub(super) struct Verdict {
    pub(super) confirmed: u64,
    pub(super) unique: u64,
    pub(super) lost: u64,
    pub(super) unconfirmed_seen: u64,
    /// Came twice and the second was not flagged redelivered.
    pub(super) duplicates: u64,
    pub(super) duplicates_redelivered: u64,
    pub(super) out_of_order: u64,
}

/// One arrival.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub(super) consumer: usize,
    pub(super) publisher: u32,
    pub(super) sequence: u64,
    pub(super) redelivered: bool,
}

/// The last message of each key, by queue, publisher and key, whichever consumer got it.
#[derive(Debug, Default)]
pub(super) struct KeyOrder {
    last: HashMap<(usize, u32, u64), u64>,
    breaches: u64,
}

impl KeyOrder {
    pub(super) fn arrived<'a>(
        &mut self,
        arrivals: impl Iterator<Item = ((usize, u32, u64), &'a Arrival)>,
    ) {
        for (key, it) in arrivals {
            let last = self.last.entry(key).or_default();
            if it.sequence <= *last && !it.redelivered {
                self.breaches += 1;
            }
            *last = (*last).max(it.sequence);
        }
    }

    pub(super) fn breaches(&self) -> u64 {
        self.breaches
    }
}

impl Ledger {
    /// Of messages that need not come in the order in which they were published.
    pub(super) fn unordered() -> Self {
        Self {
            is_unordered: true,
            ..Self::default()
        }
    }

    pub(super) fn confirmed(&mut self, publisher: u32, sequence: u64) {
        let publisher = self.publishers.entry(publisher).or_default();
        publisher.confirmed.insert(sequence);
    }

    pub(super) fn arrived(&mut self, it: Arrival) {
        let publisher = self.publishers.entry(it.publisher).or_default();
        if !publisher.seen.insert(it.sequence) {
            if it.redelivered {
                self.duplicates_redelivered += 1;
            } else {
                self.duplicates += 1;
            }
            return;
        }
        let last = self.last.entry((it.consumer, it.publisher)).or_default();
        if it.sequence <= *last && !it.redelivered && !self.is_unordered {
            self.out_of_order += 1;
        }
        *last = (*last).max(it.sequence);
    }

    pub(super) fn add_to(&self, verdict: &mut Verdict) {
        verdict.duplicates += self.duplicates;
        verdict.duplicates_redelivered += self.duplicates_redelivered;
        verdict.out_of_order += self.out_of_order;
        for it in self.publishers.values() {
            verdict.confirmed += it.confirmed.len();
            verdict.unique += it.seen.len();
            verdict.lost += it.confirmed.without(&it.seen);
            verdict.unconfirmed_seen += it.seen.without(&it.confirmed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_of_keys_is_judged_over_all_consumers() {
        let mut order = KeyOrder::default();
        let mut arrive = |consumer, key, sequence, redelivered| {
            let arrival = Arrival {
                consumer,
                publisher: 7,
                sequence,
                redelivered,
            };
            order.arrived([((0, 7, key), &arrival)].into_iter());
            order.breaches()
        };
        assert_eq!(arrive(0, 1, 5, false), 0);
        assert_eq!(arrive(1, 2, 2, false), 0);
        assert_eq!(arrive(1, 1, 6, false), 0);
        assert_eq!(arrive(0, 1, 6, true), 0);
        assert_eq!(arrive(0, 1, 3, false), 1);
    }

    #[test]
    fn ledger_counts_what_was_lost_doubled_and_out_of_order() {
        let mut ledger = Ledger::default();
        for sequence in 1..=100 {
            ledger.confirmed(7, sequence);
        }
        let mut arrive = |sequence, redelivered| {
            ledger.arrived(Arrival {
                consumer: 0,
                publisher: 7,
                sequence,
                redelivered,
            });
        };
        arrive(1, false);
        arrive(3, false);
        arrive(2, false);
        arrive(3, false);
        arrive(1, true);
        arrive(500, false);
        let mut verdict = Verdict::default();
        ledger.add_to(&mut verdict);
        let expected = Verdict {
            confirmed: 100,
            unique: 4,
            lost: 97,
            unconfirmed_seen: 1,
            duplicates: 1,
            duplicates_redelivered: 1,
            out_of_order: 1,
        };
        assert_eq!(verdict, expected);
    }
}
