//! What nodes have sent: each batch of each node is taken once, in order. Not here: what a batch's messages do (`command::enqueue`).
//!
//! One row per node incarnation. There are as many as nodes (and wiped disks) the cluster ever had; none is forgotten,
//! since a forgotten one could send an old batch again.

use std::collections::BTreeMap;

use warren_types::{BatchSequence, Incarnation, NotStored, Position, Run};

use super::apply::Note;
use super::limits::{
    EXCEPTIONS_MAX, ORIGIN_BATCHES_REMEMBERED, PHANTOMS_MAX, PLACED_BATCHES_REMEMBERED, PLACES_MAX,
};
use super::{Store, digest};
use crate::entry::{OriginBatch, OriginPart};
use crate::outcome::{BatchOutcome, BatchVerdict};
use crate::rows::{Change, OriginRow, Row, RowKey};

#[derive(Debug, Default)]
pub(super) struct Origins {
    rows: BTreeMap<Incarnation, Origin>,
    digest: u64,
    /// Rows the current entry changed, each once.
    touched: Vec<Incarnation>,
}

#[derive(Debug)]
struct Origin {
    row: OriginRow,
    digest: u64,
    touched: bool,
}

/// Decided before the commands run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judgement {
    Taken,
    /// Taken before: what was recorded then is looked up after the commands ran, it may be from this very entry.
    Duplicate,
    Gap {
        last: BatchSequence,
    },
    OldRun {
        current: Run,
    },
}

/// Messages of batches that are not taken: they are absent from their blocks.
#[derive(Debug, Default)]
pub(super) struct Refused {
    /// Ascending by command.
    parts: Vec<OriginPart>,
}

impl Refused {
    pub(super) fn of(&self, command: usize) -> &[OriginPart] {
        let Ok(command) = u32::try_from(command) else {
            return &[];
        };
        let from = self.parts.partition_point(|part| part.command < command);
        let to = self.parts.partition_point(|part| part.command <= command);
        self.parts.get(from..to).unwrap_or_default()
    }
}

impl Store {
    /// The run and last batch taken of a node; zeros if it never sent any.
    #[must_use]
    pub fn last_batch(&self, incarnation: Incarnation) -> (Run, BatchSequence) {
        self.origins
            .rows
            .get(&incarnation)
            .map_or((Run(0), BatchSequence(0)), |origin| {
                (origin.row.run, origin.row.last)
            })
    }

    /// What a batch that comes again would be told. One that is not taken yet, the very next one included, is a `Gap`.
    #[must_use]
    pub fn recorded(
        &self,
        incarnation: Incarnation,
        run: Run,
        sequence: BatchSequence,
    ) -> BatchVerdict {
        self.origins.recorded(incarnation, run, sequence)
    }
}

impl Origins {
    pub(super) fn open(rows: Vec<(Incarnation, OriginRow)>) -> Self {
        let mut origins = Self::default();
        for (incarnation, row) in rows {
            let digest = digest::of_origin(incarnation, &row);
            origins.digest = origins.digest.wrapping_add(digest);
            origins.rows.insert(
                incarnation,
                Origin {
                    row,
                    digest,
                    touched: false,
                },
            );
        }
        origins
    }

    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    /// Takes the batches that are next, and names the messages of the others.
    pub(super) fn judge(&mut self, batches: &[OriginBatch]) -> (Vec<Judgement>, Refused) {
        let mut refused = Refused::default();
        let judgements = batches
            .iter()
            .map(|batch| {
                let judgement = self.judge_one(batch);
                if judgement != Judgement::Taken {
                    refused.parts.extend_from_slice(&batch.parts);
                }
                judgement
            })
            .collect();
        refused
            .parts
            .sort_unstable_by_key(|part| (part.command, part.first));
        (judgements, refused)
    }

