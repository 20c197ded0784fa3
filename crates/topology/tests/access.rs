//! The one authorisation table (features E4 to E7): single rules, and random permissions against a naive oracle.
//! Not here: how users and permissions come to be (`tenancy.rs`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use proptest::prelude::*;
use support::*;
use warren_topology::*;
use warren_types::{ExchangeName, UserName, VhostName};

fn name() -> UserName {
    UserName::try_from("u").unwrap()
}

fn with_user(tags: &[UserTag]) -> (Topology, Principal) {
    let mut topology = formed();
    let command = CreateUser {
        name: name(),
        tags: tags.to_vec(),
        password: None,
        limits: UserLimits::default(),
    };
    run(&mut topology, command.into());
    let principal = Principal::of(topology.user("u").unwrap());
    (topology, principal)
}

fn permit(topology: &mut Topology, configure: &str, write: &str, read: &str) {
    let command = SetPermission {
        user: name(),
        vhost: VhostName::try_from("/").unwrap(),
        configure: configure.into(),
        write: write.into(),
        read: read.into(),
    };
    run(topology, command.into());
}

fn may(topology: &Topology, principal: &Principal, operation: Operation<'_>) -> bool {
    let asker = Asker {
        principal,
        vhost: Vhost::ROOT,
        client_id: "",
    };
    topology.authorise(asker, operation).is_ok()
}

#[test]
fn user_without_permission_may_nothing_in_the_vhost() {
    let (topology, user) = with_user(&[UserTag::Administrator]);
    for operation in in_a_vhost("q", "x") {
        assert!(!may(&topology, &user, operation), "{operation:?}");
    }
}

