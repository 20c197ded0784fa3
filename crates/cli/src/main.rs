//! The one binary, `warren`.

fn main() {}
