//! Bytes of a segment file, version 1. Not here: when they are written (`writer`), how a file is walked (`scan`).
//!
//! All integers are big-endian; every checksum is a CRC-32C.
//!
//! ```text
//! segment  = head, then batches, each at an offset that 8 divides; what follows the last one means nothing
//! head     = "WARRENLG", format u32, sequence u64, epoch u64, crc u32 of these 28 bytes, zeros up to 4096
//! batch    = "WBAT", frames u32, payload bytes u64, epoch u64, batch sequence u64, crc of the previous batch's header u32,
//!            crc u32 of all frame headers in it, crc u32 of these 40 bytes, zero u32, then the payload, then zeros up to 8
//! payload  = frames
//! frame    = kind u8, zero 3 bytes, group u32, first index u64, count u32, meta bytes u32, body bytes u32,
//!            crc u32 of meta and body, crc u32 of the epoch and these 32 bytes, then meta, then body
//! log id   = term u64, leader u64, index u64;    vote = term u64, replica u64, committed u8;    maybe X = 0, or 1 and X
//! ```
//!
//! | kind | what | first, count | meta | body |
//! |---|---|---|---|---|
//! | 1 append, 6 rewrite | records; a rewrite holds records again that were written before | of the records | number of runs u32, per run {count u32, term u64, leader u64}, length of each record u32 | the records |
//! | 2 vote | | 0, 0 | | vote |
//! | 3 committed | | 0, 0 | | maybe log id |
//! | 4 truncate | removes all after an index | last index kept, 0 | | the log's last id after it: maybe log id |
//! | 5 purge | removes all up to an index | 0, 0 | | log id |
//! | 7 checkpoint | every group as it is before this batch; first frame of each segment and nowhere else | 0, groups | | per group {group u32, replica u64, maybe vote, maybe purged, maybe committed, maybe last} |
//! | 8 create | | 0, 0 | | replica u64 |
//! | 9 remove | | 0, 0 | | |
//!
//! The epoch is drawn at random whenever a file begins a life as a segment: what an earlier life left behind is told apart by it.
//! The header checksum of a batch covers, through the frame headers, every byte of it, and the next batch repeats it.

use bytes::Bytes;
use warren_types::{GroupId, LogId, LogIndex, ReplicaId, Term, Vote};

use crate::files::{checksum, take, take_u8, take_u32, take_u64};
use crate::log::contract::{GroupLogState, LogRecord};

pub(super) const FORMAT: u32 = 1;
/// Where a segment's first batch begins: the head has a block of its own, which no batch is ever torn over.
pub(super) const HEAD_BYTES: u64 = 4_096;
pub(super) const BATCH_HEADER_BYTES: usize = 48;
pub(super) const FRAME_HEADER_BYTES: usize = 36;
pub(super) const ALIGNMENT: u64 = 8;

const SEGMENT_MAGIC: [u8; 8] = *b"WARRENLG";
pub(super) const BATCH_MAGIC: [u8; 4] = *b"WBAT";

/// The numbers are on disk: never reuse one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Append = 1,
    Vote = 2,
    Committed = 3,
    Truncate = 4,
    Purge = 5,
    Rewrite = 6,
    Checkpoint = 7,
    Create = 8,
    Remove = 9,
}

impl Kind {
    fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Append,
            2 => Self::Vote,
            3 => Self::Committed,
            4 => Self::Truncate,
            5 => Self::Purge,
            6 => Self::Rewrite,
            7 => Self::Checkpoint,
            8 => Self::Create,
            9 => Self::Remove,
            _ => return None,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHead {
    pub(super) sequence: u64,
    pub(super) epoch: u64,
}

/// Why a segment's head is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HeadError {
    Damaged,
    Format(u32),
}

impl SegmentHead {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = SEGMENT_MAGIC.to_vec();
        out.extend_from_slice(&FORMAT.to_be_bytes());
        out.extend_from_slice(&self.sequence.to_be_bytes());
        out.extend_from_slice(&self.epoch.to_be_bytes());
        let sum = checksum(&[&out]);
        out.extend_from_slice(&sum.to_be_bytes());
        out.resize(usize::try_from(HEAD_BYTES).unwrap_or(4_096), 0);
        out
    }

    /// Reads a whole head, its zeros too.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, HeadError> {
        let content = bytes.get(..28).ok_or(HeadError::Damaged)?;
        let mut rest = bytes;
        let mut read = || {
            let magic: [u8; 8] = take(&mut rest)?;
            let format = take_u32(&mut rest)?;
            let head = Self {
                sequence: take_u64(&mut rest)?,
                epoch: take_u64(&mut rest)?,
            };
            let sum = take_u32(&mut rest)?;
            (magic == SEGMENT_MAGIC && sum == checksum(&[content])).then_some((format, head))
        };
        let (format, head) = read().ok_or(HeadError::Damaged)?;
        if format != FORMAT {
            return Err(HeadError::Format(format));
        }
        let whole = bytes.len() as u64 == HEAD_BYTES && rest.iter().all(|byte| *byte == 0);
        whole.then_some(head).ok_or(HeadError::Damaged)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchHeader {
    pub(super) frames: u32,
    pub(super) payload_bytes: u64,
    pub(super) epoch: u64,
    pub(super) sequence: u64,
    pub(super) previous_crc: u32,
    pub(super) frames_crc: u32,
}

