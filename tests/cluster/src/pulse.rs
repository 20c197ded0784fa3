//! How long queues go without a confirm, whoever publishes to them, and what that comes to over many faults. Not here: what is too long.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

/// Of each queue, when it was last confirmed to, and the longest time that it was not.
#[derive(Debug, Default)]
pub(crate) struct Pulses {
    queues: BTreeMap<String, Pulse>,
}

#[derive(Debug)]
struct Pulse {
    last: Instant,
    longest: Duration,
}

impl Pulses {
    pub(crate) fn beat(&mut self, queue: &str) {
        let now = Instant::now();
        match self.queues.get_mut(queue) {
            Some(pulse) => {
                pulse.longest = pulse.longest.max(now - pulse.last);
                pulse.last = now;
            }
            None => {
                let pulse = Pulse {
                    last: now,
                    longest: Duration::ZERO,
                };
                self.queues.insert(queue.to_owned(), pulse);
            }
        }
    }

    /// Times count from now on.
    pub(crate) fn begin(&mut self) {
        let now = Instant::now();
        for pulse in self.queues.values_mut() {
            (pulse.last, pulse.longest) = (now, Duration::ZERO);
        }
    }

    /// Since then, the longest time of each queue: also that which has not ended.
    pub(crate) fn longest(&self) -> BTreeMap<String, Duration> {
        let all = self.queues.iter();
        all.map(|(queue, it)| (queue.clone(), it.longest.max(it.last.elapsed())))
            .collect()
    }
}

/// Many times.
#[derive(Debug, Default, Clone)]
pub struct Times(Vec<Duration>);

impl Times {
    pub fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// The least that so many of a hundred do not exceed. Nothing without times.
    #[must_use]
    pub fn percentile(&self, of_hundred: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * of_hundred).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or_default()
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return write!(f, "-");
        }
        let ms = |of_hundred| self.percentile(of_hundred).as_millis();
        write!(f, "{} / {} / {}", ms(50), ms(99), ms(100))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_times_themselves() {
        let mut times = Times::default();
        assert_eq!(times.to_string(), "-");
        for ms in (1..=200).rev() {
            times.add(Duration::from_millis(ms));
        }
        assert_eq!(times.to_string(), "100 / 198 / 200");
    }

    #[test]
    fn queue_that_is_silent_shows_before_it_is_heard_again() {
        let mut pulses = Pulses::default();
        pulses.beat("a");
        pulses.begin();
        std::thread::sleep(Duration::from_millis(30));
        assert!(pulses.longest()["a"] >= Duration::from_millis(30));
        pulses.beat("a");
        pulses.beat("a");
        let longest = pulses.longest()["a"];
        assert!(longest >= Duration::from_millis(30), "{longest:?}");
        pulses.begin();
        assert!(pulses.longest()["a"] < longest);
    }
}
