//! Follows audits through all rows of a shard: whether a replica agreed in each of a whole pass. Not here: when the next is (`leader`).

use warren_codec::AuditPlace;
use warren_storage::RowsLife;

use super::verdict::Answer;

/// How far a replica has agreed without a gap since the shard's first row.
#[derive(Default)]
pub(super) struct Pass {
    going: Option<(RowsLife, AuditPlace)>,
}

impl Pass {
    /// Takes one audit: where it began and ended, what the comparison said. True: it was the last of a pass in which all agreed.
    pub(super) fn note(
        &mut self,
        life: RowsLife,
        place: &AuditPlace,
        end: Option<AuditPlace>,
        answer: Answer,
    ) -> bool {
        let going = self.going.take();
        let follows = *place == AuditPlace::start()
            || going.is_some_and(|(of, next)| of == life && next == *place);
        let agrees = match answer {
            Answer::Agrees => true,
            Answer::NotCompared | Answer::Doubt | Answer::Wrong => false,
        };
        match end {
            _ if !(follows && agrees) => false,
            Some(next) => {
                self.going = Some((life, next));
                false
            }
            None => true,
        }
    }
}
