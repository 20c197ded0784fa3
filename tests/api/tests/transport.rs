//! Bytes and frames that no client library sends: refused by name where they have one, and never felt by others (guarantees.md 3).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::Status;
use warren_api::{Bystander, Call, FIRST, message, one_node, queue_batch, reason_of, runtime};
use warren_proto::v1;

const PUBLISH: &str = "/warren.v1.MessagingService/Publish";
const PUBLISH_STREAM: &str = "/warren.v1.MessagingService/PublishStream";

/// A bare HTTP/2 connection.
async fn connect(address: &str) -> SendRequest<Bytes> {
    let socket = TcpStream::connect(address).await.unwrap();
    let (send, connection) = h2::client::handshake(socket).await.unwrap();
    // It ends with the test, or when the server ends it.
    tokio::spawn(async move { drop(connection.await) });
    send.ready().await.unwrap()
}

fn request(path: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::post(format!("http://warren{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

/// What a call with these bytes as its body ends with.
async fn call(address: &str, path: &str, headers: &[(&str, &str)], body: Bytes) -> Status {
    let mut send = connect(address).await;
    let (answer, mut out) = send.send_request(request(path, headers), false).unwrap();
    out.send_data(body, true).unwrap();
    let answer = timeout(Duration::from_secs(30), answer).await.unwrap();
    let (head, mut body) = answer.unwrap().into_parts();
    if head.headers.contains_key("grpc-status") {
        return status(&head.headers);
    }
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
    }
    status(&body.trailers().await.unwrap().expect("trailers"))
}

fn status(headers: &HeaderMap) -> Status {
    Status::from_header_map(headers).expect("a gRPC status")
}

/// One gRPC message.
fn framed(message: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(0);
    out.put_u32(u32::try_from(message.len()).unwrap());
    out.put_slice(message);
    out.freeze()
}

/// Field 1, the vhost, of two bytes that are no UTF-8.
const NOT_TEXT: &[u8] = &[0x0a, 2, 0xc3, 0x28];

#[test]
fn damaged_messages_are_refused_by_name() {
    let cluster = one_node();
    runtime(async {
        let address = cluster.grpc_address(FIRST);
        let bystander = Bystander::start(&address).await;
        let four_gib = Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff]);
        let cut_field = framed(&[0x0a, 100, 1]);
        let cases = [
            (four_gib, "InvalidArgument MESSAGE_TOO_LARGE"),
            (framed(NOT_TEXT), "InvalidArgument BAD_ARGUMENT"),
            (cut_field, "InvalidArgument BAD_ARGUMENT"),
            (
                Bytes::from_static(&[9, 0, 0, 0, 0]),
                "InvalidArgument BAD_ARGUMENT",
            ),
        ];
        for path in [PUBLISH, PUBLISH_STREAM] {
            for (body, expected) in &cases {
                let told = call(&address, path, &[], body.clone()).await;
                assert_eq!(reason_of(&told), *expected, "{path} {body:?}: {told:?}");
            }
        }
        bystander.saw_nothing().await;
    });
}

#[test]
fn unknown_method_is_unsupported() {
    let cluster = one_node();
    runtime(async {
        let address = cluster.grpc_address(FIRST);
        for path in [
            "/warren.v1.MessagingService/Teleport",
            "/warren.v9.MessagingService/Publish",
        ] {
            let told = call(&address, path, &[], framed(&[])).await;
            assert_eq!(reason_of(&told), "Unimplemented UNSUPPORTED_FEATURE");
        }
    });
}

#[test]
fn deadline_of_zero_begins_nothing() {
    let cluster = one_node();
    runtime(async {
        let address = cluster.grpc_address(FIRST);
        let client = Call::to(&address);
        client.declare("orders").await.unwrap();
        let batch = queue_batch("orders", [message("late")]);
        let late = client.publish_within(batch, Duration::ZERO).await;
        // The client gives up at once by itself; the server has begun nothing.
        assert!(late.is_err(), "{late:?}");
        let told = call(&address, PUBLISH, &[("grpc-timeout", "0n")], one_message()).await;
        // The transport's own clock may be the first to say so.
        let expected = [
            "DeadlineExceeded NOT_STARTED",
            "Cancelled without a reason: Timeout expired",
        ];
        assert!(expected.contains(&reason_of(&told).as_str()), "{told:?}");
        assert_eq!(client.receive("orders", 1).await.unwrap(), vec![]);
    });
}

