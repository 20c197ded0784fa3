//! Faults of the network between three nodes: which packets they take, who can serve meanwhile, and plans of them drawn from a seed.
//! Not here: making them (`warren_cluster::network`), what clients are to see (`network.rs`).

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use warren_cluster::network::{Network, Way};
use warren_testkit::process::NodeNumber;

pub(crate) const NODES: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The node that leads the topology, and some shards, from both others.
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
    /// One node from both others, several times in a second or so.
    Flapping,
    /// Three of ten packets everywhere.
    Loss,
    /// 20 to 50 ms later everywhere.
    Delay,
}

const ALL: [Fault; 9] = [
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

#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    pub(crate) fault: Fault,
    pub(crate) held_for: Duration,
}

/// What is to happen, one after the other.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
}

impl Plan {
    /// Long enough only where a node that is cut off has to notice it.
    pub(crate) fn each_once() -> Self {
        let held_for = |fault| match fault {
            Fault::IsolatedLeader => Duration::from_secs(14),
            Fault::IsolatedFollower => Duration::from_secs(9),
            Fault::OneWay
            | Fault::DeafLeader
            | Fault::MuteLeader
            | Fault::Ring
            | Fault::Flapping
            | Fault::Loss
            | Fault::Delay => Duration::from_millis(1_500),
        };
        let steps = ALL.map(|fault| Step {
            fault,
            held_for: held_for(fault),
        });
        Self {
            steps: steps.to_vec(),
        }
    }

    pub(crate) fn drawn(seed: u64, steps: usize) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut draw = || Step {
            fault: *ALL.choose(&mut random).expect("there are some"),
            held_for: Duration::from_millis(0),
        };
        let mut steps: Vec<Step> = (0..steps).map(|_| draw()).collect();
        for step in &mut steps {
            step.held_for = Duration::from_millis(random.random_range(300..12_000));
        }
        Self { steps }
    }
}

/// One fault of nodes that are known.
#[derive(Debug)]
pub(crate) struct Cut {
    fault: Fault,
    /// What is dropped.
    pub(crate) ways: Vec<Way>,
    pub(crate) flaps: bool,
    /// Those that reach all of a majority, both ways: they have to confirm.
    pub(crate) serve: Vec<NodeNumber>,
    /// Those that reach nobody.
    pub(crate) alone: Vec<NodeNumber>,
}

impl Cut {
    /// `leader` leads the topology.
    pub(crate) fn of(fault: Fault, leader: NodeNumber, random: &mut StdRng) -> Self {
        let mut order: Vec<NodeNumber> = (1..=NODES).map(NodeNumber).collect();
        order.retain(|it| *it != leader);
        if random.random() {
            order.reverse();
        }
        let [first, second] = [order[0], order[1]];
        let any = [leader, first, second];
        let any = *any.choose(random).expect("there are three");
        let others = |of: NodeNumber| (1..=NODES).map(NodeNumber).filter(move |it| *it != of);
        let from = |of| others(of).map(move |it| (of, it)).collect::<Vec<Way>>();
        let to = |of| others(of).map(move |it| (it, of)).collect::<Vec<Way>>();
        let both = |of| [from(of), to(of)].concat();
        let (ways, alone): (Vec<Way>, Option<NodeNumber>) = match fault {
            Fault::IsolatedLeader => (both(leader), Some(leader)),
            Fault::IsolatedFollower => (both(first), Some(first)),
            Fault::OneWay => (
                vec![others(any).map(|it| (any, it)).next().expect("two")],
                None,
            ),
            Fault::DeafLeader => (to(leader), Some(leader)),
            Fault::MuteLeader => (from(leader), Some(leader)),
            Fault::Ring => {
                let ends: Vec<NodeNumber> = others(any).collect();
                (vec![(ends[0], ends[1]), (ends[1], ends[0])], None)
            }
            Fault::Flapping => (both(any), None),
            Fault::Loss | Fault::Delay => (Vec::new(), None),
        };
        let reaches_all = |node: &NodeNumber| {
            let is_cut = |way: &Way| way.0 == *node || way.1 == *node;
            let missing = others(*node)
                .filter(|it| ways.contains(&(*node, *it)) || ways.contains(&(*it, *node)));
            Some(*node) != alone && (!ways.iter().any(is_cut) || missing.eq(alone))
        };
        let serve = match fault {
            Fault::Flapping | Fault::Loss => Vec::new(),
            Fault::IsolatedLeader
            | Fault::IsolatedFollower
            | Fault::OneWay
            | Fault::DeafLeader
            | Fault::MuteLeader
            | Fault::Ring
            | Fault::Delay => (1..=NODES).map(NodeNumber).filter(reaches_all).collect(),
        };
        Self {
            fault,
            flaps: fault == Fault::Flapping,
            serve,
            alone: alone.into_iter().collect(),
            ways,
        }
    }

    pub(crate) fn make(&self, network: &mut Network) -> Result<()> {
        match self.fault {
            Fault::Loss => network.lose(30),
            Fault::Delay => network.delay(Duration::from_millis(20), Duration::from_millis(50)),
            Fault::IsolatedLeader
            | Fault::IsolatedFollower
            | Fault::OneWay
            | Fault::DeafLeader
            | Fault::MuteLeader
            | Fault::Ring
            | Fault::Flapping => network.cut(&self.ways),
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
