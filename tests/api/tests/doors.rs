//! Both doors onto the same queues (features A36, X13, A33): one message in by gRPC and out by AMQP and the other way, with all its properties
//! and typed headers; consumers of both on one queue; an AMQP client's request answered over gRPC. The AMQP side is an unmodified pika
//! program, `tests/pika/doors.py`. Needs Python 3 with `venv` and its package index.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

#[path = "../../cluster/tests/support/programs.rs"]
mod programs;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use programs::Program;
use prost_types::{Duration, Timestamp};
use warren_api::{
    Call, Consuming, FIRST, in_band, message, number, one_node, queue_batch, runtime, text,
};
use warren_proto::v1;
use warren_proto::v1::value::Kind;
use warren_proto::v1::{consume_request::Frame as Consume, consume_response::Frame as Consumed};
use warren_testkit::process::{Cluster, run_within};

const WHEN: Timestamp = Timestamp {
    seconds: 1_700_000_000,
    nanos: 0,
};
const SHARED: u32 = 300;
const INSTALLED_WITHIN: std::time::Duration = std::time::Duration::from_secs(600);

fn value(kind: Kind, amqp_type: Option<u8>) -> v1::Value {
    v1::Value {
        kind: Some(kind),
        amqp_type: amqp_type.map_or(0, u32::from),
    }
}

fn int(int: i64, amqp_type: Option<u8>) -> v1::Value {
    value(Kind::IntValue(int), amqp_type)
}

fn list(values: Vec<v1::Value>) -> v1::Value {
    value(Kind::ListValue(v1::ValueList { values }), None)
}

fn table(fields: Vec<(&str, v1::Value)>) -> v1::Value {
    let fields = fields.into_iter().map(|(it, value)| (it.to_owned(), value));
    let fields = fields.collect();
    value(Kind::TableValue(v1::Table { fields }), None)
}

/// Those of `doors.py`. pika sends integers in 32 bits where they fit, and no doubles.
fn headers(is_from_pika: bool) -> BTreeMap<String, v1::Value> {
    let wide = |number: i64, width: u8| {
        let of_pika = i32::try_from(number).is_ok().then_some(b'I');
        int(number, if is_from_pika { of_pika } else { Some(width) })
    };
    let one = || int(1, Some(b'I'));
    let all = vec![
        ("text", text("größe")),
        (
            "bytes",
            value(Kind::BytesValue(Bytes::from_static(b"\x00\xff")), None),
        ),
        ("yes", value(Kind::BoolValue(true), None)),
        ("small", wide(-7, b's')),
        ("byte", wide(100, b'B')),
        ("word", wide(60_000, b'u')),
        ("int", wide(-70_000, b'I')),
        ("unsigned", wide(4_000_000_000, b'i')),
        ("long", int(-5_000_000_000, Some(b'L'))),
        ("double", value(Kind::DoubleValue(2.0), None)),
        // Two digits after the point, then 1234.
        (
            "decimal",
            value(
                Kind::BytesValue(Bytes::from_static(&[2, 0, 0, 4, 210])),
                Some(b'D'),
            ),
        ),
        ("when", value(Kind::TimeValue(WHEN), None)),
        ("nothing", v1::Value::default()),
        (
            "table",
            table(vec![
                ("inner", text("deep")),
                ("list", list(vec![text("a"), one(), v1::Value::default()])),
            ]),
        ),
        (
            "list",
            list(vec![
                one(),
                text("two"),
                table(vec![("three", int(3, Some(b'I')))]),
            ]),
        ),
    ];
    all.into_iter()
        .filter(|(name, _)| !is_from_pika || *name != "double")
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn properties() -> v1::Properties {
    let some = |text: &str| Some(text.to_owned());
    v1::Properties {
        content_type: some("application/json"),
        content_encoding: some("gzip"),
        delivery_mode: Some(2),
        priority: Some(7),
        correlation_id: some("c-1"),
        reply_to: some("answers"),
        message_id: some("m-1"),
        timestamp: Some(WHEN),
        r#type: some("order.placed"),
        user_id: some("guest"),
        app_id: some("shop"),
        cluster_id: some("old"),
        ..v1::Properties::default()
    }
}

fn whole(body: &'static str, is_from_pika: bool) -> v1::Message {
    v1::Message {
        body: Bytes::from_static(body.as_bytes()),
        properties: Some(properties()),
        headers: headers(is_from_pika),
        ttl: Some(Duration {
            seconds: 600,
            nanos: 0,
        }),
        ..v1::Message::default()
    }
}

fn pika(cluster: &Cluster, arguments: &[&str]) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pika/run.sh");
    let mut command = Command::new("bash");
    command.arg(script).args(arguments);
    command.env("WARREN_PIKA_VENV", cluster.directory().join("pika-venv"));
    command
}

/// Consumes until nothing is left, as many others do; the numbers in the order in which they came.
async fn share(call: &Call, stream: &mut Consuming) -> Vec<u32> {
    let mut got = Vec::new();
    loop {
        let stats = call.stats("q").await;
        if stats.ready + stats.unacked == 0 {
            return got;
        }
        // A ping is answered after all that was on its way: nothing is waited for that does not come.
        stream.send(Consume::Ping(v1::Ping { nonce: 1 })).await;
        loop {
            match stream.next().await.unwrap() {
                Consumed::Deliveries(some) => {
                    let tags = some.deliveries.iter().map(|it| it.delivery_tag);
                    let (first, last) = (tags.clone().min().unwrap(), tags.max().unwrap());
                    let body = |it: &v1::Delivery| it.message.as_ref().unwrap().body.to_vec();
                    let numbers = some.deliveries.iter().map(body);
                    got.extend(
                        numbers
                            .map(|it| -> u32 { String::from_utf8(it).unwrap().parse().unwrap() }),
                    );
                    let settlement = v1::Settlement {
                        target: Some(v1::settlement::Target::Tags(v1::TagRange { first, last })),
                        action: Some(v1::settlement::Action::Ack(v1::Ack {})),
                        ..v1::Settlement::default()
                    };
                    let batch = v1::SettleBatch {
                        settle_ref: last,
                        settlements: vec![settlement],
                    };
                    stream.send(Consume::Settle(batch)).await;
                }
                Consumed::Pong(_) => break,
                Consumed::Settled(_) | Consumed::Notice(_) | Consumed::Opened(_) => {}
            }
        }
    }
}

