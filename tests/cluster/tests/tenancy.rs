//! Users, permissions and vhosts over both doors of a real node: refusals, and rights that are taken away from who is connected
//! (features E1, E3 to E8, C4, C6, guarantee G14). Not here: the table itself (`warren-topology`'s own tests).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "support/amqp.rs"]
mod amqp;

use std::time::Duration;

use amqp::{Amqp, Heard};
use tokio::time::timeout;
use warren_client::{
    Connection, ConnectionOptions, ConsumerOptions, Credentials, Error, Message, Permission,
    PublisherOptions, QueueSpec, RedriveOptions, Target, UserChange, Vhost, WhoAmI,
    parse_addresses,
};
use warren_testkit::process::{Cluster, NodeNumber, Options};

/// Guarantee G14.
const FELT_WITHIN: Duration = Duration::from_secs(5);
const STARTED_WITHIN: Duration = Duration::from_secs(60);
const NODE: NodeNumber = NodeNumber(1);

fn one_node() -> Cluster {
    Cluster::start(Options {
        nodes: 1,
        ..Options::default()
    })
    .unwrap()
}

fn connect(cluster: &Cluster, login: Option<(&str, &str)>) -> Connection {
    let options = ConnectionOptions {
        credentials: login.map(|(user, password)| Credentials {
            user: user.to_owned(),
            password: password.to_owned(),
        }),
        ..ConnectionOptions::default()
    };
    let servers = parse_addresses(&cluster.servers_from(NODE)).unwrap();
    Connection::new(&servers, options).unwrap()
}

/// A node that lets nobody in without a user.
fn closed_node(variables: &[(&str, &str)]) -> Cluster {
    let mut cluster = Cluster::prepare(Options {
        nodes: 1,
        ..Options::default()
    })
    .unwrap();
    let closed = ("WARREN_AUTH_LOOPBACK_GUEST", "false");
    for (variable, value) in variables.iter().chain([&closed]) {
        cluster.set_environment(NODE, variable, value);
    }
    // Whether it is ready cannot be asked without a user: a login that works shows it.
    cluster.spawn(NODE).unwrap();
    cluster
}

