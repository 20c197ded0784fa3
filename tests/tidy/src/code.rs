//! Rules that look at the shape of code: function length, unbounded channels, orphan tasks, who names which library.
//! Not here: manifests (`edges`) and prose (`text`).

use crate::finding::Finding;
use crate::mask::{code_only, is_word};
use crate::text::whole_word_uses;
use crate::tree::SourceFile;

/// A function longer than this does two things.
pub const FUNCTION_LINES_MAX: usize = 70;

/// Functions that were too long when the rule came: path, name, length they may not exceed. Only ever gets shorter.
pub const LONG_FUNCTIONS: [(&str, &str, usize); 0] = [];

/// Where a bare `tokio::spawn` is right: the owner of named, joined tasks. Everything else asks that owner.
pub const SPAWN_ALLOWED: [&str; 0] = [];

/// Names of channels without a bound.
const UNBOUNDED: [&str; 4] = [
    "unbounded_channel",
    "UnboundedSender",
    "UnboundedReceiver",
    "unbounded",
];

/// A library that one crate wraps, so that it can be replaced there.
struct Owned {
    library: &'static str,
    owner: &'static str,
}

const OWNED: [Owned; 2] = [
    Owned {
        library: "openraft",
        owner: "crates/raft/",
    },
    Owned {
        library: "rocksdb",
        owner: "crates/storage/",
    },
];

/// One function as it stands in a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Line of `fn`, counted from 1.
    pub line: usize,
    /// From `fn` to the closing brace.
    pub lines: usize,
}

/// No function is longer than `FUNCTION_LINES_MAX`, or than its entry in `allowed`.
pub fn function_length(file: &SourceFile, allowed: &[(&str, &str, usize)]) -> Vec<Finding> {
    if !file.is_rust() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for function in functions(&file.text) {
        let limit = allowed
            .iter()
            .find(|(path, name, _)| *path == file.path && *name == function.name)
            .map_or(FUNCTION_LINES_MAX, |(_, _, limit)| *limit);
        if function.lines > limit {
            findings.push(Finding::new(
                &file.path,
                function.line,
                format!(
                    "fn {} has {} lines, the limit is {limit}",
                    function.name, function.lines
                ),
                "push `if`s up and `for`s down: name a step and move it to a function of its own",
            ));
        }
    }
    findings
}

/// Every channel has a bound.
pub fn unbounded_channels(file: &SourceFile) -> Vec<Finding> {
    if !file.is_rust() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (number, line) in code_only(&file.text).lines().enumerate() {
        for name in UNBOUNDED {
            if whole_word_uses(line, name).next().is_some() {
                findings.push(Finding::new(
                    &file.path,
                    number + 1,
                    format!("`{name}` has no bound"),
                    "use a bounded channel and write down what happens when it is full",
                ));
            }
        }
    }
    findings
}

/// A bare `tokio::spawn` outside `allowed` (path prefixes) makes a task that nobody names, stops or joins. Tests may.
pub fn orphan_tasks(file: &SourceFile, allowed: &[&str]) -> Vec<Finding> {
    if !file.is_rust() || file.is_test_only() || allowed.iter().any(|p| file.path.starts_with(p)) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (number, line) in code_only(product_part(&file.text)).lines().enumerate() {
        if line.contains("tokio::spawn(") || line.contains("tokio::task::spawn(") {
            findings.push(Finding::new(
                &file.path,
                number + 1,
                "bare `tokio::spawn`",
                "spawn on the owner's TaskTracker or JoinSet, so that the task is stopped and joined at shutdown",
            ));
        }
    }
    findings
}

/// Only `raft` names openraft, only `storage` names rocksdb.
pub fn owned_libraries(file: &SourceFile) -> Vec<Finding> {
    if !file.is_rust() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (number, line) in code_only(&file.text).lines().enumerate() {
        for owned in &OWNED {
            if !file.path.starts_with(owned.owner)
                && whole_word_uses(line, owned.library).next().is_some()
            {
                findings.push(Finding::new(
                    &file.path,
                    number + 1,
                    format!("`{}` is named outside {}", owned.library, owned.owner),
                    format!(
                        "use what {} offers, or add the missing operation there",
                        owned.owner
                    ),
                ));
            }
        }
    }
    findings
}

/// The source up to its inline test module, which by our layout comes last.
fn product_part(text: &str) -> &str {
    text.find("\n#[cfg(test)]\nmod ")
        .map_or(text, |at| text.get(..at).unwrap_or(text))
}

