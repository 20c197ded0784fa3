//! Streams of one node, frame by frame. Not here: unary calls (`calls`).

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use warren_proto::v1;
use warren_proto::v1::{
    consume_request::Frame as Consume, consume_response::Frame as Consumed,
    publish_stream_request::Frame as Publish, publish_stream_response::Frame as Published,
};

use crate::calls::{Call, reason_of};

const WITHIN: Duration = Duration::from_secs(30);

/// How a stream ended, as `reason_of` tells it; `None`: without an error.
pub type Ended = Option<String>;

/// A `PublishStream`.
pub struct Publishing {
    out: mpsc::Sender<v1::PublishStreamRequest>,
    answers: Streaming<v1::PublishStreamResponse>,
}

/// A `Consume` stream.
pub struct Consuming {
    out: mpsc::Sender<v1::ConsumeRequest>,
    answers: Streaming<v1::ConsumeResponse>,
}

impl Publishing {
    /// Begins with any frame; what comes of it is the test's business.
    ///
    /// # Panics
    /// If the node cannot be reached.
    pub async fn begin(call: &Call, first: Option<Publish>) -> Self {
        let (out, requests) = mpsc::channel(16);
        out.send(v1::PublishStreamRequest { frame: first })
            .await
            .unwrap();
        let mut client = call.messaging();
        let stream = client.publish_stream(ReceiverStream::new(requests));
        Self {
            out,
            answers: stream.await.unwrap().into_inner(),
        }
    }

    /// An open stream.
    ///
    /// # Panics
    /// If it is not opened.
    pub async fn open(call: &Call, open: v1::PublishOpen) -> (Self, v1::Opened) {
        let mut stream = Self::begin(call, Some(Publish::Open(open))).await;
        match stream.next().await {
            Ok(Published::Opened(opened)) => (stream, opened),
            other => panic!("not opened: {other:?}"),
        }
    }

    /// # Panics
    /// If the stream has ended.
    pub async fn send(&self, frame: Publish) {
        let frame = v1::PublishStreamRequest { frame: Some(frame) };
        self.out.send(frame).await.unwrap();
    }

    /// # Errors
    /// How the stream ended.
    ///
    /// # Panics
    /// If nothing comes.
    pub async fn next(&mut self) -> Result<Published, Ended> {
        next(&mut self.answers, |it| it.frame).await
    }

    /// The results of one batch, each entry's in its place; what `all_committed` covers is filled in.
    ///
    /// # Panics
    /// If the stream ends before.
    pub async fn results(&mut self, batch_ref: u64, count: usize) -> Vec<v1::PublishResult> {
        let mut found: Vec<Option<v1::PublishResult>> = vec![None; count];
        while found.iter().any(Option::is_none) {
            let Published::Confirms(confirms) = self.next().await.unwrap() else {
                continue;
            };
            for confirm in confirms.batches {
                if confirm.batch_ref != batch_ref {
                    continue;
                }
                for result in confirm.results {
                    let index = result.index as usize;
                    assert!(found[index].replace(result).is_none(), "a second result");
                }
                if confirm.all_committed {
                    for (index, place) in (0..).zip(&mut found) {
                        place.get_or_insert_with(|| v1::PublishResult {
                            index,
                            outcome: v1::PublishOutcome::Committed.into(),
                            ..v1::PublishResult::default()
                        });
                    }
                }
            }
        }
        found.into_iter().flatten().collect()
    }

    /// What ends the stream, whatever comes before.
    pub async fn end(mut self) -> Ended {
        loop {
            if let Err(ended) = self.next().await {
                return ended;
            }
        }
    }
}

impl Consuming {
    /// Begins with any frame; what comes of it is the test's business.
    ///
    /// # Panics
    /// If the node cannot be reached.
    pub async fn begin(call: &Call, first: Option<Consume>) -> Self {
        let (out, requests) = mpsc::channel(16);
        out.send(v1::ConsumeRequest { frame: first }).await.unwrap();
        let mut client = call.messaging();
        let stream = client.consume(ReceiverStream::new(requests));
        Self {
            out,
            answers: stream.await.unwrap().into_inner(),
        }
    }

    /// An open stream.
    ///
    /// # Panics
    /// If it is not opened.
    pub async fn open(call: &Call, open: v1::ConsumeOpen) -> (Self, v1::Opened) {
        let mut stream = Self::begin(call, Some(Consume::Open(open))).await;
        match stream.next().await {
            Ok(Consumed::Opened(opened)) => (stream, opened),
            other => panic!("not opened: {other:?}"),
        }
    }

    /// Breaks the stream without a word.
    pub fn abandon(self) {
        // The answers first: that resets the stream, where closing the way out would say that all is well.
        drop(self.answers);
        drop(self.out);
    }

    /// Says that nothing more comes, and waits for the end.
    pub async fn close(self) -> Ended {
        let Self { out, mut answers } = self;
        drop(out);
        loop {
            if let Err(ended) = next(&mut answers, |it| it.frame).await {
                return ended;
            }
        }
    }

    /// What opening it with this frame ends with.
    pub async fn refused(call: &Call, open: v1::ConsumeOpen) -> Ended {
        Self::begin(call, Some(Consume::Open(open)))
            .await
            .end()
            .await
    }

    /// # Panics
    /// If the stream has ended.
    pub async fn send(&self, frame: Consume) {
        let frame = v1::ConsumeRequest { frame: Some(frame) };
        self.out.send(frame).await.unwrap();
    }

    /// # Errors
    /// How the stream ended.
    ///
    /// # Panics
    /// If nothing comes.
    pub async fn next(&mut self) -> Result<Consumed, Ended> {
        next(&mut self.answers, |it| it.frame).await
    }

    /// The next deliveries, `count` of them.
    ///
    /// # Panics
    /// If the stream ends before.
    pub async fn deliveries(&mut self, count: usize) -> Vec<v1::Delivery> {
        let mut found = Vec::new();
        while found.len() < count {
            if let Consumed::Deliveries(more) = self.next().await.unwrap() {
                found.extend(more.deliveries);
            }
        }
        found
    }

    /// The results of one batch of settlements.
    ///
    /// # Panics
    /// If the stream ends before.
    pub async fn settled(&mut self, settle_ref: u64) -> v1::SettleResults {
        loop {
            if let Consumed::Settled(results) = self.next().await.unwrap()
                && results.settle_ref == settle_ref
            {
                return results;
            }
        }
    }

    /// What ends the stream, whatever comes before.
    pub async fn end(mut self) -> Ended {
        loop {
            if let Err(ended) = self.next().await {
                return ended;
            }
        }
    }
}

async fn next<T, F>(
    answers: &mut Streaming<T>,
    frame: impl Fn(T) -> Option<F>,
) -> Result<F, Ended> {
    let answer: Result<Option<T>, Status> = timeout(WITHIN, answers.message())
        .await
        .expect("a frame or an end within 30 s");
    match answer {
        Ok(Some(answer)) => Ok(frame(answer).expect("a frame is not empty")),
        Ok(None) => Err(None),
        Err(status) => Err(Some(reason_of(&status))),
    }
}
