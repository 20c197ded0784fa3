//! One setting: its name, what it is for, how it is read and shown. Not here: the settings themselves (one file per section).

use super::Config;

/// The node's number is in the name of its host.
pub(super) const FROM_HOSTNAME: &str = "from-hostname";

/// What a value looks like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Text,
    Path,
    Whole,
    Switch,
    /// A number, or where to take it from.
    NodeId,
    /// Bytes.
    Size,
    /// Bytes, a share, or both.
    Level,
    Duration,
    /// Where to listen.
    Socket,
    /// Where others can reach a listener.
    Endpoint,
    Choice(&'static [&'static str]),
    Peers,
    /// Taken from the environment alone: files are copied and arguments are seen by everyone.
    Secret,
}

impl Kind {
    /// How a value is to be written.
    #[must_use]
    pub fn expected(self) -> String {
        match self {
            Self::Text => "a text".into(),
            Self::Path => "a path".into(),
            Self::Whole => "a whole number".into(),
            Self::NodeId => format!("a number from 1, or {FROM_HOSTNAME:?}: one more than the number at the end of the host name"),
            Self::Level => "a size such as \"2 GiB\", a share such as \"5%\", or both with a comma: the greater counts".into(),
            Self::Switch => "true or false".into(),
            Self::Size => "a size such as \"64 MiB\" (B, KiB, MiB, GiB, KB, MB, GB)".into(),
            Self::Duration => "a duration such as \"200ms\" (ms, s, min, h)".into(),
            Self::Socket => {
                "an IP address and port such as \"127.0.0.1:7101\" or \"[::1]:7101\"".into()
            }
            Self::Endpoint => "a host and port such as \"node-1.example.net:7101\"".into(),
            Self::Choice(values) => format!("one of {}", values.join(", ")),
            Self::Peers => {
                "a list such as [{ id = 1, address = \"127.0.0.1:7201\" }] (in the environment and in flags: 1=127.0.0.1:7201,2=...)"
                    .into()
            }
            Self::Secret => "a secret".into(),
        }
    }
}

/// One setting of the table.
#[derive(Debug)]
pub struct Setting {
    /// `section.key`.
    pub name: &'static str,
    pub about: &'static str,
    pub kind: Kind,
    /// Takes the value; `Err` says what is wrong with it, `None`: it is not of the kind.
    pub(super) set: fn(&mut Config, &str) -> Result<(), Option<String>>,
    pub(super) show: fn(&Config) -> String,
}

impl Setting {
    /// The environment's name for it.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("WARREN_{}", self.name.replace('.', "_").to_uppercase())
    }

    /// The command line's name for it, without the dashes. `None`: it is not taken from there.
    #[must_use]
    pub fn flag(&self) -> Option<String> {
        (self.kind != Kind::Secret).then(|| self.name.replace(['.', '_'], "-"))
    }

    pub(super) fn key(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(_, key)| key)
    }
}

/// Reads a whole number, for `Setting::set`.
pub(super) fn whole<T: std::str::FromStr>(text: &str) -> Result<T, Option<String>> {
    text.trim().parse().map_err(|_| None)
}

pub(super) fn switch(text: &str) -> Result<bool, Option<String>> {
    text.trim().parse().map_err(|_| None)
}
