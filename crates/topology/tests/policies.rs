//! Policies and operator policies (features B61 to B65), and what is kept of a queue's life (B24, B25, B28).
//! Not here: patterns as such (unit tests of `policy`).
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm
)]

mod support;

use support::*;
use warren_topology::{
    ApplyTo, Declared, DeletePolicy, ExchangeKind, NoteConsumer, PolicyKind, Refusal, SetPolicy,
    Topology, TopologyCommand, TopologyReply, Vhost,
};
use warren_types::{Overflow, QueueId, QueueSettings, Table, TopologyIndex};

fn policy(name: &str, pattern: &str, definition: Table) -> SetPolicy {
    SetPolicy {
        vhost: Vhost::ROOT,
        kind: PolicyKind::User,
        name: name.into(),
        pattern: pattern.into(),
        apply_to: ApplyTo::All,
        priority: 0,
        definition,
    }
}

fn set(topology: &mut Topology, policy: SetPolicy) -> TopologyReply {
    run(topology, TopologyCommand::SetPolicy(policy))
}

fn delete(topology: &mut Topology, kind: PolicyKind, name: &str) -> TopologyReply {
    let command = DeletePolicy {
        vhost: Vhost::ROOT,
        kind,
        name: name.into(),
    };
    run(topology, TopologyCommand::DeletePolicy(command))
}

fn settings(topology: &Topology, queue: &str) -> QueueSettings {
    topology.queue_settings(topology.queue(Vhost::ROOT, queue).unwrap())
}

fn max_length(limit: i64) -> Table {
    Table::new().with("max-length", limit)
}

#[test]
fn policy_takes_hold_at_once_of_old_and_new_queues_and_lets_go() {
    let mut topology = formed();
    run(&mut topology, declare_queue("orders"));
    run(&mut topology, declare_queue("other"));
    let reply = set(&mut topology, policy("limit", "^ord", max_length(5)));
    assert_eq!(reply, TopologyReply::PolicySet(Declared::Created));
    run(&mut topology, declare_queue("orders2"));
    assert_eq!(settings(&topology, "orders").max_length, Some(5));
    assert_eq!(settings(&topology, "orders2").max_length, Some(5));
    assert_eq!(settings(&topology, "other").max_length, None);
    let kept = topology
        .policy(Vhost::ROOT, PolicyKind::User, "limit")
        .unwrap();
    assert_eq!(topology.applies_to(kept), 2);
    let reply = set(&mut topology, policy("limit", "^ord", max_length(7)));
    assert_eq!(reply, TopologyReply::PolicySet(Declared::Existed));
    assert_eq!(settings(&topology, "orders").max_length, Some(7));
    let read = Topology::from_parts(topology.to_parts()).unwrap();
    assert_eq!(read, topology);
    assert_eq!(settings(&read, "orders").max_length, Some(7));
    for existed in [true, false] {
        let reply = delete(&mut topology, PolicyKind::User, "limit");
        assert_eq!(reply, TopologyReply::PolicyDeleted { existed });
    }
    assert_eq!(settings(&topology, "orders"), QueueSettings::default());
}

#[test]
fn highest_priority_wins_alone_and_apply_to_is_heeded() {
    let mut topology = formed();
    run(&mut topology, declare_queue("q"));
    let mut low = policy("low", ".*", max_length(1));
    low.definition = low.definition.with("message-ttl", 9_i64);
    set(&mut topology, low);
    let mut high = policy("high", ".*", max_length(2));
    high.priority = 3;
    set(&mut topology, high);
    let mut higher = policy("quorum", ".*", max_length(3));
    (higher.priority, higher.apply_to) = (9, ApplyTo::QuorumQueues);
    set(&mut topology, higher);
    let mut higher = policy("exchanges", ".*", max_length(4));
    (higher.priority, higher.apply_to) = (9, ApplyTo::Exchanges);
    set(&mut topology, higher);
    let it = settings(&topology, "q");
    assert_eq!((it.max_length, it.message_ttl_ms), (Some(2), None));
    let queue = topology.queue(Vhost::ROOT, "q").unwrap().id;
    assert_eq!(topology.queue_policies(queue), (Some("high"), None));
}

