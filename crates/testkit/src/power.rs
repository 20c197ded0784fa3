//! Power cut of all nodes at once: their data is on an ext4 image in a file, which is copied while it is still mounted.
//! What was synced is in the copy, what only the page cache had is not. Needs root and loop devices. Not here: load,
//! and the disk's own cache.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::process::run_within;

/// A small disk that can lose its power. Dropping it unmounts and deletes everything.
#[derive(Debug)]
pub struct Disk {
    home: TempDir,
    generation: u32,
}

impl Disk {
    /// Makes and mounts an empty disk.
    ///
    /// # Errors
    /// Without root, `mkfs.ext4`, or a free loop device.
    pub fn create(size_mib: u64) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("warren-disk-").tempdir()?;
        let disk = Self {
            home,
            generation: 0,
        };
        File::create(disk.image())?.set_len(size_mib << 20)?;
        fs::create_dir(disk.mount_point())?;
        let image = disk.image();
        call(
            "mkfs.ext4",
            &[s("-q"), s("-F"), s("-E"), s("lazy_itable_init=0"), &image],
        )?;
        disk.mount()?;
        Ok(disk)
    }

    /// Where the files are; the same before and after a cut.
    pub fn mount_point(&self) -> PathBuf {
        self.home.path().join("disk")
    }

    /// Makes durable all that is there: what a test has set up, such as configurations, which the programs only read.
    ///
    /// # Errors
    /// When `sync` fails.
    pub fn keep(&self) -> Result<()> {
        call("sync", &[s("--file-system"), &self.mount_point()])
    }

    /// Cuts the power: what was not synced is gone, and the disk is there again as after a restart. No process may have
    /// files open there any more: kill them first.
    ///
    /// # Errors
    /// When a tool fails; a disk that cannot be mounted again is damaged, which is a finding.
    pub fn cut(&mut self) -> Result<()> {
        let before = self.image();
        self.generation += 1;
        let after = self.image();
        call("cp", &[s("--sparse=always"), &before, &after])?;
        call("umount", &[&self.mount_point()])?;
        fs::remove_file(before)?;
        self.mount()
    }

    fn image(&self) -> PathBuf {
        self.home.path().join(format!("image-{}", self.generation))
    }

    fn mount(&self) -> Result<()> {
        // A long commit interval, so that the file system does not save by chance what nobody synced.
        let options = s("loop,commit=600,noatime");
        call(
            "mount",
            &[s("-o"), options, &self.image(), &self.mount_point()],
        )
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Nothing to do about a failure here: the directory's own removal reports nothing either.
        let _ = call("umount", &[&self.mount_point()]);
    }
}

fn s(text: &str) -> &Path {
    Path::new(text)
}

fn call(program: &str, arguments: &[&Path]) -> Result<()> {
    let mut command = Command::new(program);
    command.args(arguments);
    let output = run_within(command, Duration::from_secs(120))
        .with_context(|| format!("{program} {arguments:?}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        bail!("{program} {arguments:?}: {}: {said}", output.status);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    #[ignore = "needs root and loop devices: run with --include-ignored"]
    fn cut_keeps_what_was_synced_and_loses_the_rest() {
        let mut disk = Disk::create(64).unwrap();
        for round in 0..3 {
            let synced = disk.mount_point().join(format!("synced-{round}"));
            let lost = disk.mount_point().join(format!("lost-{round}"));
            let mut file = File::create(&synced).unwrap();
            file.write_all(b"on disk").unwrap();
            file.sync_all().unwrap();
            File::open(disk.mount_point()).unwrap().sync_all().unwrap();
            fs::write(&lost, b"in the page cache").unwrap();
            drop(file);
            disk.cut().unwrap();
            assert_eq!(fs::read(&synced).unwrap(), b"on disk");
            assert!(
                fs::read(&lost).map_or(true, |bytes| bytes.is_empty()),
                "survived a cut"
            );
        }
    }
}