impl BatchHeader {
    /// The encoded header and its checksum, which the next batch repeats.
    pub(super) fn encode(&self) -> ([u8; BATCH_HEADER_BYTES], u32) {
        let mut out = Vec::with_capacity(BATCH_HEADER_BYTES);
        out.extend_from_slice(&BATCH_MAGIC);
        out.extend_from_slice(&self.frames.to_be_bytes());
        out.extend_from_slice(&self.payload_bytes.to_be_bytes());
        out.extend_from_slice(&self.epoch.to_be_bytes());
        out.extend_from_slice(&self.sequence.to_be_bytes());
        out.extend_from_slice(&self.previous_crc.to_be_bytes());
        out.extend_from_slice(&self.frames_crc.to_be_bytes());
        let sum = checksum(&[&out]);
        out.extend_from_slice(&sum.to_be_bytes());
        let mut header = [0; BATCH_HEADER_BYTES];
        for (to, from) in header.iter_mut().zip(out) {
            *to = from;
        }
        (header, sum)
    }

    /// The header at the front of `bytes` and its checksum, if it belongs to a segment of that epoch.
    pub(super) fn decode(bytes: &[u8], epoch: u64) -> Option<(Self, u32)> {
        let content = bytes.get(..40)?;
        let mut rest = bytes;
        if take::<4>(&mut rest)? != BATCH_MAGIC {
            return None;
        }
        let header = Self {
            frames: take_u32(&mut rest)?,
            payload_bytes: take_u64(&mut rest)?,
            epoch: take_u64(&mut rest)?,
            sequence: take_u64(&mut rest)?,
            previous_crc: take_u32(&mut rest)?,
            frames_crc: take_u32(&mut rest)?,
        };
        let sum = take_u32(&mut rest)?;
        let zero = take_u32(&mut rest)?;
        let whole = header.epoch == epoch && sum == checksum(&[content]) && zero == 0;
        whole.then_some((header, sum))
    }
}

/// The next offset at which a batch may begin.
pub(super) fn aligned(offset: u64) -> u64 {
    offset.next_multiple_of(ALIGNMENT)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) kind: Kind,
    pub(super) group: GroupId,
    pub(super) first: LogIndex,
    pub(super) count: u32,
    pub(super) meta_bytes: u32,
    pub(super) body_bytes: u32,
    pub(super) content_crc: u32,
}

impl FrameHeader {
    /// The header, without the checksum that [`seal_frame`] adds.
    pub(super) fn encode(&self) -> [u8; FRAME_HEADER_BYTES] {
        let mut out = Vec::with_capacity(FRAME_HEADER_BYTES);
        out.extend_from_slice(&[self.kind as u8, 0, 0, 0]);
        out.extend_from_slice(&self.group.0.to_be_bytes());
        out.extend_from_slice(&self.first.0.to_be_bytes());
        out.extend_from_slice(&self.count.to_be_bytes());
        out.extend_from_slice(&self.meta_bytes.to_be_bytes());
        out.extend_from_slice(&self.body_bytes.to_be_bytes());
        out.extend_from_slice(&self.content_crc.to_be_bytes());
        let mut header = [0; FRAME_HEADER_BYTES];
        for (to, from) in header.iter_mut().zip(out) {
            *to = from;
        }
        header
    }

    pub(super) fn decode(bytes: &[u8], epoch: u64) -> Option<Self> {
        let content = bytes.get(..32)?;
        let mut rest = bytes;
        let [number, 0, 0, 0] = take(&mut rest)? else {
            return None;
        };
        let header = Self {
            kind: Kind::from_number(number)?,
            group: GroupId(take_u32(&mut rest)?),
            first: LogIndex(take_u64(&mut rest)?),
            count: take_u32(&mut rest)?,
            meta_bytes: take_u32(&mut rest)?,
            body_bytes: take_u32(&mut rest)?,
            content_crc: take_u32(&mut rest)?,
        };
        let sum = take_u32(&mut rest)?;
        (sum == checksum(&[&epoch.to_be_bytes(), content])).then_some(header)
    }

    pub(super) fn content_bytes(&self) -> usize {
        self.meta_bytes as usize + self.body_bytes as usize
    }

    /// Index of the last record.
    pub(super) fn last(&self) -> LogIndex {
        LogIndex((self.first.0 + u64::from(self.count)).saturating_sub(1))
    }
}

/// Adds to an encoded header its checksum, now that it is known which segment the frame goes to.
pub(super) fn seal_frame(header: &mut [u8], epoch: u64) {
    if let Some((content, sum)) = header.split_last_chunk_mut::<4>() {
        *sum = checksum(&[&epoch.to_be_bytes(), content]).to_be_bytes();
    }
}

/// Entries of one leader that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) count: u32,
    pub(super) term: Term,
    pub(super) leader: ReplicaId,
}

