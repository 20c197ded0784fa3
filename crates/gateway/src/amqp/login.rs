//! Who a connection is and which vhost it is in, from its start-ok to its open-ok. Not here: checking passwords (`auth`), what the user
//! may do then (`permit`), that its rights change (`revoke`).

use std::sync::Arc;

use tracing::{debug, info};
use warren_amqp::method::connection;
use warren_amqp::{AmqpError, ChannelId, Credentials, Login, Secret};
use warren_topology::Operation;
use warren_types::{VhostId, VhostName};

use super::caller::Caller;
use super::operation::Answer;
use super::session::AmqpSession;
use crate::auth::{LoginError, Password, Who};

impl AmqpSession {
    /// Passwords are checked elsewhere: that takes a core for a while.
    pub(super) fn login(&mut self, login: &Login) {
        let live = &self.gateway.options().amqp.live_prefetch_products;
        let product = login.client.product();
        self.is_live_client = live.iter().any(|it| Some(it.as_str()) == product);
        let peer = self.peer.ip();
        let (user, password) = match &login.credentials {
            Credentials::Password { user, password } => (user.clone(), password.0.clone()),
            Credentials::Certificate | Credentials::Anonymous => {
                return self.logged_in(Err(LoginError::MechanismUnavailable));
            }
        };
        let client_id = login.client.properties.get_str("client_id");
        let client_id = client_id.unwrap_or_default().to_owned();
        let gateway = self.gateway.clone();
        self.operate(ChannelId::CONNECTION, async move {
            let password = Password::new(password);
            let principal = gateway.log_in(&user, password, peer).await;
            Answer::Login(principal.map(|principal| Who {
                principal,
                client_id: client_id.into(),
            }))
        });
    }

    pub(super) fn logged_in(&mut self, result: Result<Who, LoginError>) {
        match result {
            Ok(who) => {
                self.who = Some(who);
                self.conn.login_ok();
            }
            Err(error) => {
                info!(peer = %self.peer, %error, "login refused");
                self.conn.login_refused(self.now);
            }
        }
    }

    /// connection.update-secret (features C12): the secret is checked as at the login, by a copy of the topology that is new.
    pub(super) fn update_secret(&mut self, secret: &Secret) {
        let Some(caller) = self.caller.clone() else {
            return;
        };
        self.checks_secret = true;
        let (peer, secret) = (self.peer.ip(), Password::new(secret.0.clone()));
        self.operate(ChannelId::CONNECTION, async move {
            let gateway = &caller.gateway;
            // Without a majority this node's own copy counts, as it does at a login.
            let _stale = gateway.fresh_topology().await;
            let refused = |error: LoginError| {
                info!(%peer, user = %caller.user, %error, "new secret refused");
                AmqpError::not_allowed("the new secret was refused")
            };
            let checked = gateway.log_in(caller.user.as_str(), secret, peer).await;
            let checked = checked.map_err(refused).and_then(|_| {
                let asker = caller.who.asker(caller.vhost);
                let may = gateway.topology().authorise(asker, Operation::OpenVhost);
                may.map_err(AmqpError::not_allowed)
            });
            let failed = |error: AmqpError| error.for_method(connection::UpdateSecret::ID);
            Answer::Secret(checked.map_err(failed))
        });
    }

    /// Consumers that may not read any more are cancelled before the answer.
    pub(super) fn secret_checked(&mut self, result: Result<(), AmqpError>) {
        self.checks_secret = false;
        if let Err(error) = result {
            return self.fail(ChannelId::CONNECTION, error);
        }
        self.view = self.gateway.topology();
        self.rights_seen = None;
        self.look_at_rights();
        self.conn.update_secret_ok();
    }

    /// How many channels the user may open yet, from what all its connections have open now.
    pub(super) fn make_channel_room(&mut self) {
        let Some(seat) = &mut self.seat else {
            return;
        };
        let room = seat.channel_room(&self.view, self.channels.len());
        let room = room.map(|(left, why)| (left, why.to_string().into()));
        self.conn.set_channel_room(room);
    }

    pub(super) fn open(&mut self, vhost: VhostId, vhost_name: VhostName) {
        let Some(who) = self.who.clone() else {
            return;
        };
        let user = who.principal.name().clone();
        if !self.gateway.may_serve() {
            let error = AmqpError::internal_error("the node is not ready");
            return self.fail(ChannelId::CONNECTION, error);
        }
        let Some(place) = self.gateway.connection_place() else {
            let error = AmqpError::not_allowed("the node has as many connections as it may have")
                .for_method(connection::Open::ID);
            return self.fail(ChannelId::CONNECTION, error);
        };
        let seat = match self.gateway.places().open(&self.view, vhost, &user) {
            Ok(seat) => seat,
            Err(reached) => {
                info!(peer = %self.peer, %reached, "connection refused");
                let error = AmqpError::not_allowed(reached).for_method(connection::Open::ID);
                return self.fail(ChannelId::CONNECTION, error);
            }
        };
        self.seat = Some(seat);
        self.place = Some(place);
        debug!(peer = %self.peer, %user, vhost = %vhost_name, "connection open");
        self.rights = Some(who.rights(vhost));
        self.rights_seen = None;
        self.caller = Some(Arc::new(Caller {
            gateway: self.gateway.clone(),
            user,
            who,
            vhost,
            vhost_name,
            owner: self.owner.clone(),
        }));
        self.conn.open_ok();
    }
}
