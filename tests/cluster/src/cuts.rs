//! Faults of the network between nodes: which packets they take, who can serve meanwhile, and plans of them drawn from a seed.
//! Not here: making cuts (`network`), what clients are to see (`tests/network.rs`, `tests/long.rs`).

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{Rng as _, SeedableRng as _};
use warren_testkit::process::NodeNumber;

use crate::network::{Network, Way};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The node that leads the topology, and some shards, from all others.
    IsolatedLeader,
    /// Another one, which leads some shards.
    IsolatedFollower,
    /// One way between two nodes.
    OneWay,
    /// The others hear a leader, it hears nobody.
    DeafLeader,
    /// A leader hears the others, they do not hear it.
    MuteLeader,
    /// A and B, B and C, but not A and C.
    Ring,
    /// One node from all others, several times in a second or so.
    Flapping,
    /// Three of ten packets everywhere.
    Loss,
    /// 20 to 50 ms later everywhere.
    Delay,
    /// Two nodes of five, one of which leads the topology, from the other three.
    LeaderOfTwo,
    /// Two nodes of five from the other three, one of which leads the topology.
    LeaderOfThree,
    /// Five nodes in a circle: each reaches its two neighbours, which is a majority with itself.
    MajorityRing,
    /// Two nodes of five from two others; the fifth reaches all.
    Bridge,
}

/// What can happen to three nodes.
pub const OF_THREE: [Fault; 9] = [
    Fault::IsolatedLeader,
    Fault::OneWay,
    Fault::Ring,
    Fault::DeafLeader,
    Fault::Flapping,
    Fault::IsolatedFollower,
    Fault::MuteLeader,
    Fault::Delay,
    Fault::Loss,
];

/// Halves of five.
pub const HALVES: [Fault; 2] = [Fault::LeaderOfTwo, Fault::LeaderOfThree];

/// What needs five nodes and is no half.
pub const OF_FIVE: [Fault; 2] = [Fault::MajorityRing, Fault::Bridge];

#[derive(Debug, Clone, Copy)]
pub struct Step {
    pub fault: Fault,
    pub held_for: Duration,
}

/// What is to happen, one after the other.
#[derive(Debug)]
pub struct Plan {
    pub steps: Vec<Step>,
}

impl Plan {
    /// Long enough only where a node that is cut off has to notice it.
    #[must_use]
    pub fn each_once(faults: &[Fault]) -> Self {
        let held_for = |fault| match fault {
            Fault::IsolatedLeader => Duration::from_secs(14),
            Fault::LeaderOfTwo => Duration::from_secs(13),
            Fault::IsolatedFollower | Fault::LeaderOfThree => Duration::from_secs(9),
            Fault::OneWay
            | Fault::DeafLeader
            | Fault::MuteLeader
            | Fault::Ring
            | Fault::MajorityRing
            | Fault::Bridge
            | Fault::Flapping
            | Fault::Loss
            | Fault::Delay => Duration::from_millis(1_500),
        };
        let step = |fault: &Fault| Step {
            fault: *fault,
            held_for: held_for(*fault),
        };
        Self {
            steps: faults.iter().map(step).collect(),
        }
    }

    /// # Panics
    /// Of no faults.
    #[must_use]
    pub fn drawn(faults: &[Fault], seed: u64, steps: usize) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut draw = || Step {
            fault: *faults.choose(&mut random).expect("there are some"),
            held_for: Duration::from_millis(random.random_range(300..12_000)),
        };
        Self {
            steps: (0..steps).map(|_| draw()).collect(),
        }
    }
}

/// One fault of nodes that are known.
#[derive(Debug)]
pub struct Cut {
    fault: Fault,
    nodes: usize,
    /// What is dropped.
    pub ways: Vec<Way>,
    pub flaps: bool,
    /// Those that reach all of a majority, both ways: where every group has a replica on every node they have to confirm.
    pub serve: Vec<NodeNumber>,
    /// Those that reach no majority.
    pub alone: Vec<NodeNumber>,
}

/// Everything between two sets of nodes.
fn between(some: &[NodeNumber], others: &[NodeNumber]) -> Vec<Way> {
    let pairs = |from: &[NodeNumber], to: &[NodeNumber]| -> Vec<Way> {
        let of = |it: NodeNumber| to.iter().map(move |other| (it, *other));
        from.iter().flat_map(|it| of(*it)).collect()
    };
    [pairs(some, others), pairs(others, some)].concat()
}

