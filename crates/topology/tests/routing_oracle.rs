//! Routing over random topologies and histories, all kinds of exchanges, equals a naive reading with lists and loops.
//! Not here: single rules (`routing.rs`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use support::*;
use warren_topology::{
    Bind, BindTo, ExchangeKind, Published, Topology, TopologyCommand, Unbind, Vhost,
};
use warren_types::{ExchangeName, PropertiesBuilder, QueueName, RoutingKey, Table, Value as Field};

const EXCHANGES: u8 = 5;
const QUEUES: u8 = 4;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Queue(u8),
    Exchange(u8),
}

/// Header arguments of a binding: the mode, and values for `a`, `b`, `x-c` (2 = any value).
type Match = (u8, [Option<u8>; 3]);

#[derive(Clone, Debug)]
enum Step {
    DeclareQueue(u8),
    DeleteQueue(u8),
    DeclareExchange {
        name: u8,
        kind: u8,
        alternate: Option<u8>,
        auto_delete: bool,
    },
    DeleteExchange(u8),
    Bind(u8, String, End, Match),
    Unbind(u8, String, End, Match),
}

#[derive(Clone, Debug)]
struct Sent {
    exchange: u8,
    keys: Vec<String>,
    headers: [Option<u8>; 3],
}

const KINDS: [ExchangeKind; 4] = [
    ExchangeKind::Direct,
    ExchangeKind::Fanout,
    ExchangeKind::Topic,
    ExchangeKind::Headers,
];
const MODES: [&str; 4] = ["all", "any", "all-with-x", "any-with-x"];
const NAMES: [&str; 3] = ["a", "b", "x-c"];

fn words(of: &'static [&'static str]) -> impl Strategy<Value = String> {
    proptest::collection::vec(proptest::sample::select(of), 0..5).prop_map(|it| it.join("."))
}

fn step() -> impl Strategy<Value = Step> {
    let end = || {
        prop_oneof![
            3 => (0..QUEUES).prop_map(End::Queue),
            2 => (0..EXCHANGES).prop_map(End::Exchange),
        ]
    };
    let wanted = || (0..4_u8, [option(), option(), option()]);
    let binding = move || {
        (
            0..EXCHANGES,
            words(&["a", "b", "*", "#", ""]),
            end(),
            wanted(),
        )
    };
    prop_oneof![
        4 => (0..QUEUES).prop_map(Step::DeclareQueue),
        1 => (0..QUEUES).prop_map(Step::DeleteQueue),
        4 => (0..EXCHANGES, 0..4_u8, proptest::option::of(0..EXCHANGES), proptest::bool::weighted(0.2))
            .prop_map(|(name, kind, alternate, auto_delete)| Step::DeclareExchange { name, kind, alternate, auto_delete }),
        1 => (0..EXCHANGES).prop_map(Step::DeleteExchange),
        12 => binding().prop_map(|(x, k, e, m)| Step::Bind(x, k, e, m)),
        2 => binding().prop_map(|(x, k, e, m)| Step::Unbind(x, k, e, m)),
    ]
}

fn option() -> impl Strategy<Value = Option<u8>> {
    proptest::option::of(0..3_u8)
}

fn sent() -> impl Strategy<Value = Sent> {
    let keys = proptest::collection::vec(words(&["a", "b", "c", ""]), 1..3);
    let header = || proptest::option::of(0..2_u8);
    (0..EXCHANGES, keys, [header(), header(), header()]).prop_map(|(exchange, keys, headers)| {
        Sent {
            exchange,
            keys,
            headers,
        }
    })
}

fn arguments((mode, wanted): &Match) -> Table {
    let mut table = Table::new().with("x-match", MODES[usize::from(*mode)]);
    for (name, value) in NAMES.iter().zip(wanted) {
        match value {
            Some(2) => table.insert(name, Field::Void).unwrap(),
            Some(value) => table.insert(name, i32::from(*value)).unwrap(),
            None => {}
        }
    }
    table
}

fn end(end: &End) -> BindTo {
    match end {
        End::Queue(it) => BindTo::Queue(QueueName::try_from(format!("q{it}").as_str()).unwrap()),
        End::Exchange(it) => {
            BindTo::Exchange(ExchangeName::try_from(format!("x{it}").as_str()).unwrap())
        }
    }
}

