//! Log engine and applied state on disk; the only crate that names RocksDB.
