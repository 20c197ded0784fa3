//! Nodes in network namespaces of their own, and what is done to the packets between them: dropped one way or both, lost, late.
//! The test itself runs in a namespace too, as the router between them: its clients reach every node whatever is cut, and all that
//! was made goes when it ends. Not here: processes (`warren-testkit`), which links are cut when (the tests).

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use warren_testkit::process::{Host, NodeNumber};

/// Set in the process that runs inside.
const INSIDE: &str = "WARREN_TEST_IN_NAMESPACE";
/// "1": a machine that gives no namespaces is no failure.
const MAY_SKIP: &str = "WARREN_TEST_WITHOUT_NAMESPACES";
const TOOLS: &[&str] = &["unshare", "ip", "nft", "mount", "python3"];

/// Whether this process is the one that plays the test. If not, it has started that one, in namespaces, and seen it end well.
///
/// # Panics
/// When the machine gives no namespaces, unless `WARREN_TEST_WITHOUT_NAMESPACES=1` allows that; when the test failed inside.
#[must_use]
pub fn is_inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    if let Err(why) = can_unshare() {
        let why = format!("no network namespaces on this machine: {why:#}");
        assert!(
            std::env::var(MAY_SKIP).is_ok_and(|it| it == "1"),
            "{why}; {MAY_SKIP}=1 allows that, and nothing is tested then"
        );
        eprintln!("skipped, as {MAY_SKIP} allows: {why}");
        return false;
    }
    let own = std::env::current_exe().expect("a test knows its own program");
    let status = as_root(
        Command::new("unshare")
            .args(["--net", "--mount", "--pid", "--fork", "--kill-child"])
            .arg("--mount-proc")
            .arg(own)
            .args([test, "--exact", "--include-ignored", "--nocapture"])
            .env(INSIDE, "1"),
    )
    .status()
    .expect("unshare has been tried just now");
    assert!(status.success(), "{test} failed inside its namespace");
    false
}

fn can_unshare() -> Result<()> {
    for tool in TOOLS {
        let found = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
            .iter()
            .any(|it| Path::new(it).join(tool).exists());
        ensure!(found, "{tool} is not installed");
    }
    let mut tried = Command::new("unshare");
    tried.args(["--net", "--mount", "--pid", "--fork", "true"]);
    let output = as_root(&mut tried).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{}", said.trim());
    Ok(())
}

/// The command itself, or by `sudo` with the variables that tests look at.
fn as_root(command: &mut Command) -> Command {
    let mut new = Command::new("sudo");
    if rustix_is_root() {
        new = Command::new(command.get_program());
    } else {
        new.args(["--non-interactive", "env"]);
        let kept = |name: &str| name.starts_with("WARREN_") || name == "CARGO_TARGET_DIR";
        new.args(
            std::env::vars()
                .filter(|(name, _)| kept(name))
                .map(|(name, value)| format!("{name}={value}")),
        );
        new.arg(format!("{INSIDE}=1"));
        new.arg(command.get_program());
    }
    new.args(command.get_args());
    new.envs(
        command
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    new
}

fn rustix_is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|it| it.starts_with("Uid:"));
    line.is_some_and(|it| it.split_whitespace().nth(2) == Some("0"))
}

/// Packets of the first node to the second.
pub type Way = (NodeNumber, NodeNumber);

/// The network between the nodes.
#[derive(Debug)]
pub struct Network {
    nodes: usize,
    /// The program that holds packets back.
    late: Option<Child>,
}

