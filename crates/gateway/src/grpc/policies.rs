//! Policies: set, get, list, delete, and what is in force (features B61 to B65); limits of vhosts. Not here: their rules (`warren-topology`).

mod limits;

use tonic::{Request, Response, Status};
use warren_proto::admin_v1 as pb;
use warren_proto::admin_v1::policy_service_server::PolicyService;
use warren_proto::convert::error::ApiError;
use warren_proto::convert::reason::Reason;
use warren_proto::convert::value::{table_from_client, table_to_client, value_to_client};
use warren_topology::{
    ApplyTo, DeletePolicy, EffectiveSetting, Operation, Policy, PolicyKind, Refusal, SetPolicy,
    SettingSource, Topology, TopologyCommand,
};
use warren_types::{ExchangeName, VhostId, VhostName};

use super::error::{bad_argument, of_name, of_operation, of_refusal};
use super::open::{queue_name, vhost_name};
use super::permit::{permitted, permitted_to};
use super::topology::{Page, check_etag};
use crate::gateway::Gateway;
use crate::operations::find_vhost;

/// Policies are set by no user yet.
const NO_USER: &str = "";

#[derive(Clone)]
pub(super) struct PolicyAdmin {
    gateway: Gateway,
}

impl PolicyAdmin {
    pub(super) fn new(gateway: Gateway) -> Self {
        Self { gateway }
    }

    async fn set(&self, request: pb::SetPolicyRequest) -> Result<pb::SetPolicyResponse, ApiError> {
        let wanted = request.policy.unwrap_or_default();
        let vhost = vhost_name(&wanted.vhost)?;
        let kind = kind(wanted.kind)?;
        let definition = table_from_client(wanted.definition.unwrap_or_default())
            .map_err(|error| bad_argument("policy.definition", error.to_string()))?;
        let topology = self.fresh().await?;
        let space = find_vhost(&topology, &vhost).map_err(|error| of_operation(&error))?;
        let known = topology.policy(space, kind, &wanted.name).map(etag);
        check_etag(&wanted.etag, known.as_deref())?;
        let command = SetPolicy {
            vhost: space,
            kind,
            name: wanted.name.clone().into(),
            pattern: wanted.pattern.into(),
            apply_to: apply_to(wanted.apply_to)?,
            priority: wanted.priority,
            definition,
        };
        command.check().map_err(|refusal| of_refusal(&refusal))?;
        let command = TopologyCommand::SetPolicy(command);
        if request.validate_only {
            let mut after = Topology::clone(&topology);
            let at = after.index();
            if let warren_topology::TopologyReply::Refused(refusal) = after.apply(at, command) {
                return Err(of_refusal(&refusal));
            }
            return answer(&after, space, &vhost, kind, &wanted.name);
        }
        let changed = self.gateway.change(command, NO_USER).await;
        changed.map_err(|error| of_operation(&error))?;
        answer(&self.gateway.topology(), space, &vhost, kind, &wanted.name)
    }

    async fn fresh(&self) -> Result<std::sync::Arc<Topology>, ApiError> {
        let fresh = self.gateway.fresh_topology().await;
        fresh.map_err(|error| of_operation(&error))
    }

    async fn get(&self, request: pb::GetPolicyRequest) -> Result<pb::GetPolicyResponse, ApiError> {
        let vhost = vhost_name(&request.vhost)?;
        let topology = self.fresh().await?;
        let space = find_vhost(&topology, &vhost).map_err(|error| of_operation(&error))?;
        let kind = kind(request.kind)?;
        let found = answer(&topology, space, &vhost, kind, &request.name)?;
        Ok(pb::GetPolicyResponse {
            policy: found.policy,
        })
    }

    async fn list(
        &self,
        request: pb::ListPoliciesRequest,
    ) -> Result<pb::ListPoliciesResponse, ApiError> {
        let vhost = vhost_name(&request.vhost)?;
        let page = Page::new(request.page_size, &request.page_token)?;
        let topology = self.fresh().await?;
        let space = find_vhost(&topology, &vhost).map_err(|error| of_operation(&error))?;
        let kinds = match pb::PolicyKind::try_from(request.kind) {
            Ok(pb::PolicyKind::Unspecified) => vec![PolicyKind::User, PolicyKind::Operator],
            Ok(pb::PolicyKind::User | pb::PolicyKind::Operator) | Err(_) => {
                vec![kind(request.kind)?]
            }
        };
        let all = kinds
            .into_iter()
            .flat_map(|kind| topology.policies(space, kind));
        let mut named: Vec<(String, &Policy)> = all.map(|it| (order(it), it)).collect();
        named.sort_by(|one, other| one.0.cmp(&other.0));
        let rest = named
            .into_iter()
            .filter(|(order, _)| page.after().is_none_or(|after| order.as_str() > after));
        let (policies, next_page_token) = page.take(rest, |(order, _)| order.clone());
        Ok(pb::ListPoliciesResponse {
            policies: policies
                .into_iter()
                .map(|(_, it)| to_client(it, &vhost))
                .collect(),
            next_page_token,
        })
    }

