//! Test helpers: bodies that show damage, the history of what clients saw, its checker, and clusters of
//! processes with the memory they take.
//! Dev-dependency only. Not here: the tests themselves (`tests/*`), and anything the product needs.

pub mod checker;
pub mod faults;
pub mod history;
pub mod memory;
pub mod payload;
pub mod ports;
pub mod power;
pub mod process;
