//! Whether a group can commit, as far as its replica on this node tells. Not here: groups without a replica here (`cluster_view`).

use warren_shard::GroupStatus;
use warren_types::{GroupId, Member, NodeId};

/// By its own voters, not by its placement: that one says where replicas are to be, and still names lost nodes after a group was made of one
/// copy. Who leads knows it by what its followers acknowledge; others go by the nodes that are up. `None`: no vote here (of the topology,
/// whose changes each node hears of, that does not matter), or the voters are not known yet.
pub(super) fn has_quorum(status: &GroupStatus, is_up: impl Fn(NodeId) -> bool) -> Option<bool> {
    let mut voters = status.voters.iter();
    let votes = voters.any(|it| it.replica == status.replica);
    let hears = status.group == GroupId::TOPOLOGY && !status.configs.is_empty();
    if !votes && !hears {
        return None;
    }
    let leader = status.leadership.leader;
    if leader.is_some_and(|it| it.replica == status.replica) {
        return Some(status.lease_until.is_some());
    }
    let most_are_up = |config: &Vec<Member>| {
        let up = config.iter().filter(|it| is_up(it.node)).count();
        up > config.len() / 2
    };
    Some(status.configs.iter().all(most_are_up))
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;
    use warren_shard::{ReplicaHealth, Role};
    use warren_types::{Leader, Leadership, ReplicaId, Term};

    use super::*;

    fn members(numbers: &[u64]) -> Vec<Member> {
        let member = |number: &u64| Member {
            replica: ReplicaId(*number),
            node: NodeId(*number),
        };
        numbers.iter().map(member).collect()
    }

    /// Replica 1 of a group with these voters, where this one leads.
    fn status(configs: &[&[u64]], leader: Option<u64>) -> GroupStatus {
        let mut voters: Vec<u64> = configs.concat();
        voters.sort_unstable();
        voters.dedup();
        GroupStatus {
            group: GroupId(1),
            replica: ReplicaId(1),
            health: ReplicaHealth::Running,
            role: Role::Follower,
            leadership: Leadership {
                term: Term(1),
                leader: leader.map(|it| Leader {
                    replica: ReplicaId(it),
                    node: NodeId(it),
                }),
            },
            last_log: None,
            committed: None,
            heard_commit: None,
            applied: None,
            purged: None,
            voters: members(&voters),
            learners: Vec::new(),
            configs: configs.iter().map(|it| members(it)).collect(),
            followers: Vec::new(),
            lease_until: None,
            waiting: 0,
            waiting_bytes: 0,
        }
    }

    fn seen(status: &GroupStatus, up: &[u64]) -> Option<bool> {
        has_quorum(status, |node| up.contains(&node.0))
    }

    #[test]
    fn follower_counts_the_voters_that_are_up() {
        for leader in [None, Some(2)] {
            let three = status(&[&[1, 2, 3]], leader);
            assert_eq!(seen(&three, &[1, 2]), Some(true));
            assert_eq!(seen(&three, &[1]), Some(false));
            assert_eq!(seen(&three, &[1, 4, 5]), Some(false), "others do not vote");
        }
        let even = status(&[&[1, 2, 3, 4]], None);
        assert_eq!(seen(&even, &[1, 2]), Some(false));
        assert_eq!(seen(&even, &[1, 2, 3]), Some(true));
    }

    #[test]
    fn single_voter_is_a_majority_whatever_else_is_down() {
        assert_eq!(seen(&status(&[&[1]], None), &[1]), Some(true));
    }

    #[test]
    fn change_half_done_needs_both_majorities() {
        let joint = status(&[&[1, 2, 3], &[1, 4, 5]], None);
        assert_eq!(seen(&joint, &[1, 2, 4]), Some(true));
        assert_eq!(seen(&joint, &[1, 2, 3]), Some(false));
        assert_eq!(seen(&joint, &[1, 4, 5]), Some(false));
    }

    #[test]
    fn leader_goes_by_what_its_followers_acknowledge() {
        let mut led = status(&[&[1, 2, 3]], Some(1));
        assert_eq!(seen(&led, &[1, 2, 3]), Some(false), "up, but not following");
        led.lease_until = Some(Instant::now());
        assert_eq!(seen(&led, &[1]), Some(true));
    }

    #[test]
    fn replica_without_a_vote_cannot_tell() {
        assert_eq!(seen(&status(&[&[2, 3, 4]], Some(2)), &[1, 2, 3, 4]), None);
        assert_eq!(seen(&status(&[], None), &[1, 2, 3]), None);
    }

    #[test]
    fn topology_is_judged_without_a_vote_too() {
        let mut topology = status(&[&[2, 3, 4]], Some(2));
        topology.group = GroupId::TOPOLOGY;
        assert_eq!(seen(&topology, &[1, 2, 3]), Some(true));
        assert_eq!(seen(&topology, &[1, 2]), Some(false));
        topology.configs.clear();
        assert_eq!(seen(&topology, &[1, 2]), None);
    }
}