    async fn delete(
        &self,
        request: pb::DeletePolicyRequest,
    ) -> Result<pb::DeletePolicyResponse, ApiError> {
        let vhost = vhost_name(&request.vhost)?;
        let kind = kind(request.kind)?;
        let topology = self.fresh().await?;
        let space = find_vhost(&topology, &vhost).map_err(|error| of_operation(&error))?;
        let known = topology.policy(space, kind, &request.name).map(etag);
        check_etag(&request.etag, known.as_deref())?;
        let command = TopologyCommand::DeletePolicy(DeletePolicy {
            vhost: space,
            kind,
            name: request.name.into(),
        });
        let changed = self.gateway.change(command, NO_USER).await;
        changed.map_err(|error| of_operation(&error))?;
        Ok(pb::DeletePolicyResponse {})
    }

    async fn effective(
        &self,
        request: pb::GetEffectivePolicyRequest,
    ) -> Result<pb::GetEffectivePolicyResponse, ApiError> {
        use pb::get_effective_policy_request::Target;
        let vhost = vhost_name(&request.vhost)?;
        let topology = self.fresh().await?;
        let space = find_vhost(&topology, &vhost).map_err(|error| of_operation(&error))?;
        let (settings, (policy, operator)) = match request.target {
            Some(Target::Queue(name)) => {
                let name = queue_name(&name)?;
                let missing = || {
                    of_refusal(&Refusal::NoSuchQueue {
                        vhost: vhost.clone(),
                        queue: name.clone(),
                    })
                };
                let queue = topology.queue(space, name.as_str()).ok_or_else(missing)?;
                (
                    topology.effective_queue(queue),
                    topology.queue_policies(queue.id),
                )
            }
            Some(Target::Exchange(name)) => {
                let name = ExchangeName::try_from(name.as_str())
                    .map_err(|error| of_name("exchange", &error))?;
                let missing = || {
                    of_refusal(&Refusal::NoSuchExchange {
                        vhost: vhost.clone(),
                        exchange: name.clone(),
                    })
                };
                let found = topology.exchange(space, name.as_str());
                let exchange = found.ok_or_else(missing)?;
                (
                    topology.effective_exchange(exchange),
                    topology.exchange_policies(exchange.id),
                )
            }
            None => return Err(bad_argument("target", "names no queue or exchange")),
        };
        Ok(pb::GetEffectivePolicyResponse {
            settings: settings.into_iter().map(setting).collect(),
            policy: policy.unwrap_or_default().to_owned(),
            operator_policy: operator.unwrap_or_default().to_owned(),
        })
    }
}

fn answer(
    topology: &Topology,
    space: VhostId,
    vhost: &VhostName,
    kind: PolicyKind,
    name: &str,
) -> Result<pb::SetPolicyResponse, ApiError> {
    let policy = topology.policy(space, kind, name).ok_or_else(|| {
        // There is no reason of its own: a policy is found by its name, as an argument names it.
        ApiError::new(Reason::BadArgument, format!("no policy '{name}'")).resource("policy", name)
    })?;
    Ok(pb::SetPolicyResponse {
        policy: Some(to_client(policy, vhost)),
        applies_to: topology.applies_to(policy),
    })
}

/// By name; of two with one name the user's first.
fn order(policy: &Policy) -> String {
    let kind = match policy.kind {
        PolicyKind::User => 'a',
        PolicyKind::Operator => 'b',
    };
    format!("{}\u{0}{kind}", policy.name)
}

fn etag(policy: &Policy) -> String {
    format!("p{}", policy.set_at)
}

fn kind(kind: i32) -> Result<PolicyKind, ApiError> {
    match pb::PolicyKind::try_from(kind) {
        Ok(pb::PolicyKind::Unspecified | pb::PolicyKind::User) => Ok(PolicyKind::User),
        Ok(pb::PolicyKind::Operator) => Ok(PolicyKind::Operator),
        Err(_) => Err(bad_argument("kind", "is unknown")),
    }
}

