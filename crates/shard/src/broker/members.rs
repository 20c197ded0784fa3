//! Makes the membership of each group that this node leads as its placement says, one small step at a time, and says when it is so.
//! Any leader goes on from where the last one stopped: everything is seen in the membership. Not here: placements (`warren-topology`),
//! joint consensus (`warren-raft`).

use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, info};
use warren_raft::{FollowerStatus, Group, GroupStatus, OtherMembers};
use warren_topology::{Placement, PlacementCommand, PlacementSettled, TopologyCommand};
use warren_types::{Member, ReplicaId};

use super::Broker;

/// How often memberships are compared with placements.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A new replica that is behind by fewer entries may vote.
const BEHIND_MAX: u64 = 1_000;
/// A follower that has acknowledged nothing for so long may be gone: nothing is built on it.
const HEARD_WITHIN: Duration = Duration::from_secs(2);

/// The next step towards a placement.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Step {
    /// Nothing, or nothing for now.
    None,
    Remove(Vec<Member>),
    Add(Member),
    /// This replica is to go, and leads: another leads first.
    GiveAway(ReplicaId),
    Vote(Vec<Member>),
    Settled,
}

impl Broker {
    pub(super) async fn keep_members(self) {
        loop {
            tokio::select! {
                biased; // stopping comes first
                () = self.inner.stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let groups: Vec<Group> = self.inner.groups.read().values().cloned().collect();
            for group in &groups {
                let Some(shard) = group.group().shard() else {
                    continue;
                };
                self.tell_uplink(shard);
                let status = group.status();
                if !status.voters.is_empty() && !status.is_joint() {
                    self.inner.audits.note_voters(shard, &status.voters);
                }
            }
            self.tell_wrong();
            // A leader that does not hear of the topology might go back to a placement of the past.
            if !self.inner.topology.is_recent() {
                continue;
            }
            let led = groups.iter().filter(|group| group.lease_until().is_some());
            futures::future::join_all(led.map(|group| self.converge(group))).await;
        }
    }

    async fn converge(&self, group: &Group) {
        let topology = self.inner.topology.current();
        let Some(placement) = topology.placement(group.group()) else {
            return;
        };
        let step = next_step(placement, &group.status(), Instant::now());
        let name = group.group();
        let made = match &step {
            Step::None => return,
            Step::Remove(members) => group.remove_learners(members.iter().copied()).await,
            Step::Add(member) => group.add_learner(*member).await,
            Step::Vote(members) => {
                let voters = members.iter().copied();
                group
                    .change_voters(voters, OtherMembers::BecomeLearners)
                    .await
            }
            Step::GiveAway(to) => {
                let given = group.transfer_leader(Some(*to)).await;
                debug!(group = %name, ?given, "leadership of a replica that goes");
                return;
            }
            Step::Settled => return self.tell_settled(placement).await,
        };
        match made {
            Ok(()) => info!(group = %name, ?step, "membership changed"),
            Err(error) => debug!(group = %name, ?step, %error, "membership not changed yet"),
        }
    }

    async fn tell_settled(&self, placement: &Placement) {
        let command = PlacementCommand::PlacementSettled(PlacementSettled {
            group: placement.group,
            generation: placement.generation,
        });
        let command = TopologyCommand::Placement(command);
        match self.inner.topology.propose(command, "").await {
            Ok(reply) => info!(group = %placement.group, ?reply, "placement settled"),
            Err(error) => debug!(group = %placement.group, %error, "topology not told yet"),
        }
    }
}

/// What is to be done first: who is not wanted and has no vote goes; who is missing comes, without a vote; when all that are to vote
/// have nearly all of the log, and most of them answer, the votes change at once.
fn next_step(placement: &Placement, status: &GroupStatus, now: Instant) -> Step {
    let wanted = |it: &Member| placement.replicas().any(|known| known == it);
    let unwanted = status.learners.iter().filter(|it| !wanted(it));
    let unwanted: Vec<Member> = unwanted.copied().collect();
    if !unwanted.is_empty() && !status.is_joint() {
        return Step::Remove(unwanted);
    }
    let there = |it: &Member| status.voters.contains(it) || status.learners.contains(it);
    if let Some(missing) = placement.replicas().find(|it| !there(it)) {
        return Step::Add(*missing);
    }
    let votes = |it: &&Member| status.voters.contains(it);
    let as_placed = status.voters.len() == placement.members.len()
        && placement.members.iter().all(|it| votes(&it))
        && !status.is_joint();
    if as_placed {
        return if placement.settled {
            Step::None
        } else {
            Step::Settled
        };
    }
    if !may_vote(placement, status, now) {
        return Step::None;
    }
    let mut staying = placement.members.iter();
    if staying.any(|it| it.replica == status.replica) {
        return Step::Vote(placement.members.clone());
    }
    let mut heirs = placement.members.iter().filter(votes);
    match heirs.find(|it| is_near(status, it) && answers(status, it, now)) {
        Some(heir) => Step::GiveAway(heir.replica),
        None => Step::Vote(placement.members.clone()),
    }
}

/// Whether the votes may change now: a voter more must have nearly all of the log and answer, and so many of all that are to vote must
/// answer, and have nearly all of it, that they agree without the others. From the moment of the change nothing is committed without them.
fn may_vote(placement: &Placement, status: &GroupStatus, now: Instant) -> bool {
    let members = &placement.members;
    let fresh = |it: &Member| it.replica == status.replica || answers(status, it, now);
    let ready = |it: &Member| it.replica == status.replica || is_near(status, it);
    let newcomers = members.iter().filter(|it| !status.voters.contains(it));
    let all_ready = newcomers.into_iter().all(|it| ready(it) && fresh(it));
    // A change that is half done counts already: it can only go on.
    let good = members.iter().filter(|it| ready(it) && fresh(it));
    let most = good.count() > members.len() / 2;
    all_ready && (most || status.is_joint())
}

pub(super) fn follower<'a>(status: &'a GroupStatus, member: &Member) -> Option<&'a FollowerStatus> {
    let mut followers = status.followers.iter();
    followers.find(|it| it.replica == member.replica)
}

