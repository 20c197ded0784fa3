//! Every version's data directory opens in this version with everything in it, twice, and is without damage before.
//! Not here: what is in it (`warren_upgrade`).
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use warren_upgrade::{FIRST, WITHIN, archives, check, one_node, run, unpack};

#[test]
fn data_directories_of_all_versions_open_with_everything_in_them() {
    let archives = archives().unwrap();
    assert!(!archives.is_empty(), "there are golden directories");
    for archive in archives {
        println!("{}", archive.display());
        let mut cluster = one_node().unwrap();
        unpack(&archive, &cluster).unwrap();
        let mut verify = cluster.warren();
        verify
            .args(["data", "verify"])
            .arg(cluster.data_directory(FIRST));
        assert!(run(verify).unwrap().contains("no damage"));
        cluster.restart(FIRST).unwrap();
        check(&cluster).unwrap();
        // What this version wrote over the old one's files is read again, too.
        cluster.run(&["queue", "declare", "again"]).unwrap();
        cluster.terminate(FIRST, WITHIN).unwrap();
        cluster.restart(FIRST).unwrap();
        let queues = cluster.run(&["queue", "list"]).unwrap();
        assert!(
            queues.contains("again") && queues.contains("plain"),
            "{queues}"
        );
    }
}
