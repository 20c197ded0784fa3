//! Reads script lines into entries and questions, and answers them. Not here: files (`scripts`), values as text (`show`).

mod answers;

use bytes::Bytes;
use warren_queue::entry::{
    AckWithOutputs, Activate, Arrived, AttemptOutcome, Cancel, Command, CreateQueue, Dedup,
    DeleteQueue, DropParked, EndedDelivery, Ending, Enqueue, EnqueueTogether, HandOut, IndexRange,
    MoveOut, MoveTarget, OriginBatch, OriginPart, Park, ParkCause, ProposalId, Purge, PurgeStates,
    Rearm, Release, Remark, Return, ReturnKind, Said, Settle, SettleReason, SettleTogether,
    ShardEntry,
};
use warren_queue::outcome::Output;
use warren_types::{
    Attempt, BatchSequence, ExchangeName, Facts, Incarnation, Position, PositionRange, Priority,
    ProducerId, ProducerSpan, QueueId, QueueName, Run, ShardId, ShardTime, Term, TopologyIndex,
    VhostId,
};

use answers::{due, load, opening, peek, stats};

use crate::machine::{Machine, SMALL};
use crate::show;

/// One line: a verb, plain words and `name=value` pairs.
struct Line<'a> {
    words: Vec<&'a str>,
}

impl<'a> Line<'a> {
    fn new(line: &'a str) -> Self {
        Self {
            words: line.split_whitespace().collect(),
        }
    }

    fn value(&self, name: &str) -> Option<&'a str> {
        self.words
            .iter()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.value(name).map(|value| value.parse().unwrap())
    }

    fn queue(&self) -> QueueId {
        QueueId(self.words[1].parse().unwrap())
    }

    fn priority(&self) -> Priority {
        self.number("priority")
            .map_or(Priority::DEFAULT, |level| Priority::clamped(level as u8))
    }

    fn ranges(&self, name: &str) -> Vec<PositionRange> {
        self.value(name).map_or(Vec::new(), parse_ranges)
    }
}

fn parse_ranges(text: &str) -> Vec<PositionRange> {
    let parse = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u64, u64) = (first.parse().unwrap(), last.parse().unwrap());
        PositionRange {
            first: Position(first),
            count: last - first + 1,
        }
    };
    text.split(',').map(parse).collect()
}

/// Runs the lines of one step: all commands are one entry; a question stands alone.
pub(crate) fn step(machine: &mut Machine, lines: &[&str]) -> String {
    if let [line] = lines
        && let Some(answer) = question(machine, &Line::new(line))
    {
        return answer;
    }
    let mut entry = ShardEntry {
        proposal: ProposalId::default(),
        now: machine.store.now(),
        topology: TopologyIndex(1),
        origins: Vec::new(),
        commands: Vec::new(),
    };
    for line in lines {
        let line = Line::new(line);
        match line.words[0] {
            "now" => entry.now = ShardTime(line.words[1].parse().unwrap()),
            "batch" => entry.origins.push(batch(&line)),
            // The block joins the atomic batch of the line before.
            "with" => {
                let Command::Enqueue(block) = enqueued(&line) else {
                    panic!("only blocks come together")
                };
                match entry.commands.last_mut() {
                    Some(Command::EnqueueTogether(it)) => it.blocks.push(block),
                    Some(Command::AckWithOutputs(it)) => it.blocks.push(block),
                    Some(Command::SettleTogether(it)) => it.blocks.push(block),
                    _ => panic!("nothing to come with"),
                }
            }
            "deliveries" | "delivery" | "ending" => ends(&mut entry.commands, &line),
            "together" => {
                let Command::Enqueue(block) = enqueued(&line) else {
                    panic!("only blocks come together")
                };
                let blocks = vec![block];
                let together = EnqueueTogether { blocks };
                entry.commands.push(Command::EnqueueTogether(together));
            }
            _ => entry.commands.push(command(&line)),
        }
    }
    entry
        .validate()
        .expect("scripts propose what a leader may propose");
    outcome(&machine.apply(entry))
}

/// `deliveries` begins what ends in one, `delivery` and `ending` add to it.
fn ends(commands: &mut Vec<Command>, line: &Line<'_>) {
    if line.words[0] == "deliveries" {
        commands.push(Command::SettleTogether(SettleTogether {
            deliveries: Vec::new(),
            endings: Vec::new(),
            blocks: Vec::new(),
        }));
    }
    let Some(Command::SettleTogether(it)) = commands.last_mut() else {
        panic!("nothing to end with")
    };
    if line.words[0] == "ending" {
        it.endings.push(match enqueued(line) {
            Command::Remark(it) => Ending::Remark(it),
            Command::Settle(it) => Ending::Settle(it),
            Command::Return(it) => Ending::Return(it),
            Command::Park(it) => Ending::Park(it),
            Command::MoveOut(it) => Ending::MoveOut(it),
            other => panic!("no delivery ends by {other:?}"),
        });
    } else {
        it.deliveries.push(EndedDelivery {
            queue: line.queue(),
            position: Position(line.number("position").unwrap()),
            attempt: attempt(line),
        });
    }
}

