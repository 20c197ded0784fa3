//! Judges which replicas of a shard have other rows than they should. Pure. Not here: who reports when (`leader`), what follows.
//!
//! Most voters must agree before one that differs is blamed, and rows that are a copy of another replica's do not count among them
//! until they were seen to be right: copies of a wrong replica must not outvote the only right one.

use std::collections::{BTreeMap, BTreeSet};

use warren_codec::AuditPlace;
use warren_types::ReplicaId;

/// More rows than any audit reads.
const UNREADABLE: u64 = u64::MAX;

/// What a replica saw of its rows.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Seen {
    /// The last row; `None`: the shard's rows end there.
    pub(crate) end: Option<AuditPlace>,
    pub(crate) rows: u64,
    pub(crate) digest: u128,
}

impl Seen {
    /// What a replica says that cannot read its rows: no other says the same, so it is wrong as soon as most agree, and never right but
    /// alone.
    pub(super) fn unreadable(replica: ReplicaId) -> Self {
        Self {
            end: None,
            rows: UNREADABLE,
            digest: u128::from(replica.0),
        }
    }

    pub(super) fn is_unreadable(&self) -> bool {
        self.rows == UNREADABLE
    }
}

/// One replica's word.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Report {
    pub(crate) seen: Seen,
    /// Its rows are of its own making, or were found right since they came.
    pub(crate) proven: bool,
}

/// What is known of one replica after a comparison.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// Too few replicas answered, or voters were changing.
    NotCompared,
    Agrees,
    /// Replicas differ, and it cannot be said which are right.
    Doubt,
    Wrong,
}

/// What reports say together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Nothing,
    /// This is right.
    Right(Seen),
    /// Replicas differ, and none can be called right.
    Doubt,
}

/// Judges the reports of one audit. Those of replicas that do not vote do not count.
pub(super) fn judge(
    voters: &BTreeSet<ReplicaId>,
    reports: &BTreeMap<ReplicaId, Report>,
) -> Verdict {
    let counted = || reports.iter().filter(|(it, _)| voters.contains(it));
    let mut proven: BTreeMap<&Seen, usize> = BTreeMap::new();
    for (_, report) in counted() {
        *proven.entry(&report.seen).or_default() += usize::from(report.proven);
    }
    let most = voters.len() / 2 + 1;
    let right = proven.iter().find(|(_, count)| **count >= most);
    if let Some((right, _)) = right.filter(|(seen, _)| !seen.is_unreadable()) {
        return Verdict::Right((*right).clone());
    }
    let first = proven.first_key_value().map(|(seen, _)| (*seen).clone());
    match first {
        Some(_) if proven.len() > 1 => Verdict::Doubt,
        Some(alone) if alone.is_unreadable() => Verdict::Doubt,
        // All voters have the same: if one of them differs later, it is by itself.
        Some(same) if counted().count() == voters.len() => Verdict::Right(same),
        Some(_) | None => Verdict::Nothing,
    }
}

