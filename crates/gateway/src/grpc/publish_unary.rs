//! The unary `Publish`: one batch, one answer when every message has its result or the deadline is near.
//! Not here: routing and tracking (`publish`), the pipelined twin (`publish_stream`).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use warren_proto::convert::error::ApiError;
use warren_proto::convert::publish::refused;
use warren_proto::convert::reason::Reason;
use warren_proto::v1;
use warren_shard::Session;
use warren_shard::api::SessionEvent;
use warren_topology::Rights;

use super::batch::{Routing, check_batch, publish_time, result};
use super::confirms::EntryId;
use super::entry::Defaults;
use super::error::{aborted, bad_argument};
use super::permit::open_vhost;
use super::publish_open::publisher;
use crate::admission::ConnectionAdmission;
use crate::auth::Who;

use crate::gateway::Gateway;
use crate::publish::{Publish, PublishId, Publishing};

/// How long before the deadline nothing is begun any more.
const TELL_WITHIN: Duration = Duration::from_millis(150);

/// Publishes one batch.
///
/// # Errors
/// Nothing of it was begun, or nothing is known of any message.
pub(super) async fn publish(
    gateway: &Gateway,
    who: &Who,
    admission: &ConnectionAdmission,
    request: v1::PublishRequest,
    deadline: Instant,
) -> Result<v1::PublishResponse, ApiError> {
    let batch = request.batch.unwrap_or_default();
    if batch.entries.is_empty() {
        return Err(bad_argument("batch.entries", "is empty"));
    }
    check_batch(gateway, &batch)?;
    if !gateway.may_serve() {
        return Err(ApiError::new(
            Reason::NotReady,
            "the node does not know the cluster's topology yet",
        ));
    }
    let rights = open_vhost(gateway, who, &request.vhost).await?;
    let mut publisher = publisher(gateway, &request.vhost, request.producer)?;
    let mut results = Results {
        found: vec![None; batch.entries.len()],
    };
    let defaults = Defaults {
        exchange: &batch.exchange,
        routing_key: &batch.routing_key,
    };
    let mut publishes: Vec<Publish> = Vec::with_capacity(batch.entries.len());
    for (index, entry) in (0_u32..).zip(batch.entries) {
        let id = EntryId {
            slot: 0,
            is_mandatory: entry.mandatory,
            index,
        };
        match publisher.publish(PublishId::from(id), entry, defaults) {
            Ok(publish) => publishes.push(publish),
            Err(error) => results.set(refused(index, &error)),
        }
    }
    if batch.atomic && results.is_any_known() {
        results.abort();
        return results.into_response();
    }
    let routing = Routing {
        publishes,
        is_atomic: batch.atomic,
    };
    publish_routing(gateway, rights, admission, routing, results, deadline).await
}

/// Publishes what was checked. `results`: those that are known.
///
/// # Errors
/// As for `publish`.
async fn publish_routing(
    gateway: &Gateway,
    rights: Rights,
    admission: &ConnectionAdmission,
    routing: Routing,
    results: Results,
    deadline: Instant,
) -> Result<v1::PublishResponse, ApiError> {
    if deadline <= Instant::now() {
        return Err(not_started());
    }
    let bytes = routing.publishes.iter().map(|it| it.bytes).sum();
    let admitted = async {
        let late = routing.late(routing.may_publish_now(gateway));
        publish_time(gateway, late).await;
        admission.admit(bytes).await
    };
    // Held until every result is known or given up on.
    let _permit = timeout_at(deadline, admitted)
        .await
        .map_err(|_| not_started())?;
    publish_admitted(gateway, rights, routing, results, deadline).await
}

async fn publish_admitted(
    gateway: &Gateway,
    rights: Rights,
    routing: Routing,
    mut results: Results,
    deadline: Instant,
) -> Result<v1::PublishResponse, ApiError> {
    let session = Arc::new(gateway.broker().session());
    let mut publishing =
        Publishing::new(gateway.clone(), Arc::clone(&session), rights).until(begin_by(deadline));
    let all = publish_all(gateway, &session, routing, &mut publishing, &mut results);
    if timeout_at(deadline, all).await.is_err() {
        collect(gateway, &mut publishing, &mut results);
        results.give_up(&mut publishing)?;
    }
    results.into_response()
}