/// Waits for the node, and for its first user.
async fn logged_in(cluster: &Cluster, user: &str, password: &str) -> WhoAmI {
    let deadline = tokio::time::Instant::now() + STARTED_WITHIN;
    loop {
        let who = connect(cluster, Some((user, password))).who_am_i().await;
        match who {
            Ok(who) => return who,
            Err(error) => assert!(tokio::time::Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_user_has_the_password_of_the_file_and_nobody_comes_in_without_one() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "of the file\n").unwrap();
    let path = file.path().to_str().unwrap();
    let cluster = closed_node(&[("WARREN_AUTH_FIRST_PASSWORD_FILE", path)]);
    let admin = logged_in(&cluster, "admin", "of the file").await;
    assert_eq!(admin.user.tags, ["administrator"]);
    let admin = connect(&cluster, Some(("admin", "of the file")));
    admin.declare_queue(&spec("q")).await.unwrap();
    for stranger in [None, Some(("guest", "guest")), Some(("admin", "admin"))] {
        let refused = reason(connect(&cluster, stranger).who_am_i().await);
        assert!(refused.contains("BAD_CREDENTIALS"), "{refused}");
    }
    let at = cluster.amqp_address(NODE);
    let guest = tokio::task::spawn_blocking(move || Amqp::login(&at, "PLAIN", b"\0guest\0guest"));
    let refused = guest.await.unwrap().unwrap_err();
    assert_eq!(refused, Heard::ConnectionClosed { code: 403 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_user_without_a_file_gets_a_password_that_is_told_once() {
    let cluster = closed_node(&[("WARREN_AUTH_FIRST_USER", "chief")]);
    let told = "The first user of this cluster is chief, with the password ";
    let deadline = tokio::time::Instant::now() + STARTED_WITHIN;
    let password = loop {
        let log = cluster.log_end(NODE);
        if let Some(line) = log.lines().find_map(|it| it.strip_prefix(told)) {
            break line.to_owned();
        }
        assert!(tokio::time::Instant::now() < deadline, "not told: {log}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(password.len() >= 20, "{password}");
    logged_in(&cluster, "chief", &password).await;
}

fn permission(user: &str, configure: &str, write: &str, read: &str) -> Permission {
    Permission {
        user: user.to_owned(),
        vhost: "/".to_owned(),
        configure: configure.to_owned(),
        write: write.to_owned(),
        read: read.to_owned(),
    }
}

async fn user(guest: &Connection, name: &str, rights: [&str; 3]) {
    let tags = Vec::new();
    guest
        .create_user(name, tags, "secret".to_owned())
        .await
        .unwrap();
    let [configure, write, read] = rights;
    let permission = permission(name, configure, write, read);
    guest.set_permission(&permission).await.unwrap();
}

fn reason<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    let Err(Error::Refused(refusal)) = result else {
        panic!("not refused: {result:?}");
    };
    format!("{refusal:?}")
}

fn spec(name: &str) -> QueueSpec {
    QueueSpec::durable(name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_refuses_wrong_credentials_and_what_is_not_permitted() {
    let cluster = one_node();
    let guest = connect(&cluster, None);
    assert_eq!(guest.who_am_i().await.unwrap().user.name, "guest");
    user(&guest, "clerk", ["^clerk", "^clerk", "^clerk"]).await;

    for login in [("clerk", "wrong"), ("nobody", "secret")] {
        let stranger = connect(&cluster, Some(login));
        let refused = reason(stranger.who_am_i().await);
        assert!(refused.contains("BAD_CREDENTIALS"), "{refused}");
    }
    let clerk = connect(&cluster, Some(("clerk", "secret")));
    assert_eq!(clerk.who_am_i().await.unwrap().user.name, "clerk");
    clerk.declare_queue(&spec("clerk-1")).await.unwrap();
    guest.declare_queue(&spec("other")).await.unwrap();
    for refused in [
        reason(clerk.declare_queue(&spec("other")).await),
        reason(clerk.users().await),
        reason(clerk.create_vhost(&Vhost::default()).await),
        reason(clerk.cluster().await),
        reason(clerk.delete_user("clerk").await),
    ] {
        assert!(refused.contains("ACCESS_REFUSED"), "{refused}");
    }
    // Lists show what may be seen.
    let names: Vec<String> = clerk
        .queues("/", "")
        .await
        .unwrap()
        .into_iter()
        .map(|(it, _)| it.name)
        .collect();
    assert_eq!(names, ["clerk-1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_consumer_ends_when_its_read_permission_is_taken() {
    let cluster = one_node();
    let guest = connect(&cluster, None);
    user(&guest, "reader", ["", "", "^q$"]).await;
    guest.declare_queue(&spec("q")).await.unwrap();
    let reader = connect(&cluster, Some(("reader", "secret")));
    let mut consumer = reader.consume(ConsumerOptions::queue("q")).await.unwrap();
    guest
        .set_permission(&permission("reader", "", "", ""))
        .await
        .unwrap();
    let end = timeout(FELT_WITHIN, consumer.next()).await.unwrap();
    assert!(!matches!(end, Ok(Some(_))), "{end:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn amqp_login_and_vhost_have_the_answers_of_the_standard() {
    let cluster = one_node();
    let guest = connect(&cluster, None);
    user(&guest, "clerk", ["", "", ""]).await;
    let vhost = Vhost {
        name: "closed".to_owned(),
        ..Vhost::default()
    };
    guest.create_vhost(&vhost).await.unwrap();
    let at = cluster.amqp_address(NODE);
    tokio::task::spawn_blocking(move || {
        let wrong = Amqp::login(&at, "PLAIN", b"\0clerk\0wrong").unwrap_err();
        assert_eq!(wrong, Heard::ConnectionClosed { code: 403 });
        let unknown = Amqp::login(&at, "CRAM-MD5", b"").unwrap_err();
        assert_eq!(unknown, Heard::ConnectionClosed { code: 503 });
        let malformed = Amqp::login(&at, "PLAIN", b"clerk").unwrap_err();
        assert_eq!(malformed, Heard::ConnectionClosed { code: 502 });
        for vhost in ["closed", "missing"] {
            let mut clerk = Amqp::login(&at, "PLAIN", b"\0clerk\0secret").unwrap();
            let refused = clerk.open(vhost).unwrap_err();
            assert_eq!(refused, Heard::ConnectionClosed { code: 530 }, "{vhost}");
        }
        let plain = b"\x05LOGINS\x00\x00\x00\x05clerk\x08PASSWORDS\x00\x00\x00\x06secret";
        let mut clerk = Amqp::login(&at, "AMQPLAIN", plain).unwrap();
        clerk.open("/").unwrap();
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn amqp_refuses_what_is_not_permitted_and_feels_what_is_taken() {
    let cluster = one_node();
    let guest = connect(&cluster, None);
    user(&guest, "clerk", ["^mine", "", "^(mine|q)$"]).await;
    guest.declare_queue(&spec("q")).await.unwrap();
    let at = cluster.amqp_address(NODE);
    let mut clerk = tokio::task::spawn_blocking(move || {
        let mut clerk = Amqp::login(&at, "PLAIN", b"\0clerk\0secret").unwrap();
        clerk.open("/").unwrap();
        clerk.channel(1);
        clerk.declare(1, "q", false);
        assert_eq!(clerk.heard(), Heard::ChannelClosed { code: 403 });
        clerk.channel(2);
        clerk.declare(2, "mine", false);
        assert_eq!(
            clerk.heard(),
            Heard::Method {
                class: 50,
                method: 11
            }
        );
        clerk.declare(2, "other", true);
        assert_eq!(clerk.heard(), Heard::ChannelClosed { code: 403 });
        clerk.channel(3);
        clerk.publish(3, "amq.direct", "k");
        assert_eq!(clerk.heard(), Heard::ChannelClosed { code: 403 });
        clerk.channel(4);
        clerk.consume(4, "q");
        assert_eq!(
            clerk.heard(),
            Heard::Method {
                class: 60,
                method: 21
            }
        );
        clerk
    })
    .await
    .unwrap();
    guest
        .set_permission(&permission("clerk", "^mine", "", "^mine$"))
        .await
        .unwrap();
    let mut clerk = tokio::task::spawn_blocking(move || {
        // basic.cancel from the server.
        assert_eq!(
            clerk.heard(),
            Heard::Method {
                class: 60,
                method: 30
            }
        );
        clerk
    })
    .await
    .unwrap();
    guest.delete_user("clerk").await.unwrap();
    let heard = tokio::task::spawn_blocking(move || clerk.heard())
        .await
        .unwrap();
    assert_eq!(heard, Heard::ConnectionClosed { code: 320 });
}

/// A connection of `clerk`, who consumes from `q`.
async fn clerk_consumes(cluster: &Cluster) -> Amqp {
    let at = cluster.amqp_address(NODE);
    let clerk = tokio::task::spawn_blocking(move || {
        let mut clerk = Amqp::login(&at, "PLAIN", b"\0clerk\0secret").unwrap();
        clerk.open("/").unwrap();
        clerk.channel(1);
        clerk.consume(1, "q");
        assert_eq!(clerk.heard(), CONSUME_OK);
        clerk
    });
    clerk.await.unwrap()
}

const CONSUME_OK: Heard = Heard::Method {
    class: 60,
    method: 21,
};
const CANCEL: Heard = Heard::Method {
    class: 60,
    method: 30,
};
const UPDATE_SECRET_OK: Heard = Heard::Method {
    class: 10,
    method: 71,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn amqp_new_secret_is_checked_and_so_are_the_rights_of_the_connection() {
    let cluster = one_node();
    let guest = connect(&cluster, None);
    user(&guest, "clerk", ["", "", "^q$"]).await;
    guest.declare_queue(&spec("q")).await.unwrap();
    let mut wrong = clerk_consumes(&cluster).await;
    let mut clerk = clerk_consumes(&cluster).await;
    let mut late = clerk_consumes(&cluster).await;
    let change = UserChange {
        password: Some("changed".to_owned()),
        ..UserChange::default()
    };
    guest.update_user("clerk", change).await.unwrap();
    let heard = tokio::task::spawn_blocking(move || {
        // The password of the login is the client's no more.
        wrong.update_secret("secret");
        assert_eq!(wrong.heard(), Heard::ConnectionClosed { code: 530 });
        assert!(wrong.why.starts_with("NOT_ALLOWED - "), "{}", wrong.why);
        // Many at once are checked one after the other; consumers go on.
        for _ in 0..20 {
            clerk.update_secret("changed");
        }
        for _ in 0..20 {
            assert_eq!(clerk.heard(), UPDATE_SECRET_OK);
        }
        clerk.declare(1, "q", true);
        let declared = clerk.heard();
        (clerk, declared)
    });
    let (mut clerk, declared) = heard.await.unwrap();
    assert_eq!(
        declared,
        Heard::Method {
            class: 50,
            method: 11
        }
    );
    let read_nothing = permission("clerk", "", "", "^other$");
    guest.set_permission(&read_nothing).await.unwrap();
    let heard = tokio::task::spawn_blocking(move || {
        clerk.update_secret("changed");
        // Refused consumers are cancelled before the answer.
        assert_eq!(clerk.heard(), CANCEL);
        assert_eq!(clerk.heard(), UPDATE_SECRET_OK);
        clerk
    });
    let mut clerk = heard.await.unwrap();
    guest.clear_permission("clerk", "/").await.unwrap();
    let heard = tokio::task::spawn_blocking(move || {
        for client in [&mut clerk, &mut late] {
            client.update_secret("changed");
            loop {
                let heard = client.heard();
                if heard == CANCEL {
                    continue;
                }
                // 320: the change was felt before the secret came.
                let codes = [530, 320].map(|code| Heard::ConnectionClosed { code });
                break assert!(codes.contains(&heard), "{heard:?}");
            }
        }
    });
    heard.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishers_feel_a_write_permission_that_is_taken_on_both_fronts() {
    let cluster = one_node();
    let guest = connect(&cluster, None);
    user(&guest, "writer", ["", ".*", ""]).await;
    guest.declare_queue(&spec("q")).await.unwrap();
    let writer = connect(&cluster, Some(("writer", "secret")));
    let stream = writer.publisher(PublisherOptions::default());
    let queue = Target::queue("q");
    let sent = stream.publish(&queue, Message::new("one"));
    assert!(sent.await.unwrap().await.unwrap().is_success());
    let at = cluster.amqp_address(NODE);
    let mut amqp = tokio::task::spawn_blocking(move || {
        let mut writer = Amqp::login(&at, "PLAIN", b"\0writer\0secret").unwrap();
        writer.open("/").unwrap();
        writer.channel(1);
        writer
    })
    .await
    .unwrap();
    guest
        .set_permission(&permission("writer", "", "^other$", ""))
        .await
        .unwrap();
    let heard = tokio::task::spawn_blocking(move || {
        amqp.publish(1, "", "q");
        (amqp.heard(), amqp.why)
    });
    let (heard, why) = timeout(FELT_WITHIN, heard).await.unwrap().unwrap();
    assert_eq!(heard, Heard::ChannelClosed { code: 403 });
    let text = "access to exchange 'amq.default' in vhost '/' refused for user 'writer'";
    assert!(
        why.starts_with("ACCESS_REFUSED") && why.contains(text),
        "{why}"
    );
    let sent = stream.publish(&queue, Message::new("two"));
    let answered = async { sent.await?.await };
    let answered = timeout(FELT_WITHIN, answered).await.unwrap();
    let is_taken = answered.is_ok_and(|it| it.is_success());
    assert!(!is_taken);
}

/// A queue whose messages die at once and go to `dead`.
async fn dying(guest: &Connection, name: &str) {
    let mut spec = spec(name);
    spec.arguments = spec
        .arguments
        .with("x-message-ttl", 0)
        .with("x-dead-letter-exchange", "")
        .with("x-dead-letter-routing-key", "dead");
    guest.declare_queue(&spec).await.unwrap();
    let stream = guest.publisher(PublisherOptions::default());
    let queue = Target::queue(name);
    let sent = stream.publish(&queue, Message::new(name.to_owned()));
    assert!(sent.await.unwrap().await.unwrap().is_success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redrive_needs_read_where_messages_are_and_write_wherever_one_goes() {
    let cluster = one_node();
    let guest = connect(&cluster, None);
    for name in ["dead", "repair"] {
        guest.declare_queue(&spec(name)).await.unwrap();
    }
    for name in ["orders", "bills"] {
        dying(&guest, name).await;
    }
    let dead = RedriveOptions {
        queue: "dead".to_owned(),
        dry_run: true,
        ..RedriveOptions::default()
    };
    while guest.redrive(&dead).await.unwrap().messages < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    user(&guest, "clerk", ["", "^(dead|orders|repair)$", "^orders$"]).await;
    let clerk = connect(&cluster, Some(("clerk", "secret")));
    let to = |target_queue: &str| RedriveOptions {
        target_queue: target_queue.to_owned(),
        dry_run: false,
        ..dead.clone()
    };
    let refused = |result| {
        let refused = reason(result);
        assert!(refused.contains("ACCESS_REFUSED"), "{refused}");
        refused
    };
    // It may not read the queue that holds them.
    refused(clerk.redrive(&to("repair")).await);
    refused(clerk.redrive(&to("")).await);
    let reads = permission("clerk", "", "^(dead|orders|repair)$", "^dead$");
    guest.set_permission(&reads).await.unwrap();
    // Nor write to where they go: named, or where one of them came from.
    refused(clerk.redrive(&to("bills")).await);
    let why = refused(clerk.redrive(&to("")).await);
    assert!(why.contains("bills"), "{why}");
    refused(clerk.redrive(&dead).await);
    assert_eq!(
        guest.redrive(&dead).await.unwrap().messages,
        2,
        "none has moved"
    );
    let writes = permission("clerk", "", "^(orders|bills)$", "^dead$");
    guest.set_permission(&writes).await.unwrap();
    assert_eq!(clerk.redrive(&dead).await.unwrap().messages, 2);
    assert_eq!(clerk.redrive(&to("")).await.unwrap().messages, 2);
}
