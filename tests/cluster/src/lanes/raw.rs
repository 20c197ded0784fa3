//! Lanes whose features the Rust client has no words for: deduplication by key, atomic batches, acks with messages. Each call is made again
//! at another node until it is answered, as a careful program does. Not here: the other lanes (`lanes`).

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use warren_client::Connection;
use warren_proto::v1;
use warren_proto::v1::messaging_service_client::MessagingServiceClient;
use warren_proto::v1::settlement::{Action, Target};
use warren_testkit::history::{Event, MessageId, PublishOutcome};
use warren_testkit::payload;
use warren_types::Value;

use super::{BODY_BYTES, Does, Lane, Tells, declare};
use crate::{Load, basic, pick};

const DEDUP: &str = "deduplicated";
const ATOMIC: [&str; 2] = ["atomic-a", "atomic-b"];
const INPUT: &str = "input";
const OUTPUT: &str = "output";
const CALL_WITHIN: Duration = Duration::from_secs(5);
/// Some node answers within this.
const ANSWERED_WITHIN: Duration = Duration::from_secs(120);
const AGAIN_AFTER: Duration = Duration::from_millis(20);
const WORKERS: u32 = 2;

pub(super) async fn start(
    load: &mut Load,
    admin: &Connection,
    servers: &[String],
    (first_lane, pause): (u32, Duration),
) -> Result<()> {
    let (dedup, atomic, output) = (first_lane, first_lane + 1, first_lane + 2);
    let all = |tells| (Does::Ack, tells);
    declare(
        admin,
        DEDUP,
        &[("x-dedup-window", Value::from(600_000_i64))],
    )
    .await?;
    load.lane_consumers(servers, DEDUP, 2, all(Tells::All))?;
    let together = [("x-placement-group", Value::from("together"))];
    for queue in [ATOMIC[0], ATOMIC[1], INPUT, OUTPUT] {
        declare(admin, queue, &together).await?;
        if queue != INPUT {
            load.lane_consumers(servers, queue, 2, all(Tells::All))?;
        }
    }
    let login = load.options.credentials.as_ref().map(basic);
    let nodes = || Nodes::of(servers, login.clone());
    load.dedup_publisher(nodes()?, (dedup, pause));
    load.atomic_publisher(nodes()?, (atomic, pause));
    let input = Lane {
        order: super::Order::None,
        ..Lane::plain(INPUT)
    };
    load.lane_publisher(pick(servers, 1)?, (output, 0), input.into(), pause)?;
    for _ in 0..WORKERS {
        load.consumers.push(tokio::spawn(work(nodes()?)));
    }
    Ok(())
}

/// All nodes, the first of them in use.
struct Nodes {
    channels: VecDeque<Channel>,
    login: Option<MetadataValue<Ascii>>,
}

impl Nodes {
    /// Of lists that each begin with their node.
    fn of(servers: &[String], login: Option<MetadataValue<Ascii>>) -> Result<Self> {
        let first = servers.iter().filter_map(|it| it.split(',').next());
        let channels = first.map(|address| {
            let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
            Ok(endpoint
                .connect_timeout(Duration::from_secs(2))
                .connect_lazy())
        });
        let channels: VecDeque<_> = channels.collect::<Result<_>>()?;
        ensure!(!channels.is_empty(), "no servers");
        Ok(Self { channels, login })
    }

    fn client(&self) -> MessagingServiceClient<Channel> {
        let channel = self.channels.front().expect("there is a first node");
        MessagingServiceClient::new(channel.clone())
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        if let Some(login) = &self.login {
            request
                .metadata_mut()
                .insert("authorization", login.clone());
        }
        request
    }

    fn turn(&mut self) {
        self.channels.rotate_left(1);
    }

    async fn next(&mut self) {
        self.turn();
        tokio::time::sleep(AGAIN_AFTER).await;
    }

    /// Publishes once at one node. `None`: no answer, or one that leaves it open; each message's success otherwise.
    async fn publish(&self, batch: &v1::PublishBatch) -> Option<Vec<bool>> {
        let mut request = self.request(v1::PublishRequest {
            batch: Some(batch.clone()),
            ..v1::PublishRequest::default()
        });
        request.set_timeout(CALL_WITHIN);
        let answer = self.client().publish(request).await.ok()?.into_inner();
        let whole = answer.results.len() == batch.entries.len();
        whole.then(|| answer.results.iter().map(|it| it.error.is_none()).collect())
    }
}

fn entry(queue: &str, id: MessageId) -> v1::PublishEntry {
    v1::PublishEntry {
        message: Some(v1::Message {
            body: payload::encode(id, BODY_BYTES).into(),
            ..v1::Message::default()
        }),
        routing_key: Some(queue.to_owned()),
        mandatory: true,
        ..v1::PublishEntry::default()
    }
}

