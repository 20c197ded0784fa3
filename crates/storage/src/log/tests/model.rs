//! Random histories of several groups against a `BTreeMap`, on each engine: append, vote, truncate, purge, remove, reopen, crash.
//! `WARREN_LONG=1` runs many more of them.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::log::contract::GroupLogState;
use crate::test_files::copy_dir;

const GROUPS: u32 = 3;

#[derive(Clone, Debug)]
enum Step {
    Append {
        group: u32,
        count: u64,
        bytes: usize,
        waits: bool,
    },
    Vote {
        group: u32,
    },
    Truncate {
        group: u32,
        back: u64,
    },
    Commit {
        group: u32,
        back: u64,
    },
    Purge {
        group: u32,
        back: u64,
    },
    PurgeBeyond {
        group: u32,
        by: u64,
    },
    Read {
        group: u32,
        from: u64,
        count: u64,
        bytes_max: usize,
    },
    Remove {
        group: u32,
    },
    Reopen,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let group = 1..=GROUPS;
    prop_oneof![
        8 => (group.clone(), 1..20_u64, 0..400_usize, any::<bool>())
            .prop_map(|(group, count, bytes, waits)| Step::Append { group, count, bytes, waits }),
        2 => group.clone().prop_map(|group| Step::Vote { group }),
        3 => (group.clone(), 0..25_u64).prop_map(|(group, back)| Step::Truncate { group, back }),
        2 => (group.clone(), 0..25_u64).prop_map(|(group, back)| Step::Commit { group, back }),
        3 => (group.clone(), 0..90_u64).prop_map(|(group, back)| Step::Purge { group, back }),
        1 => (group.clone(), 1..20_u64).prop_map(|(group, by)| Step::PurgeBeyond { group, by }),
        6 => (group.clone(), 0..150_u64, 0..60_u64, 0..4_000_usize)
            .prop_map(|(group, from, count, bytes_max)| Step::Read { group, from, count, bytes_max }),
        1 => group.prop_map(|group| Step::Remove { group }),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
    ]
}

#[derive(Default)]
struct ModelGroup {
    entries: BTreeMap<u64, LogRecord>,
    state: GroupLogState,
    replica: u64,
    term: u64,
}

impl ModelGroup {
    fn purged(&self) -> u64 {
        self.state.purged.map_or(0, |id| id.index.0)
    }

    fn last(&self) -> u64 {
        self.state.last.map_or(0, |id| id.index.0)
    }

    fn id(&self, index: u64) -> Option<LogId> {
        self.entries
            .get(&index)
            .map(|record| record.id)
            .or(self.state.purged.filter(|id| id.index.0 == index))
    }

    fn settle_last(&mut self) {
        self.state.last = self
            .entries
            .values()
            .next_back()
            .map(|record| record.id)
            .or(self.state.purged);
    }

    fn read(&self, from: u64, count: u64, bytes_max: usize) -> Vec<LogRecord> {
        let mut bytes = 0;
        let mut read = Vec::new();
        for (_, record) in self.entries.range(from..from + count) {
            bytes += record.bytes.len();
            if !read.is_empty() && bytes > bytes_max {
                break;
            }
            read.push(record.clone());
        }
        read
    }
}

struct World {
    dir: TempDir,
    kind: Kind,
    engine: Arc<dyn LogEngine>,
    logs: BTreeMap<u32, Arc<dyn GroupLog>>,
    model: BTreeMap<u32, ModelGroup>,
    answers: Vec<Answer>,
}

fn options() -> LogOptions {
    LogOptions {
        tail_cache_bytes: 4_000,
        queue_bytes: 20_000,
        // Small, so that histories fill many segments and old ones have to be emptied.
        segment_bytes: 16 << 10,
        log_bytes_max: 64 << 10,
        ..LogOptions::default()
    }
}

