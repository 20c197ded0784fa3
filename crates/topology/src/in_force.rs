//! Which policies hold for a queue or exchange, and what that makes of its arguments (features B41, B61, B64, B65). Kept ready: a
//! declare or a change of a policy pays, not who asks. Not here: reading the result as values (`settings`).

use std::sync::Arc;

use warren_types::{
    ExchangeId, ExchangeName, QueueId, QueueName, Table, TopologyIndex, Value, VhostId,
};

use crate::{
    arguments::{DEAD_LETTER_EXCHANGE, DEAD_LETTER_QUEUE},
    command::DeclareQueue,
    exchange::{ALTERNATE_EXCHANGE, Exchange},
    maps::OrdMap,
    pattern::Pattern,
    policy::{Policy, PolicyKind, queue_argument},
    queue::{Queue, QueueType},
    topology::Topology,
};

/// By a policy, queues of clients that go with them have no dead-letter queue that stays.
const DEAD_LETTER_QUEUE_KEY: &str = "dead-letter-queue";
const DEAD_LETTER_EXCHANGE_KEYS: [&str; 2] = ["dead-letter-exchange", "dead-letter-routing-key"];

/// A policy with its compiled pattern.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) policy: Policy,
    pub(crate) pattern: Pattern,
}

/// By kind and name.
pub(crate) type Policies = OrdMap<(VhostId, PolicyKind, Box<str>), Arc<Kept>>;

/// The policies that hold for one object.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    user: Option<Arc<Kept>>,
    operator: Option<Arc<Kept>>,
}

/// Only objects for which a policy holds.
#[derive(Clone, Debug)]
pub(crate) struct InForce {
    queues: OrdMap<QueueId, Held>,
    exchanges: OrdMap<ExchangeId, Held>,
    /// The last change of a policy; a copy that was restored counts as changed.
    pub(crate) changed_at: TopologyIndex,
}

impl InForce {
    pub(crate) fn new() -> Self {
        Self {
            queues: OrdMap::new_sync(),
            exchanges: OrdMap::new_sync(),
            changed_at: TopologyIndex(0),
        }
    }

    pub(crate) fn forget_queue(&mut self, queue: QueueId) {
        self.queues.remove_mut(&queue);
    }

    pub(crate) fn forget_exchange(&mut self, exchange: ExchangeId) {
        self.exchanges.remove_mut(&exchange);
    }
}

/// Where a setting in force comes from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SettingSource {
    Argument,
    Policy,
    OperatorPolicy,
}

/// A setting in force, by the name of its policy key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EffectiveSetting {
    pub key: Box<str>,
    pub value: Value,
    pub source: SettingSource,
    /// The policy's name, if it comes from one.
    pub policy: Option<Box<str>>,
}

impl Topology {
    pub(crate) fn hold_for_queue(&mut self, queue: QueueId) {
        let Some(found) = self.queue_by_id(queue) else {
            return;
        };
        let (of, shard) = (found.queue_type, found.shard);
        if found.delays_for().is_some() {
            return self.touch(shard); // it is no queue of the clients'
        }
        let held = self.held(found.vhost, found.name.as_str(), |policy| {
            policy.apply_to.takes_queues(of)
        });
        match held {
            Some(held) => {
                self.in_force.queues.insert_mut(queue, held);
            }
            None => self.in_force.forget_queue(queue),
        }
        self.touch(shard);
    }

    /// And routes by the alternate exchange that holds now.
    pub(crate) fn hold_for_exchange(&mut self, exchange: ExchangeId) {
        let Some(found) = self.exchange_by_id(exchange).cloned() else {
            return;
        };
        if found.name.is_default() {
            return;
        }
        let held = self.held(found.vhost, found.name.as_str(), |policy| {
            policy.apply_to.takes_exchanges()
        });
        match held {
            Some(held) => {
                self.in_force.exchanges.insert_mut(exchange, held);
            }
            None => self.in_force.forget_exchange(exchange),
        }
        let alternate = self.alternate(&found);
        if let Some(space) = self.vhosts.get_mut(&found.vhost) {
            space.routes.set_alternate(&found.name, alternate);
        }
    }

    /// After a change of a vhost's policies.
    pub(crate) fn hold_for_all(&mut self, vhost: VhostId) {
        self.in_force.changed_at = self.index;
        let Some(space) = self.vhosts.get(&vhost) else {
            return;
        };
        let queues: Vec<QueueId> = space.queues.values().map(|it| it.id).collect();
        let exchanges: Vec<ExchangeId> = space.exchanges.values().map(|it| it.id).collect();
        for queue in queues {
            self.hold_for_queue(queue);
        }
        for exchange in exchanges {
            self.hold_for_exchange(exchange);
        }
    }