/// Writes the meta part of records; they are fewer than 2^32, and each shorter.
pub(super) fn encode_meta(records: &[LogRecord], out: &mut Vec<u8>) {
    let counted = out.len();
    out.extend_from_slice(&[0; 4]);
    let mut runs = 0_u32;
    for run in records.chunk_by(|a, b| (a.id.term, a.id.leader) == (b.id.term, b.id.leader)) {
        let Some(first) = run.first() else { continue };
        runs += 1;
        out.extend_from_slice(&number(run.len()).to_be_bytes());
        out.extend_from_slice(&first.id.term.0.to_be_bytes());
        out.extend_from_slice(&first.id.leader.0.to_be_bytes());
    }
    for record in records {
        out.extend_from_slice(&number(record.bytes.len()).to_be_bytes());
    }
    for (to, from) in out.iter_mut().skip(counted).zip(runs.to_be_bytes()) {
        *to = from;
    }
}

/// A length in 32 bits. Frames are cut long before; one record is bounded by what a client may send.
pub(super) fn number(length: usize) -> u32 {
    u32::try_from(length).expect("a record and a frame are far smaller than 4 GiB")
}

/// Takes the runs off the front of a meta part.
pub(super) fn take_runs(meta: &mut &[u8]) -> Option<Vec<Run>> {
    (0..take_u32(meta)?)
        .map(|_| {
            Some(Run {
                count: take_u32(meta)?,
                term: Term(take_u64(meta)?),
                leader: ReplicaId(take_u64(meta)?),
            })
        })
        .collect()
}

/// The records of an append or rewrite whose checksum was verified. `content` is meta and body.
pub(super) fn decode_records(header: &FrameHeader, content: &Bytes) -> Option<Vec<LogRecord>> {
    let mut meta = content.get(..header.meta_bytes as usize)?;
    let mut body = content.slice(header.meta_bytes as usize..);
    let runs = take_runs(&mut meta)?;
    let ids = runs
        .iter()
        .flat_map(|run| (0..run.count).map(|_| (run.term, run.leader)));
    let mut records = Vec::with_capacity(header.count as usize);
    for (index, (term, leader)) in (header.first.0..).zip(ids) {
        let length = take_u32(&mut meta)? as usize;
        if length > body.len() {
            return None;
        }
        let id = LogId {
            term,
            leader,
            index: LogIndex(index),
        };
        let bytes = body.split_to(length);
        records.push(LogRecord { id, bytes });
    }
    let whole = meta.is_empty() && body.is_empty() && records.len() == header.count as usize;
    whole.then_some(records)
}

pub(super) fn put_vote(vote: Vote, out: &mut Vec<u8>) {
    out.extend_from_slice(&vote.term.0.to_be_bytes());
    out.extend_from_slice(&vote.replica.0.to_be_bytes());
    out.push(u8::from(vote.committed));
}

pub(super) fn take_vote(bytes: &mut &[u8]) -> Option<Vote> {
    Some(Vote {
        term: Term(take_u64(bytes)?),
        replica: ReplicaId(take_u64(bytes)?),
        committed: take_u8(bytes)? == 1,
    })
}

pub(super) fn put_log_id(id: LogId, out: &mut Vec<u8>) {
    out.extend_from_slice(&id.term.0.to_be_bytes());
    out.extend_from_slice(&id.leader.0.to_be_bytes());
    out.extend_from_slice(&id.index.0.to_be_bytes());
}

pub(super) fn take_log_id(bytes: &mut &[u8]) -> Option<LogId> {
    Some(LogId {
        term: Term(take_u64(bytes)?),
        leader: ReplicaId(take_u64(bytes)?),
        index: LogIndex(take_u64(bytes)?),
    })
}

pub(super) fn put_maybe<T>(value: Option<T>, put: fn(T, &mut Vec<u8>), out: &mut Vec<u8>) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(value, out);
    }
}

pub(super) fn take_maybe<T>(
    bytes: &mut &[u8],
    value: fn(&mut &[u8]) -> Option<T>,
) -> Option<Option<T>> {
    match take_u8(bytes)? {
        0 => Some(None),
        1 => value(bytes).map(Some),
        _ => None,
    }
}

/// A group as a checkpoint holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CheckpointGroup {
    pub(super) group: GroupId,
    pub(super) replica: ReplicaId,
    pub(super) state: GroupLogState,
}

impl CheckpointGroup {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.group.0.to_be_bytes());
        out.extend_from_slice(&self.replica.0.to_be_bytes());
        put_maybe(self.state.vote, put_vote, out);
        put_maybe(self.state.purged, put_log_id, out);
        put_maybe(self.state.committed, put_log_id, out);
        put_maybe(self.state.last, put_log_id, out);
    }

    pub(super) fn take(bytes: &mut &[u8]) -> Option<Self> {
        Some(Self {
            group: GroupId(take_u32(bytes)?),
            replica: ReplicaId(take_u64(bytes)?),
            state: GroupLogState {
                vote: take_maybe(bytes, take_vote)?,
                purged: take_maybe(bytes, take_log_id)?,
                committed: take_maybe(bytes, take_log_id)?,
                last: take_maybe(bytes, take_log_id)?,
            },
        })
    }
}