impl Cut {
    /// `leader` leads the topology. Halves, circles and bridges are of five nodes.
    ///
    /// # Panics
    /// Of fewer nodes than three.
    #[must_use]
    pub fn of(fault: Fault, nodes: usize, leader: NodeNumber, random: &mut StdRng) -> Self {
        let mut order: Vec<NodeNumber> = (1..=nodes).map(NodeNumber).collect();
        order.retain(|it| *it != leader);
        order.shuffle(random);
        let any = random.random_range(0..nodes);
        let drawn = order.get(any).copied().unwrap_or(leader);
        let (ways, alone) = ways_of(fault, leader, &order, drawn);
        let mut cut = Self {
            fault,
            nodes,
            flaps: fault == Fault::Flapping,
            serve: Vec::new(),
            alone,
            ways,
        };
        order.push(leader);
        order.sort_unstable();
        cut.serve = match fault {
            Fault::Flapping | Fault::Loss | Fault::MajorityRing | Fault::Bridge => Vec::new(),
            Fault::IsolatedLeader
            | Fault::IsolatedFollower
            | Fault::OneWay
            | Fault::DeafLeader
            | Fault::MuteLeader
            | Fault::Ring
            | Fault::Delay
            | Fault::LeaderOfTwo
            | Fault::LeaderOfThree => {
                let mut others = order.iter().filter(|it| !cut.alone.contains(it));
                let all: Vec<NodeNumber> = others.by_ref().copied().collect();
                let reaches_all =
                    |node: &&NodeNumber| all.iter().all(|it| cut.is_open(**node, *it));
                all.iter().filter(reaches_all).copied().collect()
            }
        };
        cut
    }

    /// Whether two nodes hear each other.
    #[must_use]
    pub fn is_open(&self, one: NodeNumber, other: NodeNumber) -> bool {
        !self.ways.contains(&(one, other)) && !self.ways.contains(&(other, one))
    }

    /// Whether some replica of a group with replicas on these nodes reaches most of them, and most of all nodes: a node that does not takes
    /// no publishes.
    #[must_use]
    pub fn leaves_majority(&self, replicas: &[NodeNumber]) -> bool {
        let all: Vec<NodeNumber> = (1..=self.nodes).map(NodeNumber).collect();
        let reaches_most = |from: NodeNumber, of: &[NodeNumber]| {
            of.iter().filter(|it| self.is_open(from, **it)).count() * 2 > of.len()
        };
        let mut replicas_now = replicas.iter();
        replicas_now.any(|it| reaches_most(*it, replicas) && reaches_most(*it, &all))
    }

    /// # Errors
    /// When the rules are refused.
    pub fn make(&self, network: &mut Network) -> Result<()> {
        match self.fault {
            Fault::Loss => network.lose(30),
            Fault::Delay => network.delay(Duration::from_millis(20), Duration::from_millis(50)),
            Fault::IsolatedLeader
            | Fault::IsolatedFollower
            | Fault::OneWay
            | Fault::DeafLeader
            | Fault::MuteLeader
            | Fault::Ring
            | Fault::Flapping
            | Fault::LeaderOfTwo
            | Fault::LeaderOfThree
            | Fault::MajorityRing
            | Fault::Bridge => network.cut(&self.ways),
        }
    }

    /// Opens and closes a cut that flaps, until then.
    ///
    /// # Errors
    /// When the rules are refused.
    pub async fn flap(
        &self,
        network: &Network,
        until: std::time::Instant,
        seed: u64,
    ) -> Result<()> {
        let mut random = StdRng::seed_from_u64(seed);
        let mut is_open = false;
        while self.flaps && std::time::Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(random.random_range(30..700))).await;
            is_open = !is_open;
            network.cut(if is_open { &[] } else { &self.ways })?;
        }
        Ok(())
    }
}