    fn judge_one(&mut self, batch: &OriginBatch) -> Judgement {
        let known = self
            .rows
            .get(&batch.incarnation)
            .map(|origin| (origin.row.run, origin.row.last));
        let last = match known {
            Some((run, _)) if batch.run < run => return Judgement::OldRun { current: run },
            Some((run, last)) if batch.run == run => last,
            Some(_) | None => BatchSequence(0), // a newer run begins
        };
        if batch.sequence <= last {
            return Judgement::Duplicate;
        }
        if batch.sequence.0 - last.0 != 1 {
            return Judgement::Gap { last };
        }
        self.take(batch);
        Judgement::Taken
    }

    fn take(&mut self, batch: &OriginBatch) {
        let new_row = || OriginRow {
            run: batch.run,
            last: BatchSequence(0),
            exceptions: Vec::new(),
            remembered_from: BatchSequence(1),
            places: Vec::new(),
        };
        let origin = self
            .rows
            .entry(batch.incarnation)
            .or_insert_with(|| Origin {
                row: new_row(),
                digest: 0,
                touched: false,
            });
        if origin.row.run != batch.run {
            origin.row = new_row();
        }
        origin.row.last = batch.sequence;
        if !origin.touched {
            origin.touched = true;
            self.touched.push(batch.incarnation);
        }
    }

    /// The answers to the batches of an entry whose commands have run.
    pub(super) fn conclude(
        &mut self,
        batches: Vec<OriginBatch>,
        judgements: Vec<Judgement>,
        notes: &[Note],
    ) -> Vec<BatchOutcome> {
        let mut outcomes = Vec::with_capacity(batches.len());
        for (batch, judgement) in batches.into_iter().zip(judgements) {
            let verdict = match judgement {
                Judgement::Taken => {
                    let exceptions = exceptions_of(&batch.parts, notes);
                    let places = places_of(&batch.parts, notes);
                    self.record(&batch, &exceptions, &places);
                    BatchVerdict::Taken { exceptions, places }
                }
                Judgement::Duplicate => self.recorded(batch.incarnation, batch.run, batch.sequence),
                Judgement::Gap { last } => BatchVerdict::Gap { last },
                Judgement::OldRun { current } => BatchVerdict::OldRun { current },
            };
            let OriginBatch {
                incarnation,
                run,
                sequence,
                parts: _,
            } = batch;
            outcomes.push(BatchOutcome {
                incarnation,
                run,
                sequence,
                verdict,
            });
        }
        outcomes
    }

    fn record(
        &mut self,
        batch: &OriginBatch,
        exceptions: &[(u32, NotStored)],
        places: &[Position],
    ) {
        let Some(origin) = self
            .rows
            .get_mut(&batch.incarnation)
            .filter(|origin| origin.row.run == batch.run)
        else {
            return; // a newer run began in the same entry
        };
        if !exceptions.is_empty() {
            origin
                .row
                .exceptions
                .push((batch.sequence, exceptions.to_vec()));
        }
        if !places.is_empty() {
            origin.row.places.push((batch.sequence, places.to_vec()));
        }
        origin.row.forget_old();
        origin.row.forget_old_places();
    }

    fn recorded(
        &self,
        incarnation: Incarnation,
        run: Run,
        sequence: BatchSequence,
    ) -> BatchVerdict {
        let Some(row) = self
            .rows
            .get(&incarnation)
            .map(|origin| &origin.row)
            .filter(|row| row.run >= run)
        else {
            return BatchVerdict::Gap {
                last: BatchSequence(0),
            };
        };
        if row.run > run {
            return BatchVerdict::OldRun { current: row.run };
        }
        if sequence > row.last {
            return BatchVerdict::Gap { last: row.last };
        }
        if sequence < row.remembered_from {
            return BatchVerdict::DuplicateForgotten;
        }
        BatchVerdict::Duplicate {
            exceptions: of_batch(&row.exceptions, sequence),
            places: of_batch(&row.places, sequence),
        }
    }

    pub(super) fn flush(&mut self, changes: &mut Vec<Change>) {
        for incarnation in self.touched.drain(..) {
            let Some(origin) = self.rows.get_mut(&incarnation) else {
                continue;
            };
            origin.touched = false;
            let before = origin.digest;
            origin.digest = digest::of_origin(incarnation, &origin.row);
            self.digest = self.digest.wrapping_sub(before).wrapping_add(origin.digest);
            changes.push(Change::Put(
                RowKey::Origin(incarnation),
                Row::Origin(origin.row.clone()),
            ));
        }
    }
}

