//! Applies committed entries to one shard. Not here: IO, clocks, randomness, logging, failure, consumers.
