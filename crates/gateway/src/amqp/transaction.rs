//! Transactions (features C44): a channel's publishes and settles are kept until tx.commit, then done: the publishes, and once all of them
//! are stored, the settles. Not here: which of it is done in one (`commit`), how a publish or settle is done (`steps`, `settle`).

use bytes::Bytes;
use warren_amqp::method::{confirm, tx};
use warren_amqp::{AmqpError, Body, ChannelId, DeliveryTag, Publish, Request, ShortString};
use warren_shard::api::SettleAction;
use warren_types::Properties;

use super::channel::{Busy, Step, Unacked};
use super::session::AmqpSession;

/// What a publish that is kept counts as beside its own bytes.
const PUBLISH_OVERHEAD_BYTES: u64 = 512;
const SETTLE_BYTES: u64 = 64;

/// What is kept of a channel in transaction mode.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    pub(super) publishes: Vec<Publish>,
    pub(super) settles: Vec<(DeliveryTag, Unacked, SettleAction)>,
    bytes: u64,
    /// A commit is under way.
    committing: bool,
    /// It ends these deliveries and stores its publishes in one.
    pub(super) ending: Vec<Unacked>,
    /// Some of it was refused.
    refused: bool,
}

impl Transaction {
    pub(super) fn is_committing(&self) -> bool {
        self.committing
    }

    /// Settles that are kept, of one consumer.
    pub(super) fn settles_of(&self, consumer: warren_types::ConsumerId) -> usize {
        let of_it = self
            .settles
            .iter()
            .filter(|(_, it, _)| it.consumer == consumer);
        let ending = self.ending.iter().filter(|it| it.consumer == consumer);
        of_it.count() + ending.count()
    }

    fn room(&mut self, bytes: u64, max: u64) -> Result<(), AmqpError> {
        if self.bytes.saturating_add(bytes) > max {
            let text = format_args!("the transaction is larger than {max} bytes");
            return Err(AmqpError::precondition_failed(text));
        }
        self.bytes += bytes;
        Ok(())
    }

    pub(super) fn refuse(&mut self) {
        self.refused |= self.committing;
    }
}

/// 406: not all of a transaction could be done.
pub(super) fn partial() -> AmqpError {
    AmqpError::precondition_failed("partial tx completion").for_method(tx::Commit::ID)
}

/// What is kept long keeps no read buffer alive.
fn copied(it: &Publish) -> Publish {
    let copy = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
    let properties = Properties::from_wire(copy(it.properties.as_wire()));
    Publish {
        exchange: ShortString::cut(&it.exchange),
        routing_key: ShortString::cut(&it.routing_key),
        mandatory: it.mandatory,
        properties: properties.unwrap_or_else(|_| it.properties.clone()),
        body: Body::from(copy(&it.body.clone().into_bytes())),
    }
}

impl AmqpSession {
    /// # Errors
    /// 406 on a channel with confirms.
    pub(super) fn tx_select(&mut self, channel: ChannelId) -> Result<(), AmqpError> {
        let Some(state) = self.channels.get_mut(&channel) else {
            return Ok(());
        };
        if state.confirms.is_some() {
            let text = "cannot switch from confirm to tx mode";
            return Err(AmqpError::precondition_failed(text).for_method(tx::Select::ID));
        }
        state.transaction.get_or_insert_default();
        self.conn.send(channel, tx::SelectOk {});
        Ok(())
    }

    /// # Errors
    /// 406 in a transaction.
    pub(super) fn check_confirm_select(&self, channel: ChannelId) -> Result<(), AmqpError> {
        let state = self.channels.get(&channel);
        if state.is_some_and(|it| it.transaction.is_some()) {
            let text = "cannot switch from tx to confirm mode";
            return Err(AmqpError::precondition_failed(text).for_method(confirm::Select::ID));
        }
        Ok(())
    }

    pub(super) fn transaction(&mut self, channel: ChannelId) -> Option<&mut Transaction> {
        self.channels.get_mut(&channel)?.transaction.as_deref_mut()
    }

    /// Keeps a publish for the commit; gives it back if the channel is in no transaction or commits it now.
    ///
    /// # Errors
    /// 406 for more bytes than a transaction may have.
    pub(super) fn keep_publish(
        &mut self,
        channel: ChannelId,
        it: Publish,
    ) -> Result<Option<Publish>, AmqpError> {
        let max = self.gateway.options().connection_bytes;
        let Some(open) = self.transaction(channel).filter(|it| !it.committing) else {
            return Ok(Some(it));
        };
        let bytes = it.body.len() + it.properties.as_wire().len();
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        open.room(bytes.saturating_add(PUBLISH_OVERHEAD_BYTES), max)?;
        open.publishes.push(copied(&it));
        Ok(None)
    }