    fn held(&self, vhost: VhostId, name: &str, takes: impl Fn(&Policy) -> bool) -> Option<Held> {
        if self.policies.is_empty() {
            return None;
        }
        let best = |kind| {
            let of_kind = self.policies_of(vhost, kind);
            let hits = of_kind.filter(|it| takes(&it.policy) && it.pattern.matches(name));
            // The first of the highest ones.
            hits.fold(None::<&Arc<Kept>>, |best, it| match best {
                Some(known) if known.policy.priority >= it.policy.priority => Some(known),
                Some(_) | None => Some(it),
            })
            .cloned()
        };
        let held = Held {
            user: best(PolicyKind::User),
            operator: best(PolicyKind::Operator),
        };
        (held.user.is_some() || held.operator.is_some()).then_some(held)
    }

    pub(crate) fn policies_of(
        &self,
        vhost: VhostId,
        kind: PolicyKind,
    ) -> impl Iterator<Item = &Arc<Kept>> {
        let first: (VhostId, PolicyKind, Box<str>) = (vhost, kind, "".into());
        let all = self.policies.range(first..);
        all.take_while(move |((v, k, _), _)| *v == vhost && *k == kind)
            .map(|(_, it)| it)
    }

    /// The index of the last change of a policy: what it makes of queues that are there may differ from then on.
    #[must_use]
    pub fn policies_changed_at(&self) -> TopologyIndex {
        self.in_force.changed_at
    }

    /// A vhost's policies of one kind, by name.
    pub fn policies(&self, vhost: VhostId, kind: PolicyKind) -> impl Iterator<Item = &Policy> {
        self.policies_of(vhost, kind).map(|it| &it.policy)
    }

    #[must_use]
    pub fn policy(&self, vhost: VhostId, kind: PolicyKind, name: &str) -> Option<&Policy> {
        let kept = self.policies.get(&(vhost, kind, Box::from(name)))?;
        Some(&kept.policy)
    }

    /// Names of the user and the operator policy that hold for a queue.
    #[must_use]
    pub fn queue_policies(&self, queue: QueueId) -> (Option<&str>, Option<&str>) {
        names(self.in_force.queues.get(&queue))
    }

    /// As [`Topology::queue_policies`], for an exchange.
    #[must_use]
    pub fn exchange_policies(&self, exchange: ExchangeId) -> (Option<&str>, Option<&str>) {
        names(self.in_force.exchanges.get(&exchange))
    }

    /// How many queues and exchanges a policy holds for.
    #[must_use]
    pub fn applies_to(&self, policy: &Policy) -> u64 {
        let is_it = |held: &&Held| {
            let kept = match policy.kind {
                PolicyKind::User => &held.user,
                PolicyKind::Operator => &held.operator,
            };
            kept.as_ref()
                .is_some_and(|it| it.policy.vhost == policy.vhost && it.policy.name == policy.name)
        };
        let queues = self.in_force.queues.values().filter(is_it).count();
        let exchanges = self.in_force.exchanges.values().filter(is_it).count();
        (queues + exchanges) as u64
    }

    /// What is in force for a queue, by key, with its origin. Keys of a policy that act on no queue are not among them.
    #[must_use]
    pub fn effective_queue(&self, queue: &Queue) -> Vec<EffectiveSetting> {
        let mut settings = of_policies(self.in_force.queues.get(&queue.id));
        if queue.is_exclusive() || queue.auto_delete {
            settings.retain(|it| &*it.key != DEAD_LETTER_QUEUE_KEY);
        }
        with_arguments(settings, &queue.arguments)
    }

    /// As [`Topology::effective_queue`], for a queue that is about to be declared.
    pub(crate) fn effective_declared(
        &self,
        declare: &DeclareQueue,
        name: &QueueName,
        of: QueueType,
    ) -> Vec<EffectiveSetting> {
        let held = self.held(declare.vhost, name.as_str(), |policy| {
            policy.apply_to.takes_queues(of)
        });
        let mut settings = of_policies(held.as_ref());
        if declare.exclusive || declare.auto_delete {
            settings.retain(|it| &*it.key != DEAD_LETTER_QUEUE_KEY);
        }
        with_arguments(settings, &declare.arguments)
    }

