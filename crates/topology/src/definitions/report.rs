//! What became of an import, object by object. Not here: doing it (`import`).

use crate::reply::{Declared, TopologyReply};

/// For the one who imports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Objects that were made or are different now.
    pub changed: u32,
    /// Objects that were there as the document has them.
    pub unchanged: u32,
    /// What is kept and has no effect, or is not kept, and why.
    pub warnings: Vec<String>,
    /// Objects that were not imported, and why.
    pub refused: Vec<String>,
}

impl Report {
    /// What an item's command was answered.
    pub fn note(&mut self, label: &str, reply: &TopologyReply) {
        match reply {
            TopologyReply::VhostCreated { declared, .. }
            | TopologyReply::UserCreated(declared)
            | TopologyReply::ExchangeDeclared { declared, .. }
            | TopologyReply::QueueDeclared { declared, .. }
            | TopologyReply::Bound(declared) => self.count(*declared == Declared::Created),
            TopologyReply::Done { changed } => self.count(*changed),
            // Equal ones were not set.
            TopologyReply::PolicySet(_) => self.count(true),
            TopologyReply::Refused(refusal) => self.refuse(label, refusal),
            TopologyReply::ClusterFormed(_)
            | TopologyReply::NodeUpdated
            | TopologyReply::ExchangeDeleted { .. }
            | TopologyReply::QueueDeleted { .. }
            | TopologyReply::Unbound { .. }
            | TopologyReply::ConsumerNoted { .. }
            | TopologyReply::PolicyDeleted { .. }
            | TopologyReply::Batch(_) => self.refuse(label, "answered as another command"),
        }
    }

    pub(super) fn warn(&mut self, text: impl Into<String>) {
        self.warnings.push(text.into());
    }

    pub(super) fn refuse(&mut self, object: &str, why: impl std::fmt::Display) {
        self.refused.push(format!("{object}: {why}"));
    }

    pub(super) fn count(&mut self, is_changed: bool) {
        let which = if is_changed {
            &mut self.changed
        } else {
            &mut self.unchanged
        };
        *which = which.saturating_add(1);
    }
}
