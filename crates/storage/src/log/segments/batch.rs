//! Puts together what one sync writes: frames in order, bodies as slices of the records themselves. Not here: where it goes
//! (`files`), what the bytes are (`format`).

use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use warren_types::{GroupId, LogIndex};

use super::format::{
    BATCH_HEADER_BYTES, BatchHeader, CheckpointGroup, FRAME_HEADER_BYTES, FrameHeader, Kind,
    encode_meta, number, put_log_id, put_maybe, put_vote, seal_frame,
};
use super::group::Group;
use super::queue::{Change, Operation};
use crate::files::checksum;
use crate::log::contract::LogRecord;

/// A frame takes no more records beyond this: it is read and checked as a whole.
const FRAME_BYTES: usize = 128 << 10;
const FRAME_RECORDS: usize = 1_024;
/// Bodies up to this length are copied beside their header: a slice of their own would cost the system call more.
const COPIED_BYTES: usize = 1_024;

/// Frames for one sync. Reused from one to the next.
#[derive(Default)]
pub(super) struct Batch {
    /// Headers, metas, short bodies.
    scratch: Vec<u8>,
    pieces: Vec<Piece>,
    /// From where on the scratch is in no piece yet.
    unpieced: usize,
    /// Where in the scratch each frame's header is.
    headers: Vec<usize>,
    payload_bytes: u64,
    /// Where records went, in order.
    pub(super) placed: Vec<Placed>,
    pub(super) records: u64,
}

enum Piece {
    Scratch(Range<usize>),
    Shared(Bytes),
}

/// Records in one frame.
pub(super) struct Placed {
    pub(super) group: Arc<Group>,
    /// Relative to the first frame.
    pub(super) frame: Range<u64>,
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) bytes: u64,
    /// Number of the operation; `None` for records written again.
    pub(super) operation: Option<usize>,
}

/// A checkpoint frame, and the header of a batch that is ready to be written.
pub(super) struct Sealed {
    pub(super) header: [u8; BATCH_HEADER_BYTES],
    pub(super) header_crc: u32,
    checkpoint: Vec<u8>,
}

impl Sealed {
    /// Bytes before the first frame of the batch proper.
    pub(super) fn shift(&self) -> u64 {
        (BATCH_HEADER_BYTES + self.checkpoint.len()) as u64
    }
}

/// Which batch it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    pub(super) sequence: u64,
    pub(super) previous_crc: u32,
}

impl Chain {
    pub(super) const FIRST: Self = Self {
        sequence: 1,
        previous_crc: 0,
    };
}

impl Batch {
    pub(super) fn clear(&mut self) {
        self.scratch.clear();
        self.pieces.clear();
        self.headers.clear();
        self.placed.clear();
        (self.unpieced, self.payload_bytes, self.records) = (0, 0, 0);
        // One long batch does not keep its memory for ever.
        self.scratch.shrink_to(4 << 20);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.headers.is_empty()
    }

    /// Bytes in a segment, without a checkpoint.
    pub(super) fn bytes(&self) -> u64 {
        BATCH_HEADER_BYTES as u64 + self.payload_bytes
    }

    /// Adds one operation's frames. `operation` is its number in this batch.
    pub(super) fn add(&mut self, operation: usize, it: &Operation) {
        let group = &it.group;
        let mut first = LogIndex(0);
        let kind = match &it.change {
            Change::Append(records) => {
                return self.add_records(Kind::Append, group, records, Some(operation));
            }
            Change::Vote(_) => Kind::Vote,
            Change::Committed(_) => Kind::Committed,
            Change::Truncate { kept, .. } => {
                first = *kept;
                Kind::Truncate
            }
            Change::Purge(_) => Kind::Purge,
            Change::Create => Kind::Create,
            Change::Remove => Kind::Remove,
        };
        let at = self.begin();
        let content = self.scratch.len();
        let out = &mut self.scratch;
        match &it.change {
            Change::Vote(vote) => put_vote(*vote, out),
            Change::Committed(id) | Change::Truncate { last: id, .. } => {
                put_maybe(*id, put_log_id, out);
            }
            Change::Purge(upto) => put_log_id(*upto, out),
            Change::Create => out.extend_from_slice(&group.replica.0.to_be_bytes()),
            Change::Append(_) | Change::Remove => {}
        }
        let body = self.scratch.get(content..).unwrap_or_default();
        let header = FrameHeader {
            kind,
            group: group.id,
            first,
            count: 0,
            meta_bytes: 0,
            body_bytes: number(body.len()),
            content_crc: checksum(&[body]),
        };
        self.end(at, &header);
    }

    /// Adds records, in as many frames as they need.
    pub(super) fn add_records(
        &mut self,
        kind: Kind,
        group: &Arc<Group>,
        mut records: &[LogRecord],
        operation: Option<usize>,
    ) {
        while let Some(first) = records.first() {
            let mut bytes = 0;
            let count = records
                .iter()
                .take(FRAME_RECORDS)
                .take_while(|record| {
                    let fits = bytes < FRAME_BYTES;
                    bytes += record.bytes.len();
                    fits
                })
                .count();
            let (these, rest) = records.split_at(count);
            let first = first.id.index;
            let start = self.payload_bytes;
            let body_bytes = self.add_frame(kind, group.id, first, these);
            self.placed.push(Placed {
                group: group.clone(),
                frame: start..self.payload_bytes,
                first: first.0,
                last: first.0 + count as u64 - 1,
                bytes: body_bytes,
                operation,
            });
            records = rest;
        }
    }