fn command(step: &Step) -> TopologyCommand {
    let source = |x: u8| ExchangeName::try_from(format!("x{x}").as_str()).unwrap();
    match step {
        Step::DeclareQueue(queue) => declare_queue(&format!("q{queue}")),
        Step::DeleteQueue(queue) => delete_queue(&format!("q{queue}")),
        Step::DeleteExchange(exchange) => delete_exchange(&format!("x{exchange}")),
        Step::DeclareExchange {
            name,
            kind,
            alternate,
            auto_delete,
        } => {
            let mut command = exchange(&format!("x{name}"), KINDS[usize::from(*kind)]);
            command.auto_delete = *auto_delete;
            if let Some(alternate) = alternate {
                let alternate = format!("x{alternate}");
                command.arguments = Table::new().with("alternate-exchange", alternate);
            }
            TopologyCommand::DeclareExchange(command)
        }
        Step::Bind(x, key, to, wanted) => TopologyCommand::Bind(Bind {
            vhost: Vhost::ROOT,
            source: source(*x),
            to: end(to),
            routing_key: RoutingKey::try_from(key.as_str()).unwrap(),
            arguments: arguments(wanted),
            requester: None,
        }),
        Step::Unbind(x, key, to, wanted) => TopologyCommand::Unbind(Unbind {
            vhost: Vhost::ROOT,
            source: source(*x),
            to: end(to),
            routing_key: RoutingKey::try_from(key.as_str()).unwrap(),
            arguments: arguments(wanted),
            requester: None,
        }),
    }
}

#[derive(Clone, Copy)]
struct Declared {
    kind: u8,
    alternate: Option<u8>,
    auto_delete: bool,
}

/// Reads the history as the standard does.
#[derive(Default)]
struct Oracle {
    queues: BTreeSet<u8>,
    exchanges: BTreeMap<u8, Declared>,
    bindings: BTreeSet<(u8, String, End, Match)>,
}

impl Oracle {
    fn has(&self, end: &End) -> bool {
        match end {
            End::Queue(it) => self.queues.contains(it),
            End::Exchange(it) => self.exchanges.contains_key(it),
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::DeclareQueue(queue) => {
                self.queues.insert(*queue);
            }
            Step::DeleteQueue(queue) => {
                self.queues.remove(queue);
                self.unbind_where(|it| it.2 == End::Queue(*queue));
            }
            Step::DeclareExchange {
                name,
                kind,
                alternate,
                auto_delete,
            } => {
                self.exchanges.entry(*name).or_insert(Declared {
                    kind: *kind,
                    alternate: *alternate,
                    auto_delete: *auto_delete,
                });
            }
            Step::DeleteExchange(exchange) => self.delete(*exchange),
            Step::Bind(x, k, e, m) => {
                if self.exchanges.contains_key(x) && self.has(e) {
                    self.bindings.insert((*x, k.clone(), e.clone(), *m));
                }
            }
            Step::Unbind(x, k, e, m) => {
                let gone = (*x, k.clone(), e.clone(), *m);
                self.unbind_where(|it| *it == gone);
            }
        }
    }

    fn delete(&mut self, exchange: u8) {
        if self.exchanges.remove(&exchange).is_some() {
            self.bindings.retain(|it| it.0 != exchange);
            self.unbind_where(|it| it.2 == End::Exchange(exchange));
        }
    }

    fn unbind_where(&mut self, gone: impl Fn(&(u8, String, End, Match)) -> bool) {
        let lost: BTreeSet<u8> = self
            .bindings
            .iter()
            .filter(|it| gone(it))
            .map(|it| it.0)
            .collect();
        self.bindings.retain(|it| !gone(it));
        for source in lost {
            let auto_delete = self.exchanges.get(&source).is_some_and(|it| it.auto_delete);
            if auto_delete && !self.bindings.iter().any(|it| it.0 == source) {
                self.delete(source);
            }
        }
    }

    fn route(&self, sent: &Sent) -> BTreeSet<String> {
        let mut queues = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut todo = vec![sent.exchange];
        while let Some(exchange) = todo.pop() {
            let Some(declared) = self.exchanges.get(&exchange) else {
                continue;
            };
            if !seen.insert(exchange) {
                continue;
            }
            let hits: Vec<&End> = self
                .bindings
                .iter()
                .filter(|it| it.0 == exchange && matches(declared.kind, it, sent))
                .map(|it| &it.2)
                .collect();
            if hits.is_empty() {
                todo.extend(declared.alternate);
            }
            for hit in hits {
                match hit {
                    End::Queue(queue) => {
                        queues.insert(format!("q{queue}"));
                    }
                    End::Exchange(next) => todo.push(*next),
                }
            }
        }
        queues
    }
}

