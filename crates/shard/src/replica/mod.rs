//! One replica's state at work on its apply thread, on every node alike. Not here: what the leader does with the outcome (`leader`).

pub(crate) mod machine;
mod overlay;
mod rows_view;
pub(crate) mod tap;

pub(crate) use overlay::table_of as table_on_disk;
#[cfg(test)]
pub(crate) use rows_view::RowsView;
