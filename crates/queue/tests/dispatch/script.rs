//! Runs `tests/scripts/dispatch_*.txt`: commands, a line of dashes, then what came out. `WARREN_SCRIPTS=write` rewrites the answers.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use warren_queue::dispatch::io::{
    Action, Actions, Attach, ConsumerOptions, Input, Refill, Token, Whereabouts,
};
use warren_queue::dispatch::{Dispatch, Options};
use warren_queue::entry::{
    AckWithOutputs, Command, HandOut, Return, ReturnKind, Settle, SettleReason, SettleTogether,
};
use warren_queue::outcome::Effect;
use warren_types::{Position, PositionRange, Priority, QueueId, QueueSettings, ShardTime, Term};

use crate::ask::{give_back, settle, together};
use crate::line::{Line, purge_states, settings};
use crate::say::{delivery, key, proposal};
use crate::shard::{Shard, enqueue};

fn refill(line: &Line<'_>) -> Refill {
    if line.has("no_refill") {
        Refill::Nothing
    } else if line.has("refill_messages") {
        Refill::Messages
    } else {
        Refill::All
    }
}

struct World {
    dispatch: Dispatch,
    store: Shard,
    now: ShardTime,
    proposed: VecDeque<Command>,
    loads: VecDeque<(QueueId, Priority, Position)>,
    looks: VecDeque<(QueueId, ShardTime)>,
    /// Settles of dead letters, on their way elsewhere.
    moving: Vec<Settle>,
    said: String,
    messages: u64,
}

impl World {
    fn new() -> Self {
        World {
            dispatch: Dispatch::new(Options::default()),
            store: Shard::new(),
            now: ShardTime(0),
            proposed: VecDeque::new(),
            loads: VecDeque::new(),
            looks: VecDeque::new(),
            moving: Vec::new(),
            said: String::new(),
            messages: 0,
        }
    }

    fn run(&mut self, text: &str) {
        let line = Line::parse(text);
        match line.verb {
            "options" => {
                self.dispatch = Dispatch::new(Options {
                    chunk: line.number("chunk", 1_024) as u32,
                    queue_hot_bytes: line.number("hot_bytes", 8 << 20) as usize,
                    node_in_flight_max: line.number("node_in_flight_max", 200_000) as usize,
                    group_window: line.number("group_window", 16_384) as usize,
                    ..Options::default()
                });
            }
            "open" => {
                self.proposed.clear();
                self.loads.clear();
                self.looks.clear();
                let queues = self.store.openings();
                self.step(Input::Open {
                    term: Term(line.number("term", 1)),
                    now: ShardTime(line.number("now", 0)),
                    queues,
                });
            }
            "start" => self.step(Input::Start),
            "clock" => {
                self.now = self.now.max(ShardTime(line.number("now", 0)));
                self.step(Input::Clock {
                    now: ShardTime(line.number("now", 0)),
                    lease: !line.has("no_lease"),
                });
            }
            "settings" => {
                let (queue, settings) = (line.queue(), Arc::new(settings(&line)));
                self.step(Input::Settings { queue, settings });
            }
            "commit" => {
                for command in std::mem::take(&mut self.proposed) {
                    self.apply(command);
                }
            }
            "single_active" => self.step(Input::Settings {
                queue: line.queue(),
                settings: Arc::new(QueueSettings {
                    single_active_consumer: true,
                    ..QueueSettings::default()
                }),
            }),
            "load" => {
                for (queue, priority, from) in std::mem::take(&mut self.loads) {
                    let loaded = self.store.load(queue, priority, from);
                    self.step(Input::Loaded(loaded));
                }
            }
            "stats" => {
                let stats = self.dispatch.queue_stats(line.queue());
                let hot = self.dispatch.hot_bytes();
                writeln!(self.said, "{stats:?} hot_bytes={hot}").unwrap();
            }
            "move" | "arrive" | "take_out" | "refuse" => self.run_moves(&line),
            _ => self.run_store(&line),
        }
    }

    /// What was proposed to leave is moved first, as the shard's leader does with dead letters.
    fn run_moves(&mut self, line: &Line<'_>) {
        let reason = SettleReason::DeadLettered;
        match line.verb {
            "arrive" => {
                for it in std::mem::take(&mut self.moving) {
                    self.apply(Command::Settle(Settle { reason, ..it }));
                }
            }
            "refuse" => {
                for Settle { queue, ranges, .. } in std::mem::take(&mut self.moving) {
                    let kind = ReturnKind::Untouched;
                    let not_before = None;
                    self.apply(Command::Return(Return {
                        queue,
                        ranges,
                        kind,
                        not_before,
                    }));
                }
            }
            "take_out" => {
                let queue = line.queue();
                let first = Position(line.number("from", 1));
                let range = PositionRange {
                    first,
                    count: line.number("count", 1),
                };
                let mut messages = self.store.leaving(queue, &[range]);
                messages.retain(|it| {
                    self.dispatch.whereabouts(queue, it.position) == Whereabouts::NotInFlight
                });
                let ranges = PositionRange::collect(messages.iter().map(|it| it.position));
                self.step(Input::TakeOut { queue, messages });
                self.moving.push(Settle {
                    queue,
                    ranges,
                    reason,
                });
            }
            _ => {
                for command in std::mem::take(&mut self.proposed) {
                    if let Command::Settle(it) = command {
                        self.moving.push(it);
                    } else {
                        self.proposed.push_back(command);
                    }
                }
            }
        }
    }

