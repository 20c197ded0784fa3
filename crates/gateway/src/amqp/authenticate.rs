//! Who a client is. For now one user, and only from this machine. Not here: what a user may do.

use std::net::SocketAddr;

use thiserror::Error;
use warren_amqp::Credentials;
use warren_types::UserName;

/// The one user until users can be declared; as its password.
const GUEST: &str = "guest";

/// Why a login is refused: for the log, never for the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub(super) enum LoginError {
    #[error("user or password is wrong")]
    WrongCredentials,
    #[error("user '{GUEST}' may log in from this machine only")]
    NotFromHere,
    #[error("the mechanism is not available")]
    MechanismUnavailable,
}

/// Checks a login.
///
/// # Errors
/// [`LoginError`] if it is refused.
pub(super) fn authenticate(
    credentials: &Credentials,
    peer: SocketAddr,
) -> Result<UserName, LoginError> {
    let (user, password) = match credentials {
        Credentials::Password { user, password } => (user, password),
        Credentials::Certificate | Credentials::Anonymous => {
            return Err(LoginError::MechanismUnavailable);
        }
    };
    if user != GUEST || password.0 != GUEST.as_bytes() {
        return Err(LoginError::WrongCredentials);
    }
    if !peer.ip().to_canonical().is_loopback() {
        return Err(LoginError::NotFromHere);
    }
    UserName::try_from(GUEST).map_err(|_| LoginError::WrongCredentials)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use warren_amqp::Secret;

    use super::*;

    fn login(user: &str, password: &'static str, peer: &str) -> Result<UserName, LoginError> {
        let credentials = Credentials::Password {
            user: user.to_owned(),
            password: Secret(Bytes::from_static(password.as_bytes())),
        };
        authenticate(&credentials, peer.parse().unwrap())
    }

    #[test]
    fn guest_from_this_machine_is_let_in() {
        for peer in ["127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert_eq!(login("guest", "guest", peer).unwrap().as_str(), "guest");
        }
    }

    #[test]
    fn guest_from_elsewhere_is_refused() {
        assert_eq!(
            login("guest", "guest", "192.0.2.1:1"),
            Err(LoginError::NotFromHere)
        );
    }

    #[test]
    fn others_and_wrong_passwords_are_refused() {
        for (user, password) in [("guest", "Guest"), ("root", "guest"), ("guest", "")] {
            assert_eq!(
                login(user, password, "127.0.0.1:1"),
                Err(LoginError::WrongCredentials)
            );
        }
    }
}
