//! Receives a snapshot beside a replica's rows and replaces them at once. Not here: sending (`snapshot`), the transfer (`warren-raft`).
//!
//! Chunks become table files under a new epoch. Finishing hands the files to RocksDB, makes the epoch current by one write, and
//! flushes. A crash before that flush leaves the old rows, and the new epoch is dropped at the next opening; after it, the old one is.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use rocksdb::{IngestExternalFileOptions, Options, SstFileWriter};

use super::chunk::{self, Chunk, Rows};
use super::contract::Table;
use super::database::column_family;
use super::error::StateError;
use super::layout::{Epoch, Prefix, TABLES, family};
use super::replica::ReplicaState;
use super::rows_digest::RowsDigest;
use super::store::{Shared, delete_rows};
use crate::files::create_directory;

/// A table file is closed when it has reached this size.
const FILE_BYTES: u64 = 64 << 20;

static FILE_OPTIONS: LazyLock<Options> = LazyLock::new(Options::default);

/// Receives chunks in order. Dropped unfinished, it leaves nothing behind. Every call blocks on the disk.
pub struct Installer {
    state: ReplicaState,
    shared: Arc<Shared>,
    epoch: Epoch,
    prefix: Prefix,
    dir: PathBuf,
    writing: Option<(Table, SstFileWriter<'static>)>,
    files: Vec<(Table, PathBuf)>,
    chunks: u64,
    rows: u64,
    digest: RowsDigest,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Receiving,
    /// The last chunk has come.
    Complete,
    /// Rows of the new epoch may be in the database.
    Handed,
    Current,
}

impl Installer {
    pub(super) fn new(state: ReplicaState, shared: Arc<Shared>) -> Result<Self, StateError> {
        let epoch = shared.allot_epoch()?;
        let dir = shared.install_dir().join(epoch.0.to_string());
        create_directory(&dir)?;
        let prefix = Prefix::new(state.group(), epoch);
        Ok(Self {
            state,
            shared,
            epoch,
            prefix,
            dir,
            writing: None,
            files: Vec::new(),
            chunks: 0,
            rows: 0,
            digest: RowsDigest::default(),
            stage: Stage::Receiving,
        })
    }

    /// Takes the next chunk.
    ///
    /// # Errors
    /// [`StateError::BadChunk`] if it is damaged or not the next one. The installer is of no more use then.
    pub fn chunk(&mut self, chunk: &Bytes) -> Result<(), StateError> {
        let number = self.chunks;
        if self.stage != Stage::Receiving {
            return Err(self.refuse("it comes after the last one"));
        }
        match chunk::read(chunk, number)? {
            Chunk::Rows { table, rows } => self.take_rows(table, rows)?,
            Chunk::End { rows } if rows == self.rows => {
                self.close_file()?;
                self.stage = Stage::Complete;
            }
            Chunk::End { .. } => return Err(self.refuse("rows before it are missing")),
        }
        self.chunks += 1;
        Ok(())
    }

    /// Over all rows that were written so far.
    #[must_use]
    pub fn digest(&self) -> u128 {
        self.digest.value()
    }

    /// Replaces the replica's rows and meta; durable when it returns. Must not run beside a write of the same replica.
    ///
    /// # Errors
    /// [`StateError::BadChunk`] if the last chunk has not come, otherwise the disk's: then the replica may have its old or its new rows.
    pub fn finish(mut self, meta: Bytes) -> Result<(), StateError> {
        self.hand_over()?;
        self.make_current(meta)
    }

    /// Gives the files to RocksDB. Nobody sees their rows yet.
    pub(super) fn hand_over(&mut self) -> Result<(), StateError> {
        if self.stage != Stage::Complete {
            return Err(self.refuse("the last one has not come"));
        }
        self.stage = Stage::Handed;
        let database = self.shared.database()?;
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        for table in TABLES {
            let files: Vec<&PathBuf> = self
                .files
                .iter()
                .filter(|(of, _)| *of == table)
                .map(|(_, path)| path)
                .collect();
            if !files.is_empty() {
                database.ingest_external_file_cf_opts(
                    column_family(&database, family(table)),
                    &options,
                    files,
                )?;
            }
        }
        Ok(())
    }

    fn make_current(&mut self, meta: Bytes) -> Result<(), StateError> {
        let replaced = self.state.switch(self.epoch, meta)?;
        self.stage = Stage::Current;
        self.shared.flush()?;
        // Only now: were it flushed before the switch, a crash would leave neither.
        delete_rows(
            &*self.shared.database()?,
            &self.shared.deleted,
            &replaced.0,
            &replaced.end(),
        )
    }

    fn refuse(&self, detail: &str) -> StateError {
        StateError::BadChunk {
            number: self.chunks,
            detail: detail.into(),
        }
    }

    fn take_rows(&mut self, table: Table, rows: Rows<'_>) -> Result<(), StateError> {
        for row in rows {
            let (key, value) = row?;
            let full = self.prefix.key(key);
            let number = self.chunks;
            self.file_for(table)?
                .put(full, value)
                .map_err(|error| StateError::BadChunk {
                    number,
                    detail: error.into_string().into(),
                })?;
            self.digest.row(table, key, value);
            self.rows += 1;
        }
        Ok(())
    }

    /// The open file of `table`, a new one if the last is full or another table's.
    fn file_for(&mut self, table: Table) -> Result<&mut SstFileWriter<'static>, StateError> {
        let goes_on = self
            .writing
            .as_ref()
            .is_some_and(|(of, file)| *of == table && file.file_size() < FILE_BYTES);
        if !goes_on {
            self.close_file()?;
            let path = self.dir.join(format!("{}.sst", self.files.len()));
            let file = SstFileWriter::create(&FILE_OPTIONS);
            file.open(&path)?;
            self.files.push((table, path));
            self.writing = Some((table, file));
        }
        let (_, file) = self
            .writing
            .as_mut()
            .expect("a file is open: opened above if none was");
        Ok(file)
    }

    fn close_file(&mut self) -> Result<(), StateError> {
        if let Some((_, mut file)) = self.writing.take() {
            file.finish()?;
        }
        Ok(())
    }
}

impl Drop for Installer {
    fn drop(&mut self) {
        self.writing = None;
        if self.stage == Stage::Handed
            && let Ok(database) = self.shared.database()
            && let Err(error) = delete_rows(
                &database,
                &self.shared.deleted,
                &self.prefix.0,
                &self.prefix.end(),
            )
        {
            tracing::warn!(%error, "rows of an unfinished snapshot stay until the next start");
        }
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            tracing::warn!(%error, dir = %self.dir.display(), "files of a snapshot stay until the next start");
        }
    }
}
