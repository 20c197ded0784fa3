//! What a connection hands to the shards, in order. Handing over may wait for a shard; the connection goes on meanwhile.
//! Not here: a bound of its own. Admission bounds the publishes, what was delivered bounds the settles, channels the rest.

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;

use futures::FutureExt;
use warren_amqp::ChannelId;
use warren_shard::api::{
    ConsumerSpec, PublishItem, RequestToken, SettleSpec, TogetherSpec, Unavailable,
};
use warren_shard::{Credit, ReturnKind, Session};
use warren_types::{ConsumerId, ShardId};

#[derive(Debug)]
pub(super) enum Op {
    Publish {
        shard: ShardId,
        items: Vec<PublishItem>,
    },
    /// All of them are stored, or none.
    PublishTogether {
        shard: ShardId,
        items: Vec<PublishItem>,
    },
    Settle {
        spec: SettleSpec,
        token: RequestToken,
    },
    /// All of it is done, or nothing.
    SettleTogether {
        spec: TogetherSpec,
        token: RequestToken,
    },
    Credit {
        consumer: ConsumerId,
        add: Credit,
    },
    Recall(ConsumerId),
    Detach {
        consumer: ConsumerId,
        returns: Option<ReturnKind>,
    },
    /// Of a channel, by its number and its opening.
    Attach {
        channel: ChannelId,
        slot: u32,
        spec: Box<ConsumerSpec>,
    },
}

/// What came of handing over.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// Publishes that were not taken.
    pub(super) refused: Vec<(RequestToken, Unavailable)>,
    /// Settles that were not taken.
    pub(super) unsettled: Vec<RequestToken>,
    pub(super) attached: Option<AttachSent>,
}

#[derive(Debug)]
pub(super) struct AttachSent {
    pub(super) channel: ChannelId,
    pub(super) slot: u32,
    pub(super) spec: Box<ConsumerSpec>,
    pub(super) result: Result<ConsumerId, Unavailable>,
}

pub(super) struct Pipeline {
    session: Arc<Session>,
    queued: VecDeque<Op>,
    under_way: Option<Pin<Box<dyn Future<Output = Sent> + Send>>>,
}

impl Pipeline {
    pub(super) fn new(session: Arc<Session>) -> Self {
        Self {
            session,
            queued: VecDeque::new(),
            under_way: None,
        }
    }

    pub(super) fn push(&mut self, op: Op) {
        self.queued.push_back(op);
    }

    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_none() && self.queued.is_empty()
    }

    /// Goes as far as it can without waiting.
    pub(super) fn advance(&mut self) -> Option<Sent> {
        self.begin();
        let sent = self.under_way.as_mut()?.now_or_never()?;
        self.under_way = None;
        Some(sent)
    }

    /// Waits until what is under way is handed over; for ever if nothing is.
    ///
    /// # Cancel safety
    /// Nothing is lost: the next call goes on where this one was.
    pub(super) async fn sent(&mut self) -> Sent {
        self.begin();
        let Some(under_way) = &mut self.under_way else {
            return pending().await;
        };
        let sent = under_way.await;
        self.under_way = None;
        sent
    }

    /// Up to the first attach: its answer must meet a session that knows its consumer.
    fn begin(&mut self) {
        if self.under_way.is_some() || self.queued.is_empty() {
            return;
        }
        let attach = self
            .queued
            .iter()
            .position(|op| matches!(op, Op::Attach { .. }));
        let ops: Vec<Op> = match attach {
            Some(at) => self.queued.drain(..=at).collect(),
            None => self.queued.drain(..).collect(),
        };
        self.under_way = Some(Box::pin(hand_over(Arc::clone(&self.session), ops)));
    }
}

async fn hand_over(session: Arc<Session>, ops: Vec<Op>) -> Sent {
    let mut sent = Sent::default();
    for op in ops {
        // What fails here fails because the node stops: the leaders hear of it by themselves.
        let _stopping = match op {
            Op::Publish { shard, items } => {
                let tokens: Vec<RequestToken> = items.iter().map(|item| item.token).collect();
                let taken = session.publish(shard, items, None).await;
                if let Err(why) = taken {
                    sent.refused
                        .extend(tokens.into_iter().map(|token| (token, why)));
                }
                taken
            }
            Op::PublishTogether { shard, items } => {
                let tokens: Vec<RequestToken> = items.iter().map(|item| item.token).collect();
                let taken = session.publish_together(shard, items, None).await;
                let refused = taken.err();
                let refused = refused.into_iter().flat_map(|why| {
                    let tokens = tokens.iter();
                    tokens.map(move |token| (*token, why))
                });
                sent.refused.extend(refused);
                taken
            }
            Op::Settle { spec, token } => {
                let taken = session.settle(spec, token).await;
                sent.unsettled.extend(taken.is_err().then_some(token));
                taken
            }
            Op::SettleTogether { spec, token } => {
                let taken = session.settle_together(spec, token).await;
                sent.unsettled.extend(taken.is_err().then_some(token));
                taken
            }
            Op::Credit { consumer, add } => session.credit(consumer, add).await,
            Op::Recall(consumer) => {
                // Bytes go round by themselves.
                let all = Credit {
                    messages: u64::MAX,
                    bytes: 0,
                };
                session.recall(consumer, all).await
            }
            Op::Detach { consumer, returns } => session.detach(consumer, returns).await,
            Op::Attach {
                channel,
                slot,
                spec,
            } => {
                let result = session.attach((*spec).clone()).await;
                let taken = result.map(|_| ());
                sent.attached = Some(AttachSent {
                    channel,
                    slot,
                    spec,
                    result,
                });
                taken
            }
        };
    }
    sent
}