    /// Keeps settles for the commit; false: the channel is in no transaction.
    ///
    /// # Errors
    /// 406 for more than a transaction may have.
    pub(super) fn keep_settles(
        &mut self,
        channel: ChannelId,
        settled: &mut Vec<(DeliveryTag, Unacked)>,
        action: SettleAction,
    ) -> Result<bool, AmqpError> {
        let max = self.gateway.options().connection_bytes;
        let Some(open) = self.transaction(channel) else {
            return Ok(false);
        };
        let bytes = u64::try_from(settled.len())
            .unwrap_or(u64::MAX)
            .saturating_mul(SETTLE_BYTES);
        let room = open.room(bytes, max);
        // Kept in any case: the channel's end finds them in its consumers' books.
        let kept = settled.drain(..).map(|(tag, it)| (tag, it, action));
        open.settles.extend(kept);
        room.map(|()| true)
    }

    /// tx.commit: what is kept is done before anything that comes later.
    ///
    /// # Errors
    /// 406 without tx.select.
    pub(super) fn tx_commit(&mut self, channel: ChannelId) -> Result<(), AmqpError> {
        let open = self.transaction(channel).ok_or_else(|| {
            AmqpError::precondition_failed("channel is not transactional")
                .for_method(tx::Commit::ID)
        })?;
        open.committing = true;
        open.refused = false;
        open.bytes = 0;
        self.wait(channel, Step::Commit);
        self.freed(channel);
        Ok(())
    }

    /// The commit's publishes have their outcome: its settles follow, unless one was refused.
    ///
    /// # Errors
    /// 406 if one was refused.
    pub(super) fn commit_settles(&mut self, channel: ChannelId) -> Result<(), AmqpError> {
        if !self.is_caught_up(channel) {
            self.wait(channel, Step::CommitSettles);
            self.set_busy(channel, Busy::Behind);
            return Ok(());
        }
        let Some(open) = self.transaction(channel) else {
            return Ok(());
        };
        if open.refused {
            return Err(partial());
        }
        let settles = std::mem::take(&mut open.settles);
        for (tag, unacked, action) in settles {
            self.settle_one(channel, tag, unacked, action);
        }
        self.commit_ok(channel);
        Ok(())
    }

    /// All of the commit is done.
    pub(super) fn commit_ok(&mut self, channel: ChannelId) {
        if !self.is_caught_up(channel) {
            self.wait(channel, Step::CommitOk);
            self.set_busy(channel, Busy::Behind);
            return;
        }
        if let Some(open) = self.transaction(channel) {
            open.committing = false;
        }
        self.conn.send(channel, tx::CommitOk {});
    }

    pub(super) fn is_caught_up(&self, channel: ChannelId) -> bool {
        let state = self.channels.get(&channel);
        state.is_none_or(|it| it.unresolved == 0 && it.settling == 0)
    }

    /// tx.rollback: publishes are forgotten, what was settled is the client's again.
    ///
    /// # Errors
    /// 406 without tx.select.
    pub(super) fn tx_rollback(&mut self, channel: ChannelId) -> Result<(), AmqpError> {
        let Some(state) = self.channels.get_mut(&channel) else {
            return Ok(());
        };
        let Some(open) = &mut state.transaction else {
            let text = "channel is not transactional";
            return Err(AmqpError::precondition_failed(text).for_method(tx::Rollback::ID));
        };
        let open = std::mem::take(&mut **open);
        for (tag, unacked, _) in open.settles {
            state.unacked.restore(tag, unacked);
        }
        self.conn.send(channel, tx::RollbackOk {});
        Ok(())
    }

    /// While a commit is under way the client may say nothing else but close.
    ///
    /// # Errors
    /// 504.
    pub(super) fn check_not_committing(
        &self,
        channel: ChannelId,
        step: &Step,
    ) -> Result<(), AmqpError> {
        let state = self.channels.get(&channel);
        let commits = state
            .and_then(|it| it.transaction.as_ref())
            .is_some_and(|it| it.is_committing());
        let says = match step {
            Step::Request(Request::TxCommit) => "tx.commit",
            Step::Request(_) => "a method",
            Step::Publish(_) => "basic.publish",
            Step::Close | Step::Commit | Step::CommitSettles | Step::CommitOk => return Ok(()),
        };
        if commits {
            let text = format_args!("{says} while tx.commit is under way");
            return Err(AmqpError::channel_error(text));
        }
        Ok(())
    }
}
