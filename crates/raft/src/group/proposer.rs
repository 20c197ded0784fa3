//! Takes a replica's proposals to openraft, in order. Not here: when commands may be proposed (`handle`).
//!
//! openraft drops a write without a trace when it is no leader any more or its lease has run out. So every write is watched
//! until it is applied, writes wait while the lease is out, and if one is refused nevertheless the term is given up: then
//! "leads in this term" means "has taken every command so far". openraft itself goes on leading in that term, so that nobody
//! else is elected: it is asked to hand over until it does.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::FutureExt;
use openraft::impls::ProgressResponder;
use openraft::impls::leader_id_adv::LeaderId;
use openraft::raft::ClientWriteResult;
use openraft::{RaftMetrics, ServerState};
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};
use warren_types::Term;

use super::shared::Shared;
use super::transfer;
use crate::config::{Command, TypeConfig};

/// How often a lease that is out is looked at again.
const LEASE_POLL: Duration = Duration::from_millis(10);
/// How often a follower is looked for that a given up term can be handed over to.
const HAND_OVER_POLL: Duration = Duration::from_millis(20);

pub(super) struct Proposal {
    pub term: Term,
    pub command: Command,
    /// As counted in `Shared::waiting_bytes`.
    pub bytes: usize,
}

/// A write that openraft has taken.
struct Watched {
    term: Term,
    bytes: usize,
    outcome: oneshot::Receiver<ClientWriteResult<TypeConfig>>,
}

pub(super) async fn run(shared: Arc<Shared>, mut proposals: mpsc::Receiver<Proposal>) {
    let mut watched: VecDeque<Watched> = VecDeque::new();
    let mut given_up = None;
    loop {
        tokio::select! {
            biased; // room is given back before more is taken
            refused = first_done(&shared, &mut watched), if !watched.is_empty() => {
                given_up = refused.filter(|term| !hand_over(&shared, *term)).or(given_up);
            }
            () = tokio::time::sleep(HAND_OVER_POLL), if given_up.is_some() => {
                given_up = given_up.filter(|term| !hand_over(&shared, *term));
            }
            proposal = proposals.recv() => {
                let Some(proposal) = proposal else { return };
                submit(&shared, proposal, &mut watched).await;
            }
        }
    }
}

/// Waits for the oldest write, then takes what else has ended. The term that was given up because one was refused, if so.
///
/// # Cancel safety
/// Yes: a write leaves the queue only once its outcome is there.
async fn first_done(shared: &Arc<Shared>, watched: &mut VecDeque<Watched>) -> Option<Term> {
    let first = watched.front_mut()?;
    let mut given_up = None;
    let mut outcome = (&mut first.outcome).await;
    while let Some(done) = watched.pop_front() {
        release(shared, done.bytes);
        if !matches!(outcome, Ok(Ok(_))) && refused(shared, done.term) {
            given_up = Some(done.term);
        }
        let next = watched.front_mut();
        let ended = next.and_then(|next| (&mut next.outcome).now_or_never());
        match ended {
            Some(ended) => outcome = ended,
            None => break,
        }
    }
    given_up
}

async fn submit(shared: &Arc<Shared>, proposal: Proposal, watched: &mut VecDeque<Watched>) {
    let Proposal {
        term,
        command,
        bytes,
    } = proposal;
    // A lease that is out: wait with the command instead of having it refused.
    while shared.leads() == Some(term) && shared.lease_until().is_none() {
        tokio::time::sleep(LEASE_POLL).await;
    }
    let raft = shared.raft().filter(|_| shared.leads() == Some(term));
    let Some(raft) = raft else {
        release(shared, bytes);
        return;
    };
    let (responder, outcome) = ProgressResponder::complete_only();
    let leader = LeaderId {
        term: term.0,
        node_id: shared.replica.0,
    };
    let written = raft
        .write(command)
        .with_leader(leader)
        .responder(responder)
        .await;
    if written.is_ok() {
        watched.push_back(Watched {
            term,
            bytes,
            outcome,
        });
    } else {
        // The instance has failed; the supervisor sees it as well.
        release(shared, bytes);
        shared.give_up(term);
    }
}

fn release(shared: &Shared, bytes: usize) {
    shared.waiting.fetch_sub(1, Ordering::AcqRel);
    shared.waiting_bytes.fetch_sub(bytes, Ordering::AcqRel);
}

/// A command was dropped. If this replica still leads in that term it must not go on as if nothing had happened: true if it
/// gave the term up.
fn refused(shared: &Arc<Shared>, term: Term) -> bool {
    if shared.leads() != Some(term) {
        return false;
    }
    warn!(group = %shared.group, %term, "a write was refused while leading: leadership given up");
    shared.give_up(term);
    true
}

/// Offers a term that was given up to a follower that has all of the log. True when there is nothing more to do: openraft was
/// told, which then neither writes nor sends heartbeats, or leads no more in that term.
fn hand_over(shared: &Arc<Shared>, term: Term) -> bool {
    let leads = |metrics: &RaftMetrics<TypeConfig>| {
        metrics.state == ServerState::Leader && metrics.vote.leader_id.term == term.0
    };
    let (Some(raft), Some(true)) = (shared.raft(), shared.metrics(leads)) else {
        return true;
    };
    let Some(to) = transfer::best_target(shared) else {
        return false;
    };
    // Only sends a message to the core; the core is at work, it has just answered.
    let sent = raft.trigger().transfer_leader(to.0).now_or_never();
    info!(group = %shared.group, %term, %to, sent = sent.is_some(), "leadership offered");
    sent.is_some()
}
