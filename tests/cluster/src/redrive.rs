//! What is parked is brought to where it is consumed, again and again, by the command that people use. Not here: the lane (`lanes`).

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use warren_testkit::process::run_within;

use crate::lanes::{PARKING, UNPARKED};

const EVERY: Duration = Duration::from_millis(500);

/// Goes on until it is stopped or dropped. A run that a fault ends is made again: moves are exact.
pub struct Redriver {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Redriver {
    /// `warren` is the program with the variables that it needs.
    #[must_use]
    pub fn start(warren: &Command, servers: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut parts = vec![warren.get_program().to_owned()];
        let given = warren.get_envs();
        let environment: Vec<_> = given
            .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
            .collect();
        parts.extend(
            [
                "dlq", "redrive", PARKING, "--parked", "--to", UNPARKED, "--server", servers,
            ]
            .map(Into::into),
        );
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut runs = 0;
            while !stopped.load(Ordering::Relaxed) {
                let mut words = parts.iter();
                let mut command = Command::new(words.next().expect("the program is first"));
                command.args(words).envs(environment.iter().cloned());
                let ended = run_within(command, Duration::from_secs(60));
                runs += u64::from(ended.is_ok_and(|it| it.status.success()));
                std::thread::sleep(EVERY);
            }
            runs
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }

    /// How often it went well.
    ///
    /// # Panics
    /// If it did.
    #[must_use]
    pub fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it ends once");
        thread.join().expect("it does not panic")
    }
}

impl Drop for Redriver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
