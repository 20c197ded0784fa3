//! Frames of an open connection: their order on each channel, and which methods go to the session.
//! Not here: what the session does with them.

use super::{Connection, State, channels::Phase};
use crate::{
    content::{Incoming, Progress},
    error::AmqpError,
    event::{Event, Request},
    frame::{ChannelId, Frame, FrameKind},
    method::{Method, MethodId, access, basic, channel, confirm, connection, exchange, queue, tx},
    sasl::Secret,
};

type Outcome = Result<Option<Event>, AmqpError>;

/// A heartbeat is empty and belongs to the connection.
pub(super) fn check_heartbeat(frame: &Frame) -> Result<(), AmqpError> {
    if frame.channel != ChannelId::CONNECTION {
        // Raised for the connection whatever the channel's state: the code is a hard one.
        return Err(AmqpError::unexpected_frame(format_args!(
            "heartbeat on channel {}",
            frame.channel
        )));
    }
    if !frame.payload.is_empty() {
        return Err(AmqpError::frame_error(format_args!(
            "heartbeat with {} bytes",
            frame.payload.len()
        )));
    }
    Ok(())
}

impl Connection {
    pub(super) fn running_frame(&mut self, frame: Frame) -> Outcome {
        let channel = frame.channel;
        if frame.kind == FrameKind::Heartbeat {
            return check_heartbeat(&frame).map(|()| None);
        }
        if channel == ChannelId::CONNECTION {
            return self.connection_frame(&frame);
        }
        match self.channels.get_mut(channel) {
            None => self.frame_on_unknown_channel(&frame),
            Some(phase @ (Phase::Open | Phase::Header(_) | Phase::Body(_))) => {
                match std::mem::replace(phase, Phase::Open) {
                    Phase::Header(method) => self.content_header(frame, method),
                    Phase::Body(incoming) => self.content_body(frame, incoming),
                    Phase::Open | Phase::ClientClosing | Phase::Closing | Phase::ClosingBoth => {
                        self.channel_method(&frame)
                    }
                }
            }
            Some(Phase::ClientClosing) => Err(AmqpError::channel_error(format_args!(
                "channel {channel} used after channel.close"
            ))),
            Some(Phase::Closing | Phase::ClosingBoth) => self.frame_on_closing_channel(&frame),
        }
    }

    fn connection_frame(&mut self, frame: &Frame) -> Outcome {
        if frame.kind != FrameKind::Method {
            return Err(AmqpError::unexpected_frame("content on channel 0"));
        }
        let method = Method::decode(&frame.payload)?;
        let id = method.id();
        let Method::Connection(method) = method else {
            return Err(
                AmqpError::channel_error(format_args!("method {id} on channel 0")).for_method(id),
            );
        };
        match method {
            connection::Method::Close(it) => {
                self.state = State::ClientClosing;
                Ok(Some(Event::Close {
                    reply_code: it.reply_code,
                    reply_text: it.reply_text,
                }))
            }
            connection::Method::UpdateSecret(it) => Ok(Some(Event::UpdateSecret {
                secret: Secret(it.new_secret),
            })),
            connection::Method::StartOk(_)
            | connection::Method::SecureOk(_)
            | connection::Method::TuneOk(_)
            | connection::Method::Open(_)
            | connection::Method::CloseOk(_) => {
                let text = format_args!("method {id} on an open connection");
                Err(AmqpError::channel_error(text).for_method(id))
            }
            connection::Method::Start(_)
            | connection::Method::Secure(_)
            | connection::Method::Tune(_)
            | connection::Method::OpenOk(_)
            | connection::Method::Blocked(_)
            | connection::Method::Unblocked(_)
            | connection::Method::UpdateSecretOk(_) => Err(not_served(id)),
        }
    }

    fn frame_on_unknown_channel(&mut self, frame: &Frame) -> Outcome {
        let channel = frame.channel;
        let id = if frame.kind == FrameKind::Method {
            Method::decode(&frame.payload)?.id()
        } else {
            MethodId::NONE
        };
        let max = self.tuning.channel_max;
        match id {
            channel::Open::ID if channel.0 > max => {
                let text =
                    format_args!("channel {channel} is above the agreed channel_max of {max}");
                Err(AmqpError::not_allowed(text).for_method(id))
            }
            channel::Open::ID => self.open_channel(channel).map(Some),
            // The answer to a close that crossed the client's own: it comes when the number is free already.
            channel::CloseOk::ID if channel.0 <= max => Ok(None),
            MethodId { class, .. } if class == connection::Close::ID.class => {
                Err(on_wrong_channel(id, channel))
            }
            _ => Err(
                AmqpError::channel_error(format_args!("channel {channel} is not open"))
                    .for_method(id),
            ),
        }
    }

