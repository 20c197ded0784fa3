//! How much memory this process may use: the least limit of its control groups (version 2, else 1), else the machine's memory.
//! Not here: how much it uses (`process`).

use std::fs;
use std::path::{Path, PathBuf};

/// `None`: the system does not tell.
pub(super) fn available() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.as_deref().and_then(machine_bytes);
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limit = group_limit(&groups, Path::new("/sys/fs/cgroup"));
    machine.into_iter().chain(limit).min()
}

fn machine_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1_024)
}

/// The least limit on the way from the process's group to the root.
fn group_limit(groups: &str, root: &Path) -> Option<u64> {
    let found = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let path = path.trim_start_matches('/');
        if controllers.is_empty() {
            return least(root, path, "memory.max");
        }
        let is_memory = controllers.split(',').any(|it| it == "memory");
        is_memory
            .then(|| least(&root.join("memory"), path, "memory.limit_in_bytes"))
            .flatten()
    });
    found.min()
}

/// A container sees its own group as the root, so the path that is told may not be there: each part of it that is counts.
fn least(root: &Path, path: &str, file: &str) -> Option<u64> {
    let full: PathBuf = root.join(path);
    full.ancestors()
        .take_while(|directory| directory.starts_with(root))
        .filter_map(|directory| fs::read_to_string(directory.join(file)).ok())
        // Without a limit version 2 says "max", version 1 a number beyond any machine.
        .filter_map(|text| text.trim().parse().ok())
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_memory_is_read() {
        assert_eq!(
            machine_bytes("MemTotal:       2048 kB\nMemFree: 1 kB\n"),
            Some(2 << 20)
        );
        assert_eq!(machine_bytes("MemFree: 1 kB\n"), None);
        assert!(available().is_some_and(|bytes| bytes > 0));
    }

    #[test]
    fn least_limit_of_the_groups_counts() {
        let root = tempfile::tempdir().unwrap();
        let pod = root.path().join("kubepods/pod1");
        fs::create_dir_all(pod.join("container")).unwrap();
        fs::write(pod.join("memory.max"), "2000000\n").unwrap();
        fs::write(pod.join("container/memory.max"), "max\n").unwrap();
        let limit = |groups: &str| group_limit(groups, root.path());
        assert_eq!(limit("0::/kubepods/pod1/container\n"), Some(2_000_000));
        assert_eq!(limit("0::/elsewhere\n"), None);
        // As a container with a namespace of its own sees it.
        fs::write(root.path().join("memory.max"), "1000000").unwrap();
        assert_eq!(limit("0::/\n"), Some(1_000_000));
        assert_eq!(limit("0::/kubepods/pod1/container\n"), Some(1_000_000));
    }

    #[test]
    fn groups_of_version_one_are_read() {
        let root = tempfile::tempdir().unwrap();
        let group = root.path().join("memory/docker/x");
        fs::create_dir_all(&group).unwrap();
        fs::write(group.join("memory.limit_in_bytes"), "512000000\n").unwrap();
        let groups = "5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n";
        assert_eq!(group_limit(groups, root.path()), Some(512_000_000));
        assert_eq!(group_limit("5:cpu:/docker/x\n", root.path()), None);
    }
}
