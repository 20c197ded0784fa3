//! Configuration from all its sources, and what is said when it is wrong. Not here: what settings do.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use warren_server::config::{Config, ConfigError, Inputs, Kind, Loaded, LogFormat};

struct Case {
    root: tempfile::TempDir,
    inputs: Inputs,
}

impl Case {
    /// With this file, and nothing else.
    fn file(text: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("node.toml");
        fs::write(&path, text).unwrap();
        Self {
            root,
            inputs: Inputs {
                file: Some(path),
                ..Inputs::default()
            },
        }
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.inputs
            .environment
            .push((name.to_owned(), value.to_owned()));
        self
    }

    fn flag(mut self, name: &str, value: &str) -> Self {
        self.inputs.flags.push((name.to_owned(), value.to_owned()));
        self
    }

    fn load(&self) -> Result<Loaded, ConfigError> {
        Config::load(&self.inputs)
    }

    /// The problems, without the directory of the test.
    fn problems(&self) -> Vec<String> {
        let error = self.load().expect_err("it is wrong");
        let root = format!("{}/", self.root.path().display());
        error
            .problems()
            .iter()
            .map(|problem| problem.to_string().replace(&root, ""))
            .collect()
    }
}

const GOOD: &str = "[node]\nid = 1\ndata_dir = \"/data\"\n";

fn with_good(text: &str) -> Case {
    Case::file(&format!("{GOOD}{text}"))
}

#[test]
fn config_smallest_file_gets_the_defaults() {
    let Loaded { config, warnings } = with_good("").load().unwrap();
    assert_eq!(
        (config.node.id.0, config.node.data_dir.as_path()),
        (1, Path::new("/data"))
    );
    assert_eq!(
        (config.cluster.shards, config.cluster.replication_factor),
        (16, 3)
    );
    assert_eq!(config.cluster.finalise_after, Duration::from_secs(86_400));
    assert_eq!(config.limits.max_message_size, 16 << 20);
    assert_eq!(config.limits.consumer_timeout, None);
    assert_eq!(config.listen.grpc.to_string(), "127.0.0.1:7101");
    assert_eq!(
        warnings,
        ["there is no cluster secret: every process of this machine can pass for a node"]
    );
}

#[test]
fn config_says_when_a_version_is_finalised() {
    let case = with_good("[cluster]\nfinalise_after = \"7h\"\n");
    let Loaded { config, .. } = case.load().unwrap();
    let after = config.cluster.finalise_after;
    assert_eq!(after, Duration::from_secs(7 * 3_600));
}

#[test]
fn config_every_key_of_the_contract_is_read() {
    let case = Case::file(
        r#"
[node]
id = 2
data_dir = "/data"
zone = "a"
[cluster]
name = "local"
secret_file = "SECRET"
peers = [
    { id = 1, address = "127.0.0.1:7201" },
    { id = 2, address = "127.0.0.1:7202" },
]
shards = 4
replication_factor = 1
[listen]
grpc = "0.0.0.0:7102"
node = "0.0.0.0:7202"
amqp = ""
[advertise]
grpc = "node-2.example:7102"
node = "node-2.example:7202"
[log]
filter = "debug"
format = "json"
[raft]
heartbeat = "100ms"
election_timeout_min = "300ms"
election_timeout_max = "600 ms"
early_election = false
[storage]
block_cache = "1 GiB"
[limits]
max_message_size = "1 MiB"
"#,
    );
    let secret = case.root.path().join("secret");
    fs::write(&secret, "0123456789abcdef\n").unwrap();
    let path = case.inputs.file.clone().unwrap();
    let text = fs::read_to_string(&path)
        .unwrap()
        .replace("SECRET", secret.to_str().unwrap());
    fs::write(path, text).unwrap();
    let Loaded { config, warnings } = case.load().unwrap();
    assert_eq!(
        config.cluster.secret.as_ref().unwrap().expose(),
        b"0123456789abcdef"
    );
    assert_eq!(config.cluster.peers.len(), 2);
    assert_eq!(config.cluster.peers[1].address, "127.0.0.1:7202");
    assert_eq!(config.listen.amqp, None);
    assert_eq!(
        config.advertise.grpc.as_deref(),
        Some("node-2.example:7102")
    );
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.raft.election_timeout_max, Duration::from_millis(600));
    assert!(!config.raft.early_election);
    assert_eq!(config.storage.block_cache, 1 << 30);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("others than its owner and group can read"),
        "{warnings:?}"
    );
}

