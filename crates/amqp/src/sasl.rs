//! SASL mechanisms: which there are, and what a client's initial response says. Not here: whether it is true.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use warren_types::{Table, Value};

use crate::{error::AmqpError, method::connection};

/// A way to log in that a server may offer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// User and password in a field table; py-amqp's choice.
    Amqplain,
    /// The identity of the TLS certificate.
    External,
    /// A user that the configuration names.
    Anonymous,
}

impl Mechanism {
    const ALL: [Self; 4] = [Self::Plain, Self::Amqplain, Self::External, Self::Anonymous];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Amqplain => "AMQPLAIN",
            Self::External => "EXTERNAL",
            Self::Anonymous => "ANONYMOUS",
        }
    }
}

/// Bytes that are never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Bytes);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// What a client claims to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Credentials {
    /// PLAIN and AMQPLAIN.
    Password { user: String, password: Secret },
    /// EXTERNAL: the certificate counts.
    Certificate,
    /// ANONYMOUS.
    Anonymous,
}

/// Reads a client's choice.
///
/// # Errors
/// 503 for a mechanism that is not offered, 502 for a response that is not of its form.
pub(crate) fn credentials(
    offered: &[Mechanism],
    name: &str,
    response: &Bytes,
) -> Result<Credentials, AmqpError> {
    let chosen = Mechanism::ALL
        .into_iter()
        .find(|it| it.name() == name && offered.contains(it));
    let malformed = || {
        AmqpError::syntax_error(format_args!("malformed {name} response"))
            .for_method(connection::StartOk::ID)
    };
    match chosen {
        Some(Mechanism::Plain) => plain(response).ok_or_else(malformed),
        Some(Mechanism::Amqplain) => amqplain(response).ok_or_else(malformed),
        Some(Mechanism::External) => Ok(Credentials::Certificate),
        Some(Mechanism::Anonymous) => Ok(Credentials::Anonymous),
        None => Err(
            AmqpError::command_invalid(format_args!("mechanism {name:?} is not offered"))
                .for_method(connection::StartOk::ID),
        ),
    }
}

/// `authorisation NUL user NUL password`. Acting for another user is not served: the first must be empty or the user.
fn plain(response: &Bytes) -> Option<Credentials> {
    let mut parts = response.splitn(3, |byte| *byte == 0);
    let (authorisation, user, password) = (parts.next()?, parts.next()?, parts.next()?);
    if !authorisation.is_empty() && authorisation != user {
        return None;
    }
    password_of(user, response.slice_ref(password))
}

/// A field table without its length bytes, with LOGIN and PASSWORD.
fn amqplain(response: &Bytes) -> Option<Credentials> {
    let mut wire = BytesMut::with_capacity(size_of::<u32>() + response.len());
    wire.put_u32(u32::try_from(response.len()).ok()?);
    wire.put_slice(response);
    let table = Table::decode(&wire.freeze()).ok()?;
    match (table.get("LOGIN")?, table.get("PASSWORD")?) {
        (Value::LongString(user), Value::LongString(password)) => {
            password_of(user, password.clone())
        }
        _ => None,
    }
}

fn password_of(user: &[u8], password: Bytes) -> Option<Credentials> {
    let user = std::str::from_utf8(user)
        .ok()
        .filter(|user| !user.is_empty())?
        .to_owned();
    Some(Credentials::Password {
        user,
        password: Secret(password),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    const OFFERED: [Mechanism; 2] = [Mechanism::Plain, Mechanism::Amqplain];

    fn parse(name: &str, response: &'static [u8]) -> Result<Credentials, Code> {
        credentials(&OFFERED, name, &Bytes::from_static(response)).map_err(|error| error.code())
    }

    fn guest() -> Result<Credentials, Code> {
        Ok(Credentials::Password {
            user: "guest".to_owned(),
            password: Secret(Bytes::from_static(b"pw")),
        })
    }

    #[test]
    fn plain_gives_user_and_password() {
        assert_eq!(parse("PLAIN", b"\0guest\0pw"), guest());
        assert_eq!(parse("PLAIN", b"guest\0guest\0pw"), guest());
    }

    #[test]
    fn amqplain_gives_user_and_password() {
        let response = b"\x05LOGINS\x00\x00\x00\x05guest\x08PASSWORDS\x00\x00\x00\x02pw";
        assert_eq!(parse("AMQPLAIN", response), guest());
    }

    #[test]
    fn malformed_responses_are_502() {
        for response in [
            &b""[..],
            b"guest",
            b"\0guest",
            b"\0\0pw",
            b"\0\xff\0pw",
            b"root\0guest\0pw",
        ] {
            assert_eq!(
                parse("PLAIN", response),
                Err(Code::SyntaxError),
                "{response:?}"
            );
        }
        for response in [
            &b""[..],
            b"\x05LOGINS\xff\xff\xff\xff",
            b"\x05LOGINI\x00\x00\x00\x05\x08PASSWORDV",
        ] {
            assert_eq!(
                parse("AMQPLAIN", response),
                Err(Code::SyntaxError),
                "{response:?}"
            );
        }
    }

    #[test]
    fn mechanism_unknown_or_not_offered_is_503() {
        assert_eq!(parse("CRAM-MD5", b""), Err(Code::CommandInvalid));
        assert_eq!(parse("EXTERNAL", b""), Err(Code::CommandInvalid));
        assert_eq!(parse("plain", b"\0guest\0pw"), Err(Code::CommandInvalid));
    }

    #[test]
    fn password_is_not_printed() {
        assert!(!format!("{:?}", guest()).contains("pw"));
    }
}
