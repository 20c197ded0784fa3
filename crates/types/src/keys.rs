//! Hashes of group, fairness and deduplication keys, as messages are stored with them. Not here: which key a message has.

/// FNV-1a with a final mix; stored, so it never changes. 0 = no key.
#[must_use]
pub fn key_hash(key: &[u8]) -> u64 {
    if key.is_empty() {
        return 0;
    }
    let hash = key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mix(hash).max(1)
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
    fn key_hash_is_the_one_that_is_stored() {
        // Values of an independent computation: a change breaks groups across versions.
        assert_eq!(key_hash(b""), 0);
        assert_eq!(key_hash(b"a"), 0x02c0_bdbf_4814_20f8);
        assert_eq!(key_hash(b"customer-1"), 0x2cb0_0644_b7ae_349b);
    }
}