#[test]
fn config_flags_win_over_environment_over_file() {
    let case = with_good("[log]\nfilter = \"error\"\nformat = \"json\"\n");
    assert_eq!(case.load().unwrap().config.log.filter, "error");
    let case = case
        .variable("WARREN_LOG_FILTER", "warn")
        .variable("WARREN_LOG", "not ours");
    assert_eq!(case.load().unwrap().config.log.filter, "warn");
    let case = case
        .flag("log.filter", "debug")
        .variable("WARREN_CLUSTER_PEERS", "1=a:1,2=b:2");
    let config = case.load().unwrap().config;
    assert_eq!(
        (config.log.filter.as_str(), config.log.format),
        ("debug", LogFormat::Json)
    );
    assert_eq!(config.cluster.peers.len(), 2);
}

#[test]
fn config_without_a_file_is_complete_from_the_environment() {
    let environment = [
        ("WARREN_NODE_ID", "7"),
        ("WARREN_NODE_DATA_DIR", "/d"),
        ("WARREN_LISTEN_GRPC", "[::1]:9"),
    ];
    let environment = environment
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
    let config = Config::load(&Inputs {
        environment,
        ..Inputs::default()
    })
    .unwrap()
    .config;
    assert_eq!(
        (config.node.id.0, config.listen.grpc.to_string().as_str()),
        (7, "[::1]:9")
    );
}

#[test]
fn config_unknown_variable_of_a_section_is_a_warning() {
    let warnings = with_good("")
        .variable("WARREN_NODE_SERVICE_HOST", "10.0.0.1")
        .load()
        .unwrap()
        .warnings;
    assert!(
        warnings
            .iter()
            .any(|warning| warning.contains("WARREN_NODE_SERVICE_HOST")),
        "{warnings:?}"
    );
}

#[test]
fn config_secret_is_never_shown() {
    let case = with_good("").variable("WARREN_CLUSTER_SECRET", "correct horse battery staple");
    let config = case.load().unwrap().config;
    for shown in [
        config.effective(),
        format!("{config:?}"),
        format!("{config:#?}"),
    ] {
        assert!(!shown.contains("horse") && shown.contains("***"), "{shown}");
    }
    assert!(
        config
            .effective()
            .contains("node.id=1 node.data_dir=\"/data\""),
        "{}",
        config.effective()
    );
    let short = with_good("").variable("WARREN_CLUSTER_SECRET", "tooshort");
    assert_eq!(
        short.problems(),
        ["WARREN_CLUSTER_SECRET: cluster.secret: the secret has 8 bytes; it needs at least 16"]
    );
}

