//! Test helpers: clusters of processes, history and its checker.
