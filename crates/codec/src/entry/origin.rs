//! The numbered batches an entry carries; neighbours of one node in one list. Not here: what taking them means (`queue::store`).

use bytes::Bytes;
use warren_proto::stored_v1 as pb;
use warren_queue::entry::{OriginBatch, OriginPart};
use warren_types::{BatchSequence, Incarnation, Run};

use crate::error::{CodecError, malformed};

const WHAT: &str = "origin";

pub(super) fn encode(batches: &[OriginBatch]) -> Vec<pb::Origin> {
    let mut origins: Vec<pb::Origin> = Vec::new();
    let mut previous: Option<&OriginBatch> = None;
    for batch in batches {
        let follows = previous.is_some_and(|it| {
            it.incarnation == batch.incarnation
                && it.run == batch.run
                && it.sequence.0.checked_add(1) == Some(batch.sequence.0)
        });
        match origins.last_mut().filter(|_| follows) {
            Some(origin) => {
                origin.last_sequence = batch.sequence.0;
                origin.batches.push(parts(batch));
            }
            None => origins.push(pb::Origin {
                node: 0,
                incarnation: Bytes::copy_from_slice(&batch.incarnation.0.to_be_bytes()),
                run: batch.run.0,
                first_sequence: batch.sequence.0,
                last_sequence: batch.sequence.0,
                batches: vec![parts(batch)],
            }),
        }
        previous = Some(batch);
    }
    origins
}

fn parts(batch: &OriginBatch) -> pb::OriginBatch {
    pb::OriginBatch {
        command: batch.parts.iter().map(|it| it.command).collect(),
        first: batch.parts.iter().map(|it| it.first).collect(),
        count: batch.parts.iter().map(|it| it.count).collect(),
    }
}

pub(super) fn decode(origins: Vec<pb::Origin>) -> Result<Vec<OriginBatch>, CodecError> {
    let mut batches = Vec::new();
    for origin in origins {
        let incarnation = incarnation(&origin.incarnation)?;
        let run = Run(origin.run);
        let mut sequence = Some(origin.first_sequence);
        let mut last = None;
        for batch in origin.batches {
            let number = sequence.ok_or_else(|| malformed(WHAT, "the sequences pass the end"))?;
            batches.push(OriginBatch {
                incarnation,
                run,
                sequence: BatchSequence(number),
                parts: decode_parts(&batch)?,
            });
            last = Some(number);
            sequence = number.checked_add(1);
        }
        if last != Some(origin.last_sequence) {
            return Err(malformed(
                WHAT,
                "its batches are not those of its sequences",
            ));
        }
    }
    Ok(batches)
}

fn decode_parts(batch: &pb::OriginBatch) -> Result<Vec<OriginPart>, CodecError> {
    if batch.first.len() != batch.command.len() || batch.count.len() != batch.command.len() {
        return Err(malformed(WHAT, "the columns differ in length"));
    }
    let columns = batch.command.iter().zip(&batch.first).zip(&batch.count);
    Ok(columns
        .map(|((&command, &first), &count)| OriginPart {
            command,
            first,
            count,
        })
        .collect())
}

pub(crate) fn incarnation(bytes: &[u8]) -> Result<Incarnation, CodecError> {
    match bytes.try_into() {
        Ok(bytes) => Ok(Incarnation(u128::from_be_bytes(bytes))),
        Err(_) => Err(malformed("incarnation", "it does not have 16 bytes")),
    }
}
