//! Password hashes as documents have them: RabbitMQ's, and ours in the same form. Not here: checking passwords (`gateway`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::user::{PasswordHash, PasswordScheme};

const SHA256: &str = "rabbit_password_hashing_sha256";
const SHA512: &str = "rabbit_password_hashing_sha512";
const MD5: &str = "rabbit_password_hashing_md5";
/// Base64 of the PHC string, so that the field looks as those of the others.
const ARGON2ID: &str = "warren_password_hashing_argon2id";
const SALT_BYTES: usize = 4;

/// The algorithm's name, and the text.
pub(super) fn written(hash: &PasswordHash) -> (&'static str, String) {
    let algorithm = match hash.scheme {
        PasswordScheme::Argon2id => ARGON2ID,
        PasswordScheme::SaltedSha256 => SHA256,
        PasswordScheme::SaltedSha512 => SHA512,
    };
    (algorithm, STANDARD.encode(&hash.bytes))
}

/// `None`: MD5, which is not taken. A document that names no algorithm is told by the length.
///
/// # Errors
/// The text is no hash.
pub(super) fn read(text: &str, algorithm: Option<&str>) -> Result<Option<PasswordHash>, String> {
    let bytes = STANDARD.decode(text);
    let bytes = bytes.map_err(|error| format!("password_hash is no base64: {error}"))?;
    let by_length = || match bytes.len().saturating_sub(SALT_BYTES) {
        64 => SHA512,
        16 => MD5,
        _ => SHA256,
    };
    let (scheme, length) = match algorithm.unwrap_or_else(by_length) {
        SHA256 => (PasswordScheme::SaltedSha256, Some(SALT_BYTES + 32)),
        SHA512 => (PasswordScheme::SaltedSha512, Some(SALT_BYTES + 64)),
        ARGON2ID => (PasswordScheme::Argon2id, None),
        MD5 => return Ok(None),
        other => return Err(format!("hashing_algorithm '{other}' is not known")),
    };
    if length.is_some_and(|it| it != bytes.len()) || bytes.len() > PasswordHash::BYTES_MAX {
        return Err(format!("password_hash has {} bytes", bytes.len()));
    }
    let bytes = bytes.into();
    Ok(Some(PasswordHash { scheme, bytes }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_read_as_rabbitmq_writes_it_and_written_back_the_same() {
        // rabbitmqctl hash_password guest, with the salt 90 8d c6 0a.
        let text = "kI3GCrswBLNZQzHJJ95QLoyfAVooYhnvf7jbqiW9BjOYUloe";
        let hash = read(text, Some(SHA256)).unwrap().unwrap();
        assert_eq!(hash.scheme, PasswordScheme::SaltedSha256);
        assert_eq!(written(&hash), (SHA256, text.to_owned()));
        assert_eq!(read(text, None).unwrap(), Some(hash));
    }

    #[test]
    fn hash_that_cannot_be_one_is_refused_and_md5_is_none() {
        assert!(read("AAAA", Some(SHA256)).is_err());
        assert!(read("!", None).is_err());
        assert!(read("AAAA", Some("rot13")).is_err());
        assert_eq!(read(&STANDARD.encode([0; 20]), Some(MD5)), Ok(None));
        assert_eq!(read(&STANDARD.encode([0; 20]), None), Ok(None));
    }
}
