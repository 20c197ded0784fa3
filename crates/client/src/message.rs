//! A message as programs hold it, and where it is published to. Not here: deliveries (`consumer`), outcomes (`publisher`).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use prost::Message as _;
use warren_proto::{
    convert::{hints::DELAY, message},
    v1,
};
use warren_types::{Properties, PropertiesBuilder, PropertiesError, Value};

use crate::error::Error;

/// Body and properties.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// The payload; never interpreted.
    pub body: Bytes,
    /// AMQP's properties with headers; build them with `warren_types::PropertiesBuilder`.
    pub properties: Properties,
}

impl Message {
    /// A message without properties.
    #[must_use]
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self {
            body: body.into(),
            properties: Properties::default(),
        }
    }

    /// With these properties.
    #[must_use]
    pub fn with_properties(mut self, properties: Properties) -> Self {
        self.properties = properties;
        self
    }

    /// The same, ready only after so long.
    ///
    /// # Errors
    /// The properties have no room for one header more.
    pub fn after(mut self, delay: Duration) -> Result<Self, PropertiesError> {
        let mut headers = self.properties.headers().unwrap_or_default();
        let ms = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
        headers
            .insert(DELAY, Value::I64(ms))
            .expect("the header's name is short");
        let delayed = PropertiesBuilder::from(&self.properties).headers(&headers);
        self.properties = delayed.build()?;
        Ok(self)
    }

    /// The same, to be published once more: ready at once, or after so long, whatever delay it had been published with.
    ///
    /// # Errors
    /// The properties have no room for one header more.
    pub fn due_in(self, delay: Option<Duration>) -> Result<Self, PropertiesError> {
        let headers = self.properties.headers();
        let had_delay = headers.is_some_and(|it| it.get(DELAY).is_some());
        match delay {
            Some(delay) => self.after(delay),
            None if had_delay => self.after(Duration::ZERO),
            None => Ok(self),
        }
    }

    /// As bytes to be kept, which any later version reads: `warren.v1.Message`.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        self.clone().into_wire().encode_to_vec().into()
    }

    /// From bytes that were kept.
    ///
    /// # Errors
    /// They are no message.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, Error> {
        let wire = v1::Message::decode(bytes).map_err(|error| Error::BadAnswer {
            operation: "reading a message",
            detail: error.to_string(),
        })?;
        Self::from_wire(wire)
    }

    /// What counts against credit and windows: body and properties, in bytes.
    pub(crate) fn size_bytes(&self) -> u64 {
        let properties = if self.properties.is_empty() {
            0
        } else {
            self.properties.as_wire().len()
        };
        u64::try_from(self.body.len() + properties).expect("usize is at most 64 bits")
    }

    pub(crate) fn into_wire(self) -> v1::Message {
        message::message_to_client(&self.properties, self.body)
    }

    pub(crate) fn from_wire(wire: v1::Message) -> Result<Self, Error> {
        let (properties, body) =
            message::message_from_client(wire).map_err(|error| Error::BadAnswer {
                operation: "consume",
                detail: error.to_string(),
            })?;
        Ok(Self { body, properties })
    }
}

/// Where a message is published to. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub(crate) exchange: Arc<str>,
    pub(crate) routing_key: Arc<str>,
}

impl Target {
    /// To this exchange with this routing key.
    #[must_use]
    pub fn exchange(exchange: &str, routing_key: &str) -> Self {
        Self {
            exchange: exchange.into(),
            routing_key: routing_key.into(),
        }
    }

    /// Straight to a queue, over the default exchange.
    #[must_use]
    pub fn queue(queue: &str) -> Self {
        Self::exchange("", queue)
    }
}