fn matches(kind: u8, binding: &(u8, String, End, Match), sent: &Sent) -> bool {
    let (_, pattern, _, wanted) = binding;
    match KINDS[usize::from(kind)] {
        ExchangeKind::Direct => sent.keys.contains(pattern),
        ExchangeKind::Topic => sent
            .keys
            .iter()
            .any(|key| topic(&split(pattern), &split(key))),
        ExchangeKind::Headers => headers(wanted, &sent.headers),
        ExchangeKind::Fanout
        | ExchangeKind::ConsistentHash
        | ExchangeKind::ModulusHash
        | ExchangeKind::Delayed => true,
    }
}

fn split(key: &str) -> Vec<&str> {
    if key.is_empty() {
        Vec::new()
    } else {
        key.split('.').collect()
    }
}

/// By trying everything.
fn topic(pattern: &[&str], key: &[&str]) -> bool {
    match (pattern.split_first(), key.split_first()) {
        (None, None) => true,
        (None, Some(_)) => false,
        (Some((&"#", rest)), _) => (0..=key.len()).any(|skip| topic(rest, &key[skip..])),
        (Some(_), None) => false,
        (Some((&"*", rest)), Some((_, words))) => topic(rest, words),
        (Some((word, rest)), Some((first, words))) => word == first && topic(rest, words),
    }
}

fn headers((mode, wanted): &Match, found: &[Option<u8>; 3]) -> bool {
    let with_x = *mode >= 2;
    let fits: Vec<bool> = (0..3)
        .filter(|at| with_x || *at != 2)
        .filter_map(|at| {
            let wanted = wanted[at]?;
            Some(found[at].is_some_and(|found| wanted == 2 || wanted == found))
        })
        .collect();
    if mode % 2 == 0 {
        fits.iter().all(|it| *it)
    } else {
        fits.iter().any(|it| *it)
    }
}

fn check(topology: &Topology, oracle: &Oracle, sent: &Sent) {
    let name = format!("x{}", sent.exchange);
    if !oracle.exchanges.contains_key(&sent.exchange) {
        assert!(topology.exchange(Vhost::ROOT, &name).is_none());
        return;
    }
    let mut table = Table::new();
    for (name, value) in NAMES.iter().zip(sent.headers) {
        if let Some(value) = value {
            table.insert(name, i32::from(value)).unwrap();
        }
    }
    let properties = PropertiesBuilder::new().headers(&table).build().unwrap();
    let further: Vec<RoutingKey> = sent.keys[1..]
        .iter()
        .map(|key| RoutingKey::try_from(key.as_str()).unwrap())
        .collect();
    let message = Published::new(&name, &sent.keys[0])
        .with_further_keys(&further)
        .with_properties(&properties);
    // Sorted; a queue that came twice would show.
    let found = routed_as(topology, &message);
    let wanted: Vec<String> = oracle.route(sent).into_iter().collect();
    assert_eq!(found, wanted, "{sent:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_topology_routes_like_the_oracle(
        steps in proptest::collection::vec(step(), 0..80),
        messages in proptest::collection::vec(sent(), 1..12),
        restart in 0..80_usize,
    ) {
        let mut topology = formed();
        let mut oracle = Oracle::default();
        for (at, step) in steps.iter().enumerate() {
            if at == restart {
                topology = Topology::from_parts(topology.to_parts()).unwrap();
            }
            let _held_by_a_reader = topology.clone();
            run(&mut topology, command(step));
            oracle.step(step);
            check(&topology, &oracle, &messages[at % messages.len()]);
        }
        for message in &messages {
            check(&topology, &oracle, message);
        }
        prop_assert_eq!(topology.to_parts().bindings.len(), oracle.bindings.len());
    }

    #[test]
    fn any_pattern_and_key_match_as_by_trying_everything(
        pattern in words(&["a", "b", "*", "#", "#", ""]),
        key in proptest::collection::vec(proptest::sample::select(&["a", "b", ""][..]), 0..9),
    ) {
        let key = key.join(".");
        let mut topology = formed();
        run(&mut topology, declare_queue("q"));
        run(&mut topology, bind("amq.topic", &pattern, "q"));
        let found = !routed(&topology, "amq.topic", &key).is_empty();
        prop_assert_eq!(found, topic(&split(&pattern), &split(&key)));
    }
}
