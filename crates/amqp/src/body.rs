//! A message's body as it came: one slice of the read buffer when it fits into one frame, else a few pieces.
//! Not here: when a body is complete (`content`).

use bytes::{Bytes, BytesMut};

/// Frames of at least this many bytes stay slices of the read buffer; smaller ones are copied together, so that a body
/// sent in tiny frames costs what its bytes cost and not a piece (and a whole read buffer) each.
const SLICE_BYTES_MIN: usize = 4096;

/// A complete body. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Body {
    pieces: Pieces,
}

#[derive(Clone, Debug)]
enum Pieces {
    One(Bytes),
    Many(Vec<Bytes>),
}

impl Default for Pieces {
    fn default() -> Self {
        Self::One(Bytes::new())
    }
}

impl Body {
    /// The pieces in order; none of several is empty.
    #[must_use]
    pub fn segments(&self) -> &[Bytes] {
        match &self.pieces {
            Pieces::One(it) => std::slice::from_ref(it),
            Pieces::Many(them) => them,
        }
    }

    /// Bytes in all.
    #[must_use]
    pub fn len(&self) -> usize {
        self.segments().iter().map(Bytes::len).sum()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The body in one piece; copies only if it is not in one already.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        let length = self.len();
        match self.pieces {
            Pieces::One(it) => it,
            Pieces::Many(them) => {
                let mut whole = BytesMut::with_capacity(length);
                them.iter().for_each(|piece| whole.extend_from_slice(piece));
                whole.freeze()
            }
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self {
            pieces: Pieces::One(bytes),
        }
    }
}

/// Equal bytes, however they are cut into pieces.
impl PartialEq for Body {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self
                .segments()
                .iter()
                .flatten()
                .eq(other.segments().iter().flatten())
    }
}

impl Eq for Body {}

/// A body under way.
#[derive(Clone, Debug, Default)]
pub(crate) struct BodyBuilder {
    pieces: Vec<Bytes>,
    /// Small frames behind the last piece, copied together.
    tail: BytesMut,
}

impl BodyBuilder {
    pub(crate) fn push(&mut self, frame: Bytes) {
        if frame.len() < SLICE_BYTES_MIN {
            self.tail.extend_from_slice(&frame);
            return;
        }
        self.close_tail();
        self.pieces.push(frame);
    }

    /// The body, of which `last` is the last frame.
    pub(crate) fn finish(mut self, last: Bytes) -> Body {
        if self.pieces.is_empty() && self.tail.is_empty() {
            return Body::from(last);
        }
        self.push(last);
        self.close_tail();
        match self.pieces.pop() {
            Some(only) if self.pieces.is_empty() => Body::from(only),
            Some(last) => {
                self.pieces.push(last);
                Body {
                    pieces: Pieces::Many(self.pieces),
                }
            }
            None => Body::default(),
        }
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push(self.tail.split().freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn body_of_one_frame_is_not_copied() {
        let frame = Bytes::from(vec![7; 10]);
        let body = BodyBuilder::default().finish(frame.clone());
        assert_eq!(body.segments()[0].as_ptr(), frame.as_ptr());
        assert_eq!(body.into_bytes().as_ptr(), frame.as_ptr());
    }

    #[test]
    fn tiny_frames_become_one_piece_and_big_ones_stay_slices() {
        let big = Bytes::from(vec![1; SLICE_BYTES_MIN]);
        let mut builder = BodyBuilder::default();
        for _ in 0..1000 {
            builder.push(Bytes::from_static(b"x"));
        }
        builder.push(big.clone());
        let body = builder.finish(Bytes::from_static(b"end"));
        assert_eq!(
            body.segments().iter().map(Bytes::len).collect::<Vec<_>>(),
            [1000, SLICE_BYTES_MIN, 3]
        );
        assert_eq!(body.segments()[1].as_ptr(), big.as_ptr());
        assert_eq!(body.len(), 1003 + SLICE_BYTES_MIN);
        let whole = body.clone().into_bytes();
        assert_eq!(Body::from(whole), body);
    }
}
