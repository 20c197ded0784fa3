//! What a session may say on a connection. Everything is appended to the output; what is said on a channel that is not
//! open any more is dropped and answered `false`, so that a session need not know how far a close has come.

use super::{Connection, Input, State, Time};
use crate::{
    bookkeeping::{Confirm, Outcome},
    config::Config,
    deliver::{Content, Delivery, Got, Returned, encode_delivery, encode_get_ok, encode_return},
    error::{AmqpError, Level},
    event::EndReason,
    frame::ChannelId,
    method::{Method, basic, channel, connection},
    text::ShortString,
};

impl Connection {
    fn put(&mut self, channel: ChannelId, method: impl Into<Method>) {
        method.into().encode(&mut self.output, channel);
    }

    /// Answers [`crate::Event::Login`]: the client is who it claims to be.
    pub fn login_ok(&mut self) {
        if self.state == State::Login {
            self.put(ChannelId::CONNECTION, Config::tune(&self.config));
            self.state = State::TuneOk;
        }
    }

    /// Answers [`crate::Event::Login`]: it is not. Told with 403 if the client understands that, without saying why;
    /// else the connection just ends.
    pub fn login_refused(&mut self, now: Time) {
        if self.state != State::Login {
            return;
        }
        if self.client.capabilities.authentication_failure_close {
            let text = format_args!(
                "Login was refused using authentication mechanism {}. For details see the broker logfile.",
                &*self.mechanism
            );
            let error = AmqpError::access_refused(text).for_method(connection::StartOk::ID);
            self.fail(ChannelId::CONNECTION, error, now);
        } else {
            self.end(EndReason::LoginRefused);
        }
    }

    /// How many more channels the client may open (530 with the text beyond), until this is called again. `None`: as agreed on.
    pub fn set_channel_room(&mut self, room: Option<(u32, Box<str>)>) {
        self.channel_room = room;
    }

    /// Answers [`crate::Event::Open`]. Refuse with [`Connection::fail`].
    pub fn open_ok(&mut self) {
        if self.state == State::Vhost {
            self.put(ChannelId::CONNECTION, connection::OpenOk {});
            self.state = State::Running;
        }
    }

    /// Says a method on an open channel: an answer, say.
    pub fn send(&mut self, channel: ChannelId, method: impl Into<Method>) -> bool {
        let open = self.is_open(channel);
        if open {
            self.put(channel, method);
        }
        open
    }

    /// Hands a message to a consumer.
    pub fn deliver(
        &mut self,
        channel: ChannelId,
        delivery: &Delivery<'_>,
        content: Content<'_>,
    ) -> bool {
        let open = self.is_open(channel);
        if open {
            encode_delivery(
                &mut self.output,
                channel,
                delivery,
                content,
                self.tuning.frame_max,
            );
        }
        open
    }

    /// Answers basic.get with a message; answer with [`basic::GetEmpty`] by [`Connection::send`] if there is none.
    pub fn get_ok(&mut self, channel: ChannelId, got: &Got<'_>, content: Content<'_>) -> bool {
        let open = self.is_open(channel);
        if open {
            encode_get_ok(
                &mut self.output,
                channel,
                got,
                content,
                self.tuning.frame_max,
            );
        }
        open
    }

    /// Gives a mandatory message back that no queue takes. Before its confirm.
    pub fn return_message(
        &mut self,
        channel: ChannelId,
        returned: &Returned<'_>,
        content: Content<'_>,
    ) -> bool {
        let open = self.is_open(channel);
        if open {
            encode_return(
                &mut self.output,
                channel,
                returned,
                content,
                self.tuning.frame_max,
            );
        }
        open
    }

    /// Says what [`crate::ConfirmTracker::flush`] gives out.
    pub fn confirm(&mut self, channel: ChannelId, confirm: Confirm) -> bool {
        let Confirm {
            outcome,
            tag: delivery_tag,
            multiple,
        } = confirm;
        match outcome {
            Outcome::Ack => self.send(
                channel,
                basic::Ack {
                    delivery_tag,
                    multiple,
                },
            ),
            Outcome::Nack => self.send(
                channel,
                basic::Nack {
                    delivery_tag,
                    multiple,
                    requeue: false,
                },
            ),
        }
    }

