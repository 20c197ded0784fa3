//! What half of the worlds use: limits of queues, times of messages, timers, cancels. Not here: the rest of their life (`world`).

use std::sync::Arc;

use warren_queue::dispatch::io::Input;
use warren_queue::entry::{Cancel, Command};
use warren_types::{Position, PositionRange, QueueId, QueueSettings, RetryOn, ShardTime};

use crate::world::World;

impl World {
    pub(crate) fn draw_times(
        &mut self,
        count: usize,
    ) -> (Vec<Option<ShardTime>>, Vec<Option<ShardTime>>) {
        let (mut due, mut expiry) = (Vec::new(), Vec::new());
        if !self.features || self.random.one_in(2) {
            return (due, expiry);
        }
        let (scheduled, expires) = (self.random.one_in(2), self.random.one_in(2));
        for _ in 0..count {
            let later = self.random.one_in(2);
            let at = ShardTime(self.now + 1 + self.random.below(500));
            let at = (scheduled && later).then_some(at);
            let from = at.map_or(self.now, |it| it.0);
            let until = ShardTime(from + self.random.below(600));
            if scheduled {
                due.push(at);
            }
            if expires {
                expiry.push(self.random.one_in(2).then_some(until));
            }
        }
        (due, expiry)
    }

    /// Settings change.
    pub(crate) fn use_features(&mut self) {
        if !self.features {
            return;
        }
        let queue = self.queue();
        self.cancel(queue);
        if self.random.one_in(2) {
            let mut settings = QueueSettings {
                max_length: self.random.one_in(2).then_some(5),
                max_length_bytes: self.random.one_in(3).then_some(300),
                delivery_limit: self.random.one_in(2).then_some(2),
                ..self.plain_settings(queue)
            };
            if self.random.one_in(2) {
                settings.retry.on = RetryOn::All;
                settings.retry.min_ms = 40;
            }
            self.settings.insert(queue, Arc::new(settings));
            self.tell_settings(queue);
        }
    }

    /// A client takes some messages back, scheduled or not.
    fn cancel(&mut self, queue: QueueId) {
        let next = self.store.queue_stats(queue).map_or(1, |it| it.next.0);
        let first = Position(1 + self.random.below(next));
        let count = 1 + self.random.below(20);
        let ranges = vec![PositionRange { first, count }];
        self.pipeline
            .push_back(Command::Cancel(Cancel { queue, ranges }));
    }

    pub(crate) fn tell_settings(&mut self, queue: QueueId) {
        if let Some(settings) = self.settings.get(&queue).cloned() {
            self.step(Input::Settings { queue, settings });
        }
    }

    pub(crate) fn answer_look(&mut self) {
        if let Some((queue, up_to, read)) = self.looks.pop_front() {
            let due = read.unwrap_or_else(|| self.store.due(&self.rows, queue, up_to, 2));
            self.step(Input::Due(due));
        }
    }
}