#[test]
fn arguments_policies_and_operator_policies_merge_key_by_key() {
    let mut topology = formed();
    let mut command = queue("q");
    command.arguments = Table::new()
        .with("x-max-length", 10_i32)
        .with("x-message-ttl", 5_i32)
        .with("x-overflow", "reject-publish");
    run(&mut topology, TopologyCommand::DeclareQueue(command));
    let user = max_length(8)
        .with("message-ttl", 50_i64)
        .with("overflow", "drop-head")
        .with("expires", 1_000_i64)
        .with("delivery-limit", -1_i64)
        .with("ha-mode", "all");
    set(&mut topology, policy("user", "q", user));
    let mut operator = policy("operator", "q", max_length(9));
    operator.definition = operator
        .definition
        .with("expires", 500_i64)
        .with("delivery-limit", 4_i64);
    operator.kind = PolicyKind::Operator;
    set(&mut topology, operator);
    let it = settings(&topology, "q");
    assert_eq!(it.max_length, Some(8));
    assert_eq!(it.message_ttl_ms, Some(5));
    assert_eq!(it.overflow, Overflow::RejectPublish);
    assert_eq!(it.expires_ms, Some(500));
    assert_eq!(it.delivery_limit, Some(4));
    let queue = topology.queue(Vhost::ROOT, "q").unwrap();
    let found: Vec<String> = topology
        .effective_queue(queue)
        .into_iter()
        .map(|it| format!("{} {:?} {:?}", it.key, it.source, it.policy))
        .collect();
    assert_eq!(
        found,
        [
            "delivery-limit OperatorPolicy Some(\"operator\")",
            "expires OperatorPolicy Some(\"operator\")",
            "max-length Policy Some(\"user\")",
            "message-ttl Argument None",
            "overflow Argument None",
        ]
    );
}

#[test]
fn alternate_exchange_by_policy_routes_at_once_and_the_argument_wins() {
    let mut topology = formed();
    for name in ["main", "by-policy", "by-argument"] {
        run(&mut topology, declare_exchange(name, ExchangeKind::Fanout));
    }
    let mut own = exchange("own", ExchangeKind::Direct);
    own.arguments = Table::new().with("alternate-exchange", "by-argument");
    run(&mut topology, TopologyCommand::DeclareExchange(own));
    for queue in ["p", "a"] {
        run(&mut topology, declare_queue(queue));
    }
    run(&mut topology, bind("by-policy", "", "p"));
    run(&mut topology, bind("by-argument", "", "a"));
    assert!(routed(&topology, "main", "k").is_empty());
    let definition = Table::new().with("alternate-exchange", "by-policy");
    set(
        &mut topology,
        policy("ae", "^(main|own|later)$", definition),
    );
    assert_eq!(routed(&topology, "main", "k"), ["p"]);
    assert_eq!(routed(&topology, "own", "k"), ["a"]);
    run(
        &mut topology,
        declare_exchange("later", ExchangeKind::Topic),
    );
    assert_eq!(routed(&topology, "later", "k"), ["p"]);
    let read = Topology::from_parts(topology.to_parts()).unwrap();
    assert_eq!(routed(&read, "main", "k"), ["p"]);
    delete(&mut topology, PolicyKind::User, "ae");
    assert!(routed(&topology, "main", "k").is_empty());
    assert_eq!(routed(&topology, "own", "k"), ["a"]);
}

#[test]
fn policy_that_cannot_hold_is_refused_with_its_reason() {
    let mut topology = formed();
    let cases = [
        (policy("", ".*", max_length(1)), "name"),
        (policy("p", "(?=x)", max_length(1)), "pattern"),
        (policy("p", ".*", Table::new()), "definition"),
        (
            policy("p", ".*", Table::new().with("nonsense", 1_i32)),
            "nonsense",
        ),
        (
            policy("p", ".*", Table::new().with("max-length", "5")),
            "max-length",
        ),
        (
            policy("p", ".*", Table::new().with("expires", 0_i32)),
            "expires",
        ),
    ];
    for (command, wanted) in cases {
        match command.check() {
            Err(Refusal::InvalidArgument { argument, .. }) => assert_eq!(&*argument, wanted),
            other => panic!("{wanted}: {other:?}"),
        }
    }
    for too_long in [
        policy("", ".*", max_length(1)),
        policy("p", &"a".repeat(256), max_length(1)),
    ] {
        let reply = set(&mut topology, too_long);
        assert!(matches!(reply, TopologyReply::Refused(_)), "{reply:?}");
    }
    assert!(topology.to_parts().policies.is_empty());
}

#[test]
fn policy_that_this_version_cannot_use_is_kept_and_does_nothing() {
    let mut topology = formed();
    run(&mut topology, declare_queue("q"));
    let strange = max_length(1).with("of-a-later-version", 1_i32);
    set(&mut topology, policy("strange", "(?<later>", strange));
    let later = Table::new()
        .with("of-a-later-version", 1_i32)
        .with("max-length", "x");
    set(&mut topology, policy("later", "q", later));
    assert_eq!(settings(&topology, "q"), QueueSettings::default());
    let read = Topology::from_parts(topology.to_parts()).unwrap();
    assert_eq!(read, topology);
    assert_eq!(settings(&read, "q"), QueueSettings::default());
}

