//! Damage of a data directory that no single replica can be blamed for (ADR 0082): a small synced file says that there is some, so that the
//! next start knows; and all that is in the directory can be moved out of the way, as one step that an end of the process does not undo.
//! Not here: whether the others go on without what is in it (`warren-server`).
//!
//! Layout, big-endian: `crc32c u32 | format u32 | step u8 | at u64 | cause`.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::data_dir::{DataDirError, LOCK, MANIFEST};
use crate::files::{replace, sealed, take_u8, take_u32, take_u64, unseal};

const FORMAT: u32 = 1;
const NAME: &[u8] = b"damaged";
const MARK: &str = "DAMAGED";
/// Where a damaged directory's content goes.
pub(crate) const BEHIND: &str = "damaged";
const CAUSE_BYTES_MAX: usize = 4_096;
const FOUND: u8 = 1;
const MOVING: u8 = 2;

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damaged {
    /// In words.
    pub cause: String,
    /// Milliseconds since the epoch.
    pub at_ms: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Mark {
    Found(Damaged),
    /// It was decided: nothing that is left is to be used any more.
    Moving(Damaged),
}

fn at(path: &Path) -> impl Fn(io::Error) -> DataDirError {
    let path = path.to_owned();
    move |source| DataDirError::Io {
        path: path.clone(),
        source,
    }
}

/// What was found before, if anything was.
pub(crate) fn found(dir: &Path) -> Result<Option<Damaged>, DataDirError> {
    Ok(read(&dir.join(MARK))?.map(|mark| match mark {
        Mark::Found(damaged) | Mark::Moving(damaged) => damaged,
    }))
}

/// Remembers damage; durable when it returns. The first stays.
pub(crate) fn note(dir: &Path, damaged: Damaged) -> Result<(), DataDirError> {
    if found(dir)?.is_some() {
        return Ok(());
    }
    write(dir, FOUND, damaged)
}

/// Forgets it: the directory is used all the same.
pub(crate) fn forget(dir: &Path) -> Result<(), DataDirError> {
    let mark = dir.join(MARK);
    match fs::remove_file(&mark) {
        Ok(()) => sync(dir),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(at(&mark)(source)),
    }
}

/// When something was moved out of the way here last, and is there still.
pub(crate) fn left_behind_at_ms(dir: &Path) -> Result<Option<u64>, DataDirError> {
    let mark = read(&dir.join(BEHIND).join(MARK))?;
    Ok(mark.map(|mark| match mark {
        Mark::Found(damaged) | Mark::Moving(damaged) => damaged.at_ms,
    }))
}

/// Moves everything out of the way, instead of what was moved before. What is left is a blank directory.
pub(crate) fn leave_behind(dir: &Path, damaged: Damaged) -> Result<(), DataDirError> {
    let behind = dir.join(BEHIND);
    match fs::remove_dir_all(&behind) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(at(&behind)(source)),
    }
    write(dir, MOVING, damaged)?;
    move_rest(dir)
}

