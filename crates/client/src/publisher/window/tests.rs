//! The window alone: its limits, and random runs against a server that knows only what it was sent.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn entry(bytes: usize) -> Entry {
    Entry {
        target: Target::queue("q"),
        message: Message::new(vec![0; bytes]),
        mandatory: false,
        number: None,
        permits: 1,
        reply: Reply::Sink { token: 7 },
    }
}

fn window(messages: usize) -> Window {
    let mut window = Window::new(Dedup::On, 1);
    for _ in 0..messages {
        window.push(entry(1));
    }
    window.restart(0);
    window.grant(u64::from(u32::MAX), u64::from(u32::MAX));
    window
}

fn sequences(batch: &v1::PublishBatch) -> Vec<u64> {
    batch.entries.iter().map(|it| it.sequence).collect()
}

#[test]
fn frame_is_closed_at_its_limits_and_a_larger_message_goes_alone() {
    let mut window = window(0);
    for bytes in [100 << 10, 100 << 10, 100 << 10, 1 << 20, 1] {
        window.push(entry(bytes));
    }
    let mut frames = Vec::new();
    while let Some(batch) = window.next_batch() {
        frames.push(sequences(&batch));
    }
    assert_eq!(frames, [vec![1, 2], vec![3], vec![4], vec![5]]);
    window.restart(2);
    window.grant(100, 1 << 30);
    assert_eq!(window.next_batch().unwrap().entries.len(), 2);
}

#[test]
fn nothing_is_sent_that_a_queue_might_no_longer_recognise() {
    let mut window = window(3000);
    let mut sent = 0;
    while let Some(batch) = window.next_batch() {
        sent += batch.entries.len() as u64;
    }
    assert_eq!(sent, DEDUP_SPAN);
    // All but the first are confirmed: still nothing more, since the first may have to be sent again.
    let mut out = Vec::new();
    let mut results: Vec<v1::PublishResult> = (1..1000)
        .map(|index| v1::PublishResult {
            index,
            outcome: PublishOutcome::Committed.into(),
            ..v1::PublishResult::default()
        })
        .collect();
    let confirm = |batch_ref, all_committed, results| v1::BatchConfirm {
        batch_ref,
        all_committed,
        results,
    };
    window.confirm(confirm(1, false, std::mem::take(&mut results)), &mut out);
    window.confirm(confirm(2, true, Vec::new()), &mut out);
    assert!(!window.can_send());
    window.confirm(confirm(1, true, Vec::new()), &mut out);
    assert_eq!(out.len() as u64, DEDUP_SPAN);
    assert_eq!(window.resolved_up_to(), DEDUP_SPAN + 1);
    assert!(window.can_send());
}

#[test]
fn numbers_of_the_program_go_out_and_the_span_is_counted_in_them() {
    let mut window = window(0);
    for number in [10, 500, 1033, 1034, 5000] {
        window.push(Entry {
            number: Some(number),
            ..entry(1)
        });
    }
    assert_eq!(sequences(&window.next_batch().unwrap()), [10, 500, 1033]);
    assert!(!window.can_send(), "the first may have to be sent again");
    window.restart(0);
    window.grant(100, 1 << 20);
    let again = window.next_batch().unwrap();
    assert_eq!(sequences(&again), [10, 500, 1033]);
    let mut out = Vec::new();
    let all = v1::BatchConfirm {
        batch_ref: again.batch_ref,
        all_committed: true,
        results: Vec::new(),
    };
    window.confirm(all, &mut out);
    let told: Vec<u64> = out.iter().map(|it| it.result.sequence).collect();
    assert_eq!(told, [10, 500, 1033]);
    assert_eq!(sequences(&window.next_batch().unwrap()), [1034]);
    assert!(!window.can_send());
}

/// What a random run does next.
#[derive(Debug, Clone)]
enum Step {
    Push(u8),
    Send,
    Grant(u8, u16),
    /// Confirms a batch on its way, chosen by the number: whole, or one entry with an outcome.
    Whole(usize),
    Part(usize, u32, bool),
    EndPause,
    Reconnect,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => any::<u8>().prop_map(Step::Push),
        4 => Just(Step::Send),
        2 => (any::<u8>(), any::<u16>()).prop_map(|(m, b)| Step::Grant(m, b)),
        3 => any::<usize>().prop_map(Step::Whole),
        3 => (any::<usize>(), 0..4u32, any::<bool>()).prop_map(|(b, i, r)| Step::Part(b, i, r)),
        1 => Just(Step::EndPause),
        1 => Just(Step::Reconnect),
    ]
}