    fn add_frame(
        &mut self,
        kind: Kind,
        group: GroupId,
        first: LogIndex,
        records: &[LogRecord],
    ) -> u64 {
        let at = self.begin();
        let meta = self.scratch.len();
        encode_meta(records, &mut self.scratch);
        let meta = self.scratch.get(meta..).unwrap_or_default();
        let meta_bytes = meta.len();
        let mut crc = checksum(&[meta]);
        let mut body_bytes = 0;
        for record in records {
            crc = crc32c::crc32c_append(crc, &record.bytes);
            body_bytes += record.bytes.len();
            if record.bytes.len() <= COPIED_BYTES {
                self.scratch.extend_from_slice(&record.bytes);
            } else {
                self.piece();
                self.pieces.push(Piece::Shared(record.bytes.clone()));
            }
        }
        let header = FrameHeader {
            kind,
            group,
            first,
            count: number(records.len()),
            meta_bytes: number(meta_bytes),
            body_bytes: number(body_bytes),
            content_crc: crc,
        };
        self.end(at, &header);
        self.records += records.len() as u64;
        body_bytes as u64
    }

    fn begin(&mut self) -> usize {
        let at = self.scratch.len();
        self.headers.push(at);
        self.scratch.resize(at + FRAME_HEADER_BYTES, 0);
        at
    }

    fn end(&mut self, at: usize, header: &FrameHeader) {
        if let Some(place) = self.scratch.get_mut(at..at + FRAME_HEADER_BYTES) {
            place.copy_from_slice(&header.encode());
        }
        self.payload_bytes += (FRAME_HEADER_BYTES + header.content_bytes()) as u64;
    }

    /// Makes a piece of what is in the scratch only.
    fn piece(&mut self) {
        let end = self.scratch.len();
        if end > self.unpieced {
            self.pieces.push(Piece::Scratch(self.unpieced..end));
            self.unpieced = end;
        }
    }

    /// Fixes the batch for a place: only now its segment and its number are known.
    pub(super) fn seal(&mut self, epoch: u64, chain: Chain, checkpoint: Option<Vec<u8>>) -> Sealed {
        self.piece();
        let mut checkpoint = checkpoint.unwrap_or_default();
        let mut crc = 0;
        let mut frames = 0;
        if let Some(header) = checkpoint.get_mut(..FRAME_HEADER_BYTES) {
            seal_frame(header, epoch);
            crc = checksum(&[header]);
            frames = 1;
        }
        for at in &self.headers {
            if let Some(header) = self.scratch.get_mut(*at..*at + FRAME_HEADER_BYTES) {
                seal_frame(header, epoch);
                crc = crc32c::crc32c_append(crc, header);
            }
        }
        let (header, header_crc) = BatchHeader {
            frames: frames + number(self.headers.len()),
            payload_bytes: self.payload_bytes + checkpoint.len() as u64,
            epoch,
            sequence: chain.sequence,
            previous_crc: chain.previous_crc,
            frames_crc: crc,
        }
        .encode();
        Sealed {
            header,
            header_crc,
            checkpoint,
        }
    }

    /// Everything that is to be written, in order.
    pub(super) fn slices<'a>(&'a self, sealed: &'a Sealed, padding: &'a [u8]) -> Vec<IoSlice<'a>> {
        let mut slices = Vec::with_capacity(self.pieces.len() + 3);
        slices.push(IoSlice::new(&sealed.header));
        slices.push(IoSlice::new(&sealed.checkpoint));
        slices.extend(self.pieces.iter().map(|piece| {
            IoSlice::new(match piece {
                Piece::Scratch(range) => self.scratch.get(range.clone()).unwrap_or_default(),
                Piece::Shared(bytes) => bytes,
            })
        }));
        slices.push(IoSlice::new(padding));
        slices.retain(|slice| !slice.is_empty());
        slices
    }
}

/// The frame that begins a segment, without its header's checksum.
pub(super) fn checkpoint_frame(groups: &[CheckpointGroup]) -> Vec<u8> {
    let mut out = vec![0; FRAME_HEADER_BYTES];
    groups.iter().for_each(|group| group.encode(&mut out));
    let body = out.get(FRAME_HEADER_BYTES..).unwrap_or_default();
    let header = FrameHeader {
        kind: Kind::Checkpoint,
        group: GroupId(0),
        first: LogIndex(0),
        count: number(groups.len()),
        meta_bytes: 0,
        body_bytes: number(body.len()),
        content_crc: checksum(&[body]),
    }
    .encode();
    if let Some(place) = out.get_mut(..FRAME_HEADER_BYTES) {
        place.copy_from_slice(&header);
    }
    out
}
