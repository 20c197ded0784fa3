//! Runs the Python programs beside it. Not here: what they check.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use warren_testkit::process::{run_within, warren_binary};

/// Runs `run.sh` with these arguments and returns what it printed.
///
/// # Errors
/// What it printed, if it failed or did not end in time.
pub fn run(arguments: &[&str], scratch: &Path, within: Duration) -> Result<String, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("run.sh");
    let mut command = Command::new("bash");
    command
        .arg(script)
        .args(arguments)
        .env("WARREN_BIN", warren_binary())
        .env("WARREN_DEPLOY_DIR", scratch);
    let output = run_within(command, within).map_err(|error| format!("{error:#}"))?;
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    if output.status.success() {
        Ok(said)
    } else {
        Err(said)
    }
}
