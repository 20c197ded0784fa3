//! What the topology does, feature by feature (features B.1, B.2, C22 to C26). Not here: laws over random histories (`histories.rs`).
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm
)]

mod support;

use support::*;
use warren_topology::{
    Declared, ExchangeKind, NewQueueName, ObjectKind, Published, Refusal, RouteError, Targets,
    TopologyCommand, TopologyReply, Vhost,
};
use warren_types::{QueueId, QueueName, Table};

fn refused(reply: TopologyReply) -> Refusal {
    match reply {
        TopologyReply::Refused(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

fn queue_id(reply: TopologyReply) -> (QueueId, Declared) {
    match reply {
        TopologyReply::QueueDeclared {
            queue, declared, ..
        } => (queue, declared),
        other => panic!("no queue: {other:?}"),
    }
}

#[test]
fn declare_queue_fills_the_emptiest_shard_and_never_reuses_an_id() {
    let mut topology = formed();
    for number in 0..8 {
        run(&mut topology, declare_queue(&format!("q{number}")));
    }
    for shard in topology.shards().collect::<Vec<_>>() {
        assert_eq!(topology.queues_of(shard).count(), 2);
    }
    let third = topology.queue(Vhost::ROOT, "q2").unwrap();
    let (id, shard) = (third.id, third.shard);
    let reply = run(&mut topology, delete_queue("q2"));
    assert_eq!(
        reply,
        TopologyReply::QueueDeleted {
            queue: Some((id, shard))
        }
    );
    run(&mut topology, declare_queue("q2"));
    let anew = topology.queue(Vhost::ROOT, "q2").unwrap();
    assert_eq!(anew.shard, shard);
    assert_eq!(anew.id, QueueId(9));
    assert!(topology.queue_by_id(id).is_none());
}

#[test]
fn declare_queue_again_equal_existed_and_different_is_inequivalent() {
    let mut topology = formed();
    let mut command = queue("q");
    command.arguments = Table::new()
        .with("x-max-length", 10_i32)
        .with("mine", 1_i32);
    let (id, made) = queue_id(run(
        &mut topology,
        TopologyCommand::DeclareQueue(command.clone()),
    ));
    assert_eq!(made, Declared::Created);

    // Wider integers are equal, unknown arguments are not compared, and the injected type may be named.
    command.arguments = Table::new()
        .with("x-max-length", 10_i64)
        .with("x-queue-type", "classic");
    let again = queue_id(run(
        &mut topology,
        TopologyCommand::DeclareQueue(command.clone()),
    ));
    assert_eq!(again, (id, Declared::Existed));

    let mut cases = Vec::new();
    let mut other = command.clone();
    other.durable = false;
    cases.push((other, "durable"));
    let mut other = command.clone();
    other.auto_delete = true;
    cases.push((other, "auto_delete"));
    let mut other = command.clone();
    other.arguments.insert("x-max-length", 11_i32).unwrap();
    cases.push((other, "x-max-length"));
    let mut other = command.clone();
    other.arguments.remove("x-max-length");
    cases.push((other, "x-max-length"));
    let mut other = command.clone();
    other.arguments.insert("x-queue-type", "quorum").unwrap();
    cases.push((other, "x-queue-type"));
    for (other, wanted) in cases {
        let refusal = refused(run(&mut topology, TopologyCommand::DeclareQueue(other)));
        let Refusal::InequivalentArgument { argument, .. } = &refusal else {
            panic!("{refusal:?}");
        };
        assert_eq!(&**argument, wanted, "{refusal}");
    }
}

#[test]
fn inequivalent_declare_says_what_differs() {
    let mut topology = formed();
    run(&mut topology, declare_queue("q"));
    let mut other = queue("q");
    other.durable = false;
    let refusal = refused(run(&mut topology, TopologyCommand::DeclareQueue(other)));
    assert_eq!(
        refusal.to_string(),
        "inequivalent arg 'durable' for queue 'q' in vhost '/': received 'false' but current is 'true'"
    );
}

#[test]
fn declare_queue_with_bad_arguments_is_refused() {
    let mut topology = formed();
    for (argument, arguments) in [
        ("x-max-length", Table::new().with("x-max-length", -1_i32)),
        ("x-expires", Table::new().with("x-expires", 0_i32)),
        (
            "x-max-priority",
            Table::new().with("x-max-priority", 256_i32),
        ),
        ("x-message-ttl", Table::new().with("x-message-ttl", "5")),
        ("x-overflow", Table::new().with("x-overflow", "drop-tail")),
        (
            "x-dead-letter-routing-key",
            Table::new().with("x-dead-letter-routing-key", "k"),
        ),
        ("x-queue-type", Table::new().with("x-queue-type", 1_i32)),
    ] {
        let mut command = queue("q");
        command.arguments = arguments;
        let refusal = refused(run(&mut topology, TopologyCommand::DeclareQueue(command)));
        assert!(
            matches!(&refusal, Refusal::InvalidArgument { argument: it, .. } if &**it == argument),
            "{argument}: {refusal:?}"
        );
    }
    let mut command = queue("q");
    command.arguments = Table::new().with("x-queue-type", "stream");
    assert_eq!(
        refused(run(&mut topology, TopologyCommand::DeclareQueue(command))),
        Refusal::QueueTypeUnavailable {
            name: "stream".into()
        }
    );
    assert_eq!(topology.queue_count(), 0);
}

#[test]
fn reserved_names_are_refused() {
    let mut topology = formed();
    for (command, object) in [
        (declare_queue("amq.mine"), ObjectKind::Queue),
        (
            declare_exchange("amq.mine", ExchangeKind::Direct),
            ObjectKind::Exchange,
        ),
        (delete_exchange("amq.direct"), ObjectKind::Exchange),
    ] {
        assert!(matches!(
            refused(run(&mut topology, command)),
            Refusal::NameReserved { object: it, .. } if it == object
        ));
    }
    // The predeclared ones may be declared again as they are.
    assert!(matches!(
        run(
            &mut topology,
            declare_exchange("amq.fanout", ExchangeKind::Fanout)
        ),
        TopologyReply::ExchangeDeclared {
            declared: Declared::Existed,
            ..
        }
    ));
}

#[test]
fn default_exchange_takes_no_declare_delete_bind_or_unbind() {
    let mut topology = formed();
    run(&mut topology, declare_queue("q"));
    for command in [
        declare_exchange("", ExchangeKind::Direct),
        delete_exchange(""),
        bind("", "k", "q"),
        unbind("", "q", "q"),
    ] {
        assert_eq!(
            refused(run(&mut topology, command)),
            Refusal::DefaultExchange
        );
    }
}

#[test]
fn generated_name_is_the_same_for_the_same_token() {
    let mut topology = formed();
    let mut command = queue("ignored");
    command.name = NewQueueName::Generated {
        prefix: None,
        token: u128::MAX,
    };
    let first = run(
        &mut topology,
        TopologyCommand::DeclareQueue(command.clone()),
    );
    let TopologyReply::QueueDeclared { name, .. } = &first else {
        panic!("{first:?}");
    };
    assert!(name.as_str().starts_with("amq.gen-"), "{name}");
    assert_eq!(name.as_str().len(), "amq.gen-".len() + 22);
    let (_, again) = queue_id(run(
        &mut topology,
        TopologyCommand::DeclareQueue(command.clone()),
    ));
    assert_eq!(again, Declared::Existed);
    command.name = NewQueueName::Generated {
        prefix: Some(QueueName::try_from("p".repeat(65).as_str()).unwrap()),
        token: 1,
    };
    assert!(matches!(
        refused(run(&mut topology, TopologyCommand::DeclareQueue(command))),
        Refusal::InvalidArgument { .. }
    ));
}

#[test]
fn exclusive_queue_is_locked_for_others() {
    let mut topology = formed();
    let mut mine = queue("q");
    mine.exclusive = true;
    assert_eq!(
        refused(run(
            &mut topology,
            TopologyCommand::DeclareQueue(mine.clone())
        )),
        Refusal::ExclusiveWithoutOwner
    );
    mine.requester = Some(connection(1));
    run(&mut topology, TopologyCommand::DeclareQueue(mine.clone()));
    let (_, again) = queue_id(run(
        &mut topology,
        TopologyCommand::DeclareQueue(mine.clone()),
    ));
    assert_eq!(again, Declared::Existed);

    let mut foreign = mine.clone();
    foreign.requester = Some(connection(2));
    let mut shared = mine.clone();
    shared.exclusive = false;
    for command in [
        TopologyCommand::DeclareQueue(foreign),
        TopologyCommand::DeclareQueue(shared),
        bind("amq.direct", "k", "q"),
        unbind("amq.direct", "k", "q"),
        delete_queue("q"),
    ] {
        assert!(matches!(
            refused(run(&mut topology, command)),
            Refusal::ResourceLocked { .. }
        ));
    }
    let TopologyCommand::DeleteQueue(mut delete) = delete_queue("q") else {
        unreachable!();
    };
    delete.requester = Some(connection(1));
    run(&mut topology, TopologyCommand::DeleteQueue(delete));
    assert_eq!(topology.queue_count(), 0);
}

#[test]
fn delete_queue_of_another_id_or_missing_is_a_success_that_deletes_nothing() {
    let mut topology = formed();
    run(&mut topology, declare_queue("q"));
    let TopologyCommand::DeleteQueue(mut delete) = delete_queue("q") else {
        unreachable!();
    };
    delete.only = Some(QueueId(77));
    for command in [TopologyCommand::DeleteQueue(delete), delete_queue("none")] {
        let reply = run(&mut topology, command);
        assert_eq!(reply, TopologyReply::QueueDeleted { queue: None });
    }
    assert_eq!(topology.queue_count(), 1);
}

#[test]
fn delete_exchange_in_use_is_refused_only_if_unused_is_asked() {
    let mut topology = formed();
    run(&mut topology, declare_exchange("x", ExchangeKind::Fanout));
    run(&mut topology, declare_queue("q"));
    run(&mut topology, bind("x", "", "q"));
    let TopologyCommand::DeleteExchange(mut careful) = delete_exchange("x") else {
        unreachable!();
    };
    careful.if_unused = true;
    assert!(matches!(
        refused(run(&mut topology, TopologyCommand::DeleteExchange(careful))),
        Refusal::ExchangeInUse { .. }
    ));
    run(&mut topology, delete_exchange("x"));
    assert!(topology.exchange(Vhost::ROOT, "x").is_none());
    let queue = topology.queue(Vhost::ROOT, "q").unwrap().id;
    assert_eq!(topology.bindings_to(queue).count(), 0);
    let again = run(&mut topology, delete_exchange("x"));
    assert_eq!(again, TopologyReply::ExchangeDeleted { exchange: None });
}

#[test]
fn auto_delete_exchange_goes_with_its_last_binding() {
    let mut topology = formed();
    let mut command = exchange("x", ExchangeKind::Direct);
    command.auto_delete = true;
    run(&mut topology, TopologyCommand::DeclareExchange(command));
    run(&mut topology, declare_queue("q"));
    run(&mut topology, bind("x", "a", "q"));
    run(&mut topology, bind("x", "b", "q"));
    run(&mut topology, unbind("x", "a", "q"));
    assert!(topology.exchange(Vhost::ROOT, "x").is_some());
    run(&mut topology, delete_queue("q"));
    assert!(topology.exchange(Vhost::ROOT, "x").is_none());
}

#[test]
fn bind_to_what_is_missing_is_refused_and_unbind_is_a_success() {
    let mut topology = formed();
    run(&mut topology, declare_queue("q"));
    assert!(matches!(
        refused(run(&mut topology, bind("none", "k", "q"))),
        Refusal::NoSuchExchange { .. }
    ));
    assert!(matches!(
        refused(run(&mut topology, bind("amq.direct", "k", "none"))),
        Refusal::NoSuchQueue { .. }
    ));
    for command in [
        unbind("none", "k", "q"),
        unbind("amq.direct", "k", "none"),
        unbind("amq.direct", "k", "q"),
    ] {
        let reply = run(&mut topology, command);
        assert_eq!(reply, TopologyReply::Unbound { existed: false });
    }
}

#[test]
fn bindings_that_differ_in_arguments_deliver_one_copy_until_the_last_goes() {
    let mut topology = formed();
    run(&mut topology, declare_queue("q"));
    let one = Table::new().with("a", 1_i32).with("b", 2_i32);
    let same = Table::new().with("b", 2_i32).with("a", 1_i32);
    assert_eq!(
        run(&mut topology, bind_with("amq.direct", "k", "q", one)),
        TopologyReply::Bound(Declared::Created)
    );
    assert_eq!(
        run(
            &mut topology,
            bind_with("amq.direct", "k", "q", same.clone())
        ),
        TopologyReply::Bound(Declared::Existed)
    );
    run(&mut topology, bind("amq.direct", "k", "q"));
    assert_eq!(routed(&topology, "amq.direct", "k"), ["q"]);
    run(&mut topology, unbind("amq.direct", "k", "q"));
    assert_eq!(routed(&topology, "amq.direct", "k"), ["q"]);
    run(&mut topology, unbind_with("amq.direct", "k", "q", same));
    assert!(routed(&topology, "amq.direct", "k").is_empty());
}

#[test]
fn route_errors_name_what_is_missing() {
    let mut topology = formed();
    let mut command = exchange("inner", ExchangeKind::Direct);
    command.internal = true;
    run(&mut topology, TopologyCommand::DeclareExchange(command));
    let mut out = Targets::new();
    let root = Vhost::ROOT;
    assert_eq!(
        topology.route(root, &Published::new("none", "k"), &mut out),
        Err(RouteError::NoSuchExchange {
            exchange: "none".into()
        })
    );
    assert!(matches!(
        topology.route(root, &Published::new("inner", "k"), &mut out),
        Err(RouteError::InternalExchange { .. })
    ));
    assert!(matches!(
        topology.route(warren_types::VhostId(9), &Published::new("", "k"), &mut out),
        Err(RouteError::NoSuchVhost { .. })
    ));
    let unroutable = Published::new("", "none");
    assert_eq!(topology.route(root, &unroutable, &mut out), Ok(()));
    assert!(out.is_empty());
}

#[test]
fn listing_is_in_name_order_and_pages() {
    let mut topology = formed();
    for name in ["c", "a", "d", "b"] {
        run(&mut topology, declare_queue(name));
    }
    let page = |after: Option<&str>| -> Vec<String> {
        let queues = topology.queues_after(Vhost::ROOT, after).take(2);
        queues.map(|it| it.name.to_string()).collect()
    };
    assert_eq!(page(None), ["a", "b"]);
    assert_eq!(page(Some("b")), ["c", "d"]);
    assert!(page(Some("d")).is_empty());
    let exchanges: Vec<&str> = topology
        .exchanges_after(Vhost::ROOT, None)
        .map(|it| it.name.as_str())
        .collect();
    let predeclared = [
        "",
        "amq.direct",
        "amq.fanout",
        "amq.headers",
        "amq.match",
        "amq.topic",
    ];
    assert_eq!(exchanges, predeclared);
}

#[test]
fn check_answers_and_changes_nothing() {
    let topology = formed();
    let before = topology.to_parts();
    let reply = topology.check(declare_queue("q"));
    assert!(matches!(
        reply,
        TopologyReply::QueueDeclared {
            declared: Declared::Created,
            ..
        }
    ));
    assert_eq!(topology.to_parts(), before);
}

#[test]
fn clone_keeps_what_it_saw() {
    let mut topology = formed();
    run(&mut topology, declare_queue("q"));
    run(&mut topology, bind("amq.fanout", "", "q"));
    let old = topology.clone();
    run(&mut topology, delete_queue("q"));
    assert_eq!(routed(&old, "amq.fanout", ""), ["q"]);
    assert_eq!(routed(&old, "", "q"), ["q"]);
    assert!(routed(&topology, "amq.fanout", "").is_empty());
}
