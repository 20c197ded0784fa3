//! Every source rule over this workspace. A failure lists all findings, each with what to do instead.
#![allow(clippy::unwrap_used)]

use warren_tidy::{Finding, SourceFile, code, edges, load, text, workspace_root};

fn assert_none(rule: impl Fn(&SourceFile) -> Vec<Finding>) {
    let files = load(&workspace_root()).unwrap();
    assert!(
        files
            .iter()
            .any(|file| file.path == "crates/types/src/lib.rs"),
        "nothing was read"
    );
    let findings: Vec<String> = files.iter().flat_map(rule).map(|f| f.to_string()).collect();
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

#[test]
fn manifests_keep_to_the_table_of_edges() {
    assert_none(edges::manifest);
}

#[test]
fn files_open_with_what_they_are_for() {
    assert_none(|file| text::header(file).into_iter().collect());
}

#[test]
fn files_stay_short() {
    assert_none(|file| {
        text::file_length(file, &text::LONG_FILES)
            .into_iter()
            .collect()
    });
}

#[test]
fn functions_stay_short() {
    assert_none(|file| code::function_length(file, &code::LONG_FUNCTIONS));
}

#[test]
fn words_have_no_banned_synonyms() {
    assert_none(text::words);
}

#[test]
fn files_name_no_path_of_one_machine() {
    assert_none(text::machine_paths);
}

#[test]
fn channels_are_bounded() {
    assert_none(code::unbounded_channels);
}

#[test]
fn tasks_have_an_owner() {
    assert_none(|file| code::orphan_tasks(file, &code::SPAWN_ALLOWED));
}

#[test]
fn libraries_are_named_by_their_owner_only() {
    assert_none(code::owned_libraries);
}
