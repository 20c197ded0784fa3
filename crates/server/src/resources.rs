//! Looks at memory, disk and the process a few times a second: raises and clears the alarms of this node, gathers those of the
//! others, and tells both to the gateway and the pages. Not here: whom an alarm stops (`warren-gateway`), what the levels mean
//! (`config`).

mod alarm;
mod memory;
mod process;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use warren_gateway::{AlarmedNodes, Gateway};
use warren_management::{Overview, ProcessFigures};
use warren_raft::Peers;
use warren_storage::{StateError, StateStore, disk_space};
use warren_types::{Alarms, Watermarks};

use self::alarm::Watched;
use crate::storage::Storage;

const LOOK_EVERY: Duration = Duration::from_millis(250);
/// What messages hold that are gone is looked at so often.
const TEND_EVERY: Duration = Duration::from_secs(5);
/// What a node that is silent for so long has said of itself does not count any more: it takes part in nothing.
const HEARD_WITHIN: Duration = Duration::from_secs(5);

/// What is looked at.
pub(crate) struct Monitor {
    pub(crate) data_dir: PathBuf,
    pub(crate) storage: Storage,
    pub(crate) peers: Peers,
    pub(crate) gateway: Gateway,
    pub(crate) overview: Overview,
}

impl Monitor {
    /// Runs until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let tidied = tidy(self.storage.state.clone(), stop.clone());
        tokio::join!(self.watch(stop), tidied);
    }

    async fn watch(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut alarms = Alarms::NONE;
        loop {
            tokio::select! {
                biased; // stopping comes first
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            // The disk may make it wait.
            let (path, levels) = (self.data_dir.clone(), self.gateway.watermarks());
            let looked = tokio::task::spawn_blocking(move || look(&path, levels, alarms));
            let looked = looked.await;
            let Ok(mut figures) = looked else { continue };
            self.add_log(&mut figures);
            tell_change(alarms, &figures);
            alarms = figures.alarms;
            self.overview.measured(figures);
            self.peers.set_alarms(alarms);
            self.gateway.set_alarms(self.all_alarms(alarms));
        }
    }

    fn add_log(&self, figures: &mut ProcessFigures) {
        let log = self.storage.log.stats();
        figures.log_syncs = log.syncs;
        figures.log_batches = log.batches;
        figures.log_records = log.records;
        figures.log_bytes = log.bytes_written;
        let scrub = self.storage.log.scrub();
        figures.log_scrubbed_bytes = scrub.bytes_read;
        figures.log_damage_found = scrub.damage_found;
        figures.log_damaged_files = u64::try_from(scrub.damaged.len()).unwrap_or(u64::MAX);
    }

    fn all_alarms(&self, own: Alarms) -> AlarmedNodes {
        let others = self.peers.live(HEARD_WITHIN);
        let others = others
            .into_iter()
            .map(|node| (node, self.peers.heard(node).alarms));
        others.chain([(self.peers.node(), own)]).collect()
    }
}

/// Beside the alarms, which must not wait for it.
async fn tidy(state: StateStore, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(TEND_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased; // stopping comes first
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let state = state.clone();
        let tended = tokio::task::spawn_blocking(move || state.tend());
        // What it compacts ends when the state is closed.
        match stop.run_until_cancelled(tended).await {
            None => return,
            Some(Ok(Ok(()) | Err(StateError::Closed))) => {}
            Some(Ok(Err(error))) => warn!(%error, "whether state is to be tidied is not known"),
            Some(Err(error)) => warn!(%error, "state is not tidied"),
        }
    }
}

/// Blocks on the disk. What the system does not tell raises no alarm.
fn look(data_dir: &Path, levels: Watermarks, before: Alarms) -> ProcessFigures {
    let process = process::read();
    let memory = memory::available();
    let disk = disk_space(data_dir).ok();
    let memory_watermark = memory.map(|total| levels.memory.of(total));
    let disk_watermark = disk.map(|disk| levels.disk_free.of(disk.total_bytes));
    let memory_alarm = Watched {
        before: before.memory,
        value: process.resident_bytes,
        level: memory_watermark,
    };
    let disk_alarm = Watched {
        before: before.disk,
        value: disk.map(|disk| disk.free_bytes),
        level: disk_watermark,
    };
    ProcessFigures {
        resident_bytes: process.resident_bytes,
        memory_bytes: memory,
        memory_watermark_bytes: memory_watermark,
        disk_free_bytes: disk.map(|disk| disk.free_bytes),
        disk_watermark_bytes: disk_watermark,
        alarms: Alarms {
            memory: memory_alarm.is_too_much(),
            disk: disk_alarm.is_too_little(),
        },
        fds_open: process.fds_open,
        fds_max: process.fds_max,
        cpu: process.cpu,
        ..ProcessFigures::default()
    }
}

fn tell_change(before: Alarms, figures: &ProcessFigures) {
    let now = figures.alarms;
    let ProcessFigures {
        resident_bytes,
        memory_watermark_bytes,
        disk_free_bytes,
        disk_watermark_bytes,
        ..
    } = *figures;
    match (before.memory, now.memory) {
        (false, true) => warn!(
            resident_bytes,
            memory_watermark_bytes, "memory is low: publishers are held back"
        ),
        (true, false) => info!(resident_bytes, "memory is no longer low"),
        (true, true) | (false, false) => {}
    }
    match (before.disk, now.disk) {
        (false, true) => warn!(
            disk_free_bytes,
            disk_watermark_bytes, "disk space is low: publishers are held back"
        ),
        (true, false) => info!(disk_free_bytes, "disk space is no longer low"),
        (true, true) | (false, false) => {}
    }
}
