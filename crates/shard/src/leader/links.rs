//! The nodes linked to a shard that is led from here: their numbered batches, frames that must wait, frames on their way down.
//! Not here: what frames do (`task`).

use std::collections::{BTreeMap, VecDeque};

use warren_queue::outcome::{BatchOutcome, BatchVerdict};
use warren_queue::rows::OriginRow;
use warren_queue::store::PLACED_BATCHES_REMEMBERED;
use warren_types::{BatchSequence, Incarnation, NodeId, Position, Run, ShardId, Term};

use super::dead_letter::{origin_of, source_of};

use crate::link::frame::{BatchException, BatchPlaces, Down, Hello, Up, Welcome};
use crate::link::post::DownOut;

/// Exceptions of batches kept per node for a link that is made anew; a node has at most 1,024 batches unconfirmed.
const EXCEPTIONS_MAX: usize = 4_096;

/// A shard's moves are numbered through, whoever leads it: one run for ever.
pub(crate) const MOVES_RUN: Run = Run(1);

/// One node's link.
pub(crate) struct Link {
    pub(crate) hello: Hello,
    pub(crate) out: DownOut,
    /// Frames that wait for the topology or for a queue to be created; later ones of the link queue up behind them.
    pub(crate) parked: VecDeque<Up>,
    pub(crate) reported: bool,
    pending: Vec<Down>,
}

/// What was taken of one incarnation of a node.
#[derive(Debug, Default, Clone)]
pub(crate) struct Origin {
    run: Run,
    /// Proposed, perhaps not applied yet.
    accepted: BatchSequence,
    applied: BatchSequence,
    exceptions: VecDeque<BatchException>,
    /// As many batches as a node has unconfirmed, at most.
    places: VecDeque<BatchPlaces>,
}

/// Whether a batch may be proposed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Acceptance {
    Take,
    /// It is on its way already.
    Known,
    /// The node resumes after this one.
    Resume(BatchSequence),
}

#[derive(Default)]
pub(crate) struct Links {
    links: BTreeMap<NodeId, Link>,
    origins: BTreeMap<Incarnation, Origin>,
    /// Where the leaders of shards are that move messages here.
    movers: BTreeMap<ShardId, NodeId>,
}

impl Links {
    pub(crate) fn open(&mut self, rows: Vec<(Incarnation, OriginRow)>) {
        self.origins = rows
            .into_iter()
            .map(|(incarnation, row)| (incarnation, Origin::stored(row)))
            .collect();
    }

    pub(crate) fn hello(&mut self, hello: Hello, out: DownOut, term: Term) {
        let origin = self.origins.entry(hello.incarnation).or_default();
        origin.hello(&hello);
        let welcome = Welcome {
            link: hello.link,
            term,
            last: Some((origin.run, origin.applied)),
            exceptions: origin.exceptions.iter().copied().collect(),
            places: origin.places.iter().cloned().collect(),
        };
        let link = Link {
            hello,
            out,
            parked: VecDeque::new(),
            reported: false,
            pending: vec![Down::Welcome(welcome)],
        };
        self.links.insert(hello.node, link);
    }

    pub(crate) fn get_mut(&mut self, node: NodeId) -> Option<&mut Link> {
        self.links.get_mut(&node)
    }

    pub(crate) fn nodes(&self) -> Vec<NodeId> {
        self.links.keys().copied().collect()
    }

    pub(crate) fn reported(&self, node: NodeId) -> bool {
        self.links.get(&node).is_some_and(|link| link.reported)
    }

    /// Forgets the link if it came by this stream; a newer one stays.
    pub(crate) fn gone(&mut self, node: NodeId, stream: u64) -> bool {
        let same = self
            .links
            .get(&node)
            .is_some_and(|link| link.out.stream() == stream);
        if same {
            self.links.remove(&node);
        }
        same
    }

    pub(crate) fn is_any_parked(&self) -> bool {
        self.links.values().any(|it| !it.parked.is_empty())
    }

    /// Forgets the links of all nodes but this one, which are to look for another leader; answers whose they were.
    pub(crate) fn turn_away(&mut self, own: NodeId) -> Vec<NodeId> {
        let others: Vec<NodeId> = self.nodes().into_iter().filter(|it| *it != own).collect();
        for node in &others {
            if let Some(mut link) = self.links.remove(node) {
                link.pending.push(Down::NotLeader {
                    link: link.hello.link,
                    leader: None,
                });
                link.out.push(link.pending.drain(..));
            }
        }
        others
    }

