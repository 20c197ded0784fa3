//! Messages on their way out: deliver, get-ok and return, each with its content, written straight from their parts.
//! Properties go out as they came in. Not here: who gets what.

use bytes::{BufMut, Bytes, BytesMut};
use warren_types::Properties;

use crate::{
    arguments::put_short,
    bookkeeping::DeliveryTag,
    content::HEADER_HEAD_BYTES,
    error::Code,
    frame::{ChannelId, FRAME_OVERHEAD_BYTES, FrameKind, put_end, put_frame, put_head},
    method::{MethodId, basic},
};

/// What basic.deliver says about a message. Texts are at most 255 bytes.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    pub consumer_tag: &'a str,
    pub delivery_tag: DeliveryTag,
    pub redelivered: bool,
    /// As published, or as last dead-lettered.
    pub exchange: &'a str,
    pub routing_key: &'a str,
}

/// What basic.get-ok says about a message.
#[derive(Clone, Copy, Debug)]
pub struct Got<'a> {
    pub delivery_tag: DeliveryTag,
    pub redelivered: bool,
    pub exchange: &'a str,
    pub routing_key: &'a str,
    /// Ready messages that remain in the queue.
    pub message_count: u32,
}

/// What basic.return says about a message that no queue took (312 NO_ROUTE).
#[derive(Clone, Copy, Debug)]
pub struct Returned<'a> {
    pub exchange: &'a str,
    pub routing_key: &'a str,
}

/// A message's content: properties, and the body in any number of pieces.
#[derive(Clone, Copy, Debug)]
pub struct Content<'a> {
    pub properties: &'a Properties,
    pub body: &'a [Bytes],
}

/// Appends basic.deliver with its content, the body cut into frames of at most `frame_max` bytes.
pub fn encode_delivery(
    out: &mut BytesMut,
    channel: ChannelId,
    delivery: &Delivery<'_>,
    content: Content<'_>,
    frame_max: u32,
) {
    put_method(out, channel, basic::Deliver::ID, |out| {
        put_short(out, delivery.consumer_tag);
        out.put_u64(delivery.delivery_tag.0);
        out.put_u8(u8::from(delivery.redelivered));
        put_short(out, delivery.exchange);
        put_short(out, delivery.routing_key);
    });
    put_content(out, channel, content, frame_max);
}

/// Appends basic.get-ok with its content.
pub fn encode_get_ok(
    out: &mut BytesMut,
    channel: ChannelId,
    got: &Got<'_>,
    content: Content<'_>,
    frame_max: u32,
) {
    put_method(out, channel, basic::GetOk::ID, |out| {
        out.put_u64(got.delivery_tag.0);
        out.put_u8(u8::from(got.redelivered));
        put_short(out, got.exchange);
        put_short(out, got.routing_key);
        out.put_u32(got.message_count);
    });
    put_content(out, channel, content, frame_max);
}

/// Appends basic.return with its content.
pub fn encode_return(
    out: &mut BytesMut,
    channel: ChannelId,
    returned: &Returned<'_>,
    content: Content<'_>,
    frame_max: u32,
) {
    put_method(out, channel, basic::Return::ID, |out| {
        out.put_u16(Code::NoRoute.number());
        put_short(out, Code::NoRoute.name());
        put_short(out, returned.exchange);
        put_short(out, returned.routing_key);
    });
    put_content(out, channel, content, frame_max);
}

/// Appends basic.publish with its content; for clients.
pub fn encode_publish(
    out: &mut BytesMut,
    channel: ChannelId,
    publish: &basic::Publish,
    content: Content<'_>,
    frame_max: u32,
) {
    put_method(out, channel, basic::Publish::ID, |out| {
        out.put_u16(0);
        put_short(out, &publish.exchange);
        put_short(out, &publish.routing_key);
        out.put_u8(u8::from(publish.mandatory) | u8::from(publish.immediate) << 1);
    });
    put_content(out, channel, content, frame_max);
}

fn put_method(
    out: &mut BytesMut,
    channel: ChannelId,
    id: MethodId,
    arguments: impl FnOnce(&mut BytesMut),
) {
    put_frame(out, FrameKind::Method, channel, |out| {
        out.put_u16(id.class);
        out.put_u16(id.method);
        arguments(out);
    });
}

/// Appends the content header and the body frames. A header cannot be cut: with properties larger than a consumer's
/// `frame_max` it goes out whole, as RabbitMQ sends it.
fn put_content(out: &mut BytesMut, channel: ChannelId, content: Content<'_>, frame_max: u32) {
    let properties = content.properties.as_wire();
    let mut missing: usize = content.body.iter().map(Bytes::len).sum();
    let payload_max = usize::try_from(frame_max.saturating_sub(FRAME_OVERHEAD_BYTES).max(1))
        .unwrap_or(usize::MAX);
    let frames = missing.div_ceil(payload_max) + 1;
    out.reserve(
        HEADER_HEAD_BYTES + properties.len() + missing + frames * FRAME_OVERHEAD_BYTES as usize,
    );

    put_frame(out, FrameKind::Header, channel, |out| {
        out.put_u16(basic::Publish::ID.class);
        out.put_u16(0);
        out.put_u64(missing as u64);
        out.put_slice(properties);
    });

    let mut pieces = content.body.iter();
    let mut piece: &[u8] = &[];
    while missing > 0 {
        let payload = missing.min(payload_max);
        missing -= payload;
        put_head(
            out,
            FrameKind::Body,
            channel,
            u32::try_from(payload).expect("at most frame_max"),
        );
        let mut open = payload;
        while open > 0 {
            if piece.is_empty() {
                piece = pieces.next().expect("the pieces add up to the size");
            }
            let (now, later) = piece.split_at(open.min(piece.len()));
            out.put_slice(now);
            open -= now.len();
            piece = later;
        }
        put_end(out);
    }
}
