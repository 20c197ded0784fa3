//! The highest acknowledged index of each group, kept in a file apart from the log. Not here: who compares (`open`), the log itself.
//!
//! Recovery of a log ends at its first bad record, for that is how a torn write looks. A log that ends before what was acknowledged has forgotten
//! something a majority may count on; only a mark that the log's own recovery does not touch can show it.
//!
//! A group has one slot of two copies, written in turn; the one with the higher sequence counts, so a torn write leaves the other.
//! Marks are written after the log's sync and synced every few seconds: they may lag, never lead. They are lowered, and synced,
//! before a truncation reaches the log.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use warren_types::{GroupId, LogIndex};

use super::disk::{Disk, DiskFile, read_full, write_all};
use crate::files::{checksum, take_u32, take_u64};

const COPY_BYTES: usize = 32;
const SLOT_BYTES: usize = 2 * COPY_BYTES;

#[derive(Debug)]
struct Slot {
    /// Number of the slot in the file.
    number: u64,
    sequence: u64,
    /// What is in the file.
    written: LogIndex,
    /// What should be.
    wanted: LogIndex,
}

pub(super) struct Acked {
    file: Arc<dyn DiskFile>,
    slots: BTreeMap<GroupId, Slot>,
    slot_count: u64,
    unsynced: bool,
}

impl Acked {
    pub(super) fn open(disk: &dyn Disk, path: &Path) -> io::Result<Self> {
        let file = match disk.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = disk.create(path)?;
                file.sync()?;
                path.parent()
                    .map_or(Ok(()), |dir| disk.sync_directory(dir))?;
                file
            }
            opened => opened?,
        };
        let bytes = usize::try_from(file.size()?).map_err(io::Error::other)?;
        let mut bytes = vec![0; bytes];
        read_full(&*file, &mut bytes, 0)?;
        let (slots, slot_count) = slots_in(&bytes);
        Ok(Self {
            file,
            slots,
            slot_count,
            unsynced: false,
        })
    }

    /// The marks as they are in the file.
    pub(super) fn marks(&self) -> BTreeMap<GroupId, LogIndex> {
        self.slots
            .iter()
            .map(|(group, slot)| (*group, slot.written))
            .collect()
    }

    /// Remembers that entries up to `index` were acknowledged; written by the next [`write`](Self::write).
    pub(super) fn raise(&mut self, group: GroupId, index: LogIndex) {
        let slot = self.slot(group);
        slot.wanted = slot.wanted.max(index);
    }

    /// Lowers a mark for a truncation; must be synced before the truncation is written. True if the file has to change.
    pub(super) fn lower(&mut self, group: GroupId, index: LogIndex) -> bool {
        let Some(slot) = self.slots.get_mut(&group) else {
            return false;
        };
        slot.wanted = slot.wanted.min(index);
        slot.written > slot.wanted
    }

    pub(super) fn is_behind(&self) -> bool {
        self.slots.values().any(|slot| slot.wanted != slot.written)
    }

    pub(super) fn is_unsynced(&self) -> bool {
        self.unsynced
    }

    /// Writes the marks that changed, without a sync.
    pub(super) fn write(&mut self) -> io::Result<()> {
        for (&group, slot) in self
            .slots
            .iter_mut()
            .filter(|(_, slot)| slot.wanted != slot.written)
        {
            let sequence = slot.sequence + 1;
            let offset = slot.number * SLOT_BYTES as u64 + (sequence % 2) * COPY_BYTES as u64;
            let copy = encode(&Copy {
                sequence,
                group,
                index: slot.wanted,
            });
            write_all(&*self.file, &mut [IoSlice::new(&copy)], offset)?;
            slot.sequence = sequence;
            slot.written = slot.wanted;
            self.unsynced = true;
        }
        Ok(())
    }

    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.write()?;
        if self.unsynced {
            self.file.sync()?;
            self.unsynced = false;
        }
        Ok(())
    }

    fn slot(&mut self, group: GroupId) -> &mut Slot {
        let count = &mut self.slot_count;
        self.slots.entry(group).or_insert_with(|| {
            let number = *count;
            *count += 1;
            Slot {
                number,
                sequence: 0,
                written: LogIndex(0),
                wanted: LogIndex(0),
            }
        })
    }
}