    /// As [`Topology::effective_queue`], for an exchange.
    #[must_use]
    pub fn effective_exchange(&self, exchange: &Exchange) -> Vec<EffectiveSetting> {
        let mut settings = of_policies(self.in_force.exchanges.get(&exchange.id));
        settings.retain(|it| &*it.key == ALTERNATE_EXCHANGE);
        if let Some(value) = exchange.arguments.get(ALTERNATE_EXCHANGE) {
            merge_argument(&mut settings, ALTERNATE_EXCHANGE, value);
        }
        settings
    }

    pub(crate) fn alternate(&self, exchange: &Exchange) -> Option<ExchangeName> {
        let settings = self.effective_exchange(exchange);
        let name = settings.first()?.value.as_str()?;
        ExchangeName::try_from(name).ok()
    }

    /// A queue's arguments with what policies make of them; `None`: no policy holds for it.
    pub(crate) fn merged_arguments(&self, queue: &Queue) -> Option<Table> {
        self.in_force.queues.get(&queue.id)?;
        let mut merged = queue.arguments.clone();
        for setting in self.effective_queue(queue) {
            if let Some(argument) = queue_argument(&setting.key) {
                merged
                    .insert(argument, setting.value)
                    .expect("the names of known arguments are short");
            }
        }
        Some(merged)
    }
}

/// What policies say of a queue, and its own arguments.
fn with_arguments(mut settings: Vec<EffectiveSetting>, arguments: &Table) -> Vec<EffectiveSetting> {
    settings.retain(|it| queue_argument(&it.key).is_some());
    // One says where dead letters go; the arguments' word on that counts, whichever it is.
    if arguments.get(DEAD_LETTER_EXCHANGE).is_some() {
        settings.retain(|it| &*it.key != DEAD_LETTER_QUEUE_KEY);
    }
    if arguments.get(DEAD_LETTER_QUEUE).is_some() {
        settings.retain(|it| !DEAD_LETTER_EXCHANGE_KEYS.contains(&&*it.key));
    }
    for (argument, value) in arguments.iter() {
        let Some(key) = argument.strip_prefix("x-") else {
            continue;
        };
        if queue_argument(key).is_some() {
            merge_argument(&mut settings, key, value);
        }
    }
    settings.sort_by(|one, other| one.key.cmp(&other.key));
    settings
}

fn names(held: Option<&Held>) -> (Option<&str>, Option<&str>) {
    let Some(held) = held else {
        return (None, None);
    };
    (
        held.user.as_ref().map(|it| &*it.policy.name),
        held.operator.as_ref().map(|it| &*it.policy.name),
    )
}

/// The user's keys, then the operator's: of two numbers the lower holds, else the operator's.
fn of_policies(held: Option<&Held>) -> Vec<EffectiveSetting> {
    let Some(held) = held else {
        return Vec::new();
    };
    let mut settings: Vec<EffectiveSetting> = Vec::new();
    let sources = [
        (&held.user, SettingSource::Policy),
        (&held.operator, SettingSource::OperatorPolicy),
    ];
    for (kept, source) in sources {
        let Some(kept) = kept else { continue };
        for (key, value) in kept.policy.definition.iter() {
            let new = EffectiveSetting {
                key: key.into(),
                value: value.clone(),
                source,
                policy: Some(kept.policy.name.clone()),
            };
            match settings.iter_mut().find(|it| it.key == new.key) {
                Some(known) => {
                    if !is_lower(&known.value, &new.value) {
                        *known = new;
                    }
                }
                None => settings.push(new),
            }
        }
    }
    settings
}

/// Of an argument and a policy's number the lower holds; any other argument beats the policy.
fn merge_argument(settings: &mut Vec<EffectiveSetting>, key: &str, value: &Value) {
    let new = EffectiveSetting {
        key: key.into(),
        value: value.clone(),
        source: SettingSource::Argument,
        policy: None,
    };
    match settings.iter_mut().find(|it| &*it.key == key) {
        Some(known) if is_lower(&known.value, value) => {}
        Some(known) => *known = new,
        None => settings.push(new),
    }
}

/// Whether both are numbers and the first is lower. A negative one means "no limit" (features B48).
fn is_lower(one: &Value, other: &Value) -> bool {
    let limit = |value: &Value| {
        let number = value.as_int()?;
        Some(u64::try_from(number).unwrap_or(u64::MAX))
    };
    match (limit(one), limit(other)) {
        (Some(one), Some(other)) => one < other,
        (Some(_), None) | (None, Some(_) | None) => false,
    }
}
