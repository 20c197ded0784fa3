//! Copies of a directory as a crash of the process would leave it. Tests only.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Copies the files as they are, without any orderly end. Begins again if files came, went or grew meanwhile: no crash shows two
/// moments, such as a file that was copied short beside the one, copied later, that says it is complete.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    for _ in 0..100 {
        let before = files(from);
        if before.keys().all(|file| copy(from, to, file).is_ok()) && files(from) == before {
            return;
        }
        fs::remove_dir_all(to).unwrap();
    }
    panic!("{} never rests", from.display());
}

fn copy(from: &Path, to: &Path, file: &Path) -> io::Result<()> {
    let target = to.join(file.strip_prefix(from).unwrap());
    fs::create_dir_all(target.parent().unwrap())?;
    fs::copy(file, target).map(drop)
}

/// Every file with its length and when it was last written.
fn files(dir: &Path) -> BTreeMap<PathBuf, (u64, Option<SystemTime>)> {
    let mut found = BTreeMap::new();
    for item in fs::read_dir(dir).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if let Ok(about) = fs::metadata(&path) {
            found.insert(path, (about.len(), about.modified().ok()));
        }
    }
    found
}
