//! The bytes we replicate or keep: commands, entries, rows, with version and checksum.
