//! Delays for those that guess passwords: they grow per account and address, nobody is locked out for good.
//! Not here: waiting, and what counts as a failure.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// After the first failure; doubled by each more.
const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(30);
/// Failures of an account within a minute, from whatever addresses; then only addresses it was used from are heard.
const PER_MINUTE: u32 = 10;
const MINUTE: Duration = Duration::from_secs(60);
/// A failure is forgotten after this long without another.
const FORGET: Duration = Duration::from_secs(600);
/// Accounts with addresses that are remembered; beyond it those that were quiet longest are forgotten.
const ENTRIES_MAX: usize = 10_000;

/// When an attempt is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Now,
    At(Instant),
    /// Not in this minute.
    No,
}

#[derive(Default)]
pub(super) struct Delays {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    pairs: HashMap<(Box<str>, IpAddr), Pair>,
    accounts: HashMap<Box<str>, Account>,
}

struct Pair {
    failures: u32,
    at: Instant,
    /// It has logged in from here before.
    is_known: bool,
}

struct Account {
    failures: u32,
    since: Instant,
}

impl Delays {
    pub(super) fn before(&self, user: &str, peer: IpAddr, now: Instant) -> Verdict {
        let state = self.state.lock();
        let pair = state.pairs.get(&(user.into(), peer));
        let too_many = state
            .accounts
            .get(user)
            .is_some_and(|it| it.failures >= PER_MINUTE && now.duration_since(it.since) < MINUTE);
        if too_many && !pair.is_some_and(|it| it.is_known) {
            return Verdict::No;
        }
        match pair.filter(|it| it.failures > 0 && now.duration_since(it.at) < FORGET) {
            None => Verdict::Now,
            Some(it) => {
                let doubled = 1_u32 << (it.failures - 1).min(16);
                let at = it.at + FIRST.saturating_mul(doubled).min(LONGEST);
                if at <= now {
                    Verdict::Now
                } else {
                    Verdict::At(at)
                }
            }
        }
    }

    pub(super) fn failed(&self, user: &str, peer: IpAddr, now: Instant) {
        let mut state = self.state.lock();
        state.make_room(now);
        let pair = state.pairs.entry((user.into(), peer)).or_insert(Pair {
            failures: 0,
            at: now,
            is_known: false,
        });
        if now.duration_since(pair.at) >= FORGET {
            pair.failures = 0;
        }
        pair.failures = pair.failures.saturating_add(1);
        pair.at = now;
        let account = state.accounts.entry(user.into()).or_insert(Account {
            failures: 0,
            since: now,
        });
        if now.duration_since(account.since) >= MINUTE {
            *account = Account {
                failures: 0,
                since: now,
            };
        }
        account.failures = account.failures.saturating_add(1);
    }

    pub(super) fn succeeded(&self, user: &str, peer: IpAddr, now: Instant) {
        let mut state = self.state.lock();
        state.make_room(now);
        state.pairs.insert(
            (user.into(), peer),
            Pair {
                failures: 0,
                at: now,
                is_known: true,
            },
        );
    }
}

impl State {
    fn make_room(&mut self, now: Instant) {
        if self.pairs.len() >= ENTRIES_MAX {
            self.pairs
                .retain(|_, it| now.duration_since(it.at) < FORGET);
        }
        if self.pairs.len() >= ENTRIES_MAX {
            let oldest = self.pairs.iter().min_by_key(|(_, it)| it.at);
            if let Some(key) = oldest.map(|(key, _)| key.clone()) {
                self.pairs.remove(&key);
            }
        }
        if self.accounts.len() >= ENTRIES_MAX {
            self.accounts
                .retain(|_, it| now.duration_since(it.since) < MINUTE);
        }
        if self.accounts.len() >= ENTRIES_MAX {
            self.accounts.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn delay_doubles_with_each_failure_and_ends_with_success() {
        let (delays, now) = (Delays::default(), Instant::now());
        assert_eq!(delays.before("u", peer(1), now), Verdict::Now);
        for factor in [1, 2, 4] {
            delays.failed("u", peer(1), now);
            let at = now + FIRST * factor;
            assert_eq!(delays.before("u", peer(1), now), Verdict::At(at));
            assert_eq!(delays.before("u", peer(1), at), Verdict::Now);
        }
        assert_eq!(delays.before("u", peer(2), now), Verdict::Now);
        assert_eq!(delays.before("w", peer(1), now), Verdict::Now);
        delays.succeeded("u", peer(1), now);
        assert_eq!(delays.before("u", peer(1), now), Verdict::Now);
    }

    #[test]
    fn account_under_attack_is_still_open_where_it_was_used() {
        let (delays, now) = (Delays::default(), Instant::now());
        delays.succeeded("u", peer(200), now);
        for from in 0..10 {
            assert_eq!(delays.before("u", peer(from), now), Verdict::Now);
            delays.failed("u", peer(from), now);
        }
        assert_eq!(delays.before("u", peer(100), now), Verdict::No);
        assert_eq!(delays.before("u", peer(200), now), Verdict::Now);
        assert_eq!(delays.before("u", peer(100), now + MINUTE), Verdict::Now);
    }

    #[test]
    fn no_more_than_ten_attempts_of_a_minute_are_looked_at() {
        let (delays, start) = (Delays::default(), Instant::now());
        let (mut now, mut attempts) = (start, 0);
        while now < start + MINUTE {
            match delays.before("u", peer(1), now) {
                Verdict::Now => {
                    delays.failed("u", peer(1), now);
                    attempts += 1;
                }
                Verdict::At(at) => now = at,
                Verdict::No => break,
            }
        }
        assert!(attempts <= 10, "{attempts}");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (delays, now) = (Delays::default(), Instant::now());
        for number in 0..ENTRIES_MAX + 100 {
            delays.failed(&format!("u{number}"), peer(1), now);
        }
        assert!(delays.state.lock().pairs.len() <= ENTRIES_MAX);
        assert!(delays.state.lock().accounts.len() <= ENTRIES_MAX);
    }
}
