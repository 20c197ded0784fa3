//! How much memory the nodes of a cluster take, as the kernel counts it, watched all the time. Not here: what is too much (the tests).

use std::fmt;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::process::Cluster;

/// Often enough to see what is there for a moment.
const EVERY: Duration = Duration::from_millis(10);

/// Resident bytes of each node, in the order of their numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resident(pub Vec<u64>);

impl Resident {
    /// How much larger this is than what was before, of the node where that is most.
    #[must_use]
    pub fn growth_since(&self, before: &Self) -> u64 {
        let grown = self.0.iter().zip(&before.0);
        grown
            .map(|(now, before)| now.saturating_sub(*before))
            .max()
            .unwrap_or(0)
    }
}

impl fmt::Display for Resident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, bytes) in self.0.iter().enumerate() {
            let space = if at == 0 { "" } else { " " };
            write!(f, "{space}{}", bytes >> 20)?;
        }
        write!(f, " MiB")
    }
}

/// Watches the processes that run when it begins.
#[derive(Debug)]
pub struct Memory {
    pids: Vec<u32>,
    peaks: Arc<Vec<AtomicU64>>,
    stop: Arc<AtomicBool>,
    watching: Option<JoinHandle<()>>,
}

impl Memory {
    #[must_use]
    pub fn watch(cluster: &Cluster) -> Self {
        let numbers = cluster.numbers().into_iter();
        let pids: Vec<u32> = numbers.filter_map(|it| cluster.pid(it)).collect();
        let peaks: Arc<Vec<AtomicU64>> = Arc::new(pids.iter().map(|_| AtomicU64::new(0)).collect());
        let stop = Arc::new(AtomicBool::new(false));
        let (watched, told, stopped) = (pids.clone(), Arc::clone(&peaks), Arc::clone(&stop));
        let watching = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                for (pid, peak) in watched.iter().zip(told.iter()) {
                    peak.fetch_max(resident(*pid), Ordering::Relaxed);
                }
                std::thread::sleep(EVERY);
            }
        });
        Self {
            pids,
            peaks,
            stop,
            watching: Some(watching),
        }
    }

    /// What they take now; peaks count from here on.
    pub fn begin(&self) -> Resident {
        for peak in self.peaks.iter() {
            peak.store(0, Ordering::Relaxed);
        }
        Resident(self.pids.iter().map(|pid| resident(*pid)).collect())
    }

    /// The most that each took since then.
    #[must_use]
    pub fn peak(&self) -> Resident {
        let peaks = self.peaks.iter().zip(&self.pids);
        Resident(
            peaks
                .map(|(peak, pid)| peak.load(Ordering::Relaxed).max(resident(*pid)))
                .collect(),
        )
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(watching) = self.watching.take() {
            // It has nothing to say.
            let _ = watching.join();
        }
    }
}

/// Nothing for a process that has ended.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:"));
    let kib = line.and_then(|it| it.trim().strip_suffix(" kB"));
    kib.and_then(|it| it.parse::<u64>().ok()).unwrap_or(0) << 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_bytes_of_this_process_grow_with_what_it_holds() {
        let pid = std::process::id();
        let before = Resident(vec![resident(pid)]);
        let held = vec![7_u8; 64 << 20];
        let now = Resident(vec![resident(pid)]);
        assert!(
            now.growth_since(&before) > 48 << 20,
            "{before} {now} {}",
            held.len()
        );
        assert_eq!(before.growth_since(&now), 0);
        assert_eq!(resident(u32::MAX), 0);
    }
}
