//! The dependency graph of our crates, as a table, and what their manifests must say. Not here: versions and licences
//! of others' crates (`deny.toml`).

use crate::finding::Finding;
use crate::tree::SourceFile;

/// One crate: what of ours it may use, and which libraries it must never see.
struct Crate {
    name: &'static str,
    may_use: &'static [&'static str],
    never: &'static [&'static str],
}

/// What a pure crate cannot need: it has no tasks, wire messages, clock or randomness.
const IMPURE: &[&str] = &[
    "tokio", "prost", "tonic", "rand", "uuid", "tracing", "rocksdb", "openraft",
];
const NOT_STORED: &[&str] = &["rocksdb", "openraft"];

/// The whole graph. A line here is a decision: a new arrow comes with an ADR.
const CRATES: [Crate; 15] = [
    Crate {
        name: "types",
        may_use: &[],
        never: IMPURE,
    },
    Crate {
        name: "topology",
        may_use: &["types"],
        never: IMPURE,
    },
    Crate {
        name: "queue",
        may_use: &["types"],
        never: IMPURE,
    },
    Crate {
        name: "proto",
        may_use: &["types"],
        never: NOT_STORED,
    },
    Crate {
        name: "codec",
        may_use: &["types", "topology", "queue", "proto"],
        never: &["tokio", "tonic", "rand", "rocksdb", "openraft"],
    },
    Crate {
        name: "amqp",
        may_use: &["types"],
        never: IMPURE,
    },
    Crate {
        name: "storage",
        may_use: &["types"],
        never: &["openraft", "prost", "tonic"],
    },
    Crate {
        name: "raft",
        may_use: &["types", "proto", "codec", "storage"],
        never: &["rocksdb"],
    },
    Crate {
        name: "shard",
        may_use: &[
            "types", "topology", "queue", "proto", "codec", "storage", "raft",
        ],
        never: NOT_STORED,
    },
    Crate {
        name: "gateway",
        may_use: &["types", "topology", "proto", "amqp", "shard"],
        never: NOT_STORED,
    },
    Crate {
        name: "management",
        may_use: &["types", "topology", "shard", "gateway"],
        never: NOT_STORED,
    },
    Crate {
        name: "server",
        may_use: &[
            "types",
            "topology",
            "queue",
            "proto",
            "codec",
            "amqp",
            "storage",
            "raft",
            "shard",
            "gateway",
            "management",
        ],
        never: NOT_STORED,
    },
    Crate {
        name: "client",
        may_use: &["types", "proto"],
        never: NOT_STORED,
    },
    Crate {
        name: "cli",
        may_use: &["types", "client", "server"],
        never: NOT_STORED,
    },
    Crate {
        name: "testkit",
        may_use: &["types", "storage", "server", "client"],
        never: NOT_STORED,
    },
];

/// Packages under `tests/` see the cluster from outside: by the client, or by the bare protocol where a client would not do it.
const TEST_PACKAGES_MAY_USE: &[&str] = &["types", "proto", "client", "testkit"];

/// Everything wrong with one manifest. Only `crates/*/Cargo.toml` and `tests/*/Cargo.toml` are looked at.
pub fn manifest(file: &SourceFile) -> Vec<Finding> {
    let Some(place) = Place::of(&file.path) else {
        return Vec::new();
    };
    let table: toml::Table = match file.text.parse() {
        Ok(table) => table,
        Err(error) => {
            return vec![Finding::new(
                &file.path,
                1,
                error.to_string(),
                "write valid TOML",
            )];
        }
    };
    let mut findings = Vec::new();
    check_lints(&file.path, &table, &mut findings);
    for dependency in dependencies(&table) {
        check_dependency(&file.path, &place, &dependency, &mut findings);
    }
    if let Place::Crate(name) = &place {
        check_name(&file.path, name, &table, &mut findings);
    }
    findings
}

/// Which package a manifest describes.
enum Place {
    Crate(String),
    TestPackage,
}

impl Place {
    fn of(path: &str) -> Option<Self> {
        match path.split('/').collect::<Vec<_>>().as_slice() {
            ["crates", name, "Cargo.toml"] => Some(Self::Crate((*name).to_owned())),
            ["tests", _, "Cargo.toml"] => Some(Self::TestPackage),
            _ => None,
        }
    }
}

struct Dependency {
    package: String,
    for_tests: bool,
}

/// All dependency tables, those under `[target.…]` included.
fn dependencies(table: &toml::Table) -> Vec<Dependency> {
    let mut found = Vec::new();
    let mut sections = vec![table];
    if let Some(targets) = table.get("target").and_then(toml::Value::as_table) {
        sections.extend(targets.values().filter_map(toml::Value::as_table));
    }
    for section in sections {
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(entries) = section.get(kind).and_then(toml::Value::as_table) else {
                continue;
            };
            for (key, value) in entries {
                let renamed = value.get("package").and_then(toml::Value::as_str);
                found.push(Dependency {
                    package: renamed.unwrap_or(key).to_owned(),
                    for_tests: kind == "dev-dependencies",
                });
            }
        }
    }
    found
}

fn check_lints(path: &str, table: &toml::Table, findings: &mut Vec<Finding>) {
    let inherits = table
        .get("lints")
        .and_then(|lints| lints.get("workspace"))
        .and_then(toml::Value::as_bool);
    if inherits != Some(true) {
        findings.push(Finding::new(
            path,
            0,
            "no `[lints] workspace = true`",
            "add it: the workspace's lints hold everywhere; extra ones go into lib.rs",
        ));
    }
}

