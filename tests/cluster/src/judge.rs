//! The checker fed while a run goes on: what is wrong is known at once, and the history is on the disk instead of in memory. Not here: what
//! is wrong (`warren_testkit::checker`).

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::task::JoinHandle;
use warren_testkit::checker::{Checker, Report};
use warren_testkit::history::{Recorder, write_json_lines};

const EVERY: Duration = Duration::from_millis(500);

struct State {
    checker: Checker,
    history: BufWriter<File>,
}

/// Takes what is recorded, as long as it is there.
pub struct Judge {
    recorder: Recorder,
    state: Arc<Mutex<State>>,
    feeding: JoinHandle<Result<()>>,
    path: PathBuf,
}

impl Judge {
    /// The history goes into a file of this directory.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn start(recorder: &Recorder, directory: &Path) -> Result<Self> {
        let path = directory.join("history.jsonl");
        let state = Arc::new(Mutex::new(State {
            checker: Checker::default(),
            history: BufWriter::new(File::create(&path)?),
        }));
        let (recorder, fed) = (recorder.clone(), Arc::clone(&state));
        let recorded = recorder.clone();
        let feeding = tokio::spawn(async move {
            loop {
                tokio::time::sleep(EVERY).await;
                feed(&recorded, &fed)?;
            }
        });
        Ok(Self {
            recorder,
            state,
            feeding,
            path,
        })
    }

    /// # Errors
    /// Something is wrong already, or the history cannot be written.
    pub fn is_clean_so_far(&self) -> Result<()> {
        feed(&self.recorder, &self.state)?;
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let report = state.checker.so_far();
        let path = self.path.display();
        ensure!(report.is_clean(), "{report}history: {path}");
        Ok(())
    }

    /// The verdict, when the load has ended.
    ///
    /// # Errors
    /// If the history cannot be written.
    pub fn end(self) -> Result<Report> {
        feed(&self.recorder, &self.state)?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.history.flush()?;
        Ok(std::mem::take(&mut state.checker).finish())
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        self.feeding.abort();
    }
}

/// All in one turn: two at once would exchange events.
fn feed(recorder: &Recorder, state: &Mutex<State>) -> Result<()> {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let events = recorder.take();
    for event in &events {
        state.checker.take(event);
    }
    write_json_lines(&events, &mut state.history)?;
    Ok(())
}
