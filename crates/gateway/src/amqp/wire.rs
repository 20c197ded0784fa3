//! Reads and writes one socket. Not here: what the bytes mean, when to stop reading.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::Poll;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

/// Room for one read of a connection that sends little: what an idle connection costs.
const READ_BYTES_MIN: usize = 4 * 1024;
/// Room for one read of a busy connection: its messages of one read are one batch.
const READ_BYTES_MAX: usize = 128 * 1024;
/// A larger output buffer is given back when it is empty.
const OUTPUT_BYTES_KEPT: usize = 64 * 1024;

/// What a socket did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    Wrote(usize),
    Read(usize),
    /// The peer sends no more.
    Closed,
}

#[derive(Debug)]
pub(super) struct Wire<S> {
    socket: S,
    read_bytes: usize,
    read_bytes_max: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(super) fn new(socket: S) -> Self {
        Self {
            socket,
            read_bytes: READ_BYTES_MIN,
            read_bytes_max: READ_BYTES_MIN,
        }
    }

    /// The peer is known: it may have larger reads.
    pub(super) fn trust(&mut self) {
        self.read_bytes_max = READ_BYTES_MAX;
    }

    /// Writes what there is to write and, if asked to, reads; returns after one of them.
    ///
    /// # Errors
    /// The socket's.
    ///
    /// # Cancel safety
    /// Nothing is lost: bytes leave `output` and enter `input` only when it completes.
    pub(super) async fn progress(
        &mut self,
        input: &mut BytesMut,
        output: &mut BytesMut,
        reading: bool,
    ) -> io::Result<Progress> {
        if reading && input.capacity() - input.len() < self.read_bytes {
            input.reserve(self.read_bytes);
        }
        let socket = &mut self.socket;
        let progress = poll_fn(|cx| {
            if !output.is_empty() {
                match Pin::new(&mut *socket).poll_write(cx, output) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(written)) => {
                        output.advance(written);
                        return Poll::Ready(Ok(Progress::Wrote(written)));
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {}
                }
            }
            if !reading {
                return Poll::Pending;
            }
            pin!(socket.read_buf(&mut *input))
                .poll(cx)
                .map_ok(|read| match read {
                    0 => Progress::Closed,
                    read => Progress::Read(read),
                })
        })
        .await?;
        match progress {
            Progress::Read(read) => self.adapt(read),
            Progress::Wrote(_) if output.is_empty() && output.capacity() > OUTPUT_BYTES_KEPT => {
                *output = BytesMut::new();
            }
            Progress::Wrote(_) | Progress::Closed => {}
        }
        Ok(progress)
    }

    /// Larger reads for who fills them, smaller ones for who does not.
    fn adapt(&mut self, read: usize) {
        if read >= self.read_bytes {
            self.read_bytes = (self.read_bytes * 4).min(self.read_bytes_max);
        } else if read < self.read_bytes / 8 {
            self.read_bytes = (self.read_bytes / 2).max(READ_BYTES_MIN);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn output_is_written_before_input_is_read() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut wire = Wire::new(ours);
        let (mut input, mut output) = (BytesMut::new(), BytesMut::from(&b"hello"[..]));
        theirs.write_all(b"hi").await.unwrap();
        let first = wire.progress(&mut input, &mut output, true).await.unwrap();
        assert_eq!((first, output.len()), (Progress::Wrote(5), 0));
        let second = wire.progress(&mut input, &mut output, true).await.unwrap();
        assert_eq!((second, &input[..]), (Progress::Read(2), &b"hi"[..]));
        drop(theirs);
        let third = wire.progress(&mut input, &mut output, true).await.unwrap();
        assert_eq!(third, Progress::Closed);
    }

    #[tokio::test]
    async fn unknown_peer_gets_small_reads_only() {
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        let mut wire = Wire::new(ours);
        theirs.write_all(&[7; 300_000]).await.unwrap();
        let mut input = BytesMut::new();
        for _ in 0..4 {
            wire.progress(&mut input, &mut BytesMut::new(), true)
                .await
                .unwrap();
            assert!(input.capacity() <= 4 * READ_BYTES_MIN);
            input.clear();
        }
        wire.trust();
        let mut largest = 0;
        for _ in 0..4 {
            wire.progress(&mut input, &mut BytesMut::new(), true)
                .await
                .unwrap();
            largest = largest.max(input.len());
            input.clear();
        }
        assert!(largest >= 64 * 1024, "{largest}");
    }
}
