//! A cluster of real `warren server` processes on free loopback ports, to be killed, frozen and started again.
//! Or each in a network namespace of its own. Not here: what the clients do, making namespaces, faults of disk and network.

mod binary;
mod config;
mod node;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

pub use binary::{next_warren_binary, warren_binary};
pub use config::{FIRST_PASSWORD, FIRST_USER, Ports};

use node::Node;

/// How a cluster is made. `Options::default()` is what most tests want.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many nodes form the cluster.
    pub nodes: usize,
    /// How many more have a directory and a configuration: the others do not know them, and nothing starts them but `spawn`.
    pub spare: usize,
    /// The nodes' log filter.
    pub log_filter: String,
    /// How long a node may take until it is ready.
    pub ready_within: Duration,
    /// The binary to run.
    pub binary: PathBuf,
    /// Where data, logs and configuration go; a temporary directory when none is given.
    pub directory: Option<PathBuf>,
    /// One for each node, spare ones too; empty: all nodes are on 127.0.0.1 of this machine, and let its clients in as guest.
    pub hosts: Vec<Host>,
}

/// Where a node runs that is to have a network of its own. Its clients come from elsewhere and log in as [`FIRST_USER`].
#[derive(Debug, Clone)]
pub struct Host {
    /// Where the node listens.
    pub address: Ipv4Addr,
    /// What is put before the node's command, such as `ip netns exec NAME`; it must become the command, not start it.
    pub enter: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            nodes: 3,
            spare: 0,
            log_filter: "info".to_owned(),
            ready_within: Duration::from_secs(60),
            binary: warren_binary(),
            directory: None,
            hosts: Vec::new(),
        }
    }
}

/// Which node, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeNumber(pub usize);

/// The running cluster. Dropping it kills every process; the directory goes too, unless the test panicked.
#[derive(Debug)]
pub struct Cluster {
    options: Options,
    directory: Directory,
    nodes: Vec<Node>,
}

#[derive(Debug)]
enum Directory {
    Given(PathBuf),
    Temporary(TempDir),
}

impl Cluster {
    /// Starts all nodes and waits until each is ready.
    ///
    /// # Errors
    /// When the binary is missing, a node ends by itself or is not ready in time; the end of its log is in the error.
    pub fn start(options: Options) -> Result<Self> {
        let mut cluster = Self::prepare(options)?;
        for number in cluster.numbers() {
            cluster.spawn(number)?;
        }
        cluster.wait_all_ready()?;
        Ok(cluster)
    }

    /// Writes secret and configurations, starts nothing.
    ///
    /// # Errors
    /// When the binary is missing, there are no free ports, or the directory cannot be written.
    pub fn prepare(options: Options) -> Result<Self> {
        if !options.binary.is_file() {
            bail!(
                "no binary at {}: build it (cargo build --release --package warren-cli) or set WARREN_BIN",
                options.binary.display()
            );
        }
        let directory = match &options.directory {
            Some(path) => Directory::Given(path.clone()),
            None => Directory::Temporary(tempfile::Builder::new().prefix("warren-").tempdir()?),
        };
        let all = options.nodes + options.spare;
        let ports = Ports::find(all)?;
        let host = |index: usize| {
            options
                .hosts
                .get(index)
                .map_or(Ipv4Addr::LOCALHOST, |it| it.address)
        };
        let mut nodes = Vec::with_capacity(all);
        let secret = config::write_secret(directory.path())?;
        for (index, own) in ports.iter().enumerate() {
            let number = NodeNumber(index + 1);
            let home = directory.path().join(format!("node-{}", number.0));
            let mut peers: Vec<(NodeNumber, String)> = Vec::with_capacity(options.nodes + 1);
            let formers = ports.iter().take(options.nodes).enumerate();
            peers.extend(
                formers.map(|(at, it)| (NodeNumber(at + 1), format!("{}:{}", host(at), it.node))),
            );
            if index >= options.nodes {
                peers.push((number, format!("{}:{}", host(index), own.node)));
            }
            let place = config::Place {
                number,
                host: host(index),
                ports: *own,
                home: &home,
                is_alone: !options.hosts.is_empty(),
            };
            let text = config::render(&place, &peers, &secret, &options.log_filter);
            let mut node = Node::create(number, home, &text)?;
            (node.host, node.ports) = (host(index), *own);
            if let Some(host) = options.hosts.get(index) {
                node.enter.clone_from(&host.enter);
                node.set_environment("WARREN_AUTH_FIRST_PASSWORD", FIRST_PASSWORD);
            }
            nodes.push(node);
        }
        Ok(Self {
            options,
            directory,
            nodes,
        })
    }

