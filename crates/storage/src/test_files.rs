//! Copies of a directory as a crash of the process would leave it. Tests only.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Copies the files as they are, without any orderly end. Begins again if files came or went meanwhile: no crash shows two moments.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    for _ in 0..100 {
        let before = files(from);
        if before.iter().all(|file| copy(from, to, file).is_ok()) && files(from) == before {
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

fn files(dir: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for item in fs::read_dir(dir).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path);
        }
    }
    found
}
