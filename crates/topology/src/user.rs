//! Users, their tags, limits and password hashes. Not here: hashing (`gateway`), what a user may do (`permission`, `access`).

use std::fmt;

use warren_types::{TopologyIndex, UserName};

/// A user as declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: UserName,
    pub tags: Vec<UserTag>,
    /// `None`: no login by password.
    pub password: Option<PasswordHash>,
    pub limits: UserLimits,
    /// The index of the command that created it: a user that is deleted and created again is another one.
    pub created_at: TopologyIndex,
    /// The index of its last change.
    pub changed_at: TopologyIndex,
}

impl User {
    pub const TAGS_MAX: usize = 32;

    #[must_use]
    pub fn has_tag(&self, tag: &UserTag) -> bool {
        self.tags.contains(tag)
    }
}

/// Most of something that a user may have at a time; `None` = no limit of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct UserLimits {
    pub connections: Option<u32>,
    /// AMQP channels.
    pub channels: Option<u32>,
}

/// What a user is, beside its permissions (features E3). The names are those of RabbitMQ.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum UserTag {
    /// May look at what its permissions cover.
    Management,
    /// `Management`, and sets policies and parameters of vhosts it has permissions in.
    Policymaker,
    /// `Management`, and looks at everything.
    Monitoring,
    /// Everything about users, vhosts, permissions and the cluster. Messages need permissions all the same.
    Administrator,
    /// May publish with another `user_id` than its own.
    Impersonator,
    /// One without meaning to the broker; at most [`UserTag::BYTES_MAX`] bytes.
    Other(Box<str>),
}

impl UserTag {
    pub const BYTES_MAX: usize = 64;

    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Management => "management",
            Self::Policymaker => "policymaker",
            Self::Monitoring => "monitoring",
            Self::Administrator => "administrator",
            Self::Impersonator => "impersonator",
            Self::Other(name) => name,
        }
    }
}

impl From<&str> for UserTag {
    fn from(name: &str) -> Self {
        let known = [
            Self::Management,
            Self::Policymaker,
            Self::Monitoring,
            Self::Administrator,
            Self::Impersonator,
        ];
        let found = known.into_iter().find(|tag| tag.name() == name);
        found.unwrap_or_else(|| Self::Other(name.into()))
    }
}

impl fmt::Display for UserTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a password is kept. Stored: the numbers are those of `warren.stored.v1.PasswordScheme`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PasswordScheme {
    /// The PHC string of argon2id, with its parameters and salt.
    Argon2id,
    /// RabbitMQ's: four bytes of salt, then SHA-256 of salt and password.
    SaltedSha256,
    /// RabbitMQ's: four bytes of salt, then SHA-512 of salt and password.
    SaltedSha512,
}

/// A password's hash; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    pub scheme: PasswordScheme,
    pub bytes: Box<[u8]>,
}

impl PasswordHash {
    pub const BYTES_MAX: usize = 512;
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}(***)", self.scheme)
    }
}
