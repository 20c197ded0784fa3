//! Passwords that were right lately, so that logins of the same user do not each take a core for tens of milliseconds.
//!
//! Neither password nor hash is kept, only a keyed digest of both: the key is drawn at random in each process. A changed password has
//! another digest, so it counts at once. Not here: checking passwords.

use std::collections::HashMap;
use std::time::Duration;

use hmac::{Hmac, Mac};
use parking_lot::Mutex;
use rand::Rng;
use sha2::Sha256;
use tokio::time::Instant;
use warren_topology::PasswordHash;

use super::Password;

const HOLDS_FOR: Duration = Duration::from_secs(60);
/// With more, those that have run out are dropped; if none has, the cache begins anew.
const ENTRIES_MAX: usize = 10_000;

type Digest = [u8; 32];

pub(super) struct Verified {
    key: [u8; 32],
    until: Mutex<HashMap<Digest, Instant>>,
}

impl Verified {
    pub(super) fn new() -> Self {
        Self {
            key: rand::rng().random(),
            until: Mutex::default(),
        }
    }

    pub(super) fn holds(
        &self,
        user: &str,
        password: &Password,
        hash: &PasswordHash,
        now: Instant,
    ) -> bool {
        let digest = self.digest(user, password, hash);
        let until = self.until.lock().get(&digest).copied();
        until.is_some_and(|until| now < until)
    }

    pub(super) fn note(&self, user: &str, password: &Password, hash: &PasswordHash, now: Instant) {
        let digest = self.digest(user, password, hash);
        let mut entries = self.until.lock();
        if entries.len() >= ENTRIES_MAX {
            entries.retain(|_, until| now < *until);
        }
        if entries.len() >= ENTRIES_MAX {
            entries.clear();
        }
        entries.insert(digest, now + HOLDS_FOR);
    }

    fn digest(&self, user: &str, password: &Password, hash: &PasswordHash) -> Digest {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        // Each with its length, so that no two triples run together to the same bytes.
        for part in [user.as_bytes(), password.bytes(), &hash.bytes] {
            let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
            mac.update(&length.to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use warren_topology::PasswordScheme;

    use super::*;

    fn hash(byte: u8) -> PasswordHash {
        PasswordHash {
            scheme: PasswordScheme::Argon2id,
            bytes: vec![byte].into(),
        }
    }

    #[test]
    fn verified_holds_for_the_same_user_password_and_hash_only_and_not_for_long() {
        let verified = Verified::new();
        let password = |text: &'static str| Password::new(text.as_bytes());
        let now = Instant::now();
        verified.note("ab", &password("c"), &hash(1), now);
        assert!(verified.holds("ab", &password("c"), &hash(1), now));
        assert!(!verified.holds("a", &password("bc"), &hash(1), now));
        assert!(!verified.holds("ab", &password("d"), &hash(1), now));
        assert!(!verified.holds("ab", &password("c"), &hash(2), now));
        let later = now + HOLDS_FOR;
        assert!(!verified.holds("ab", &password("c"), &hash(1), later));
    }
}