fn check_name(path: &str, name: &str, table: &toml::Table, findings: &mut Vec<Finding>) {
    let package = table.get("package").and_then(|package| package.get("name"));
    let expected = format!("warren-{name}");
    if package.and_then(toml::Value::as_str) != Some(expected.as_str()) {
        findings.push(Finding::new(
            path,
            0,
            "package name and directory differ",
            format!("name the package `{expected}`"),
        ));
    }
    if !CRATES.iter().any(|known| known.name == name) {
        findings.push(Finding::new(
            path,
            0,
            format!("crate `{name}` is not in the table of edges"),
            "make it a module of an existing crate; a new crate needs a new dependency rule and an ADR",
        ));
    }
}

fn check_dependency(
    path: &str,
    place: &Place,
    dependency: &Dependency,
    findings: &mut Vec<Finding>,
) {
    let package = dependency.package.as_str();
    let (owner, may_use, never) = match place {
        Place::TestPackage => ("this test package", TEST_PACKAGES_MAY_USE, &[] as &[_]),
        Place::Crate(name) => match CRATES.iter().find(|known| known.name == name) {
            Some(known) => (known.name, known.may_use, known.never),
            // Reported once by `check_name`.
            None => return,
        },
    };
    if let Some(ours) = package.strip_prefix("warren-") {
        let testkit_in_tests = ours == "testkit" && dependency.for_tests;
        if !may_use.contains(&ours) && !testkit_in_tests {
            findings.push(Finding::new(
                path,
                0,
                format!(
                    "{owner} may not use {ours}; it may use: {}",
                    may_use.join(", ")
                ),
                "move the code to a crate that may, pass the value in, or change the table in \
                 tests/tidy/src/edges.rs together with an ADR",
            ));
        }
    } else if never.contains(&package) && !dependency.for_tests {
        findings.push(Finding::new(
            path,
            0,
            format!("{owner} must never see {package}"),
            "do that work in the crate that owns the library and pass plain values",
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str) -> Vec<String> {
        let whole = format!("{text}\n[lints]\nworkspace = true\n");
        manifest(&SourceFile::new(path, &whole))
            .into_iter()
            .map(|f| f.what)
            .collect()
    }

    const QUEUE: &str = "[package]\nname = \"warren-queue\"\n";

    #[test]
    fn edge_in_the_table_passes() {
        let text = format!("{QUEUE}[dependencies]\nwarren-types.workspace = true\nbytes = \"1\"\n");
        assert!(check("crates/queue/Cargo.toml", &text).is_empty());
    }

    #[test]
    fn edge_outside_the_table_is_found_in_every_kind_of_section() {
        for section in [
            "dependencies",
            "dev-dependencies",
            "build-dependencies",
            "target.'cfg(unix)'.dependencies",
        ] {
            let text = format!("{QUEUE}[{section}]\nwarren-storage.workspace = true\n");
            let found = check("crates/queue/Cargo.toml", &text);
            assert_eq!(found.len(), 1, "{section}");
            assert!(found[0].contains("queue may not use storage"), "{found:?}");
        }
    }

    #[test]
    fn renamed_edge_is_found() {
        let text =
            format!("{QUEUE}[dependencies]\nx = {{ package = \"warren-raft\", path = \"y\" }}\n");
        assert_eq!(check("crates/queue/Cargo.toml", &text).len(), 1);
    }

    #[test]
    fn testkit_is_for_tests_only() {
        let product = format!("{QUEUE}[dependencies]\nwarren-testkit.workspace = true\n");
        assert_eq!(check("crates/queue/Cargo.toml", &product).len(), 1);
        let tests = format!("{QUEUE}[dev-dependencies]\nwarren-testkit.workspace = true\n");
        assert!(check("crates/queue/Cargo.toml", &tests).is_empty());
    }

    #[test]
    fn library_a_pure_crate_must_not_see_is_found() {
        let text = format!("{QUEUE}[dependencies]\ntokio.workspace = true\n");
        assert_eq!(
            check("crates/queue/Cargo.toml", &text),
            ["queue must never see tokio"]
        );
    }

    #[test]
    fn unknown_crate_and_wrong_name_are_found() {
        let found = check(
            "crates/misc/Cargo.toml",
            "[package]\nname = \"warren-other\"\n",
        );
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn missing_lints_are_found() {
        let file = SourceFile::new("crates/queue/Cargo.toml", QUEUE);
        assert_eq!(manifest(&file).len(), 1);
    }

    #[test]
    fn test_package_may_not_reach_inside() {
        let text = "[package]\nname = \"c\"\n[dependencies]\nwarren-shard.workspace = true\n";
        assert_eq!(check("tests/cluster/Cargo.toml", text).len(), 1);
        let text = "[package]\nname = \"c\"\n[dependencies]\nwarren-testkit.workspace = true\n";
        assert!(check("tests/cluster/Cargo.toml", text).is_empty());
    }

    #[test]
    fn the_table_has_no_cycle() {
        for (at, known) in CRATES.iter().enumerate() {
            for used in known.may_use {
                let used_at = CRATES.iter().position(|other| other.name == *used);
                assert!(
                    used_at.is_some_and(|used_at| used_at != at),
                    "{} uses {used}",
                    known.name
                );
            }
        }
        assert!(sorted_by_use(), "the table of edges has a cycle");
    }

    /// Removes crates whose edges are all removed already; what stays is a cycle.
    fn sorted_by_use() -> bool {
        let mut left: Vec<_> = CRATES.iter().collect();
        loop {
            let before = left.len();
            let names: Vec<_> = left.iter().map(|known| known.name).collect();
            left.retain(|known| known.may_use.iter().any(|used| names.contains(used)));
            if left.len() == before {
                return left.is_empty();
            }
        }
    }
}
