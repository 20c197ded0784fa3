//! Opening: RocksDB's settings for the log, and what a group's log holds. Not here: writing (`writer`).

use std::path::Path;
use std::sync::Arc;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode,
    Options, WriteBatch, WriteOptions,
};
use warren_types::{GroupId, LogId, LogIndex, ReplicaId};

use super::core::column_family;
use super::format::{
    ENTRIES, FIELDS, FORMAT, FORMAT_KEY, Field, GROUPS, decode_log_id, decode_record_id,
    decode_replica, decode_vote, entry_index, entry_key, field_key,
};
use crate::log::contract::{GroupLogState, LogError};
use crate::log::options::LogOptions;

const MEMTABLE_BYTES: usize = 32 << 20;
/// Table files as flushed that are left before they are compacted; their size bounds what purged entries hold on disk.
const LEVEL_ZERO_FILES: i32 = 12;
const BLOCK_CACHE_BYTES: usize = 8 << 20;

pub(super) fn open_database(path: &Path, options: &LogOptions) -> Result<DB, LogError> {
    let failed =
        |error: rocksdb::Error| LogError::Failed(format!("{}: {error}", path.display()).into());
    let families = [(ENTRIES, entries_options()), (GROUPS, Options::default())]
        .map(|(name, options)| ColumnFamilyDescriptor::new(name, options));
    let database =
        DB::open_cf_descriptors(&database_options(options).map_err(failed)?, path, families)
            .map_err(failed)?;
    match database.get(FORMAT_KEY).map_err(failed)? {
        None => {
            let mut batch = WriteBatch::default();
            batch.put(FORMAT_KEY, FORMAT.to_be_bytes());
            let mut synced = WriteOptions::default();
            synced.set_sync(true);
            database.write_opt(batch, &synced).map_err(failed)?;
        }
        Some(found) if found == FORMAT.to_be_bytes() => {}
        Some(found) => {
            let cause = format!(
                "{}: log format {found:?} is not known, only {FORMAT}",
                path.display()
            );
            return Err(LogError::Failed(cause.into()));
        }
    }
    Ok(database)
}

fn database_options(options: &LogOptions) -> Result<Options, rocksdb::Error> {
    // A background error is final: no attempt to resume hides it.
    let mut database = Options::default().get_options_from_string("max_bgerror_resume_count=0")?;
    database.create_if_missing(true);
    database.create_missing_column_families(true);
    database.set_paranoid_checks(true);
    database.set_track_and_verify_wals_in_manifest(true);
    database.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    database.set_max_total_wal_size(options.wal_bytes_max);
    database.set_max_background_jobs(2);
    database.set_max_open_files(256);
    database.set_stats_dump_period_sec(0);
    database.set_keep_log_file_num(4);
    database.set_max_log_file_size(4 << 20);
    Ok(database)
}

fn entries_options() -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_lru_cache(BLOCK_CACHE_BYTES));
    table.set_block_size(64 << 10);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    // Most entries are purged before they would be compacted; bodies are often compressed already.
    options.set_compression_type(DBCompressionType::None);
    options.set_write_buffer_size(MEMTABLE_BYTES);
    options.set_max_write_buffer_number(4);
    // Late compaction finds most of what it reads purged, and writes little again.
    options.set_level_zero_file_num_compaction_trigger(LEVEL_ZERO_FILES);
    options.set_level_zero_slowdown_writes_trigger(4 * LEVEL_ZERO_FILES);
    options.set_level_zero_stop_writes_trigger(6 * LEVEL_ZERO_FILES);
    options.set_max_bytes_for_level_base(
        MEMTABLE_BYTES as u64 * u64::from(LEVEL_ZERO_FILES.unsigned_abs()),
    );
    options
}

/// A group's log as found on disk; the replica is `None` if the group has none.
pub(super) struct Recovered {
    pub(super) replica: Option<ReplicaId>,
    pub(super) state: GroupLogState,
}

/// Reads a group's log and compares it with what was acknowledged.
///
/// # Errors
/// [`LogError::Damaged`] if a checksum does not match, an entry is missing or the log ends before `acknowledged`.
pub(super) fn recover_group(
    database: &Arc<DB>,
    path: &Path,
    group: GroupId,
    acknowledged: LogIndex,
) -> Result<Recovered, LogError> {
    let damaged = |detail: String| LogError::Damaged {
        group,
        detail: format!("{}: {detail}", path.display()).into(),
    };
    let mut replica = None;
    let mut state = GroupLogState::default();
    for field in FIELDS {
        let key = field_key(group, field);
        let value = database.get_cf(column_family(database, GROUPS), key);
        let Some(value) = value.map_err(|error| damaged(error.to_string()))? else {
            continue;
        };
        let read = match field {
            Field::Replica => decode_replica(&key, &value).map(|found| replica = Some(found)),
            Field::Vote => decode_vote(&key, &value).map(|found| state.vote = Some(found)),
            Field::Purged => decode_log_id(&key, &value).map(|found| state.purged = Some(found)),
            Field::Committed => {
                decode_log_id(&key, &value).map(|found| state.committed = Some(found))
            }
        };
        read.ok_or_else(|| damaged(format!("field {field:?} does not match its checksum")))?;
    }
    let purged = state.purged.map_or(LogIndex(0), |id| id.index);
    let ends = Ends::read(database, group, purged).map_err(damaged)?;
    state.last = ends.last.or(state.purged);
    if ends.last.is_some() && ends.first != Some(LogIndex(purged.0 + 1)) {
        return Err(damaged(format!("the entry after {purged} is missing")));
    }
    if replica.is_none() && (state != GroupLogState::default()) {
        return Err(damaged("it has entries but no replica".into()));
    }
    let last = state.last.map_or(LogIndex(0), |id| id.index);
    if last < acknowledged {
        return Err(damaged(format!(
            "it ends at {last}, but entries up to {acknowledged} were acknowledged"
        )));
    }
    Ok(Recovered { replica, state })
}

/// First and last entry after the purged ones.
struct Ends {
    first: Option<LogIndex>,
    last: Option<LogId>,
}

impl Ends {
    fn read(database: &DB, group: GroupId, purged: LogIndex) -> Result<Self, String> {
        let mut rows = database.raw_iterator_cf(column_family(database, ENTRIES));
        rows.seek_for_prev(entry_key(group, LogIndex(u64::MAX)));
        rows.status().map_err(|error| error.to_string())?;
        let last = match rows.item() {
            Some((key, value)) => match entry_index(group, key).filter(|index| *index > purged) {
                Some(index) => Some(
                    decode_record_id(key, index, value)
                        .ok_or_else(|| format!("entry {index} does not match its checksum"))?,
                ),
                None => None,
            },
            None => None,
        };
        rows.seek(entry_key(group, LogIndex(purged.0 + 1)));
        rows.status().map_err(|error| error.to_string())?;
        let first = rows.key().and_then(|key| entry_index(group, key));
        Ok(Self { first, last })
    }
}
