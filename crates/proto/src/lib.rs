//! Generated protocol code and its conversions to types.
