//! What vhosts, users, permissions, parameters and batches do (features E1 to E3, F31). Not here: what rights allow (`access.rs`).
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm
)]

mod support;

use support::*;
use warren_topology::*;
use warren_types::{QueueName, Table, UserName, VhostId, VhostName};

fn vhost_name(name: &str) -> VhostName {
    VhostName::try_from(name).unwrap()
}

fn user_name(name: &str) -> UserName {
    UserName::try_from(name).unwrap()
}

fn create_vhost(topology: &mut Topology, name: &str) -> VhostId {
    let command = CreateVhost {
        name: vhost_name(name),
        settings: VhostSettings::default(),
    };
    match run(topology, command.into()) {
        TopologyReply::VhostCreated { vhost, .. } => vhost,
        other => panic!("not created: {other:?}"),
    }
}

fn create_user(topology: &mut Topology, name: &str) -> TopologyReply {
    let command = CreateUser {
        name: user_name(name),
        tags: vec![UserTag::Management],
        password: None,
        limits: UserLimits::default(),
    };
    run(topology, command.into())
}

fn permit(topology: &mut Topology, user: &str, vhost: &str) -> TopologyReply {
    let command = SetPermission {
        user: user_name(user),
        vhost: vhost_name(vhost),
        configure: ".*".into(),
        write: ".*".into(),
        read: ".*".into(),
    };
    run(topology, command.into())
}

fn queue_in(vhost: VhostId, name: &str) -> TopologyCommand {
    TopologyCommand::DeclareQueue(DeclareQueue {
        vhost,
        ..queue(name)
    })
}

fn exchange_in(vhost: VhostId, name: &str) -> TopologyCommand {
    TopologyCommand::DeclareExchange(DeclareExchange {
        vhost,
        auto_delete: true,
        ..exchange(name, ExchangeKind::Fanout)
    })
}

fn bind_in(vhost: VhostId, source: &str, queue: &str) -> TopologyCommand {
    TopologyCommand::Bind(Bind {
        vhost,
        source: warren_types::ExchangeName::try_from(source).unwrap(),
        to: warren_topology::BindTo::Queue(QueueName::try_from(queue).unwrap()),
        routing_key: warren_types::RoutingKey::try_from("k").unwrap(),
        arguments: Table::new(),
        requester: None,
    })
}

#[test]
fn create_vhost_has_predeclared_exchanges_and_names_of_its_own() {
    let mut topology = formed();
    let vhost = create_vhost(&mut topology, "v");
    assert_eq!(create_vhost(&mut topology, "v"), vhost);
    let names = |topology: &Topology, vhost| -> Vec<String> {
        let all = topology.exchanges_after(vhost, None);
        all.map(|it| it.name.to_string()).collect()
    };
    assert_eq!(names(&topology, vhost), names(&topology, Vhost::ROOT));
    run(&mut topology, queue_in(vhost, "q"));
    assert!(topology.queue(Vhost::ROOT, "q").is_none());
    assert!(routed(&topology, "", "q").is_empty());
    run(&mut topology, declare_queue("q"));
    let (one, other) = (
        topology.queue(vhost, "q").unwrap().id,
        topology.queue(Vhost::ROOT, "q").unwrap().id,
    );
    assert_ne!(one, other);
}

#[test]
fn delete_vhost_takes_everything_in_it_and_its_id_never_comes_back() {
    let mut topology = formed();
    create_user(&mut topology, "u");
    let before = topology.to_parts();
    let vhost = create_vhost(&mut topology, "v");
    permit(&mut topology, "u", "v");
    run(&mut topology, exchange_in(vhost, "x"));
    run(&mut topology, queue_in(vhost, "q"));
    run(&mut topology, bind_in(vhost, "x", "q"));
    run(&mut topology, bind_in(vhost, "amq.fanout", "q"));
    run(
        &mut topology,
        SetParameter {
            vhost: Some(vhost_name("v")),
            component: "shovel".into(),
            name: "s".into(),
            value: "{}".into(),
        }
        .into(),
    );
    run(
        &mut topology,
        SetTopicPermission {
            user: user_name("u"),
            vhost: vhost_name("v"),
            exchange: warren_types::ExchangeName::try_from("x").unwrap(),
            write: "".into(),
            read: "".into(),
        }
        .into(),
    );
    let delete = DeleteVhost {
        name: vhost_name("v"),
    };
    let reply = run(&mut topology, delete.clone().into());
    assert_eq!(reply, TopologyReply::Done { changed: true });
    let again = run(&mut topology, delete.into());
    assert_eq!(again, TopologyReply::Done { changed: false });
    let mut after = topology.to_parts();
    assert_eq!(after.next_vhost, VhostId(vhost.0 + 1));
    after.index = before.index;
    after.next_vhost = before.next_vhost;
    after.next_exchange = before.next_exchange;
    after.next_queue = before.next_queue;
    assert_eq!(after, before);
    for shard in topology.shards().collect::<Vec<_>>() {
        assert_eq!(topology.queues_of(shard).count(), 0);
    }
    assert_ne!(create_vhost(&mut topology, "v"), vhost);
}

