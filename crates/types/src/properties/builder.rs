//! Makes property lists from typed values, or a list that differs in some properties from another. Not here: reading.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Form, Properties, PropertiesError, Property};
use crate::table::Table;

/// Collects properties; [`PropertiesBuilder::build`] checks and writes them.
#[derive(Clone, Debug, Default)]
pub struct PropertiesBuilder {
    /// Values as [`Properties::raw`] gives them, at the property's place.
    fields: [Option<Bytes>; Property::ALL.len()],
}

impl From<&Properties> for PropertiesBuilder {
    /// Starts from all properties of another list.
    fn from(properties: &Properties) -> Self {
        Self {
            fields: Property::ALL.map(|property| properties.raw(property)),
        }
    }
}

impl PropertiesBuilder {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn set(mut self, property: Property, value: Option<Bytes>) -> Self {
        if let Some(field) = self.fields.get_mut(property as usize) {
            *field = value;
        }
        self
    }

    fn text(self, property: Property, value: &str) -> Self {
        self.set(property, Some(Bytes::copy_from_slice(value.as_bytes())))
    }

    /// Sets a property to bytes in the form of [`Properties::raw`]; for short strings that are not text.
    #[must_use]
    pub fn raw(self, property: Property, value: Bytes) -> Self {
        self.set(property, Some(value))
    }

    #[must_use]
    pub fn remove(self, property: Property) -> Self {
        self.set(property, None)
    }

    #[must_use]
    pub fn content_type(self, value: &str) -> Self {
        self.text(Property::ContentType, value)
    }

    #[must_use]
    pub fn content_encoding(self, value: &str) -> Self {
        self.text(Property::ContentEncoding, value)
    }

    /// Replaces all headers.
    #[must_use]
    pub fn headers(self, value: &Table) -> Self {
        let mut wire = BytesMut::new();
        value.encode(&mut wire);
        self.set(Property::Headers, Some(wire.freeze()))
    }

    #[must_use]
    pub fn delivery_mode(self, value: u8) -> Self {
        self.set(
            Property::DeliveryMode,
            Some(Bytes::copy_from_slice(&[value])),
        )
    }

    /// Delivery mode 2.
    #[must_use]
    pub fn persistent(self) -> Self {
        self.delivery_mode(Properties::PERSISTENT)
    }

    #[must_use]
    pub fn priority(self, value: u8) -> Self {
        self.set(Property::Priority, Some(Bytes::copy_from_slice(&[value])))
    }

    #[must_use]
    pub fn correlation_id(self, value: &str) -> Self {
        self.text(Property::CorrelationId, value)
    }

    #[must_use]
    pub fn reply_to(self, value: &str) -> Self {
        self.text(Property::ReplyTo, value)
    }

    /// Time to live in milliseconds, as text.
    #[must_use]
    pub fn expiration(self, value: &str) -> Self {
        self.text(Property::Expiration, value)
    }

    #[must_use]
    pub fn message_id(self, value: &str) -> Self {
        self.text(Property::MessageId, value)
    }

    /// Seconds since the Unix epoch.
    #[must_use]
    pub fn timestamp(self, value: u64) -> Self {
        self.set(
            Property::Timestamp,
            Some(Bytes::copy_from_slice(&value.to_be_bytes())),
        )
    }

    /// The property `type`.
    #[must_use]
    pub fn message_type(self, value: &str) -> Self {
        self.text(Property::Type, value)
    }

    #[must_use]
    pub fn user_id(self, value: &str) -> Self {
        self.text(Property::UserId, value)
    }

    #[must_use]
    pub fn app_id(self, value: &str) -> Self {
        self.text(Property::AppId, value)
    }

    #[must_use]
    pub fn cluster_id(self, value: &str) -> Self {
        self.text(Property::ClusterId, value)
    }

    /// Writes the list.
    ///
    /// # Errors
    /// [`PropertiesError::TooLong`] for a text above 255 bytes; the errors of [`Properties::from_wire`] for headers that
    /// nest too deep or raw bytes of the wrong form.
    pub fn build(&self) -> Result<Properties, PropertiesError> {
        let present = || {
            Property::ALL
                .into_iter()
                .zip(&self.fields)
                .filter_map(|(key, it)| Some((key, it.as_ref()?)))
        };
        let mut wire = BytesMut::with_capacity(64);
        wire.put_u16(present().fold(0, |flags, (property, _)| flags | property.flag()));
        for (property, value) in present() {
            if property.form() == Form::ShortString {
                let bytes = value.len();
                let too_long = PropertiesError::TooLong {
                    property: property.name(),
                    bytes,
                };
                wire.put_u8(u8::try_from(bytes).map_err(|_| too_long)?);
            }
            wire.put_slice(value);
        }
        Properties::from_wire(wire.freeze())
    }
}