/// Keys, sections, types and sizes that are wrong, with everything that is said about them.
fn wrong_files_and_values() -> Vec<(Case, &'static [&'static str])> {
    vec![
        (
            Case::file(""),
            &[
                "node.id: is missing: each node needs its own number, from 1",
                "node.data_dir: is missing: name the directory that holds the node's data",
            ],
        ),
        (
            with_good("colour = 3\n"),
            &[
                "node.toml:4: node.colour: unknown key; [node] has id, data_dir, zone, threads, default_queue_type, load_definitions",
            ],
        ),
        (
            with_good("[nod]\nid = 1\n"),
            &[
                "node.toml:4: nod: unknown section; there are [node], [cluster], [listen], [advertise], [log], [raft], [storage], [limits], [amqp], [auth]",
            ],
        ),
        (
            Case::file("node = 5\n[log]\nformat = \"xml\"\n"),
            &[
                "node.toml:1: node: is a table, [node], not of the type integer",
                "node.toml:3: log.format: \"xml\" is not one of text, json",
                "node.id: is missing: each node needs its own number, from 1",
                "node.data_dir: is missing: name the directory that holds the node's data",
            ],
        ),
        (
            Case::file("[node]\nid = \"one\"\ndata_dir = 5\n"),
            &[
                "node.toml:2: node.id: \"one\" is not a number from 1, or \"from-hostname\": one more than the number at the end of the host name",
                "node.toml:3: node.data_dir: is a path, not of the type integer",
            ],
        ),
        (
            Case::file("[node]\nid = -1\ndata_dir = \"/d\"\n"),
            &[
                "node.toml:2: node.id: \"-1\" is not a number from 1, or \"from-hostname\": one more than the number at the end of the host name",
            ],
        ),
        (
            Case::file("[node]\nid = 0\ndata_dir = \"/d\"\n"),
            &["node.toml:2: node.id: is a number from 1 on"],
        ),
        (
            with_good("[storage]\nblock_cache = \"lots\"\nwrite_buffers = -5\n"),
            &[
                "node.toml:5: storage.block_cache: \"lots\" is not a size such as \"64 MiB\" (B, KiB, MiB, GiB, KB, MB, GB)",
                "node.toml:6: storage.write_buffers: \"-5\" is not a size such as \"64 MiB\" (B, KiB, MiB, GiB, KB, MB, GB)",
            ],
        ),
        (
            with_good("[storage]\nlog_queue = 0\nblock_cache = \"2 MiB\"\n"),
            &[
                "node.toml:5: storage.log_queue: is 0B; allowed are 1MiB to 1024GiB",
                "node.toml:6: storage.block_cache: is smaller than storage.write_buffers, which are counted in it",
            ],
        ),
    ]
}

/// Durations and listening addresses that are wrong.
fn wrong_timings_and_listeners() -> Vec<(Case, &'static [&'static str])> {
    vec![
        (
            with_good("[raft]\nheartbeat = \"0\"\nelection_timeout_min = \"2s\"\n"),
            &[
                "node.toml:5: raft.heartbeat: is shorter than 20ms",
                "raft.election_timeout_max: is not longer than raft.election_timeout_min",
            ],
        ),
        (
            with_good("[raft]\nheartbeat = 200\n"),
            &[
                "node.toml:5: raft.heartbeat: is a duration such as \"200ms\" (ms, s, min, h), not of the type integer",
            ],
        ),
        (
            with_good("[listen]\ngrpc = \"localhost\"\nnode = \"127.0.0.1:5672\"\n"),
            &[
                "node.toml:5: listen.grpc: \"localhost\" is not an IP address and port such as \"127.0.0.1:7101\" or \"[::1]:7101\"",
                "listen.amqp: 127.0.0.1:5672 is listen.node, too",
            ],
        ),
        (
            with_good("[listen]\nnode = \"10.0.0.1:7201\"\n"),
            &[
                "node.toml:5: listen.node: 10.0.0.1:7201 can be reached from outside this machine, and there is no cluster secret: set cluster.secret_file (or WARREN_CLUSTER_SECRET) or listen on 127.0.0.1",
            ],
        ),
    ]
}

/// Settings that do not go together.
fn wrong_combinations() -> Vec<(Case, &'static [&'static str])> {
    vec![
        (
            with_good("[listen]\ngrpc = \"0.0.0.0:7101\"\n[advertise]\namqp = \"nowhere\"\n"),
            &[
                "advertise.grpc: is missing: listen.grpc is 0.0.0.0:7101, which nobody can be told to connect to",
                "node.toml:7: advertise.amqp: \"nowhere\" has no port: it is a host and port such as \"node-1.example.net:7101\"",
            ],
        ),
        (
            with_good(
                "[cluster]\npeers = [{ id = 2, address = \"a:1\" }, { id = 2, address = \"a:1\" }, { id = 3, address = \"b\" }]\n",
            ),
            &[
                "node.toml:5: cluster.peers: does not name this node, 1; one that is to join later needs advertise.node instead",
                "node.toml:5: cluster.peers: names node 2 twice",
                "node.toml:5: cluster.peers: two nodes have the address a:1",
                "node.toml:5: cluster.peers: node 3: \"b\" has no port",
            ],
        ),
        (
            with_good("[cluster]\npeers = [{ id = 1, adress = \"a:1\" }]\n"),
            &["node.toml:5: cluster.peers: a peer has id and address, not \"adress\""],
        ),
        (
            with_good("[cluster]\nsecret = \"0123456789abcdef\"\nshards = 0\n"),
            &[
                "node.toml:5: cluster.secret: a secret does not stand in a configuration file: use cluster.secret_file or the variable WARREN_CLUSTER_SECRET",
                "node.toml:6: cluster.shards: is 0; allowed are 1 to 4096",
            ],
        ),
        (
            with_good("[limits]\nmax_message_size = \"1 GiB\"\nconsumer_timeout = \"10ms\"\n"),
            &[
                "node.toml:5: limits.max_message_size: is 1GiB; allowed are 1KiB to 128MiB",
                "limits.admission_bytes: is less than limits.max_message_size: such a message would never be taken",
                "node.toml:6: limits.consumer_timeout: is 10ms; allowed are 0 (none) and 1s to 31536000s",
            ],
        ),
    ]
}

