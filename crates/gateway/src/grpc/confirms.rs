//! Results of published batches on their way to the client: gathered per batch, sent when a batch is complete, or in parts if that
//! takes long. Pure. Not here: what became of a message (`publish`), the stream (`publish_stream`).

use std::collections::VecDeque;

use warren_proto::convert::publish::committed;
use warren_proto::v1::{BatchConfirm, Confirms, PublishResult};

use crate::publish::PublishId;

/// A frame is closed when it holds so many named results.
const FRAME_RESULTS_MAX: usize = 1_000;
/// A frame is closed when it holds so many batches.
const FRAME_BATCHES_MAX: usize = 1_000;
/// Results that are known and not told; then the stream is not read. As many as the credit of a stream: a client that reads its results
/// does not get there, one that does not, and goes on without credit, must not fill the node with refusals.
const UNTOLD_MAX: usize = 20_000;

/// Names one message: its batch's slot, whether it is mandatory, its index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct EntryId {
    pub(super) slot: u32,
    pub(super) is_mandatory: bool,
    pub(super) index: u32,
}

const MANDATORY_BIT: u64 = 1 << 31;

impl From<EntryId> for PublishId {
    fn from(id: EntryId) -> Self {
        let mandatory = if id.is_mandatory { MANDATORY_BIT } else { 0 };
        Self(u64::from(id.slot) << 32 | mandatory | u64::from(id.index))
    }
}

impl From<PublishId> for EntryId {
    fn from(id: PublishId) -> Self {
        let low =
            |value: u64| u32::try_from(value & u64::from(u32::MAX)).expect("masked to 32 bits");
        Self {
            slot: low(id.0 >> 32),
            is_mandatory: id.0 & MANDATORY_BIT != 0,
            index: low(id.0 & (MANDATORY_BIT - 1)),
        }
    }
}

#[derive(Debug, Default)]
struct Batch {
    batch_ref: u64,
    /// Entries without a result.
    left: u32,
    /// Committed to one queue, not told yet.
    committed: Vec<u32>,
    /// Everything else that is not told yet.
    named: Vec<PublishResult>,
    /// What is known waits to be sent in part.
    is_partly_due: bool,
}

impl Batch {
    /// Its results that are not told.
    fn untold(&self) -> usize {
        self.committed.len() + self.named.len()
    }
}

/// The open batches of a stream.
#[derive(Debug, Default)]
pub(super) struct BatchResults {
    batches: Vec<Batch>,
    free: Vec<u32>,
    complete: VecDeque<u32>,
    /// Batches with results that are not told, not complete.
    partial: VecDeque<u32>,
    /// Results that are known and not told, and one for each complete batch.
    untold: usize,
}

impl BatchResults {
    /// Opens a batch; one without entries is complete at once.
    pub(super) fn open(&mut self, batch_ref: u64, entries: usize) -> u32 {
        let entries = u32::try_from(entries).expect("a message has fewer than 2^32 bytes");
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.batches.push(Batch::default());
                u32::try_from(self.batches.len() - 1).expect("bounded by the stream's credit")
            }
        };
        let batch = self.batch(slot).expect("the slot is free or new");
        batch.batch_ref = batch_ref;
        batch.left = entries;
        if entries == 0 {
            self.complete.push_back(slot);
            self.untold += 1;
        }
        slot
    }

    fn batch(&mut self, slot: u32) -> Option<&mut Batch> {
        self.batches.get_mut(usize::try_from(slot).ok()?)
    }

    /// One entry is committed to one queue, the common case.
    pub(super) fn committed_once(&mut self, slot: u32, index: u32) {
        let Some(batch) = self.batch(slot) else {
            return;
        };
        batch.committed.push(index);
        self.untold += 1;
        self.one_less(slot);
    }

    /// Any other result.
    pub(super) fn result(&mut self, slot: u32, result: PublishResult) {
        let Some(batch) = self.batch(slot) else {
            return;
        };
        batch.named.push(result);
        self.untold += 1;
        self.one_less(slot);
    }

    fn one_less(&mut self, slot: u32) {
        let Some(batch) = self.batch(slot) else {
            return;
        };
        batch.left = batch.left.saturating_sub(1);
        if batch.left == 0 {
            self.complete.push_back(slot);
            self.untold += 1;
        } else if !batch.is_partly_due {
            batch.is_partly_due = true;
            self.partial.push_back(slot);
        }
    }

    pub(super) fn has_complete(&self) -> bool {
        !self.complete.is_empty()
    }

    /// As many results as may wait for the client to read them.
    pub(super) fn is_full(&self) -> bool {
        self.untold >= UNTOLD_MAX
    }

    /// Batches of which results wait for the rest.
    pub(super) fn partial(&self) -> usize {
        self.partial.len()
    }

    /// The next frame: complete batches.
    pub(super) fn next_frame(&mut self) -> Option<Confirms> {
        let mut frame = Confirms::default();
        let mut results = 0;
        while results < FRAME_RESULTS_MAX && frame.batches.len() < FRAME_BATCHES_MAX {
            let Some(slot) = self.complete.pop_front() else {
                break;
            };
            let Some(batch) = self.batch(slot) else {
                continue;
            };
            let told = batch.untold() + 1;
            let named = std::mem::take(&mut batch.named);
            results += named.len();
            frame.batches.push(BatchConfirm {
                batch_ref: batch.batch_ref,
                all_committed: true,
                results: named,
            });
            // A batch that is listed as partial still must not take its place for its next user's.
            batch.committed.clear();
            if batch.is_partly_due {
                batch.is_partly_due = false;
                self.partial.retain(|it| *it != slot);
            }
            self.free.push(slot);
            self.untold -= told;
        }
        (!frame.batches.is_empty()).then_some(frame)
    }

    /// What is known of batches that are not complete, each result named; of so many batches at most, the oldest ones.
    pub(super) fn partial_frame(&mut self, batches: usize) -> Option<Confirms> {
        let mut frame = Confirms::default();
        let mut results = 0;
        for _ in 0..batches {
            if results >= FRAME_RESULTS_MAX {
                break;
            }
            let Some(slot) = self.partial.pop_front() else {
                break;
            };
            let Some(batch) = self.batch(slot) else {
                continue;
            };
            batch.is_partly_due = false;
            if batch.left == 0 {
                continue; // complete meanwhile
            }
            let told = batch.untold();
            let mut named = std::mem::take(&mut batch.named);
            named.extend(batch.committed.drain(..).map(|index| committed(index, 1)));
            results += named.len();
            frame.batches.push(BatchConfirm {
                batch_ref: batch.batch_ref,
                all_committed: false,
                results: named,
            });
            self.untold -= told;
        }
        (!frame.batches.is_empty()).then_some(frame)
    }
}

