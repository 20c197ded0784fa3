//! Nodes that must not start, and what they say: configuration, ports, data directories. Nothing is changed by the attempt.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use warren_api::{Call, FIRST, runtime};
use warren_testkit::process::{Cluster, Options, run_within};

fn prepared() -> Cluster {
    Cluster::prepare(Options {
        nodes: 1,
        ..Options::default()
    })
    .unwrap()
}

fn started() -> Cluster {
    Cluster::start(Options {
        nodes: 1,
        ..Options::default()
    })
    .unwrap()
}

fn config_path(cluster: &Cluster) -> PathBuf {
    cluster.directory().join("node-1/config.toml")
}

fn edit(cluster: &Cluster, edit: impl Fn(&str) -> String) {
    let path = config_path(cluster);
    let text = fs::read_to_string(&path).unwrap();
    let edited = edit(&text);
    assert_ne!(edited, text, "the edit does nothing");
    fs::write(path, edited).unwrap();
}

/// The server must end by itself with an error; all it says.
fn refusal(cluster: &Cluster, config: &Path) -> String {
    let mut command = cluster.warren();
    command.arg("server").arg("--config").arg(config);
    let output = run_within(command, Duration::from_secs(30)).expect("it ends by itself");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(!output.status.success(), "it started:\n{said}");
    said
}

#[track_caller]
fn assert_names(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "nothing of {word:?} in:\n{said}");
    }
}

#[test]
fn configuration_that_is_wrong_is_refused_with_file_key_and_cause() {
    let cluster = prepared();
    let path = config_path(&cluster);
    let good = fs::read_to_string(&path).unwrap();
    let secret = cluster.directory().join("secret");
    let secret_text = fs::read_to_string(&secret).unwrap();
    let cases: [(&str, String, &[&str]); 7] = [
        (
            "unknown key",
            good.replace("[node]\n", "[node]\ncolour = \"red\"\n"),
            &["config.toml", "colour"],
        ),
        (
            "wrong type",
            good.replace("id = 1\n", "id = \"one\"\n"),
            &["config.toml", "node.id"],
        ),
        ("no TOML", good.replace("[node]", "[node"), &["config.toml"]),
        (
            "no such secret",
            good.replace(secret.to_str().unwrap(), "/no/such/secret"),
            &["cluster.secret_file", "/no/such/secret"],
        ),
        (
            "no address",
            good.replace("grpc = \"127.0.0.1:", "grpc = \"nowhere:"),
            &["config.toml", "listen.grpc", "nowhere"],
        ),
        (
            "not among its peers",
            good.replace("id = 1\n", "id = 7\n"),
            &["peers", "7"],
        ),
        (
            "several at once",
            good.replace("id = 1\n", "id = \"one\"\nsize = 3\n")
                .replace("[log]\n", "[log]\nloud = true\n"),
            &["node.id", "size", "loud"],
        ),
    ];
    for (what, text, words) in cases {
        assert_ne!(text, good, "{what} changes nothing");
        fs::write(&path, text).unwrap();
        let said = refusal(&cluster, &path);
        assert_names(&said, words);
        assert!(
            !said.contains(secret_text.trim()),
            "{what}: a secret is told"
        );
    }
    let data = cluster.data_directory(FIRST);
    assert_eq!(fs::read_dir(data).unwrap().count(), 0, "it has begun");
}

#[test]
fn configuration_that_cannot_be_read_is_named() {
    let cluster = prepared();
    let missing = cluster.directory().join("missing.toml");
    assert_names(&refusal(&cluster, &missing), &["missing.toml"]);
    let directory = cluster.directory().join("a-directory.toml");
    fs::create_dir(&directory).unwrap();
    assert_names(&refusal(&cluster, &directory), &["a-directory.toml"]);
    let binary = cluster.directory().join("binary.toml");
    fs::write(&binary, [0xff, 0xfe, 0, 1]).unwrap();
    assert_names(&refusal(&cluster, &binary), &["binary.toml"]);
}

