//! Passwords and their hashes: argon2id for ours, RabbitMQ's salted SHA-2 for those that were imported. Not here: who has which.

use std::fmt;

use argon2::password_hash::{
    PasswordHash as PhcHash, PasswordHasher, PasswordVerifier, SaltString,
};
use argon2::{Algorithm, Argon2, Params, Version};
use bytes::Bytes;
use rand::Rng;
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq;
use thiserror::Error;
use warren_topology::{PasswordHash, PasswordScheme};

/// 19 MiB, two passes, one lane: OWASP's first choice.
const MEMORY_KIB: u32 = 19 << 10;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const SALT_BYTES: usize = 16;
/// RabbitMQ's salt.
const OLD_SALT_BYTES: usize = 4;
/// A password; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Bytes);

impl Password {
    #[must_use]
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self(bytes.into())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn is(&self, text: &str) -> bool {
        self.0.ct_eq(text.as_bytes()).into()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why there is no hash.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum HashError {
    #[error("passwords cannot be hashed: {0}")]
    Argon2(String),
}

/// What became of a check.
pub(super) enum Checked {
    Wrong,
    Right,
    /// Right; and here is the hash to keep instead of an imported one.
    Rehashed(PasswordHash),
}

fn argon2() -> Result<Argon2<'static>, HashError> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(of_argon2)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn of_argon2(error: impl fmt::Display) -> HashError {
    HashError::Argon2(error.to_string())
}

/// The hash that is kept of a new password. Takes a core for some tens of milliseconds.
///
/// # Errors
/// [`HashError::Argon2`]: the password is longer than argon2 takes.
pub(super) fn hash_password(password: &Password) -> Result<PasswordHash, HashError> {
    let salt: [u8; SALT_BYTES] = rand::rng().random();
    let salt = SaltString::encode_b64(&salt).map_err(of_argon2)?;
    let hash = argon2()?
        .hash_password(password.bytes(), &salt)
        .map_err(of_argon2)?;
    Ok(PasswordHash {
        scheme: PasswordScheme::Argon2id,
        bytes: hash.to_string().into_bytes().into(),
    })
}

/// Compares with what is stored, in one argon2id and constant time; `None`: there is nothing, which takes as long.
pub(super) fn check(password: &Password, stored: Option<&PasswordHash>) -> Checked {
    let right = match stored {
        Some(it) if it.scheme == PasswordScheme::Argon2id => {
            return if verify_argon2id(password, &it.bytes) {
                Checked::Right
            } else {
                Checked::Wrong
            };
        }
        Some(it) => salted_sha_matches(password, it),
        None => false,
    };
    match (hash_password(password), right) {
        (Ok(new), true) => Checked::Rehashed(new),
        (Err(_), true) => Checked::Right,
        (Ok(_) | Err(_), false) => Checked::Wrong,
    }
}

fn verify_argon2id(password: &Password, stored: &[u8]) -> bool {
    let text = std::str::from_utf8(stored).unwrap_or_default();
    let (Ok(hash), Ok(argon2)) = (PhcHash::new(text), argon2()) else {
        return false;
    };
    argon2.verify_password(password.bytes(), &hash).is_ok()
}

fn salted_sha_matches(password: &Password, stored: &PasswordHash) -> bool {
    let Some((salt, hash)) = stored.bytes.split_at_checked(OLD_SALT_BYTES) else {
        return false;
    };
    match stored.scheme {
        PasswordScheme::SaltedSha256 => {
            let made = Sha256::new().chain_update(salt);
            made.chain_update(password.bytes())
                .finalize()
                .ct_eq(hash)
                .into()
        }
        PasswordScheme::SaltedSha512 => {
            let made = Sha512::new().chain_update(salt);
            made.chain_update(password.bytes())
                .finalize()
                .ct_eq(hash)
                .into()
        }
        PasswordScheme::Argon2id => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &'static str) -> Password {
        Password::new(text.as_bytes())
    }

    #[test]
    fn hashed_password_is_known_again_and_others_are_not() {
        let hash = hash_password(&password("secret")).unwrap();
        let text = std::str::from_utf8(&hash.bytes).unwrap();
        assert!(
            text.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{text}"
        );
        assert!(matches!(
            check(&password("secret"), Some(&hash)),
            Checked::Right
        ));
        assert!(matches!(
            check(&password("Secret"), Some(&hash)),
            Checked::Wrong
        ));
        assert!(matches!(check(&password("secret"), None), Checked::Wrong));
        assert_ne!(hash, hash_password(&password("secret")).unwrap());
    }

    #[test]
    fn imported_hash_is_known_and_hashed_anew() {
        let salt = [1, 2, 3, 4];
        let digest = Sha256::new().chain_update(salt).chain_update("test12");
        let short = [&salt[..], &digest.finalize()[..]].concat();
        let digest = Sha512::new().chain_update(salt).chain_update("test12");
        let long = [&salt[..], &digest.finalize()[..]].concat();
        for (scheme, bytes) in [
            (PasswordScheme::SaltedSha256, short),
            (PasswordScheme::SaltedSha512, long),
        ] {
            let bytes = bytes.into();
            let hash = PasswordHash { scheme, bytes };
            assert!(matches!(
                check(&password("test1"), Some(&hash)),
                Checked::Wrong
            ));
            let Checked::Rehashed(new) = check(&password("test12"), Some(&hash)) else {
                panic!("not rehashed");
            };
            assert!(matches!(
                check(&password("test12"), Some(&new)),
                Checked::Right
            ));
        }
    }

    #[test]
    fn password_is_not_printed() {
        assert_eq!(format!("{:?}", password("secret")), "***");
    }
}
