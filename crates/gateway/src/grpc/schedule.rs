//! Scheduled messages: the handles that publish results carry, and `CancelScheduled` (features A30). A handle is opaque to clients:
//! version, places, and a checksum keyed by the cluster. It gives no right: the caller needs one on each queue.
//! Not here: what becomes of the messages (`warren-queue`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::time::{Instant, sleep, timeout_at};
use warren_proto::convert::error::ApiError;
use warren_proto::convert::reason::Reason;
use warren_proto::v1;
use warren_proto::v1::CancelOutcome;
use warren_shard::api::{CancelResult, Target};
use warren_topology::{Operation, Topology};
use warren_types::{ClusterId, Position, QueueId, VhostId};

use super::error::{bad_argument, of_operation};
use super::permit::vhost_id;
use super::receipt::checksum;
use crate::auth::Who;
use crate::gateway::Gateway;
use crate::operations::target_of;
use crate::publish::Place;

const VERSION: u8 = 1;
const PLACE_BYTES: usize = 16;
const CHECKSUM_BYTES: usize = 8;
/// A message in more queues has no handle: results must stay small.
const PLACES_MAX: usize = 64;
/// Handles of one call.
const HANDLES_MAX: usize = 1_000;
/// Pause before a leader that did not answer is asked again.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// The handle of a scheduled message; empty if it waits in too many queues.
pub(super) fn handle(cluster: ClusterId, places: &[Place]) -> String {
    if places.is_empty() || places.len() > PLACES_MAX {
        return String::new();
    }
    let mut bytes = Vec::with_capacity(1 + places.len() * PLACE_BYTES + CHECKSUM_BYTES);
    bytes.push(VERSION);
    for place in places {
        bytes.extend(place.queue.0.to_be_bytes());
        bytes.extend(place.position.0.to_be_bytes());
    }
    bytes.extend(checksum(cluster, &bytes).to_be_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What a handle names; `None`: it is none of this cluster.
fn places(cluster: ClusterId, handle: &str) -> Option<Vec<Place>> {
    let bytes = URL_SAFE_NO_PAD.decode(handle).ok()?;
    let (checked, sum) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
    let (version, named) = checked.split_first()?;
    let is_ours = u64::from_be_bytes(*sum) == checksum(cluster, checked) && *version == VERSION;
    if !is_ours || named.is_empty() || named.len() > PLACES_MAX * PLACE_BYTES {
        return None;
    }
    let mut places = Vec::with_capacity(named.len() / PLACE_BYTES);
    let mut rest = named;
    while let Some((queue, more)) = rest.split_first_chunk() {
        let (position, more) = more.split_first_chunk()?;
        places.push(Place {
            queue: QueueId(u64::from_be_bytes(*queue)),
            position: Position(u64::from_be_bytes(*position)),
        });
        rest = more;
    }
    rest.is_empty().then_some(places)
}

/// What is known of the places of a call.
#[derive(Default)]
struct Found {
    answers: BTreeMap<(QueueId, Position), CancelResult>,
    /// Queues that the caller may do nothing with.
    denied: BTreeMap<QueueId, ApiError>,
}

/// Takes scheduled messages back: one result per handle. What is not known at the deadline may be asked again: a cancel is remembered.
///
/// # Errors
/// Too many handles, no such vhost.
pub(super) async fn cancel(
    gateway: &Gateway,
    who: &Who,
    request: v1::CancelScheduledRequest,
    deadline: Instant,
) -> Result<v1::CancelScheduledResponse, ApiError> {
    let handles = request.schedule_handles;
    let count = handles.len();
    if count == 0 || count > HANDLES_MAX {
        let text = format!("has {count} entries; there must be 1 to {HANDLES_MAX}");
        return Err(bad_argument("schedule_handles", text));
    }
    let vhost = vhost_id(gateway, &request.vhost).await?;
    let cluster = gateway.cluster();
    let named: Vec<Option<Vec<Place>>> = handles.iter().map(|it| places(cluster, it)).collect();
    let mut found = Found::default();
    let all = named.iter().flatten().flatten().copied();
    let targets = targets(gateway, who, vhost, all, &mut found).await?;
    // Queues one after the other: a call seldom names more than one.
    for (target, positions) in targets {
        let asked = ask(gateway, target, &positions);
        if let Ok(results) = timeout_at(deadline, asked).await {
            let places = positions.iter().map(|&at| (target.queue, at));
            found.answers.extend(places.zip(results));
        }
    }
    let results = handles.into_iter().zip(named);
    let results = results.map(|(handle, places)| result(handle, places.as_deref(), &found));
    Ok(v1::CancelScheduledResponse {
        results: results.collect(),
    })
}

/// Which leader is to be asked for what. Queues that are not there, or in another vhost, are answered here.
///
/// # Errors
/// The topology cannot be asked about a queue that this node does not know.
async fn targets(
    gateway: &Gateway,
    who: &Who,
    vhost: VhostId,
    places: impl Iterator<Item = Place>,
    found: &mut Found,
) -> Result<Vec<(Target, Vec<Position>)>, ApiError> {
    let mut by_queue: BTreeMap<QueueId, BTreeSet<Position>> = BTreeMap::new();
    for place in places {
        by_queue
            .entry(place.queue)
            .or_default()
            .insert(place.position);
    }
    let mut topology: Arc<Topology> = gateway.topology();
    if by_queue
        .keys()
        .any(|it| topology.queue_by_id(*it).is_none())
    {
        let fresh = gateway.fresh_topology().await;
        topology = fresh.map_err(|error| of_operation(&error))?;
    }
    let mut targets = Vec::new();
    for (id, positions) in by_queue {
        let queue = topology.queue_by_id(id).filter(|it| it.vhost == vhost);
        let Some(queue) = queue else {
            let gone = positions.into_iter().map(|at| (id, at));
            let gone = gone.map(|place| (place, CancelResult::NotFound));
            found.answers.extend(gone);
            continue;
        };
        let operation = Operation::CancelScheduled {
            queue: queue.name.as_str(),
        };
        match gateway.authorise(who, vhost, operation).await {
            Ok(()) => targets.push((target_of(queue), positions.into_iter().collect())),
            Err(error) => {
                found.denied.insert(id, of_operation(&error));
            }
        }
    }
    Ok(targets)
}

/// Asks until it is answered: whoever leads next remembers what the last one did.
async fn ask(gateway: &Gateway, target: Target, positions: &[Position]) -> Vec<CancelResult> {
    loop {
        let asked = gateway
            .broker()
            .cancel_scheduled(target, positions.to_vec());
        match asked.await {
            Ok(results) if results.len() == positions.len() => return results,
            Ok(_) | Err(_) => sleep(AGAIN_AFTER).await,
        }
    }
}

fn result(handle: String, places: Option<&[Place]>, found: &Found) -> v1::CancelResult {
    let mut result = v1::CancelResult {
        schedule_handle: handle,
        ..v1::CancelResult::default()
    };
    match outcome(places, found) {
        Ok(outcome) => result.outcome = outcome.into(),
        Err(error) => result.error = Some(error.to_status()),
    }
    result
}

/// Too late in one queue is too late; a queue that is gone will not deliver it either.
fn outcome(places: Option<&[Place]>, found: &Found) -> Result<CancelOutcome, ApiError> {
    let Some(places) = places else {
        return Ok(CancelOutcome::NotFound);
    };
    let mut outcome = CancelOutcome::NotFound;
    for place in places {
        if let Some(denied) = found.denied.get(&place.queue) {
            return Err(denied.clone());
        }
        match found.answers.get(&(place.queue, place.position)) {
            Some(CancelResult::TooLate) => outcome = CancelOutcome::TooLate,
            Some(CancelResult::Cancelled) if outcome == CancelOutcome::NotFound => {
                outcome = CancelOutcome::Cancelled;
            }
            Some(CancelResult::Cancelled | CancelResult::NotFound) => {}
            None => {
                let text = "whether the message is taken back is not known: ask again";
                return Err(ApiError::new(Reason::OutcomeUnknown, text));
            }
        }
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: ClusterId = ClusterId(0x1234_5678_9abc_def0_1234_5678_9abc_def0);

    fn place(queue: u64, position: u64) -> Place {
        Place {
            queue: QueueId(queue),
            position: Position(position),
        }
    }

    #[test]
    fn handle_survives_the_trip() {
        for count in [1, 2, PLACES_MAX as u64] {
            let all: Vec<Place> = (0..count).map(|it| place(it, u64::MAX - it)).collect();
            let handle = handle(CLUSTER, &all);
            assert_eq!(places(CLUSTER, &handle), Some(all));
            assert_eq!(places(ClusterId(1), &handle), None);
        }
    }

    #[test]
    fn message_in_too_many_queues_has_no_handle() {
        let all = vec![place(1, 1); PLACES_MAX + 1];
        assert_eq!((handle(CLUSTER, &all), handle(CLUSTER, &[])).0, "");
        assert_eq!(handle(CLUSTER, &[]), "");
    }

    #[test]
    fn altered_cut_and_made_up_handles_are_none() {
        let handle = handle(CLUSTER, &[place(7, 9)]);
        let bytes = URL_SAFE_NO_PAD.decode(&handle).unwrap();
        for at in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[at] ^= 4;
            assert_eq!(places(CLUSTER, &URL_SAFE_NO_PAD.encode(altered)), None);
            assert_eq!(places(CLUSTER, &URL_SAFE_NO_PAD.encode(&bytes[..at])), None);
        }
        assert_eq!(places(CLUSTER, ""), None);
        assert_eq!(places(CLUSTER, "no handle at all"), None);
    }

    #[test]
    fn outcome_of_several_queues_is_the_latest() {
        let cases = [
            (vec![CancelResult::Cancelled], CancelOutcome::Cancelled),
            (
                vec![CancelResult::Cancelled, CancelResult::TooLate],
                CancelOutcome::TooLate,
            ),
            (
                vec![CancelResult::TooLate, CancelResult::Cancelled],
                CancelOutcome::TooLate,
            ),
            (
                vec![CancelResult::NotFound, CancelResult::Cancelled],
                CancelOutcome::Cancelled,
            ),
            (
                vec![CancelResult::NotFound, CancelResult::NotFound],
                CancelOutcome::NotFound,
            ),
        ];
        for (answers, expected) in cases {
            let places: Vec<Place> = (1..=answers.len() as u64).map(|it| place(it, 1)).collect();
            let mut found = Found::default();
            let keys = places.iter().map(|it| (it.queue, it.position));
            found.answers.extend(keys.zip(answers));
            assert_eq!(outcome(Some(&places), &found).unwrap(), expected);
        }
    }

    #[test]
    fn place_without_an_answer_makes_the_outcome_unknown() {
        let mut found = Found::default();
        let key = (QueueId(1), Position(1));
        found.answers.insert(key, CancelResult::Cancelled);
        let both = [place(1, 1), place(2, 1)];
        let error = outcome(Some(&both), &found).unwrap_err();
        assert_eq!(error.reason(), Reason::OutcomeUnknown);
        let denied = ApiError::new(Reason::AccessRefused, "no");
        found.denied.insert(QueueId(2), denied);
        let error = outcome(Some(&both), &found).unwrap_err();
        assert_eq!(error.reason(), Reason::AccessRefused);
        assert_eq!(outcome(None, &found).unwrap(), CancelOutcome::NotFound);
    }
}