    pub(crate) fn accept(&mut self, hello: &Hello, sequence: BatchSequence) -> Acceptance {
        self.origins
            .entry(hello.incarnation)
            .or_default()
            .accept(sequence)
    }

    /// As `accept`, for what another shard moves here; its leader is on `node`. One that was taken is answered again.
    pub(crate) fn accept_move(
        &mut self,
        source: ShardId,
        node: NodeId,
        number: BatchSequence,
    ) -> Acceptance {
        self.movers.insert(source, node);
        let origin = self
            .origins
            .entry(origin_of(source))
            .or_insert_with(|| Origin {
                run: MOVES_RUN,
                ..Origin::default()
            });
        let acceptance = origin.accept(number);
        if acceptance == Acceptance::Known && number <= origin.applied {
            let of_number = origin.exceptions.iter().filter(|it| it.sequence == number);
            let exceptions = of_number.copied().collect();
            self.tell(
                node,
                Down::Moved {
                    source,
                    number,
                    exceptions,
                },
            );
        }
        acceptance
    }

    /// Notes applied batches and tells their nodes.
    pub(crate) fn applied(&mut self, outcomes: Vec<BatchOutcome>) {
        for outcome in outcomes {
            let origin = self.origins.entry(outcome.incarnation).or_default();
            let told = origin.applied(&outcome);
            if let Some(source) = source_of(outcome.incarnation) {
                self.tell_mover(source, told);
                continue;
            }
            let link = self.links.values_mut().find(|link| {
                link.hello.incarnation == outcome.incarnation && link.hello.run == outcome.run
            });
            if let (Some(link), Some(told)) = (link, told) {
                link.tell(told);
            }
        }
    }

    fn tell_mover(&mut self, source: ShardId, told: Option<Down>) {
        let node = self.movers.get(&source).copied();
        if let (
            Some(node),
            Some(Down::Results {
                upto, exceptions, ..
            }),
        ) = (node, told)
        {
            self.tell(
                node,
                Down::Moved {
                    source,
                    number: upto,
                    exceptions,
                },
            );
        }
    }

    pub(crate) fn tell(&mut self, node: NodeId, frame: Down) {
        if let Some(link) = self.links.get_mut(&node) {
            link.pending.push(frame);
        }
    }

    /// Sends what was gathered.
    pub(crate) fn flush(&mut self) {
        for link in self.links.values_mut() {
            if !link.pending.is_empty() {
                link.out.push(link.pending.drain(..));
            }
        }
    }

    /// Leadership ended: every node learns it and looks for the next leader.
    pub(crate) fn close(&mut self, leader: Option<NodeId>) {
        for link in self.links.values_mut() {
            link.pending.push(Down::NotLeader {
                link: link.hello.link,
                leader,
            });
        }
        self.flush();
        self.links.clear();
        self.origins.clear();
    }
}

impl Link {
    /// Results of successive batches travel as one frame.
    fn tell(&mut self, frame: Down) {
        if let (
            Down::Results {
                upto,
                exceptions,
                places,
            },
            Some(Down::Results {
                upto: last,
                exceptions: known,
                places: known_places,
            }),
        ) = (&frame, self.pending.last_mut())
        {
            *last = *upto;
            known.extend(exceptions.iter().copied());
            known_places.extend(places.iter().cloned());
            return;
        }
        self.pending.push(frame);
    }
}

impl Origin {
    fn stored(row: OriginRow) -> Self {
        let exceptions = row
            .exceptions
            .iter()
            .flat_map(|(sequence, list)| {
                list.iter().map(|&(index, why)| BatchException {
                    sequence: *sequence,
                    index,
                    why,
                })
            })
            .collect();
        Self {
            run: row.run,
            accepted: row.last,
            applied: row.last,
            exceptions,
            places: row
                .places
                .into_iter()
                .map(|(sequence, first)| BatchPlaces { sequence, first })
                .collect(),
        }
    }

