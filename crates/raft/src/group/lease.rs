//! How long a leader may act: by when it *sent* the last message that each follower has acknowledged.
//!
//! openraft keeps such times too, but takes an acknowledgement for one of every message that ends at the acknowledged entry,
//! also of those made after the one that was answered (a commit index without entries). A leader that was frozen would then
//! find answers from before in its sockets and believe that its followers follow it now. Here each answer counts for its own
//! request. Not here: who leads (`shared`).

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use tokio::time::Instant;
use warren_types::{ReplicaId, Term};

/// What the followers of one replica have acknowledged while it led.
#[derive(Default)]
pub(crate) struct Acknowledged {
    followers: Mutex<BTreeMap<ReplicaId, (Term, Instant)>>,
}

impl Acknowledged {
    /// A follower has accepted a message of the leader of `term` that was sent at `sent`.
    pub(crate) fn note(&self, follower: ReplicaId, term: Term, sent: Instant) {
        let mut followers = self.followers.lock();
        let known = followers.entry(follower).or_insert((term, sent));
        *known = (*known).max((term, sent));
    }

    /// When a majority of each of `configs` followed the leader of `term` at least until; `None` if it never did. The leader
    /// itself follows until `now`.
    pub(super) fn by_majority(
        &self,
        term: Term,
        leader: ReplicaId,
        configs: &[BTreeSet<u64>],
        now: Instant,
    ) -> Option<Instant> {
        let followers = self.followers.lock();
        let acked = |replica: u64| {
            if ReplicaId(replica) == leader {
                return Some(now);
            }
            let (of, sent) = followers.get(&ReplicaId(replica))?;
            (*of == term).then_some(*sent)
        };
        let mut oldest = None;
        for config in configs {
            let mut times: Vec<Option<Instant>> = config.iter().map(|it| acked(*it)).collect();
            times.sort_unstable();
            // Of n voters the majority-th newest: that many have acknowledged this or something later.
            let at = (times.len().checked_sub(1)?) / 2;
            let majority = (*times.get(at)?)?;
            oldest = Some(oldest.map_or(majority, |it: Instant| it.min(majority)));
        }
        oldest
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LEADER: ReplicaId = ReplicaId(1);

    fn voters(ids: &[u64]) -> BTreeSet<u64> {
        ids.iter().copied().collect()
    }

    fn later(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn majority_of_three_is_the_leader_and_the_newer_follower() {
        let start = Instant::now();
        let acknowledged = Acknowledged::default();
        let configs = [voters(&[1, 2, 3])];
        let by = |now| acknowledged.by_majority(Term(4), LEADER, &configs, later(start, now));
        assert_eq!(by(900), None);
        acknowledged.note(ReplicaId(2), Term(4), later(start, 10));
        assert_eq!(by(900), Some(later(start, 10)));
        acknowledged.note(ReplicaId(3), Term(4), later(start, 30));
        assert_eq!(by(900), Some(later(start, 30)));
        // An older answer that comes late changes nothing.
        acknowledged.note(ReplicaId(3), Term(4), later(start, 20));
        assert_eq!(by(900), Some(later(start, 30)));
    }

    #[test]
    fn majority_of_four_and_five_needs_three() {
        let start = Instant::now();
        let acknowledged = Acknowledged::default();
        acknowledged.note(ReplicaId(2), Term(1), later(start, 50));
        for ids in [&[1, 2, 3, 4][..], &[1, 2, 3, 4, 5][..]] {
            let configs = [voters(ids)];
            assert_eq!(
                acknowledged.by_majority(Term(1), LEADER, &configs, later(start, 90)),
                None
            );
        }
        acknowledged.note(ReplicaId(3), Term(1), later(start, 40));
        for ids in [&[1, 2, 3, 4][..], &[1, 2, 3, 4, 5][..]] {
            let configs = [voters(ids)];
            assert_eq!(
                acknowledged.by_majority(Term(1), LEADER, &configs, later(start, 90)),
                Some(later(start, 40))
            );
        }
    }

    #[test]
    fn joint_configuration_needs_both_majorities() {
        let start = Instant::now();
        let acknowledged = Acknowledged::default();
        let configs = [voters(&[1, 2, 3]), voters(&[1, 4, 5])];
        acknowledged.note(ReplicaId(2), Term(1), later(start, 50));
        let now = later(start, 90);
        assert_eq!(
            acknowledged.by_majority(Term(1), LEADER, &configs, now),
            None
        );
        acknowledged.note(ReplicaId(5), Term(1), later(start, 20));
        assert_eq!(
            acknowledged.by_majority(Term(1), LEADER, &configs, now),
            Some(later(start, 20))
        );
    }

    #[test]
    fn acknowledgements_of_an_older_term_do_not_count() {
        let start = Instant::now();
        let acknowledged = Acknowledged::default();
        let configs = [voters(&[1, 2, 3])];
        acknowledged.note(ReplicaId(2), Term(3), later(start, 50));
        assert_eq!(
            acknowledged.by_majority(Term(4), LEADER, &configs, later(start, 60)),
            None
        );
        acknowledged.note(ReplicaId(2), Term(4), later(start, 40));
        assert_eq!(
            acknowledged.by_majority(Term(4), LEADER, &configs, later(start, 60)),
            Some(later(start, 40))
        );
    }

    #[test]
    fn single_voter_follows_itself() {
        let now = Instant::now();
        let configs = [voters(&[1])];
        let acknowledged = Acknowledged::default();
        assert_eq!(
            acknowledged.by_majority(Term(1), LEADER, &configs, now),
            Some(now)
        );
    }
}
