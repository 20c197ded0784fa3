//! RocksDB's settings for applied state. Not here: what is written (`replica`), the log's RocksDB.

use std::path::Path;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, Options,
    WriteBatch, WriteBufferManager, WriteOptions,
};

use super::error::StateError;
use super::layout::{BLOCKS, FAMILIES, META, ROWS};

/// Limits of the state store.
#[derive(Clone, Debug)]
pub struct StateOptions {
    /// All memtables together, in bytes. They are counted inside the block cache.
    pub write_buffer_bytes: usize,
    /// One cache for blocks of all tables, blobs and memtables, in bytes.
    pub block_cache_bytes: usize,
    /// Message blocks of this size and more go to blob files, which compaction does not rewrite.
    pub blob_bytes_min: u64,
    /// Threads for flushes and compactions.
    pub background_jobs: i32,
    /// Files RocksDB keeps open.
    pub open_files: i32,
    /// Tables and blob files are written past the page cache, where their file system can.
    pub direct: bool,
}

impl Default for StateOptions {
    fn default() -> Self {
        Self {
            write_buffer_bytes: 128 << 20,
            block_cache_bytes: 256 << 20,
            blob_bytes_min: 16 << 10,
            background_jobs: 2,
            open_files: 1_024,
            direct: true,
        }
    }
}

pub(super) fn open(path: &Path, options: &StateOptions) -> Result<DB, StateError> {
    let cache = Cache::new_lru_cache(options.block_cache_bytes);
    let families = FAMILIES
        .map(|name| ColumnFamilyDescriptor::new(name, family_options(name, options, &cache)));
    Ok(DB::open_cf_descriptors(
        &database_options(options, &cache)?,
        path,
        families,
    )?)
}

fn database_options(options: &StateOptions, cache: &Cache) -> Result<Options, StateError> {
    // A background error is final: no attempt to resume hides it.
    let mut database = Options::default().get_options_from_string("max_bgerror_resume_count=0")?;
    let buffers = WriteBufferManager::new_write_buffer_manager_with_cache(
        options.write_buffer_bytes,
        false,
        cache.clone(),
    );
    database.set_write_buffer_manager(&buffers);
    database.create_if_missing(true);
    database.create_missing_column_families(true);
    database.set_paranoid_checks(true);
    // Any flush, also one RocksDB begins by itself, leaves all tables at the same write.
    database.set_atomic_flush(true);
    database.set_max_background_jobs(options.background_jobs);
    database.set_max_open_files(options.open_files);
    database.set_bytes_per_sync(1 << 20);
    if options.direct {
        // What is flushed is read again late, if at all: no copy of it in the page cache.
        database.set_use_direct_io_for_flush_and_compaction(true);
    }
    database.set_stats_dump_period_sec(0);
    database.set_keep_log_file_num(4);
    database.set_max_log_file_size(4 << 20);
    Ok(database)
}

fn family_options(name: &str, options: &StateOptions, cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_block_size(16 << 10);
    let mut family = Options::default();
    family.set_compression_type(DBCompressionType::None);
    family.set_bottommost_compression_type(DBCompressionType::Lz4);
    family.set_max_write_buffer_number(4);
    match name {
        BLOCKS => {
            family.set_write_buffer_size(options.write_buffer_bytes / 2);
            family.set_enable_blob_files(true);
            family.set_min_blob_size(options.blob_bytes_min);
            family.set_blob_file_size(128 << 20);
            // Not before there is much of it (`garbage`): a compaction would write what is alive in the older half of the files again.
            family.set_enable_blob_gc(false);
            family.set_blob_gc_age_cutoff(0.5);
            family.set_blob_gc_force_threshold(0.5);
            family.set_blob_cache(cache);
            // Settled blocks leave tombstones in runs: a file that is mostly tombstones is compacted out of turn.
            family.add_compact_on_deletion_collector_factory(256, 128, 0.5);
        }
        ROWS => {
            family.set_write_buffer_size(options.write_buffer_bytes / 2);
            table.set_bloom_filter(10.0, false);
            family.add_compact_on_deletion_collector_factory(1_024, 512, 0.5);
        }
        META => family.set_write_buffer_size(4 << 20),
        other => unreachable!("column family {other} is not ours"),
    }
    family.set_block_based_table_factory(&table);
    family
}

/// A column family that was named when the database was opened.
pub(super) fn column_family<'a>(database: &'a DB, name: &str) -> &'a ColumnFamily {
    database
        .cf_handle(name)
        .expect("column families are opened with the database")
}

/// Writes a batch atomically, without WAL.
pub(super) fn write(database: &DB, batch: WriteBatch) -> Result<(), rocksdb::Error> {
    let mut options = WriteOptions::default();
    options.disable_wal(true);
    database.write_opt(batch, &options)
}