    /// # Errors
    /// 530 if there is no room for more.
    fn open_channel(&mut self, channel: ChannelId) -> Result<Event, AmqpError> {
        if let Some((room, why)) = &mut self.channel_room {
            let left = room.checked_sub(1);
            *room =
                left.ok_or_else(|| AmqpError::not_allowed(why).for_method(channel::Open::ID))?;
        }
        self.channels.open(channel);
        Method::from(channel::OpenOk {}).encode(&mut self.output, channel);
        Ok(Event::ChannelOpened { channel })
    }

    /// Looks at the method's number only: what the client sent before it knew is not decoded any more.
    fn frame_on_closing_channel(&mut self, frame: &Frame) -> Outcome {
        let channel = frame.channel;
        if frame.kind != FrameKind::Method {
            return Ok(None);
        }
        let id = MethodId::peek(&frame.payload);
        let (Some(id), Some(phase)) = (id, self.channels.get_mut(channel)) else {
            return Ok(None);
        };
        match id {
            channel::CloseOk::ID => self.channels.forget(channel),
            channel::Close::ID => {
                *phase = Phase::ClosingBoth;
                Method::from(channel::CloseOk {}).encode(&mut self.output, channel);
            }
            channel::Open::ID if matches!(phase, Phase::ClosingBoth) => {
                return self.open_channel(channel).map(Some);
            }
            _ => {}
        }
        Ok(None)
    }

    fn content_header(&mut self, frame: Frame, method: basic::Publish) -> Outcome {
        if frame.kind != FrameKind::Header {
            return Err(out_of_turn(&frame, "a content header"));
        }
        let progress = Incoming::header(method, frame.payload, self.config.message_bytes_max)?;
        Ok(self.content_progress(frame.channel, progress))
    }

    fn content_body(&mut self, frame: Frame, incoming: Box<Incoming>) -> Outcome {
        if frame.kind != FrameKind::Body {
            return Err(out_of_turn(&frame, "a content body"));
        }
        let progress = incoming.body(frame.payload)?;
        Ok(self.content_progress(frame.channel, progress))
    }

    fn content_progress(&mut self, channel: ChannelId, progress: Progress) -> Option<Event> {
        match progress {
            Progress::Complete(publish) => Some(Event::Publish { channel, publish }),
            Progress::More(incoming) => {
                if let Some(phase) = self.channels.get_mut(channel) {
                    *phase = Phase::Body(incoming);
                }
                None
            }
        }
    }

    fn channel_method(&mut self, frame: &Frame) -> Outcome {
        if frame.kind != FrameKind::Method {
            return Err(out_of_turn(frame, "a method"));
        }
        let channel = frame.channel;
        let request = match Method::decode(&frame.payload)? {
            Method::Basic(basic::Method::Publish(it)) => {
                return self.publish(channel, it).map(|()| None);
            }
            Method::Basic(it) => basic_request(it)?,
            Method::Exchange(it) => Some(exchange_request(it)?),
            Method::Queue(it) => Some(queue_request(it)?),
            Method::Confirm(confirm::Method::Select(it)) => Some(Request::ConfirmSelect(it)),
            Method::Confirm(it @ confirm::Method::SelectOk(_)) => return Err(not_served(it.id())),
            Method::Tx(it) => Some(tx_request(&it)?),
            Method::Channel(it) => return self.channel_class(channel, it),
            Method::Access(access::Method::Request(_)) => {
                Method::from(access::RequestOk { ticket: 1 }).encode(&mut self.output, channel);
                None
            }
            Method::Access(it @ access::Method::RequestOk(_)) => return Err(not_served(it.id())),
            Method::Connection(it) => return Err(on_wrong_channel(it.id(), channel)),
        };
        Ok(request.map(|request| Event::Request { channel, request }))
    }

    fn publish(&mut self, channel: ChannelId, it: basic::Publish) -> Result<(), AmqpError> {
        if it.immediate {
            return Err(AmqpError::not_implemented("immediate=true").for_method(basic::Publish::ID));
        }
        if let Some(phase) = self.channels.get_mut(channel) {
            *phase = Phase::Header(it);
        }
        Ok(())
    }

    fn channel_class(&mut self, channel: ChannelId, method: channel::Method) -> Outcome {
        let id = method.id();
        match method {
            channel::Method::Close(it) => {
                if let Some(phase) = self.channels.get_mut(channel) {
                    *phase = Phase::ClientClosing;
                }
                let (reply_code, reply_text) = (it.reply_code, it.reply_text);
                Ok(Some(Event::ChannelClose {
                    channel,
                    reply_code,
                    reply_text,
                }))
            }
            channel::Method::Flow(channel::Flow { active: true }) => {
                Method::from(channel::FlowOk { active: true }).encode(&mut self.output, channel);
                Ok(None)
            }
            channel::Method::Flow(channel::Flow { active: false }) => {
                Err(AmqpError::not_implemented("channel.flow active=false").for_method(id))
            }
            channel::Method::Open(_) => Err(AmqpError::channel_error(format_args!(
                "channel {channel} is open already"
            ))
            .for_method(id)),
            channel::Method::CloseOk(_) => {
                let text = format_args!("channel.close-ok on channel {channel}, which is open");
                Err(AmqpError::channel_error(text).for_method(id))
            }
            channel::Method::FlowOk(_) => Ok(None),
            channel::Method::OpenOk(_) => Err(not_served(id)),
        }
    }
}