/// The slots of a file and how many it has.
fn slots_in(bytes: &[u8]) -> (BTreeMap<GroupId, Slot>, u64) {
    let mut slots = BTreeMap::new();
    let mut slot_count = 0;
    for (number, slot) in (0..).zip(bytes.chunks(SLOT_BYTES)) {
        let best = slot
            .chunks(COPY_BYTES)
            .filter_map(decode)
            .max_by_key(|copy| copy.sequence);
        // A slot without a valid copy is either the torn first write of a group's first mark, which then was not synced,
        // or rot of both copies. The former must not stop a node; the index in the log is checked by its own checksums.
        if let Some(Copy {
            sequence,
            group,
            index,
        }) = best
        {
            let found = Slot {
                number,
                sequence,
                written: index,
                wanted: index,
            };
            slots.insert(group, found);
        }
        slot_count = number + 1;
    }
    (slots, slot_count)
}

/// The marks in a file's bytes.
pub(super) fn marks_in(bytes: &[u8]) -> BTreeMap<GroupId, LogIndex> {
    let (slots, _) = slots_in(bytes);
    slots
        .into_iter()
        .map(|(group, slot)| (group, slot.written))
        .collect()
}

/// Offsets of copies that were written and do not match their checksum.
pub(super) fn bad_copies(bytes: &[u8]) -> Vec<u64> {
    let copies = (0..).step_by(COPY_BYTES).zip(bytes.chunks(COPY_BYTES));
    let written = copies.filter(|(_, copy)| copy.iter().any(|byte| *byte != 0));
    let bad = written.filter(|(_, copy)| decode(copy).is_none_or(|it| encode(&it) != *copy));
    bad.map(|(offset, _)| offset).collect()
}

struct Copy {
    sequence: u64,
    group: GroupId,
    index: LogIndex,
}

fn encode(copy: &Copy) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(COPY_BYTES);
    bytes.extend_from_slice(&copy.sequence.to_be_bytes());
    bytes.extend_from_slice(&copy.group.0.to_be_bytes());
    bytes.extend_from_slice(&copy.index.0.to_be_bytes());
    let sum = checksum(&[&bytes]);
    bytes.extend_from_slice(&sum.to_be_bytes());
    bytes.resize(COPY_BYTES, 0);
    bytes
}

fn decode(bytes: &[u8]) -> Option<Copy> {
    let content = bytes.get(..20)?;
    let mut rest = bytes;
    let copy = Copy {
        sequence: take_u64(&mut rest)?,
        group: GroupId(take_u32(&mut rest)?),
        index: LogIndex(take_u64(&mut rest)?),
    };
    (take_u32(&mut rest)? == checksum(&[content])).then_some(copy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::disk::RealDisk;

    #[test]
    fn marks_survive_reopen_and_a_torn_last_write() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("acked");
        let mut acked = Acked::open(&RealDisk, &path).unwrap();
        for index in 1..=5 {
            acked.raise(GroupId(1), LogIndex(index));
            acked.raise(GroupId(9), LogIndex(index * 10));
            acked.write().unwrap();
        }
        acked.sync().unwrap();
        drop(acked);
        let marks = Acked::open(&RealDisk, &path).unwrap().marks();
        assert_eq!(
            marks,
            BTreeMap::from([(GroupId(1), LogIndex(5)), (GroupId(9), LogIndex(50))])
        );

        // Sequence 5 lies in the second copy of the first slot: tear it and sequence 4 counts.
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[COPY_BYTES + 3] ^= 0xff;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(
            Acked::open(&RealDisk, &path).unwrap().marks()[&GroupId(1)],
            LogIndex(4)
        );
    }

    #[test]
    fn lowered_mark_wins_over_the_higher_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("acked");
        let mut acked = Acked::open(&RealDisk, &path).unwrap();
        acked.raise(GroupId(1), LogIndex(7));
        acked.sync().unwrap();
        assert!(!acked.lower(GroupId(1), LogIndex(7)));
        assert!(acked.lower(GroupId(1), LogIndex(3)));
        acked.sync().unwrap();
        assert_eq!(
            Acked::open(&RealDisk, &path).unwrap().marks()[&GroupId(1)],
            LogIndex(3)
        );
    }
}