#[test]
fn protected_vhost_is_not_deleted_until_it_is_no_longer() {
    let mut topology = formed();
    create_vhost(&mut topology, "v");
    let update = |is_protected| UpdateVhost {
        name: vhost_name("v"),
        settings: VhostSettings {
            is_protected,
            ..VhostSettings::default()
        },
    };
    let delete = DeleteVhost {
        name: vhost_name("v"),
    };
    run(&mut topology, update(true).into());
    let refused = TopologyReply::Refused(Refusal::VhostProtected {
        vhost: vhost_name("v"),
    });
    assert_eq!(run(&mut topology, delete.clone().into()), refused);
    run(&mut topology, update(false).into());
    let done = TopologyReply::Done { changed: true };
    assert_eq!(run(&mut topology, delete.into()), done);
}

#[test]
fn vhost_default_queue_type_is_written_into_declares_that_name_none() {
    let mut topology = formed();
    let vhost = create_vhost(&mut topology, "v");
    let settings = VhostSettings {
        default_queue_type: Some(QueueType::Quorum),
        ..VhostSettings::default()
    };
    let name = vhost_name("v");
    run(&mut topology, UpdateVhost { name, settings }.into());
    run(&mut topology, queue_in(vhost, "q"));
    let queue = topology.queue(vhost, "q").unwrap();
    assert_eq!(queue.queue_type, QueueType::Quorum);
    assert_eq!(queue.arguments.get_str("x-queue-type"), Some("quorum"));
}

#[test]
fn relaxed_vhost_takes_classic_and_quorum_for_equal_on_redeclare() {
    let mut topology = formed();
    let vhost = create_vhost(&mut topology, "v");
    let declare = |kind: &str| {
        TopologyCommand::DeclareQueue(DeclareQueue {
            vhost,
            arguments: Table::new()
                .with("x-queue-type", kind)
                .with("x-max-length", 1_i32),
            ..queue("q")
        })
    };
    run(&mut topology, declare("classic"));
    let reply = run(&mut topology, declare("quorum"));
    assert!(
        matches!(&reply, TopologyReply::Refused(Refusal::InequivalentArgument { argument, .. }) if &**argument == "x-queue-type"),
        "{reply:?}"
    );
    let settings = VhostSettings {
        relaxed_queue_type: true,
        ..VhostSettings::default()
    };
    let name = vhost_name("v");
    run(&mut topology, UpdateVhost { name, settings }.into());
    let reply = run(&mut topology, declare("quorum"));
    assert!(
        matches!(
            reply,
            TopologyReply::QueueDeclared {
                declared: Declared::Existed,
                ..
            }
        ),
        "{reply:?}"
    );
    let kept = topology.queue(vhost, "q").unwrap();
    assert_eq!(kept.queue_type, QueueType::Classic);
    // Nothing else is relaxed.
    let TopologyCommand::DeclareQueue(mut other) = declare("quorum") else {
        unreachable!();
    };
    other.arguments = Table::new().with("x-queue-type", "quorum");
    let reply = run(&mut topology, TopologyCommand::DeclareQueue(other));
    assert!(
        matches!(&reply, TopologyReply::Refused(Refusal::InequivalentArgument { argument, .. }) if &**argument == "x-max-length"),
        "{reply:?}"
    );
}

