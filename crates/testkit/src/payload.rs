//! Message bodies that name their publisher and counter and show any damage: one line of text, so that they pass
//! through every front end and through `warren publish --file -`. Not here: what the broker stores.

use crate::history::MessageId;

/// The fixed part: `w1.<publisher>.<counter>.<filler>.<crc32c of all before>`.
const VERSION: &str = "w1";

/// A body of about `size_bytes` bytes for `id`; never shorter than the names and the checksum need.
pub fn encode(id: MessageId, size_bytes: usize) -> String {
    let mut body = format!("{VERSION}.{}.{}.", id.publisher, id.counter);
    let checksum_bytes = 9;
    // A filler that differs from message to message, so that exchanged halves do not go unseen.
    let mut state = u64::from(id.publisher) << 40 ^ id.counter ^ 0x9e37_79b9_7f4a_7c15;
    while body.len() + checksum_bytes < size_bytes {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        body.push_str(&format!("{:x}", state >> 60));
    }
    let checksum = crc32c(body.as_bytes());
    body.push_str(&format!(".{checksum:08x}"));
    body
}

/// The id in `body`, if the body is exactly as it was made.
pub fn decode(body: &[u8]) -> Option<MessageId> {
    let text = std::str::from_utf8(body).ok()?;
    let (covered, checksum) = text.rsplit_once('.')?;
    if checksum.len() != 8 || u32::from_str_radix(checksum, 16).ok()? != crc32c(covered.as_bytes())
    {
        return None;
    }
    let mut parts = covered.split('.');
    if parts.next()? != VERSION {
        return None;
    }
    Some(MessageId {
        publisher: parts.next()?.parse().ok()?,
        counter: parts.next()?.parse().ok()?,
    })
}

/// CRC-32C (Castagnoli), bit by bit: written apart from the broker's, so that one mistake cannot hide in both.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let low_bit = crc & 1;
            crc = (crc >> 1) ^ (0x82f6_3b78 * low_bit);
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: MessageId = MessageId {
        publisher: 7,
        counter: 123_456,
    };

    #[test]
    fn crc32c_of_the_check_string_is_the_published_value() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn body_comes_back_and_has_the_size() {
        for size in [0, 40, 1024, 70_000] {
            let body = encode(ID, size);
            assert_eq!(decode(body.as_bytes()), Some(ID));
            assert!(
                body.len() >= size && body.len() < size.max(40) + 2,
                "{}",
                body.len()
            );
            assert!(!body.contains('\n'));
        }
    }

    #[test]
    fn every_flipped_bit_shows() {
        let body = encode(ID, 64).into_bytes();
        for at in 0..body.len() * 8 {
            let mut damaged = body.clone();
            damaged[at / 8] ^= 1 << (at % 8);
            // The checksum's own letters may change case, which is the same number.
            let same_number = damaged.eq_ignore_ascii_case(&body) && at / 8 > body.len() - 9;
            assert!(same_number || decode(&damaged).is_none(), "bit {at}");
        }
        assert_eq!(decode(&body[..body.len() - 1]), None);
        assert_eq!(decode(b""), None);
    }
}
