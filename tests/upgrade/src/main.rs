//! Makes the golden data directory of this version, once per version whose formats are new: `cargo run --package warren-upgrade`.
//! Not here: what is in it (the library).

use std::fs;

use anyhow::{Result, ensure};
use warren_upgrade::{FIRST, WITHIN, fill, golden, one_node, pack};

fn main() -> Result<()> {
    let archive = golden().join(format!("{}.tar.gz", env!("CARGO_PKG_VERSION")));
    let path = archive.display();
    ensure!(
        !archive.exists(),
        "{path} is there: what a version wrote never changes"
    );
    let mut cluster = one_node()?;
    cluster.restart(FIRST)?;
    fill(&cluster)?;
    cluster.terminate(FIRST, WITHIN)?;
    pack(&cluster, &archive)?;
    eprintln!("{path}: {} bytes", fs::metadata(&archive)?.len());
    Ok(())
}