#[test]
fn garbled_metadata_is_passed_over() {
    let cluster = one_node();
    runtime(async {
        let address = cluster.grpc_address(FIRST);
        let client = Call::to(&address);
        client.declare("orders").await.unwrap();
        for (name, value) in [
            ("grpc-timeout", "soon"),
            ("grpc-timeout", "-1S"),
            ("x-bin", "!!not base64!!"),
            ("warren-leader", "node=99;term=x"),
        ] {
            let told = call(&address, PUBLISH, &[(name, value)], one_message()).await;
            assert_eq!(told.code(), tonic::Code::Ok, "{name}: {value}: {told:?}");
        }
        // A call takes what is ready at its moment, so four messages may take four calls.
        let mut received = 0;
        for _ in 0..4 {
            received += client.receive("orders", 10).await.unwrap().len();
            if received == 4 {
                break;
            }
        }
        assert_eq!(received, 4);
    });
}

#[test]
fn streams_per_connection_are_limited_to_200() {
    let cluster = one_node();
    runtime(async {
        let address = cluster.grpc_address(FIRST);
        let bystander = Bystander::start(&address).await;
        let socket = TcpStream::connect(&address).await.unwrap();
        let (mut send, mut connection) = h2::client::handshake(socket).await.unwrap();
        // The server's settings come with its first frames.
        let mut open = Vec::new();
        while connection.max_concurrent_send_streams() > 200 {
            let turn = std::future::poll_fn(|context| {
                let _pending = std::pin::Pin::new(&mut connection).poll(context);
                std::task::Poll::Ready(())
            });
            turn.await;
            tokio::task::yield_now().await;
        }
        assert_eq!(connection.max_concurrent_send_streams(), 200);
        tokio::spawn(async move { drop(connection.await) });
        for _ in 0..200 {
            send = send.ready().await.unwrap();
            open.push(
                send.send_request(request(PUBLISH_STREAM, &[]), false)
                    .unwrap(),
            );
        }
        bystander.saw_nothing().await;
    });
}

#[test]
fn empty_frames_resets_and_large_metadata_are_not_felt_by_others() {
    let cluster = one_node();
    runtime(async {
        let address = cluster.grpc_address(FIRST);
        let bystander = Bystander::start(&address).await;
        let mut send = connect(&address).await;
        let (_answer, mut out) = send
            .send_request(request(PUBLISH_STREAM, &[]), false)
            .unwrap();
        for _ in 0..20_000 {
            // The server may end the connection for it.
            if out.send_data(Bytes::new(), false).is_err() {
                break;
            }
        }
        let mut send = connect(&address).await;
        for _ in 0..2_000 {
            let Ok(ready) = send.ready().await else { break };
            send = ready;
            let Ok((_, mut out)) = send.send_request(request(PUBLISH_STREAM, &[]), false) else {
                break;
            };
            out.send_reset(h2::Reason::CANCEL);
        }
        let large = "m".repeat(1 << 20);
        let mut send = connect(&address).await;
        let sent = send.send_request(request(PUBLISH, &[("x-large", &large)]), true);
        if let Ok((answer, _)) = sent {
            let answer = timeout(Duration::from_secs(30), answer).await.unwrap();
            let accepted = answer.is_ok_and(|it| it.headers().get("grpc-status").is_none());
            assert!(!accepted, "a megabyte of metadata was taken");
        }
        bystander.saw_nothing().await;
    });
}

fn one_message() -> Bytes {
    use prost::Message as _;
    let request = v1::PublishRequest {
        batch: Some(queue_batch("orders", [message("x")])),
        ..v1::PublishRequest::default()
    };
    framed(&request.encode_to_vec())
}
