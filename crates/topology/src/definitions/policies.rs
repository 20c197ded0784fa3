//! From policies and operator policies of the document to commands. Pure. Not here: their rules (`policy`).

use super::document::{Policy, PolicyRule};
use super::json::table_of;
use super::plan::{Planned, Planner, said};
use crate::command::{SetPolicy, TopologyCommand};
use crate::policy::{self, ApplyTo, KeyEffect, PolicyKind};

impl Planner<'_> {
    pub(super) fn policies(&mut self, policies: &[Policy]) {
        for it in policies {
            let label = self.label("policy", &it.name, it.vhost.as_ref());
            let command =
                self.policy_command(PolicyKind::User, &it.name, &it.rule, it.vhost.as_ref());
            self.add(label, command);
        }
    }

    pub(super) fn policy_command(
        &mut self,
        kind: PolicyKind,
        name: &str,
        rule: &PolicyRule,
        vhost: Option<&String>,
    ) -> Planned<Option<TopologyCommand>> {
        let label = self.label("policy", name, vhost);
        let vhost = self.vhost(vhost)?;
        let apply_to = ApplyTo::ALL
            .into_iter()
            .find(|it| it.name() == rule.apply_to);
        let apply_to =
            apply_to.ok_or_else(|| format!("apply-to '{}' is not known", rule.apply_to))?;
        let definition = table_of(&rule.definition).map_err(said)?;
        for (key, _) in definition.iter() {
            if policy::effect(key) == Some(KeyEffect::Inert) {
                self.report
                    .warn(format!("{label}: '{key}' is kept, without effect"));
            }
        }
        let there = self.topology.policy(vhost, kind, name);
        let is_there = there.is_some_and(|it| {
            *it.pattern == *rule.pattern
                && it.apply_to == apply_to
                && it.priority == rule.priority
                && it.definition == definition
        });
        if is_there {
            return Ok(None);
        }
        Ok(Some(TopologyCommand::SetPolicy(SetPolicy {
            vhost,
            kind,
            name: name.into(),
            pattern: rule.pattern.as_str().into(),
            apply_to,
            priority: rule.priority,
            definition,
        })))
    }
}