/// Whether all of it can be moved by renaming: nothing in it is another file system.
pub(crate) fn is_on_one_file_system(dir: &Path) -> Result<bool, DataDirError> {
    let own = fs::metadata(dir).map_err(at(dir))?.dev();
    for item in fs::read_dir(dir).map_err(at(dir))? {
        if item.and_then(|it| it.metadata()).map_err(at(dir))?.dev() != own {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Goes on with a move that an end of the process cut off.
pub(crate) fn go_on(dir: &Path) -> Result<(), DataDirError> {
    match read(&dir.join(MARK))? {
        Some(Mark::Moving(_)) => move_rest(dir),
        Some(Mark::Found(_)) | None => Ok(()),
    }
}

fn move_rest(dir: &Path) -> Result<(), DataDirError> {
    let behind = dir.join(BEHIND);
    fs::create_dir_all(&behind).map_err(at(&behind))?;
    sync(dir)?;
    let stays = [LOCK, MARK, BEHIND, "lost+found"];
    for item in fs::read_dir(dir).map_err(at(dir))? {
        let name = item.map_err(at(dir))?.file_name();
        let last = name == MANIFEST;
        if !last && !stays.iter().any(|it| name == *it) {
            fs::rename(dir.join(&name), behind.join(&name)).map_err(at(dir))?;
        }
    }
    // Whose it is goes with the rest, the mark comes last: without it the directory is blank.
    for name in [MANIFEST, MARK] {
        match fs::rename(dir.join(name), behind.join(name)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(at(dir)(source)),
        }
        sync(&behind)?;
        sync(dir)?;
    }
    Ok(())
}

fn sync(dir: &Path) -> Result<(), DataDirError> {
    File::open(dir)
        .and_then(|it| it.sync_all())
        .map_err(at(dir))
}

fn write(dir: &Path, step: u8, mut damaged: Damaged) -> Result<(), DataDirError> {
    let end = damaged.cause.floor_char_boundary(CAUSE_BYTES_MAX);
    damaged.cause.truncate(end);
    let bytes = sealed(NAME, |out| {
        out.extend_from_slice(&FORMAT.to_be_bytes());
        out.push(step);
        out.extend_from_slice(&damaged.at_ms.to_be_bytes());
        out.extend_from_slice(damaged.cause.as_bytes());
    });
    let path = dir.join(MARK);
    replace(&path, &bytes).map_err(at(&path))
}

fn read(path: &PathBuf) -> Result<Option<Mark>, DataDirError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(at(path)(source)),
    };
    let damaged = || DataDirError::Damaged {
        path: path.clone(),
        detail: "it does not match its checksum, or is of a newer format".to_owned(),
    };
    decode(&bytes).ok_or_else(damaged).map(Some)
}

fn decode(bytes: &[u8]) -> Option<Mark> {
    let mut content = unseal(NAME, bytes)?;
    if take_u32(&mut content)? != FORMAT {
        return None;
    }
    let step = take_u8(&mut content)?;
    let at_ms = take_u64(&mut content)?;
    let cause = String::from_utf8_lossy(content).into_owned();
    let damaged = Damaged { cause, at_ms };
    match step {
        FOUND => Some(Mark::Found(damaged)),
        MOVING => Some(Mark::Moving(damaged)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use warren_types::NodeId;

    use super::*;
    use crate::data_dir::DataDir;

    fn damage(at_ms: u64) -> Damaged {
        Damaged {
            cause: "Corruption: block checksum mismatch".to_owned(),
            at_ms,
        }
    }

    /// A directory with files and what was said of it.
    fn written(root: &Path) -> DataDir {
        let dir = DataDir::open(root, NodeId(1)).unwrap();
        for name in ["log", "state"] {
            fs::create_dir(root.join(name)).unwrap();
            fs::write(root.join(name).join("file"), name).unwrap();
        }
        fs::write(root.join("FORMATION"), "x").unwrap();
        dir
    }

    #[test]
    fn damage_is_remembered_over_a_restart_and_the_first_stays() {
        let root = tempfile::tempdir().unwrap();
        let dir = written(root.path());
        assert_eq!(dir.damaged().unwrap(), None);
        dir.note_damaged(damage(5)).unwrap();
        dir.note_damaged(damage(6)).unwrap();
        drop(dir);
        let dir = DataDir::open(root.path(), NodeId(1)).unwrap();
        assert_eq!(dir.damaged().unwrap(), Some(damage(5)));
        assert_eq!(dir.left_behind_at_ms().unwrap(), None);
        dir.forget_damaged().unwrap();
        assert_eq!(dir.damaged().unwrap(), None);
    }

    #[test]
    fn directory_is_blank_and_another_when_its_content_was_left_behind() {
        let root = tempfile::tempdir().unwrap();
        let dir = written(root.path());
        let before = dir.incarnation();
        dir.note_damaged(damage(5)).unwrap();
        let dir = dir.begin_anew(damage(9)).unwrap();
        assert_ne!(dir.incarnation(), before);
        assert_eq!((dir.cluster(), dir.damaged().unwrap()), (None, None));
        assert_eq!(dir.left_behind_at_ms().unwrap(), Some(9));
        let behind = root.path().join(BEHIND);
        assert!(behind.join("log/file").exists() && behind.join("FORMATION").exists());
        assert!(!root.path().join("state").exists());
        // The next one takes its place.
        fs::create_dir(root.path().join("log")).unwrap();
        let dir = dir.begin_anew(damage(11)).unwrap();
        assert_eq!(dir.left_behind_at_ms().unwrap(), Some(11));
        assert!(!behind.join("FORMATION").exists());
        drop(dir);
        DataDir::open(root.path(), NodeId(1)).unwrap();
    }

    #[test]
    fn move_that_was_cut_off_anywhere_goes_on_at_the_next_start() {
        let names = ["log", "state", "FORMATION", MANIFEST, MARK];
        for moved in 0..=names.len() {
            let root = tempfile::tempdir().unwrap();
            let dir = written(root.path());
            let before = dir.incarnation();
            drop(dir);
            write(root.path(), MOVING, damage(7)).unwrap();
            let behind = root.path().join(BEHIND);
            if moved > 0 {
                fs::create_dir(&behind).unwrap();
            }
            for name in &names[..moved] {
                fs::rename(root.path().join(name), behind.join(name)).unwrap();
            }
            let dir = DataDir::open(root.path(), NodeId(1)).unwrap();
            assert_ne!(dir.incarnation(), before, "{moved} were moved");
            assert_eq!(dir.damaged().unwrap(), None);
            assert_eq!(dir.left_behind_at_ms().unwrap(), Some(7));
            assert!(!root.path().join("log").exists());
        }
    }

    #[test]
    fn mark_that_is_damaged_itself_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let dir = written(root.path());
        dir.note_damaged(damage(5)).unwrap();
        let path = root.path().join(MARK);
        let mut bytes = fs::read(&path).unwrap();
        bytes[9] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(matches!(dir.damaged(), Err(DataDirError::Damaged { .. })));
    }
}
