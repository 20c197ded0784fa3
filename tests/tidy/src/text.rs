//! Rules that look at a file as text: header, length, words, paths of one machine. Not here: what needs the shape of code.

use crate::finding::Finding;
use crate::mask::is_word;
use crate::tree::SourceFile;

/// A file longer than this hides its subject.
pub const FILE_LINES_MAX: usize = 500;

/// Files that were too long when the rule came, with the length they may not exceed. Only ever gets shorter.
pub const LONG_FILES: [(&str, usize); 0] = [];

/// A word we do not use, and the one we do.
struct Synonym {
    banned: &'static str,
    ours: &'static str,
}

/// One idea, one word. `docs/GLOSSARY.md` rules.
const SYNONYMS: [Synonym; 5] = [
    Synonym {
        banned: "partition",
        ours: "shard (for the network fault write `network partition`)",
    },
    Synonym {
        banned: "partitions",
        ours: "shards (for the network fault write `network partitions`)",
    },
    Synonym {
        banned: "primary",
        ours: "leader",
    },
    Synonym {
        banned: "slave",
        ours: "follower",
    },
    Synonym {
        banned: "topic_key",
        ours: "routing_key",
    },
];

/// Each Rust file opens with `//!`.
pub fn header(file: &SourceFile) -> Option<Finding> {
    let opens = file.text.lines().find(|line| !line.trim().is_empty());
    let fine = !file.is_rust() || opens.is_some_and(|line| line.starts_with("//!"));
    (!fine).then(|| {
        Finding::new(
            &file.path,
            1,
            "the file does not open with `//!`",
            "say in a line or two what the file is for, and what is not here",
        )
    })
}

/// No Rust file is longer than `FILE_LINES_MAX`, or than its entry in `allowed`.
pub fn file_length(file: &SourceFile, allowed: &[(&str, usize)]) -> Option<Finding> {
    let lines = file.text.lines().count();
    let limit = allowed
        .iter()
        .find(|(path, _)| *path == file.path)
        .map_or(FILE_LINES_MAX, |(_, limit)| *limit);
    (file.is_rust() && lines > limit).then(|| {
        Finding::new(
            &file.path,
            0,
            format!("{lines} lines, the limit is {limit}"),
            "one main type per file: move a helper type, a message family or the test module to a file of its own",
        )
    })
}

/// No banned synonym as a whole word in the crates' sources, comments and texts included.
pub fn words(file: &SourceFile) -> Vec<Finding> {
    if !(file.is_rust() && file.path.starts_with("crates/")) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        let lower = line.to_lowercase();
        for synonym in &SYNONYMS {
            if whole_word_uses(&lower, synonym.banned)
                .any(|before| !before.ends_with("network ") && !before.ends_with('.'))
            {
                findings.push(Finding::new(
                    &file.path,
                    number + 1,
                    format!("the word `{}`", synonym.banned),
                    format!("say {}", synonym.ours),
                ));
            }
        }
    }
    findings
}

/// No path of one developer's machine in any text file.
pub fn machine_paths(file: &SourceFile) -> Vec<Finding> {
    // Put together here, so that this file does not hold what it looks for.
    let homes = [concat!("/ro", "ot/"), concat!("/wo", "rk/")];
    let mut findings = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        for home in homes {
            let starts_path = line.match_indices(home).any(|(at, _)| {
                !line
                    .split_at(at)
                    .0
                    .ends_with(|c: char| is_word(c) || "/.-}".contains(c))
            });
            if starts_path {
                findings.push(Finding::new(
                    &file.path,
                    number + 1,
                    format!("`{home}` is a path of one machine"),
                    "take the path from an argument, the environment, or the place of the file itself",
                ));
            }
        }
    }
    findings
}

/// What stands before each use of `word` as a whole word in `line`.
pub(crate) fn whole_word_uses<'a>(
    line: &'a str,
    word: &'a str,
) -> impl Iterator<Item = &'a str> + 'a {
    line.match_indices(word).filter_map(move |(at, _)| {
        let (before, rest) = line.split_at(at);
        let ends = rest
            .strip_prefix(word)
            .is_some_and(|after| !after.starts_with(is_word));
        let whole = ends && !before.ends_with(is_word);
        whole.then_some(before)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rust(text: &str) -> SourceFile {
        SourceFile::new("crates/queue/src/sample.rs", text)
    }

    #[test]
    fn header_missing_is_found() {
        assert!(header(&rust("use std::fmt;\n")).is_some());
        assert!(header(&rust("// plain\n//! late\n")).is_some());
        assert!(header(&rust("")).is_some());
        assert!(header(&rust("\n//! What it is for.\n")).is_none());
        assert!(header(&SourceFile::new("README.md", "# Warren\n")).is_none());
    }

    #[test]
    fn file_length_over_limit_is_found() {
        let at_limit = rust(&"x\n".repeat(FILE_LINES_MAX));
        let over = rust(&"x\n".repeat(FILE_LINES_MAX + 1));
        assert!(file_length(&at_limit, &[]).is_none());
        assert!(file_length(&over, &[]).is_some());
        let ratchet = [("crates/queue/src/sample.rs", FILE_LINES_MAX + 1)];
        assert!(file_length(&over, &ratchet).is_none());
        let longer = rust(&"x\n".repeat(FILE_LINES_MAX + 2));
        assert!(file_length(&longer, &ratchet).is_some());
    }

    #[test]
    fn words_banned_synonym_is_found_with_its_line() {
        let findings = words(&rust("//! Doc.\n/// The Partition of a queue.\n"));
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].line, 2);
        assert_eq!(words(&rust("let primary = 1;")).len(), 1);
    }

    #[test]
    fn words_standard_library_and_network_fault_pass() {
        assert!(words(&rust("let at = rows.partition_point(|r| r < x);")).is_empty());
        assert!(words(&rust("let (a, b) = rows.partition(|r| r < x);")).is_empty());
        assert!(words(&rust("// heals after a network partition")).is_empty());
        assert!(words(&SourceFile::new("docs/x.md", "partition")).is_empty());
    }

    #[test]
    fn machine_path_is_found_url_and_variable_pass() {
        let home = concat!("/ro", "ot/");
        let file = SourceFile::new("scripts/x.sh", &format!("ok\ncd {home}.cache\n"));
        assert_eq!(machine_paths(&file)[0].line, 2);
        let work = concat!("/wo", "rk/");
        for fine in [
            format!("https://host{work}list"),
            format!("${{DIR}}{work}x"),
            format!(".{work}"),
        ] {
            assert!(
                machine_paths(&SourceFile::new("a.sh", &fine)).is_empty(),
                "{fine}"
            );
        }
    }
}
