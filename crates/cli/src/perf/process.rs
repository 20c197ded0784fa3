//! What processes and the machine used, from /proc: CPU, memory, writes. Linux only; elsewhere everything is 0 and missing.

use std::fs;

/// Clock ticks per second in /proc, the same on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;
const SECTOR_BYTES: u64 = 512;

/// Counters at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Snapshot {
    pub(super) own_cpu_s: f64,
    pub(super) cpu_s: f64,
    pub(super) cpu_sys_s: f64,
    pub(super) rss_bytes: u64,
    pub(super) peak_rss_bytes: u64,
    pub(super) threads: u64,
    pub(super) write_bytes: u64,
    /// Of the given processes, those that are not there.
    pub(super) missing: u64,
    pub(super) machine_busy_s: f64,
    pub(super) machine_steal_s: f64,
    pub(super) disk_written_bytes: u64,
    pub(super) disk_flushes: u64,
}

impl Snapshot {
    pub(super) fn take(pids: &[u32]) -> Self {
        let own = cpu("self").unwrap_or_default();
        let mut it = Self {
            own_cpu_s: own.0 + own.1,
            ..Self::default()
        };
        for pid in pids {
            it.add_process(&pid.to_string());
        }
        it.add_machine(&read("stat"));
        it.add_disks(&read("diskstats"));
        it
    }

    fn add_process(&mut self, pid: &str) {
        let Some((user_s, system_s)) = cpu(pid) else {
            self.missing += 1;
            return;
        };
        self.cpu_s += user_s + system_s;
        self.cpu_sys_s += system_s;
        let status = read(&format!("{pid}/status"));
        self.rss_bytes += field(&status, "VmRSS:") * 1024;
        self.peak_rss_bytes += field(&status, "VmHWM:") * 1024;
        self.threads += field(&status, "Threads:");
        self.write_bytes += field(&read(&format!("{pid}/io")), "write_bytes:");
    }

    fn add_machine(&mut self, stat: &str) {
        let line = stat.lines().next().unwrap_or_default();
        let ticks: Vec<f64> = line
            .split_whitespace()
            .skip(1)
            .filter_map(|it| it.parse().ok())
            .collect();
        let at = |place: usize| ticks.get(place).copied().unwrap_or_default() / TICKS_PER_SECOND;
        // user, nice, system, (idle, iowait,) irq, softirq, steal
        self.machine_busy_s = at(0) + at(1) + at(2) + at(5) + at(6);
        self.machine_steal_s = at(7);
    }

    fn add_disks(&mut self, diskstats: &str) {
        for line in diskstats.lines() {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if !fields.get(2).is_some_and(|it| is_whole_disk(it)) {
                continue;
            }
            let number = |place: usize| {
                fields
                    .get(place)
                    .and_then(|it| it.parse::<u64>().ok())
                    .unwrap_or(0)
            };
            self.disk_written_bytes += number(9) * SECTOR_BYTES;
            self.disk_flushes += number(18);
        }
    }
}

/// Lets the processes' peak memory start anew, where that is allowed.
pub(super) fn reset_peaks(pids: &[u32]) {
    for pid in pids {
        // Only their owner may; the peak is then of their whole life.
        let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(format!("/proc/{path}")).unwrap_or_default()
}

/// User and system seconds.
fn cpu(process: &str) -> Option<(f64, f64)> {
    cpu_of_stat(&read(&format!("{process}/stat")))
}

fn cpu_of_stat(stat: &str) -> Option<(f64, f64)> {
    // The command's name stands in brackets and may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user / TICKS_PER_SECOND, system / TICKS_PER_SECOND))
}

fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|it| it.strip_prefix(name));
    line.and_then(|it| it.split_whitespace().next())
        .and_then(|it| it.parse().ok())
        .unwrap_or(0)
}

fn is_whole_disk(name: &str) -> bool {
    let is_letter_disk = ["vd", "sd"].iter().any(|it| name.starts_with(it)) && name.len() == 3;
    is_letter_disk || (name.starts_with("nvme") && !name.contains('p'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_a_name_with_brackets_and_blanks() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 5 0 0";
        assert_eq!(cpu_of_stat(stat), Some((2.5, 0.5)));
        assert_eq!(cpu_of_stat(""), None);
    }

    #[test]
    fn snapshot_sees_this_process_and_counts_a_missing_one() {
        let it = Snapshot::take(&[std::process::id(), u32::MAX]);
        assert_eq!(it.missing, 1);
        assert!(it.rss_bytes > 0 && it.threads > 0);
    }

    #[test]
    fn partitions_of_a_disk_are_not_counted_again() {
        assert!(is_whole_disk("vda") && is_whole_disk("nvme0n1"));
        assert!(!is_whole_disk("vda1") && !is_whole_disk("nvme0n1p2") && !is_whole_disk("loop0"));
    }
}
