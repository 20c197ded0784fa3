//! `x-dead-letter-queue`: which queues get a dead-letter queue of their own, and where their dead letters go (features X6). Not here: the
//! dead letters (`tests/api`, `tests/pika`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use support::*;
use warren_topology::{
    ApplyTo, DeclareQueue, NewQueueName, PolicyKind, Refusal, SetPolicy, Topology, TopologyCommand,
    TopologyReply, Vhost, dead_letter_queue_of,
};
use warren_types::{DeadLetter, Table};

fn with(name: &str, arguments: Table) -> DeclareQueue {
    DeclareQueue {
        arguments,
        ..queue(name)
    }
}

fn auto() -> Table {
    Table::new().with("x-dead-letter-queue", "auto")
}

/// As the node that serves it does: the dead-letter queue, then the queue; the name of the former, if it is made.
fn declare(topology: &mut Topology, declare: DeclareQueue) -> Result<Option<String>, Refusal> {
    let dead = topology.declare_dead_letter_queue(&declare)?;
    let made = dead.map(|dead| {
        let name = dead.declared_queues()[0].name.name().unwrap();
        done(topology, dead);
        name.to_string()
    });
    done(topology, TopologyCommand::DeclareQueue(declare));
    Ok(made)
}

fn done(topology: &mut Topology, command: TopologyCommand) {
    let reply = run(topology, command);
    assert!(!matches!(reply, TopologyReply::Refused(_)), "{reply:?}");
}

fn policy(topology: &mut Topology, definition: Table) {
    let command = SetPolicy {
        vhost: Vhost::ROOT,
        kind: PolicyKind::User,
        name: "p".into(),
        pattern: "".into(),
        apply_to: ApplyTo::All,
        priority: 0,
        definition,
    };
    done(topology, TopologyCommand::SetPolicy(command));
}

fn target(topology: &Topology, queue: &str) -> Option<(String, Option<String>)> {
    let queue = topology.queue(Vhost::ROOT, queue).unwrap();
    let DeadLetter {
        exchange,
        routing_key,
    } = topology.queue_settings(queue).dead_letter?;
    Some((
        exchange.as_str().to_owned(),
        routing_key.map(|it| it.as_str().to_owned()),
    ))
}

fn own(queue: &str) -> Option<(String, Option<String>)> {
    Some((String::new(), Some(queue.to_owned())))
}

#[test]
fn queue_gets_its_own_once_with_its_type_and_place() {
    let mut topology = formed();
    let arguments = auto()
        .with("x-queue-type", "quorum")
        .with("x-placement-group", "g")
        .with("x-max-length", 5_i32);
    let orders = with("orders", arguments);
    let made = declare(&mut topology, orders.clone()).unwrap();
    assert_eq!(made.as_deref(), Some("orders.dlq"));
    let dead = topology.queue(Vhost::ROOT, "orders.dlq").unwrap();
    assert!(dead.durable && !dead.auto_delete && !dead.is_exclusive());
    let names: Vec<&str> = dead.arguments.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["x-queue-type", "x-placement-group"]);
    let shard = topology.queue(Vhost::ROOT, "orders").unwrap().shard;
    assert_eq!(dead.shard, shard);
    assert_eq!(target(&topology, "orders"), own("orders.dlq"));
    assert_eq!(target(&topology, "orders.dlq"), None);
    assert_eq!(declare(&mut topology, orders), Ok(None));
    done(&mut topology, delete_queue("orders"));
    assert!(topology.queue(Vhost::ROOT, "orders.dlq").is_some());
}

#[test]
fn policy_is_heeded_but_for_queues_that_go_with_their_clients_and_for_dead_letter_queues() {
    let mut topology = formed();
    done(&mut topology, declare_queue("before"));
    policy(
        &mut topology,
        Table::new().with("dead-letter-queue", "auto"),
    );
    let made = declare(&mut topology, queue("before")).unwrap();
    assert_eq!(made.as_deref(), Some("before.dlq"));
    assert_eq!(declare(&mut topology, queue("jobs.dlq")), Ok(None));
    assert_eq!(target(&topology, "jobs.dlq"), None);
    let passing = DeclareQueue {
        auto_delete: true,
        ..queue("passing")
    };
    assert_eq!(declare(&mut topology, passing), Ok(None));
    assert_eq!(target(&topology, "passing"), None);
    // The argument decides, whichever of the two it is.
    let elsewhere = Table::new().with("x-dead-letter-exchange", "dlx");
    assert_eq!(declare(&mut topology, with("bills", elsewhere)), Ok(None));
    assert_eq!(target(&topology, "bills"), Some(("dlx".to_owned(), None)));
    let both = Table::new()
        .with("dead-letter-queue", "auto")
        .with("dead-letter-exchange", "dlx")
        .with("dead-letter-routing-key", "k");
    policy(&mut topology, both);
    assert_eq!(declare(&mut topology, queue("more")), Ok(None));
    let there = Some(("dlx".to_owned(), Some("k".to_owned())));
    assert_eq!(target(&topology, "more"), there);
    let made = declare(&mut topology, with("own", auto())).unwrap();
    assert_eq!(made.as_deref(), Some("own.dlq"));
    assert_eq!(target(&topology, "own"), own("own.dlq"));
}

