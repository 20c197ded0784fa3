//! `CreateVhost`, `UpdateVhost`, `DeleteVhost`, `SetVhostLimits` (features E1, E2). Not here: its queues' messages (their shards' leaders
//! follow), connections (`gateway`), the limits at work (the commands that make objects).

use std::sync::Arc;

use warren_types::VhostId;

use super::{VHOSTS_MAX, done, fits, invalid, room};
use crate::{
    command::{CreateVhost, DeleteVhost, SetVhostLimits, UpdateVhost},
    reply::{Declared, ObjectKind, Refusal, TopologyReply},
    topology::Topology,
    vhost::{Vhost, VhostSettings},
};

pub(super) fn create(
    topology: &mut Topology,
    command: CreateVhost,
) -> Result<TopologyReply, Refusal> {
    topology.formed()?;
    if let Some(vhost) = topology.vhost(command.name.as_str()) {
        return Ok(TopologyReply::VhostCreated {
            vhost: vhost.id,
            declared: Declared::Existed,
        });
    }
    check(command.name.as_str(), &command.settings)?;
    room(ObjectKind::Vhost, topology.vhosts.size(), VHOSTS_MAX)?;
    let id = topology.next.vhost;
    topology.next.vhost.0 += 1;
    let mut vhost = Vhost::new(id, command.name, topology.index);
    vhost.settings = command.settings;
    topology.add_vhost(vhost);
    topology.access_changed();
    Ok(TopologyReply::VhostCreated {
        vhost: id,
        declared: Declared::Created,
    })
}

pub(super) fn update(
    topology: &mut Topology,
    command: UpdateVhost,
) -> Result<TopologyReply, Refusal> {
    let id = topology.vhost_named(&command.name)?;
    check(command.name.as_str(), &command.settings)?;
    change(topology, id, |vhost| vhost.settings = command.settings)
}

pub(super) fn set_limits(
    topology: &mut Topology,
    command: SetVhostLimits,
) -> Result<TopologyReply, Refusal> {
    let id = topology.vhost_named(&command.name)?;
    change(topology, id, |vhost| vhost.limits = command.limits)
}

fn change(
    topology: &mut Topology,
    id: VhostId,
    with: impl FnOnce(&mut Vhost),
) -> Result<TopologyReply, Refusal> {
    let space = topology.vhosts.get_mut(&id).expect("it was found");
    let before = Arc::clone(&space.vhost);
    with(Arc::make_mut(&mut space.vhost));
    done(before != space.vhost)
}

pub(super) fn delete(
    topology: &mut Topology,
    command: DeleteVhost,
) -> Result<TopologyReply, Refusal> {
    let Some(vhost) = topology.vhost(command.name.as_str()) else {
        return done(false);
    };
    if vhost.settings.is_protected {
        return Err(Refusal::VhostProtected {
            vhost: command.name,
        });
    }
    let id = vhost.id;
    topology.remove_vhost(id);
    topology.access_changed();
    done(true)
}

impl Topology {
    /// With everything in it.
    fn remove_vhost(&mut self, id: VhostId) {
        let queues: Vec<_> = self.queues_after(id, None).map(|it| it.id).collect();
        for queue in queues {
            self.remove_queue(queue);
        }
        // Those that went with their last binding are not among them.
        let exchanges: Vec<_> = self.exchanges_after(id, None).map(|it| it.id).collect();
        for exchange in exchanges {
            self.remove_exchange(exchange);
        }
        let keys: Vec<_> = self.policies.keys().cloned().collect();
        for key in keys.iter().filter(|key| key.0 == id) {
            self.policies.remove_mut(key);
        }
        let tenants = &mut self.tenants;
        let keys: Vec<_> = tenants.permissions.keys().cloned().collect();
        for key in keys.iter().filter(|key| key.1 == id) {
            tenants.permissions.remove_mut(key);
        }
        let keys: Vec<_> = tenants.topic_permissions.keys().cloned().collect();
        for key in keys.iter().filter(|key| key.1 == id) {
            tenants.topic_permissions.remove_mut(key);
        }
        let keys: Vec<_> = tenants.parameters.keys().cloned().collect();
        for key in keys.iter().filter(|key| key.vhost == Some(id)) {
            tenants.parameters.remove_mut(key);
        }
        self.vhosts.remove_mut(&id);
    }
}

fn check(name: &str, settings: &VhostSettings) -> Result<(), Refusal> {
    let object = ObjectKind::Vhost;
    let limit = VhostSettings::DESCRIPTION_BYTES_MAX;
    fits(object, name, "description", &settings.description, limit)?;
    if settings.tags.len() > VhostSettings::TAGS_MAX {
        return Err(invalid(object, name, "tags", "there are too many"));
    }
    let mut tags = settings.tags.iter();
    tags.try_for_each(|tag| fits(object, name, "tags", tag, VhostSettings::TAG_BYTES_MAX))
}
