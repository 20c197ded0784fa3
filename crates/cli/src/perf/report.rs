//! The report of a run: a summary for people and one JSON object. Its keys are those of the load generators that other brokers
//! are measured with, so that lines can be put side by side.

use std::{fmt::Write as _, sync::atomic::Ordering};

use anyhow::Result;
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::{
    course::{Measured, Moment, to_f64},
    options::Plan,
    placement::Placement,
    shared::{Shared, locked},
    verify::Verdict,
};
use crate::exit::Failure;

pub(super) struct Report {
    fields: Map<String, Value>,
    verdict: Option<Verdict>,
    refused: u64,
    first_refusal: Option<String>,
    key_order_breaches: u64,
}

impl Report {
    pub(super) fn new(
        plan: &Plan,
        placement: &Placement,
        shared: &Shared,
        measured: Measured,
    ) -> Self {
        let mut fields = described(plan, placement);
        rates(&mut fields, &measured);
        latencies(&mut fields, shared);
        let size_bytes = u64::try_from(plan.size_bytes).expect("usize is at most 64 bits");
        let (from, to, end) = (&measured.from, &measured.to, &measured.end);
        let messages = |from: &Moment, to: &Moment| {
            if plan.publishers > 0 {
                to.confirmed - from.confirmed
            } else {
                to.consumed - from.consumed
            }
        };
        fields.extend(usage(from, to, messages(from, to), size_bytes));
        // The same over the whole run with its start and end, for cost that is paid later.
        let all = messages(&measured.first, end);
        let whole = usage(&measured.first, end, all, size_bytes);
        let whole_s = (end.at - measured.first.at).as_secs_f64();
        fields.insert("whole_s".into(), number(whole_s));
        fields.insert("whole_per_s".into(), per_s(all, whole_s));
        for key in ["broker_cpu_s_per_million", "disk_write_amplification"] {
            let value = whole.get(key).cloned().unwrap_or_default();
            fields.insert(format!("whole_{key}"), value);
        }
        let refused = shared.refused.load(Ordering::Relaxed);
        let counters = [
            ("total_published", end.published),
            ("total_confirmed", end.confirmed),
            ("total_consumed", end.consumed),
            ("nacked", refused),
            ("resent", shared.resent.load(Ordering::Relaxed)),
            ("redelivered", shared.redelivered.load(Ordering::Relaxed)),
            ("foreign", shared.foreign.load(Ordering::Relaxed)),
            ("reconnects", shared.reconnects.load(Ordering::Relaxed)),
        ];
        for (key, value) in counters {
            fields.insert(key.into(), json!(value));
        }
        fields.extend(over_consumers(plan, shared));
        let verdict = shared.verdict();
        if let Some(verdict) = &verdict {
            fields.insert("verify".into(), json!(verdict));
        }
        Self {
            fields,
            verdict,
            refused,
            first_refusal: locked(&shared.first_refusal).clone(),
            key_order_breaches: locked(&shared.keys).breaches(),
        }
    }

    /// One line.
    pub(super) fn json(&self) -> String {
        Value::Object(self.fields.clone()).to_string()
    }

    /// For people.
    pub(super) fn summary(&self) -> String {
        let mut out = String::new();
        let mut say = |name: &str, value: String| {
            writeln!(out, "{name:<26}{value}").expect("a string takes everything");
        };
        say(
            "published",
            format!("{} msg/s", self.text("published_per_s")),
        );
        say(
            "confirmed",
            format!("{} msg/s", self.text("confirmed_per_s")),
        );
        say("consumed", format!("{} msg/s", self.text("consumed_per_s")));
        say("confirm latency", self.latency("confirm_ms"));
        say("end-to-end latency", self.latency("end_to_end_ms"));
        say(
            "longest silence",
            format!(
                "{} ms between confirms, {} ms between deliveries",
                self.text("max_confirm_gap_ms"),
                self.text("max_delivery_gap_ms")
            ),
        );
        say(
            "broker CPU",
            format!(
                "{} s per million messages",
                self.text("broker_cpu_s_per_million")
            ),
        );
        say(
            "client CPU",
            format!(
                "{} s per million messages",
                self.text("client_cpu_s_per_million")
            ),
        );
        say(
            "broker memory",
            format!("{} MB, all nodes together", self.text("broker_rss_mb")),
        );
        if let Some(it) = &self.verdict {
            say(
                "verified",
                format!(
                    "{} confirmed, {} lost, {} duplicates ({} flagged redelivered), {} out of order",
                    it.confirmed,
                    it.lost,
                    it.duplicates + it.duplicates_redelivered,
                    it.duplicates_redelivered,
                    it.out_of_order
                ),
            );
        }
        if let Some(first) = &self.first_refusal {
            say("refused", format!("{}, the first: {first}", self.refused));
        }
        out.pop();
        out
    }