/// The letters are the rights needed on the queue `q`, then on the exchange `x`.
const WANTED: [(Operation<'_>, &str, &str); 15] = [
    (
        Operation::DeclareExchange {
            exchange: "x",
            alternate: None,
        },
        "",
        "c",
    ),
    (
        Operation::DeclareExchange {
            exchange: "x",
            alternate: Some("x"),
        },
        "",
        "cwr",
    ),
    (Operation::DeleteExchange { exchange: "x" }, "", "c"),
    (
        Operation::DeclareQueue {
            queue: "q",
            dead_letter_exchange: None,
        },
        "c",
        "",
    ),
    (
        Operation::DeclareQueue {
            queue: "q",
            dead_letter_exchange: Some("x"),
        },
        "cr",
        "w",
    ),
    (Operation::DeleteQueue { queue: "q" }, "c", ""),
    (Operation::PurgeQueue { queue: "q" }, "r", ""),
    (
        Operation::BindQueue {
            source: "x",
            queue: "q",
            routing_key: "k",
        },
        "w",
        "r",
    ),
    (
        Operation::BindExchange {
            source: "x",
            destination: "x",
            routing_key: "k",
        },
        "",
        "wr",
    ),
    (
        Operation::Publish {
            exchange: "x",
            routing_key: "k",
        },
        "",
        "w",
    ),
    (Operation::Consume { queue: "q" }, "r", ""),
    (Operation::MoveMessages { from: "q", to: "q" }, "wr", ""),
    (Operation::ViewQueue { queue: "q" }, "any", ""),
    (Operation::ViewExchange { exchange: "x" }, "", "any"),
    (Operation::OpenVhost, "", ""),
];

#[test]
fn each_operation_needs_its_rights_and_no_others() {
    let (mut topology, user) = with_user(&[]);
    for given in 0..64_u8 {
        let pattern = |right: u8| match (given >> right & 1, given >> (right + 3) & 1) {
            (0, 0) => "",
            (1, 0) => "^q$",
            (0, _) => "^x$",
            (_, _) => "^[qx]$",
        };
        permit(&mut topology, pattern(0), pattern(1), pattern(2));
        let has = |letters: &str, from: u8| match letters {
            "any" => given >> from & 7 != 0,
            _ => letters.chars().all(|it| {
                let right = "cwr".find(it).unwrap();
                given >> (usize::from(from) + right) & 1 == 1
            }),
        };
        for (operation, queue, exchange) in WANTED {
            let expected = has(queue, 0) && has(exchange, 3);
            assert_eq!(
                may(&topology, &user, operation),
                expected,
                "{operation:?} with {given:06b}"
            );
        }
    }
}

fn in_a_vhost<'a>(queue: &'a str, exchange: &'a str) -> Vec<Operation<'a>> {
    vec![
        Operation::OpenVhost,
        Operation::ViewQueue { queue },
        Operation::ViewExchange { exchange },
        Operation::Consume { queue },
        Operation::Publish {
            exchange,
            routing_key: "k",
        },
        Operation::DeleteQueue { queue },
        Operation::ChangePolicies,
    ]
}

#[test]
fn tags_open_administration_as_far_as_they_go() {
    let all = [
        Operation::ViewCluster,
        Operation::ViewVhost,
        Operation::ChangeCluster,
        Operation::ChangeVhosts,
        Operation::ViewUsers,
        Operation::ChangeUsers,
        Operation::ChangeOperatorPolicies,
        Operation::ChangeGlobalParameters,
        Operation::ExportDefinitions,
        Operation::ImportDefinitions,
    ];
    for (tags, wanted) in [
        (vec![], 0),
        (vec![UserTag::Management], 0),
        (vec![UserTag::Policymaker], 0),
        (vec![UserTag::Impersonator, "administrators".into()], 0),
        (vec![UserTag::Monitoring], 2),
        (vec![UserTag::Administrator], all.len()),
    ] {
        let (topology, user) = with_user(&tags);
        let given: Vec<bool> = all.iter().map(|it| may(&topology, &user, *it)).collect();
        assert!(given[..wanted].iter().all(|it| *it), "{tags:?}");
        assert!(given[wanted..].iter().all(|it| !*it), "{tags:?}");
    }
}

#[test]
fn policies_need_the_vhost_and_the_tag() {
    for (tag, wanted) in [
        (UserTag::Management, false),
        (UserTag::Policymaker, true),
        (UserTag::Administrator, true),
    ] {
        let (mut topology, user) = with_user(&[tag]);
        assert!(!may(&topology, &user, Operation::ChangePolicies));
        permit(&mut topology, "", "", "");
        assert_eq!(may(&topology, &user, Operation::ChangePolicies), wanted);
        assert!(may(&topology, &user, Operation::ViewPolicies));
    }
}

#[test]
fn another_user_id_needs_the_impersonator() {
    let publish_as = |user_id| Operation::PublishAs { user_id };
    let (topology, user) = with_user(&[UserTag::Administrator]);
    assert!(may(&topology, &user, publish_as("u")));
    assert!(!may(&topology, &user, publish_as("w")));
    let (topology, user) = with_user(&[UserTag::Impersonator]);
    assert!(may(&topology, &user, publish_as("w")));
}

#[test]
fn default_exchange_is_amq_default_to_patterns() {
    let (mut topology, user) = with_user(&[]);
    permit(&mut topology, "", "^$", "");
    let publish = Operation::Publish {
        exchange: "",
        routing_key: "q",
    };
    assert!(!may(&topology, &user, publish));
    permit(&mut topology, "", r"^amq\.default$", "");
    assert!(may(&topology, &user, publish));
}

#[test]
fn a_user_that_was_deleted_and_created_again_is_another() {
    let (mut topology, user) = with_user(&[UserTag::Administrator]);
    run(&mut topology, DeleteUser { name: name() }.into());
    let again = CreateUser {
        name: name(),
        tags: vec![UserTag::Administrator],
        password: None,
        limits: UserLimits::default(),
    };
    run(&mut topology, again.into());
    assert!(!may(&topology, &user, Operation::ChangeUsers));
    let anew = Principal::of(topology.user("u").unwrap());
    assert!(may(&topology, &anew, Operation::ChangeUsers));
}

#[test]
fn local_user_may_everything_until_there_is_a_user_of_that_name() {
    let local = Principal::Local { name: name() };
    let topology = formed();
    assert!(may(&topology, &local, Operation::ChangeCluster));
    let (mut topology, _) = with_user(&[]);
    assert!(!may(&topology, &local, Operation::ChangeCluster));
    assert!(!may(&topology, &local, Operation::OpenVhost));
    permit(&mut topology, "", "", "");
    assert!(may(&topology, &local, Operation::OpenVhost));
}

#[test]
fn topic_permission_holds_on_topic_exchanges_only() {
    let (mut topology, user) = with_user(&[]);
    permit(&mut topology, "", ".*", ".*");
    for exchange in ["t", "amq.direct"] {
        let command = SetTopicPermission {
            user: name(),
            vhost: VhostName::try_from("/").unwrap(),
            exchange: ExchangeName::try_from(exchange).unwrap(),
            write: r"^{username}\.".into(),
            read: "^all$".into(),
        };
        run(&mut topology, command.into());
    }
    let mut rights = Rights::new(user.clone(), Vhost::ROOT, "");
    let mut publish = |topology: &Topology, exchange, key| {
        let remembered = rights.may_publish(topology, exchange, key).is_ok();
        let operation = Operation::Publish {
            exchange,
            routing_key: key,
        };
        assert_eq!(remembered, may(topology, &user, operation));
        remembered
    };
    // Not declared yet: nothing is known of its kind.
    assert!(publish(&topology, "t", "any"));
    assert!(publish(&topology, "amq.direct", "any"));
    let declared = run(&mut topology, declare_exchange("t", ExchangeKind::Topic));
    if matches!(declared, TopologyReply::Refused(_)) {
        // This version has no topic exchanges yet.
        return;
    }
    for _ in 0..3 {
        assert!(publish(&topology, "t", "u.x"));
        assert!(!publish(&topology, "t", "w.x"));
        assert!(publish(&topology, "amq.direct", "any"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// What a session remembers is what the topology would say, whatever changes in between.
    #[test]
    fn remembered_rights_are_those_of_the_topology(
        steps in proptest::collection::vec((0..6_u8, 0..3_u8, 0..3_u8), 1..60),
    ) {
        let (mut topology, user) = with_user(&[]);
        let mut rights = Rights::new(user.clone(), Vhost::ROOT, "");
        let exchanges = ["", "x0", "x1"];
        let patterns = ["", "x0|amq", ".*"];
        for (kind, one, other) in steps {
            match kind {
                0 => permit(&mut topology, "", patterns[usize::from(one)], ""),
                1 => {
                    let clear = ClearPermission { user: name(), vhost: VhostName::try_from("/").unwrap() };
                    run(&mut topology, clear.into());
                }
                2 => {
                    run(&mut topology, declare_exchange(&format!("x{}", one % 2), ExchangeKind::Topic));
                }
                3 => {
                    run(&mut topology, delete_exchange(&format!("x{}", one % 2)));
                }
                4 => {
                    let set = SetTopicPermission {
                        user: name(),
                        vhost: VhostName::try_from("/").unwrap(),
                        exchange: ExchangeName::try_from(exchanges[usize::from(one)]).unwrap(),
                        write: patterns[usize::from(other)].into(),
                        read: "".into(),
                    };
                    run(&mut topology, set.into());
                }
                _ => {}
            }
            for exchange in exchanges {
                for routing_key in ["x0", "other"] {
                    let operation = Operation::Publish { exchange, routing_key };
                    prop_assert_eq!(
                        rights.may_publish(&topology, exchange, routing_key).is_ok(),
                        may(&topology, &user, operation)
                    );
                }
            }
        }
    }
}
