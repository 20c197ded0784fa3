//! A road to a node that flips one bit of the first row of a snapshot which passes, and nothing else. Not here: the cluster.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Lengths of key and value of a row with a payload of a thousand bytes, as they stand in a chunk and nowhere else.
const ROW: [u8; 8] = [0, 0, 0, 8, 0, 0, 3, 0xe8];
/// Behind them, in the middle of the payload.
const FLIPPED_AT: usize = 500;
/// What the payload is filled with.
const FILL: u8 = b'y';

/// Takes connections until the process ends.
pub(crate) struct FlippingRoad {
    pub(crate) address: SocketAddr,
    flipped: Arc<AtomicBool>,
}

impl FlippingRoad {
    pub(crate) fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let flipped = Arc::new(AtomicBool::new(false));
        let done = flipped.clone();
        thread::spawn(move || {
            for taken in listener.incoming() {
                // A target that is not there yet is tried again by who asks.
                if let (Ok(from), Ok(to)) = (taken, TcpStream::connect(target)) {
                    carry(from, to, &done);
                }
            }
        });
        Self { address, flipped }
    }

    pub(crate) fn has_flipped(&self) -> bool {
        self.flipped.load(Ordering::SeqCst)
    }
}

fn carry(from: TcpStream, to: TcpStream, flipped: &Arc<AtomicBool>) {
    let (back_from, back_to) = (to.try_clone().unwrap(), from.try_clone().unwrap());
    let flipped = flipped.clone();
    thread::spawn(move || copy(from, to, |bytes| flip(bytes, &flipped)));
    thread::spawn(move || copy(back_from, back_to, |_| ()));
}

fn copy(mut from: TcpStream, mut to: TcpStream, change: impl Fn(&mut [u8])) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        change(&mut buffer[..count]);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    // Either may be closed already.
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

fn flip(bytes: &mut [u8], flipped: &AtomicBool) {
    if flipped.load(Ordering::SeqCst) {
        return;
    }
    let found = bytes.windows(ROW.len()).position(|it| it == ROW);
    // A row that goes on with the next read is left to another one.
    let place = found.and_then(|at| bytes.get_mut(at + FLIPPED_AT));
    if let Some(byte) = place.filter(|byte| **byte == FILL) {
        *byte ^= 1;
        flipped.store(true, Ordering::SeqCst);
    }
}