impl World {
    fn new(kind: Kind) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let engine = kind.open_with(dir.path(), options());
        let model = (1..=GROUPS)
            .map(|group| (group, ModelGroup::default()))
            .collect();
        let mut world = Self {
            dir,
            kind,
            engine,
            logs: BTreeMap::new(),
            model,
            answers: Vec::new(),
        };
        world.open_groups();
        world
    }

    fn open_groups(&mut self) {
        for (&group, model) in &self.model {
            let log = self
                .engine
                .open_group(GroupId(group), ReplicaId(model.replica))
                .unwrap();
            self.logs.insert(group, log);
        }
    }

    fn settle(&mut self) {
        self.answers
            .drain(..)
            .for_each(|answered| wait(&answered).unwrap());
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Append {
                group,
                count,
                bytes,
                waits,
            } => self.append(group, count, bytes, waits),
            Step::Vote { group } => self.vote(group),
            Step::Truncate { group, back } => self.truncate(group, back),
            Step::Commit { group, back } => {
                let model = self.model.get_mut(&group).unwrap();
                model.state.committed = model.id(model.last().saturating_sub(back));
                self.logs[&group].save_committed(model.state.committed);
            }
            Step::Purge { group, back } => {
                let model = self.model.get_mut(&group).unwrap();
                let Some(upto) = model.id(model.last().saturating_sub(back)) else {
                    return;
                };
                self.purge(group, upto);
            }
            Step::PurgeBeyond { group, by } => {
                let model = &self.model[&group];
                let upto = id(model.term, model.last() + by);
                self.purge(group, upto);
            }
            Step::Read {
                group,
                from,
                count,
                bytes_max,
            } => {
                let range = LogIndex(from)..LogIndex(from + count);
                let read = self.logs[&group].read(range, bytes_max).unwrap();
                assert_eq!(read, self.model[&group].read(from, count, bytes_max));
            }
            Step::Remove { group } => self.remove(group),
            Step::Reopen => {
                self.settle();
                self.engine.close();
                self.engine = self.kind.open_with(self.dir.path(), options());
                self.open_groups();
            }
            Step::Crash => self.crash(),
        }
        self.check();
    }

    fn append(&mut self, group: u32, count: u64, bytes: usize, waits: bool) {
        let model = self.model.get_mut(&group).unwrap();
        let first = model.last() + 1;
        let new: Vec<_> = (first..first + count)
            .map(|index| record(model.term, index, bytes))
            .collect();
        model
            .entries
            .extend(new.iter().map(|record| (record.id.index.0, record.clone())));
        model.settle_last();
        let (done, answered) = answer();
        self.logs[&group].append(new, done);
        self.answers.push(answered);
        if waits {
            self.settle();
            assert_eq!(
                self.logs[&group].durable().borrow().last,
                self.model[&group].state.last
            );
        }
    }

    fn truncate(&mut self, group: u32, back: u64) {
        let model = self.model.get_mut(&group).unwrap();
        let kept = model.last().saturating_sub(back).max(model.purged());
        let kept_id = model.id(kept);
        model.entries.retain(|index, _| *index <= kept);
        model.settle_last();
        model.term += 1;
        self.logs[&group].truncate_after(kept_id);
        let durable = self.logs[&group].durable().borrow().last;
        assert!(durable.map_or(0, |id| id.index.0) <= kept);
    }

    fn remove(&mut self, group: u32) {
        let (done, answered) = answer();
        self.settle();
        self.engine.remove_group(GroupId(group), done);
        self.answers.push(answered);
        let replica = self.model[&group].replica + 1;
        self.model.insert(
            group,
            ModelGroup {
                replica,
                ..ModelGroup::default()
            },
        );
        self.open_groups();
    }

    fn vote(&mut self, group: u32) {
        let model = self.model.get_mut(&group).unwrap();
        model.term += 1;
        let new = Vote {
            term: Term(model.term),
            replica: REPLICA,
            committed: model.term.is_multiple_of(2),
        };
        let (done, answered) = answer();
        self.logs[&group].save_vote(new, done);
        wait(&answered).unwrap();
        model.state.vote = Some(new);
    }

    fn purge(&mut self, group: u32, upto: LogId) {
        let model = self.model.get_mut(&group).unwrap();
        if upto.index.0 > model.purged() {
            model.entries.retain(|index, _| *index > upto.index.0);
            model.state.purged = Some(upto);
            model.settle_last();
        }
        self.logs[&group].purge(upto);
    }

    /// Something that is synced follows what needs only order, then the files are copied under the running engine.
    fn crash(&mut self) {
        self.vote(1);
        self.settle();
        let crashed = tempfile::tempdir().unwrap();
        copy_dir(self.dir.path(), crashed.path());
        self.engine = self.kind.open_with(crashed.path(), options());
        self.dir = crashed;
        self.open_groups();
    }

    fn check(&self) {
        for (group, model) in &self.model {
            assert_eq!(self.logs[group].state(), model.state, "group {group}");
            for index in [
                model.purged(),
                model.purged() + 1,
                model.last(),
                model.last() + 1,
            ] {
                let expected = model.id(index).filter(|_| index > 0);
                assert_eq!(
                    self.logs[group].log_id(LogIndex(index)).unwrap(),
                    expected,
                    "group {group} index {index}"
                );
            }
        }
    }
}

fn run(kind: Kind, steps: Vec<Step>) {
    let mut world = World::new(kind);
    for step in steps {
        world.run(step);
    }
    world.settle();
    world.run(Step::Reopen);
    for (group, model) in &world.model {
        let log = &world.logs[group];
        assert_eq!(
            read_all(log),
            model.entries.values().cloned().collect::<Vec<_>>()
        );
        assert_eq!(log.durable().borrow().last, model.state.last);
    }
}

fn cases(short: u32) -> ProptestConfig {
    let long = std::env::var_os("WARREN_LONG").is_some();
    ProptestConfig {
        cases: if long { short * 100 } else { short },
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(20))]

    #[test]
    fn log_on_rocks_follows_the_model(steps in proptest::collection::vec(step(), 1..60)) {
        run(Kind::Rocks, steps);
    }
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn log_on_segments_follows_the_model(steps in proptest::collection::vec(step(), 1..200)) {
        run(Kind::Segments, steps);
    }
}
