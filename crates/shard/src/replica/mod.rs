//! One replica's state at work on its apply thread, on every node alike. Not here: what the leader does with the outcome (`leader`).

pub(crate) mod machine;
mod overlay;
mod rows_view;
pub(crate) mod tap;