fn apply_to(target: i32) -> Result<ApplyTo, ApiError> {
    match pb::PolicyTarget::try_from(target) {
        Ok(pb::PolicyTarget::Unspecified | pb::PolicyTarget::All) => Ok(ApplyTo::All),
        Ok(pb::PolicyTarget::Queues) => Ok(ApplyTo::Queues),
        Ok(pb::PolicyTarget::Exchanges) => Ok(ApplyTo::Exchanges),
        Ok(pb::PolicyTarget::ClassicQueues) => Ok(ApplyTo::ClassicQueues),
        Ok(pb::PolicyTarget::QuorumQueues) => Ok(ApplyTo::QuorumQueues),
        Ok(pb::PolicyTarget::Streams) => Ok(ApplyTo::Streams),
        Err(_) => Err(bad_argument("policy.apply_to", "is unknown")),
    }
}

fn to_client(policy: &Policy, vhost: &VhostName) -> pb::Policy {
    let apply_to = match policy.apply_to {
        ApplyTo::All => pb::PolicyTarget::All,
        ApplyTo::Queues => pb::PolicyTarget::Queues,
        ApplyTo::Exchanges => pb::PolicyTarget::Exchanges,
        ApplyTo::ClassicQueues => pb::PolicyTarget::ClassicQueues,
        ApplyTo::QuorumQueues => pb::PolicyTarget::QuorumQueues,
        ApplyTo::Streams => pb::PolicyTarget::Streams,
    };
    let kind = match policy.kind {
        PolicyKind::User => pb::PolicyKind::User,
        PolicyKind::Operator => pb::PolicyKind::Operator,
    };
    pb::Policy {
        vhost: vhost.to_string(),
        name: policy.name.to_string(),
        pattern: policy.pattern.to_string(),
        apply_to: apply_to.into(),
        priority: policy.priority,
        definition: table_to_client(&policy.definition),
        kind: kind.into(),
        etag: etag(policy),
    }
}

fn setting(it: EffectiveSetting) -> pb::EffectiveSetting {
    let source = match it.source {
        SettingSource::Argument => pb::SettingSource::Argument,
        SettingSource::Policy => pb::SettingSource::Policy,
        SettingSource::OperatorPolicy => pb::SettingSource::OperatorPolicy,
    };
    pb::EffectiveSetting {
        name: it.key.into(),
        value: Some(value_to_client(&it.value)),
        source: source.into(),
        policy: it.policy.map(String::from).unwrap_or_default(),
    }
}

fn reply<T>(result: Result<T, ApiError>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(Status::from)
}

#[tonic::async_trait]
impl PolicyService for PolicyAdmin {
    async fn set_policy(
        &self,
        request: Request<pb::SetPolicyRequest>,
    ) -> Result<Response<pb::SetPolicyResponse>, Status> {
        let (_, request) = permitted(&self.gateway, request).await?;
        reply(self.set(request).await)
    }

    async fn get_policy(
        &self,
        request: Request<pb::GetPolicyRequest>,
    ) -> Result<Response<pb::GetPolicyResponse>, Status> {
        let (_, request) = permitted(&self.gateway, request).await?;
        reply(self.get(request).await)
    }

    async fn list_policies(
        &self,
        request: Request<pb::ListPoliciesRequest>,
    ) -> Result<Response<pb::ListPoliciesResponse>, Status> {
        let (_, request) = permitted(&self.gateway, request).await?;
        reply(self.list(request).await)
    }

    async fn delete_policy(
        &self,
        request: Request<pb::DeletePolicyRequest>,
    ) -> Result<Response<pb::DeletePolicyResponse>, Status> {
        let (_, request) = permitted(&self.gateway, request).await?;
        reply(self.delete(request).await)
    }

    async fn get_effective_policy(
        &self,
        request: Request<pb::GetEffectivePolicyRequest>,
    ) -> Result<Response<pb::GetEffectivePolicyResponse>, Status> {
        let (_, request) = permitted(&self.gateway, request).await?;
        reply(self.effective(request).await)
    }

    async fn set_vhost_limits(
        &self,
        request: Request<pb::SetVhostLimitsRequest>,
    ) -> Result<Response<pb::SetVhostLimitsResponse>, Status> {
        let change = Operation::ChangeVhosts;
        let (_, request) = permitted_to(&self.gateway, request, change).await?;
        reply(self.set_limits(request).await)
    }

    async fn get_vhost_limits(
        &self,
        request: Request<pb::GetVhostLimitsRequest>,
    ) -> Result<Response<pb::GetVhostLimitsResponse>, Status> {
        let (_, request) = permitted(&self.gateway, request).await?;
        reply(self.get_limits(request).await)
    }
}