    /// The nodes that form the cluster, in order.
    pub fn numbers(&self) -> Vec<NodeNumber> {
        (1..=self.options.nodes).map(NodeNumber).collect()
    }

    /// Where the node takes gRPC clients.
    ///
    /// # Panics
    /// As all methods that take a number: if there is no such node, which is a mistake of the test.
    pub fn grpc_address(&self, number: NodeNumber) -> String {
        self.node(number).address(|it| it.grpc)
    }

    /// Where the node takes AMQP clients.
    pub fn amqp_address(&self, number: NodeNumber) -> String {
        self.node(number).address(|it| it.amqp)
    }

    /// Where the node tells its health.
    pub fn http_address(&self, number: NodeNumber) -> String {
        self.node(number).address(|it| it.http)
    }

    /// Where the node tells its metrics.
    pub fn metrics_address(&self, number: NodeNumber) -> String {
        self.node(number).address(|it| it.metrics)
    }

    /// The list for `--server`: this node first, then the others.
    pub fn servers_from(&self, first: NodeNumber) -> String {
        let mut numbers = self.numbers();
        numbers.rotate_left(first.0 - 1);
        let addresses: Vec<String> = numbers.into_iter().map(|n| self.grpc_address(n)).collect();
        addresses.join(",")
    }

    /// The directory that holds everything.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The node's data directory.
    pub fn data_directory(&self, number: NodeNumber) -> PathBuf {
        self.node(number).home.join("data")
    }

    /// The node's process id, if it runs.
    pub fn pid(&self, number: NodeNumber) -> Option<u32> {
        self.node(number).pid()
    }

    /// The last lines of the node's log.
    pub fn log_end(&self, number: NodeNumber) -> String {
        self.node(number).log_end()
    }

    /// Gives the node a variable from its next start on, such as `WARREN_LIMITS_DISK_FREE_MIN`.
    pub fn set_environment(&mut self, number: NodeNumber, variable: &str, value: &str) {
        self.node_mut(number).set_environment(variable, value);
    }

    /// Gives the node another binary from its next start on: it is upgraded, or taken back.
    pub fn set_binary(&mut self, number: NodeNumber, binary: &Path) {
        self.node_mut(number).binary = Some(binary.to_owned());
    }

