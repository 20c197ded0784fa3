//! What consumers said of a message, as a dead letter's header tells it (features X6). Not here: keeping it while the message is in its queue
//! (`store::command::remark`), the other headers of dead letters (`death`).

use warren_types::{Table, Value};

use crate::rows::SaidAt;

/// The header: an array of tables with `time`, `outcome`, `reason`, `detail` and `consumer`, oldest first.
pub const ATTEMPTS: &str = "x-attempts";
/// Entries kept; beyond it the oldest go.
pub const ATTEMPTS_MAX: usize = 16;

/// Adds what was said to what earlier queues wrote. False: it cannot be written, and nothing was changed.
pub(crate) fn write(headers: &mut Table, said: &[SaidAt]) -> bool {
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
    headers.remove(ATTEMPTS);
    headers.insert(ATTEMPTS, Value::Array(all)).is_ok()
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
        assert!(write(&mut headers, &[said("first"), said("second")]));
        assert!(write(&mut headers, &[said("third")]));
        assert_eq!(reasons(&headers), ["first", "second", "third"]);
        for number in 0..20 {
            assert!(write(&mut headers, &[said(&number.to_string())]));
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
    fn long_words_are_cut_at_a_character_and_nothing_said_is_nothing() {
        let long = "é".repeat(4_000);
        let said = Said::new(AttemptOutcome::Rejected, &long, &long, &long).unwrap();
        assert_eq!(said.reason.len(), 254);
        assert_eq!(said.detail.len(), Said::DETAIL_BYTES_MAX);
        assert_eq!(said.consumer.len(), 254);
        assert_eq!(Said::new(AttemptOutcome::Failed, "", "", "tag"), None);
    }
}
