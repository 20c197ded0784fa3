//! Finds the `warren` binary that the tests start. Not here: building it (`scripts/test.sh` does).

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

/// A test runs as `<target>/<profile>/deps/<name>`.
fn own_target_directory() -> Option<PathBuf> {
    let test = std::env::current_exe().ok()?;
    test.ancestors().nth(3).map(PathBuf::from)
}
