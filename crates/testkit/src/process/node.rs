//! One node's process: its directory, its log, its signals. Not here: the cluster it belongs to.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::{NodeNumber, Ports};

/// A node that may or may not run.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) number: NodeNumber,
    pub(super) home: PathBuf,
    pub(super) host: Ipv4Addr,
    pub(super) ports: Ports,
    /// Comes before the command.
    pub(super) enter: Vec<String>,
    /// `None`: the cluster's.
    pub(super) binary: Option<PathBuf>,
    /// Variables of the next start, beside those of the test.
    environment: BTreeMap<String, String>,
    child: Option<Child>,
}

impl Node {
    /// Makes the node's directory and writes its configuration.
    pub(super) fn create(number: NodeNumber, home: PathBuf, config: &str) -> Result<Self> {
        fs::create_dir_all(home.join("data"))?;
        fs::write(home.join("config.toml"), config)?;
        Ok(Self {
            number,
            home,
            host: Ipv4Addr::LOCALHOST,
            ports: Ports::default(),
            enter: Vec::new(),
            binary: None,
            environment: BTreeMap::new(),
            child: None,
        })
    }

    pub(super) fn spawn(&mut self, binary: &Path) -> Result<()> {
        if self.runs()? {
            return Ok(());
        }
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())?;
        let mut command = self
            .enter
            .iter()
            .map(AsRef::as_ref)
            .chain([binary.as_os_str()]);
        let mut start = Command::new(command.next().unwrap_or(binary.as_os_str()));
        let child = start
            .args(command)
            .arg("server")
            .arg("--config")
            .arg(self.home.join("config.toml"))
            .envs(&self.environment)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        self.child = Some(child);
        Ok(())
    }

    pub(super) fn set_environment(&mut self, variable: &str, value: &str) {
        self.environment
            .insert(variable.to_owned(), value.to_owned());
    }

    pub(super) fn address(&self, port: impl Fn(&Ports) -> u16) -> String {
        format!("{}:{}", self.host, port(&self.ports))
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Whether the process is there, with any of its threads.
    pub(super) fn runs(&mut self) -> Result<bool> {
        Ok(self.child.is_some() && self.ended()?.is_none())
    }

    /// The exit status, if the process ended by itself since the last call.
    pub(super) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let Some(child) = &mut self.child else {
            bail!("node {} does not run", self.number.0);
        };
        let status = child.try_wait()?;
        if status.is_some() {
            self.child = None;
        }
        Ok(status)
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        let Some(child) = &self.child else {
            bail!("node {} does not run", self.number.0);
        };
        // The child is not reaped before `child` is taken, so its pid cannot be another's.
        kill_process(Pid::from_child(child), signal)
            .with_context(|| format!("cannot signal node {}", self.number.0))
    }

    pub(super) fn kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        if let Some(mut child) = self.child.take() {
            child.wait()?;
        }
        Ok(())
    }

    pub(super) fn terminate(&mut self, within: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        // A paused process does not see SIGTERM before it goes on.
        self.signal(Signal::CONT)?;
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                self.kill_if_running();
                let log = self.log_end();
                bail!(
                    "node {} did not end within {within:?}\n{log}",
                    self.number.0
                );
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// For the end of a test: whatever state the process is in, it is gone afterwards.
    pub(super) fn kill_if_running(&mut self) {
        if let Some(mut child) = self.child.take() {
            // An error means that it ended already; waiting reaps it in both cases.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub(super) fn log_end(&self) -> String {
        let text = fs::read(self.log_path()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().rev().take(25).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    fn log_path(&self) -> PathBuf {
        self.home.join("log")
    }
}
