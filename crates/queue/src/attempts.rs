//! What consumers said of a message, as a dead letter's header tells it (features X6). Not here: keeping it while the message is in its queue
//! (`store::command::remark`), the other headers of dead letters (`death`).

use warren_types::{Table, Value};

use crate::rows::SaidAt;

/// The header: an array of tables with `time`, `outcome`, `reason`, `detail` and `consumer`, oldest first.
pub const ATTEMPTS: &str = "x-attempts";
/// Entries kept; beyond it the oldest go.
pub const ATTEMPTS_MAX: usize = 16;
/// Bytes of their texts, if there is more than one: the headers are to fit into the frames of clients that take small ones (4 KiB).
const ATTEMPTS_BYTES_MAX: usize = 2_048;

/// Adds what was said to what earlier queues wrote, if the headers are the broker's own: what a publisher wrote there goes. False: it cannot
/// be written, and nothing was changed.
pub(crate) fn write(headers: &mut Table, said: &[SaidAt], is_own: bool) -> bool {
    if !is_own {
        headers.remove(ATTEMPTS);
    }
    if said.is_empty() {
        return true;
    }
    let earlier = headers.get_array(ATTEMPTS).unwrap_or_default();
    let Some(new) = said.iter().map(entry).collect::<Option<Vec<_>>>() else {
        return false;
    };
    let all = earlier.iter().cloned().chain(new);
    let mut all: Vec<Value> = all.collect();
    all.drain(..all.len().saturating_sub(ATTEMPTS_MAX));
    let mut bytes: usize = all.iter().map(text_bytes).sum();
    while bytes > ATTEMPTS_BYTES_MAX && all.len() > 1 {
        bytes -= text_bytes(&all.remove(0));
    }
    headers.remove(ATTEMPTS);
    headers.insert(ATTEMPTS, Value::Array(all)).is_ok()
}

/// Of an entry: what varies.
fn text_bytes(entry: &Value) -> usize {
    let texts = entry.as_table().into_iter().flat_map(|it| {
        ["reason", "detail", "consumer"].map(|name| it.get_str(name).map_or(0, str::len))
    });
    texts.sum()
}

fn entry(it: &SaidAt) -> Option<Value> {
    let mut entry = Table::new();
    entry
        .insert("time", Value::Timestamp(it.at.0 / 1_000))
        .ok()?;
    entry.insert("outcome", it.said.outcome.name()).ok()?;
    let texts = [
        ("reason", &it.said.reason),
        ("detail", &it.said.detail),
        ("consumer", &it.said.consumer),
    ];
    for (name, text) in texts {
        if !text.is_empty() {
            entry.insert(name, text.as_str()).ok()?;
        }
    }
    Some(Value::Table(entry))
}

#[cfg(test)]
mod tests {
    use warren_types::ShardTime;

    use super::*;
    use crate::entry::{AttemptOutcome, Said};

    fn said(reason: &str) -> SaidAt {
        let said = Said::new(AttemptOutcome::Failed, reason, "", "worker-1").unwrap();
        let at = ShardTime(5_000);
        SaidAt { at, said }
    }

    fn reasons(headers: &Table) -> Vec<String> {
        let all = headers.get_array(ATTEMPTS).unwrap();
        let reason = |it: &Value| it.as_table().unwrap().get_str("reason").unwrap().to_owned();
        all.iter().map(reason).collect()
    }

    #[test]
    fn what_is_new_comes_behind_what_is_there_and_the_oldest_go() {
        let mut headers = Table::new();
        assert!(write(&mut headers, &[said("first"), said("second")], true));
        assert!(write(&mut headers, &[said("third")], true));
        assert_eq!(reasons(&headers), ["first", "second", "third"]);
        for number in 0..20 {
            assert!(write(&mut headers, &[said(&number.to_string())], true));
        }
        let kept = reasons(&headers);
        assert_eq!((kept.len(), kept[0].as_str()), (ATTEMPTS_MAX, "4"));
        let newest = headers.get_array(ATTEMPTS).unwrap().last().unwrap();
        let newest = newest.as_table().unwrap();
        assert_eq!(newest.get("time"), Some(&Value::Timestamp(5)));
        assert_eq!(newest.get_str("outcome"), Some("failed"));
        assert_eq!(newest.get_str("consumer"), Some("worker-1"));
        assert_eq!(newest.get("detail"), None);
    }

    #[test]
    fn what_a_publisher_wrote_goes_and_long_words_push_out_older_ones() {
        let forged = Value::Array(vec![Value::Table(Table::new().with("reason", "mine"))]);
        let mut headers = Table::new().with(ATTEMPTS, forged);
        assert!(write(&mut headers, &[], false));
        assert_eq!(headers.get(ATTEMPTS), None);
        let long = |reason: &str| {
            let said = Said::new(AttemptOutcome::Failed, reason, &"x".repeat(1_024), "w");
            let (at, said) = (ShardTime(5_000), said.unwrap());
            SaidAt { at, said }
        };
        assert!(write(
            &mut headers,
            &[long("a"), said("b"), long("c")],
            true
        ));
        assert_eq!(reasons(&headers), ["b", "c"]);
    }

    #[test]
    fn long_words_are_cut_at_a_character_and_nothing_said_is_nothing() {
        let long = "é".repeat(4_000);
        let said = Said::new(AttemptOutcome::Rejected, &long, &long, &long).unwrap();
        assert_eq!(said.reason.len(), 254);
        assert_eq!(said.detail.len(), Said::DETAIL_BYTES_MAX);
        assert_eq!(said.consumer.len(), 254);
        assert_eq!(Said::new(AttemptOutcome::Failed, "", "", "tag"), None);
    }
}