impl Verdict {
    /// What it means for a replica that saw this.
    pub(super) fn of(&self, seen: &Seen) -> Answer {
        match self {
            Self::Nothing => Answer::NotCompared,
            Self::Right(right) if right == seen => Answer::Agrees,
            Self::Right(_) => Answer::Wrong,
            Self::Doubt => Answer::Doubt,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seen(digest: u128) -> Seen {
        Seen {
            end: None,
            rows: 3,
            digest,
        }
    }

    #[test]
    fn replica_that_cannot_read_is_wrong_by_most_others_and_never_right_itself() {
        let of = |replica, proven| Report {
            seen: Seen::unreadable(ReplicaId(replica)),
            proven,
        };
        let plain = |digest| Report {
            seen: seen(digest),
            proven: true,
        };
        let judged = |reports: Vec<(u64, Report)>| {
            let reports = reports.into_iter().map(|(it, of)| (ReplicaId(it), of));
            let reports: BTreeMap<_, _> = reports.collect();
            judge(&reports.keys().copied().collect(), &reports)
        };
        let one_of_three = judged(vec![(1, of(1, true)), (2, plain(7)), (3, plain(7))]);
        assert_eq!(one_of_three, Verdict::Right(seen(7)));
        assert_eq!(
            one_of_three.of(&Seen::unreadable(ReplicaId(1))),
            Answer::Wrong
        );
        let two_of_three = judged(vec![(1, of(1, true)), (2, of(2, true)), (3, plain(7))]);
        assert_eq!(two_of_three, Verdict::Doubt);
        assert_eq!(judged(vec![(1, of(1, true))]), Verdict::Doubt);
        assert_eq!(
            judged(vec![(1, of(1, true)), (2, plain(7))]),
            Verdict::Doubt
        );
    }

    /// Replicas 1, 2, … with a digest each, and whether they are proven; `None` did not answer.
    fn judged(of: &[Option<(u128, bool)>]) -> Verdict {
        let (voters, reports) = told(of);
        judge(&voters, &reports)
    }

    fn told(of: &[Option<(u128, bool)>]) -> (BTreeSet<ReplicaId>, BTreeMap<ReplicaId, Report>) {
        let voters = (1..=of.len() as u64).map(ReplicaId).collect();
        let reports = (1..).map(ReplicaId).zip(of).filter_map(|(replica, told)| {
            let (digest, proven) = (*told)?;
            let seen = seen(digest);
            Some((replica, Report { seen, proven }))
        });
        (voters, reports.collect())
    }

    #[test]
    fn one_of_three_that_differs_is_wrong() {
        let right = Verdict::Right(seen(7));
        let sure = Some((7, true));
        assert_eq!(judged(&[sure, sure, Some((8, true))]), right);
        assert_eq!(right.of(&seen(8)), Answer::Wrong);
        assert_eq!(right.of(&seen(7)), Answer::Agrees);
        assert_eq!(judged(&[sure, sure, None]), right);
        let short = Seen { rows: 2, ..seen(7) };
        assert_eq!(right.of(&short), Answer::Wrong, "fewer rows are other rows");
    }

    #[test]
    fn copies_of_a_wrong_replica_do_not_outvote_the_right_one() {
        let copy = Some((8, false));
        assert_eq!(
            judged(&[Some((7, true)), Some((8, true)), copy]),
            Verdict::Doubt
        );
        assert_eq!(judged(&[Some((7, true)), copy, copy]), Verdict::Doubt);
    }

    #[test]
    fn two_that_differ_are_in_doubt() {
        let differ = [Some((7, true)), Some((8, true)), None];
        assert_eq!(judged(&differ), Verdict::Doubt);
        assert_eq!(judged(&differ[..2]), Verdict::Doubt);
        let all_differ = [Some((7, true)), Some((8, true)), Some((9, true))];
        assert_eq!(judged(&all_differ), Verdict::Doubt);
    }

    #[test]
    fn unproven_replicas_agree_only_all_together() {
        let copy = Some((7, false));
        assert_eq!(judged(&[copy, copy, None]), Verdict::Nothing);
        assert_eq!(judged(&[copy, copy, copy]), Verdict::Right(seen(7)));
        assert_eq!(judged(&[Some((7, true)), copy, None]), Verdict::Nothing);
    }

    #[test]
    fn too_few_say_nothing() {
        assert_eq!(judged(&[None, None, None]), Verdict::Nothing);
        assert_eq!(judged(&[Some((7, true)), None, None]), Verdict::Nothing);
        assert_eq!(judged(&[Some((7, true))]), Verdict::Right(seen(7)));
    }

    #[test]
    fn who_does_not_vote_does_not_count() {
        let (_, reports) = told(&[Some((7, true)), Some((8, true)), Some((8, true))]);
        let voters = BTreeSet::from([ReplicaId(1)]);
        assert_eq!(judge(&voters, &reports), Verdict::Right(seen(7)));
    }

    proptest! {
        /// Replicas that are right have digest 0. Wrong ones have gone wrong each by itself, or are unproven copies of any other.
        #[test]
        fn right_replicas_are_never_blamed(
            all in prop::collection::vec((0..4_u128, any::<bool>(), any::<bool>()), 1..8),
        ) {
            let mut own = 0;
            let of: Vec<_> = all
                .into_iter()
                .map(|(digest, copy, answers)| {
                    let broke = digest != 0 && !copy;
                    own += u128::from(broke);
                    let digest = if broke { 100 + own } else { digest };
                    answers.then_some((digest, !copy))
                })
                .collect();
            let verdict = judged(&of);
            let unanimous = of.iter().all(|it| it.map(|it| it.0) == of[0].map(|it| it.0));
            let right = verdict.of(&seen(0));
            prop_assert!(right != Answer::Wrong || unanimous || of.len() == 1);
            // Whoever is blamed, most voters agree without it.
            if let Verdict::Right(right) = &verdict {
                let agree = of.iter().flatten().filter(|it| it.0 == right.digest).count();
                prop_assert!(agree > of.len() / 2);
            }
        }
    }
}
