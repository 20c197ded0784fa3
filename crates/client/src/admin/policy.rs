//! Policies. Not here: what is declared (`queue`, `exchange`).

use tonic::transport::Channel;
use warren_proto::admin_v1 as pb;
use warren_proto::admin_v1::policy_service_client::PolicyServiceClient;
use warren_proto::convert::value::value_from_client;
use warren_types::{Table, Value};

use super::{PAGE_SIZE, plain_table, present, request_id, vhost_or_default, wire_table};
use crate::{
    connection::{Attempt, Connection},
    error::Error,
};

/// What a policy applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyTarget {
    All,
    Queues,
    ClassicQueues,
    QuorumQueues,
    Streams,
    Exchanges,
}

/// A policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Empty = "/".
    pub vhost: String,
    pub name: String,
    /// Regular expression over names.
    pub pattern: String,
    pub apply_to: PolicyTarget,
    /// The highest of those that match applies.
    pub priority: i32,
    pub definition: Table,
    /// The operator's: it can only tighten limits.
    pub operator: bool,
}

/// A setting in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectiveSetting {
    pub name: String,
    pub value: Value,
    /// "argument", "policy" or "operator-policy".
    pub source: &'static str,
    /// The policy it comes from; empty = none.
    pub policy: String,
}

/// Whose settings are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicySubject {
    Queue(String),
    Exchange(String),
}

impl Attempt {
    pub(super) fn policies(&self) -> PolicyServiceClient<Channel> {
        PolicyServiceClient::new(self.channel.clone())
    }
}

fn kind(operator: bool) -> i32 {
    if operator {
        pb::PolicyKind::Operator.into()
    } else {
        pb::PolicyKind::User.into()
    }
}

fn target(it: PolicyTarget) -> pb::PolicyTarget {
    match it {
        PolicyTarget::All => pb::PolicyTarget::All,
        PolicyTarget::Queues => pb::PolicyTarget::Queues,
        PolicyTarget::ClassicQueues => pb::PolicyTarget::ClassicQueues,
        PolicyTarget::QuorumQueues => pb::PolicyTarget::QuorumQueues,
        PolicyTarget::Streams => pb::PolicyTarget::Streams,
        PolicyTarget::Exchanges => pb::PolicyTarget::Exchanges,
    }
}

fn policy(operation: &'static str, wire: pb::Policy) -> Result<Policy, Error> {
    let apply_to = match pb::PolicyTarget::try_from(wire.apply_to) {
        Ok(pb::PolicyTarget::Queues) => PolicyTarget::Queues,
        Ok(pb::PolicyTarget::ClassicQueues) => PolicyTarget::ClassicQueues,
        Ok(pb::PolicyTarget::QuorumQueues) => PolicyTarget::QuorumQueues,
        Ok(pb::PolicyTarget::Streams) => PolicyTarget::Streams,
        Ok(pb::PolicyTarget::Exchanges) => PolicyTarget::Exchanges,
        Ok(pb::PolicyTarget::All | pb::PolicyTarget::Unspecified) | Err(_) => PolicyTarget::All,
    };
    Ok(Policy {
        vhost: vhost_or_default(wire.vhost),
        name: wire.name,
        pattern: wire.pattern,
        apply_to,
        priority: wire.priority,
        definition: plain_table(operation, wire.definition)?,
        operator: wire.kind == i32::from(pb::PolicyKind::Operator),
    })
}

impl Connection {
    /// Creates or replaces a policy; gives how many queues and exchanges it now applies to.
    ///
    /// # Errors
    /// The policy cannot hold, or no node answers in time.
    pub async fn set_policy(&self, it: &Policy) -> Result<u64, Error> {
        const OPERATION: &str = "set policy";
        let request = pb::SetPolicyRequest {
            policy: Some(pb::Policy {
                vhost: it.vhost.clone(),
                name: it.name.clone(),
                pattern: it.pattern.clone(),
                apply_to: target(it.apply_to).into(),
                priority: it.priority,
                definition: wire_table(&it.definition),
                kind: kind(it.operator),
                etag: String::new(),
            }),
            validate_only: false,
            request_id: request_id(),
        };
        let call = |attempt: Attempt| {
            let request = attempt.request(request.clone());
            async move { attempt.policies().set_policy(request).await }
        };
        let response = self.call(OPERATION, call).await?;
        Ok(response.applies_to)
    }

    /// All policies of a vhost, both kinds, by name.
    ///
    /// # Errors
    /// No node answers in time.
    pub async fn policies(&self, vhost: &str) -> Result<Vec<Policy>, Error> {
        const OPERATION: &str = "list policies";
        let call = |attempt: Attempt, page_token: String| {
            let request = attempt.request(pb::ListPoliciesRequest {
                vhost: vhost.to_owned(),
                kind: 0,
                page_size: PAGE_SIZE,
                page_token,
            });
            async move { attempt.policies().list_policies(request).await }
        };
        let mut policies = Vec::new();
        let take = |page: pb::ListPoliciesResponse| {
            for wire in page.policies {
                policies.push(policy(OPERATION, wire)?);
            }
            Ok(page.next_page_token)
        };
        self.pages(OPERATION, call, take).await?;
        Ok(policies)
    }

    /// Deletes a policy; a missing one is a success.
    ///
    /// # Errors
    /// No node answers in time.
    pub async fn delete_policy(
        &self,
        vhost: &str,
        name: &str,
        operator: bool,
    ) -> Result<(), Error> {
        let request = pb::DeletePolicyRequest {
            vhost: vhost.to_owned(),
            name: name.to_owned(),
            kind: kind(operator),
            etag: String::new(),
            request_id: request_id(),
        };
        let call = |attempt: Attempt| {
            let request = attempt.request(request.clone());
            async move { attempt.policies().delete_policy(request).await }
        };
        self.call("delete policy", call).await.map(drop)
    }

    /// What is in force on a queue or exchange, and from where.
    ///
    /// # Errors
    /// There is none, or no node answers in time.
    pub async fn effective_policy(
        &self,
        vhost: &str,
        subject: &PolicySubject,
    ) -> Result<Vec<EffectiveSetting>, Error> {
        use pb::get_effective_policy_request::Target;
        const OPERATION: &str = "show policy";
        let request = pb::GetEffectivePolicyRequest {
            vhost: vhost.to_owned(),
            target: Some(match subject {
                PolicySubject::Queue(name) => Target::Queue(name.clone()),
                PolicySubject::Exchange(name) => Target::Exchange(name.clone()),
            }),
        };
        let call = |attempt: Attempt| {
            let request = attempt.request(request.clone());
            async move { attempt.policies().get_effective_policy(request).await }
        };
        let response = self.call(OPERATION, call).await?;
        let setting = |wire: pb::EffectiveSetting| {
            let value = value_from_client(present(OPERATION, wire.value)?);
            Ok(EffectiveSetting {
                name: wire.name,
                value: value.map_err(|error| Error::BadAnswer {
                    operation: OPERATION,
                    detail: error.to_string(),
                })?,
                source: match pb::SettingSource::try_from(wire.source) {
                    Ok(pb::SettingSource::Argument) => "argument",
                    Ok(pb::SettingSource::Policy) => "policy",
                    Ok(pb::SettingSource::OperatorPolicy) => "operator-policy",
                    Ok(pb::SettingSource::Default | pb::SettingSource::Unspecified) | Err(_) => {
                        "default"
                    }
                },
                policy: wire.policy,
            })
        };
        response.settings.into_iter().map(setting).collect()
    }
}