/// The rest of the line is a command.
fn enqueued(line: &Line<'_>) -> Command {
    let words = line.words[1..].to_vec();
    command(&Line { words })
}

fn outcome(out: &Output) -> String {
    let mut text = String::new();
    for entry in &out.entries {
        for reply in &entry.replies {
            text += &format!("reply: {}\n", show::reply(reply));
        }
        for batch in &entry.batches {
            text += &format!("batch: {}\n", show::batch(batch));
        }
    }
    for effect in out.effects.iter().filter_map(show::effect) {
        text += &format!("effect: {effect}\n");
    }
    text
}

fn command(line: &Line<'_>) -> Command {
    let queue = line.queue();
    let priority = line.priority();
    let ranges = || parse_ranges(line.words[2]);
    match line.words[0] {
        "create" => Command::CreateQueue(CreateQueue {
            queue,
            vhost: VhostId(1),
            name: QueueName::try_from(line.words[2]).unwrap(),
            topology: TopologyIndex(1),
        }),
        "delete" => Command::DeleteQueue(DeleteQueue {
            queue,
            topology: TopologyIndex(1),
        }),
        "enqueue" => Command::Enqueue(enqueue(line)),
        "settle" => Command::Settle(Settle {
            queue,
            ranges: ranges(),
            reason: reason(line.words[3]),
        }),
        "ack" => Command::AckWithOutputs(AckWithOutputs {
            queue,
            position: Position(line.number("position").unwrap()),
            attempt: attempt(line),
            blocks: Vec::new(),
        }),
        "return" => {
            let kind = if line.words.contains(&"failed") {
                ReturnKind::Failed
            } else {
                ReturnKind::Untouched
            };
            let not_before = line.number("not_before").map(ShardTime);
            Command::Return(Return {
                queue,
                ranges: ranges(),
                kind,
                not_before,
            })
        }
        "hand-out" => {
            let up_to = line.number("up_to").map(Position);
            let (except, positions) = (line.ranges("except"), line.ranges("positions"));
            Command::HandOut(HandOut {
                queue,
                priority,
                up_to,
                except,
                positions,
            })
        }
        _ => command_of_states(line),
    }
}

fn attempt(line: &Line<'_>) -> Attempt {
    Attempt {
        term: Term(line.number("term").unwrap_or(1)),
        number: line.number("attempt").unwrap_or(1),
    }
}

fn command_of_states(line: &Line<'_>) -> Command {
    let queue = line.queue();
    let priority = line.priority();
    let ranges = || parse_ranges(line.words[2]);
    match line.words[0] {
        "release" => Command::Release(Release {
            queue,
            ranges: ranges(),
            hand_out: line.words.contains(&"hand-out"),
        }),
        "park" => Command::Park(Park {
            queue,
            ranges: ranges(),
            cause: ParkCause::DeliveryLimit,
            kind: ReturnKind::Failed,
        }),
        "drop-parked" => Command::DropParked(DropParked {
            queue,
            keep: line.number("keep").unwrap(),
        }),
        "cancel" => Command::Cancel(Cancel {
            queue,
            ranges: ranges(),
        }),
        "remark" => Command::Remark(Remark {
            queue,
            ranges: ranges(),
            said: Said::new(
                AttemptOutcome::Failed,
                line.value("reason").unwrap(),
                line.value("detail").unwrap_or_default(),
                "worker",
            )
            .unwrap(),
        }),
        "rearm" => Command::Rearm(Rearm {
            queue,
            blocks: vec![(priority, Position(line.number("first").unwrap()))],
        }),
        "purge" => {
            let below = Position(line.number("below").unwrap());
            Command::Purge(Purge {
                queue,
                below,
                except: line.ranges("except"),
                states: purge_states(line),
            })
        }
        "activate" => Command::Activate(Activate {
            queue,
            fencing: line.number("fencing").unwrap(),
        }),
        "move-out" => Command::MoveOut(MoveOut {
            priority: None,
            queue,
            ranges: ranges(),
            reason: reason(line.words[3]),
            exchange: ExchangeName::try_from("dlx").unwrap(),
            routing_key: None,
            targets: targets(line),
        }),
        "arrived" => Command::Arrived(Arrived {
            shard: ShardId(line.words[1].parse().unwrap()),
            number: line.number("number").unwrap(),
            refused: line.ranges("refused"),
            keep: line.words.contains(&"keep"),
        }),
        verb => panic!("no such command: {verb}"),
    }
}

fn purge_states(line: &Line<'_>) -> PurgeStates {
    let Some(states) = line.value("states") else {
        return PurgeStates::default();
    };
    let has = |state| states.split(',').any(|it| it == state);
    PurgeStates {
        ready: has("ready"),
        delayed: has("delayed"),
        scheduled: has("scheduled"),
        parked: has("parked"),
        dead_lettering: has("dead-lettering"),
    }
}