#[test]
fn vhost_limits_refuse_more_queues_and_exchanges_but_not_equal_redeclares() {
    let mut topology = formed();
    let vhost = create_vhost(&mut topology, "v");
    let limits = VhostLimits {
        queues: Some(1),
        exchanges: Some(1),
        ..VhostLimits::default()
    };
    let name = vhost_name("v");
    run(&mut topology, SetVhostLimits { name, limits }.into());
    for (first, second) in [
        (queue_in(vhost, "1"), queue_in(vhost, "2")),
        (exchange_in(vhost, "1"), exchange_in(vhost, "2")),
    ] {
        let made = run(&mut topology, first.clone());
        assert!(!matches!(made, TopologyReply::Refused(_)), "{made:?}");
        let refused = run(&mut topology, second);
        assert!(matches!(
            refused,
            TopologyReply::Refused(Refusal::VhostLimitReached { limit: 1, .. })
        ));
        let again = run(&mut topology, first);
        assert!(!matches!(again, TopologyReply::Refused(_)), "{again:?}");
    }
    // Other vhosts have room.
    let other = run(&mut topology, declare_queue("q"));
    assert!(matches!(other, TopologyReply::QueueDeclared { .. }));
}

#[test]
fn create_user_again_equal_existed_and_different_is_refused() {
    let mut topology = formed();
    let created = create_user(&mut topology, "u");
    assert_eq!(created, TopologyReply::UserCreated(Declared::Created));
    let again = create_user(&mut topology, "u");
    assert_eq!(again, TopologyReply::UserCreated(Declared::Existed));
    let other = CreateUser {
        name: user_name("u"),
        tags: Vec::new(),
        password: None,
        limits: UserLimits::default(),
    };
    let refused = run(&mut topology, other.into());
    let user = user_name("u");
    assert_eq!(
        refused,
        TopologyReply::Refused(Refusal::UserExists { user })
    );
}

#[test]
fn rehash_counts_only_while_the_password_is_the_old_one() {
    let mut topology = formed();
    create_user(&mut topology, "u");
    let hash = |byte: u8| PasswordHash {
        scheme: PasswordScheme::SaltedSha256,
        bytes: vec![byte].into(),
    };
    let change = |topology: &mut Topology, password| {
        let command = UpdateUser {
            name: user_name("u"),
            tags: None,
            password,
            limits: None,
        };
        run(topology, command.into())
    };
    change(&mut topology, PasswordChange::Set(hash(1)));
    let (old, new) = (hash(1), hash(2));
    let rehash = PasswordChange::Rehash { old, new };
    let done = change(&mut topology, rehash.clone());
    assert_eq!(done, TopologyReply::Done { changed: true });
    change(&mut topology, PasswordChange::Set(hash(3)));
    let late = change(&mut topology, rehash);
    assert_eq!(late, TopologyReply::Done { changed: false });
    let user = topology.user("u").unwrap();
    assert_eq!(user.password, Some(hash(3)));
    assert_eq!(format!("{:?}", hash(3)), "SaltedSha256(***)");
}

#[test]
fn delete_user_takes_its_permissions() {
    let mut topology = formed();
    create_user(&mut topology, "u");
    create_user(&mut topology, "w");
    permit(&mut topology, "u", "/");
    permit(&mut topology, "w", "/");
    let name = user_name("u");
    run(&mut topology, DeleteUser { name }.into());
    let left: Vec<_> = topology.permissions().map(|it| &it.user).collect();
    assert_eq!(left, [&user_name("w")]);
    let refused = permit(&mut topology, "u", "/");
    let user = user_name("u");
    assert_eq!(
        refused,
        TopologyReply::Refused(Refusal::NoSuchUser { user })
    );
}

#[test]
fn batch_answers_each_command_and_a_refusal_stops_nothing() {
    let mut topology = formed();
    let commands = vec![
        declare_queue("a"),
        declare_queue("amq.no"),
        declare_queue("b"),
    ];
    let reply = run(&mut topology, TopologyCommand::Batch(Batch { commands }));
    let TopologyReply::Batch(replies) = reply else {
        panic!("no batch: {reply:?}");
    };
    assert!(matches!(replies[0], TopologyReply::QueueDeclared { .. }));
    assert!(matches!(replies[1], TopologyReply::Refused(_)));
    assert!(matches!(replies[2], TopologyReply::QueueDeclared { .. }));
    let inner = TopologyCommand::Batch(Batch {
        commands: vec![declare_queue("c")],
    });
    let nested = TopologyCommand::Batch(Batch {
        commands: vec![inner],
    });
    let refused = run(&mut topology, nested);
    assert_eq!(refused, TopologyReply::Refused(Refusal::BatchInvalid));
    assert!(topology.queue(Vhost::ROOT, "c").is_none());
}