fn not_served(id: MethodId) -> AmqpError {
    AmqpError::command_invalid(format_args!("method {id} is for clients to receive")).for_method(id)
}

fn on_wrong_channel(id: MethodId, channel: ChannelId) -> AmqpError {
    AmqpError::command_invalid(format_args!(
        "method {id} on channel {channel} instead of 0"
    ))
    .for_method(id)
}

fn out_of_turn(frame: &Frame, expected: &str) -> AmqpError {
    let came = match frame.kind {
        FrameKind::Method => "a method",
        FrameKind::Header => "a content header",
        FrameKind::Body => "a content body",
        FrameKind::Heartbeat => "a heartbeat",
    };
    let id = match frame.kind {
        FrameKind::Method => MethodId::peek(&frame.payload).unwrap_or(MethodId::NONE),
        FrameKind::Header | FrameKind::Body | FrameKind::Heartbeat => MethodId::NONE,
    };
    AmqpError::unexpected_frame(format_args!("expected {expected}, got {came}")).for_method(id)
}

/// `None`: nothing to do.
fn basic_request(method: basic::Method) -> Result<Option<Request>, AmqpError> {
    let id = method.id();
    let unserved = |text: &str| Err(AmqpError::not_implemented(text).for_method(id));
    Ok(Some(match method {
        basic::Method::Ack(it) => Request::Ack(it),
        basic::Method::Nack(it) => Request::Nack(it),
        basic::Method::Reject(it) => Request::Reject(it),
        basic::Method::Get(it) => Request::Get(it),
        basic::Method::Consume(it) => Request::Consume(it),
        basic::Method::Cancel(it) => Request::Cancel(it),
        basic::Method::Qos(it) if it.prefetch_size != 0 => {
            return unserved("prefetch_size other than 0");
        }
        basic::Method::Qos(it) => Request::Qos(it),
        basic::Method::Recover(it) if it.requeue => Request::Recover { reply: true },
        basic::Method::RecoverAsync(it) if it.requeue => Request::Recover { reply: false },
        basic::Method::Recover(_) | basic::Method::RecoverAsync(_) => {
            return unserved("recover with requeue=false");
        }
        // Our own cancel asks for no answer; a client that gives one all the same is not wrong.
        basic::Method::CancelOk(_) => return Ok(None),
        basic::Method::QosOk(_)
        | basic::Method::ConsumeOk(_)
        | basic::Method::Publish(_)
        | basic::Method::Return(_)
        | basic::Method::Deliver(_)
        | basic::Method::GetOk(_)
        | basic::Method::GetEmpty(_)
        | basic::Method::RecoverOk(_) => return Err(not_served(id)),
    }))
}

fn exchange_request(method: exchange::Method) -> Result<Request, AmqpError> {
    let id = method.id();
    Ok(match method {
        exchange::Method::Declare(it) => Request::ExchangeDeclare(it),
        exchange::Method::Delete(it) => Request::ExchangeDelete(it),
        exchange::Method::Bind(it) => Request::ExchangeBind(it),
        exchange::Method::Unbind(it) => Request::ExchangeUnbind(it),
        exchange::Method::DeclareOk(_)
        | exchange::Method::DeleteOk(_)
        | exchange::Method::BindOk(_)
        | exchange::Method::UnbindOk(_) => return Err(not_served(id)),
    })
}

fn queue_request(method: queue::Method) -> Result<Request, AmqpError> {
    let id = method.id();
    Ok(match method {
        queue::Method::Declare(it) => Request::QueueDeclare(it),
        queue::Method::Delete(it) => Request::QueueDelete(it),
        queue::Method::Purge(it) => Request::QueuePurge(it),
        queue::Method::Bind(it) => Request::QueueBind(it),
        queue::Method::Unbind(it) => Request::QueueUnbind(it),
        queue::Method::DeclareOk(_)
        | queue::Method::DeleteOk(_)
        | queue::Method::PurgeOk(_)
        | queue::Method::BindOk(_)
        | queue::Method::UnbindOk(_) => return Err(not_served(id)),
    })
}

fn tx_request(method: &tx::Method) -> Result<Request, AmqpError> {
    Ok(match method {
        tx::Method::Select(_) => Request::TxSelect,
        tx::Method::Commit(_) => Request::TxCommit,
        tx::Method::Rollback(_) => Request::TxRollback,
        tx::Method::SelectOk(_) | tx::Method::CommitOk(_) | tx::Method::RollbackOk(_) => {
            return Err(not_served(method.id()));
        }
    })
}
