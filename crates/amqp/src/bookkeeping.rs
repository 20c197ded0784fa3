//! What a channel has to remember, as pure structures the session owns: confirms not yet sent, deliveries not yet settled.

mod confirms;
mod unacked;

use std::fmt;

use crate::arguments::{Argument, ArgumentError, Reader, Writer};

pub use confirms::{Confirm, ConfirmTracker, Outcome};
pub use unacked::UnackedTags;

/// Numbers what is confirmed or settled on a channel: deliveries from 1 on one way, publishes from 1 on the other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct DeliveryTag(pub u64);

impl fmt::Display for DeliveryTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for DeliveryTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeliveryTag({self})")
    }
}

impl Argument for DeliveryTag {
    fn read(from: &mut Reader<'_>) -> Result<Self, ArgumentError> {
        u64::read(from).map(Self)
    }

    fn write(&self, to: &mut Writer<'_>) {
        self.0.write(to);
    }
}
