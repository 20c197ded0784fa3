//! Finds the `warren` binaries that the tests start. Not here: building it (`scripts/test.sh` does).

use std::path::PathBuf;

/// `WARREN_BIN`, else `release/warren` in the target directory: `CARGO_TARGET_DIR`, or the one this test was built in.
pub fn warren_binary() -> PathBuf {
    if let Some(given) = std::env::var_os("WARREN_BIN") {
        return PathBuf::from(given);
    }
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map(PathBuf::from)
        .or_else(own_target_directory);
    target
        .unwrap_or_else(|| PathBuf::from("target"))
        .join("release/warren")
}

/// The same built with the feature `next-version`, which plays the version after this one: `WARREN_NEXT_BIN`, else `warren-next` beside
/// [`warren_binary`].
pub fn next_warren_binary() -> PathBuf {
    let given = std::env::var_os("WARREN_NEXT_BIN").map(PathBuf::from);
    given.unwrap_or_else(|| warren_binary().with_file_name("warren-next"))
}

/// A test runs as `<target>/<profile>/deps/<name>`.
fn own_target_directory() -> Option<PathBuf> {
    let test = std::env::current_exe().ok()?;
    test.ancestors().nth(3).map(PathBuf::from)
}