    /// Starts the process and does not wait. Nothing happens if it runs.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn spawn(&mut self, number: NodeNumber) -> Result<()> {
        let own = self.node(number).binary.clone();
        let binary = own.unwrap_or_else(|| self.options.binary.clone());
        self.node_mut(number).spawn(&binary)
    }

    /// Whether the node's process is there, with any of its threads.
    ///
    /// # Errors
    /// The system's.
    pub fn runs(&mut self, number: NodeNumber) -> Result<bool> {
        self.node_mut(number).runs()
    }

    /// Starts the node again and waits until it is ready.
    ///
    /// # Errors
    /// As for `start`.
    pub fn restart(&mut self, number: NodeNumber) -> Result<()> {
        self.spawn(number)?;
        self.wait_ready(number)
    }

    /// SIGKILL: no warning, no flush. Returns when the process is gone.
    ///
    /// # Errors
    /// When the node does not run.
    pub fn kill(&mut self, number: NodeNumber) -> Result<()> {
        self.node_mut(number).kill()
    }

    /// SIGSTOP: the node keeps its connections and says nothing.
    ///
    /// # Errors
    /// When the node does not run.
    pub fn pause(&mut self, number: NodeNumber) -> Result<()> {
        self.node(number).signal(rustix::process::Signal::STOP)
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// When the node does not run.
    pub fn resume(&mut self, number: NodeNumber) -> Result<()> {
        self.node(number).signal(rustix::process::Signal::CONT)
    }

    /// SIGTERM, then waits for the end in good order.
    ///
    /// # Errors
    /// When the node does not run, or does not end within `within` (it is killed then).
    pub fn terminate(&mut self, number: NodeNumber, within: Duration) -> Result<ExitStatus> {
        self.node_mut(number).terminate(within)
    }

    /// Starts a node that cannot run and waits until it has ended by itself; how, and the end of its log.
    ///
    /// # Errors
    /// When it has not ended within `within`; it is killed then.
    pub fn run_to_its_end(
        &mut self,
        number: NodeNumber,
        within: Duration,
    ) -> Result<(ExitStatus, String)> {
        self.spawn(number)?;
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.node_mut(number).ended()? {
                return Ok((status, self.log_end(number)));
            }
            if Instant::now() >= deadline {
                let log = self.log_end(number);
                self.kill(number)?;
                bail!("node {} still runs after {within:?}\n{log}", number.0);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the node answers `warren cluster status` well.
    ///
    /// # Errors
    /// When the process ends before, or the time of the options has passed.
    pub fn wait_ready(&mut self, number: NodeNumber) -> Result<()> {
        let deadline = Instant::now() + self.options.ready_within;
        let address = self.grpc_address(number);
        loop {
            if let Some(status) = self.node_mut(number).ended()? {
                bail!(
                    "node {} ended by itself: {status}\n{}",
                    number.0,
                    self.log_end(number)
                );
            }
            let mut ask = self.warren();
            ask.args([
                "cluster", "status", "--server", &address, "--output", "json",
            ]);
            if run_within(ask, Duration::from_secs(5)).is_ok_and(|output| output.status.success()) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let within = self.options.ready_within;
                bail!(
                    "node {} not ready within {within:?}\n{}",
                    number.0,
                    self.log_end(number)
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until every node is ready.
    ///
    /// # Errors
    /// As for `wait_ready`.
    pub fn wait_all_ready(&mut self) -> Result<()> {
        self.numbers()
            .into_iter()
            .try_for_each(|number| self.wait_ready(number))
    }

    /// The binary, ready for arguments of a client.
    pub fn warren(&self) -> Command {
        let mut command = Command::new(&self.options.binary);
        if !self.options.hosts.is_empty() {
            command.envs([
                ("WARREN_LOGIN", FIRST_USER),
                ("WARREN_PASSWORD", FIRST_PASSWORD),
            ]);
        }
        command
    }

    /// Runs a client command against the whole cluster (`--server` is added) and gives its output.
    ///
    /// # Errors
    /// When it cannot run, takes longer than 60 s, or ends with another code than 0; its stderr is in the error.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.warren();
        command
            .args(arguments)
            .args(["--server", &self.servers_from(NodeNumber(1))]);
        let output = run_within(command, Duration::from_secs(60))
            .with_context(|| format!("warren {}", arguments.join(" ")))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if !output.status.success() {
            let said = text(&output.stderr);
            bail!("warren {}: {}\n{said}", arguments.join(" "), output.status);
        }
        Ok(text(&output.stdout))
    }

    fn node(&self, number: NodeNumber) -> &Node {
        self.nodes
            .get(number.0.wrapping_sub(1))
            .expect("the test names a node of its cluster")
    }

    fn node_mut(&mut self, number: NodeNumber) -> &mut Node {
        self.nodes
            .get_mut(number.0.wrapping_sub(1))
            .expect("the test names a node of its cluster")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            node.kill_if_running();
        }
        if std::thread::panicking() {
            for node in &self.nodes {
                eprintln!(
                    "---- end of node {}'s log\n{}",
                    node.number.0,
                    node.log_end()
                );
            }
            if let Directory::Temporary(directory) = &mut self.directory {
                directory.disable_cleanup(true);
            }
            eprintln!(
                "---- data and logs are kept in {}",
                self.directory().display()
            );
        }
    }
}

impl Directory {
    fn path(&self) -> &Path {
        match self {
            Self::Given(path) => path,
            Self::Temporary(directory) => directory.path(),
        }
    }
}

/// Runs a command to its end, or kills it after `within`.
///
/// # Errors
/// When it cannot be started or takes too long.
pub fn run_within(mut command: Command, within: Duration) -> Result<Output> {
    let child = command
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))?;
    let pid = rustix::process::Pid::from_child(&child);
    // The reader drains both pipes, so that a talkative child never waits for us.
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    let reader = std::thread::spawn(move || sender.send(child.wait_with_output()));
    let ended = receiver.recv_timeout(within);
    if ended.is_err() {
        // The child may have ended just now; then there is nothing left to kill.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    // Either the result is taken, or the channel has room for it: the thread ends.
    let _ = reader.join();
    match ended {
        Ok(output) => Ok(output?),
        Err(_) => bail!("no end within {within:?}, killed"),
    }
}

#[cfg(test)]
mod tests;
