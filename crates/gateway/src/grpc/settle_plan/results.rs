//! The results of batches of settlements, as they come back. Pure. Not here: what is asked (`settle_plan`).

use std::collections::BTreeMap;

use warren_proto::v1;
use warren_shard::api::{RequestToken, Target, Unavailable};
use warren_shard::{Held, SettleResult};
use warren_types::Position;

use super::{Ask, AskItem, Ends, result_of, retry_later};
use crate::grpc::held::HeldDelivery;
use crate::grpc::outputs::Promised;

#[derive(Debug)]
struct Batch {
    settle_ref: u64,
    asks_left: usize,
    /// All but those that were done.
    results: Vec<v1::SettleResult>,
}

/// An ask without a result.
#[derive(Debug)]
struct Asked {
    batch: u64,
    items: Vec<AskItem>,
    target: Target,
    /// Of an ask with messages.
    outputs: Option<Promised>,
    ends: Ends,
}

/// What the result of an ask means for its session.
#[derive(Debug, Default)]
pub(in crate::grpc) struct Answered {
    /// Its settles that have their results; 0 = nothing was done.
    pub(in crate::grpc) items: usize,
    /// Deliveries that were held until now, and are no more: they had outputs.
    pub(in crate::grpc) freed: Vec<HeldDelivery>,
    /// The same, for leases.
    pub(in crate::grpc) released: Option<(Target, Vec<Held>)>,
    /// Nothing was done: they are held still.
    pub(in crate::grpc) kept: Vec<HeldDelivery>,
}

/// The batches that wait for results.
#[derive(Debug, Default)]
pub(in crate::grpc) struct SettleResults {
    batches: BTreeMap<u64, Batch>,
    asks: BTreeMap<RequestToken, Asked>,
    last: u64,
    items: usize,
}

impl SettleResults {
    /// Deliveries without a result.
    pub(in crate::grpc) fn unanswered(&self) -> usize {
        self.items
    }

    pub(in crate::grpc) fn is_idle(&self) -> bool {
        self.batches.is_empty()
    }

    /// Opens a batch with what is known of it and the asks that follow: their tokens, in order.
    pub(in crate::grpc) fn open(
        &mut self,
        settle_ref: u64,
        results: Vec<v1::SettleResult>,
        asks: &mut [Ask],
        mut token: impl FnMut() -> RequestToken,
    ) -> Vec<RequestToken> {
        self.last += 1;
        self.batches.insert(
            self.last,
            Batch {
                settle_ref,
                asks_left: asks.len(),
                results,
            },
        );
        let mut tokens = Vec::with_capacity(asks.len());
        for ask in asks {
            let token = token();
            self.items += ask.items.len();
            let asked = Asked {
                batch: self.last,
                items: ask.items.clone(),
                target: ask.target,
                outputs: ask
                    .outputs
                    .as_mut()
                    .map(|it| it.promised.take().unwrap_or(Promised::Pending)),
                ends: ask.ends,
            };
            self.asks.insert(token, asked);
            tokens.push(token);
        }
        tokens
    }

    /// A batch that waits for nothing.
    pub(in crate::grpc) fn take_done(&mut self) -> Option<v1::SettleResults> {
        // In the order they came; one that waits does not hold up the others.
        let done = *self
            .batches
            .iter()
            .find(|(_, batch)| batch.asks_left == 0)?
            .0;
        let batch = self.batches.remove(&done)?;
        Some(v1::SettleResults {
            settle_ref: batch.settle_ref,
            all_done: true,
            results: batch.results,
        })
    }

    /// The results of an ask. `None`: nobody waits for them.
    pub(in crate::grpc) fn settled(
        &mut self,
        token: RequestToken,
        results: &[SettleResult],
    ) -> Option<Answered> {
        let (batch, asked) = self.close(token)?;
        let items = asked.items;
        let mut answered = Answered {
            items: items.len(),
            ..Answered::default()
        };
        if let Some(promised) = asked.outputs {
            let taken = items.iter().filter_map(|it| it.taken);
            let is_kept = match asked.ends {
                Ends::Each => matches!(results, [SettleResult::OutputRefused { .. }]),
                Ends::Together => results != [SettleResult::Done],
            };
            if is_kept {
                answered.kept = taken.collect();
                answered.items = 0;
            } else {
                answered.freed = taken.collect();
                let held = items.iter().map(|it| it.held).collect();
                answered.released = Some((asked.target, held));
            }
            // Of those that end in one there is one result, which is told of the settlement.
            let mut published = Some(promised);
            for (item, result) in items.iter().zip(results) {
                batch.results.push(match published.take() {
                    Some(promised) => {
                        promised.result(item.index, item_tag(asked.ends, item), *result)
                    }
                    None => result_of(item.index, item.range_tag, *result),
                });
            }
            return Some(answered);
        }
        for (item, result) in items.iter().zip(results) {
            if *result != SettleResult::Done {
                batch
                    .results
                    .push(result_of(item.index, item.range_tag, *result));
            }
        }
        Some(answered)
    }