#[test]
fn port_in_use_is_named_and_nothing_is_begun() {
    let cluster = prepared();
    let _taken = TcpListener::bind(cluster.grpc_address(FIRST)).unwrap();
    let said = refusal(&cluster, &config_path(&cluster));
    let address = cluster.grpc_address(FIRST);
    assert_names(&said, &["listen.grpc", &address, "in use"]);
}

#[test]
fn data_directory_in_use_is_named() {
    let mut cluster = started();
    let pid = cluster.pid(FIRST).unwrap().to_string();
    let other = cluster.directory().join("other.toml");
    let text = fs::read_to_string(config_path(&cluster)).unwrap();
    let ports = [cluster.grpc_address(FIRST), cluster.amqp_address(FIRST)];
    let mut text = text.replace(&ports[0], "127.0.0.1:0");
    text = text.replace(&ports[1], "127.0.0.1:0");
    let listen = text.find("node = \"127.0.0.1:").unwrap();
    let end = listen + text[listen..].find('\n').unwrap();
    text.replace_range(listen..end, "node = \"127.0.0.1:0\"");
    fs::write(&other, text).unwrap();
    assert_names(&refusal(&cluster, &other), &["in use by process", &pid]);
    // The one that runs has noticed nothing.
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("orders").await.unwrap();
        call.fill("orders", &["a"]).await;
    });
    let ended = cluster.terminate(FIRST, Duration::from_secs(20)).unwrap();
    assert!(ended.success());
}

#[test]
fn data_directory_of_another_node_or_cluster_or_of_unknown_content_is_refused() {
    let mut cluster = started();
    cluster.terminate(FIRST, Duration::from_secs(20)).unwrap();
    let path = config_path(&cluster);
    let good = fs::read_to_string(&path).unwrap();
    let as_two = |text: &str| text.replace("id = 1", "id = 2");
    edit(&cluster, as_two);
    let data = cluster.data_directory(FIRST);
    let said = refusal(&cluster, &path);
    assert_names(&said, &[data.to_str().unwrap(), "node 1", "node 2"]);
    fs::write(&path, &good).unwrap();
    edit(&cluster, |text| text.replace("\"test\"", "\"another\""));
    let said = refusal(&cluster, &path);
    assert_names(&said, &[data.to_str().unwrap(), "test", "another"]);
    // Something is there, but no manifest: never a fresh start.
    fs::write(&path, &good).unwrap();
    fs::rename(data.join("MANIFEST"), cluster.directory().join("kept")).unwrap();
    let said = refusal(&cluster, &path);
    assert_names(&said, &[data.to_str().unwrap(), "manifest"]);
    // With it, all is as before.
    fs::rename(cluster.directory().join("kept"), data.join("MANIFEST")).unwrap();
    cluster.restart(FIRST).unwrap();
}

/// Every file below, with its content.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let content = fs::read(&path).unwrap();
            found.insert(path, content);
        }
    }
    found
}

fn put_back(directory: &Path, kept: &BTreeMap<PathBuf, Vec<u8>>) {
    for path in files(directory).keys() {
        fs::remove_file(path).unwrap();
    }
    for (path, content) in kept {
        fs::write(path, content).unwrap();
    }
}

/// What a start on damaged files comes to: it refuses (`None`), or has so many messages of the queue.
fn start_and_count(cluster: &mut Cluster) -> Option<usize> {
    if cluster.restart(FIRST).is_err() {
        // It may have ended by itself, or run without the damaged replica.
        let _ended = cluster.kill(FIRST);
        return None;
    }
    let call = cluster.grpc_address(FIRST);
    let count = runtime(async {
        let call = Call::to(&call);
        let taken = call.receive("orders", 1_000).await;
        taken.ok().map(|it| it.len())
    });
    cluster.kill(FIRST).unwrap();
    count
}

