//! What clients did and saw during a fault run, in the order in which it was recorded. Not here: judging it (`checker`).

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

/// One message of one publisher on one queue. A client that publishes to several queues is a publisher for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageId {
    /// Which publisher; unique in a run.
    pub publisher: u32,
    /// Counts the publisher's messages, from 1 upwards.
    pub counter: u64,
}

/// Which consumer; unique in a run. A consumer that reconnects stays the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConsumerId(pub u32);

/// How a publish ended for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishOutcome {
    /// The broker confirmed it: from here on it must come out.
    Confirmed,
    /// The broker said no, finally: it must not come out.
    Refused,
    /// No answer, or one that leaves it open (connection lost, deadline): it may come out.
    Unknown,
}

/// One delivery as a consumer saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// Who got it.
    pub consumer: ConsumerId,
    /// What `payload::decode` said: none when the body is damaged.
    pub message: Option<MessageId>,
    /// The broker's flag.
    pub redelivered: bool,
}

/// One thing that a client did or saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Recorded before the first byte is sent; a resend of the same id is not a new event.
    PublishInvoked(MessageId),
    /// Recorded when the answer is known.
    PublishEnded(MessageId, PublishOutcome),
    /// Recorded when the consumer has the message.
    Delivered(Delivered),
    /// The broker said that this consumer's settle is committed.
    Settled(ConsumerId, MessageId),
}

/// Collects events from many clients; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Recorder {
    events: Arc<Mutex<Vec<Event>>>,
}

impl Recorder {
    /// Adds one event. Events of one client keep their order.
    pub fn record(&self, event: Event) {
        self.locked().push(event);
    }

    /// How many events there are.
    pub fn len(&self) -> usize {
        self.locked().len()
    }

    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A copy of all events so far.
    pub fn events(&self) -> Vec<Event> {
        self.locked().clone()
    }

    /// All events since it was last asked; they are the caller's then.
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.locked())
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Vec<Event>> {
        // A client that panicked while it held the lock left a whole vector: pushing does not tear.
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes one JSON object per event, to be looked at after a failed run.
///
/// # Errors
/// When `out` fails.
pub fn write_json_lines(events: &[Event], out: &mut impl Write) -> io::Result<()> {
    for event in events {
        writeln!(out, "{}", to_json(event))?;
    }
    Ok(())
}

fn to_json(event: &Event) -> Value {
    match event {
        Event::PublishInvoked(id) => json!({"event": "publish_invoked", "message": id_text(*id)}),
        Event::PublishEnded(id, outcome) => {
            let outcome = match outcome {
                PublishOutcome::Confirmed => "confirmed",
                PublishOutcome::Refused => "refused",
                PublishOutcome::Unknown => "unknown",
            };
            json!({"event": outcome, "message": id_text(*id)})
        }
        Event::Delivered(it) => json!({
            "event": "delivered",
            "message": it.message.map(id_text),
            "consumer": it.consumer.0,
            "redelivered": it.redelivered,
        }),
        Event::Settled(consumer, id) => {
            json!({"event": "settled", "message": id_text(*id), "consumer": consumer.0})
        }
    }
}

fn id_text(id: MessageId) -> String {
    format!("{}:{}", id.publisher, id.counter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorder_keeps_what_all_clones_record() {
        let recorder = Recorder::default();
        let id = MessageId {
            publisher: 1,
            counter: 2,
        };
        recorder.clone().record(Event::PublishInvoked(id));
        recorder.record(Event::PublishEnded(id, PublishOutcome::Unknown));
        assert_eq!(recorder.len(), 2);
        let mut text = Vec::new();
        write_json_lines(&recorder.events(), &mut text).unwrap();
        let lines: Vec<Value> = String::from_utf8(text)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(
            lines[0],
            json!({"event": "publish_invoked", "message": "1:2"})
        );
        assert_eq!(lines[1]["event"], "unknown");
        assert_eq!(recorder.take().len(), 2);
        assert!(recorder.is_empty());
    }
}
