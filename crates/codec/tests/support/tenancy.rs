//! One of every command about vhosts, users, permissions and parameters. Not here: other commands (`samples`).

use warren_topology::*;
use warren_types::*;

fn user() -> UserName {
    UserName::try_from("u").unwrap()
}

fn vhost() -> VhostName {
    VhostName::try_from("v").unwrap()
}

fn hash(scheme: PasswordScheme, byte: u8) -> PasswordHash {
    PasswordHash {
        scheme,
        bytes: vec![byte; 5].into(),
    }
}

fn settings() -> VhostSettings {
    VhostSettings {
        description: "about".into(),
        tags: vec!["t".into()],
        default_queue_type: Some(QueueType::Quorum),
        relaxed_queue_type: true,
        ignores_delays: true,
        live_prefetch: false,
        is_protected: false,
    }
}

fn users() -> Vec<(&'static str, TopologyCommand)> {
    let update = UpdateUser {
        name: user(),
        tags: None,
        password: PasswordChange::Keep,
        limits: None,
    };
    let old = hash(PasswordScheme::SaltedSha512, 2);
    let create = CreateUser {
        name: user(),
        tags: vec!["administrator".into(), "mine".into()],
        password: Some(hash(PasswordScheme::SaltedSha256, 1)),
        limits: UserLimits {
            connections: Some(0),
            channels: None,
        },
    };
    let gone = CreateUser {
        name: UserName::try_from("gone").unwrap(),
        tags: Vec::new(),
        password: None,
        limits: UserLimits::default(),
    };
    let set = UpdateUser {
        tags: Some(Vec::new()),
        password: PasswordChange::Set(old.clone()),
        ..update.clone()
    };
    let new = hash(PasswordScheme::Argon2id, 3);
    let rehash = UpdateUser {
        password: PasswordChange::Rehash { old, new },
        limits: Some(UserLimits {
            connections: None,
            channels: Some(9),
        }),
        ..update.clone()
    };
    let remove = UpdateUser {
        password: PasswordChange::Remove,
        ..update.clone()
    };
    vec![
        ("create_user", create.into()),
        ("create_user_without_password", gone.clone().into()),
        ("remove_password", remove.into()),
        ("set_password", set.into()),
        ("rehash_password", rehash.into()),
        ("update_user", update.into()),
        ("delete_user", DeleteUser { name: gone.name }.into()),
    ]
}

fn permissions() -> Vec<(&'static str, TopologyCommand)> {
    let exchange = ExchangeName::try_from("amq.topic").unwrap();
    let permission = SetPermission {
        user: user(),
        vhost: vhost(),
        configure: "^a".into(),
        write: ".*".into(),
        read: "".into(),
    };
    let topic = SetTopicPermission {
        user: user(),
        vhost: vhost(),
        exchange: exchange.clone(),
        write: "^{username}".into(),
        read: "(".into(),
    };
    let clear = ClearPermission {
        user: user(),
        vhost: VhostName::try_from("/").unwrap(),
    };
    let clear_topic = ClearTopicPermission {
        user: user(),
        vhost: VhostName::try_from("/").unwrap(),
        exchange: Some(exchange),
    };
    vec![
        ("set_permission", permission.into()),
        ("clear_permission", clear.into()),
        ("set_topic_permission", topic.into()),
        ("clear_topic_permission", clear_topic.into()),
    ]
}

/// Settings that came later; of a vhost that is not there.
pub fn later_settings() -> (&'static str, TopologyCommand) {
    let update = UpdateVhost {
        name: VhostName::try_from("none").unwrap(),
        settings: VhostSettings {
            live_prefetch: true,
            ..settings()
        },
    };
    ("update_vhost_later_settings", update.into())
}

pub fn commands() -> Vec<(&'static str, TopologyCommand)> {
    let name = vhost();
    let create = CreateVhost {
        name: name.clone(),
        settings: VhostSettings::default(),
    };
    let update = UpdateVhost {
        name: name.clone(),
        settings: settings(),
    };
    let limits = VhostLimits {
        connections: Some(1),
        queues: Some(2),
        exchanges: None,
        publishes_per_second: Some(0),
        bytes: None,
    };
    let set = |vhost| SetParameter {
        vhost,
        component: "shovel".into(),
        name: "p".into(),
        value: "{}".into(),
    };
    let clear = ClearParameter {
        vhost: None,
        component: "".into(),
        name: "none".into(),
    };
    let mut commands = vec![
        ("create_vhost", create.into()),
        ("update_vhost", update.into()),
        (
            "set_vhost_limits",
            SetVhostLimits {
                name: name.clone(),
                limits,
            }
            .into(),
        ),
        (
            "delete_vhost",
            DeleteVhost {
                name: VhostName::try_from("none").unwrap(),
            }
            .into(),
        ),
    ];
    commands.extend(users());
    commands.extend(permissions());
    commands.extend([
        ("set_parameter", set(Some(name)).into()),
        ("set_global_parameter", set(None).into()),
        ("clear_parameter", clear.clone().into()),
        (
            "batch",
            TopologyCommand::Batch(Batch {
                commands: vec![clear.into()],
            }),
        ),
    ]);
    commands
}