/// One run: a window, and a server that knows only what it was sent.
struct Run {
    window: Window,
    pushed: u64,
    credit: (i64, i64),
    /// By reference: sequences sent on the present stream.
    sent: BTreeMap<u64, Vec<u64>>,
    outcomes: BTreeMap<u64, u32>,
}

impl Run {
    fn new() -> Self {
        let mut window = Window::new(Dedup::On, 1);
        window.restart(5);
        Self {
            window,
            pushed: 0,
            credit: (0, 0),
            sent: BTreeMap::new(),
            outcomes: BTreeMap::new(),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Push(bytes) => {
                self.window.push(entry(usize::from(bytes)));
                self.pushed += 1;
            }
            Step::Send => self.send(),
            Step::Grant(messages, bytes) => {
                self.window.grant(u64::from(messages), u64::from(bytes));
                self.credit.0 += i64::from(messages);
                self.credit.1 += i64::from(bytes);
            }
            Step::Whole(batch) => self.confirm(batch, None),
            Step::Part(batch, index, refuse) => self.confirm(batch, Some((index, refuse))),
            Step::EndPause => self.window.end_pause(),
            Step::Reconnect => {
                self.window.restart(5);
                self.sent.clear();
                self.credit = (0, 0);
            }
        }
        assert_eq!(
            self.window.unresolved() as u64 + self.outcomes.len() as u64,
            self.pushed
        );
    }

    fn send(&mut self) {
        let can = self.window.can_send();
        let Some(batch) = self.window.next_batch() else {
            assert!(!can);
            return;
        };
        let sequences = sequences(&batch);
        assert!(sequences.is_sorted_by(|a, b| a < b), "in order");
        for entry in &batch.entries {
            assert!(self.credit.0 > 0 && self.credit.1 > 0, "within the credit");
            self.credit.0 -= 1;
            self.credit.1 -= entry.message.as_ref().unwrap().body.len() as i64;
            assert!(
                !self.outcomes.contains_key(&entry.sequence),
                "not after its outcome"
            );
        }
        self.sent.insert(batch.batch_ref, sequences);
    }

    fn confirm(&mut self, batch: usize, part: Option<(u32, bool)>) {
        let references: Vec<u64> = self.sent.keys().copied().collect();
        let Some(batch_ref) = references.get(batch % references.len().max(1)) else {
            return;
        };
        let result = part.map(|(index, refuse)| v1::PublishResult {
            index,
            outcome: if refuse {
                PublishOutcome::Refused.into()
            } else {
                PublishOutcome::Committed.into()
            },
            error: refuse.then(|| {
                use warren_proto::convert::{error::ApiError, reason::Reason};
                ApiError::new(Reason::NotReady, "later").to_status()
            }),
            ..v1::PublishResult::default()
        });
        let confirm = v1::BatchConfirm {
            batch_ref: *batch_ref,
            all_committed: part.is_none(),
            results: result.into_iter().collect(),
        };
        let mut out = Vec::new();
        self.window.confirm(confirm, &mut out);
        for resolved in out {
            *self.outcomes.entry(resolved.result.sequence).or_default() += 1;
        }
    }

    /// From any state: a new stream with credit brings every message its one outcome.
    fn finish(mut self) {
        self.step(Step::Reconnect);
        for _ in 0..self.pushed * 2 + 2 {
            self.step(Step::Grant(u8::MAX, u16::MAX));
            self.step(Step::Send);
            self.step(Step::Whole(0));
            let first = self.sent.keys().next().copied();
            if let Some(first) = first {
                self.sent.remove(&first);
            }
        }
        assert_eq!(self.window.unresolved(), 0);
        assert_eq!(self.outcomes, (1..=self.pushed).map(|it| (it, 1)).collect());
    }
}

proptest! {
    #[test]
    fn every_message_gets_one_outcome_within_credit_and_in_order(steps in prop::collection::vec(step(), 0..200)) {
        let mut run = Run::new();
        for it in steps {
            run.step(it);
        }
        run.finish();
    }
}
