//! Reads the segments slowly, as long as the engine runs: each byte of those that are written no more is checked as at a start, and of the one
//! that is written what is synced. What is damaged is told, and what of it groups still need. Not here: walking a file (`scan`), which file
//! is next (`sealed`), closing one that is damaged while it is written (`files`), what becomes of a replica whose entries are damaged (`warren-shard`).

use std::io::{self, IoSlice};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use warren_types::GroupId;

use super::core::{Core, add};
use super::files::SegmentFiles;
use super::group::Group;
use super::scan::{Cause, Damage, Scan};
use super::sealed::{Extent, Next, Reading, SealedSegments};
use super::writer::Groups;
use crate::log::disk::{Disk, DiskFile};
use crate::log::options::LogOptions;

/// A pause is not longer before it is seen whether the segment could go.
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// The thread that reads. Dropping it ends it.
pub(super) struct Scrubber {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

/// Ends waits at once.
#[derive(Default)]
struct Stop {
    stopped: Mutex<bool>,
    wake: Condvar,
}

impl Stop {
    /// True: it was stopped meanwhile.
    fn within(&self, time: Duration) -> bool {
        let mut stopped = self.stopped.lock();
        self.wake
            .wait_while_for(&mut stopped, |stopped| !*stopped, time);
        *stopped
    }

    fn is_stopped(&self) -> bool {
        *self.stopped.lock()
    }
}

impl Scrubber {
    /// `None`: it is switched off.
    pub(super) fn start(
        core: &Arc<Core>,
        groups: &Arc<Groups>,
        files: &SegmentFiles,
        options: &LogOptions,
    ) -> io::Result<Option<Self>> {
        if options.scrub_every.is_zero() {
            return Ok(None);
        }
        let stop = Arc::new(Stop::default());
        let scrub = Scrub {
            core: core.clone(),
            groups: groups.clone(),
            sealed: files.sealed.clone(),
            disk: files.disk.clone(),
            direct: options.direct,
            every: options.scrub_every,
            bytes_per_second: options.scrub_bytes_per_second.max(1),
            stop: stop.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("log-scrub".into())
            .spawn(move || scrub.run())?;
        Ok(Some(Self {
            stop,
            thread: Some(thread),
        }))
    }
}

impl Drop for Scrubber {
    fn drop(&mut self) {
        *self.stop.stopped.lock() = true;
        self.stop.wake.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("log scrub panicked");
        }
    }
}

struct Scrub {
    core: Arc<Core>,
    groups: Arc<Groups>,
    sealed: Arc<SealedSegments>,
    disk: Arc<dyn Disk>,
    direct: bool,
    every: Duration,
    bytes_per_second: u64,
    stop: Arc<Stop>,
}

impl Scrub {
    fn run(self) {
        loop {
            match self.sealed.next(self.every) {
                Next::Wait(time) => {
                    if self.stop.within(time) {
                        return;
                    }
                }
                Next::Read(reading) => {
                    if self.read(&reading).is_break() {
                        return;
                    }
                }
            }
        }
    }

    /// Breaks when it is stopped.
    fn read(&self, reading: &Reading) -> ControlFlow<()> {
        let (path, sequence) = (&reading.segment.path, reading.segment.sequence);
        // By a file of its own: what the page cache remembers need not be what the disk holds.
        let file = match self.disk.open(path) {
            Ok(file) => file,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "segment of the log was not read");
                self.sealed.note(sequence, None);
                return ControlFlow::Continue(());
            }
        };
        if self.direct && !file.stream(path) && reading.extent == Extent::Synced {
            // Its writer goes past the page cache: what reads it through there could make a later sync fail.
            self.sealed.note(sequence, None);
            return ControlFlow::Continue(());
        }
        let paced = Paced {
            file: &*file,
            scrub: self,
            reading,
        };
        let found = check(&paced, reading).err();
        if self.stop.is_stopped() {
            return ControlFlow::Break(()); // what was not read is not wrong
        }
        if self.sealed.could_go(&reading.segment) {
            self.sealed.note(sequence, None);
            return ControlFlow::Continue(());
        }
        if let Some(damage) = found.as_ref().filter(|it| it.cause == Cause::Refused) {
            tracing::warn!(%damage, "segment of the log was not read");
            self.sealed.note(sequence, None);
            return ControlFlow::Continue(());
        }
        add(&self.core.counters.segments_scrubbed, 1);
        let damage = found.map(|damage| {
            let groups = self.needing(reading);
            (damage, groups)
        });
        let told = damage.clone();
        if self.sealed.note(sequence, damage)
            && let Some((damage, groups)) = told
        {
            add(&self.core.counters.damage_found, 1);
            let offset = damage.offset;
            let groups: Vec<u32> = groups.iter().map(|it| it.0).collect();
            tracing::error!(path = %path.display(), offset, detail = damage.detail, ?groups, "log is damaged; these groups need entries in it");
        }
        ControlFlow::Continue(())
    }

    /// The groups that have entries in the segment which cannot be read.
    fn needing(&self, reading: &Reading) -> Vec<GroupId> {
        let groups: Vec<Arc<Group>> = self.groups.lock().values().cloned().collect();
        let damaged = groups
            .into_iter()
            .filter(|it| !it.is_whole_in(&reading.segment));
        damaged.map(|it| it.id).collect()
    }
}

/// Every byte of a segment up to its end, and that nothing follows there if it is written no more.
fn check(file: &dyn DiskFile, reading: &Reading) -> Result<(), Damage> {
    let segment = &reading.segment;
    let mut scan = Scan::new(file, &segment.path)?;
    let head = scan.head()?;
    if (head.sequence, head.epoch) != (segment.sequence, segment.epoch) {
        return Err(scan.damage(0, "its head is another segment's"));
    }
    let end = scan.batches(head.epoch, reading.follows, &mut |_| Ok(()))?;
    // In one that was just begun there is nothing that something could follow.
    let follows = end.batches == 0 || end.expected == Some(reading.next);
    if end.offset != reading.end || !follows {
        let detail = format!("its batches should reach to offset {}", reading.end);
        return Err(scan.damage(end.offset, detail));
    }
    Ok(())
}

/// A segment's file that is read slowly, as long as there is a reason to.
struct Paced<'a> {
    file: &'a dyn DiskFile,
    scrub: &'a Scrub,
    reading: &'a Reading,
}

impl DiskFile for Paced<'_> {
    fn size(&self) -> io::Result<u64> {
        let size = self.file.size()?;
        Ok(match self.reading.extent {
            Extent::Whole => size,
            Extent::Synced => size.min(self.reading.end),
        })
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let scrub = self.scrub;
        let read = self.file.read_at(buffer, offset)?;
        let bytes = read as u64;
        add(&scrub.core.counters.bytes_scrubbed, bytes);
        let mut left =
            Duration::from_micros(bytes.saturating_mul(1_000_000) / scrub.bytes_per_second);
        while !left.is_zero() {
            let pause = left.min(PAUSE_MAX);
            if scrub.stop.within(pause) || scrub.sealed.could_go(&self.reading.segment) {
                return Err(io::Error::other("nobody needs it"));
            }
            left -= pause;
        }
        Ok(read)
    }

    fn write_at(&self, _slices: &[IoSlice<'_>], _offset: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn allocate(&self, _bytes: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn stream(&self, _path: &Path) -> bool {
        false
    }
}
