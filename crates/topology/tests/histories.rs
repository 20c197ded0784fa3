//! Laws that hold over random histories: routing equals a naive reading of the commands, replicas agree, parts give the same topology.
//! Not here: single rules (`behaviour.rs`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use support::*;
use warren_topology::{ExchangeKind, Topology, TopologyCommand};
use warren_types::Table;

#[derive(Clone, Debug)]
enum Step {
    DeclareQueue(u8),
    DeleteQueue(u8),
    DeclareExchange(u8, bool),
    DeleteExchange(u8),
    Bind(u8, u8, u8, bool),
    Unbind(u8, u8, u8, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let (queues, exchanges, keys) = (0..6_u8, 0..4_u8, 0..3_u8);
    let ends = (exchanges.clone(), keys, queues.clone(), any::<bool>());
    prop_oneof![
        3 => queues.clone().prop_map(Step::DeclareQueue),
        1 => queues.prop_map(Step::DeleteQueue),
        2 => (exchanges.clone(), any::<bool>()).prop_map(|(it, fanout)| Step::DeclareExchange(it, fanout)),
        1 => exchanges.prop_map(Step::DeleteExchange),
        6 => ends.clone().prop_map(|(x, k, q, a)| Step::Bind(x, k, q, a)),
        3 => ends.prop_map(|(x, k, q, a)| Step::Unbind(x, k, q, a)),
    ]
}

fn arguments(with: bool) -> Table {
    if with {
        Table::new().with("a", 1_i32)
    } else {
        Table::new()
    }
}

fn command(step: &Step) -> TopologyCommand {
    match step {
        Step::DeclareQueue(queue) => declare_queue(&format!("q{queue}")),
        Step::DeleteQueue(queue) => delete_queue(&format!("q{queue}")),
        Step::DeclareExchange(exchange, fanout) => declare_exchange(
            &format!("x{exchange}"),
            if *fanout {
                ExchangeKind::Fanout
            } else {
                ExchangeKind::Direct
            },
        ),
        Step::DeleteExchange(exchange) => delete_exchange(&format!("x{exchange}")),
        Step::Bind(x, k, q, a) => bind_with(
            &format!("x{x}"),
            &format!("k{k}"),
            &format!("q{q}"),
            arguments(*a),
        ),
        Step::Unbind(x, k, q, a) => unbind_with(
            &format!("x{x}"),
            &format!("k{k}"),
            &format!("q{q}"),
            arguments(*a),
        ),
    }
}

/// Reads the history as the standard does, with lists and loops.
#[derive(Default)]
struct Oracle {
    queues: BTreeSet<u8>,
    exchanges: BTreeMap<u8, bool>,
    bindings: BTreeSet<(u8, u8, u8, bool)>,
}

impl Oracle {
    fn step(&mut self, step: &Step) {
        match step {
            Step::DeclareQueue(queue) => {
                self.queues.insert(*queue);
            }
            Step::DeleteQueue(queue) => {
                self.queues.remove(queue);
                self.bindings.retain(|it| it.2 != *queue);
            }
            Step::DeclareExchange(exchange, fanout) => {
                self.exchanges.entry(*exchange).or_insert(*fanout);
            }
            Step::DeleteExchange(exchange) => {
                self.exchanges.remove(exchange);
                self.bindings.retain(|it| it.0 != *exchange);
            }
            Step::Bind(x, k, q, a) => {
                if self.exchanges.contains_key(x) && self.queues.contains(q) {
                    self.bindings.insert((*x, *k, *q, *a));
                }
            }
            Step::Unbind(x, k, q, a) => {
                self.bindings.remove(&(*x, *k, *q, *a));
            }
        }
    }

    fn route(&self, exchange: u8, key: u8) -> Option<BTreeSet<String>> {
        let fanout = *self.exchanges.get(&exchange)?;
        let hits = self
            .bindings
            .iter()
            .filter(|it| it.0 == exchange && (fanout || it.1 == key));
        Some(hits.map(|it| format!("q{}", it.2)).collect())
    }
}

fn check_routes(topology: &Topology, oracle: &Oracle) {
    for exchange in 0..4 {
        let name = format!("x{exchange}");
        for key in 0..3 {
            match oracle.route(exchange, key) {
                Some(wanted) => {
                    // Sorted; a queue that came twice would show.
                    let found = routed(topology, &name, &format!("k{key}"));
                    assert_eq!(found, wanted.into_iter().collect::<Vec<_>>());
                }
                None => assert!(
                    topology
                        .exchange(warren_topology::Vhost::ROOT, &name)
                        .is_none()
                ),
            }
        }
    }
    for queue in 0..6 {
        let name = format!("q{queue}");
        let found = routed(topology, "", &name);
        assert_eq!(found.len(), usize::from(oracle.queues.contains(&queue)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_routes_like_the_oracle(steps in proptest::collection::vec(step(), 0..60)) {
        let mut topology = formed();
        let mut oracle = Oracle::default();
        for step in &steps {
            run(&mut topology, command(step));
            oracle.step(step);
            check_routes(&topology, &oracle);
        }
        prop_assert_eq!(topology.to_parts().bindings.len(), oracle.bindings.len());
    }

    #[test]
    fn any_history_gives_equal_replies_and_topologies_on_two_replicas(
        steps in proptest::collection::vec(step(), 0..60),
        cut in 0..60_usize,
    ) {
        let mut one = formed();
        let mut other = formed();
        for (at, step) in steps.iter().enumerate() {
            if at == cut {
                // A replica that begins with a snapshot goes on like the one that applied everything.
                other = Topology::from_parts(other.to_parts()).unwrap();
            }
            let _held_by_a_reader = one.clone();
            let reply = run(&mut one, command(step));
            prop_assert_eq!(&reply, &run(&mut other, command(step)));
        }
        prop_assert_eq!(&one, &other);
        let again = Topology::from_parts(one.to_parts()).unwrap();
        prop_assert_eq!(&one, &again);
    }

    #[test]
    fn parts_that_lost_one_are_refused_or_complete(
        steps in proptest::collection::vec(step(), 10..60),
        lost in any::<prop::sample::Index>(),
    ) {
        let mut topology = formed();
        for step in &steps {
            run(&mut topology, command(step));
        }
        let mut parts = topology.to_parts();
        if parts.queues.is_empty() {
            return Ok(());
        }
        let queue = parts.queues.remove(lost.index(parts.queues.len()));
        let bound = topology.bindings_to(queue.id).next().is_some();
        prop_assert_eq!(Topology::from_parts(parts).is_err(), bound);
    }
}
