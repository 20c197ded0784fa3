//! The persistent maps the topology is made of: a clone shares everything, a change copies one path. Not here: what is kept in them.
//!
//! Every applied chunk publishes a new `Arc<Topology>` while readers hold older ones, and ten thousand queues may be
//! declared one by one: so no section of the topology may be copied as a whole on a change.

use std::hash::{BuildHasherDefault, DefaultHasher};

use rpds::{HashTrieMapSync, RedBlackTreeMapSync, RedBlackTreeSetSync};

/// Ordered: what is listed, kept in snapshots, or iterated.
pub(crate) type OrdMap<K, V> = RedBlackTreeMapSync<K, V>;
pub(crate) type OrdSet<K> = RedBlackTreeSetSync<K>;

/// Only for lookups on the way of a message; never iterated. The hasher has fixed keys: equal on every replica.
pub(crate) type HashIndex<K, V> = HashTrieMapSync<K, V, BuildHasherDefault<DefaultHasher>>;

pub(crate) fn hash_index<K: Eq + std::hash::Hash, V>() -> HashIndex<K, V> {
    HashIndex::new_with_hasher_and_ptr_kind(BuildHasherDefault::default())
}
