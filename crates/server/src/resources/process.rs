//! What `/proc` tells of this process. Not here: what it may use (`memory`).

use std::fs;
use std::time::Duration;

/// A figure that is not told is `None`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Process {
    pub(super) resident_bytes: Option<u64>,
    pub(super) fds_open: Option<u64>,
    pub(super) fds_max: Option<u64>,
    pub(super) cpu: Option<Duration>,
}

/// Clock ticks of `/proc/self/stat`: 100 a second on every Linux that runs this.
const TICK: Duration = Duration::from_millis(10);

pub(super) fn read() -> Process {
    let text = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).ok();
    let fds = fs::read_dir("/proc/self/fd").ok();
    Process {
        resident_bytes: text("status").as_deref().and_then(resident),
        // Less the one that reads them.
        fds_open: fds.map(|fds| u64::try_from(fds.count().saturating_sub(1)).unwrap_or(u64::MAX)),
        fds_max: text("limits").as_deref().and_then(fds_max),
        cpu: text("stat").as_deref().and_then(cpu),
    }
}

fn resident(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1_024)
}

fn fds_max(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Fields 14 and 15, counted behind the name, which may hold anything.
fn cpu(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    TICK.checked_mul(user.checked_add(system)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_proc_are_read() {
        assert_eq!(resident("Name: x\nVmRSS:\t    12 kB\n"), Some(12 << 10));
        assert_eq!(
            fds_max("Limit  Soft Limit  Hard\nMax open files            20000   30000   files\n"),
            Some(20_000)
        );
        let stat = "7 (a b) c) S 1 1 1 0 -1 4 100 0 0 0 150 50 0 0 20 0 9 0";
        assert_eq!(cpu(stat), Some(Duration::from_secs(2)));
        let own = read();
        assert!(own.resident_bytes.is_some_and(|it| it > 0));
        assert!(own.fds_open.is_some() && own.fds_max.is_some() && own.cpu.is_some());
    }
}
