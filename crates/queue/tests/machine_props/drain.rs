//! The end of a world: quiet returns, and nothing may be left. Not here: its life (`world`).

use warren_queue::dispatch::io::{ConsumerKey, Input};
use warren_types::{ConsumerId, NodeId, QueueId, ShardTime};

use crate::sessions::{Asked, Link, Session};
use crate::world::{NODES, QUEUES, World};

impl World {
    /// Quiet returns: everybody keeps acking, and nothing may be left.
    pub(crate) fn drain(&mut self) {
        for node in 1..=NODES {
            self.step(Input::NodeBack { node: NodeId(node) });
            self.report(NodeId(node));
            self.step(Input::NodeReported { node: NodeId(node) });
        }
        while self.sessions.len() < 9 {
            let before = self.sessions.len();
            self.new_session();
            if self.sessions.len() == before {
                break;
            }
        }
        for queue in 1..=QUEUES {
            self.drain_session(QueueId(queue));
        }
        self.lease = true;
        for _ in 0..3_000 {
            self.now += 100;
            self.newborn.clear();
            let now = ShardTime(self.now);
            self.step(Input::Clock { now, lease: true });
            self.commit_some();
            self.answer_load();
            let keys: Vec<ConsumerKey> = self.sessions.keys().copied().collect();
            for key in keys {
                let session = self.sessions.get_mut(&key).unwrap();
                if session.link != Link::Attached || session.held.is_empty() {
                    continue;
                }
                let (queue, items) = (session.queue, session.take_some(&mut self.random));
                let back = None;
                if !items.is_empty() {
                    self.ask(Asked {
                        key,
                        queue,
                        items,
                        back,
                    });
                }
            }
        }
        for queue in 1..=QUEUES {
            let queue = QueueId(queue);
            let stored = self.store.queue_stats(queue).unwrap();
            // What is parked stays, and nothing else.
            let parked: u64 = stored.levels.iter().map(|it| it.parked).sum();
            let live = stored.live - parked;
            let stats = self.dispatch.queue_stats(queue).unwrap();
            assert_eq!(
                (live, stats.ready, stats.unacked),
                (0, 0, 0),
                "stuck in {queue}"
            );
        }
        assert!(self.asked.is_empty(), "never answered: {:?}", self.asked);
        let together = &self.together;
        assert!(together.is_empty(), "never answered: {together:?}");
    }

    fn drain_session(&mut self, queue: QueueId) {
        self.next_id += 1;
        let key = ConsumerKey {
            node: NodeId(1),
            consumer: ConsumerId(self.next_id),
        };
        let session = Session::new(key, queue, 40);
        self.sessions.insert(key, session);
        self.attach(key);
    }
}
