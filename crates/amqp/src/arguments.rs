//! Reads and writes a method's arguments: integers, bits packed into bytes, short and long strings, field tables.
//! Not here: which method has which arguments (`method`).

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;
use warren_types::{NAME_BYTES_MAX, Table, TableError};

use crate::text::{ShortString, cut};

/// Why a method's arguments cannot be decoded. AMQP 0-9-1: 502 SYNTAX_ERROR.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub(crate) enum ArgumentError {
    #[error("arguments end early: {needed} bytes needed, {available} left")]
    Truncated { needed: usize, available: usize },
    #[error("{bytes} bytes follow the arguments")]
    TrailingBytes { bytes: usize },
    #[error("a name is not UTF-8")]
    NotUtf8,
    #[error(transparent)]
    Table(#[from] TableError),
}

/// Walks over the arguments in a frame's payload.
pub(crate) struct Reader<'a> {
    source: &'a Bytes,
    rest: &'a [u8],
    bits: u8,
    bits_left: u8,
}

impl<'a> Reader<'a> {
    /// `rest` lies within `source`.
    pub(crate) fn new(source: &'a Bytes, rest: &'a [u8]) -> Self {
        Self {
            source,
            rest,
            bits: 0,
            bits_left: 0,
        }
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8], ArgumentError> {
        self.bits_left = 0;
        let available = self.rest.len();
        let (head, tail) = self
            .rest
            .split_at_checked(bytes)
            .ok_or(ArgumentError::Truncated {
                needed: bytes,
                available,
            })?;
        self.rest = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ArgumentError> {
        self.bits_left = 0;
        let available = self.rest.len();
        let (head, tail) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(ArgumentError::Truncated {
                needed: N,
                available,
            })?;
        self.rest = tail;
        Ok(*head)
    }

    fn sized(&mut self) -> Result<&'a [u8], ArgumentError> {
        let declared = u32::from_be_bytes(self.array()?);
        self.take(usize::try_from(declared).unwrap_or(usize::MAX))
    }

    fn bit(&mut self) -> Result<bool, ArgumentError> {
        if self.bits_left == 0 {
            let [bits] = self.array::<1>()?;
            self.bits = bits;
            self.bits_left = 8;
        }
        let bit = self.bits & 1 != 0;
        self.bits >>= 1;
        self.bits_left -= 1;
        Ok(bit)
    }

    /// Ends the reading.
    pub(crate) fn finish(self) -> Result<(), ArgumentError> {
        match self.rest.len() {
            0 => Ok(()),
            bytes => Err(ArgumentError::TrailingBytes { bytes }),
        }
    }
}

/// Appends arguments to a frame under construction.
pub(crate) struct Writer<'a> {
    out: &'a mut BytesMut,
    bits: u8,
    bits_held: u8,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(out: &'a mut BytesMut) -> Self {
        Self {
            out,
            bits: 0,
            bits_held: 0,
        }
    }

    /// The buffer, with all bits so far written to it.
    fn bytes(&mut self) -> &mut BytesMut {
        if self.bits_held > 0 {
            self.out.put_u8(self.bits);
            self.bits = 0;
            self.bits_held = 0;
        }
        self.out
    }

    fn bit(&mut self, bit: bool) {
        if self.bits_held == 8 {
            self.bytes();
        }
        self.bits |= u8::from(bit) << self.bits_held;
        self.bits_held += 1;
    }

    pub(crate) fn finish(mut self) {
        self.bytes();
    }
}