impl OriginRow {
    fn forget_old(&mut self) {
        let window = BatchSequence((self.last.0 + 1).saturating_sub(ORIGIN_BATCHES_REMEMBERED));
        self.remembered_from = self.remembered_from.max(window);
        let mut total: usize = self.exceptions.iter().map(|(_, list)| list.len()).sum();
        let mut forgotten = 0;
        for (sequence, list) in &self.exceptions {
            let over = total > EXCEPTIONS_MAX && *sequence != self.last;
            if !over && *sequence >= self.remembered_from {
                break;
            }
            if over {
                self.remembered_from = self.remembered_from.max(BatchSequence(sequence.0 + 1));
            }
            total -= list.len();
            forgotten += 1;
        }
        self.exceptions.drain(..forgotten);
    }

    fn forget_old_places(&mut self) {
        let window = (self.last.0 + 1).saturating_sub(PLACED_BATCHES_REMEMBERED);
        let mut total: usize = self.places.iter().map(|(_, list)| list.len()).sum();
        let mut forgotten = 0;
        for (sequence, list) in &self.places {
            let over = total > PLACES_MAX && *sequence != self.last;
            if !over && sequence.0 >= window {
                break;
            }
            total -= list.len();
            forgotten += 1;
        }
        self.places.drain(..forgotten);
    }
}

/// What is listed of a batch.
fn of_batch<T: Clone>(lists: &[(BatchSequence, Vec<T>)], sequence: BatchSequence) -> Vec<T> {
    let found = lists.binary_search_by_key(&sequence, |(sequence, _)| *sequence);
    let found = found.ok().and_then(|at| lists.get(at));
    found.map_or(Vec::new(), |(_, list)| list.clone())
}

/// Where the first message of each part is, if one of the blocks has scheduled messages; else nothing.
fn places_of(parts: &[OriginPart], notes: &[Note]) -> Vec<Position> {
    let place = |part: &OriginPart| match notes.get(part.command as usize) {
        Some(Note::Block { places, .. }) => {
            let mut places = places.iter();
            let (indexes, first) = places.find(|(indexes, _)| indexes.contains(&part.first))?;
            Some(first.plus(u64::from(part.first - indexes.start)))
        }
        Some(Note::NoMessages | Note::Gone { .. }) | None => None,
    };
    if parts.iter().all(|part| place(part).is_none()) {
        return Vec::new();
    }
    let places = parts.iter().map(|part| place(part).unwrap_or(Position(0)));
    places.collect()
}

/// Which messages of a batch are not stored, and why: by index in the batch, ascending.
fn exceptions_of(parts: &[OriginPart], notes: &[Note]) -> Vec<(u32, NotStored)> {
    let mut exceptions = Vec::new();
    let mut base = 0_u32;
    for part in parts {
        let end = part.first.saturating_add(part.count);
        let note = notes
            .get(part.command as usize)
            .unwrap_or(&Note::NoMessages);
        let index = |at: u32| base.saturating_add(at - part.first);
        let there = match note {
            Note::NoMessages => 0,
            Note::Gone { count } => {
                exceptions.extend(
                    (part.first..end.min(*count)).map(|at| (index(at), NotStored::QueueGone)),
                );
                *count
            }
            Note::Block { count, absent, .. } => {
                let from = absent.partition_point(|(at, _)| *at < part.first);
                let of_part = absent.iter().skip(from).take_while(|(at, _)| *at < end);
                exceptions.extend(of_part.map(|(at, why)| (index(*at), *why)));
                *count
            }
        };
        let phantoms = part.first.max(there)..end;
        exceptions.extend(
            phantoms
                .take(PHANTOMS_MAX)
                .map(|at| (index(at), NotStored::BatchRefused)),
        );
        base = base.saturating_add(part.count);
    }
    exceptions
}
