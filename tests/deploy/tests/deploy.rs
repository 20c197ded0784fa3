//! Image, compose file and manifests as far as they can be checked without a container engine (`run.sh` and the programs beside it).
//! Needs Python 3 with `venv` and its package index; what else is missing is told in a line that begins with "skipped".
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::time::Duration;

fn run(arguments: &[&str], within: Duration) {
    let scratch = tempfile::tempdir().unwrap();
    match warren_deploy::run(arguments, scratch.path(), within) {
        Ok(said) => println!("{said}"),
        Err(said) => panic!("{said}"),
    }
}

#[test]
fn image_and_compose_file_keep_the_rules_of_containers() {
    run(&["containers"], Duration::from_secs(300));
}

#[test]
fn manifests_render_and_keep_schemas_and_rules() {
    run(&["manifests"], Duration::from_secs(900));
}

/// Played in network namespaces by the command lines of the manifests. In the long form only: it takes three minutes.
#[test]
#[ignore = "long form"]
fn pods_live_through_starts_ends_and_lost_volumes() {
    run(&["pods"], Duration::from_secs(900));
}
