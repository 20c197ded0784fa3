//! The counter of epochs, in a small synced file beside the database, and the state's format number. Not here: which epoch is current.
//!
//! The database has no WAL, so a number given out there could be given out again after a crash.

use std::path::{Path, PathBuf};

use super::error::StateError;
use super::layout::Epoch;
use crate::files::{replace, sealed, take_u32, take_u64, unseal};

const FORMAT: u32 = 1;
const NAME: &[u8] = b"epochs";
/// Numbers reserved by one sync; those not used before a restart are skipped.
const RESERVED: u64 = 64;

#[derive(Debug)]
pub(super) struct Epochs {
    path: PathBuf,
    next: u64,
    reserved: u64,
}

impl Epochs {
    /// Reads the counter, or begins it if `fresh`.
    pub(super) fn open(path: &Path, fresh: bool) -> Result<Self, StateError> {
        let reserved = match std::fs::read(path) {
            Ok(bytes) => decode(path, &bytes)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && fresh => 0,
            Err(error) => {
                let text = format!("{}: {error}", path.display());
                let missing = error.kind() == std::io::ErrorKind::NotFound;
                return Err(match missing {
                    true => StateError::damaged(text),
                    false => StateError::Failed(text.into()),
                });
            }
        };
        let mut epochs = Self {
            path: path.to_owned(),
            next: reserved + 1,
            reserved,
        };
        if reserved == 0 {
            // Before the database exists: without it a database is never taken for a fresh one.
            epochs.reserve()?;
        }
        Ok(epochs)
    }

    /// A number that was never given out before.
    pub(super) fn allot(&mut self) -> Result<Epoch, StateError> {
        if self.next > self.reserved {
            self.reserve()?;
        }
        let epoch = Epoch(self.next);
        self.next += 1;
        Ok(epoch)
    }

    fn reserve(&mut self) -> Result<(), StateError> {
        let reserved = self.next + RESERVED - 1;
        let bytes = sealed(NAME, |out| {
            out.extend_from_slice(&FORMAT.to_be_bytes());
            out.extend_from_slice(&reserved.to_be_bytes());
        });
        replace(&self.path, &bytes)?;
        self.reserved = reserved;
        Ok(())
    }
}

/// What is wrong with the counter's file, if anything is.
pub(super) fn verify(path: &Path) -> Option<String> {
    let read = std::fs::read(path);
    let checked = read.map_or_else(|error| Err(error.into()), |bytes| decode(path, &bytes));
    checked.err().map(|error: StateError| error.to_string())
}

fn decode(path: &Path, bytes: &[u8]) -> Result<u64, StateError> {
    let damaged = || StateError::damaged(format!("{} does not match its checksum", path.display()));
    let mut content = unseal(NAME, bytes).ok_or_else(damaged)?;
    let format = take_u32(&mut content).ok_or_else(damaged)?;
    if format != FORMAT {
        let text = format!(
            "{}: state format {format} is not known, only {FORMAT}",
            path.display()
        );
        // Whole, and newer software's.
        return Err(StateError::Failed(text.into()));
    }
    take_u64(&mut content).ok_or_else(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_are_never_given_out_twice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("epochs");
        let mut last = Epoch(0);
        for round in 0..5 {
            let mut epochs = Epochs::open(&path, round == 0).unwrap();
            for _ in 0..100 {
                let epoch = epochs.allot().unwrap();
                assert!(epoch > last);
                last = epoch;
            }
        }
    }

    #[test]
    fn missing_or_damaged_counter_of_an_old_state_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("epochs");
        assert!(matches!(
            Epochs::open(&path, false),
            Err(StateError::Damaged(_))
        ));
        Epochs::open(&path, true).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[9] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(
            Epochs::open(&path, true),
            Err(StateError::Damaged(_))
        ));
    }
}
