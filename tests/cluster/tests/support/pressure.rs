//! What tests of clients that take or give too much share: three nodes and their memory, queues by where they are led, and pairs of
//! clients that behave well and must go on. Not here: the clients that do not (`bulk`), the tests.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use warren_client::{Connection, ConnectionOptions, Queue, QueueSpec, QueueStats, parse_addresses};
use warren_testkit::memory::Memory;
use warren_testkit::process::{Cluster, NodeNumber, Options};

use super::amqp::{Amqp, Heard};
use super::bulk::{BODY_BYTES, Confirms, Flood, Frames, Template};

/// Where the clients are.
pub(crate) const NODE: NodeNumber = NodeNumber(1);
/// Nothing that goes on takes longer, however busy the machine.
pub(crate) const ALIVE_WITHIN: Duration = Duration::from_secs(30);
/// What a connection may have unconfirmed (`connection_bytes`), of bodies.
pub(crate) const ADMITTED_BYTES: u64 = 64 << 20;
/// What the sockets of one connection may hold on both sides, by Linux's defaults, and what is read at once.
pub(crate) const SOCKET_BYTES: u64 = 40 << 20;
const ROUNDS: u64 = 200;
const DELIVERED: Heard = Heard::Method {
    class: 60,
    method: 60,
};
const CONFIRMED: Heard = Heard::Method {
    class: 60,
    method: 80,
};

/// Three nodes, watched.
pub(crate) struct World {
    pub(crate) memory: Memory,
    connection: Connection,
    runtime: Runtime,
    pub(crate) cluster: Cluster,
}

impl World {
    pub(crate) fn start() -> Self {
        let cluster = Cluster::start(Options::default()).unwrap();
        let runtime = Runtime::new().unwrap();
        let servers = parse_addresses(&cluster.grpc_address(NODE)).unwrap();
        let connection = {
            let _inside = runtime.enter();
            Connection::new(&servers, ConnectionOptions::default()).unwrap()
        };
        Self {
            memory: Memory::watch(&cluster),
            connection,
            runtime,
            cluster,
        }
    }

    pub(crate) fn amqp(&self) -> String {
        self.cluster.amqp_address(NODE)
    }

    /// A queue whose shard is led by a node, and is or is not a certain one.
    pub(crate) fn queue(&self, name: &str, is_right: impl Fn(u64, Option<u64>) -> bool) -> Queue {
        for number in 0..400 {
            let spec = QueueSpec::durable(&format!("{name}-{number}"));
            let (queue, leader) = self.runtime.block_on(async {
                let queue = self.connection.declare_queue(&spec).await.unwrap();
                let leader = self.connection.cluster().await.unwrap().leader_of(&queue);
                (queue, leader)
            });
            if is_right(queue.shard, leader) {
                return queue;
            }
        }
        panic!("no queue is placed so");
    }

    /// `None`: nobody knows now.
    pub(crate) fn stats(&self, queue: &Queue) -> Option<QueueStats> {
        let names = [queue.name.clone()];
        let asked = self.connection.queue_stats("/", &names);
        self.runtime.block_on(asked).ok()?.pop()
    }

    /// Messages that the queue has, of whatever state.
    pub(crate) fn stored(&self, queue: &Queue) -> u64 {
        self.stats(queue).map_or(0, |it| it.ready + it.unacked)
    }

    pub(crate) fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + ALIVE_WITHIN;
        while !is_so() {
            assert!(Instant::now() < deadline, "not in time: {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Publishes so many messages, numbered from a number on, and waits for their confirms.
    pub(crate) fn fill(&self, queue: &Queue, from: u64, messages: u64) {
        let mut client = Amqp::guest(TcpStream::connect(self.amqp()).unwrap(), ALIVE_WITHIN);
        client.confirm_select(1);
        let socket = client.into_socket();
        let mut flood = Flood::new(&socket, Template::new("", &queue.name, BODY_BYTES, true), 1)
            .numbered_from(from);
        let (mut frames, mut confirms) = (Frames::new(&socket), Confirms::default());
        let mut last = Instant::now();
        while confirms.count < messages {
            let is_idle = !flood.write(messages) || flood.messages == messages;
            let before = confirms.count;
            frames.confirms(&mut confirms);
            if confirms.count > before {
                last = Instant::now();
            } else if is_idle {
                assert!(last.elapsed() < ALIVE_WITHIN, "no confirms");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        assert!((0..messages).all(|it| confirms.is_acked(it)));
    }

    /// A pair on a queue, which has done its first rounds.
    pub(crate) fn pair(&self, queue: &Queue) -> Pair {
        let pair = Pair::start(&self.amqp(), &queue.name);
        pair.goes_on();
        pair
    }
}

/// A client that publishes one message, waits for its confirm and for the message, and so on.
pub(crate) struct Pair {
    name: String,
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    longest_ms: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Pair {
    fn start(address: &str, queue: &str) -> Self {
        let mut client = Amqp::guest(TcpStream::connect(address).unwrap(), ALIVE_WITHIN);
        client.confirm_select(1);
        client.consume_with(1, queue, true);
        assert_eq!(
            client.heard(),
            Heard::Method {
                class: 60,
                method: 21
            }
        );
        let (stop, rounds, longest_ms) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicU64::new(0)),
        );
        let (name, stopped, done, longest) = (
            queue.to_owned(),
            Arc::clone(&stop),
            Arc::clone(&rounds),
            Arc::clone(&longest_ms),
        );
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let began = Instant::now();
                client.publish(1, "", &name);
                let mut heard = [client.heard(), client.heard()];
                if heard[0] == DELIVERED {
                    heard.reverse();
                }
                assert_eq!(heard, [CONFIRMED, DELIVERED]);
                let ms = u64::try_from(began.elapsed().as_millis()).unwrap();
                longest.fetch_max(ms, Ordering::Relaxed);
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self {
            name: queue.to_owned(),
            stop,
            rounds,
            longest_ms,
            thread: Some(thread),
        }
    }

    /// The longest round since `begin`.
    pub(crate) fn longest(&self) -> Duration {
        Duration::from_millis(self.longest_ms.load(Ordering::Relaxed))
    }

    /// Rounds so far.
    pub(crate) fn begin(&self) -> u64 {
        self.longest_ms.store(0, Ordering::Relaxed);
        self.rounds()
    }

    pub(crate) fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Relaxed)
    }

    /// It does as many rounds as before anybody disturbed it.
    pub(crate) fn goes_on(&self) {
        let (from, began) = (self.begin(), Instant::now());
        while self.rounds() < from + ROUNDS {
            let alive = self.thread.as_ref().is_some_and(|it| !it.is_finished());
            assert!(
                alive && began.elapsed() < ALIVE_WITHIN,
                "{} stands still",
                self.name
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        println!(
            "{}: {ROUNDS} rounds in {:?}, the longest {:?}",
            self.name,
            began.elapsed(),
            self.longest()
        );
    }

    /// Ends it; it has seen nothing wrong.
    pub(crate) fn end(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it ends once");
        thread.join().expect("the pair saw nothing wrong");
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