fn is_rising(numbers: &[u32]) -> bool {
    numbers.is_sorted_by(|one, next| one < next)
}

/// What is there when the AMQP side begins. The stream keeps its queue to itself.
async fn prepare(call: &Call) -> Consuming {
    for queue in [
        "q",
        "q.to-amqp",
        "q.to-grpc",
        "q.requests",
        "q.stop",
        "q.seen",
        "q.taken",
    ] {
        call.declare(queue).await.unwrap();
    }
    let limit = [
        ("x-max-length", number(2)),
        ("x-overflow", text("reject-publish")),
    ];
    call.declare_with("q.full", &limit).await;
    call.fill("q.full", &["a", "b"]).await;
    let results = call.publish(queue_batch("q.full", [message("c")])).await;
    let refused = in_band(results.unwrap()[0].error.as_ref());
    assert_eq!(refused, "ResourceExhausted QUEUE_FULL");
    let batch = queue_batch("q.to-amqp", [whole("from grpc", false)]);
    let results = call.publish(batch).await.unwrap();
    assert_eq!(in_band(results[0].error.as_ref()), "no error");
    let alone = v1::ConsumeOpen {
        exclusive: true,
        ..open("q.taken")
    };
    Consuming::open(call, alone).await.0
}

fn open(queue: &str) -> v1::ConsumeOpen {
    v1::ConsumeOpen {
        queue: queue.to_owned(),
        prefetch: 5,
        ..v1::ConsumeOpen::default()
    }
}

async fn is_whole_from_amqp(call: &Call) {
    let taken = call.take("q.to-grpc", 1).await;
    let (delivery, expected) = (&taken[0], whole("from amqp", true));
    assert_eq!(delivery.exchange, "");
    assert_eq!(delivery.routing_key, "q.to-grpc");
    let found = delivery.message.as_ref().unwrap();
    for (name, value) in &expected.headers {
        assert_eq!(found.headers.get(name), Some(value), "{name}");
    }
    assert_eq!(*found, expected);
}

/// Consumers of both share the queue: each gets a part, in order, and nobody gets what another has.
async fn is_shared(call: &Call) {
    let (mut stream, _) = Consuming::open(call, open("q")).await;
    for some in (0..SHARED).collect::<Vec<_>>().chunks(20) {
        let some = some.iter().map(|it| message(&it.to_string()));
        call.publish(queue_batch("q", some)).await.unwrap();
    }
    let here = share(call, &mut stream).await;
    call.fill("q.stop", &["stop"]).await;
    let seen = call.take("q.seen", 1).await;
    let seen = &seen[0].message.as_ref().unwrap().body;
    let there: Vec<u32> = serde_json::from_slice(seen).unwrap();
    println!("{} over gRPC, {} over AMQP", here.len(), there.len());
    assert!(!here.is_empty() && !there.is_empty());
    assert!(is_rising(&here) && is_rising(&there), "{here:?} {there:?}");
    let mut all = [here, there].concat();
    all.sort_unstable();
    assert_eq!(all, (0..SHARED).collect::<Vec<_>>());
}

/// Publishes to the requester's own address, which is no queue.
async fn answers(call: &Call) {
    let request = call.take("q.requests", 1).await;
    let request = request[0].message.as_ref().unwrap();
    let asked = request.properties.as_ref().unwrap();
    let properties = v1::Properties {
        content_type: Some("text/plain".to_owned()),
        correlation_id: asked.correlation_id.clone(),
        ..v1::Properties::default()
    };
    let answer = v1::Message {
        properties: Some(properties),
        ..message("answer")
    };
    let address = asked.reply_to.as_deref().unwrap();
    let results = call.publish(queue_batch(address, [answer])).await.unwrap();
    let told = (results[0].outcome(), results[0].queues);
    assert_eq!(told, (v1::PublishOutcome::Committed, 0), "{results:?}");
    // Where nobody waits it is like any message without a queue.
    let nobody = format!("{}0", &address[..address.len() - 1]);
    let nobody = if nobody == address {
        format!("{}1", &address[..address.len() - 1])
    } else {
        nobody
    };
    let results = call.publish(queue_batch(&nobody, [message("")])).await;
    let refused = in_band(results.unwrap()[0].error.as_ref());
    assert_eq!(refused, "FailedPrecondition UNROUTABLE");
}

#[test]
fn both_doors_lead_to_the_same_queues() {
    let cluster = one_node();
    // The installation of the client first: it takes its time.
    let installed = run_within(pika(&cluster, &["--help"]), INSTALLED_WITHIN).unwrap();
    assert!(installed.status.success(), "{installed:?}");
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        let _alone = prepare(&call).await;
        let address = cluster.amqp_address(FIRST);
        let port = address.rsplit_once(':').unwrap().1;
        let program = Program::under_way(pika(&cluster, &["--port", port, "--doors", "q"]));
        is_whole_from_amqp(&call).await;
        is_shared(&call).await;
        answers(&call).await;
        program.passes();
    });
}
