//! Which channels are open and what each expects next. Not here: the frames' contents.

use std::collections::BTreeMap;

use crate::{content::Incoming, frame::ChannelId, method::basic};

#[derive(Debug)]
pub(super) enum Phase {
    /// Takes a method.
    Open,
    /// After basic.publish: takes the content header.
    Header(basic::Publish),
    /// Takes the next body frame.
    Body(Box<Incoming>),
    /// The client closes it; the session owes `channel_close_ok`.
    ClientClosing,
    /// channel.close is sent; everything but close and close-ok is ignored.
    Closing,
    /// As `Closing`, but the client has closed it as well and got its answer: it may open the number again, whether its
    /// own answer has come or not.
    ClosingBoth,
}

impl Phase {
    fn is_open(&self) -> bool {
        match self {
            Self::Open | Self::Header(_) | Self::Body(_) => true,
            Self::ClientClosing | Self::Closing | Self::ClosingBoth => false,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Channels {
    by_id: BTreeMap<ChannelId, Phase>,
}

impl Channels {
    pub(super) fn open(&mut self, channel: ChannelId) {
        self.by_id.insert(channel, Phase::Open);
    }

    pub(super) fn forget(&mut self, channel: ChannelId) {
        self.by_id.remove(&channel);
    }

    pub(super) fn get_mut(&mut self, channel: ChannelId) -> Option<&mut Phase> {
        self.by_id.get_mut(&channel)
    }

    pub(super) fn incoming_bytes(&self) -> u64 {
        let bytes = |phase: &Phase| match phase {
            Phase::Body(incoming) => incoming.received_bytes(),
            Phase::Open
            | Phase::Header(_)
            | Phase::ClientClosing
            | Phase::Closing
            | Phase::ClosingBoth => 0,
        };
        self.by_id.values().map(bytes).sum()
    }

    pub(super) fn is_open(&self, channel: ChannelId) -> bool {
        self.by_id.get(&channel).is_some_and(Phase::is_open)
    }

    /// Marks an open channel as closed by us; `false` if it is not open.
    pub(super) fn start_closing(&mut self, channel: ChannelId) -> bool {
        match self.by_id.get_mut(&channel) {
            Some(phase) if phase.is_open() => {
                *phase = Phase::Closing;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Forgets a channel that the client closes; `false` if it does not.
    pub(super) fn end_client_closing(&mut self, channel: ChannelId) -> bool {
        let closing = matches!(self.by_id.get(&channel), Some(Phase::ClientClosing));
        if closing {
            self.by_id.remove(&channel);
        }
        closing
    }
}
