//! Addresses of nodes as people write them: `HOST:PORT`, several separated by commas. Not here: connecting.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// Port of the client API when an address names none.
const DEFAULT_PORT: u16 = 7101;

/// Why an address cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AddressError {
    #[error("an address is empty: write HOST:PORT, several separated by commas")]
    Empty,
    #[error("{text:?} is not HOST:PORT: the host is missing")]
    NoHost { text: String },
    #[error("{text:?} is not HOST:PORT: the port is not a number from 1 to 65535")]
    BadPort { text: String },
    #[error("{text:?} is not HOST:PORT: write IPv6 addresses as [::1]:7101, and no scheme or path")]
    BadHost { text: String },
}

/// Where a node takes clients.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerAddress {
    host: String,
    port: u16,
}

impl ServerAddress {
    /// As the transport wants it.
    pub(crate) fn uri(&self) -> String {
        format!("http://{self}")
    }
}

impl FromStr for ServerAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !text.ends_with(']') => {
                let port = port.parse().ok().filter(|it| *it != 0);
                let text = text.to_owned();
                (host, port.ok_or(AddressError::BadPort { text })?)
            }
            Some(_) | None => (text, DEFAULT_PORT),
        };
        let text = text.to_owned();
        if host.is_empty() {
            return Err(AddressError::NoHost { text });
        }
        let bracketed = host.starts_with('[') && host.ends_with(']');
        if (host.contains(':') && !bracketed)
            || host.contains(|it: char| it == '/' || it == '@' || it.is_whitespace())
        {
            return Err(AddressError::BadHost { text });
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Reads `HOST:PORT[,HOST:PORT...]`; repeated addresses count once.
///
/// # Errors
/// [`AddressError`] names the first address that cannot be read.
pub fn parse_addresses(text: &str) -> Result<Vec<ServerAddress>, AddressError> {
    let mut addresses: Vec<ServerAddress> = Vec::new();
    for part in text.split(',') {
        let address = part.parse()?;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_list_keeps_order_and_drops_repeats() {
        let list = parse_addresses("b:2, a:1,b:2,[::1]:7, plain").unwrap();
        let text: Vec<String> = list.iter().map(ToString::to_string).collect();
        assert_eq!(text, ["b:2", "a:1", "[::1]:7", "plain:7101"]);
    }

    #[test]
    fn address_that_makes_no_sense_is_named() {
        for text in [
            "",
            "a:1,",
            ":7101",
            "a:0",
            "a:x",
            "a:70000",
            "::1:7",
            "http://a:1",
            "a b:1",
        ] {
            let error = parse_addresses(text).unwrap_err().to_string();
            assert!(error.contains("HOST:PORT"), "{text}: {error}");
        }
    }
}
