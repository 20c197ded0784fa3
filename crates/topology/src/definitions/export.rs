//! The document of what is declared now. Exclusive queues are their connections' and not in it, nor what every vhost has from the start.
//! Not here: its JSON (`document`).

use serde_json::{Map, Value as Json, json};
use warren_types::{VhostId, VhostName};

use super::document::{
    Binding, Document, Exchange, GlobalParameter, Parameter, Permission, Policy, PolicyRule, Queue,
    Tags, TopicPermission, User, Vhost, VhostMetadata,
};
use super::hashes::written;
use super::json::object_of;
use crate::binding::Destination;
use crate::policy::PolicyKind;
use crate::topology::Topology;

const RESERVED: &str = "amq.";

impl Document {
    /// Of the whole cluster.
    #[must_use]
    pub fn of(topology: &Topology) -> Self {
        whole(topology)
    }

    /// Of one vhost: its objects, which do not name it.
    #[must_use]
    pub fn of_vhost(topology: &Topology, vhost: VhostId) -> Self {
        of_vhost(topology, vhost)
    }
}

fn whole(topology: &Topology) -> Document {
    let mut document = Document::default();
    let about = &mut document.about;
    about.insert("rabbitmq_definition_format".to_owned(), "cluster".into());
    if let Some(cluster) = topology.cluster() {
        about.insert(
            "original_cluster_name".to_owned(),
            Json::from(&*cluster.name),
        );
    }
    said_of_us(&mut document);
    document.users = Some(topology.users_after(None).map(user).collect());
    document.vhosts = Some(topology.vhosts().map(vhost).collect());
    document.permissions = Some(permissions(topology));
    document.topic_permissions = Some(topic_permissions(topology));
    let globals = topology.parameters().filter(|it| it.key.vhost.is_none());
    // What this cluster has loaded says nothing of another.
    let globals = globals.filter(|it| &*it.key.name != super::LOADED_PARAMETER);
    document.global_parameters = Some(
        globals
            .map(|it| GlobalParameter {
                name: it.key.name.to_string(),
                value: parsed(&it.value),
            })
            .collect(),
    );
    for vhost in topology.vhosts() {
        objects(topology, vhost.id, Some(&vhost.name), &mut document);
    }
    document
}

fn of_vhost(topology: &Topology, vhost: VhostId) -> Document {
    let mut document = Document::default();
    let about = &mut document.about;
    about.insert(
        "rabbitmq_definition_format".to_owned(),
        "single_virtual_host".into(),
    );
    if let Some(it) = topology.vhost_by_id(vhost) {
        about.insert("original_vhost_name".to_owned(), it.name.as_str().into());
    }
    said_of_us(&mut document);
    objects(topology, vhost, None, &mut document);
    document
}

fn said_of_us(document: &mut Document) {
    let about = &mut document.about;
    about.insert("product_name".to_owned(), "Warren".into());
    about.insert(
        "product_version".to_owned(),
        env!("CARGO_PKG_VERSION").into(),
    );
}

fn parsed(value: &str) -> Json {
    serde_json::from_str(value).unwrap_or_else(|_| Json::from(value))
}

fn user(it: &crate::user::User) -> User {
    let hash = it.password.as_ref().map(written);
    let (algorithm, hash) = hash.unzip();
    let limits = [
        ("max-connections", it.limits.connections),
        ("max-channels", it.limits.channels),
    ];
    User {
        name: it.name.to_string(),
        password_hash: Some(hash.unwrap_or_default()),
        password: None,
        hashed: None,
        hashing_algorithm: algorithm.map(str::to_owned),
        tags: Tags::List(it.tags.iter().map(ToString::to_string).collect()),
        limits: limits_object(&limits),
    }
}

fn limits_object(limits: &[(&str, Option<u32>)]) -> Map<String, Json> {
    let set = limits.iter().filter_map(|(name, it)| Some((name, (*it)?)));
    set.map(|(name, it)| ((*name).to_owned(), Json::from(it)))
        .collect()
}

fn vhost(it: &crate::vhost::Vhost) -> Vhost {
    let settings = &it.settings;
    let tags = settings.tags.iter().map(ToString::to_string).collect();
    let metadata = VhostMetadata {
        description: Some(settings.description.to_string()),
        tags: Some(tags),
        default_queue_type: settings.default_queue_type.map(|it| it.name().to_owned()),
        protected_from_deletion: settings.is_protected.then_some(true),
        relaxed_queue_type: settings.relaxed_queue_type.then_some(true),
        ignores_delays: settings.ignores_delays.then_some(true),
        live_prefetch: settings.live_prefetch.then_some(true),
    };
    Vhost {
        name: it.name.to_string(),
        description: metadata.description.clone(),
        tags: metadata.tags.clone(),
        default_queue_type: metadata.default_queue_type.clone(),
        protected_from_deletion: metadata.protected_from_deletion,
        metadata,
    }
}

fn name_of(topology: &Topology, vhost: VhostId) -> Option<String> {
    topology.vhost_by_id(vhost).map(|it| it.name.to_string())
}

