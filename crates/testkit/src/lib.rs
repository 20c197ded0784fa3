//! Test helpers: bodies that show damage, the history of what clients saw, its checker, and clusters of processes.
//! Dev-dependency only. Not here: the tests themselves (`tests/*`), and anything the product needs.

pub mod checker;
pub mod faults;
pub mod history;
pub mod payload;
pub mod ports;
pub mod power;
pub mod process;