fn reason(word: &str) -> SettleReason {
    match word {
        "acked" => SettleReason::Acked,
        "rejected" => SettleReason::Rejected,
        "expired" => SettleReason::Expired,
        "dropped" => SettleReason::Dropped,
        "dead-lettered" => SettleReason::DeadLettered,
        "no-ack" => SettleReason::NoAck,
        _ => panic!("no such reason: {word}"),
    }
}

/// `to=shard:queue,shard:queue`, ascending.
fn targets(line: &Line<'_>) -> Vec<MoveTarget> {
    let mut targets: Vec<MoveTarget> = Vec::new();
    for part in line.value("to").unwrap().split(',') {
        let (shard, queue) = part.split_once(':').unwrap();
        let (shard, queue) = (
            ShardId(shard.parse().unwrap()),
            QueueId(queue.parse().unwrap()),
        );
        match targets.last_mut() {
            Some(last) if last.shard == shard => last.queues.push(queue),
            _ => targets.push(MoveTarget {
                shard,
                queues: vec![queue],
            }),
        }
    }
    targets
}

fn enqueue(line: &Line<'_>) -> Enqueue {
    let count = line.number("count").unwrap_or(1) as usize;
    let bytes = line.number("bytes").unwrap_or(10) as u32;
    let mut facts = Facts {
        size: vec![bytes + 2; count],
        body_size: vec![bytes; count],
        ..Facts::default()
    };
    if let Some(expiry) = line.number("expiry") {
        facts.expiry = vec![Some(ShardTime(expiry)); count];
    }
    if let Some(due) = line.number("due") {
        facts.due = vec![Some(ShardTime(due)); count];
    }
    if let Some(keys) = line.value("keys") {
        facts.dedup_hash = keys.split(',').map(|it| it.parse().unwrap()).collect();
    }
    if let Some(bodies) = line.value("bodies") {
        facts.dedup_body = bodies.split(',').map(|it| it.parse().unwrap()).collect();
    }
    let producers = line.value("producer").map(|producer| {
        let first = line.number("seq").unwrap();
        ProducerSpan {
            producer: ProducerId(Bytes::copy_from_slice(producer.as_bytes())),
            epoch: line.number("epoch").unwrap_or(0),
            sequences: (0..count as u64)
                .map(|at| (at as u32, first + at))
                .collect(),
        }
    });
    Enqueue {
        queue: line.queue(),
        priority: line.priority(),
        facts,
        payload: Bytes::from(vec![b'.'; count * (bytes as usize + 2)]),
        producers: producers.into_iter().collect(),
        raise: line.number("raise").map(|ahead| ahead as u32),
        full: line
            .ranges("full")
            .into_iter()
            .map(|it| IndexRange {
                first: it.first.0 as u32,
                count: it.count as u32,
            })
            .collect(),
        dedup: line.value("dedup").map(|dedup| {
            let (window, most) = dedup.split_once(':').unwrap();
            Dedup {
                window_ms: window.parse().unwrap(),
                keys_max: most.parse().unwrap(),
            }
        }),
    }
}

/// `batch node=1 run=1 seq=1 parts=COMMAND:FIRST+COUNT,...`
fn batch(line: &Line<'_>) -> OriginBatch {
    let part = |text: &str| {
        let (command, rest) = text.split_once(':').unwrap();
        let (first, count) = rest.split_once('+').unwrap();
        OriginPart {
            command: command.parse().unwrap(),
            first: first.parse().unwrap(),
            count: count.parse().unwrap(),
        }
    };
    OriginBatch {
        incarnation: Incarnation(u128::from(line.number("node").unwrap())),
        run: Run(line.number("run").unwrap_or(1)),
        sequence: BatchSequence(line.number("seq").unwrap()),
        parts: line
            .value("parts")
            .map_or(Vec::new(), |parts| parts.split(',').map(part).collect()),
    }
}

fn question(machine: &mut Machine, line: &Line<'_>) -> Option<String> {
    let answer = match line.words[0] {
        "rows" => machine
            .rows
            .0
            .keys()
            .map(|key| show::key(key) + "\n")
            .collect(),
        "reopen" => {
            let before = machine.store.digest();
            *machine = Machine::on(machine.rows.clone(), SMALL);
            assert_eq!(
                machine.store.digest(),
                before,
                "the store on its rows is the store"
            );
            "reopened\n".to_owned()
        }
        "last" => {
            let (run, last) = machine
                .store
                .last_batch(Incarnation(u128::from(line.number("node")?)));
            format!("run={run} last={last}\n")
        }
        "recorded" => {
            let node = Incarnation(u128::from(line.number("node")?));
            let (run, sequence) = (Run(line.number("run")?), BatchSequence(line.number("seq")?));
            show::verdict(&machine.store.recorded(node, run, sequence)) + "\n"
        }
        "outputs" => {
            let has = machine.store.has_outputs(
                &machine.rows,
                line.queue(),
                Position(line.number("position")?),
                attempt(line),
            );
            format!("{has}\n")
        }
        "stats" => stats(machine, line.queue()),
        "opening" => opening(machine, line.queue()),
        "load" => load(machine, line),
        "due" => due(machine, line),
        "peek" => peek(machine, line),
        _ => return None,
    };
    Some(answer)
}
