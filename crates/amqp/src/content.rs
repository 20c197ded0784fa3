//! A message on its way in: publish, then a content header, then bodies until the announced size is reached. The size is
//! held against the limit at the header and the running sum at every frame. Not here: which frame may come (`connection`).

use bytes::{Buf, Bytes};
use warren_types::{Properties, PropertiesError};

use crate::{
    body::{Body, BodyBuilder},
    error::AmqpError,
    method::basic,
    text::ShortString,
};

const BASIC_CLASS: u16 = basic::Publish::ID.class;

/// Class, weight and body size: what stands before the properties in a content header.
pub(crate) const HEADER_HEAD_BYTES: usize = 12;

/// A whole message from a client. Names and payload are slices of the read buffer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Publish {
    pub exchange: ShortString,
    pub routing_key: ShortString,
    /// Give it back if no queue takes it.
    pub mandatory: bool,
    pub properties: Properties,
    pub body: Body,
}

/// A content header's payload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ContentHeader {
    pub body_bytes: u64,
    pub properties: Properties,
}

impl ContentHeader {
    /// Decodes a header frame's payload. Properties stay the bytes they are.
    ///
    /// # Errors
    /// 406 if the announced size is above the limit (decided before the properties are looked at); 502 for malformed
    /// headers among the properties; 501 for any other damage.
    pub fn decode(mut payload: Bytes, body_bytes_max: u64) -> Result<Self, AmqpError> {
        let failed = |error: AmqpError| error.for_method(basic::Publish::ID);
        let Some(head) = payload.first_chunk::<HEADER_HEAD_BYTES>() else {
            let text = format_args!("content header of {} bytes", payload.len()).to_string();
            return Err(failed(AmqpError::frame_error(text)));
        };
        let [c1, c0, w1, w0, size @ ..] = *head;
        let (class, weight) = (u16::from_be_bytes([c1, c0]), u16::from_be_bytes([w1, w0]));
        if class != BASIC_CLASS || weight != 0 {
            let text = format!(
                "content header of class {class}, weight {weight}, expected {BASIC_CLASS}, 0"
            );
            return Err(failed(AmqpError::frame_error(text)));
        }
        let body_bytes = u64::from_be_bytes(size);
        if body_bytes > body_bytes_max {
            return Err(failed(AmqpError::message_too_large(
                body_bytes,
                body_bytes_max,
            )));
        }
        payload.advance(HEADER_HEAD_BYTES);
        let properties =
            Properties::from_wire(payload).map_err(|error| failed(properties_error(&error)))?;
        Ok(Self {
            body_bytes,
            properties,
        })
    }
}

fn properties_error(error: &PropertiesError) -> AmqpError {
    match error {
        PropertiesError::Headers(_) => AmqpError::syntax_error(error),
        PropertiesError::Truncated { .. }
        | PropertiesError::TrailingBytes { .. }
        | PropertiesError::UnknownFlags { .. }
        | PropertiesError::TooLong { .. } => AmqpError::frame_error(error),
    }
}

/// What a frame of a message led to.
#[derive(Debug)]
pub(crate) enum Progress {
    Complete(Publish),
    More(Box<Incoming>),
}

/// A message whose body is under way.
#[derive(Debug)]
pub(crate) struct Incoming {
    method: basic::Publish,
    properties: Properties,
    received_bytes: u64,
    missing_bytes: u64,
    body: BodyBuilder,
}

impl Incoming {
    /// The header has come.
    pub(crate) fn header(
        method: basic::Publish,
        payload: Bytes,
        body_bytes_max: u64,
    ) -> Result<Progress, AmqpError> {
        let header = ContentHeader::decode(payload, body_bytes_max)?;
        Ok(match header.body_bytes {
            0 => Progress::Complete(publish(method, header.properties, Body::default())),
            missing_bytes => Progress::More(Box::new(Self {
                method,
                properties: header.properties,
                received_bytes: 0,
                missing_bytes,
                body: BodyBuilder::default(),
            })),
        })
    }

    /// Body bytes held.
    pub(crate) fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// A body frame has come.
    pub(crate) fn body(mut self: Box<Self>, payload: Bytes) -> Result<Progress, AmqpError> {
        let got = u64::try_from(payload.len()).unwrap_or(u64::MAX);
        if got == 0 {
            let text = format!(
                "empty body frame, {} bytes of the body missing",
                self.missing_bytes
            );
            return Err(AmqpError::frame_error(text).for_method(basic::Publish::ID));
        }
        let Some(missing_bytes) = self.missing_bytes.checked_sub(got) else {
            let text = format!(
                "body frame of {got} bytes, {} bytes of the body missing",
                self.missing_bytes
            );
            return Err(AmqpError::frame_error(text).for_method(basic::Publish::ID));
        };
        self.missing_bytes = missing_bytes;
        self.received_bytes += got;
        if missing_bytes > 0 {
            self.body.push(payload);
            return Ok(Progress::More(self));
        }
        Ok(Progress::Complete(publish(
            self.method,
            self.properties,
            self.body.finish(payload),
        )))
    }
}

fn publish(method: basic::Publish, properties: Properties, body: Body) -> Publish {
    let basic::Publish {
        exchange,
        routing_key,
        mandatory,
        immediate: _refused_before,
    } = method;
    Publish {
        exchange,
        routing_key,
        mandatory,
        properties,
        body,
    }
}
