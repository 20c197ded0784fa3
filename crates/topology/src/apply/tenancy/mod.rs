//! Commands about vhosts, users, permissions, parameters, and batches: one file per kind of object. Not here: other commands, who may.

pub(super) mod batch;
mod parameters;
mod permissions;
mod users;
mod vhosts;

use warren_types::{UserName, VhostId, VhostName};

use crate::{
    command::TenancyCommand,
    reply::{ObjectKind, Refusal, TopologyReply},
    topology::Topology,
};

/// More of them are refused: they are in the memory of every node.
const VHOSTS_MAX: usize = 10_000;
const USERS_MAX: usize = 100_000;
const PERMISSIONS_MAX: usize = 1_000_000;
const PARAMETERS_MAX: usize = 100_000;

pub(super) fn apply(
    topology: &mut Topology,
    command: TenancyCommand,
) -> Result<TopologyReply, Refusal> {
    match command {
        TenancyCommand::CreateVhost(it) => vhosts::create(topology, it),
        TenancyCommand::UpdateVhost(it) => vhosts::update(topology, it),
        TenancyCommand::DeleteVhost(it) => vhosts::delete(topology, it),
        TenancyCommand::SetVhostLimits(it) => vhosts::set_limits(topology, it),
        TenancyCommand::CreateUser(it) => users::create(topology, it),
        TenancyCommand::UpdateUser(it) => users::update(topology, it),
        TenancyCommand::DeleteUser(it) => users::delete(topology, it),
        TenancyCommand::SetPermission(it) => permissions::set(topology, it),
        TenancyCommand::ClearPermission(it) => permissions::clear(topology, &it),
        TenancyCommand::SetTopicPermission(it) => permissions::set_topic(topology, it),
        TenancyCommand::ClearTopicPermission(it) => permissions::clear_topic(topology, &it),
        TenancyCommand::SetParameter(it) => parameters::set(topology, it),
        TenancyCommand::ClearParameter(it) => parameters::clear(topology, it),
    }
}

impl Topology {
    fn vhost_named(&self, name: &VhostName) -> Result<VhostId, Refusal> {
        let found = self.vhost(name.as_str()).map(|it| it.id);
        found.ok_or_else(|| Refusal::NoVhostNamed {
            vhost: name.clone(),
        })
    }

    fn has_user(&self, name: &UserName) -> Result<(), Refusal> {
        if self.tenants.users.contains_key(name) {
            Ok(())
        } else {
            Err(Refusal::NoSuchUser { user: name.clone() })
        }
    }

    /// Answers of [`Topology::authorise`] may differ from now on.
    fn access_changed(&mut self) {
        self.tenants.access_at = self.index;
    }
}

fn done(changed: bool) -> Result<TopologyReply, Refusal> {
    Ok(TopologyReply::Done { changed })
}

fn room(object: ObjectKind, there: usize, limit: usize) -> Result<(), Refusal> {
    if there < limit {
        Ok(())
    } else {
        Err(Refusal::LimitReached {
            object,
            limit: limit as u64,
        })
    }
}

fn invalid(object: ObjectKind, name: &str, argument: &str, reason: impl ToString) -> Refusal {
    Refusal::InvalidArgument {
        object,
        name: name.into(),
        argument: argument.into(),
        reason: reason.to_string().into(),
    }
}

/// A text that is kept: at most `limit` bytes.
fn fits(
    object: ObjectKind,
    name: &str,
    argument: &str,
    text: &str,
    limit: usize,
) -> Result<(), Refusal> {
    if text.len() <= limit {
        return Ok(());
    }
    let reason = format!("it has {} bytes; the limit is {limit}", text.len());
    Err(invalid(object, name, argument, reason))
}
