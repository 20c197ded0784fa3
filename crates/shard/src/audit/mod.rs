//! Compares the rows of a shard's replicas all the time, while it works (ADR 0071). The leader has entries appended that ask for it
//! (`leader`); each replica freezes its rows as it applies one (`capture`), digests some of them (`digest`) and tells the leader
//! (`report`), which judges (`verdict`) and answers; the replica draws its conclusions (`replica`). Reading rows for that checks all of them
//! against their checksums, over and over. The topology's replicas are compared by asking them (`topology`).
//! Not here: the entries' bytes (`warren-codec`), what becomes of a replica that is wrong (`broker`).

mod book;
mod capture;
mod digest;
mod handle;
mod leader;
mod pass;
mod replica;
mod report;
#[cfg(test)]
mod tests;
mod topology;
mod verdict;

pub use book::AuditView;
pub(crate) use capture::{AuditId, Captured, Captures, Frozen, captures};
pub(crate) use handle::Audits;
pub(crate) use replica::Fault;
pub(crate) use report::AuditDoors;
pub(crate) use topology::TopologyAudits;
#[cfg(test)]
pub(crate) use {digest::digest_of, verdict::Seen};
