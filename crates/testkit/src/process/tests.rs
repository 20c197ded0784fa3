//! The process helper against a stand-in for the binary, so that it is tested without a broker.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

/// A script that stays until SIGTERM as `server`, and is ready at once.
fn stand_in(directory: &Path, server: &str) -> PathBuf {
    let path = directory.join("warren");
    let text = format!(
        "#!/bin/sh\ncase \"$1\" in\nserver) {server} ;;\ncluster) exit 0 ;;\n*) echo \"$*\" ;;\nesac\n"
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    // Another test's fork may hold the file open for writing for a moment, and a file so held cannot be run.
    let busy = |error: std::io::Error| error.kind() == std::io::ErrorKind::ExecutableFileBusy;
    while Command::new(&path).output().is_err_and(busy) {
        std::thread::yield_now();
    }
    path
}

const STAYS: &str = "trap 'exit 0' TERM; echo started; while :; do sleep 0.02; done";

fn options(directory: &Path, server: &str) -> Options {
    Options {
        binary: stand_in(directory, server),
        ready_within: Duration::from_secs(10),
        ..Options::default()
    }
}

fn state(cluster: &Cluster, number: NodeNumber) -> char {
    let pid = cluster.pid(number).unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("State:"))
        .unwrap();
    line.trim_start_matches("State:")
        .trim()
        .chars()
        .next()
        .unwrap()
}

fn wait_for_state(cluster: &Cluster, number: NodeNumber, wanted: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !wanted.contains(state(cluster, number)) {
        assert!(
            Instant::now() < deadline,
            "node {} is not {wanted}",
            number.0
        );
        std::thread::yield_now();
    }
}

#[test]
fn cluster_kill_restart_pause_resume_terminate() {
    let home = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(options(home.path(), STAYS)).unwrap();
    let (first, second) = (NodeNumber(1), NodeNumber(2));

    let before = cluster.pid(first).unwrap();
    cluster.kill(first).unwrap();
    assert_eq!(cluster.pid(first), None);
    assert!(cluster.kill(first).is_err());
    cluster.restart(first).unwrap();
    assert_ne!(cluster.pid(first), Some(before));

    cluster.pause(second).unwrap();
    wait_for_state(&cluster, second, "T");
    cluster.resume(second).unwrap();
    wait_for_state(&cluster, second, "SR");

    cluster.pause(second).unwrap();
    let status = cluster.terminate(second, Duration::from_secs(10)).unwrap();
    assert!(status.success(), "{status}");
}

#[test]
fn drop_ends_every_process_and_removes_the_directory() {
    let home = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(options(home.path(), STAYS)).unwrap();
    cluster.pause(NodeNumber(3)).unwrap();
    let directory = cluster.directory().to_path_buf();
    let pids: Vec<u32> = cluster
        .numbers()
        .into_iter()
        .filter_map(|n| cluster.pid(n))
        .collect();
    assert_eq!(pids.len(), 3);
    drop(cluster);
    assert!(!directory.exists());
    for pid in pids {
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
}

#[test]
fn start_of_a_node_that_ends_reports_its_log() {
    let home = tempfile::tempdir().unwrap();
    // Its `cluster status` says "not ready", so that the end of the process is what is seen.
    let failing = "echo 'port in use'; exit 3 ;;\ncluster) exit 1";
    let options = Options {
        // The first answer is "not ready", so that the end of the process is what is seen.
        binary: {
            let path = stand_in(home.path(), failing);
            let text = fs::read_to_string(&path)
                .unwrap()
                .replace("exit 0", "exit 1");
            fs::write(&path, text).unwrap();
            path
        },
        ..Options::default()
    };
    let error = Cluster::start(options).unwrap_err().to_string();
    assert!(
        error.contains("ended by itself") && error.contains("port in use"),
        "{error}"
    );
}

#[test]
fn missing_binary_says_what_to_do() {
    let options = Options {
        binary: PathBuf::from("/nonexistent/warren"),
        ..Options::default()
    };
    let error = Cluster::start(options).unwrap_err().to_string();
    assert!(error.contains("WARREN_BIN"), "{error}");
}

#[test]
fn configuration_names_own_ports_and_all_peers() {
    let home = tempfile::tempdir().unwrap();
    let cluster = Cluster::prepare(options(home.path(), STAYS)).unwrap();
    let text = fs::read_to_string(cluster.directory().join("node-2/config.toml")).unwrap();
    assert!(text.contains("id = 2\n"), "{text}");
    assert!(text.contains(&cluster.grpc_address(NodeNumber(2))));
    assert!(text.contains(&cluster.amqp_address(NodeNumber(2))));
    assert_eq!(text.matches("{ id = ").count(), 3);
    let secret = fs::metadata(cluster.directory().join("secret")).unwrap();
    assert_eq!(secret.permissions().mode() & 0o777, 0o600);
}

#[test]
fn run_adds_the_servers_and_gives_the_output() {
    let home = tempfile::tempdir().unwrap();
    let cluster = Cluster::prepare(options(home.path(), STAYS)).unwrap();
    let said = cluster.run(&["queue", "list"]).unwrap();
    let servers = cluster.servers_from(NodeNumber(1));
    assert_eq!(said.trim(), format!("queue list --server {servers}"));
    assert!(servers.starts_with(&cluster.grpc_address(NodeNumber(1))));
}

#[test]
fn command_that_takes_too_long_is_killed() {
    let mut command = Command::new("sleep");
    command.arg("60");
    let begin = Instant::now();
    assert!(run_within(command, Duration::from_millis(100)).is_err());
    assert!(begin.elapsed() < Duration::from_secs(30));
}
