//! All methods of AMQP 0-9-1 with RabbitMQ's extensions, one file per class: a struct per method, an enum per class, and
//! [`Method`] over the classes. Decode and encode work both ways round, so a client can be written with them.
//! Not here: which side may send what and when (`connection`), contents (`content`).

pub mod access;
pub mod basic;
pub mod channel;
pub mod confirm;
pub mod connection;
pub mod exchange;
pub mod queue;
pub mod tx;

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    arguments::{ArgumentError, Reader, Writer},
    error::AmqpError,
    frame::{ChannelId, FrameKind, put_frame},
};

/// A method's class and number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MethodId {
    pub class: u16,
    pub method: u16,
}

impl MethodId {
    /// "No method": 0/0.
    pub const NONE: Self = Self {
        class: 0,
        method: 0,
    };

    /// The first four bytes of a method frame's payload.
    pub(crate) fn peek(payload: &[u8]) -> Option<Self> {
        let &[c1, c0, m1, m0] = payload.first_chunk::<4>()?;
        Some(Self {
            class: u16::from_be_bytes([c1, c0]),
            method: u16::from_be_bytes([m1, m0]),
        })
    }
}

impl fmt::Display for MethodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.class, self.method)
    }
}

/// Makes the structs of a class and its enum. `[..]` before and behind the fields are the standard's reserved arguments:
/// read past, written as zero. Bits that follow each other share a byte, the first in the lowest bit.
macro_rules! class {
    ($class:literal; $(
        $(#[$doc:meta])*
        $name:ident = $number:literal [$($before:ty),*] { $($field:ident: $type:ty),* $(,)? } [$($after:ty),*]
    )*) => {
        use super::MethodId;
        // A class whose methods have no arguments uses neither the trait nor the reader.
        #[allow(unused_imports)]
        use crate::arguments::{Argument, ArgumentError, Reader, Writer};

        $(
            $(#[$doc])*
            #[derive(Clone, PartialEq, Eq, Debug, Default)]
            pub struct $name { $(pub $field: $type),* }

            impl $name {
                pub const ID: MethodId = MethodId { class: $class, method: $number };
            }

            impl From<$name> for Method {
                fn from(it: $name) -> Self {
                    Self::$name(it)
                }
            }

            impl From<$name> for super::Method {
                fn from(it: $name) -> Self {
                    Method::$name(it).into()
                }
            }
        )*

        /// The methods of this class.
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub enum Method { $($name($name)),* }

        impl Method {
            #[must_use]
            pub fn id(&self) -> MethodId {
                match self { $(Self::$name(_) => $name::ID),* }
            }

            /// `None` for a number this class does not have.
            #[allow(unused_variables)]
            pub(super) fn read(number: u16, from: &mut Reader<'_>) -> Result<Option<Self>, ArgumentError> {
                Ok(Some(match number {
                    $($number => {
                        $(<$before>::read(from)?;)*
                        let it = $name { $($field: <$type>::read(from)?),* };
                        $(<$after>::read(from)?;)*
                        Self::$name(it)
                    })*
                    _ => return Ok(None),
                }))
            }

            #[allow(unused_variables)]
            pub(super) fn write(&self, to: &mut Writer<'_>) {
                match self {
                    $(Self::$name($name { $($field),* }) => {
                        $(<$before>::default().write(to);)*
                        $($field.write(to);)*
                        $(<$after>::default().write(to);)*
                    })*
                }
            }

            /// A random method of each kind.
            #[cfg(test)]
            #[allow(unused_variables)]
            pub(super) fn samples(random: &mut crate::arguments::sample::Random) -> Vec<super::Method> {
                vec![$($name { $($field: crate::arguments::sample::Sample::sample(random)),* }.into()),*]
            }
        }
    };
}
pub(crate) use class;

macro_rules! classes {
    ($($name:ident = $number:literal in $module:ident;)*) => {
        /// Any method.
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub enum Method { $($name($module::Method)),* }

        $(
            impl From<$module::Method> for Method {
                fn from(it: $module::Method) -> Self {
                    Self::$name(it)
                }
            }
        )*

        impl Method {
            #[must_use]
            pub fn id(&self) -> MethodId {
                match self { $(Self::$name(it) => it.id()),* }
            }

            fn read(id: MethodId, from: &mut Reader<'_>) -> Result<Option<Self>, ArgumentError> {
                Ok(match id.class {
                    $($number => $module::Method::read(id.method, from)?.map(Self::$name),)*
                    _ => None,
                })
            }

            fn write(&self, to: &mut Writer<'_>) {
                match self { $(Self::$name(it) => it.write(to)),* }
            }

            /// A random method of each kind.
            #[cfg(test)]
            pub(crate) fn samples(random: &mut crate::arguments::sample::Random) -> Vec<Self> {
                [$($module::Method::samples(random)),*].concat()
            }
        }
    };
}

classes! {
    Connection = 10 in connection;
    Channel = 20 in channel;
    Access = 30 in access;
    Exchange = 40 in exchange;
    Queue = 50 in queue;
    Basic = 60 in basic;
    Confirm = 85 in confirm;
    Tx = 90 in tx;
}

impl Method {
    /// Decodes a method frame's payload.
    ///
    /// # Errors
    /// 501 if there is no class and method number, 503 if they are unknown, 502 if the arguments are malformed.
    pub fn decode(payload: &Bytes) -> Result<Self, AmqpError> {
        let id = MethodId::peek(payload).ok_or_else(|| {
            AmqpError::frame_error(format_args!("method frame of {} bytes", payload.len()))
        })?;
        let syntax = |error: ArgumentError| AmqpError::syntax_error(error).for_method(id);
        let mut from = Reader::new(payload, payload.get(4..).unwrap_or_default());
        let method = Self::read(id, &mut from).map_err(syntax)?;
        let unknown =
            || AmqpError::command_invalid(format_args!("unknown method {id}")).for_method(id);
        let method = method.ok_or_else(unknown)?;
        from.finish().map_err(syntax)?;
        Ok(method)
    }

    /// Appends the method as a frame.
    pub fn encode(&self, out: &mut BytesMut, channel: ChannelId) {
        put_frame(out, FrameKind::Method, channel, |out| {
            let id = self.id();
            out.put_u16(id.class);
            out.put_u16(id.method);
            let mut to = Writer::new(out);
            self.write(&mut to);
            to.finish();
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{arguments::sample::Random, error::Code, frame::FrameDecoder, text::ShortString};

    fn payload(method: &Method) -> Bytes {
        let mut out = BytesMut::new();
        method.encode(&mut out, ChannelId(3));
        let mut decoder = FrameDecoder::default();
        decoder.set_frame_bytes_max(u32::MAX);
        let frame = decoder.next(&mut out).unwrap().unwrap();
        assert_eq!(
            (frame.kind, frame.channel, out.len()),
            (FrameKind::Method, ChannelId(3), 0)
        );
        frame.payload
    }

    fn code(payload: &'static [u8]) -> Code {
        Method::decode(&Bytes::from_static(payload))
            .unwrap_err()
            .code()
    }

    #[test]
    fn there_are_66_methods() {
        assert_eq!(Method::samples(&mut Random::new(1)).len(), 66);
    }

    #[test]
    fn bits_share_a_byte_and_bytes_are_as_in_the_standard() {
        let declare = queue::Declare {
            queue: ShortString::cut("q"),
            durable: true,
            no_wait: true,
            ..queue::Declare::default()
        };
        assert_eq!(
            &payload(&declare.into())[..],
            b"\x00\x32\x00\x0a\x00\x00\x01q\x12\x00\x00\x00\x00"
        );
        let nack = basic::Nack {
            delivery_tag: crate::DeliveryTag(7),
            multiple: true,
            requeue: true,
        };
        assert_eq!(
            &payload(&nack.into())[..],
            b"\x00\x3c\x00\x78\x00\x00\x00\x00\x00\x00\x00\x07\x03"
        );
        let tune = connection::Tune {
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat: 60,
        };
        assert_eq!(
            &payload(&tune.into())[..],
            b"\x00\x0a\x00\x1e\x07\xff\x00\x02\x00\x00\x00\x3c"
        );
        assert_eq!(
            &payload(&exchange::UnbindOk {}.into())[..],
            b"\x00\x28\x00\x33"
        );
        assert_eq!(
            &payload(&connection::OpenOk {}.into())[..],
            b"\x00\x0a\x00\x29\x00"
        );
    }

    #[test]
    fn unknown_class_or_method_is_503() {
        assert_eq!(code(b"\x00\x63\x00\x0a"), Code::CommandInvalid);
        assert_eq!(code(b"\x00\x3c\x00\x0d"), Code::CommandInvalid);
    }

    #[test]
    fn malformed_arguments_are_502_and_name_the_method() {
        assert_eq!(code(b"\x00\x3c\x00\x50\x00\x00"), Code::SyntaxError);
        assert_eq!(code(b"\x00\x5a\x00\x0a\x00"), Code::SyntaxError);
        assert_eq!(code(b"\x00\x3c\x00\x1e\x02\xff\xfe\x00"), Code::SyntaxError);
        let error = Method::decode(&Bytes::from_static(b"\x00\x3c\x00\x50\x00\x00")).unwrap_err();
        assert_eq!(error.method(), basic::Ack::ID);
    }

    #[test]
    fn payload_without_a_method_number_is_501() {
        assert_eq!(code(b"\x00\x3c\x00"), Code::FrameError);
    }

    proptest! {
        #[test]
        fn every_method_round_trips(seed in any::<u64>()) {
            for method in Method::samples(&mut Random::new(seed)) {
                prop_assert_eq!(Method::decode(&payload(&method)), Ok(method));
            }
        }

        #[test]
        fn damaged_methods_never_panic(seed in any::<u64>(), at in any::<prop::sample::Index>(), with in any::<u8>()) {
            for method in Method::samples(&mut Random::new(seed)) {
                let mut bytes = payload(&method).to_vec();
                let at = at.index(bytes.len());
                bytes[at] = with;
                let _either_way_is_fine = Method::decode(&Bytes::from(bytes.clone()));
                bytes.truncate(at);
                let _either_way_is_fine = Method::decode(&Bytes::from(bytes));
            }
        }

        #[test]
        fn arbitrary_payloads_never_panic(bytes in vec(any::<u8>(), 0..64), class in 0u8..100, number in 0u8..130) {
            let mut payload = vec![0, class, 0, number];
            payload.extend(bytes);
            let _either_way_is_fine = Method::decode(&Bytes::from(payload));
        }
    }
}
