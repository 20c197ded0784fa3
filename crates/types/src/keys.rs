//! Hashes that never change: of group, fairness and deduplication keys, as messages are stored with them, and of what hash exchanges
//! route by. Not here: which key a message has.

/// Of a group, fairness or deduplication key. 0 = no key.
#[must_use]
pub fn key_hash(key: &[u8]) -> u64 {
    if key.is_empty() {
        return 0;
    }
    stable_hash(key).max(1)
}

/// FNV-1a with a final mix. What it gives is stored, and decides which queue a routing key goes to: it never changes.
#[must_use]
pub fn stable_hash(bytes: &[u8]) -> u64 {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mix(hash)
}

/// The finaliser of splitmix64: every bit of the input moves every bit of the output.
#[must_use]
pub fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_the_ones_that_are_kept() {
        // Values of an independent computation (splitmix64's finaliser over FNV-1a): a change breaks groups across versions, and moves
        // routing keys to other queues.
        for (bytes, hash) in [
            (b"a".as_slice(), 0x02c0_bdbf_4814_20f8),
            (b"customer-1", 0x2cb0_0644_b7ae_349b),
        ] {
            assert_eq!(stable_hash(bytes), hash);
            assert_eq!(key_hash(bytes), hash);
        }
        assert_eq!(key_hash(b""), 0);
    }
}