    fn run_store(&mut self, line: &Line<'_>) {
        match line.verb {
            "create" => {
                let effects = self.store.create(line.queue());
                self.hear(effects);
            }
            "delete" => {
                let effects = self.store.delete(line.queue());
                self.hear(effects);
            }
            "publish" => self.publish(line),
            "pass_over" => self.apply(Command::HandOut(HandOut {
                queue: line.queue(),
                priority: Priority::DEFAULT,
                up_to: Some(Position(line.number("up_to", 0))),
                except: vec![PositionRange::one(Position(line.number("position", 0)))],
                positions: Vec::new(),
            })),
            "look" => {
                for (queue, up_to) in std::mem::take(&mut self.looks) {
                    let due = self.store.due(queue, up_to);
                    self.step(Input::Due(due));
                }
            }
            _ => self.run_session(line),
        }
    }

    fn run_session(&mut self, line: &Line<'_>) {
        let (node, token) = (line.node(), Token(line.number("token", 1)));
        let input = match line.verb {
            "attach" => Input::Attach(Attach {
                consumer: line.consumer(),
                queue: line.queue(),
                options: ConsumerOptions {
                    no_ack: line.has("no_ack"),
                    refill: refill(line),
                    priority: line.number("priority", 0) as i32,
                    exclusive: line.has("exclusive"),
                    uncommitted_max: line.number("uncommitted_max", 1_000) as u32,
                    passing: false,
                },
                credit: line.credit(),
                held: line.held("held"),
            }),
            "credit" => Input::Credit {
                consumer: line.consumer(),
                add: line.credit(),
            },
            "recall" => Input::Recall {
                consumer: line.consumer(),
                up_to: line.credit(),
            },
            "settle" => Input::Settle(settle(line)),
            "return" => Input::Return(give_back(line)),
            "together" => Input::SettleTogether(together(line)),
            "detach" => Input::Detach {
                consumer: line.consumer(),
                returns: line.kind(),
            },
            "purge" => Input::Purge {
                queue: line.queue(),
                token,
                node,
                states: purge_states(line),
            },
            "node_lost" => Input::NodeLost {
                node,
                silent_ms: line.number("silent", 0),
            },
            "node_back" => Input::NodeBack { node },
            "node_reported" => Input::NodeReported { node },
            other => panic!("unknown command {other}"),
        };
        self.step(input);
    }

    /// Commits an enqueue at once, with the raise that the dispatcher asks for unless `no_raise`.
    fn publish(&mut self, line: &Line<'_>) {
        let priority = Priority::clamped(line.number("priority", 4) as u8);
        let ids: Vec<u64> = (0..line.number("count", 1))
            .map(|it| self.messages + 1 + it)
            .collect();
        self.messages += ids.len() as u64;
        let mut it = enqueue(line.queue(), priority, &ids, line.number("body", 10) as u32);
        let all =
            |at: Option<u64>| at.map_or(Vec::new(), |at| vec![Some(ShardTime(at)); ids.len()]);
        it.facts.expiry = all(line.time("expiry"));
        it.facts.due = all(line.time("due"));
        if line.has("key") {
            it.facts.group_hash = vec![line.number("key", 0); ids.len()];
        }
        if !line.has("no_raise") {
            it.raise = self.dispatch.raise_hint(line.queue(), priority);
        }
        if let Some(raise) = it.raise {
            writeln!(self.said, "rides: raise={raise}").unwrap();
        }
        self.apply(Command::Enqueue(it));
    }

    /// One entry: the effects of its command, then its time.
    fn apply(&mut self, command: Command) {
        let effects = self.store.apply(self.now, command);
        self.hear(effects);
        let now = self.now;
        self.step(Input::Applied(Effect::Time { now }));
    }

