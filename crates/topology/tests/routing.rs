//! How each kind of exchange routes (features B1 to B14). Not here: the same over random topologies (`routing_oracle.rs`), declaring
//! queues (`behaviour.rs`).
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm
)]

mod support;

use std::collections::BTreeMap;

use support::*;
use warren_topology::{
    ExchangeKind, Published, Refusal, Topology, TopologyCommand, TopologyReply, Vhost,
};
use warren_types::{Properties, PropertiesBuilder, RoutingKey, Table, Value};

fn refused(reply: TopologyReply) -> Refusal {
    match reply {
        TopologyReply::Refused(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

fn done(topology: &mut Topology, command: TopologyCommand) {
    let reply = run(topology, command);
    assert!(!matches!(reply, TopologyReply::Refused(_)), "{reply:?}");
}

fn with_queues(names: &[&str]) -> Topology {
    let mut topology = formed();
    for name in names {
        done(&mut topology, declare_queue(name));
    }
    topology
}

fn with_arguments(name: &str, kind: ExchangeKind, arguments: Table) -> TopologyCommand {
    let mut command = exchange(name, kind);
    command.arguments = arguments;
    TopologyCommand::DeclareExchange(command)
}

fn with_headers(headers: &Table) -> Properties {
    PropertiesBuilder::new().headers(headers).build().unwrap()
}

#[test]
fn topic_words_match_as_the_standard_says() {
    let mut topology = formed();
    for (at, pattern) in [
        "#", "", "*", "*.*", "a.*", "a.#", "#.b", "a.#.b", "*.#.*", "#.#", "a..b", "*..*",
    ]
    .into_iter()
    .enumerate()
    {
        done(&mut topology, declare_queue(&format!("q{at:02}")));
        done(
            &mut topology,
            bind("amq.topic", pattern, &format!("q{at:02}")),
        );
    }
    let patterns = |key: &str| -> Vec<u8> {
        let queues = routed(&topology, "amq.topic", key).into_iter();
        queues.map(|it| it[1..].parse().unwrap()).collect()
    };
    // An empty key has no words: only `#` and the empty pattern match it.
    assert_eq!(patterns(""), [0, 1, 9]);
    assert_eq!(patterns("a"), [0, 2, 5, 9]);
    assert_eq!(patterns("b"), [0, 2, 6, 9]);
    assert_eq!(patterns("a.b"), [0, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(patterns("a.x.b"), [0, 5, 6, 7, 8, 9]);
    assert_eq!(patterns("a..b"), [0, 5, 6, 7, 8, 9, 10, 11]);
    assert_eq!(patterns("."), [0, 3, 8, 9]);
    assert_eq!(patterns("x.y.z"), [0, 8, 9]);
}

#[test]
fn topic_unbind_removes_one_pattern_of_those_that_mean_the_same() {
    let mut topology = with_queues(&["q"]);
    done(&mut topology, bind("amq.topic", "#.*", "q"));
    done(&mut topology, bind("amq.topic", "*.#", "q"));
    done(&mut topology, unbind("amq.topic", "#.*", "q"));
    assert_eq!(routed(&topology, "amq.topic", "a"), ["q"]);
    done(&mut topology, unbind("amq.topic", "*.#", "q"));
    assert!(routed(&topology, "amq.topic", "a").is_empty());
}

#[test]
fn hostile_topic_patterns_with_the_longest_key_end_soon() {
    let mut topology = with_queues(&["q"]);
    // A thousand patterns of the form that makes backtracking explode; only the last has no b and matches.
    for number in 24..1_024_u32 {
        let words: Vec<&str> = (0..62)
            .map(|bit| {
                if number >> (bit % 10) & 1 == 1 {
                    "a"
                } else {
                    "b"
                }
            })
            .collect();
        let pattern = format!("#.{}", words.join(".#."));
        done(&mut topology, bind("amq.topic", &pattern, "q"));
    }
    let key = vec!["a"; 128].join(".");
    for _ in 0..20 {
        let _ = routed(&topology, "amq.topic", &key);
    }
    assert_eq!(routed(&topology, "amq.topic", &key), ["q"]);
}

#[test]
fn headers_match_by_mode_type_and_value() {
    let mut topology = formed();
    let one = || Table::new().with("a", 1_i32).with("x-b", "v");
    let cases = [
        ("all", one().with("x-match", "all")),
        ("any", one().with("x-match", "any").with("c", true)),
        ("all-with-x", one().with("x-match", "all-with-x")),
        ("any-with-x", one().with("x-match", "any-with-x")),
        ("default", one()),
        ("void", Table::new().with("a", Value::Void)),
        ("empty-all", Table::new()),
        ("empty-any", Table::new().with("x-match", "any")),
    ];
    for (name, arguments) in cases {
        done(&mut topology, declare_queue(name));
        done(
            &mut topology,
            bind_with("amq.headers", "ignored", name, arguments),
        );
    }
    let to = |headers: Table| -> Vec<String> {
        let properties = with_headers(&headers);
        let message = Published::new("amq.headers", "k").with_properties(&properties);
        routed_as(&topology, &message)
    };
    assert_eq!(
        to(Table::new().with("a", 1_i32)),
        ["all", "any", "any-with-x", "default", "empty-all", "void"]
    );
    assert_eq!(
        to(Table::new().with("a", 1_i32).with("x-b", "v")),
        [
            "all",
            "all-with-x",
            "any",
            "any-with-x",
            "default",
            "empty-all",
            "void"
        ]
    );
    assert_eq!(
        to(Table::new().with("x-b", "v")),
        ["any-with-x", "empty-all"]
    );
    assert_eq!(to(Table::new().with("c", true)), ["any", "empty-all"]);
    // Another type is another value.
    assert_eq!(to(Table::new().with("a", 1_i64)), ["empty-all", "void"]);
    assert_eq!(routed(&topology, "amq.headers", "k"), ["empty-all"]);
    assert!(routed(&topology, "amq.match", "k").is_empty());
}

#[test]
fn headers_binding_with_an_unknown_match_is_refused() {
    let mut topology = with_queues(&["q"]);
    for value in [Value::from("some"), Value::I32(1)] {
        let arguments = Table::new().with("x-match", value);
        let refusal = refused(run(
            &mut topology,
            bind_with("amq.headers", "", "q", arguments),
        ));
        assert!(
            matches!(&refusal, Refusal::InvalidArgument { argument, .. } if &**argument == "x-match"),
            "{refusal:?}"
        );
    }
}

#[test]
fn exchange_bindings_route_on_and_cycles_are_cut() {
    let mut topology = with_queues(&["q", "r"]);
    for (name, kind) in [
        ("a", ExchangeKind::Fanout),
        ("b", ExchangeKind::Topic),
        ("c", ExchangeKind::Direct),
    ] {
        done(&mut topology, declare_exchange(name, kind));
    }
    done(&mut topology, bind_exchange("a", "", "b"));
    done(&mut topology, bind_exchange("b", "k.#", "c"));
    done(&mut topology, bind_exchange("c", "k", "a"));
    done(&mut topology, bind("c", "k", "q"));
    done(&mut topology, bind("b", "#", "q"));
    done(&mut topology, bind("a", "", "r"));
    assert_eq!(routed(&topology, "a", "k"), ["q", "r"]);
    assert_eq!(routed(&topology, "c", "k"), ["q", "r"]);
    assert_eq!(routed(&topology, "c", "other"), [""; 0]);
    done(&mut topology, unbind_exchange("a", "", "b"));
    assert_eq!(routed(&topology, "a", "k"), ["r"]);
    done(&mut topology, delete_exchange("c"));
    assert_eq!(routed(&topology, "b", "k"), ["q"]);
    let read = Topology::from_parts(topology.to_parts()).unwrap();
    assert_eq!(routed(&read, "b", "k"), ["q"]);
}

#[test]
fn exchange_binding_needs_both_ends_and_never_the_default_one() {
    let mut topology = with_queues(&[]);
    for command in [
        bind_exchange("none", "", "amq.fanout"),
        bind_exchange("amq.fanout", "", "none"),
    ] {
        let refusal = refused(run(&mut topology, command));
        assert!(matches!(refusal, Refusal::NoSuchExchange { .. }));
    }
    for command in [
        unbind_exchange("none", "", "amq.fanout"),
        unbind_exchange("amq.fanout", "", "none"),
    ] {
        let reply = run(&mut topology, command);
        assert_eq!(reply, TopologyReply::Unbound { existed: false });
    }
    for command in [
        bind_exchange("", "", "amq.fanout"),
        bind_exchange("amq.fanout", "", ""),
        unbind_exchange("", "", "amq.fanout"),
        unbind_exchange("amq.fanout", "", ""),
    ] {
        assert_eq!(
            refused(run(&mut topology, command)),
            Refusal::DefaultExchange
        );
    }
}

#[test]
fn auto_delete_exchanges_go_in_a_chain_and_a_ring() {
    let mut topology = with_queues(&["q"]);
    let names: Vec<String> = (0..2_000).map(|at| format!("x{at}")).collect();
    for name in &names {
        let mut command = exchange(name, ExchangeKind::Fanout);
        command.auto_delete = true;
        done(&mut topology, TopologyCommand::DeclareExchange(command));
    }
    for pair in names.windows(2) {
        done(&mut topology, bind_exchange(&pair[0], "", &pair[1]));
    }
    done(&mut topology, bind("x1999", "", "q"));
    assert_eq!(routed(&topology, "x0", ""), ["q"]);
    let mut ring = topology.clone();
    done(&mut topology, delete_queue("q"));
    for name in &names {
        assert!(topology.exchange(Vhost::ROOT, name).is_none(), "{name}");
    }
    done(&mut ring, bind_exchange("x1999", "", "x0"));
    done(&mut ring, unbind("x1999", "", "q"));
    assert!(ring.exchange(Vhost::ROOT, "x0").is_some());
    done(&mut ring, delete_exchange("x500"));
    assert!(ring.exchange(Vhost::ROOT, "x0").is_none());
    assert!(ring.to_parts().bindings.is_empty());
}

#[test]
fn alternate_exchange_takes_what_no_binding_matches() {
    let mut topology = with_queues(&["q", "rest", "last"]);
    let alternate = |to: &'static str| Table::new().with("alternate-exchange", to);
    done(
        &mut topology,
        with_arguments("one", ExchangeKind::Direct, alternate("two")),
    );
    // The alternate may come later, and itself have one.
    assert!(routed(&topology, "one", "k").is_empty());
    done(
        &mut topology,
        with_arguments("two", ExchangeKind::Topic, alternate("three")),
    );
    done(
        &mut topology,
        with_arguments("three", ExchangeKind::Fanout, alternate("one")),
    );
    assert!(routed(&topology, "one", "k").is_empty());
    done(&mut topology, bind("one", "k", "q"));
    done(&mut topology, bind("two", "r.#", "rest"));
    done(&mut topology, bind("three", "", "last"));
    assert_eq!(routed(&topology, "one", "k"), ["q"]);
    assert_eq!(routed(&topology, "one", "r.x"), ["rest"]);
    assert_eq!(routed(&topology, "one", "other"), ["last"]);
    // One of several keys is enough to be routed.
    let further = [RoutingKey::try_from("k").unwrap()];
    let message = Published::new("one", "other").with_further_keys(&further);
    assert_eq!(routed_as(&topology, &message), ["q"]);
    let wrong = Table::new().with("alternate-exchange", 1_i32);
    let refusal = refused(run(
        &mut topology,
        with_arguments("x", ExchangeKind::Direct, wrong),
    ));
    assert!(matches!(refusal, Refusal::InvalidArgument { .. }));
}

#[test]
fn further_keys_reach_each_queue_once() {
    let mut topology = with_queues(&["a", "b", "c"]);
    for queue in ["a", "b"] {
        done(&mut topology, bind("amq.direct", queue, queue));
        done(&mut topology, bind("amq.direct", "both", queue));
    }
    let keys = ["b", "both", "none"].map(|key| RoutingKey::try_from(key).unwrap());
    let message = |exchange| Published::new(exchange, "a").with_further_keys(&keys);
    assert_eq!(routed_as(&topology, &message("amq.direct")), ["a", "b"]);
    assert_eq!(routed_as(&topology, &message("")), ["a", "b"]);
}

#[test]
fn consistent_hash_spreads_by_weight_and_moves_few_keys() {
    let mut topology = with_queues(&["a", "b", "c"]);
    done(
        &mut topology,
        declare_exchange("hash", ExchangeKind::ConsistentHash),
    );
    done(&mut topology, bind("hash", "1", "a"));
    done(&mut topology, bind("hash", "3", "b"));
    let place = |topology: &Topology| -> Vec<String> {
        let keys = (0..8_000).map(|key| format!("key-{key}"));
        keys.map(|key| routed(topology, "hash", &key).remove(0))
            .collect()
    };
    let before = place(&topology);
    let share = before.iter().filter(|it| *it == "a").count();
    assert!(
        (1_800..2_200).contains(&share),
        "a quarter of 8,000: {share}"
    );
    done(&mut topology, bind("hash", "4", "c"));
    let after = place(&topology);
    let mut moved = 0;
    for (one, other) in before.iter().zip(&after) {
        if one != other {
            moved += 1;
            assert_eq!(other, "c", "a key moved between queues that stayed");
        }
    }
    assert!((3_700..4_300).contains(&moved), "half of 8,000: {moved}");
    done(&mut topology, unbind("hash", "4", "c"));
    assert_eq!(place(&topology), before);
    for key in ["0", "-1", "two", ""] {
        let refusal = refused(run(&mut topology, bind("hash", key, "c")));
        assert!(matches!(refusal, Refusal::InvalidArgument { .. }), "{key}");
    }
}

#[test]
fn consistent_hash_takes_a_header_or_property() {
    let mut topology = with_queues(&["a", "b", "c", "d"]);
    let by = |name: &'static str, value: &'static str| Table::new().with(name, value);
    for (exchange, arguments) in [
        ("header", by("hash-header", "customer")),
        ("property", by("hash-property", "message_id")),
    ] {
        done(
            &mut topology,
            with_arguments(exchange, ExchangeKind::ConsistentHash, arguments),
        );
        for queue in ["a", "b", "c", "d"] {
            done(&mut topology, bind(exchange, "1", queue));
        }
    }
    let mut used = BTreeMap::<String, u32>::new();
    for number in 0..200 {
        let headers = Table::new().with("customer", number);
        let properties = PropertiesBuilder::new()
            .message_id(&number.to_string())
            .headers(&headers)
            .build()
            .unwrap();
        for exchange in ["header", "property"] {
            let to = |key: &str| {
                let message = Published::new(exchange, key).with_properties(&properties);
                routed_as(&topology, &message)
            };
            assert_eq!(to("one"), to("other"), "the routing key does not count");
            *used
                .entry(format!("{exchange} {:?}", to("one")))
                .or_default() += 1;
        }
    }
    assert_eq!(used.len(), 8, "{used:?}");
    for arguments in [
        by("hash-property", "user_id"),
        by("hash-property", "message_id").with("hash-header", "h"),
    ] {
        let refusal = refused(run(
            &mut topology,
            with_arguments("x", ExchangeKind::ConsistentHash, arguments),
        ));
        assert!(matches!(refusal, Refusal::InvalidArgument { .. }));
    }
}

#[test]
fn modulus_hash_is_even_and_the_same_after_a_restart() {
    let mut topology = with_queues(&["a", "b", "c"]);
    done(
        &mut topology,
        declare_exchange("mod", ExchangeKind::ModulusHash),
    );
    for queue in ["c", "a", "b"] {
        done(&mut topology, bind("mod", "ignored", queue));
    }
    let again = Topology::from_parts(topology.to_parts()).unwrap();
    let mut counts = BTreeMap::<String, u32>::new();
    for key in 0..3_000 {
        let key = format!("key-{key}");
        let to = routed(&topology, "mod", &key);
        assert_eq!(to, routed(&again, "mod", &key));
        assert_eq!(to.len(), 1);
        *counts.entry(to[0].clone()).or_default() += 1;
    }
    assert!(
        counts.values().all(|it| (900..1_100).contains(it)),
        "{counts:?}"
    );
}

#[test]
fn delayed_exchange_routes_as_the_type_it_names() {
    let mut topology = with_queues(&["q"]);
    let inner = |kind: &'static str| Table::new().with("x-delayed-type", kind);
    done(
        &mut topology,
        with_arguments("later", ExchangeKind::Delayed, inner("topic")),
    );
    done(&mut topology, bind("later", "a.*", "q"));
    assert_eq!(routed(&topology, "later", "a.b"), ["q"]);
    for arguments in [
        Table::new(),
        inner("x-delayed-message"),
        inner("nonsense"),
        Table::new().with("x-delayed-type", 1_i32),
    ] {
        let refusal = refused(run(
            &mut topology,
            with_arguments("x", ExchangeKind::Delayed, arguments),
        ));
        assert!(
            matches!(&refusal, Refusal::InvalidArgument { argument, .. } if &**argument == "x-delayed-type"),
            "{refusal:?}"
        );
    }
    // Another inner type is another exchange.
    let refusal = refused(run(
        &mut topology,
        with_arguments("later", ExchangeKind::Delayed, inner("direct")),
    ));
    assert_eq!(
        refusal.to_string(),
        "inequivalent arg 'x-delayed-type' for exchange 'later' in vhost '/': received the value 'direct' of type 'longstr' but current is the value 'topic' of type 'longstr'"
    );
}

#[test]
fn predeclared_exchanges_cannot_be_deleted_or_made() {
    let mut topology = formed();
    for name in [
        "amq.direct",
        "amq.fanout",
        "amq.topic",
        "amq.headers",
        "amq.match",
    ] {
        assert!(topology.exchange(Vhost::ROOT, name).is_some());
        let refusal = refused(run(&mut topology, delete_exchange(name)));
        assert!(matches!(refusal, Refusal::NameReserved { .. }));
    }
    let refusal = refused(run(
        &mut topology,
        declare_exchange("amq.topic", ExchangeKind::Direct),
    ));
    assert_eq!(
        refusal.to_string(),
        "inequivalent arg 'type' for exchange 'amq.topic' in vhost '/': received 'direct' but current is 'topic'"
    );
}
