//! Reads the workspace's text files. Not here: what their contents must be.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// One text file of the workspace.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// Path below the workspace root, with `/`.
    pub path: String,
    /// The whole content.
    pub text: String,
}

impl SourceFile {
    /// A file that exists only in a test.
    pub fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    /// Whether this is Rust source.
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether the file holds nothing but tests, so that rules for the product do not apply.
    pub fn is_test_only(&self) -> bool {
        self.path.split('/').skip(1).any(|part| part == "tests")
            || self.path.starts_with("tests/")
            || self.path.ends_with("/tests.rs")
            || self.path.starts_with("crates/testkit/")
    }
}

/// Directories that hold no sources of ours.
const SKIPPED_DIRECTORIES: [&str; 4] = [".git", "target", "node_modules", ".local"];

/// The lockfile is written by cargo and names what cargo likes; `.git` is a file where several checkouts share one repository.
const SKIPPED_FILES: [&str; 2] = ["Cargo.lock", ".git"];

/// The directory above `tests/tidy`.
///
/// # Panics
/// If this package was moved out of the workspace.
pub fn workspace_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors()
        .nth(2)
        .expect("tests/tidy lies two levels below the workspace root")
        .to_path_buf()
}

/// Every text file below `root`, sorted by path.
///
/// # Errors
/// When a directory or file cannot be read. Files that are not UTF-8 are no text and are left out.
pub fn load(root: &Path) -> io::Result<Vec<SourceFile>> {
    let mut files = Vec::new();
    let mut pending = vec![root.to_path_buf()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if kind.is_dir() && !SKIPPED_DIRECTORIES.contains(&name.as_str()) {
                pending.push(entry.path());
            } else if kind.is_file() && !SKIPPED_FILES.contains(&name.as_str()) {
                read_text(root, &entry.path(), &mut files)?;
            }
        }
    }
    files.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(files)
}

fn read_text(root: &Path, path: &Path, files: &mut Vec<SourceFile>) -> io::Result<()> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        // An editor's or compiler's temporary file may vanish between the listing and here.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if let Ok(text) = String::from_utf8(bytes) {
        let below = path.strip_prefix(root).unwrap_or(path);
        let path = below.to_string_lossy().replace('\\', "/");
        files.push(SourceFile { path, text });
    }
    Ok(())
}
