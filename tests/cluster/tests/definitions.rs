//! Definitions of a RabbitMQ cluster come into one of ours, and go out and in again without a difference (features F31, E3).
//! Not here: what single objects may be (`warren-topology`'s own tests).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "support/amqp.rs"]
mod amqp;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amqp::{Amqp, Heard};
use warren_client::{Connection, ConnectionOptions, Credentials, Error, parse_addresses};
use warren_cluster::https::HttpsServer;
use warren_testkit::process::{Cluster, NodeNumber, Options};

/// As `rabbitmqctl export_definitions` writes it, with something in every section.
const OF_RABBITMQ: &[u8] =
    include_bytes!("../../../crates/topology/tests/data/rabbitmq-definitions.json");

fn connect(cluster: &Cluster, node: usize, login: Option<(&str, &str)>) -> Connection {
    let options = ConnectionOptions {
        credentials: login.map(|(user, password)| Credentials {
            user: user.to_owned(),
            password: password.to_owned(),
        }),
        ..ConnectionOptions::default()
    };
    let servers = parse_addresses(&cluster.servers_from(NodeNumber(node))).unwrap();
    Connection::new(&servers, options).unwrap()
}

fn has(texts: &[String], parts: &[&str]) -> bool {
    let holds = |text: &String| parts.iter().all(|part| text.contains(part));
    texts.iter().any(holds)
}

