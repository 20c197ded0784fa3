//! Runs `tests/scripts/store_*.txt`: steps separated by blank lines, each with its lines, `----`, and what came of them.
//! With `UPDATE_SCRIPTS=1` the outputs are written instead of compared. Not here: what the lines mean (`script`).

use std::path::{Path, PathBuf};

use warren_queue::store::StoreOptions;

use crate::machine::{LARGE, Machine, SMALL};
use crate::script;

fn scripts() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.retain(|file| {
        file.file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("store_")
    });
    files.sort();
    files
}

fn run(text: &str, options: StoreOptions) -> String {
    let mut machine = Machine::new(options);
    let steps = text.trim().split("\n\n").map(|step| {
        let input = step.split("\n----").next().unwrap();
        let lines: Vec<&str> = input
            .lines()
            .filter(|line| !line.starts_with('#'))
            .collect();
        if lines.is_empty() {
            return input.to_owned() + "\n";
        }
        format!("{input}\n----\n{}", script::step(&mut machine, &lines))
    });
    steps.collect::<Vec<_>>().join("\n")
}

#[test]
fn scripts_all_give_their_output_whatever_is_in_memory() {
    #[allow(
        clippy::disallowed_methods,
        reason = "a test may be told to write instead of compare"
    )]
    let update = std::env::var("UPDATE_SCRIPTS").is_ok();
    let files = scripts();
    assert!(
        files.len() >= 8,
        "the scripts are where they are looked for"
    );
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let got = run(&text, LARGE);
        assert_eq!(
            run(&text, SMALL),
            got,
            "{}: two blocks in memory, or all",
            file.display()
        );
        if update {
            std::fs::write(&file, got).unwrap();
        } else {
            assert_eq!(got, text, "{} (UPDATE_SCRIPTS=1 writes it)", file.display());
        }
    }
}