fn permissions(topology: &Topology) -> Vec<Permission> {
    let all = topology.permissions().filter_map(|it| {
        Some(Permission {
            user: it.user.to_string(),
            vhost: name_of(topology, it.vhost)?,
            configure: it.configure.as_str().to_owned(),
            write: it.write.as_str().to_owned(),
            read: it.read.as_str().to_owned(),
        })
    });
    let mut all: Vec<Permission> = all.collect();
    all.sort_by(|one, other| (&one.user, &one.vhost).cmp(&(&other.user, &other.vhost)));
    all
}

fn topic_permissions(topology: &Topology) -> Vec<TopicPermission> {
    let all = topology.topic_permissions().filter_map(|it| {
        Some(TopicPermission {
            user: it.user.to_string(),
            vhost: name_of(topology, it.vhost)?,
            exchange: it.exchange.to_string(),
            write: it.write.as_str().to_owned(),
            read: it.read.as_str().to_owned(),
        })
    });
    let mut all: Vec<TopicPermission> = all.collect();
    all.sort_by(|one, other| {
        let key = |it: &TopicPermission| (it.user.clone(), it.vhost.clone(), it.exchange.clone());
        key(one).cmp(&key(other))
    });
    all
}

/// What is in one vhost.
fn objects(topology: &Topology, vhost: VhostId, name: Option<&VhostName>, out: &mut Document) {
    let named = || name.map(ToString::to_string);
    parameters(topology, vhost, name, &mut out.parameters);
    for it in topology.policies(vhost, PolicyKind::User) {
        out.policies.push(Policy {
            vhost: named(),
            name: it.name.to_string(),
            rule: rule(it),
        });
    }
    for it in topology.queues_after(vhost, None) {
        if it.is_exclusive() {
            continue;
        }
        out.queues.push(Queue {
            name: it.name.to_string(),
            vhost: named(),
            queue_type: Some(it.queue_type.name().to_owned()),
            durable: it.durable,
            auto_delete: it.auto_delete,
            arguments: object_of(&it.arguments),
        });
    }
    for it in topology.exchanges_after(vhost, None) {
        let is_own = !it.name.is_default() && !it.name.as_str().starts_with(RESERVED);
        if is_own {
            out.exchanges.push(Exchange {
                name: it.name.to_string(),
                vhost: named(),
                kind: it.kind.name().to_owned(),
                durable: it.durable,
                auto_delete: it.auto_delete,
                internal: it.internal,
                arguments: object_of(&it.arguments),
            });
        }
        let bindings = topology.bindings_from(it.id);
        out.bindings.extend(
            bindings.filter_map(|binding| of_binding(topology, it.name.as_str(), binding, named())),
        );
    }
}

fn of_binding(
    topology: &Topology,
    source: &str,
    it: &crate::binding::Binding,
    vhost: Option<String>,
) -> Option<Binding> {
    let (kind, destination) = match it.destination {
        Destination::Queue(queue) => {
            let queue = topology.queue_by_id(queue)?;
            if queue.is_exclusive() {
                return None;
            }
            ("queue", queue.name.to_string())
        }
        Destination::Exchange(exchange) => {
            let exchange = topology.exchange_by_id(exchange)?;
            ("exchange", exchange.name.to_string())
        }
    };
    Some(Binding {
        source: source.to_owned(),
        vhost,
        destination,
        destination_type: kind.to_owned(),
        routing_key: it.routing_key.to_string(),
        arguments: object_of(&it.arguments),
    })
}

/// Limits and operator policies are parameters there.
fn parameters(
    topology: &Topology,
    vhost: VhostId,
    name: Option<&VhostName>,
    out: &mut Vec<Parameter>,
) {
    let mut add = |component: &str, parameter: &str, value: Json| {
        out.push(Parameter {
            vhost: name.map(ToString::to_string),
            component: component.to_owned(),
            name: parameter.to_owned(),
            value,
        });
    };
    if let Some(it) = topology.vhost_by_id(vhost) {
        let limits = limits_object(&[
            ("max-connections", it.limits.connections),
            ("max-queues", it.limits.queues),
            ("max-exchanges", it.limits.exchanges),
        ]);
        if !limits.is_empty() {
            add("vhost-limits", "limits", Json::Object(limits));
        }
    }
    for it in topology.policies(vhost, PolicyKind::Operator) {
        let rule = rule(it);
        let value = json!({
            "pattern": rule.pattern, "apply-to": rule.apply_to,
            "definition": rule.definition, "priority": rule.priority,
        });
        add("operator_policy", &it.name, value);
    }
    for it in topology.parameters() {
        if it.key.vhost == Some(vhost) {
            add(&it.key.component, &it.key.name, parsed(&it.value));
        }
    }
}

fn rule(it: &crate::policy::Policy) -> PolicyRule {
    PolicyRule {
        pattern: it.pattern.to_string(),
        apply_to: it.apply_to.name().to_owned(),
        definition: object_of(&it.definition),
        priority: it.priority,
    }
}
