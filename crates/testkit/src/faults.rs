//! Faults drawn from a seed and done to a cluster, one after the other, so that never more than one node of three is
//! away (but for `KillAll`). Not here: load, and judging what clients saw.

use std::time::Duration;

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::process::{Cluster, NodeNumber};

/// What is done, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL, then a start on the same data after a while.
    Kill {
        /// The victim.
        node: NodeNumber,
        /// How long it stays away.
        down_for: Duration,
    },
    /// SIGSTOP, then SIGCONT: it holds its connections and wakes up with old beliefs.
    Pause {
        /// The victim.
        node: NodeNumber,
        /// How long it is frozen.
        frozen_for: Duration,
    },
    /// SIGTERM, the end in good order, then a start.
    Terminate {
        /// The victim.
        node: NodeNumber,
    },
    /// SIGKILL of all nodes at once, then a start of all.
    KillAll,
}

/// One fault and the calm before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Time without faults before this one, so that the cluster finds back under load.
    pub calm: Duration,
    /// What happens then.
    pub fault: Fault,
}

/// How often which fault is drawn, and how long things take.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Share of each fault; only their ratios count.
    pub kill: u32,
    /// See `kill`.
    pub pause: u32,
    /// See `kill`.
    pub terminate: u32,
    /// See `kill`.
    pub kill_all: u32,
    /// Longest calm.
    pub calm_max: Duration,
    /// Longest time a killed node stays away, and longest freeze.
    pub away_max: Duration,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            kill: 6,
            pause: 3,
            terminate: 1,
            kill_all: 0,
            calm_max: Duration::from_secs(2),
            away_max: Duration::from_secs(3),
        }
    }
}

/// Draws `steps` faults for a cluster of `nodes`; the same seed gives the same plan.
pub fn plan(seed: u64, nodes: usize, steps: usize, shape: Shape) -> Vec<Step> {
    let mut random = StdRng::seed_from_u64(seed);
    (0..steps)
        .map(|_| {
            let calm = up_to(&mut random, shape.calm_max);
            let node = NodeNumber(random.random_range(1..=nodes));
            let away = up_to(&mut random, shape.away_max);
            let fault = draw(&mut random, shape, node, away);
            Step { calm, fault }
        })
        .collect()
}

/// Does what `plan` says, and returns when every node is ready again. `before` hears of each step before it is done.
///
/// # Errors
/// When a node cannot be started again or is not ready in time: that is a finding, its log is in the error.
pub fn run(cluster: &mut Cluster, plan: &[Step], mut before: impl FnMut(&Step)) -> Result<()> {
    for step in plan {
        std::thread::sleep(step.calm);
        before(step);
        match step.fault {
            Fault::Kill { node, down_for } => {
                cluster.kill(node)?;
                std::thread::sleep(down_for);
                cluster.restart(node)?;
            }
            Fault::Pause { node, frozen_for } => {
                cluster.pause(node)?;
                std::thread::sleep(frozen_for);
                cluster.resume(node)?;
                cluster.wait_ready(node)?;
            }
            Fault::Terminate { node } => {
                cluster.terminate(node, Duration::from_secs(60))?;
                cluster.restart(node)?;
            }
            Fault::KillAll => {
                kill_all(cluster)?;
                start_all(cluster)?;
            }
        }
    }
    cluster.wait_all_ready()
}

/// SIGKILL of every node, as fast as signals go.
///
/// # Errors
/// When a node did not run.
pub fn kill_all(cluster: &mut Cluster) -> Result<()> {
    for node in cluster.numbers() {
        cluster.kill(node)?;
    }
    Ok(())
}

/// Starts every node, then waits for all: none is ready alone.
///
/// # Errors
/// As for `Cluster::start`.
pub fn start_all(cluster: &mut Cluster) -> Result<()> {
    for node in cluster.numbers() {
        cluster.spawn(node)?;
    }
    cluster.wait_all_ready()
}

fn up_to(random: &mut StdRng, most: Duration) -> Duration {
    most.mul_f64(random.random_range(0.0..=1.0))
}

fn draw(random: &mut StdRng, shape: Shape, node: NodeNumber, away: Duration) -> Fault {
    let kinds = [
        (
            shape.kill,
            Fault::Kill {
                node,
                down_for: away,
            },
        ),
        (
            shape.pause,
            Fault::Pause {
                node,
                frozen_for: away,
            },
        ),
        (shape.terminate, Fault::Terminate { node }),
        (shape.kill_all, Fault::KillAll),
    ];
    let total: u32 = kinds.iter().map(|(share, _)| share).sum();
    let mut drawn = random.random_range(0..total.max(1));
    for (share, fault) in kinds {
        if drawn < share {
            return fault;
        }
        drawn -= share;
    }
    // Every share is 0: nothing was asked for, and a termination is the mildest fault.
    Fault::Terminate { node }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plan_of_one_seed_is_always_the_same() {
        let shape = Shape::default();
        assert_eq!(plan(7, 3, 50, shape), plan(7, 3, 50, shape));
        assert_ne!(plan(7, 3, 50, shape), plan(8, 3, 50, shape));
    }

    #[test]
    fn plan_draws_only_what_has_a_share_and_every_node() {
        let shape = Shape {
            terminate: 0,
            ..Shape::default()
        };
        let steps = plan(1, 3, 300, shape);
        let mut victims = [0; 3];
        for step in &steps {
            assert!(step.calm <= shape.calm_max);
            match step.fault {
                Fault::Kill {
                    node,
                    down_for: away,
                }
                | Fault::Pause {
                    node,
                    frozen_for: away,
                } => {
                    assert!(away <= shape.away_max);
                    victims[node.0 - 1] += 1;
                }
                Fault::Terminate { .. } | Fault::KillAll => panic!("no share, yet drawn"),
            }
        }
        assert!(victims.iter().all(|times| *times > 50), "{victims:?}");
    }
}
