//! The pure data plane of one shard: the replicated store and the leader's dispatcher.
