//! `[node]`: which node this is and where its data lies. Not here: the other nodes (`cluster`).

use std::fmt;
use std::path::PathBuf;

use warren_topology::QueueType;
use warren_types::NodeId;

use super::Config;
use super::report::Report;
use super::setting::{FROM_HOSTNAME, Kind, Setting, whole};

#[derive(Clone, Debug, Default)]
pub struct NodeConfig {
    /// Unique in the cluster, from 1.
    pub id: NodeId,
    /// The id is still to be taken from the host's name.
    pub(super) id_from_hostname: bool,
    /// Everything the node keeps.
    pub data_dir: PathBuf,
    /// Failure domain; empty = none.
    pub zone: String,
    /// Threads that serve clients and replicate; 0 = one per processor.
    pub threads: u32,
    /// Of queues whose declare names no type, in vhosts that say none either.
    pub default_queue_type: QueueType,
    /// Definitions to be there after the start.
    pub load_definitions: Option<DefinitionsSource>,
}

/// Where definitions are taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DefinitionsSource {
    /// A file, or a directory of files `*.json` in the order of their names.
    Path(PathBuf),
    /// A URL that begins with `https://`. It may hold a password: it is not shown.
    Https(String),
}

impl DefinitionsSource {
    fn of(text: &str) -> Result<Self, Option<String>> {
        let scheme = text.split_once("://").map(|(scheme, _)| scheme);
        match scheme {
            Some(scheme) if scheme.eq_ignore_ascii_case("https") => {
                Ok(Self::Https(text.to_owned()))
            }
            Some(scheme) if scheme.bytes().all(|it| it.is_ascii_alphanumeric()) => {
                Err(Some(format!(
                    "cannot be read over {scheme}: definitions hold passwords, so it is a path or begins with https://"
                )))
            }
            Some(_) | None => Ok(Self::Path(PathBuf::from(text))),
        }
    }
}

impl fmt::Display for DefinitionsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Https(url) => {
                let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
                let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
                let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
                let path = path.split(['?', '#']).next().unwrap_or_default();
                write!(f, "{scheme}://{host}{path}")
            }
        }
    }
}

const ZONE_BYTES_MAX: usize = 255;
const THREADS_MAX: u32 = 1_024;

pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        name: "node.id",
        about: "number of this node, unique in the cluster, from 1; from-hostname: warren-0 is 1, warren-1 is 2",
        kind: Kind::NodeId,
        set: |config, text| {
            config.node.id_from_hostname = text.trim() == FROM_HOSTNAME;
            config.node.id = if config.node.id_from_hostname {
                NodeId(0)
            } else {
                NodeId(whole(text)?)
            };
            Ok(())
        },
        show: |config| config.node.id.to_string(),
    },
    Setting {
        name: "node.data_dir",
        about: "directory of everything the node keeps; made if it is missing",
        kind: Kind::Path,
        set: |config, text| {
            config.node.data_dir = PathBuf::from(text);
            Ok(())
        },
        show: |config| format!("{:?}", config.node.data_dir),
    },
    Setting {
        name: "node.zone",
        about: "failure domain, for placement [default: none]",
        kind: Kind::Text,
        set: |config, text| {
            config.node.zone = text.to_owned();
            Ok(())
        },
        show: |config| format!("{:?}", config.node.zone),
    },
    Setting {
        name: "node.threads",
        about: "threads that serve clients and replicate; fewer where several nodes share a machine [default: 0, one per processor]",
        kind: Kind::Whole,
        set: |config, text| {
            config.node.threads = whole(text)?;
            Ok(())
        },
        show: |config| config.node.threads.to_string(),
    },
    Setting {
        name: "node.default_queue_type",
        about: "type of queues whose declare names none, in vhosts that name none: classic or quorum; the same on each node [default: classic]",
        kind: Kind::Choice(&["classic", "quorum"]),
        set: |config, text| {
            let named = QueueType::ALL.into_iter().find(|it| it.name() == text);
            config.node.default_queue_type = named.ok_or(None)?;
            Ok(())
        },
        show: |config| config.node.default_queue_type.to_string(),
    },
    Setting {
        name: "node.load_definitions",
        about: "definitions to import at the start, unless the same were before: a JSON file, a directory of such files, or a URL https://... [default: none]",
        kind: Kind::Path,
        set: |config, text| {
            config.node.load_definitions = match text {
                "" => None,
                text => Some(DefinitionsSource::of(text)?),
            };
            Ok(())
        },
        show: |config| {
            let source = config.node.load_definitions.as_ref();
            source.map_or_else(String::new, ToString::to_string)
        },
    },
];