/// Every function with a body, in the order of their beginnings.
pub fn functions(text: &str) -> Vec<Function> {
    let code = code_only(text);
    let mut found = Vec::new();
    let mut line = 1;
    let mut before = '\n';
    for (at, letter) in code.char_indices() {
        let rest = code.get(at..).unwrap_or_default();
        if letter == 'f' && !is_word(before) && before != '#' {
            found.extend(function_at(rest, line));
        }
        if letter == '\n' {
            line += 1;
        }
        before = letter;
    }
    found
}

/// The function item that `rest` begins with, if it does and has a body. A function pointer type has no name.
fn function_at(rest: &str, line: usize) -> Option<Function> {
    let after = rest.strip_prefix("fn")?;
    let signature = after.trim_start();
    let name: String = signature
        .chars()
        .take_while(|letter| is_word(*letter))
        .collect();
    if signature.len() == after.len() || name.is_empty() {
        return None;
    }
    let body = body_end(signature)?;
    let end = rest.len() - signature.len() + body;
    let breaks = rest.get(..end)?.matches('\n').count();
    Some(Function {
        name,
        line,
        lines: breaks + 1,
    })
}

/// One past the closing brace of the body; none for a declaration that ends in `;`.
fn body_end(signature: &str) -> Option<usize> {
    let (mut braces, mut brackets) = (0_usize, 0_usize);
    for (at, letter) in signature.char_indices() {
        match letter {
            ';' if braces == 0 && brackets == 0 => return None,
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets = brackets.saturating_sub(1),
            '{' => braces += 1,
            '}' => {
                braces = braces.saturating_sub(1);
                if braces == 0 && brackets == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rust(text: &str) -> SourceFile {
        SourceFile::new("crates/gateway/src/sample.rs", text)
    }

    #[test]
    fn functions_bodies_are_measured_declarations_skipped() {
        let text = "//! x\ntrait T { fn none(&self) -> [u8; 4]; }\nfn one() { \"}\" }\npub async fn three(f: fn(u8) -> u8) {\n  // }\n}\n";
        let found = functions(text);
        let names: Vec<_> = found
            .iter()
            .map(|f| (f.name.as_str(), f.line, f.lines))
            .collect();
        assert_eq!(names, [("one", 3, 1), ("three", 4, 3)]);
    }

    #[test]
    fn function_over_limit_is_found_nested_too() {
        let body = "    x();\n".repeat(FUNCTION_LINES_MAX - 1);
        let over = rust(&format!("mod m {{\nfn long() {{\n{body}}}\n}}\n"));
        let findings = function_length(&over, &[]);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].line, 2);
        let ratchet = [(
            "crates/gateway/src/sample.rs",
            "long",
            FUNCTION_LINES_MAX + 1,
        )];
        assert!(function_length(&over, &ratchet).is_empty());
        let fits = rust(&format!(
            "fn fits() {{\n{}}}\n",
            "x();\n".repeat(FUNCTION_LINES_MAX - 2)
        ));
        assert!(function_length(&fits, &[]).is_empty());
    }

    #[test]
    fn unbounded_channel_is_found_prose_passes() {
        assert_eq!(
            unbounded_channels(&rust("let (a, b) = mpsc::unbounded_channel();")).len(),
            1
        );
        assert_eq!(
            unbounded_channels(&rust("x: UnboundedSender<u8>,")).len(),
            1
        );
        assert!(
            unbounded_channels(&rust("// never an unbounded_channel\n\"unbounded\"")).is_empty()
        );
    }

    #[test]
    fn bare_spawn_is_found_outside_owner_and_tests() {
        let bare = rust("fn f() {\n    tokio::spawn(async {});\n}\n");
        assert_eq!(orphan_tasks(&bare, &[])[0].line, 2);
        assert!(orphan_tasks(&bare, &["crates/gateway/src/sample.rs"]).is_empty());
        let in_tests = rust("fn f() {}\n#[cfg(test)]\nmod tests {\n tokio::spawn(x);\n}\n");
        assert!(orphan_tasks(&in_tests, &[]).is_empty());
        assert!(orphan_tasks(&rust("tracker.spawn(async {});"), &[]).is_empty());
    }

    #[test]
    fn owned_library_is_found_outside_its_owner() {
        assert_eq!(owned_libraries(&rust("use openraft::Raft;")).len(), 1);
        assert_eq!(owned_libraries(&rust("type Db = rocksdb::DB;")).len(), 1);
        assert!(owned_libraries(&rust("// rocksdb keeps it")).is_empty());
        let owner = SourceFile::new("crates/raft/src/lib.rs", "use openraft::Raft;");
        assert!(owned_libraries(&owner).is_empty());
    }
}
