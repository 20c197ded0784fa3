//! Prints what encoding and decoding cost: blocks of 100 messages of 1 KiB. Run it with optimisation. Not here: assertions.
#![allow(clippy::print_stdout, clippy::disallowed_methods)]

use std::{hint::black_box, sync::Arc, time::Instant};

use bytes::{Bytes, BytesMut};
use warren_codec::{
    StoredMessageView, decode_entry, decode_row, encode_entry, encode_key, encode_message,
    encode_row,
};
use warren_queue::{
    entry::{Command, Enqueue, ProposalId, ShardEntry},
    rows::{BlockRow, Row, RowKey},
};
use warren_types::{
    ExchangeName, Facts, Message, NameError, Position, Priority, PropertiesBuilder,
    PropertiesError, QueueId, RoutingKey, ShardTime, TopologyIndex,
};

const MESSAGES: u32 = 100;
const ROUNDS: u32 = 2_000;

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Properties(#[from] PropertiesError),
    #[error(transparent)]
    Codec(#[from] warren_codec::CodecError),
}

/// The fastest round tells the cost of the code; the middle one what else the machine does.
fn timed(what: &str, mut run: impl FnMut() -> Result<(), Failed>) -> Result<(), Failed> {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        run()?;
        rounds.push(begin.elapsed().as_nanos() / u128::from(MESSAGES));
    }
    rounds.sort_unstable();
    let fastest = rounds.first().copied().unwrap_or_default();
    let middle = rounds.get(rounds.len() / 2).copied().unwrap_or_default();
    println!("{what}: {fastest} ns per message (median {middle})");
    Ok(())
}

fn message() -> Result<Message, Failed> {
    Ok(Message {
        exchange: ExchangeName::try_from("")?,
        routing_key: RoutingKey::try_from("orders")?,
        properties: PropertiesBuilder::new()
            .content_type("application/json")
            .delivery_mode(2)
            .build()?,
        body: Bytes::from(vec![7; 1024]),
        priority: Priority::DEFAULT,
        ttl_ms: None,
        delay_ms: None,
        group_hash: 0,
        fairness_hash: 0,
        dedup_hash: 0,
        user: None,
        trace: Bytes::new(),
        died: false,
    })
}

fn main() -> Result<(), Failed> {
    let message = message()?;
    let now = ShardTime(1_700_000_000_000);
    let mut payload = BytesMut::new();
    let mut facts = Facts::default();
    for _ in 0..MESSAGES {
        let sizes = encode_message(&mut payload, &message, now);
        facts.size.push(sizes.encoded);
        facts.body_size.push(sizes.body);
    }
    let payload = payload.freeze();

    let mut out = BytesMut::with_capacity(1 << 20);
    timed("encode message", || {
        out.clear();
        for _ in 0..MESSAGES {
            encode_message(&mut out, black_box(&message), now);
        }
        Ok(())
    })?;
    timed("open message", || {
        let mut at = 0;
        for size in &facts.size {
            let end = at + usize::try_from(*size).unwrap_or(usize::MAX);
            black_box(StoredMessageView::open(&payload.slice(at..end))?);
            at = end;
        }
        Ok(())
    })?;

    entries(&facts, &payload)?;
    rows(facts, payload)
}

fn entries(facts: &Facts, payload: &Bytes) -> Result<(), Failed> {
    let entry = ShardEntry {
        proposal: ProposalId::default(),
        now: ShardTime(1_700_000_000_000),
        topology: TopologyIndex(1),
        origins: Vec::new(),
        commands: vec![Command::Enqueue(Enqueue {
            queue: QueueId(1),
            priority: Priority::DEFAULT,
            facts: facts.clone(),
            payload: payload.clone(),
            producers: Vec::new(),
            raise: Some(100),
            full: Vec::new(),
            dedup: None,
        })],
    };
    let bytes = encode_entry(&entry);
    timed("encode entry", || {
        black_box(encode_entry(black_box(&entry)));
        Ok(())
    })?;
    timed("decode entry", || {
        black_box(decode_entry(black_box(&bytes))?);
        Ok(())
    })
}

fn rows(facts: Facts, payload: Bytes) -> Result<(), Failed> {
    let key = encode_key(&RowKey::Block {
        queue: QueueId(1),
        priority: Priority::DEFAULT,
        first: Position(1),
    });
    let row = Row::Block(BlockRow {
        first: Position(1),
        facts: Arc::new(facts),
        payload,
    });
    let value = encode_row(&key, &row);
    timed("encode block row", || {
        black_box(encode_row(&key, black_box(&row)));
        Ok(())
    })?;
    timed("decode block row", || {
        black_box(decode_row(&key, black_box(&value))?);
        Ok(())
    })
}