#[test]
fn config_problems_name_file_line_key_and_what_is_allowed() {
    let golden = [
        wrong_files_and_values(),
        wrong_timings_and_listeners(),
        wrong_combinations(),
    ];
    for (case, expected) in golden.into_iter().flatten() {
        let text = fs::read_to_string(case.inputs.file.as_ref().unwrap()).unwrap();
        assert_eq!(case.problems(), expected, "of:\n{text}");
    }
}

#[test]
fn config_file_that_is_missing_or_no_toml_is_named() {
    let missing = Inputs {
        file: Some(PathBuf::from("/no/such/file.toml")),
        ..Inputs::default()
    };
    let error = Config::load(&missing).unwrap_err().to_string();
    assert!(
        error.contains("/no/such/file.toml: the file cannot be read: No such file"),
        "{error}"
    );
    let problems = with_good("[log\nfilter = \"info\"\n").problems();
    assert!(problems[0].starts_with("node.toml:4: "), "{problems:?}");
    let twice = with_good("id = 2\n").problems();
    assert!(
        twice[0].starts_with("node.toml:4: duplicate key"),
        "{twice:?}"
    );
}

#[test]
fn config_secret_file_that_cannot_be_read_is_named() {
    let problems = with_good("[cluster]\nsecret_file = \"/no/such/secret\"\n").problems();
    assert_eq!(
        problems,
        [
            "node.toml:5: cluster.secret_file: /no/such/secret: the secret cannot be read: No such file or directory (os error 2)",
        ]
    );
}

#[test]
fn config_first_password_that_is_missing_or_empty_is_named() {
    let missing = with_good("[auth]\nfirst_password_file = \"/no/such/password\"\n").problems();
    assert_eq!(
        missing,
        [
            "node.toml:5: auth.first_password_file: /no/such/password: the secret cannot be read: No such file or directory (os error 2)",
        ]
    );
    let empty = tempfile::NamedTempFile::new().unwrap();
    let case = with_good(&format!(
        "[auth]\nfirst_password_file = {:?}\n",
        empty.path()
    ));
    let problems = case.problems();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].contains("is empty"), "{problems:?}");
}

#[test]
fn config_flag_and_variable_problems_name_where_they_were_given() {
    let problems = with_good("")
        .flag("node.id", "x")
        .variable("WARREN_CLUSTER_SHARDS", "many")
        .problems();
    assert_eq!(
        problems,
        [
            "WARREN_CLUSTER_SHARDS: cluster.shards: \"many\" is not a whole number",
            "--node-id: node.id: \"x\" is not a number from 1, or \"from-hostname\": one more than the number at the end of the host name",
        ]
    );
    let problems = with_good("").flag("node.idd", "1").problems();
    assert_eq!(problems, ["--node.idd: there is no such setting"]);
}

#[test]
fn config_names_of_variables_and_flags_are_distinct() {
    let mut names: Vec<String> = Config::settings()
        .map(|setting| setting.variable())
        .collect();
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all);
    let hidden = Config::settings().filter(|setting| setting.flag().is_none());
    assert!(
        hidden
            .into_iter()
            .all(|setting| setting.kind == Kind::Secret)
    );
}