impl Network {
    /// One namespace for each node, all joined to this one, nothing cut.
    ///
    /// # Errors
    /// When a step is refused; its message is in the error.
    pub fn build(nodes: usize) -> Result<Self> {
        run("mkdir -p /run/netns")?;
        run("mount -t tmpfs tmpfs /run/netns")?;
        run("ip link set lo up")?;
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
        std::fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "0")?;
        std::fs::write("/proc/sys/net/ipv4/conf/default/rp_filter", "0")?;
        for node in 1..=nodes {
            run(&format!("ip netns add node-{node}"))?;
            run(&format!(
                "ip link add way-{node} type veth peer name eth0 netns node-{node}"
            ))?;
            run(&format!("ip address add 10.83.{node}.1/24 dev way-{node}"))?;
            run(&format!("ip link set way-{node} up"))?;
            let inside = format!("ip -n node-{node}");
            run(&format!("{inside} link set lo up"))?;
            run(&format!("{inside} address add 10.83.{node}.2/24 dev eth0"))?;
            run(&format!("{inside} link set eth0 up"))?;
            run(&format!("{inside} route add default via 10.83.{node}.1"))?;
        }
        let network = Self { nodes, late: None };
        rules("table ip faults {\nchain between {\ntype filter hook forward priority 0;\n}\n}\n")?;
        Ok(network)
    }

    /// For `Options::hosts`.
    #[must_use]
    pub fn hosts(&self) -> Vec<Host> {
        let host = |node: usize| Host {
            address: address(NodeNumber(node)),
            enter: ["ip", "netns", "exec"]
                .map(str::to_owned)
                .into_iter()
                .chain([format!("node-{node}")])
                .collect(),
        };
        (1..=self.nodes).map(host).collect()
    }

    /// Drops these packets and no others, without a word to either side.
    ///
    /// # Errors
    /// When the rules are refused.
    pub fn cut(&self, ways: &[Way]) -> Result<()> {
        let mut script = "flush chain ip faults between\n".to_owned();
        for (from, to) in ways {
            let (from, to) = (address(*from), address(*to));
            // Writing to a string cannot fail.
            let _ = writeln!(
                script,
                "add rule ip faults between ip saddr {from} ip daddr {to} drop"
            );
        }
        rules(&script)
    }

    /// Loses so many of a hundred packets between any two nodes.
    ///
    /// # Errors
    /// When the rules are refused.
    pub fn lose(&self, of_hundred: u32) -> Result<()> {
        rules(&format!(
            "flush chain ip faults between\n\
             add rule ip faults between numgen random mod 100 < {of_hundred} drop\n"
        ))
    }

    /// Holds back every packet between nodes, for a time drawn anew for each of them; they keep their order.
    ///
    /// # Errors
    /// When the device cannot be made.
    pub fn delay(&mut self, least: Duration, most: Duration) -> Result<()> {
        ensure!(self.late.is_none(), "packets are late already");
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/src/late.py");
        let late = Command::new("python3")
            .arg(program)
            .args([least, most].map(|it| it.as_millis().to_string()))
            .stdin(Stdio::null())
            .spawn()?;
        self.late = Some(late);
        let began = Instant::now();
        while run("ip link set late up").is_err() {
            ensure!(
                began.elapsed() < Duration::from_secs(10),
                "no device of {program}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        run("ip route replace default dev late table 100")?;
        for node in 1..=self.nodes {
            run(&format!(
                "ip rule add iif way-{node} lookup 100 priority 100"
            ))?;
        }
        Ok(())
    }

    /// Nothing is cut, lost or late any more.
    ///
    /// # Errors
    /// When the rules are refused.
    pub fn heal(&mut self) -> Result<()> {
        rules("flush chain ip faults between\n")?;
        if let Some(mut late) = self.late.take() {
            for node in 1..=self.nodes {
                run(&format!(
                    "ip rule del iif way-{node} lookup 100 priority 100"
                ))?;
            }
            late.kill()?;
            late.wait()?;
        }
        Ok(())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Some(late) = &mut self.late {
            // It may have ended; waiting reaps it in both cases.
            let _ = late.kill();
            let _ = late.wait();
        }
    }
}

/// Where the node listens.
fn address(node: NodeNumber) -> Ipv4Addr {
    let number = u8::try_from(node.0).expect("a test has few nodes");
    Ipv4Addr::new(10, 83, number, 2)
}

fn run(line: &str) -> Result<()> {
    let mut words = line.split(' ');
    let output = Command::new(words.next().context("an empty line")?)
        .args(words)
        .output()
        .with_context(|| line.to_owned())?;
    if !output.status.success() {
        bail!("{line}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// All of it at once, or nothing.
fn rules(script: &str) -> Result<()> {
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = nft.stdin.take().context("its stdin is a pipe")?;
    stdin.write_all(script.as_bytes())?;
    drop(stdin);
    let output = nft.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{script}: {said}");
    Ok(())
}
