//! One replica at work: batcher, apply loop, dispatch driver, forwarding between nodes.