    fn hello(&mut self, hello: &Hello) {
        if hello.run > self.run {
            *self = Self {
                run: hello.run,
                ..Self::default()
            };
        }
        // What this leader took and has not applied is on its way: the node sends it again, and it is known.
        while self
            .exceptions
            .front()
            .is_some_and(|exception| exception.sequence <= hello.confirmed)
        {
            self.exceptions.pop_front();
        }
        self.places.retain(|it| it.sequence > hello.confirmed);
    }

    fn accept(&mut self, sequence: BatchSequence) -> Acceptance {
        if sequence <= self.accepted {
            return Acceptance::Known;
        }
        if sequence.0 == self.accepted.0 + 1 {
            self.accepted = sequence;
            return Acceptance::Take;
        }
        Acceptance::Resume(self.accepted)
    }

    fn applied(&mut self, outcome: &BatchOutcome) -> Option<Down> {
        if outcome.run != self.run {
            return None;
        }
        match &outcome.verdict {
            BatchVerdict::Taken { exceptions, places } => {
                self.applied = outcome.sequence;
                let exceptions: Vec<BatchException> = exceptions
                    .iter()
                    .map(|&(index, why)| BatchException {
                        sequence: outcome.sequence,
                        index,
                        why,
                    })
                    .collect();
                self.exceptions.extend(exceptions.iter().copied());
                while self.exceptions.len() > EXCEPTIONS_MAX {
                    self.exceptions.pop_front();
                }
                let places = self.placed(outcome.sequence, places);
                Some(Down::Results {
                    upto: outcome.sequence,
                    exceptions,
                    places,
                })
            }
            // Its result was told when it was first applied, or comes with the welcome.
            BatchVerdict::Duplicate { .. } | BatchVerdict::DuplicateForgotten => None,
            BatchVerdict::Gap { last } => {
                self.accepted = *last;
                Some(Down::Resume { last: *last })
            }
            BatchVerdict::OldRun { .. } => None,
        }
    }

    /// Notes where the scheduled messages of a batch are, and what is told of it.
    fn placed(&mut self, sequence: BatchSequence, places: &[Position]) -> Vec<BatchPlaces> {
        if places.is_empty() {
            return Vec::new();
        }
        let it = BatchPlaces {
            sequence,
            first: places.to_vec(),
        };
        self.places.push_back(it.clone());
        let oldest = sequence.0.saturating_sub(PLACED_BATCHES_REMEMBERED);
        while self
            .places
            .front()
            .is_some_and(|it| it.sequence.0 <= oldest)
        {
            self.places.pop_front();
        }
        vec![it]
    }
}

#[cfg(test)]
mod tests {
    use warren_types::TopologyIndex;

    use super::*;
    use crate::link::outbox::Outbox;
    use crate::link::post::ToUplink;

    #[test]
    fn other_nodes_are_turned_away_once_and_this_one_stays() {
        let inboxes: Vec<Outbox<ToUplink>> = (0..3).map(|_| Outbox::default()).collect();
        let mut links = Links::default();
        for (node, inbox) in (1..).zip(&inboxes) {
            let hello = Hello {
                node: NodeId(node),
                incarnation: Incarnation(node.into()),
                run: Run(1),
                link: 10 + node,
                term: Term(1),
                topology: TopologyIndex(0),
                confirmed: BatchSequence(0),
            };
            let out = DownOut::Local {
                node: NodeId(1),
                out: inbox.clone(),
            };
            links.hello(hello, out, Term(1));
        }
        assert_eq!(links.turn_away(NodeId(1)), [NodeId(2), NodeId(3)]);
        assert_eq!(links.nodes(), [NodeId(1)]);
        assert!(links.turn_away(NodeId(1)).is_empty());
        let told = |inbox: &Outbox<ToUplink>| {
            let events = inbox.take_now().into_iter();
            let frames = events.flat_map(|event| match event {
                ToUplink::Down { frames, .. } => frames,
                ToUplink::StreamLost { .. } => Vec::new(),
            });
            let links = frames.filter_map(|frame| {
                if let Down::NotLeader { link, leader: None } = frame {
                    Some(link)
                } else {
                    None
                }
            });
            links.collect::<Vec<u64>>()
        };
        let all: Vec<Vec<u64>> = inboxes.iter().map(told).collect();
        assert_eq!(all, [vec![], vec![12], vec![13]]);
    }
}