    /// The messages of an ask were stored; it can be made now. False: nobody waits for it.
    pub(in crate::grpc) fn stored(&mut self, token: RequestToken, promised: Promised) -> bool {
        let Some(asked) = self.asks.get_mut(&token) else {
            return false;
        };
        asked.outputs = Some(promised);
        true
    }

    /// An ask is not made, because of its messages: its items are held still.
    pub(in crate::grpc) fn refused(
        &mut self,
        token: RequestToken,
        result: v1::SettleResult,
    ) -> Vec<AskItem> {
        let Some((batch, Asked { items, .. })) = self.close(token) else {
            return Vec::new();
        };
        batch.results.push(result);
        items
    }

    /// Gives up on asks that were not made yet, because their messages come first: their items are held still.
    pub(in crate::grpc) fn give_up_pending(&mut self, why: Unavailable) -> Vec<AskItem> {
        let pending = self.asks.iter();
        let pending = pending.filter(|(_, it)| matches!(it.outputs, Some(Promised::Pending)));
        let tokens: Vec<RequestToken> = pending.map(|(token, _)| *token).collect();
        let items = tokens.into_iter().map(|it| self.not_asked(it, why));
        items.flatten().collect()
    }

    /// An ask could not be made: nothing was done, and its items are held still.
    pub(in crate::grpc) fn not_asked(
        &mut self,
        token: RequestToken,
        why: Unavailable,
    ) -> Vec<AskItem> {
        let Some((batch, Asked { items, outputs, .. })) = self.close(token) else {
            return Vec::new();
        };
        let published = outputs.as_ref().map_or(Vec::new(), Promised::stored);
        let results = items.iter().map(|item| v1::SettleResult {
            published: published.clone(),
            ..retry_later(item, why)
        });
        batch.results.extend(results);
        items
    }

    /// A delivery whose messages are being stored, or that is to end with others, is not this consumer's any more; gives it.
    pub(in crate::grpc) fn lose(&mut self, position: Position) -> Option<HeldDelivery> {
        let pending = self.asks.values_mut();
        let pending = pending.filter(|it| {
            it.ends == Ends::Together || matches!(it.outputs, Some(Promised::Pending))
        });
        let mut items = pending.flat_map(|it| &mut it.items);
        items
            .find(|it| it.held.position == position)
            .and_then(|it| it.taken.take())
    }

    /// Gives up on everything that has no result. Gives what had outputs: until there is a result, it may be held still.
    pub(in crate::grpc) fn give_up(&mut self, why: Unavailable) -> Vec<HeldDelivery> {
        let mut kept = Vec::new();
        let tokens: Vec<RequestToken> = self.asks.keys().copied().collect();
        for token in tokens {
            let outputs = self.asks.get(&token).and_then(|it| it.outputs.as_ref());
            let has_outputs = matches!(outputs, Some(Promised::Together { .. }));
            let items = self.not_asked(token, why).into_iter();
            let taken = items.filter_map(|it| it.taken);
            kept.extend(taken.filter(|_| has_outputs));
        }
        kept
    }

    fn close(&mut self, token: RequestToken) -> Option<(&mut Batch, Asked)> {
        let asked = self.asks.remove(&token)?;
        self.items -= asked.items.len();
        let batch = self.batches.get_mut(&asked.batch)?;
        batch.asks_left -= 1;
        Some((batch, asked))
    }
}

/// The part of a range that its result is about; 0 = all of it.
fn item_tag(ends: Ends, item: &AskItem) -> u64 {
    match ends {
        Ends::Each => item.range_tag,
        Ends::Together => 0,
    }
}