/// Takes the id from the host's name, if that was asked for: the pods of a StatefulSet are counted from 0, nodes from 1.
pub(super) fn take_hostname(config: &mut Config, hostname: Option<&str>, report: &mut Report) {
    if !config.node.id_from_hostname {
        return;
    }
    let Some(hostname) = hostname else {
        return report.wrong("node.id", "the host has no name to take it from");
    };
    match ordinal(hostname) {
        Some(ordinal) => config.node.id = NodeId(ordinal + 1),
        None => report.wrong(
            "node.id",
            format!(
                "the host is called {hostname:?}, which does not end in a number such as warren-0"
            ),
        ),
    }
}

fn ordinal(hostname: &str) -> Option<u64> {
    let (label, _) = hostname.split_once('.').unwrap_or((hostname, ""));
    let (_, number) = label.rsplit_once('-')?;
    let is_plain = !number.is_empty() && number.bytes().all(|it| it.is_ascii_digit());
    number.parse().ok().filter(|it| is_plain && *it < u64::MAX)
}

pub(super) fn check(config: &Config, report: &mut Report) {
    if config.node.id == NodeId(0) && !config.node.id_from_hostname {
        let why = if report.is_given("node.id") {
            "is a number from 1 on"
        } else {
            "is missing: each node needs its own number, from 1"
        };
        report.wrong("node.id", why);
    }
    if config.node.data_dir.as_os_str().is_empty() {
        report.wrong(
            "node.data_dir",
            "is missing: name the directory that holds the node's data",
        );
    }
    if let Some(DefinitionsSource::Path(path)) = &config.node.load_definitions
        && !path.exists()
    {
        report.wrong(
            "node.load_definitions",
            format!("there is no file or directory {}", path.display()),
        );
    }
    if config.node.threads > THREADS_MAX {
        report.wrong("node.threads", format!("is at most {THREADS_MAX}"));
    }
    if config.node.zone.len() > ZONE_BYTES_MAX {
        report.wrong("node.zone", format!("has more than {ZONE_BYTES_MAX} bytes"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_come_from_a_path_or_over_https_and_a_password_is_not_shown() {
        let path = DefinitionsSource::of("./a://b").unwrap();
        assert_eq!(path, DefinitionsSource::Path("./a://b".into()));
        let url = "HTTPS://user:secret@host:8443/a/definitions.json?token=secret";
        let source = DefinitionsSource::of(url).unwrap();
        assert_eq!(source, DefinitionsSource::Https(url.to_owned()));
        let shown = source.to_string();
        assert_eq!(shown, "HTTPS://host:8443/a/definitions.json");
        for refused in ["http://host/a", "ftp://host/a"] {
            let why = DefinitionsSource::of(refused).unwrap_err().unwrap();
            assert!(why.contains("begins with https://"), "{why}");
        }
    }

    #[test]
    fn ordinal_is_the_number_at_the_end_of_the_first_label() {
        for (name, found) in [
            ("warren-0", Some(0)),
            ("warren-12.warren-nodes.default.svc", Some(12)),
            ("a-b-3", Some(3)),
            ("warren", None),
            ("warren-", None),
            ("warren-x1", None),
            ("warren-+1", None),
            ("node7", None),
            ("warren-99999999999999999999", None),
            ("", None),
        ] {
            assert_eq!(ordinal(name), found, "{name}");
        }
    }
}
