//! A publisher and a consumer that run beside a test, on a queue of their own, and must notice nothing of what it does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinHandle;
use warren_client::{
    Connection, ConnectionOptions, ConsumerOptions, Message, PublisherOptions, QueueSpec, Target,
    parse_addresses,
};

const QUEUE: &str = "bystander";

/// Runs until it is asked what it saw.
pub struct Bystander {
    stop: Arc<AtomicBool>,
    publisher: JoinHandle<u64>,
    consumer: JoinHandle<(BTreeSet<u64>, u64)>,
}

impl Bystander {
    /// Declares its queue and begins.
    ///
    /// # Panics
    /// If it cannot begin.
    pub async fn start(servers: &str) -> Self {
        let addresses = parse_addresses(servers).unwrap();
        let connection = Connection::new(&addresses, ConnectionOptions::default()).unwrap();
        connection
            .declare_queue(&QueueSpec::durable(QUEUE))
            .await
            .unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let publisher = tokio::spawn(publish(connection.clone(), stop.clone()));
        let consumer = tokio::spawn(consume(connection));
        Self {
            stop,
            publisher,
            consumer,
        }
    }

    /// Ends it: everything was confirmed, and came out once; no stream was made anew.
    ///
    /// # Panics
    /// If it noticed anything.
    pub async fn saw_nothing(self) {
        self.stop.store(true, Ordering::Relaxed);
        let published = self.publisher.await.expect("the publisher saw no error");
        let (seen, reconnects) = self.consumer.await.expect("the consumer saw no error");
        assert!(published > 0, "it published nothing");
        assert_eq!(seen, (0..published).collect());
        assert_eq!(reconnects, 0, "its stream was made anew");
    }
}

async fn publish(connection: Connection, stop: Arc<AtomicBool>) -> u64 {
    let publisher = connection.publisher(PublisherOptions::default());
    let target = Target::queue(QUEUE);
    let mut count = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        let confirm = publisher.publish(&target, Message::new(count.to_string()));
        let outcome = confirm.await.unwrap().await.unwrap();
        assert!(outcome.is_success(), "{outcome:?}");
        count += 1;
    }
    let end = publisher.publish(&target, Message::new("end"));
    assert!(end.await.unwrap().await.unwrap().is_success());
    assert_eq!(publisher.stats().reconnects, 0, "its stream was made anew");
    count
}

async fn consume(connection: Connection) -> (BTreeSet<u64>, u64) {
    let options = ConsumerOptions {
        prefetch: 10,
        ..ConsumerOptions::queue(QUEUE)
    };
    let mut consumer = connection.consume(options).await.unwrap();
    let mut seen = BTreeSet::new();
    loop {
        let delivery = consumer.next().await.unwrap().unwrap();
        assert!(!delivery.redelivered);
        let body = String::from_utf8(delivery.message.body.to_vec()).unwrap();
        let settled = consumer.ack(&delivery).await.unwrap();
        if body == "end" {
            settled.await.unwrap();
            return (seen, consumer.reconnects());
        }
        assert!(seen.insert(body.parse().unwrap()), "{body} came twice");
    }
}