    /// Whether the client understands that a consumer of its gets nothing more.
    #[must_use]
    pub fn may_cancel_consumers(&self) -> bool {
        self.client.capabilities.consumer_cancel_notify
    }

    /// Tells a consumer that it gets nothing more, if the client understands that.
    pub fn cancel_consumer(&mut self, channel: ChannelId, consumer_tag: &str) -> bool {
        self.may_cancel_consumers()
            && self.send(
                channel,
                basic::Cancel {
                    consumer_tag: ShortString::cut(consumer_tag),
                    no_wait: true,
                },
            )
    }

    /// Answers [`crate::Event::ChannelClose`].
    pub fn channel_close_ok(&mut self, channel: ChannelId) {
        if self.channels.end_client_closing(channel) && self.state == State::Running {
            self.put(channel, channel::CloseOk {});
        }
    }

    /// Answers [`crate::Event::Close`]. The connection has ended then.
    pub fn close_ok(&mut self) {
        if self.state == State::ClientClosing {
            self.put(ChannelId::CONNECTION, connection::CloseOk {});
            self.end(EndReason::ClosedByClient);
        }
    }

    /// Answers [`crate::Event::UpdateSecret`].
    pub fn update_secret_ok(&mut self) {
        if self.state == State::Running {
            self.put(ChannelId::CONNECTION, connection::UpdateSecretOk {});
        }
    }

    /// Tells a publishing client that it is not read from, if it understands that; again only after `unblock`.
    pub fn block(&mut self, reason: &str) {
        let tell = self.client.capabilities.connection_blocked && self.state == State::Running;
        if tell && !self.blocked {
            self.put(
                ChannelId::CONNECTION,
                connection::Blocked {
                    reason: ShortString::cut(reason),
                },
            );
            self.blocked = true;
        }
    }

    pub fn unblock(&mut self) {
        if self.blocked && self.state == State::Running {
            self.put(ChannelId::CONNECTION, connection::Unblocked {});
            self.blocked = false;
        }
    }

    /// Fails a channel, or the connection: which of them is the error's level (always the connection on channel 0).
    /// What the client sent behind its mistake is ignored. After a hard error the session's channels are gone and
    /// [`crate::Event::Ended`] follows. Does nothing on what is closing already.
    pub fn fail(&mut self, channel: ChannelId, error: AmqpError, now: Time) {
        let (reply_code, reply_text) = (error.code().number(), ShortString::cut(error.text()));
        let (class_id, method_id) = (error.method().class, error.method().method);
        match (self.level(channel, &error), self.state) {
            (Level::Channel, State::Running) => {
                if self.channels.start_closing(channel) {
                    self.put(
                        channel,
                        channel::Close {
                            reply_code,
                            reply_text,
                            class_id,
                            method_id,
                        },
                    );
                }
            }
            // Nothing has been said yet, so there is nobody to tell.
            (Level::Connection, State::Header) => self.end(EndReason::ClosedByServer),
            (Level::Connection, state) if !state.is_over() => {
                let close = connection::Close {
                    reply_code,
                    reply_text,
                    class_id,
                    method_id,
                };
                self.put(ChannelId::CONNECTION, close);
                self.channels = super::Channels::default();
                let until = now.plus_ms(self.config.close_grace_ms);
                self.state = State::Closing {
                    until,
                    input: Input::Readable,
                };
            }
            (Level::Channel | Level::Connection, _) => {}
        }
    }
}

impl State {
    /// The connection closes already.
    fn is_over(self) -> bool {
        match self {
            Self::ClientClosing | Self::Closing { .. } | Self::Ended => true,
            Self::Header
            | Self::StartOk
            | Self::Login
            | Self::TuneOk
            | Self::Open
            | Self::Vhost
            | Self::Running => false,
        }
    }
}