/// What is dropped, and who reaches no majority then. `others` are all but the leader, in the order that was drawn.
fn ways_of(
    fault: Fault,
    leader: NodeNumber,
    others: &[NodeNumber],
    any: NodeNumber,
) -> (Vec<Way>, Vec<NodeNumber>) {
    let all = [others, &[leader]].concat();
    let without = |some: &[NodeNumber]| -> Vec<NodeNumber> {
        all.iter()
            .filter(|it| !some.contains(it))
            .copied()
            .collect()
    };
    let apart = |some: &[NodeNumber]| between(some, &without(some));
    let [first, second, ..] = others else {
        panic!("there are three nodes at least");
    };
    let of_any = without(&[any]);
    match fault {
        Fault::IsolatedLeader => (apart(&[leader]), vec![leader]),
        Fault::IsolatedFollower => (apart(&[*first]), vec![*first]),
        Fault::OneWay => (of_any.iter().take(1).map(|it| (any, *it)).collect(), vec![]),
        Fault::DeafLeader => {
            let ways = others.iter().map(|it| (*it, leader));
            (ways.collect(), vec![leader])
        }
        Fault::MuteLeader => {
            let ways = others.iter().map(|it| (leader, *it));
            (ways.collect(), vec![leader])
        }
        Fault::Ring => (between(&[any], of_any.get(..1).unwrap_or_default()), vec![]),
        Fault::Flapping => (apart(&[any]), vec![]),
        Fault::Loss | Fault::Delay => (vec![], vec![]),
        Fault::LeaderOfTwo => (apart(&[leader, *first]), vec![leader, *first]),
        Fault::LeaderOfThree => (apart(&[*first, *second]), vec![*first, *second]),
        Fault::MajorityRing => {
            let of = |at: usize| all.get(at % all.len()).copied();
            let over_next = (0..all.len()).filter_map(|at| Some((of(at)?, of(at + 2)?)));
            let ways = over_next.flat_map(|(from, to)| [(from, to), (to, from)]);
            (ways.collect(), vec![])
        }
        Fault::Bridge => {
            let drawn = [&[any][..], &of_any].concat();
            let two = |from: usize| drawn.get(from..from + 2).unwrap_or_default();
            (between(two(1), two(3)), vec![])
        }
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.fault)?;
        for (from, to) in &self.ways {
            write!(f, " {}>{}", from.0, to.0)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(nodes: &[usize]) -> Vec<NodeNumber> {
        nodes.iter().copied().map(NodeNumber).collect()
    }

    #[test]
    fn halves_of_five_serve_on_the_side_of_three_wherever_the_leader_is() {
        let mut random = StdRng::seed_from_u64(1);
        for leader in numbers(&[1, 2, 3, 4, 5]) {
            for fault in HALVES {
                let cut = Cut::of(fault, 5, leader, &mut random);
                assert_eq!((cut.alone.len(), cut.serve.len()), (2, 3), "{cut}");
                let with_two = cut.alone.contains(&leader);
                assert_eq!(with_two, fault == Fault::LeaderOfTwo, "{cut}");
                assert!(cut.leaves_majority(&numbers(&[1, 2, 3, 4, 5])), "{cut}");
                let [one, two] = [cut.serve[0], cut.alone[0]];
                assert!(!cut.is_open(one, two) && cut.is_open(one, cut.serve[1]));
                assert!(!cut.leaves_majority(&[one, two]), "{cut}");
                assert!(!cut.leaves_majority(&cut.alone), "{cut}");
            }
        }
    }

    #[test]
    fn cuts_of_three_leave_two_that_serve_or_one_that_reaches_both() {
        let mut random = StdRng::seed_from_u64(2);
        for fault in OF_THREE {
            let cut = Cut::of(fault, 3, NodeNumber(2), &mut random);
            let expected = match fault {
                Fault::IsolatedLeader
                | Fault::IsolatedFollower
                | Fault::DeafLeader
                | Fault::MuteLeader => 2,
                Fault::OneWay | Fault::Ring => 1,
                Fault::Delay => 3,
                Fault::Flapping
                | Fault::Loss
                | Fault::LeaderOfTwo
                | Fault::LeaderOfThree
                | Fault::MajorityRing
                | Fault::Bridge => 0,
            };
            assert_eq!(cut.serve.len(), expected, "{cut}");
        }
    }

    #[test]
    fn circle_and_bridge_leave_every_node_a_majority() {
        let mut random = StdRng::seed_from_u64(3);
        let all = numbers(&[1, 2, 3, 4, 5]);
        for fault in OF_FIVE {
            let cut = Cut::of(fault, 5, NodeNumber(4), &mut random);
            for one in &all {
                let reached = all.iter().filter(|it| cut.is_open(*one, **it)).count();
                assert!(reached >= 3, "{cut}");
            }
            assert!(!cut.ways.is_empty());
        }
    }
}
