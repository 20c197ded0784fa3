//! Reads a whole data directory of a node that does not run, checks every checksum in it and says what does not match: file, offset
//! and cause. Writes nothing. Not here: what the records and rows mean (their own crates decode them), mending anything: a
//! damaged replica is built anew from the others.
//!
//! Not covered, because nothing reads them: RocksDB's `OPTIONS`, `IDENTITY` and `LOG` files, blocks of rows that were all deleted by one
//! deletion of a range, segments that wait to be used again, what stands behind the last batch of a segment, blobs that no row names.

mod rocks;
mod table;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use thiserror::Error;
use warren_types::{ClusterId, GroupId, NodeId};

use crate::data_dir::{DataDirError, Looked, RECOVERIES, SET_ASIDE, look};
use crate::log::{self, DumpedGroup, LogRecord};
use crate::manifest::LogEngineKind;
use crate::state;
use crate::{recoveries, set_aside};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grade {
    /// What was written is not there any more: the replica must be built anew.
    Damage,
    /// A crash leaves it so: what stands there was told to nobody. After an orderly stop it would be damage.
    Torn,
}

impl Grade {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Damage => "damage",
            Self::Torn => "torn",
        }
    }
}

/// Something that does not match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub grade: Grade,
    /// The file, or the directory when the cause is in none alone.
    pub path: PathBuf,
    /// In bytes from the file's start, where it is known.
    pub offset: Option<u64>,
    pub detail: String,
}

impl Finding {
    pub(crate) fn damage(path: &Path, offset: Option<u64>, detail: impl Into<String>) -> Self {
        Self {
            grade: Grade::Damage,
            path: path.to_owned(),
            offset,
            detail: detail.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.grade.name(), self.path.display())?;
        if let Some(offset) = self.offset {
            write!(f, " at offset {offset}")?;
        }
        write!(f, ": {}", self.detail)
    }
}

/// What was read and what was found.
#[derive(Debug)]
pub struct Verified {
    pub node: NodeId,
    /// `None`: the node was never part of one.
    pub cluster: Option<ClusterId>,
    pub log_engine: LogEngineKind,
    pub files: u64,
    pub bytes: u64,
    /// Records of the log.
    pub records: u64,
    /// Rows of the applied state.
    pub rows: u64,
    /// Those of each group's replica; those about replicas are none of them.
    pub group_rows: BTreeMap<GroupId, u64>,
    pub findings: Vec<Finding>,
}

/// Collects while reading; `begin` is called with each file before it is read.
pub(crate) struct Findings<'a> {
    pub(crate) found: Vec<Finding>,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) records: u64,
    pub(crate) rows: u64,
    begin: &'a mut dyn FnMut(&Path, u64),
}

impl<'a> Findings<'a> {
    pub(crate) fn new(begin: &'a mut dyn FnMut(&Path, u64)) -> Self {
        Self {
            found: Vec::new(),
            files: 0,
            bytes: 0,
            records: 0,
            rows: 0,
            begin,
        }
    }

    pub(crate) fn file(&mut self, path: &Path, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
        (self.begin)(path, bytes);
    }

    pub(crate) fn damage(&mut self, path: &Path, offset: Option<u64>, detail: impl Into<String>) {
        self.found.push(Finding::damage(path, offset, detail));
    }
}

/// Reads and checks all of a data directory. `begin` is told each file and its bytes before it is read. Blocks on the disk.
///
/// # Errors
/// Why there is nothing to be read: no data directory, a node that runs on it, a manifest that is damaged or newer than this program.
pub fn verify(dir: &Path, begin: &mut dyn FnMut(&Path, u64)) -> Result<Verified, DataDirError> {
    let Looked {
        manifest,
        log_dir,
        state_dir,
        _lock,
    } = look(dir)?;
    let mut findings = Findings::new(begin);
    let mut group_rows = BTreeMap::new();
    let aside = dir.join(SET_ASIDE);
    if let Some(detail) = set_aside::verify(&aside) {
        findings.damage(&aside, None, detail);
    }
    if let Some(detail) = recoveries::verify(dir) {
        findings.damage(&dir.join(RECOVERIES), None, detail);
    }
    if log_dir.is_dir() {
        match manifest.log_engine {
            LogEngineKind::Segments => log::verify_segments(&log_dir, &mut findings),
            LogEngineKind::Rocks => {
                for database in rocks::databases(&log_dir) {
                    rocks::verify(&database, &mut findings, &mut |_, _, _| None);
                }
            }
        }
    }
    if state_dir.is_dir() {
        if let Some(detail) = state::verify_epochs(&state_dir) {
            findings.damage(&state_dir.join("epochs"), None, detail);
        }
        let mut check = |family: &str, key: &[u8], value: &[u8]| {
            if let Some(group) = state::group_of_row(family, key) {
                *group_rows.entry(group).or_default() += 1;
            }
            state::verify_row(family, key, value)
        };
        for database in rocks::databases(&state_dir) {
            rocks::verify(&database, &mut findings, &mut check);
        }
    }
    Ok(Verified {
        node: manifest.node,
        cluster: manifest.cluster,
        log_engine: manifest.log_engine,
        files: findings.files,
        bytes: findings.bytes,
        records: findings.records,
        rows: findings.rows,
        group_rows,
        findings: findings.found,
    })
}

/// Why a log cannot be shown.
#[derive(Debug, Error)]
pub enum DumpError {
    #[error(transparent)]
    Directory(#[from] DataDirError),
    #[error("{0}")]
    Damaged(String),
    /// What `record` failed with.
    #[error("the log was not shown to its end")]
    Stopped(#[source] std::io::Error),
    #[error("the log was made by engine '{}', which cannot be shown; only 'segments' can", .0.name())]
    Engine(LogEngineKind),
}

/// Reads the log of a node that does not run: `group` is called with the state of each group and says whether its records are
/// wanted, `record` with each of them in order; what `record` fails with ends it. Changes nothing. Blocks on the disk.
///
/// # Errors
/// Why there is nothing to be read, or the first damage.
pub fn dump_log(
    dir: &Path,
    group: &mut dyn FnMut(&DumpedGroup) -> bool,
    record: &mut dyn FnMut(GroupId, LogRecord) -> std::io::Result<()>,
) -> Result<(), DumpError> {
    let looked = look(dir)?;
    match looked.manifest.log_engine {
        LogEngineKind::Segments => log::dump_segments(&looked.log_dir, group, record),
        LogEngineKind::Rocks => Err(DumpError::Engine(LogEngineKind::Rocks)),
    }
}

#[cfg(test)]
mod tests;