    fn hear(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            self.step(Input::Applied(effect));
        }
    }

    fn step(&mut self, input: Input) {
        let mut out = Actions::default();
        self.dispatch.step(input, &mut out);
        for action in out.list {
            self.say(&action);
            match action {
                Action::Propose(command) => self.proposed.push_back(command),
                Action::Load {
                    queue,
                    priority,
                    from,
                } => self.loads.push_back((queue, priority, from)),
                Action::LookDue { queue, up_to } => self.looks.push_back((queue, up_to)),
                // The outputs are named by the queue they go to.
                Action::ProposeOutputs {
                    queue,
                    held,
                    outputs,
                } => {
                    let block = enqueue(QueueId(outputs.0), Priority::DEFAULT, &[99], 10);
                    let ack = AckWithOutputs {
                        queue,
                        position: held.position,
                        attempt: held.attempt,
                        blocks: vec![block],
                    };
                    self.proposed.push_back(Command::AckWithOutputs(ack));
                }
                Action::ProposeTogether {
                    outputs,
                    deliveries,
                    endings,
                } => {
                    let block = enqueue(QueueId(outputs.0), Priority::DEFAULT, &[99], 10);
                    let blocks = (outputs.0 != 0).then_some(block);
                    let together = SettleTogether {
                        deliveries,
                        endings,
                        blocks: blocks.into_iter().collect(),
                    };
                    self.proposed.push_back(Command::SettleTogether(together));
                }
                Action::Deliver { .. }
                | Action::Attached { .. }
                | Action::SettleResults { .. }
                | Action::Recalled { .. }
                | Action::Waiting { .. }
                | Action::Cancelled { .. }
                | Action::Forget { .. }
                | Action::Purged { .. } => {}
            }
        }
    }

    fn say(&mut self, action: &Action) {
        let text = match action {
            Action::Deliver {
                consumer,
                deliveries,
                fencing,
                ..
            } => {
                let mut all: Vec<String> = deliveries.iter().map(delivery).collect();
                if *fencing != 0 {
                    all.push(format!("fencing={fencing}"));
                }
                format!("deliver: {} {}", key(*consumer), all.join(" "))
            }
            Action::Propose(command) => format!("propose: {}", proposal(command)),
            Action::Load { priority, from, .. } => {
                format!("load: priority={} from={from}", priority.level())
            }
            Action::ProposeOutputs { held, outputs, .. } => {
                let (at, attempt) = (held.position, held.attempt);
                format!(
                    "propose: outputs {} with {at}@{}.{}",
                    outputs.0, attempt.term, attempt.number
                )
            }
            Action::ProposeTogether {
                outputs, endings, ..
            } => {
                let endings = endings.iter().cloned().map(Command::from);
                let endings: Vec<String> = endings.map(|it| proposal(&it)).collect();
                format!(
                    "propose together: {} outputs {}",
                    endings.join(" "),
                    outputs.0
                )
            }
            Action::LookDue { up_to, .. } => format!("look: up_to={up_to}"),
            Action::Attached { consumer, result } => {
                format!("attached: {} {result:?}", key(*consumer))
            }
            Action::SettleResults {
                node,
                token,
                results,
            } => format!("results: node={node} token={} {results:?}", token.0),
            Action::Recalled { consumer, credit } => format!(
                "recalled: {} messages={} bytes={}",
                key(*consumer),
                credit.messages,
                credit.bytes
            ),
            Action::Waiting { consumer } => format!("waiting: {}", key(*consumer)),
            Action::Cancelled { consumer } => format!("cancelled: {}", key(*consumer)),
            Action::Forget {
                consumer, position, ..
            } => format!("forget: {} position={position}", key(*consumer)),
            Action::Purged { node, token, count } => {
                format!("purged: node={node} token={} count={count}", token.0)
            }
        };
        writeln!(self.said, "{text}").unwrap();
    }
}

/// Runs a script and gives it back with the answers it really had.
fn replay(text: &str) -> String {
    let mut world = World::new();
    let mut replayed = String::new();
    for part in text.trim_end().split("\n\n") {
        let mut answered = false;
        for line in part.lines() {
            if line == "----" {
                answered = true;
                break;
            }
            writeln!(replayed, "{line}").unwrap();
            let command = line.split('#').next().unwrap().trim();
            if !command.is_empty() {
                world.run(command);
            }
        }
        if answered || !world.said.is_empty() {
            replayed.push_str("----\n");
            replayed.push_str(&std::mem::take(&mut world.said));
        }
        replayed.push('\n');
    }
    replayed.truncate(replayed.trim_end().len());
    replayed.push('\n');
    replayed
}

#[test]
fn scripts_replayed_give_their_golden_answers() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let write = std::env::var_os("WARREN_SCRIPTS").is_some_and(|it| it == "write");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.starts_with("dispatch_") {
            continue;
        }
        seen += 1;
        let expected = std::fs::read_to_string(&path).unwrap();
        let got = replay(&expected);
        if write {
            std::fs::write(&path, &got).unwrap();
        } else {
            assert_eq!(got, expected, "{name}");
        }
    }
    assert!(seen > 0);
}