impl Load {
    /// Every message is published until it is stored, and then once more: it comes out once.
    fn dedup_publisher(&mut self, mut nodes: Nodes, (lane, pause): (u32, Duration)) {
        let (recorder, shared, stop) = (
            self.recorder.clone(),
            self.shared.clone(),
            self.stop.clone(),
        );
        self.publishers.push(tokio::spawn(async move {
            let mut id = MessageId {
                publisher: lane << 25,
                counter: 0,
            };
            while !stop.load(Ordering::Relaxed) {
                id.counter += 1;
                recorder.record(Event::PublishInvoked(id));
                let mut keyed = entry(DEDUP, id);
                if let Some(message) = &mut keyed.message {
                    message.dedup_key = id.counter.to_string();
                }
                let batch = v1::PublishBatch {
                    entries: vec![keyed],
                    ..v1::PublishBatch::default()
                };
                for _ in 0..2 {
                    let begun = Instant::now();
                    while nodes.publish(&batch).await != Some(vec![true]) {
                        if begun.elapsed() > ANSWERED_WITHIN {
                            bail!("message {id:?} was not stored by any node");
                        }
                        nodes.next().await;
                    }
                    nodes.turn();
                }
                recorder.record(Event::PublishEnded(id, PublishOutcome::Confirmed));
                shared.confirm(id);
                tokio::time::sleep(pause).await;
            }
            Ok(())
        }));
    }

    /// Batches for two queues: asked once, since nothing tells a batch that was stored from one that is sent again. One whose outcome is
    /// unknown may come after later ones, which another node takes: they have publisher's numbers of their own.
    fn atomic_publisher(&mut self, mut nodes: Nodes, (lane, pause): (u32, Duration)) {
        let (recorder, shared, stop) = (
            self.recorder.clone(),
            self.shared.clone(),
            self.stop.clone(),
        );
        self.publishers.push(tokio::spawn(async move {
            let (mut counter, mut unknown) = (0, 0);
            while !stop.load(Ordering::Relaxed) {
                counter += 1;
                let ids = [0, 1].map(|queue| MessageId {
                    publisher: (lane << 25) + 2 * unknown + queue,
                    counter,
                });
                for id in ids {
                    recorder.record(Event::PublishInvoked(id));
                }
                let entries = ATOMIC.iter().zip(ids).map(|(queue, id)| entry(queue, id));
                let batch = v1::PublishBatch {
                    entries: entries.collect(),
                    atomic: true,
                    ..v1::PublishBatch::default()
                };
                let stored = nodes.publish(&batch).await;
                let (all, none) = (Some(vec![true; 2]), Some(vec![false; 2]));
                if stored != all && stored != none && stored.is_some() {
                    bail!("a part of batch {counter} was stored: {stored:?}");
                }
                // Refusals of single messages may hide an outcome that is unknown.
                let outcome = if stored == all {
                    PublishOutcome::Confirmed
                } else {
                    nodes.next().await;
                    unknown += 1;
                    PublishOutcome::Unknown
                };
                for id in ids {
                    recorder.record(Event::PublishEnded(id, outcome));
                    if outcome == PublishOutcome::Confirmed {
                        shared.confirm(id);
                    }
                }
                tokio::time::sleep(pause).await;
            }
            Ok(())
        }));
    }
}

/// Takes messages and acks each with a copy for the next queue: there, each comes out once.
async fn work(mut nodes: Nodes) -> Result<()> {
    loop {
        let request = nodes.request(v1::ReceiveRequest {
            queue: INPUT.to_owned(),
            max_messages: 10,
            wait: Some(duration(1)),
            ..v1::ReceiveRequest::default()
        });
        let Ok(taken) = nodes.client().receive(request).await else {
            nodes.next().await;
            continue;
        };
        for delivery in taken.into_inner().deliveries {
            let body = delivery.message.as_ref().map(|it| it.body.clone());
            let Some(id) = payload::decode(&body.unwrap_or_default()) else {
                bail!("a damaged message was delivered")
            };
            pass_on(&mut nodes, &delivery, id).await?;
        }
    }
}

async fn pass_on(nodes: &mut Nodes, delivery: &v1::Delivery, id: MessageId) -> Result<()> {
    let settlement = v1::Settlement {
        target: Some(Target::Receipt(delivery.receipt.clone())),
        action: Some(Action::Ack(v1::Ack {})),
        then_publish: vec![entry(OUTPUT, id)],
        ..v1::Settlement::default()
    };
    let begun = Instant::now();
    while begun.elapsed() < ANSWERED_WITHIN {
        let request = nodes.request(v1::SettleRequest {
            settlements: vec![settlement.clone()],
            ..v1::SettleRequest::default()
        });
        let answer = nodes.client().settle(request).await;
        let result = answer.ok().and_then(|it| it.into_inner().results.pop());
        match result.map(|it| it.outcome()) {
            Some(v1::SettleOutcome::Done) => return Ok(()),
            // It comes again, or somebody else has passed it on.
            Some(
                v1::SettleOutcome::Expired
                | v1::SettleOutcome::NotOwner
                | v1::SettleOutcome::AlreadySettled,
            ) => return Ok(()),
            Some(
                v1::SettleOutcome::RetryLater
                | v1::SettleOutcome::Refused
                | v1::SettleOutcome::Unspecified,
            )
            | None => nodes.next().await,
        }
    }
    bail!("no node said what became of {id:?}")
}

fn duration(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}
