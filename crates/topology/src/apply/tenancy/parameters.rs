//! `SetParameter`, `ClearParameter` (features F31): kept, without effect. Not here: whether a value is JSON (seen before it is proposed).

use std::sync::Arc;

use warren_types::VhostName;

use super::{PARAMETERS_MAX, done, fits, room};
use crate::{
    command::{ClearParameter, SetParameter},
    parameter::{Parameter, ParameterKey},
    reply::{ObjectKind, Refusal, TopologyReply},
    topology::Topology,
};

pub(super) fn set(
    topology: &mut Topology,
    command: SetParameter,
) -> Result<TopologyReply, Refusal> {
    topology.formed()?;
    let key = key(
        topology,
        command.vhost.as_ref(),
        command.component,
        command.name,
    )?;
    let limit = ParameterKey::BYTES_MAX;
    let object = ObjectKind::Parameter;
    fits(object, &key.name, "component", &key.component, limit)?;
    fits(object, &key.name, "name", &key.name, limit)?;
    let limit = Parameter::VALUE_BYTES_MAX;
    fits(object, &key.name, "value", &command.value, limit)?;
    let parameters = &mut topology.tenants.parameters;
    match parameters.get(&key) {
        Some(current) if current.value == command.value => return done(false),
        Some(_) => {}
        None => room(object, parameters.size(), PARAMETERS_MAX)?,
    }
    let value = command.value;
    let parameter = Parameter {
        key: key.clone(),
        value,
    };
    parameters.insert_mut(key, Arc::new(parameter));
    done(true)
}

pub(super) fn clear(
    topology: &mut Topology,
    command: ClearParameter,
) -> Result<TopologyReply, Refusal> {
    let vhost = command.vhost.as_ref();
    match key(topology, vhost, command.component, command.name) {
        Ok(key) => done(topology.tenants.parameters.remove_mut(&key)),
        Err(_) => done(false),
    }
}

fn key(
    topology: &Topology,
    vhost: Option<&VhostName>,
    component: Box<str>,
    name: Box<str>,
) -> Result<ParameterKey, Refusal> {
    Ok(ParameterKey {
        vhost: vhost.map(|it| topology.vhost_named(it)).transpose()?,
        component,
        name,
    })
}