    /// The exit code.
    pub(super) fn verdict(&self) -> Result<()> {
        let is_bad = |it: &Verdict| it.lost > 0 || it.duplicates > 0 || it.out_of_order > 0;
        if self.verdict.as_ref().is_some_and(is_bad) {
            let text = "messages were lost, came twice unflagged, or came out of order";
            return Err(Failure::Failed(text.to_owned()).into());
        }
        if self.key_order_breaches > 0 {
            let text = format!(
                "{} messages came before an earlier one of their key",
                self.key_order_breaches
            );
            return Err(Failure::Failed(text).into());
        }
        if self.refused > 0 {
            let text = format!("{} messages were refused or not answered", self.refused);
            return Err(Failure::Failed(text).into());
        }
        Ok(())
    }

    fn text(&self, key: &str) -> String {
        match self.fields.get(key) {
            Some(Value::Null) | None => "-".to_owned(),
            Some(value) => value.to_string(),
        }
    }

    fn latency(&self, key: &str) -> String {
        let Some(Value::Object(it)) = self.fields.get(key) else {
            return "-".to_owned();
        };
        let at = |key: &str| it.get(key).map(Value::to_string).unwrap_or_default();
        format!(
            "p50 {} ms, p99 {} ms, p99.9 {} ms, max {} ms",
            at("p50"),
            at("p99"),
            at("p99.9"),
            at("max")
        )
    }
}

fn described(plan: &Plan, placement: &Placement) -> Map<String, Value> {
    let mut out = Map::new();
    out.insert("peer".into(), json!("warren"));
    if let Some(label) = &plan.label {
        out.insert("label".into(), json!(label));
    }
    let fields = [
        ("mode", json!(plan.mode())),
        ("queues", json!(plan.queues)),
        ("publishers", json!(plan.publishers)),
        ("consumers", json!(plan.consumers)),
        ("size", json!(plan.size_bytes)),
        ("window", json!(plan.window)),
        ("inflight", json!(plan.window_each)),
        ("prefetch", json!(plan.prefetch)),
        ("ack_every", json!(plan.ack_every)),
        ("rate", json!(plan.rate.unwrap_or(0.0))),
        ("queues_at_leader", json!(placement.at_leader())),
    ];
    for (key, value) in fields {
        out.insert(key.into(), value);
    }
    out
}

fn rates(out: &mut Map<String, Value>, measured: &Measured) {
    let (from, to) = (&measured.from, &measured.to);
    let seconds = (to.at - from.at).as_secs_f64();
    out.insert(
        "published_per_s".into(),
        per_s(to.published - from.published, seconds),
    );
    out.insert(
        "confirmed_per_s".into(),
        per_s(to.confirmed - from.confirmed, seconds),
    );
    out.insert(
        "consumed_per_s".into(),
        per_s(to.consumed - from.consumed, seconds),
    );
}

fn latencies(out: &mut Map<String, Value>, shared: &Shared) {
    let confirm = locked(&shared.confirm);
    let end_to_end = locked(&shared.end_to_end);
    let fields = [
        ("confirm_ms", quantiles(&confirm.histogram)),
        ("end_to_end_ms", quantiles(&end_to_end.histogram)),
        ("max_confirm_gap_ms", millis(confirm.gap_ns)),
        ("max_delivery_gap_ms", millis(end_to_end.gap_ns)),
        ("end_to_end_max_ms_with_drain", millis(end_to_end.max_ns)),
    ];
    for (key, value) in fields {
        out.insert(key.into(), value);
    }
}

