//! Definitions as RabbitMQ writes them: planned, applied, written and planned again (features F31, E3). Not here: proposing them (`gateway`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use support::formed;
use warren_topology::definitions::{Document, Report, Section};
use warren_topology::{CreateVhost, Topology, VhostSettings};
use warren_types::{TopologyIndex, VhostName};

/// As `rabbitmqctl export_definitions` writes it, with something in every section.
const OF_RABBITMQ: &[u8] = include_bytes!("data/rabbitmq-definitions.json");

fn import(topology: &mut Topology, document: &Document, only: Option<&VhostName>) -> Report {
    let mut report = Report::default();
    for section in Section::ALL {
        for item in document.plan(section, topology, only, &mut report) {
            let at = TopologyIndex(topology.index().0 + 1);
            let reply = topology.apply(at, item.command);
            report.note(&item.label, &reply);
        }
    }
    report
}

fn read(json: &[u8]) -> Document {
    Document::read(json).unwrap()
}

fn has(texts: &[String], parts: &[&str]) -> bool {
    let holds = |text: &String| parts.iter().all(|part| text.contains(part));
    texts.iter().any(holds)
}

#[test]
fn definitions_of_rabbitmq_are_taken_written_and_taken_again_without_a_change() {
    let mut topology = formed();
    let document = read(OF_RABBITMQ);
    let first = import(&mut topology, &document, None);
    for parts in [
        &["shovel", "from-old", "without effect"][..],
        &["federation-upstream", "other-site", "without effect"],
        &["internal_cluster_id", "without effect"],
        &["policy 'mirrors'", "ha-mode", "without effect"],
        &["queue 'invoices'", "x-queue-mode", "without effect"],
        &["user 'ancient'", "MD5"],
    ] {
        assert!(has(&first.warnings, parts), "{parts:?}: {first:?}");
    }
    assert_eq!(first.refused.len(), 1, "{first:?}");
    assert!(has(&first.refused, &["queue 'log'", "stream"]));

    let again = import(&mut topology, &document, None);
    assert_eq!(again.changed, 0, "{again:?}");
    assert_eq!(again.unchanged, first.changed + first.unchanged);
    assert_eq!(again.refused, first.refused);

    let written = Document::of(&topology).write().unwrap();
    let round = import(&mut topology, &read(&written), None);
    assert_eq!((round.changed, round.refused.len()), (0, 0), "{round:?}");
    assert_eq!(Document::of(&topology).write().unwrap(), written);

    let mut empty = formed();
    let moved = import(&mut empty, &read(&written), None);
    assert_eq!(moved.refused, Vec::<String>::new());
    assert_eq!(Document::of(&empty).write().unwrap(), written);
}

#[test]
fn definitions_of_one_vhost_come_into_another() {
    let mut topology = formed();
    import(&mut topology, &read(OF_RABBITMQ), None);
    let shop = topology.vhost("shop").unwrap().id;
    let written = Document::of_vhost(&topology, shop).write().unwrap();
    let text = String::from_utf8(written.clone()).unwrap();
    assert!(!text.contains("password"), "{text}");
    let create = CreateVhost {
        name: VhostName::try_from("copy").unwrap(),
        settings: VhostSettings::default(),
    };
    let at = TopologyIndex(topology.index().0 + 1);
    topology.apply(at, create.into());
    let only = VhostName::try_from("copy").unwrap();
    let done = import(&mut topology, &read(&written), Some(&only));
    assert_eq!(done.refused, Vec::<String>::new());
    let copy = topology.vhost("copy").unwrap().id;
    let copied = Document::of_vhost(&topology, copy).write().unwrap();
    let copied = String::from_utf8(copied).unwrap();
    assert_eq!(copied.replace("\"copy\"", "\"shop\""), text);

    // A whole document into one vhost: what is no vhost's is left out, and said.
    let whole = import(&mut topology, &read(OF_RABBITMQ), Some(&only));
    assert!(has(&whole.warnings, &["section 'users'", "left out"]));
    assert!(topology.vhost("shop").is_some());
}

#[test]
fn settings_of_a_vhost_come_with_it() {
    let mut topology = formed();
    let settings = VhostSettings {
        relaxed_queue_type: true,
        ignores_delays: true,
        live_prefetch: true,
        ..VhostSettings::default()
    };
    let create = CreateVhost {
        name: VhostName::try_from("shop").unwrap(),
        settings: settings.clone(),
    };
    let at = TopologyIndex(topology.index().0 + 1);
    topology.apply(at, create.into());
    let written = Document::of(&topology).write().unwrap();
    let mut other = formed();
    import(&mut other, &read(&written), None);
    assert_eq!(other.vhost("shop").unwrap().settings, settings);
    // A document that says nothing of them changes none.
    let plain = br#"{"vhosts": [{"name": "shop"}]}"#;
    assert_eq!(import(&mut other, &read(plain), None).changed, 0);
    assert_eq!(other.vhost("shop").unwrap().settings, settings);
}

#[test]
fn object_that_is_there_otherwise_stays_and_is_told() {
    let mut topology = formed();
    import(&mut topology, &read(OF_RABBITMQ), None);
    let other = br#"{"queues": [{"name": "plain", "vhost": "/", "durable": false, "arguments": {}},
        {"name": "new", "vhost": "/", "durable": true}, {"name": "lost", "vhost": "missing"}],
        "users": [{"name": "typed", "password": "by hand", "tags": "monitoring, policymaker"}], "cupboards": []}"#;
    let mut document = read(other);
    for it in document.clear_passwords() {
        assert_eq!(it.password, "by hand");
        *it.hash = Some(warren_topology::PasswordHash {
            scheme: warren_topology::PasswordScheme::Argon2id,
            bytes: Box::from(&b"hashed"[..]),
        });
    }
    let done = import(&mut topology, &document, None);
    assert!(
        has(&done.refused, &["queue 'plain'", "durable"]),
        "{done:?}"
    );
    assert!(
        has(&done.refused, &["queue 'lost'", "not found"]),
        "{done:?}"
    );
    assert!(has(&done.warnings, &["cupboards"]), "{done:?}");
    assert_eq!(done.changed, 2, "{done:?}");
    let typed = topology.user("typed").unwrap();
    assert_eq!(typed.tags.len(), 2);
    assert!(typed.password.is_some());
    assert!(!format!("{document:?}").contains("by hand"));
}

#[test]
fn document_that_is_none_is_refused_as_a_whole() {
    for json in [&b"[]"[..], b"{\"queues\": 5}", b"{\"users\": [{}]}", b""] {
        assert!(Document::read(json).is_err());
    }
}
