//! Runs an import of definitions: section by section, many objects in one entry. What is there already stays; the same import again
//! goes on where one ended, or changes nothing. Not here: what objects become (`warren_topology::definitions`), the call (`grpc`).

use std::sync::Arc;

use warren_shard::TopologyError;
use warren_topology::definitions::{Document, Item, Report, Section};
use warren_topology::{Batch, DeclareQueue, QueueType, Topology, TopologyCommand, TopologyReply};
use warren_types::VhostName;

use crate::auth::{Password, new_hash};
use crate::gateway::Gateway;
use crate::operations::OperationError;

/// Fewer than a batch may have: an entry of the log is to stay small.
const COMMANDS_AT_ONCE: usize = 500;

/// How an import is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How<'a> {
    /// Into this vhost alone.
    pub(crate) only: Option<&'a VhostName>,
    pub(crate) by: &'a str,
    /// Nothing is done, only told.
    pub(crate) is_trial: bool,
}

/// # Errors
/// The topology cannot be changed now. What was done before stays.
pub(crate) async fn import(
    gateway: &Gateway,
    mut document: Document,
    how: How<'_>,
) -> Result<Report, OperationError> {
    let mut report = Report::default();
    for user in document.clear_passwords() {
        let hash = new_hash(gateway, Password::new(user.password)).await;
        // The node stops: nothing was changed.
        let hash = hash.map_err(|_| OperationError::Topology(TopologyError::NoQuorum))?;
        *user.hash = Some(hash);
    }
    let mut queues: Vec<(String, DeclareQueue)> = Vec::new();
    let mut trial = how.is_trial.then(|| Topology::clone(&gateway.topology()));
    for section in Section::ALL {
        let current: Arc<Topology> = gateway.topology();
        let topology = trial.as_ref().unwrap_or(&current);
        let mut items = document
            .plan(section, topology, how.only, &mut report)
            .into_iter()
            .peekable();
        while items.peek().is_some() {
            let some: Vec<Item> = items.by_ref().take(COMMANDS_AT_ONCE).collect();
            let (labels, commands): (Vec<String>, Vec<TopologyCommand>) =
                some.into_iter().map(|it| (it.label, it.command)).unzip();
            for (label, command) in labels.iter().zip(&commands) {
                let declared = command.declared_queues().into_iter().cloned();
                queues.extend(declared.map(|it| (label.clone(), it)));
            }
            let replies = match &mut trial {
                Some(trial) => {
                    let default = gateway.options().default_queue_type;
                    tried(trial, commands, default)
                }
                None => done(gateway, commands, how.by).await?,
            };
            for (label, reply) in labels.iter().zip(&replies) {
                report.note(label, reply);
            }
        }
    }
    if !how.is_trial {
        make_dead_letter_queues(gateway, &queues, how.by, &mut report).await?;
    }
    Ok(report)
}

/// Last, so that those that the document describes are as it says.
async fn make_dead_letter_queues(
    gateway: &Gateway,
    queues: &[(String, DeclareQueue)],
    by: &str,
    report: &mut Report,
) -> Result<(), OperationError> {
    for (label, queue) in queues {
        let name = queue.name.name().ok();
        let topology = gateway.topology();
        let is_there = name.is_some_and(|it| topology.queue(queue.vhost, it.as_str()).is_some());
        if !is_there {
            continue; // refused, and told
        }
        match gateway.make_dead_letter_queue(queue, by).await {
            Ok(()) => {}
            Err(OperationError::Refused(refusal)) => {
                report.note(label, &TopologyReply::Refused(refusal));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn tried(
    trial: &mut Topology,
    commands: Vec<TopologyCommand>,
    default: QueueType,
) -> Vec<TopologyReply> {
    let at = trial.index();
    let mut replies = Vec::with_capacity(commands.len());
    for command in commands {
        let command = command.with_default_queue_type(trial, default);
        replies.push(trial.apply(at, command));
    }
    replies
}

async fn done(
    gateway: &Gateway,
    commands: Vec<TopologyCommand>,
    by: &str,
) -> Result<Vec<TopologyReply>, OperationError> {
    let batch = TopologyCommand::Batch(Batch { commands });
    let TopologyReply::Batch(replies) = gateway.change(batch, by).await? else {
        return Err(OperationError::UnexpectedReply);
    };
    Ok(replies)
}