#[test]
fn queue_whose_own_cannot_be_is_refused() {
    let mut topology = formed();
    let long = "x".repeat(252);
    assert_eq!(dead_letter_queue_of(&long), None);
    let refused = declare(&mut topology, with(&long, auto())).unwrap_err();
    assert!(
        matches!(refused, Refusal::InvalidArgument { .. }),
        "{refused:?}"
    );
    let both = auto().with("x-dead-letter-exchange", "");
    let refused = declare(&mut topology, with("both", both)).unwrap_err();
    assert!(
        matches!(refused, Refusal::InvalidArgument { .. }),
        "{refused:?}"
    );
    let passing = DeclareQueue {
        auto_delete: true,
        ..queue("orders.dlq")
    };
    done(&mut topology, TopologyCommand::DeclareQueue(passing));
    let refused = declare(&mut topology, with("orders", auto())).unwrap_err();
    let Refusal::InequivalentArgument { name, argument, .. } = refused else {
        panic!("{refused:?}");
    };
    assert_eq!((&*name, &*argument), ("orders.dlq", "auto_delete"));
    // One that somebody declared otherwise is as good, whatever else it wants.
    let theirs = with("bills.dlq", Table::new().with("x-max-length", 5_i32));
    done(&mut topology, TopologyCommand::DeclareQueue(theirs));
    assert_eq!(declare(&mut topology, with("bills", auto())), Ok(None));
    assert_eq!(target(&topology, "bills"), own("bills.dlq"));
}

#[test]
fn queue_that_is_there_says_what_its_own_is_like() {
    let mut topology = formed();
    done(&mut topology, declare_queue("orders"));
    let definition = Table::new().with("dead-letter-queue", "auto");
    policy(&mut topology, definition);
    // A declare that will be refused makes nothing that is in the way of the right one.
    let wrong = DeclareQueue {
        durable: false,
        ..with("orders", Table::new().with("x-queue-type", "quorum"))
    };
    let made = topology.declare_dead_letter_queue(&wrong).unwrap().unwrap();
    let made = made.declared_queues()[0];
    let of_queue = topology.queue(Vhost::ROOT, "orders").unwrap();
    assert!(made.durable);
    assert_eq!(made.arguments, of_queue.arguments);
}

#[test]
fn names_of_the_broker_have_none_by_policy_and_are_refused_by_argument() {
    let mut topology = formed();
    let definition = Table::new().with("dead-letter-queue", "auto");
    let generated = |arguments| DeclareQueue {
        name: NewQueueName::Generated {
            prefix: None,
            token: 7,
        },
        ..with("any", arguments)
    };
    let refused = topology.declare_dead_letter_queue(&generated(auto()));
    let refused = refused.unwrap_err();
    assert!(
        matches!(refused, Refusal::InvalidArgument { .. }),
        "{refused:?}"
    );
    policy(&mut topology, definition);
    let none = topology.declare_dead_letter_queue(&generated(Table::new()));
    assert_eq!(none, Ok(None));
}

/// An earlier version stored the argument unread.
#[test]
fn stored_declare_with_any_value_is_applied_as_it_always_was() {
    let mut topology = formed();
    let odd = Table::new()
        .with("x-dead-letter-queue", 5_i32)
        .with("x-dead-letter-exchange", "dlx");
    let stored = with("odd", odd);
    assert!(topology.declare_dead_letter_queue(&stored).is_err());
    done(&mut topology, TopologyCommand::DeclareQueue(stored));
    assert_eq!(target(&topology, "odd"), Some(("dlx".to_owned(), None)));
}
