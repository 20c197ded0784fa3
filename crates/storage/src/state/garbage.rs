//! Whether compactions also write living blobs again, so that files with dead ones can go. Files of which all blobs are dead go by
//! themselves, and queues mostly leave such files; so it is done only while much is dead. Not here: what is dead (RocksDB counts it when
//! it compacts the keys).

use rocksdb::DB;

use super::database::column_family;
use super::error::StateError;
use super::layout::BLOCKS;

/// Less than this in dead blobs is left alone.
const GARBAGE_MIN: u64 = 64 << 20;
const SWITCH: &str = "enable_blob_garbage_collection";
const FILES: &str = "rocksdb.live-blob-file-size";
const GARBAGE: &str = "rocksdb.live-blob-file-garbage-size";

/// Bytes of the blob files that hold something alive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct BlobFiles {
    pub(super) bytes: u64,
    /// Those of them that are of dead blobs.
    pub(super) garbage: u64,
}

impl BlobFiles {
    pub(super) fn of(database: &DB) -> Result<Self, rocksdb::Error> {
        let family = column_family(database, BLOCKS);
        let value = |name| database.property_int_value_cf(family, name);
        Ok(Self {
            bytes: value(FILES)?.unwrap_or(0),
            garbage: value(GARBAGE)?.unwrap_or(0),
        })
    }

    /// From half dead on, until a quarter is: what is alive is not written again and again for little.
    fn asks_for_collection(self, collecting: bool) -> bool {
        let share = if collecting { 4 } else { 2 };
        self.garbage >= GARBAGE_MIN && self.garbage.saturating_mul(share) >= self.bytes
    }
}

/// Begins or ends to collect, as the files ask for it. `collecting`: whether it is done; `None` if that is not known.
///
/// # Errors
/// RocksDB's. It may have changed all the same: RocksDB writes its options down last.
pub(super) fn tend(database: &DB, collecting: &mut Option<bool>) -> Result<(), StateError> {
    let files = BlobFiles::of(database).map_err(failed)?;
    let wanted = files.asks_for_collection(collecting.unwrap_or(true));
    if *collecting != Some(wanted) {
        *collecting = None;
        let family = column_family(database, BLOCKS);
        let value = if wanted { "true" } else { "false" };
        database
            .set_options_cf(family, &[(SWITCH, value)])
            .map_err(failed)?;
        *collecting = Some(wanted);
        tracing::info!(
            collecting = wanted,
            bytes = files.bytes,
            garbage = files.garbage,
            "living message blocks are written again to free what dead ones hold, or no more"
        );
    }
    Ok(())
}

pub(super) fn failed(error: rocksdb::Error) -> StateError {
    StateError::Failed(error.into_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collection_begins_at_half_and_ends_at_a_quarter() {
        let files = |bytes: u64, garbage: u64| BlobFiles {
            bytes: bytes << 20,
            garbage: garbage << 20,
        };
        assert!(!files(100, 49).asks_for_collection(false));
        assert!(!files(1_000, 499).asks_for_collection(false));
        assert!(files(1_000, 500).asks_for_collection(false));
        assert!(files(1_000, 250).asks_for_collection(true));
        assert!(!files(1_000, 249).asks_for_collection(true));
        assert!(!files(100, 63).asks_for_collection(true));
        assert!(!files(0, 0).asks_for_collection(true));
    }
}