#[test]
fn declare_again_renews_a_queue_that_expires_and_only_that() {
    let mut topology = formed();
    let mut command = queue("q");
    command.arguments = Table::new().with("x-expires", 100_i32);
    let declare = TopologyCommand::DeclareQueue(command);
    run(&mut topology, declare.clone());
    run(&mut topology, declare_queue("stays"));
    let renewed = |topology: &Topology, name: &str| -> TopologyIndex {
        topology.queue(Vhost::ROOT, name).unwrap().renewed_at
    };
    let (before, stays) = (renewed(&topology, "q"), renewed(&topology, "stays"));
    run(&mut topology, declare);
    run(&mut topology, declare_queue("stays"));
    assert!(renewed(&topology, "q") > before);
    assert_eq!(renewed(&topology, "stays"), stays);
    let id = topology.queue(Vhost::ROOT, "q").unwrap().id;
    assert_eq!(
        topology.queue_by_id(id).unwrap().renewed_at,
        renewed(&topology, "q")
    );
}

#[test]
fn noted_consumer_is_kept_and_a_missing_queue_is_a_success() {
    let mut topology = formed();
    run(&mut topology, declare_queue("q"));
    let queue = topology.queue(Vhost::ROOT, "q").unwrap().id;
    let note = |queue| TopologyCommand::NoteConsumer(NoteConsumer { queue });
    let reply = run(&mut topology, note(queue));
    assert_eq!(reply, TopologyReply::ConsumerNoted { existed: true });
    assert!(topology.queue(Vhost::ROOT, "q").unwrap().had_consumer);
    let read = Topology::from_parts(topology.to_parts()).unwrap();
    assert!(read.queue_by_id(queue).unwrap().had_consumer);
    let reply = run(&mut topology, note(QueueId(99)));
    assert_eq!(reply, TopologyReply::ConsumerNoted { existed: false });
}

#[test]
fn exclusive_queues_are_listed_while_they_are_there() {
    let mut topology = formed();
    run(&mut topology, declare_queue("q"));
    let mut mine = queue("mine");
    (mine.exclusive, mine.requester) = (true, Some(connection(1)));
    run(&mut topology, TopologyCommand::DeclareQueue(mine));
    let names = |topology: &Topology| -> Vec<String> {
        let queues = topology.exclusive_queues();
        queues.map(|it| it.name.to_string()).collect()
    };
    assert_eq!(names(&topology), ["mine"]);
    let read = Topology::from_parts(topology.to_parts()).unwrap();
    assert_eq!(names(&read), ["mine"]);
    let TopologyCommand::DeleteQueue(mut delete) = delete_queue("mine") else {
        unreachable!();
    };
    delete.requester = Some(connection(1));
    run(&mut topology, TopologyCommand::DeleteQueue(delete));
    assert!(names(&topology).is_empty());
}

#[test]
fn shard_changes_with_its_queues_and_what_is_in_force_for_them_alone() {
    let mut topology = formed();
    run(&mut topology, declare_queue("one"));
    run(&mut topology, declare_queue("two"));
    let shard = |topology: &Topology, queue: &str| {
        let found = topology.queue(Vhost::ROOT, queue);
        found.unwrap().shard
    };
    let (one, two) = (shard(&topology, "one"), shard(&topology, "two"));
    assert_ne!(one, two);
    let changed = |topology: &Topology| {
        (
            topology.shard_changed_at(one),
            topology.shard_changed_at(two),
        )
    };
    let mut before = changed(&topology);
    assert!(before.0 < before.1);
    let mut expect = |topology: &Topology, first: bool, second: bool| {
        let now = changed(topology);
        assert_eq!((now.0 > before.0, now.1 > before.1), (first, second));
        before = now;
    };
    run(&mut topology, declare_exchange("x", ExchangeKind::Fanout));
    run(&mut topology, bind("x", "", "one"));
    run(&mut topology, declare_queue("one"));
    expect(&topology, false, false);
    set(&mut topology, policy("limit", "o", max_length(5)));
    expect(&topology, true, true);
    run(&mut topology, delete_queue("one"));
    expect(&topology, true, false);
    // A copy that was read anew may differ in anything from what was known before.
    let read = Topology::from_parts(topology.to_parts()).unwrap();
    assert!(read.shard_changed_at(one) >= topology.shard_changed_at(one));
    assert_eq!(read.shard_changed_at(two), read.index());
}