#[cfg(test)]
mod tests {
    use warren_proto::convert::publish::unrouted;

    use super::*;

    fn ids(results: &[PublishResult]) -> Vec<u32> {
        results.iter().map(|it| it.index).collect()
    }

    #[test]
    fn entry_id_survives_the_trip() {
        for (slot, is_mandatory, index) in [(0, false, 0), (u32::MAX, true, 999), (7, true, 0)] {
            let id = EntryId {
                slot,
                is_mandatory,
                index,
            };
            assert_eq!(EntryId::from(PublishId::from(id)), id);
        }
    }

    #[test]
    fn complete_batch_of_committed_entries_names_none() {
        let mut results = BatchResults::default();
        let slot = results.open(42, 2);
        results.committed_once(slot, 1);
        assert_eq!(results.next_frame(), None);
        results.committed_once(slot, 0);
        let frame = results.next_frame().unwrap();
        assert_eq!(
            frame.batches,
            vec![BatchConfirm {
                batch_ref: 42,
                all_committed: true,
                results: vec![]
            }]
        );
        assert_eq!(results.partial(), 0);
        assert_eq!(results.partial_frame(10), None);
    }

    #[test]
    fn batch_in_parts_names_each_entry_once() {
        let mut results = BatchResults::default();
        let slot = results.open(1, 4);
        results.committed_once(slot, 2);
        results.result(slot, unrouted(0));
        let part = results.partial_frame(10).unwrap();
        assert!(!part.batches[0].all_committed);
        assert_eq!(ids(&part.batches[0].results), vec![0, 2]);
        assert_eq!(results.partial_frame(10), None);
        results.committed_once(slot, 1);
        results.result(slot, unrouted(3));
        let rest = results.next_frame().unwrap();
        assert!(rest.batches[0].all_committed);
        assert_eq!(ids(&rest.batches[0].results), vec![3]);
    }

    #[test]
    fn slot_of_a_finished_batch_is_taken_again_clean() {
        let mut results = BatchResults::default();
        let first = results.open(1, 2);
        results.committed_once(first, 0);
        results.committed_once(first, 1);
        assert!(results.next_frame().is_some());
        let second = results.open(2, 2);
        assert_eq!(second, first);
        results.committed_once(second, 1);
        let part = results.partial_frame(10).unwrap();
        assert_eq!(
            (part.batches[0].batch_ref, ids(&part.batches[0].results)),
            (2, vec![1])
        );
    }

    #[test]
    fn results_that_nobody_reads_fill_it_and_telling_them_makes_room() {
        let mut results = BatchResults::default();
        let mut batch_ref = 0;
        let mut slots = Vec::new();
        while !results.is_full() {
            batch_ref += 1;
            let slot = results.open(batch_ref, 3);
            results.result(slot, unrouted(0));
            results.committed_once(slot, 1);
            slots.push(slot);
        }
        assert!(slots.len() > UNTOLD_MAX / 4);
        while results.partial_frame(usize::MAX).is_some() {}
        assert_eq!(results.untold, 0);
        for slot in slots {
            results.committed_once(slot, 2);
        }
        while results.next_frame().is_some() {}
        assert_eq!(results.untold, 0);
        while !results.is_full() {
            results.open(0, 0);
        }
        while results.next_frame().is_some() {}
        assert_eq!(results.untold, 0);
    }

    #[test]
    fn batch_without_entries_is_answered() {
        let mut results = BatchResults::default();
        results.open(5, 0);
        assert!(results.has_complete());
        assert_eq!(results.next_frame().unwrap().batches.len(), 1);
    }
}