/// Another one than the guest, whom the document makes a user with a password of its own.
async fn administrator(cluster: &Cluster) -> Connection {
    let guest = connect(cluster, 1, None);
    let tags = vec!["administrator".to_owned()];
    let password = "chief".to_owned();
    guest.create_user("chief", tags, password).await.unwrap();
    connect(cluster, 1, Some(("chief", "chief")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn definitions_of_rabbitmq_are_imported_exported_and_imported_again_without_a_change() {
    let cluster = Cluster::start(Options::default()).unwrap();
    let chief = administrator(&cluster).await;
    let trial = chief.import_definitions(OF_RABBITMQ.to_vec(), None, true);
    let trial = trial.await.unwrap();
    assert_eq!(
        chief.vhosts().await.unwrap().len(),
        1,
        "a trial does nothing"
    );

    let first = chief.import_definitions(OF_RABBITMQ.to_vec(), None, false);
    let first = first.await.unwrap();
    assert_eq!(trial, first, "a trial tells what comes of it");
    assert_eq!(first.refused.len(), 1, "{:?}", first.refused);
    assert!(has(&first.refused, &["queue 'log'", "stream"]));
    for parts in [
        &["shovel", "from-old", "without effect"][..],
        &["federation-upstream", "other-site", "without effect"],
        &["internal_cluster_id", "without effect"],
        &["policy 'mirrors'", "ha-mode", "without effect"],
        &["queue 'invoices'", "x-queue-mode", "without effect"],
        &["user 'ancient'", "MD5"],
    ] {
        assert!(
            has(&first.warnings, parts),
            "{parts:?}: {:?}",
            first.warnings
        );
    }

    // Of the same document nothing is left to do.
    let again = chief.import_definitions(OF_RABBITMQ.to_vec(), None, false);
    let again = again.await.unwrap();
    assert_eq!(
        (again.changed, again.unchanged),
        (0, first.changed + first.unchanged)
    );

    // Out of one node and into another: nothing changes, and it goes out the same.
    let exported = chief.export_definitions(None).await.unwrap();
    let other = connect(&cluster, 2, Some(("chief", "chief")));
    let round = other.import_definitions(exported.clone(), None, false);
    let round = round.await.unwrap();
    assert_eq!((round.changed, round.refused.len()), (0, 0), "{round:?}");
    assert_eq!(other.export_definitions(None).await.unwrap(), exported);

    // And into an empty cluster: all of it.
    let empty = Cluster::start(Options {
        nodes: 1,
        ..Options::default()
    })
    .unwrap();
    let whole = connect(&empty, 1, None);
    let whole = whole.import_definitions(exported.clone(), None, false);
    assert_eq!(whole.await.unwrap().refused, Vec::<String>::new());
    let owner = connect(&empty, 1, Some(("chief", "chief")));
    let copied = String::from_utf8(owner.export_definitions(None).await.unwrap()).unwrap();
    let exported = String::from_utf8(exported).unwrap();
    let objects = |text: &str| text.split_once("\"users\"").unwrap().1.to_owned();
    assert_eq!(objects(&copied), objects(&exported));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn imported_user_logs_in_with_its_old_password_and_is_rehashed() {
    let cluster = Cluster::start(Options {
        nodes: 1,
        ..Options::default()
    })
    .unwrap();
    let chief = administrator(&cluster).await;
    let document = OF_RABBITMQ.to_vec();
    chief
        .import_definitions(document, None, false)
        .await
        .unwrap();
    let at = cluster.amqp_address(NodeNumber(1));
    tokio::task::spawn_blocking(move || {
        for login in [
            &b"\0shop\0wrong"[..],
            b"\0ancient\0",
            b"\0certificate-only\0",
        ] {
            let refused = Amqp::login(&at, "PLAIN", login).unwrap_err();
            assert_eq!(refused, Heard::ConnectionClosed { code: 403 });
        }
        let mut shop = Amqp::login(&at, "PLAIN", b"\0shop\0s3cret").unwrap();
        shop.open("shop").unwrap();
        let mut audit = Amqp::login(&at, "PLAIN", b"\0audit\0old-5ecret").unwrap();
        audit.open("shop").unwrap();
    })
    .await
    .unwrap();
    // The hash that a login was right for is replaced soon.
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let exported = chief.export_definitions(None).await.unwrap();
        let text = String::from_utf8(exported).unwrap();
        if text.matches("warren_password_hashing_argon2id").count() == 3 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{text}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let shop = connect(&cluster, 1, Some(("shop", "s3cret")));
    assert_eq!(shop.who_am_i().await.unwrap().user.name, "shop");
    let refused = shop.export_definitions(None).await.unwrap_err();
    assert!(matches!(&refused, Error::Refused(it) if format!("{it:?}").contains("ACCESS_REFUSED")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn definitions_of_one_vhost_come_into_another() {
    let cluster = Cluster::start(Options {
        nodes: 1,
        ..Options::default()
    })
    .unwrap();
    let chief = administrator(&cluster).await;
    let document = OF_RABBITMQ.to_vec();
    chief
        .import_definitions(document, None, false)
        .await
        .unwrap();
    let shop = chief.export_definitions(Some("shop")).await.unwrap();
    let text = String::from_utf8(shop.clone()).unwrap();
    assert!(!text.contains("password_hash"), "{text}");
    let copy = warren_client::Vhost {
        name: "copy".to_owned(),
        ..warren_client::Vhost::default()
    };
    chief.create_vhost(&copy).await.unwrap();
    let done = chief.import_definitions(shop.clone(), Some("copy"), false);
    let done = done.await.unwrap();
    assert_eq!(done.refused, Vec::<String>::new());
    let copied = chief.export_definitions(Some("copy")).await.unwrap();
    let copied = String::from_utf8(copied).unwrap();
    assert_eq!(copied.replace("\"copy\"", "\"shop\""), text);
    let broken = chief.import_definitions(b"{\"queues\": 5}".to_vec(), None, false);
    assert!(matches!(broken.await, Err(Error::Refused(_))));
}

/// A document with one queue.
fn write_queue(directory: &Path, name: &str, queue: &str) {
    let json = format!(
        r#"{{"queues": [{{"name": "{queue}", "vhost": "/", "durable": true, "auto_delete": false, "arguments": {{}}}}]}}"#
    );
    std::fs::write(directory.join(name), json).unwrap();
}

/// Waits until these are the queues, and gives their types.
async fn types_of(guest: &Connection, wanted: &[&str]) -> Vec<String> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let queues = guest.queues("/", "").await.unwrap();
        let names: Vec<&str> = queues.iter().map(|(it, _)| it.name.as_str()).collect();
        if names == wanted {
            let types = queues
                .iter()
                .map(|(it, _)| it.arguments.get_str("x-queue-type"));
            return types.map(|it| it.unwrap().to_owned()).collect();
        }
        assert!(tokio::time::Instant::now() < deadline, "{names:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn restart_all(cluster: &mut Cluster) {
    for number in cluster.numbers() {
        cluster.terminate(number, Duration::from_secs(60)).unwrap();
    }
    for number in cluster.numbers() {
        cluster.spawn(number).unwrap();
    }
    cluster.wait_all_ready().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn definitions_are_loaded_at_the_start_once_and_again_when_they_differ() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    write_queue(directory, "1.json", "one");
    write_queue(directory, "2.json", "two");
    std::fs::write(directory.join("notes.txt"), "no definitions").unwrap();
    let mut cluster = Cluster::prepare(Options::default()).unwrap();
    for number in cluster.numbers() {
        let path = directory.to_str().unwrap();
        cluster.set_environment(number, "WARREN_NODE_LOAD_DEFINITIONS", path);
        cluster.set_environment(number, "WARREN_NODE_DEFAULT_QUEUE_TYPE", "quorum");
        cluster.spawn(number).unwrap();
    }
    cluster.wait_all_ready().unwrap();
    let guest = connect(&cluster, 1, None);
    // The node's default type, written down.
    let types = types_of(&guest, &["one", "two"]).await;
    assert_eq!(types, ["quorum", "quorum"]);

    // Others are loaded at the next start.
    let delete = async |name| guest.delete_queue("/", name, Default::default()).await;
    delete("one").await.unwrap();
    write_queue(directory, "3.json", "three");
    std::fs::remove_file(directory.join("1.json")).unwrap();
    restart_all(&mut cluster);
    types_of(&guest, &["three", "two"]).await;

    // These were: they are not loaded again, and what is deleted stays away.
    delete("two").await.unwrap();
    restart_all(&mut cluster);
    // Longer than any node waits before it would load them.
    tokio::time::sleep(Duration::from_secs(7)).await;
    types_of(&guest, &["three"]).await;
    let exported = guest.export_definitions(None).await.unwrap();
    let exported = String::from_utf8(exported).unwrap();
    assert!(!exported.contains("warren_loaded_definitions"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn definitions_are_fetched_over_https_from_a_trusted_server_once_it_answers() {
    let directory = tempfile::tempdir().unwrap();
    write_queue(directory.path(), "definitions.json", "fetched");
    let json = std::fs::read(directory.path().join("definitions.json")).unwrap();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let asked = Arc::clone(&heads);
    let server = HttpsServer::start(directory.path(), move |head| {
        let mut asked = asked.lock().unwrap();
        asked.push(head.to_owned());
        // Not up yet, for the first that asks.
        if asked.len() == 1 {
            (503, Vec::new())
        } else {
            (200, json.clone())
        }
    });
    let server = server.unwrap();
    let mut cluster = Cluster::prepare(Options {
        nodes: 1,
        ..Options::default()
    })
    .unwrap();
    let node = NodeNumber(1);
    let url = format!(
        "https://shop:secret@localhost:{}/definitions.json",
        server.port()
    );
    cluster.set_environment(node, "WARREN_NODE_LOAD_DEFINITIONS", &url);
    // A server that nobody vouches for is not believed.
    cluster.spawn(node).unwrap();
    cluster.wait_all_ready().unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while server.connections() == 0 {
        assert!(tokio::time::Instant::now() < deadline, "nobody asked");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    cluster.terminate(node, Duration::from_secs(60)).unwrap();
    assert!(heads.lock().unwrap().is_empty());
    let certificate = server.certificate().to_str().unwrap();
    cluster.set_environment(node, "SSL_CERT_FILE", certificate);
    cluster.spawn(node).unwrap();
    cluster.wait_all_ready().unwrap();
    let guest = connect(&cluster, 1, None);
    types_of(&guest, &["fetched"]).await;
    let heads = heads.lock().unwrap();
    let [_, head] = heads.as_slice() else {
        panic!("{heads:?}");
    };
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with("get /definitions.json http/1.1"), "{head}");
    assert!(
        head.contains("authorization: basic c2hvcdpzzwnyzxq="),
        "{head}"
    );
    assert!(!cluster.log_end(node).contains("secret"));
}