/// How evenly consumers were served, and the order of keys.
fn over_consumers(plan: &Plan, shared: &Shared) -> Map<String, Value> {
    let mut out = Map::new();
    let each = locked(&shared.by_consumer);
    if let (Some(least), Some(most)) = (each.iter().min(), each.iter().max()) {
        let count = u64::try_from(each.len()).expect("usize is at most 64 bits");
        let mean = to_f64(each.iter().sum()) / to_f64(count);
        let figures = json!({ "min": least, "max": most, "mean": number(mean) });
        out.insert("consumed_by_consumer".into(), figures);
    }
    if plan.shape.keys > 0 {
        let breaches = locked(&shared.keys).breaches();
        out.insert("keys".into(), json!(plan.shape.keys));
        out.insert("key_order_breaches".into(), json!(breaches));
    }
    out
}

/// What happened between two moments, per message.
fn usage(from: &Moment, to: &Moment, messages: u64, size_bytes: u64) -> Map<String, Value> {
    let (a, b) = (&from.usage, &to.usage);
    let seconds = (to.at - from.at).as_secs_f64();
    let (own, broker) = (b.own_cpu_s - a.own_cpu_s, b.cpu_s - a.cpu_s);
    let per_million = |it: f64| {
        if messages == 0 {
            Value::Null
        } else {
            number(it / to_f64(messages) * 1e6)
        }
    };
    let body_bytes = messages * size_bytes;
    let per_body_byte = |bytes: u64| {
        if body_bytes == 0 {
            Value::Null
        } else {
            number(to_f64(bytes) / to_f64(body_bytes))
        }
    };
    let megabytes = |bytes: u64| number(to_f64(bytes) / 1e6);
    let written = b.write_bytes.saturating_sub(a.write_bytes);
    let to_disk = b.disk_written_bytes.saturating_sub(a.disk_written_bytes);
    let other = (b.machine_busy_s - a.machine_busy_s - own - broker).max(0.0);
    let fields = [
        ("window_s", number(seconds)),
        ("client_cpu_s", number(own)),
        ("broker_cpu_s", number(broker)),
        ("broker_cpu_sys_s", number(b.cpu_sys_s - a.cpu_sys_s)),
        ("broker_cpu_s_per_million", per_million(broker)),
        ("client_cpu_s_per_million", per_million(own)),
        ("broker_rss_mb", megabytes(b.rss_bytes)),
        ("broker_peak_rss_mb", megabytes(b.peak_rss_bytes)),
        ("broker_threads", json!(b.threads)),
        ("broker_write_mb", megabytes(written)),
        ("write_amplification", per_body_byte(written)),
        ("disk_write_mb", megabytes(to_disk)),
        ("disk_write_amplification", per_body_byte(to_disk)),
        (
            "disk_flushes",
            json!(b.disk_flushes.saturating_sub(a.disk_flushes)),
        ),
        ("other_cores", number(other / seconds)),
        (
            "steal_cores",
            number((b.machine_steal_s - a.machine_steal_s) / seconds),
        ),
        ("pids_missing", json!(b.missing)),
    ];
    fields
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

/// Recorded in nanoseconds, told in milliseconds.
fn quantiles(histogram: &Histogram<u64>) -> Value {
    if histogram.is_empty() {
        return Value::Null;
    }
    let at = |quantile| millis(histogram.value_at_quantile(quantile));
    json!({
        "p50": at(0.5), "p95": at(0.95), "p99": at(0.99), "p99.9": at(0.999),
        "max": millis(histogram.max()), "mean": number(histogram.mean() / 1e6),
    })
}

fn millis(ns: u64) -> Value {
    number(to_f64(ns) / 1e6)
}

fn per_s(count: u64, seconds: f64) -> Value {
    let rate = to_f64(count) / seconds;
    json!(if rate.is_finite() { rate.round() } else { 0.0 })
}

/// To three places.
fn number(value: f64) -> Value {
    if value.is_finite() {
        json!((value * 1000.0).round() / 1000.0)
    } else {
        Value::Null
    }
}