/// Whether a follower has acknowledged something lately.
pub(super) fn answers(status: &GroupStatus, member: &Member, now: Instant) -> bool {
    let acked = follower(status, member).and_then(|it| it.acked);
    acked.is_some_and(|at| now.saturating_duration_since(at) <= HEARD_WITHIN)
}

/// Whether a follower has nearly all of the log.
pub(super) fn is_near(status: &GroupStatus, member: &Member) -> bool {
    let matched = follower(status, member).and_then(|it| it.matched);
    match (matched, status.last_log) {
        (Some(matched), Some(last)) => matched.0 + BEHIND_MAX >= last.0,
        (None, _) | (_, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use warren_topology::Copies;
    use warren_types::{Generation, ShardId};

    use super::super::testing::{self, member, members};
    use super::*;

    fn placement(wanted: &[u64], former: &[u64]) -> Placement {
        Placement {
            group: ShardId(1).into(),
            generation: Generation(2),
            members: members(wanted),
            learners: Vec::new(),
            former: members(former),
            settled: false,
            copies: Copies::Factor,
        }
    }

    fn status(voters: &[u64], learners: &[u64], matched: &[(u64, u64)]) -> GroupStatus {
        testing::status(voters, learners, matched, Instant::now())
    }

    #[test]
    fn replica_is_replaced_step_by_step() {
        let wanted = placement(&[1, 2, 4], &[3]);
        let now = status(&[1, 2, 3], &[], &[(2, 5_000), (3, 5_000)]);
        assert_eq!(
            next_step(&wanted, &now, Instant::now()),
            Step::Add(member(4))
        );
        let now = status(&[1, 2, 3], &[4], &[(2, 5_000), (4, 3_999)]);
        assert_eq!(
            next_step(&wanted, &now, Instant::now()),
            Step::None,
            "4 is behind"
        );
        let now = status(&[1, 2, 3], &[4], &[(2, 5_000), (4, 4_000)]);
        assert_eq!(
            next_step(&wanted, &now, Instant::now()),
            Step::Vote(members(&[1, 2, 4]))
        );
        let mut now = status(&[1, 2, 3, 4], &[], &[(2, 5_000), (4, 5_000)]);
        now.configs.push(members(&[1, 2, 3]));
        assert_eq!(
            next_step(&wanted, &now, Instant::now()),
            Step::Vote(members(&[1, 2, 4]))
        );
        let now = status(&[1, 2, 4], &[3], &[]);
        assert_eq!(
            next_step(&wanted, &now, Instant::now()),
            Step::Remove(members(&[3]))
        );
        let now = status(&[1, 2, 4], &[], &[]);
        assert_eq!(next_step(&wanted, &now, Instant::now()), Step::Settled);
        let mut settled = wanted;
        settled.settled = true;
        assert_eq!(next_step(&settled, &now, Instant::now()), Step::None);
    }

    #[test]
    fn leader_that_is_to_go_gives_its_leadership_to_one_that_stays() {
        let wanted = placement(&[2, 3, 4], &[1]);
        let now = status(&[1, 2, 3], &[4], &[(2, 100), (3, 4_900), (4, 5_000)]);
        assert_eq!(
            next_step(&wanted, &now, Instant::now()),
            Step::GiveAway(ReplicaId(3))
        );
        let alone = placement(&[4], &[1]);
        let now = status(&[1], &[4], &[(4, 5_000)]);
        assert_eq!(
            next_step(&alone, &now, Instant::now()),
            Step::Vote(members(&[4]))
        );
    }

    #[test]
    fn group_that_grew_is_not_settled_while_two_configurations_count() {
        let wanted = placement(&[1, 2, 3], &[]);
        let mut now = status(&[1, 2, 3], &[], &[(2, 5_000), (3, 5_000)]);
        now.configs.push(members(&[1, 2, 3]));
        assert_eq!(
            next_step(&wanted, &now, Instant::now()),
            Step::Vote(members(&[1, 2, 3]))
        );
    }

    #[test]
    fn votes_do_not_change_while_most_of_the_new_voters_are_silent() {
        let fewer = placement(&[1, 2], &[3]);
        let mut now = status(&[1, 2, 3], &[], &[(2, 5_000), (3, 5_000)]);
        now.followers[0].acked = None;
        assert_eq!(next_step(&fewer, &now, Instant::now()), Step::None);
        let later = Instant::now() + HEARD_WITHIN + Duration::from_millis(1);
        now.followers[0].acked = Some(Instant::now());
        assert_eq!(next_step(&fewer, &now, later), Step::None);
        assert_eq!(
            next_step(&fewer, &now, Instant::now()),
            Step::Vote(members(&[1, 2]))
        );
    }

    #[test]
    fn newcomer_that_does_not_answer_gets_no_vote() {
        let wanted = placement(&[1, 2, 4], &[3]);
        let mut now = status(&[1, 2, 3], &[4], &[(2, 5_000), (3, 5_000), (4, 5_000)]);
        now.followers[2].acked = None;
        assert_eq!(next_step(&wanted, &now, Instant::now()), Step::None);
    }
}
