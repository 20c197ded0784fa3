//! Takes a replica's proposals to openraft, in order. Not here: when commands may be proposed (`handle`).
//!
//! openraft drops a write without a trace when it is no leader any more or its lease has run out. So every write is watched
//! until it is applied, writes wait while the lease is out, and if one is refused nevertheless the term is given up: then
//! "leads in this term" means "has taken every command so far".

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::FutureExt;
use openraft::impls::ProgressResponder;
use openraft::impls::leader_id_adv::LeaderId;
use openraft::raft::ClientWriteResult;
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};
use warren_types::Term;

use super::shared::Shared;
use super::transfer;
use crate::config::{Command, TypeConfig};

/// How often a lease that is out is looked at again.
const LEASE_POLL: Duration = Duration::from_millis(10);

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
    loop {
        tokio::select! {
            biased; // room is given back before more is taken
            () = first_done(&shared, &mut watched), if !watched.is_empty() => {}
            proposal = proposals.recv() => {
                let Some(proposal) = proposal else { return };
                submit(&shared, proposal, &mut watched).await;
            }
        }
    }
}

/// Waits for the oldest write, then takes what else has ended.
///
/// # Cancel safety
/// Yes: a write leaves the queue only once its outcome is there.
async fn first_done(shared: &Arc<Shared>, watched: &mut VecDeque<Watched>) {
    let Some(first) = watched.front_mut() else {
        return;
    };
    let mut outcome = (&mut first.outcome).await;
    while let Some(done) = watched.pop_front() {
        release(shared, done.bytes);
        if !matches!(outcome, Ok(Ok(_))) {
            refused(shared, done.term);
        }
        let Some(next) = watched.front_mut() else {
            return;
        };
        match (&mut next.outcome).now_or_never() {
            Some(ended) => outcome = ended,
            None => return,
        }
    }
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

/// A command was dropped. If this replica still leads in that term it must not go on as if nothing had happened.
fn refused(shared: &Arc<Shared>, term: Term) {
    if shared.leads() != Some(term) {
        return;
    }
    warn!(group = %shared.group, %term, "a write was refused while leading: leadership given up");
    shared.give_up(term);
    let Some(raft) = shared.raft() else { return };
    match transfer::best_target(shared) {
        // Only sends a message to the core; the core is at work, it has just answered.
        Some(to) => {
            let sent = raft.trigger().transfer_leader(to.0).now_or_never();
            info!(group = %shared.group, %to, sent = sent.is_some(), "leadership offered");
        }
        None => info!(group = %shared.group, "no follower is caught up: an election will come"),
    }
}
