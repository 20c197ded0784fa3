//! What the frames mean: the changes to a group's state on disk, for the writer when a batch is synced and for recovery when it
//! is read again. Not here: reading files (`scan`), what is visible before (`handle`).

use std::collections::BTreeMap;
use std::sync::Arc;

use warren_types::{GroupId, LogId, LogIndex, ReplicaId};

use super::format::{
    CheckpointGroup, FrameHeader, Kind, Run, take_log_id, take_maybe, take_runs, take_vote,
};
use super::index::{Runs, Spans};
use super::scan::{Frame, WholeBatch};
use super::segment::{Segment, Span};
use crate::files::take_u64;
use crate::log::contract::GroupLogState;

pub(super) fn truncate(
    state: &mut GroupLogState,
    spans: &mut Spans,
    kept: LogIndex,
    last: Option<LogId>,
) {
    state.last = last;
    spans.truncate_after(kept);
}

pub(super) fn purge(state: &mut GroupLogState, spans: &mut Spans, upto: LogId) {
    state.purged = Some(upto);
    if state.last.is_none_or(|last| last.index <= upto.index) {
        state.last = Some(upto);
    }
    spans.remove_upto(upto.index);
}

/// A group's log as found on disk.
#[derive(Default)]
pub(super) struct Replayed {
    pub(super) replica: ReplicaId,
    pub(super) state: GroupLogState,
    pub(super) runs: Runs,
    pub(super) spans: Spans,
}

impl Replayed {
    /// The first entry that should be there and is not.
    pub(super) fn first_missing(&self) -> Option<u64> {
        let index = |id: Option<LogId>| id.map_or(0, |id| id.index.0);
        let first = index(self.state.purged) + 1;
        self.spans.first_missing(first, index(self.state.last))
    }
}

/// All groups, as far as has been read.
#[derive(Default)]
pub(super) struct Replay {
    pub(super) groups: BTreeMap<GroupId, Replayed>,
    begun: bool,
}

const NOT_READABLE: &str = "a frame's content is not what its kind says";

impl Replay {
    /// # Errors
    /// What does not fit with what came before.
    pub(super) fn batch(
        &mut self,
        segment: &Arc<Segment>,
        batch: &WholeBatch<'_>,
        begins_segment: bool,
    ) -> Result<(), String> {
        for (number, frame) in batch.frames.iter().enumerate() {
            let content = batch.content(frame);
            let checkpoint = frame.header.kind == Kind::Checkpoint;
            if checkpoint != (begins_segment && number == 0) {
                return Err("a checkpoint begins a segment and stands nowhere else".into());
            }
            if checkpoint {
                self.checkpoint(&frame.header, content)?;
            } else {
                self.frame(segment, frame, content)?;
            }
        }
        Ok(())
    }

    /// The first one is where everything begins; the others must agree with what was replayed.
    fn checkpoint(&mut self, header: &FrameHeader, mut content: &[u8]) -> Result<(), String> {
        let groups: Option<Vec<CheckpointGroup>> = (0..header.count)
            .map(|_| CheckpointGroup::take(&mut content))
            .collect();
        let groups = groups
            .filter(|_| content.is_empty())
            .ok_or_else(|| NOT_READABLE.to_owned())?;
        if !self.begun {
            self.begun = true;
            self.groups = groups
                .into_iter()
                .map(|it| {
                    let found = Replayed {
                        replica: it.replica,
                        state: it.state,
                        ..Replayed::default()
                    };
                    (it.group, found)
                })
                .collect();
            return Ok(());
        }
        let replayed = self.groups.iter().map(|(group, it)| CheckpointGroup {
            group: *group,
            replica: it.replica,
            state: it.state,
        });
        if replayed.eq(groups.iter().copied()) {
            return Ok(());
        }
        Err("its checkpoint does not agree with the segments before it".into())
    }

    fn frame(
        &mut self,
        segment: &Arc<Segment>,
        frame: &Frame,
        content: &[u8],
    ) -> Result<(), String> {
        let header = &frame.header;
        let id = header.group;
        match header.kind {
            Kind::Create => {
                let replica = whole(content, take_u64)?;
                let found = Replayed {
                    replica: ReplicaId(replica),
                    ..Replayed::default()
                };
                return match self.groups.insert(id, found) {
                    None => Ok(()),
                    Some(_) => Err(format!("group {id} is created twice")),
                };
            }
            // What was never created may be removed: a group that was only ever refused.
            Kind::Remove => {
                self.groups.remove(&id);
                return Ok(());
            }
            Kind::Append
            | Kind::Vote
            | Kind::Committed
            | Kind::Truncate
            | Kind::Purge
            | Kind::Rewrite
            | Kind::Checkpoint => {}
        }
        let group = self.groups.get_mut(&id);
        let group = group.ok_or_else(|| format!("group {id} was never created"))?;
        let state = &mut group.state;
        match header.kind {
            Kind::Append | Kind::Rewrite => return group.records(segment, frame, content),
            Kind::Vote => state.vote = Some(whole(content, take_vote)?),
            Kind::Committed => state.committed = whole(content, |it| take_maybe(it, take_log_id))?,
            Kind::Truncate => {
                let last = whole(content, |it| take_maybe(it, take_log_id))?;
                truncate(state, &mut group.spans, header.first, last);
                group.runs.truncate_after(header.first);
            }
            Kind::Purge => {
                let upto = whole(content, take_log_id)?;
                purge(state, &mut group.spans, upto);
                group.runs.remove_upto(upto.index);
            }
            Kind::Checkpoint | Kind::Create | Kind::Remove => {}
        }
        Ok(())
    }
}

impl Replayed {
    fn records(
        &mut self,
        segment: &Arc<Segment>,
        frame: &Frame,
        content: &[u8],
    ) -> Result<(), String> {
        let header = &frame.header;
        let mut meta = content
            .get(..header.meta_bytes as usize)
            .unwrap_or_default();
        let runs: Vec<Run> = take_runs(&mut meta).ok_or_else(|| NOT_READABLE.to_owned())?;
        let (first, last) = (header.first.0, header.last().0);
        let mut next = first;
        let mut id = None;
        for run in runs.iter().filter(|run| run.count > 0) {
            self.runs.learn(next, run.term, run.leader);
            next += u64::from(run.count);
            id = Some(LogId {
                term: run.term,
                leader: run.leader,
                index: LogIndex(next - 1),
            });
        }
        if next != last + 1 || header.count == 0 {
            return Err(NOT_READABLE.to_owned());
        }
        let span = Span::new(
            segment.clone(),
            frame.offset..frame.end,
            first..=last,
            u64::from(header.body_bytes),
        );
        let end = self.state.last.map_or(0, |id| id.index.0);
        if header.kind == Kind::Rewrite {
            let purged = self.state.purged.map_or(0, |id| id.index.0);
            if first <= purged || last > end {
                return Err(format!("records {first} to {last} are not part of the log"));
            }
            self.spans.replace(span);
            return Ok(());
        }
        if first != end + 1 {
            return Err(format!("record {first} follows record {end}"));
        }
        self.spans.add(span);
        self.state.last = id;
        Ok(())
    }
}

/// Reads a frame's content that consists of one thing.
fn whole<T>(mut content: &[u8], read: impl FnOnce(&mut &[u8]) -> Option<T>) -> Result<T, String> {
    read(&mut content)
        .filter(|_| content.is_empty())
        .ok_or_else(|| NOT_READABLE.to_owned())
}
