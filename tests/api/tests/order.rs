//! One publish stream, queues of two shards, and one of these shards takes nothing for a while: the other goes on, and what was refused comes
//! again before what was sent after it. Not here: what is done once (`publish`, `dedup`), publishers that are too many (`pressure`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::time::{Duration, Instant};

use warren_api::outputs::all_of;
use warren_api::{Call, FIRST, Publishing, in_band, message, runtime};
use warren_proto::v1;
use warren_proto::v1::publish_stream_request::Frame;
use warren_testkit::process::{Cluster, NodeNumber, Options};

/// Has the only copy of the shard that is to take nothing, and none of the other's.
const ALONE: NodeNumber = NodeNumber(3);
const NOT_READY: &str = "Unavailable NOT_READY";
const NO_QUORUM: &str = "Unavailable NO_QUORUM";
const DISK_LOW: &str = "ResourceExhausted DISK_LOW";
const COMMITTED: &str = "Committed";
const WITHIN: Duration = Duration::from_secs(60);

/// A stream of a producer, at a node that goes on.
struct Stream {
    publishing: Publishing,
    batches: u64,
}

impl Stream {
    async fn open(call: &Call) -> Self {
        let open = v1::PublishOpen {
            producer: Some(v1::Producer {
                producer_id: "p".to_owned(),
                producer_epoch: 1,
            }),
            ..v1::PublishOpen::default()
        };
        let (publishing, _) = Publishing::open(call, open).await;
        Self {
            publishing,
            batches: 0,
        }
    }

    /// Publishes messages, each named by its number, to these queues; what became of each.
    async fn publish(&mut self, messages: &[(u64, &[&str])]) -> Vec<String> {
        let entries = messages.iter().map(|(sequence, queues)| v1::PublishEntry {
            message: Some(message(&sequence.to_string())),
            routing_key: Some(queues[0].to_owned()),
            cc: queues[1..].iter().map(|it| (*it).to_owned()).collect(),
            mandatory: true,
            sequence: *sequence,
            ..v1::PublishEntry::default()
        });
        self.batches += 1;
        let batch = v1::PublishBatch {
            batch_ref: self.batches,
            entries: entries.collect(),
            ..v1::PublishBatch::default()
        };
        self.publishing.send(Frame::Batch(batch)).await;
        let results = self.publishing.results(self.batches, messages.len()).await;
        results.iter().map(said).collect()
    }

    async fn one(&mut self, sequence: u64, queues: &[&str]) -> String {
        self.publish(&[(sequence, queues)]).await.swap_remove(0)
    }
}

fn said(result: &v1::PublishResult) -> String {
    if result.outcome() == v1::PublishOutcome::Refused {
        in_band(result.error.as_ref())
    } else {
        format!("{:?}", result.outcome())
    }
}

/// Two queues: the one whose shard has its only copy on [`ALONE`], and one whose shard has none there.
async fn queues(cluster: &Cluster, call: &Call) -> (String, String) {
    let stops = call.declare("q-0").await.unwrap();
    let mut number = 1;
    let goes_on = loop {
        let queue = call.declare(&format!("q-{number}")).await.unwrap();
        if queue.shard != stops.shard {
            break queue;
        }
        number += 1;
    };
    for (queue, nodes) in [(&stops.name, &["1", "2"][..]), (&goes_on.name, &["3"][..])] {
        for node in nodes {
            let remove = ["cluster", "remove-replica", node, "--queue", queue];
            cluster.run(&remove).unwrap();
        }
    }
    (stops.name, goes_on.name)
}

/// While the shard of `stops` refuses with `why`: sends in every way that must be told apart.
async fn refused(stream: &mut Stream, from: u64, stops: &str, goes_on: &str, why: &str) {
    let first: [(u64, &[&str]); 2] = [(from, &[stops]), (from + 1, &[stops])];
    assert_eq!(stream.publish(&first).await, [why, why]);
    assert_eq!(stream.one(from + 2, &[goes_on]).await, COMMITTED);
    // A publisher that does not care about what was refused, and sends on.
    let later = stream.one(from + 3, &[stops]).await;
    assert!([NOT_READY, why].contains(&later.as_str()), "{later}");
    assert_eq!(stream.one(from + 4, &[goes_on]).await, COMMITTED);
    // For both: it waits, and what follows it in either waits for it.
    let both = stream.one(from + 5, &[stops, goes_on]).await;
    assert!([NOT_READY, why].contains(&both.as_str()), "{both}");
    assert_eq!(stream.one(from + 6, &[goes_on]).await, NOT_READY);
}

/// The shard comes back: what was refused is taken in its order alone, and the rest follows.
async fn comes_again(stream: &mut Stream, from: u64, stops: &str, goes_on: &str, why: &str) {
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < WITHIN, "the shard does not come back");
        for later in [from + 1, from + 3] {
            let told = stream.one(later, &[stops]).await;
            assert!([NOT_READY, why].contains(&told.as_str()), "{told}");
        }
        let told = stream.one(from, &[stops]).await;
        if told == COMMITTED {
            break;
        }
        assert!([NOT_READY, why].contains(&told.as_str()), "{told}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // It takes what comes now.
    assert_eq!(stream.one(from + 3, &[stops]).await, NOT_READY);
    let rest: [(u64, &[&str]); 4] = [
        (from + 1, &[stops]),
        (from + 3, &[stops]),
        (from + 5, &[stops, goes_on]),
        (from + 6, &[goes_on]),
    ];
    assert_eq!(stream.publish(&rest).await, [COMMITTED; 4]);
}

#[test]
fn shard_that_takes_nothing_stops_what_goes_there_and_keeps_its_order() {
    let mut cluster = Cluster::start(Options::default()).unwrap();
    runtime(async {
        let call = Call::to(&cluster.grpc_address(FIRST));
        let (stops, goes_on) = queues(&cluster, &call).await;
        let mut stream = Stream::open(&call).await;
        for queue in [&stops, &goes_on] {
            call.stats(queue).await;
        }
        cluster.kill(ALONE).unwrap();
        refused(&mut stream, 1, &stops, &goes_on, NO_QUORUM).await;
        cluster.spawn(ALONE).unwrap();
        comes_again(&mut stream, 1, &stops, &goes_on, NO_QUORUM).await;

        let number = ALONE.0.to_string();
        let level = ["cluster", "watermarks", &number, "--disk-free"];
        cluster.run(&[&level[..], &["100%"]].concat()).unwrap();
        let began = Instant::now();
        let mut next = 11;
        while stream.one(next, &[&stops]).await == COMMITTED {
            assert!(began.elapsed() < WITHIN, "the level does not count");
            next += 1;
        }
        refused(&mut stream, next, &stops, &goes_on, DISK_LOW).await;
        cluster.run(&[&level[..], &["1 MiB"]].concat()).unwrap();
        comes_again(&mut stream, next, &stops, &goes_on, DISK_LOW).await;

        let numbers = |from: u64, offsets: &[u64]| {
            let each = offsets.iter().map(|it| (from + it).to_string());
            each.collect::<Vec<_>>()
        };
        let (first, second) = ([0, 1, 3, 5], [2, 4, 5, 6]);
        let mut expected = numbers(1, &first);
        expected.extend((11..next).map(|it| it.to_string()));
        expected.extend(numbers(next, &first));
        assert_eq!(all_of(&call, &stops).await, expected);
        let expected = [numbers(1, &second), numbers(next, &second)].concat();
        assert_eq!(all_of(&call, &goes_on).await, expected);
    });
}