/// Publishes messages that were checked and admitted, whose ids count from 0, each for itself; gives their results.
///
/// # Errors
/// As for `publish`.
pub(super) async fn publish_checked(
    gateway: &Gateway,
    rights: Rights,
    publishes: Vec<Publish>,
    deadline: Instant,
) -> Result<Vec<v1::PublishResult>, ApiError> {
    let results = Results {
        found: vec![None; publishes.len()],
    };
    let routing = Routing {
        publishes,
        is_atomic: false,
    };
    let late = routing.late(routing.may_publish_now(gateway));
    timeout_at(deadline, publish_time(gateway, late))
        .await
        .map_err(|_| not_started())?;
    let told = publish_admitted(gateway, rights, routing, results, deadline);
    Ok(told.await?.results)
}

/// What has not begun by then is told "not started" while the call still waits for it.
fn begin_by(deadline: Instant) -> Instant {
    let left = deadline.saturating_duration_since(Instant::now());
    deadline
        .checked_sub((left / 4).min(TELL_WITHIN))
        .unwrap_or(deadline)
}

async fn publish_all(
    gateway: &Gateway,
    session: &Session,
    routing: Routing,
    publishing: &mut Publishing,
    results: &mut Results,
) {
    routing.route(publishing).await;
    loop {
        collect(gateway, publishing, results);
        if publishing.is_idle() {
            return;
        }
        let is_handing_over = publishing.has_to_hand_over();
        tokio::select! {
            biased; // answers first: they free room
            events = session.events() => {
                let Some(events) = events else { return };
                for event in events {
                    if let SessionEvent::Published(answers) = event {
                        publishing.published(answers);
                    }
                }
            }
            () = publishing.hand_over(), if is_handing_over => {}
        }
    }
}

fn collect(gateway: &Gateway, publishing: &mut Publishing, results: &mut Results) {
    let topology = gateway.topology();
    for resolved in publishing.collect() {
        results.set(result(
            EntryId::from(resolved.tracked.id),
            &resolved.outcome,
            gateway,
            &topology,
        ));
    }
}

struct Results {
    found: Vec<Option<v1::PublishResult>>,
}

impl Results {
    fn is_any_known(&self) -> bool {
        self.found.iter().any(Option::is_some)
    }

    /// One message cannot be published, so none is.
    fn abort(&mut self) {
        for (index, place) in (0_u32..).zip(&mut self.found) {
            place.get_or_insert_with(|| refused(index, &aborted()));
        }
    }

    fn set(&mut self, result: v1::PublishResult) {
        let place = usize::try_from(result.index)
            .ok()
            .and_then(|index| self.found.get_mut(index));
        if let Some(place) = place {
            *place = Some(result);
        }
    }

    /// The deadline is near: what is not known is said to be so, each message for itself.
    ///
    /// # Errors
    /// Nothing is known of any message: that is the status of the call.
    fn give_up(&mut self, publishing: &mut Publishing) -> Result<(), ApiError> {
        let given_up = publishing.give_up();
        if self.found.iter().all(Option::is_none) {
            return Err(if given_up.unknown.is_empty() {
                not_started()
            } else {
                unknown()
            });
        }
        for id in given_up.not_started {
            self.set(refused(EntryId::from(id).index, &not_started()));
        }
        for id in given_up.unknown {
            self.set(refused(EntryId::from(id).index, &unknown()));
        }
        // The rest was not even routed.
        for (index, place) in (0_u32..).zip(&mut self.found) {
            place.get_or_insert_with(|| refused(index, &not_started()));
        }
        Ok(())
    }

    fn into_response(self) -> Result<v1::PublishResponse, ApiError> {
        let results: Option<Vec<v1::PublishResult>> = self.found.into_iter().collect();
        let results = results.ok_or_else(unknown)?;
        Ok(v1::PublishResponse { results })
    }
}

fn not_started() -> ApiError {
    ApiError::new(
        Reason::NotStarted,
        "the deadline passed before the message was handed over",
    )
}

fn unknown() -> ApiError {
    ApiError::new(
        Reason::OutcomeUnknown,
        "the deadline passed; whether the message is stored is not known",
    )
}
