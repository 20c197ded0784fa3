//! Who a client is: passwords, the cache of those that were seen lately, and the delays of those that guess. Not here: what a user may do
//! (`warren_topology::Operation`), how each front carries credentials (`amqp`, `grpc`).

mod delays;
mod first_user;
mod password;
mod verified;
mod who;

pub use first_user::{FirstUser, FirstUserError, make_first_user};
pub use password::{HashError, Password};
pub(crate) use who::Who;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};
use warren_topology::{
    Denied, Operation, PasswordChange, PasswordHash, Principal, Topology, UpdateUser,
};
use warren_types::UserName;

use crate::gateway::Gateway;
use crate::operations::OperationError;
use delays::{Delays, Verdict};
use password::{Checked, check, hash_password};
use verified::Verified;

/// The user that a node lets in from its own machine if it is configured to, with this as its password.
const GUEST: &str = "guest";
/// A client that guesses is not kept waiting longer, but refused.
const WAIT_MAX: Duration = Duration::from_secs(4);

/// Why a login is refused: for the log, never for the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub(crate) enum LoginError {
    #[error("user or password is wrong")]
    WrongCredentials,
    #[error(
        "user '{GUEST}' may log in from this machine only, and only if the node is configured so"
    )]
    NotFromHere,
    #[error("the mechanism is not available")]
    MechanismUnavailable,
    #[error("there are no credentials")]
    NoCredentials,
    #[error("too many attempts have failed")]
    TooManyFailures,
    #[error("passwords cannot be checked now")]
    Stopping,
}

/// What a node needs to check logins.
pub(crate) struct Authenticator {
    loopback_guest: bool,
    verified: Verified,
    delays: Delays,
    /// One permit for every second core: a hash takes 19 MiB and a core, and messages need the others.
    hashing: Arc<Semaphore>,
}

impl Authenticator {
    pub(crate) fn new(loopback_guest: bool) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            loopback_guest,
            verified: Verified::new(),
            delays: Delays::default(),
            hashing: Arc::new(Semaphore::new((cores / 2).max(1))),
        }
    }

    /// The one who needs no user: somebody on this machine, if the node is configured so.
    fn guest(&self, peer: IpAddr) -> Result<Principal, LoginError> {
        if !self.loopback_guest || !peer.to_canonical().is_loopback() {
            return Err(LoginError::NotFromHere);
        }
        let name = UserName::try_from(GUEST).map_err(|_| LoginError::NotFromHere)?;
        Ok(Principal::Local { name })
    }

    /// Runs one hash where it holds nobody up, with few others at a time.
    async fn hashed<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, LoginError> {
        let permit = Arc::clone(&self.hashing).acquire_owned().await;
        let permit = permit.map_err(|_| LoginError::Stopping)?;
        let worked = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(permit);
            result
        });
        worked.await.map_err(|_| LoginError::Stopping)
    }
}

impl Gateway {
    /// Checks user and password. `peer` is the address of the socket: nothing that a client says counts.
    ///
    /// # Errors
    /// [`LoginError`], after a delay that grows with the failures of this user from this address.
    pub(crate) async fn log_in(
        &self,
        user: &str,
        password: Password,
        peer: IpAddr,
    ) -> Result<Principal, LoginError> {
        let auth = self.authenticator();
        let known = self.topology().user(user).map(|it| {
            let hash = it.password.clone();
            (Principal::of(it), hash)
        });
        if user == GUEST {
            let local = auth.guest(peer)?;
            if known.is_none() {
                return if password.is(GUEST) {
                    Ok(local)
                } else {
                    Err(LoginError::WrongCredentials)
                };
            }
        }
        let (principal, hash) = match known {
            Some((principal, hash)) => (Some(principal), hash),
            None => (None, None),
        };
        if let (Some(principal), Some(hash)) = (&principal, &hash)
            && auth.verified.holds(user, &password, hash, Instant::now())
        {
            return Ok(principal.clone());
        }
        match auth.delays.before(user, peer, Instant::now()) {
            Verdict::Now => {}
            Verdict::At(at) if at.duration_since(Instant::now()) <= WAIT_MAX => {
                sleep_until(at).await;
            }
            Verdict::At(_) | Verdict::No => return Err(LoginError::TooManyFailures),
        }
        let checked = self.check_password(user, password, hash.clone()).await?;
        let now = Instant::now();
        let (Some(principal), true) = (principal, checked) else {
            auth.delays.failed(user, peer, now);
            warn!(user = user.escape_debug().to_string(), %peer, "login failed");
            return Err(LoginError::WrongCredentials);
        };
        auth.delays.succeeded(user, peer, now);
        Ok(principal)
    }