/// A type of argument.
pub(crate) trait Argument: Sized {
    fn read(from: &mut Reader<'_>) -> Result<Self, ArgumentError>;
    fn write(&self, to: &mut Writer<'_>);
}

impl Argument for bool {
    fn read(from: &mut Reader<'_>) -> Result<Self, ArgumentError> {
        from.bit()
    }

    fn write(&self, to: &mut Writer<'_>) {
        to.bit(*self);
    }
}

macro_rules! integer_argument {
    ($($type:ty),*) => { $(
        impl Argument for $type {
            fn read(from: &mut Reader<'_>) -> Result<Self, ArgumentError> {
                Ok(Self::from_be_bytes(from.array()?))
            }

            fn write(&self, to: &mut Writer<'_>) {
                to.bytes().put_slice(&self.to_be_bytes());
            }
        }
    )* };
}

integer_argument!(u8, u16, u32, u64);

impl Argument for ShortString {
    fn read(from: &mut Reader<'_>) -> Result<Self, ArgumentError> {
        let length = u8::read(from)?;
        let bytes = from.take(usize::from(length))?;
        Self::from_wire(from.source.slice_ref(bytes)).ok_or(ArgumentError::NotUtf8)
    }

    fn write(&self, to: &mut Writer<'_>) {
        put_short(to.bytes(), self);
    }
}

/// A long string.
impl Argument for Bytes {
    fn read(from: &mut Reader<'_>) -> Result<Self, ArgumentError> {
        let bytes = from.sized()?;
        Ok(from.source.slice_ref(bytes))
    }

    fn write(&self, to: &mut Writer<'_>) {
        let out = to.bytes();
        out.put_u32(u32::try_from(self.len()).expect("a long string in memory is far below 4 GiB"));
        out.put_slice(self);
    }
}

impl Argument for Table {
    /// Copies the table's bytes: tables of arguments are rare and are kept long after their frame.
    fn read(from: &mut Reader<'_>) -> Result<Self, ArgumentError> {
        let start = from.rest;
        let body = from.sized()?;
        let whole = start.get(..size_of::<u32>() + body.len()).unwrap_or(start);
        Ok(Self::decode(&Bytes::copy_from_slice(whole))?)
    }

    fn write(&self, to: &mut Writer<'_>) {
        self.encode(to.bytes());
    }
}

/// Appends a short string. Names and keys of this broker fit; whatever does not is cut, so that frames stay whole.
pub(crate) fn put_short(out: &mut BytesMut, text: &str) {
    debug_assert!(
        text.len() <= NAME_BYTES_MAX,
        "short string of {} bytes",
        text.len()
    );
    let text = cut(text);
    out.put_u8(u8::try_from(text.len()).expect("cut to 255 bytes"));
    out.put_slice(text.as_bytes());
}

/// Random arguments from a seed.
#[cfg(test)]
pub(crate) mod sample {
    use bytes::Bytes;
    use warren_types::{Table, Value};

    use crate::{DeliveryTag, ShortString};

    /// splitmix64.
    pub(crate) struct Random(u64);

    impl Random {
        pub(crate) fn new(seed: u64) -> Self {
            Self(seed)
        }

        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut it = self.0;
            it = (it ^ (it >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            it = (it ^ (it >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            it ^ (it >> 31)
        }
    }

    pub(crate) trait Sample {
        fn sample(random: &mut Random) -> Self;
    }

    macro_rules! integer_sample {
        ($($type:ty),*) => { $(
            impl Sample for $type {
                fn sample(random: &mut Random) -> Self {
                    random.next() as $type
                }
            }
        )* };
    }

    integer_sample!(u8, u16, u32, u64);

    impl Sample for bool {
        fn sample(random: &mut Random) -> Self {
            random.next() & 1 == 1
        }
    }

    impl Sample for DeliveryTag {
        fn sample(random: &mut Random) -> Self {
            Self(random.next())
        }
    }

    impl Sample for ShortString {
        fn sample(random: &mut Random) -> Self {
            let length = (random.next() % 256) as usize;
            Self::cut(&"aé.#*".repeat(60)[..])
                .get(..length)
                .map_or_else(Self::default, Self::cut)
        }
    }

    impl Sample for Bytes {
        fn sample(random: &mut Random) -> Self {
            (0..random.next() % 300)
                .map(|_| random.next() as u8)
                .collect()
        }
    }

    impl Sample for Table {
        fn sample(random: &mut Random) -> Self {
            let inner = Table::new()
                .with("flag", bool::sample(random))
                .with("void", Value::Void);
            Table::new()
                .with("number", random.next() as i64)
                .with("text", Value::LongString(Bytes::sample(random)))
                .with("inner", inner)
        }
    }
}