#[test]
fn flipped_byte_in_any_file_is_refused_or_harmless_never_a_loss() {
    let mut cluster = Cluster::start(Options {
        nodes: 1,
        ready_within: Duration::from_secs(10),
        ..Options::default()
    })
    .unwrap();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        call.declare("orders").await.unwrap();
        let bodies: Vec<String> = (0..200).map(|number| format!("{number:0>500}")).collect();
        let bodies: Vec<&str> = bodies.iter().map(String::as_str).collect();
        call.fill("orders", &bodies).await;
    });
    // Killed, so that the log's newest file holds what only it has.
    cluster.kill(FIRST).unwrap();
    let data = cluster.data_directory(FIRST);
    let kept = files(&data);
    let (mut refused, mut harmless) = (0, 0);
    for (path, content) in &kept {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        // RocksDB's notes for people, and locks.
        if content.is_empty() || name.starts_with("LOG") || name == "LOCK" {
            continue;
        }
        put_back(&data, &kept);
        let mut flipped = content.clone();
        flipped[content.len() / 2] ^= 0x40;
        fs::write(path, flipped).unwrap();
        match start_and_count(&mut cluster) {
            None => refused += 1,
            Some(count) => {
                assert_eq!(count, 200, "messages are gone after a flip in {name}");
                harmless += 1;
            }
        }
    }
    assert!(refused > 0, "{harmless} flips harmless, none refused");
    put_back(&data, &kept);
    assert_eq!(start_and_count(&mut cluster), Some(200));
}

#[test]
fn damaged_manifest_is_named() {
    let mut cluster = started();
    cluster.terminate(FIRST, Duration::from_secs(20)).unwrap();
    let manifest = cluster.data_directory(FIRST).join("MANIFEST");
    let good = fs::read(&manifest).unwrap();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    for damaged in [flipped, good[..good.len() / 2].to_vec(), Vec::new()] {
        fs::write(&manifest, &damaged).unwrap();
        let said = refusal(&cluster, &config_path(&cluster));
        assert_names(&said, &[manifest.to_str().unwrap(), "damaged"]);
        assert_eq!(fs::read(&manifest).unwrap(), damaged, "it was overwritten");
    }
    fs::write(&manifest, good).unwrap();
    cluster.restart(FIRST).unwrap();
}

/// Standard output and exit code of `warren data ...` on the first node's directory.
fn data(cluster: &Cluster, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = cluster.warren();
    command.arg("data").args(arguments);
    command.arg(cluster.directory().join("node-1/data"));
    let output = run_within(command, Duration::from_secs(60)).expect("it ends by itself");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout) + &text(&output.stderr),
    )
}

#[test]
fn data_directory_is_verified_and_shown_while_no_node_runs_on_it() {
    let mut cluster = started();
    let address = cluster.grpc_address(FIRST);
    runtime(async {
        let call = Call::to(&address);
        call.declare("kept").await.unwrap();
        call.fill("kept", &["a body that is kept", "another one"])
            .await;
    });
    let (code, said) = data(&cluster, &["verify"]);
    assert_eq!(code, Some(5), "{said}");
    assert_names(&said, &["in use", "stop the node first"]);
    cluster.terminate(FIRST, Duration::from_secs(30)).unwrap();

    let (code, said) = data(&cluster, &["verify"]);
    assert_eq!(code, Some(0), "{said}");
    assert_names(&said, &["node 1 of cluster", "no damage"]);
    let (code, said) = data(&cluster, &["dump", "--entries", "--full"]);
    assert_eq!(code, Some(0), "{said}");
    assert_names(
        &said,
        &["group 0", "Enqueue", "a body that is kept", "--secrets"],
    );
    let (code, said) = data(&cluster, &["dump", "--entries", "--output", "json"]);
    assert_eq!(code, Some(0), "{said}");
    for line in said.lines() {
        serde_json::from_str::<serde_json::Value>(line).expect("a line is JSON");
    }

    let log = cluster.directory().join("node-1/data/log");
    let first = fs::read_dir(&log)
        .unwrap()
        .map(|item| item.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "segment"))
        .min()
        .unwrap();
    let mut bytes = fs::read(&first).unwrap();
    bytes[4_096 + 60] ^= 1;
    fs::write(&first, bytes).unwrap();
    let (code, said) = data(&cluster, &["verify"]);
    assert_eq!(code, Some(1), "{said}");
    assert_names(
        &said,
        &[
            "damage",
            "at offset 4096",
            first.to_str().unwrap(),
            "DAMAGED",
        ],
    );
}