    /// One argon2id whatever the outcome: the time tells nothing of whether there is such a user, or how its password is kept.
    async fn check_password(
        &self,
        user: &str,
        password: Password,
        hash: Option<PasswordHash>,
    ) -> Result<bool, LoginError> {
        let auth = self.authenticator();
        let stored = hash.clone();
        let asked = password.clone();
        let checked = auth.hashed(move || check(&asked, stored.as_ref())).await?;
        let Some(old) = hash else { return Ok(false) };
        match checked {
            Checked::Wrong => Ok(false),
            Checked::Right => {
                auth.verified.note(user, &password, &old, Instant::now());
                Ok(true)
            }
            Checked::Rehashed(new) => {
                let now = Instant::now();
                auth.verified.note(user, &password, &old, now);
                auth.verified.note(user, &password, &new, now);
                self.keep_rehashed(user, old, new);
                Ok(true)
            }
        }
    }

    /// A password that came from an import is kept as argon2id from its first login on. Failing does no harm: the next login tries again.
    fn keep_rehashed(&self, user: &str, old: PasswordHash, new: PasswordHash) {
        let Ok(name) = UserName::try_from(user) else {
            return;
        };
        let command = UpdateUser {
            name,
            tags: None,
            password: PasswordChange::Rehash { old, new },
            limits: None,
        };
        let gateway = self.clone();
        self.tasks().spawn(async move {
            if let Err(error) = gateway.change(command.into(), "").await {
                debug!(%error, "rehashed password not kept");
            }
        });
    }

    /// Who calls without credentials.
    ///
    /// # Errors
    /// [`LoginError::NoCredentials`], unless it is the guest.
    pub(crate) fn anonymous(&self, peer: IpAddr) -> Result<Principal, LoginError> {
        let guest = self.authenticator().guest(peer);
        guest.map_err(|_| LoginError::NoCredentials)
    }

    /// Whether somebody may do something. A refusal is given from a recent copy of the topology only.
    ///
    /// # Errors
    /// [`OperationError::Denied`]; or the topology could not be asked.
    pub(crate) async fn authorise(
        &self,
        who: &Who,
        vhost: warren_types::VhostId,
        operation: Operation<'_>,
    ) -> Result<(), OperationError> {
        let asked = |topology: &Topology| topology.authorise(who.asker(vhost), operation);
        match asked(&self.topology()) {
            Ok(()) => Ok(()),
            Err(denied) if self.broker().topology().is_recent() => Err(denied.into()),
            Err(_) => Ok(asked(&*self.fresh_topology().await?)?),
        }
    }

    /// As [`Gateway::authorise`], told at once: for sessions that exist, when rights have changed.
    pub(crate) fn still_may(
        &self,
        who: &Who,
        vhost: warren_types::VhostId,
        operation: Operation<'_>,
    ) -> Result<(), Denied> {
        self.topology().authorise(who.asker(vhost), operation)
    }
}

/// Makes the hash that is kept of a new password.
///
/// # Errors
/// The node stops.
pub(crate) async fn new_hash(
    gateway: &Gateway,
    password: Password,
) -> Result<PasswordHash, LoginError> {
    let hashed = gateway
        .authenticator()
        .hashed(move || hash_password(&password))
        .await?;
    hashed.map_err(|_| LoginError::Stopping)
}
