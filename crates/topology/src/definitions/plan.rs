//! From objects of the document to commands, each with a label to tell it by. Pure. Not here: users, whose passwords may have to be
//! hashed (`users`); running the commands (`import`).

use serde_json::Value as Json;
use warren_types::{ExchangeName, QueueName, RoutingKey, Table, UserName, VhostId, VhostName};

use super::document::{
    Binding, Document, Exchange, GlobalParameter, Parameter, Permission, PolicyRule, Queue,
    TopicPermission, Vhost,
};
use super::json::table_of;
use super::report::Report;
use crate::arguments;
use crate::command::{
    Bind, BindTo, CreateVhost, DeclareExchange, DeclareQueue, NewQueueName, SetParameter,
    SetPermission, SetTopicPermission, SetVhostLimits, TopologyCommand, UpdateVhost,
};
use crate::exchange::ExchangeKind;
use crate::parameter::ParameterKey;
use crate::pattern::Pattern;
use crate::permission::TopicPattern;
use crate::policy::PolicyKind;
use crate::queue::QueueType;
use crate::topology::Topology;
use crate::vhost::VhostLimits;

const QUEUE_TYPE: &str = "x-queue-type";
/// Parameters that RabbitMQ keeps what is no parameter in.
const VHOST_LIMITS: &str = "vhost-limits";
const OPERATOR_POLICY: &str = "operator_policy";

/// A command, and what to call its object.
#[derive(Clone, Debug)]
pub struct Item {
    pub label: String,
    pub command: TopologyCommand,
}

/// What of a document is declared together. Each needs those before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Section {
    Vhosts,
    Users,
    Permissions,
    Parameters,
    Policies,
    Exchanges,
    Queues,
    Bindings,
}

impl Section {
    /// In the order in which they are declared.
    pub const ALL: [Self; 8] = [
        Self::Vhosts,
        Self::Users,
        Self::Permissions,
        Self::Parameters,
        Self::Policies,
        Self::Exchanges,
        Self::Queues,
        Self::Bindings,
    ];
}

impl Document {
    /// The commands of a section that are not done yet, for the topology as the sections before have left it; of one vhost only, if
    /// `only` is given.
    pub fn plan(
        &self,
        section: Section,
        topology: &Topology,
        only: Option<&VhostName>,
        report: &mut Report,
    ) -> Vec<Item> {
        let is_whole = only.is_none();
        let mut planner = Planner {
            topology,
            only,
            report,
            items: Vec::new(),
        };
        match section {
            Section::Vhosts => {
                planner.left_alone(self);
                if is_whole {
                    planner.vhosts(self.vhosts.as_deref().unwrap_or_default());
                }
            }
            Section::Users if is_whole => planner.users(self.users.as_deref().unwrap_or_default()),
            Section::Permissions if is_whole => {
                planner.permissions(self.permissions.as_deref().unwrap_or_default());
                planner.topic_permissions(self.topic_permissions.as_deref().unwrap_or_default());
            }
            Section::Users | Section::Permissions => {}
            Section::Parameters => {
                if is_whole {
                    let globals = self.global_parameters.as_deref().unwrap_or_default();
                    planner.global_parameters(globals);
                }
                planner.parameters(&self.parameters);
            }
            Section::Policies => planner.policies(&self.policies),
            Section::Exchanges => planner.exchanges(&self.exchanges),
            Section::Queues => planner.queues(&self.queues),
            Section::Bindings => planner.bindings(&self.bindings),
        }
        planner.items
    }
}

/// Makes the commands of one section after the other.
pub(super) struct Planner<'a> {
    /// As the sections before have left it.
    pub(super) topology: &'a Topology,
    /// All objects of the document are of this vhost.
    pub(super) only: Option<&'a VhostName>,
    pub(super) report: &'a mut Report,
    pub(super) items: Vec<Item>,
}

pub(super) type Planned<T> = Result<T, String>;

pub(super) fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Planner<'_> {
    pub(super) fn add(&mut self, label: String, command: Planned<Option<TopologyCommand>>) {
        match command {
            Ok(Some(command)) => self.items.push(Item { label, command }),
            Ok(None) => self.report.count(false),
            Err(why) => self.report.refuse(&label, why),
        }
    }

    fn vhost_name(&self, named: Option<&String>) -> Planned<VhostName> {
        match (self.only, named) {
            (Some(only), _) => Ok(only.clone()),
            (None, Some(name)) => VhostName::try_from(name.as_str()).map_err(said),
            (None, None) => Err("it names no vhost".to_owned()),
        }
    }

    pub(super) fn vhost(&self, named: Option<&String>) -> Planned<VhostId> {
        let name = self.vhost_name(named)?;
        let found = self.topology.vhost(name.as_str());
        found
            .map(|it| it.id)
            .ok_or_else(|| format!("vhost '{name}' not found"))
    }

    /// What to call an object of a vhost.
    pub(super) fn label(&self, kind: &str, name: &str, vhost: Option<&String>) -> String {
        let vhost = self
            .only
            .map_or_else(|| vhost.map_or("?", String::as_str), VhostName::as_str);
        format!("{kind} '{name}' in vhost '{vhost}'")
    }

    pub(super) fn vhosts(&mut self, vhosts: &[Vhost]) {
        for it in vhosts {
            let command = self.vhost_command(it);
            self.add(format!("vhost '{}'", it.name), command);
        }
    }

    fn vhost_command(&mut self, it: &Vhost) -> Planned<Option<TopologyCommand>> {
        let name = VhostName::try_from(it.name.as_str()).map_err(said)?;
        let there = self.topology.vhost(name.as_str());
        let mut settings = there.map(|it| it.settings.clone()).unwrap_or_default();
        let more = &it.metadata;
        if let Some(description) = it.description.as_ref().or(more.description.as_ref()) {
            settings.description = description.as_str().into();
        }
        if let Some(tags) = it.tags.as_ref().or(more.tags.as_ref()) {
            settings.tags = tags.iter().map(|tag| tag.as_str().into()).collect();
        }
        let protected = it.protected_from_deletion.or(more.protected_from_deletion);
        settings.is_protected = protected.unwrap_or(settings.is_protected);
        let relaxed = more.relaxed_queue_type;
        settings.relaxed_queue_type = relaxed.unwrap_or(settings.relaxed_queue_type);
        let ignores = more.ignores_delays;
        settings.ignores_delays = ignores.unwrap_or(settings.ignores_delays);
        let live = more.live_prefetch;
        settings.live_prefetch = live.unwrap_or(settings.live_prefetch);
        let default = it.default_queue_type.as_ref();
        match default
            .or(more.default_queue_type.as_ref())
            .map(String::as_str)
        {
            None => {}
            Some("" | "undefined") => settings.default_queue_type = None,
            Some(default) => {
                let found = QueueType::ALL.into_iter().find(|it| it.name() == default);
                if found.is_none() {
                    let text = format!(
                        "vhost '{name}': queues of the type '{default}' are not available: its default is left alone"
                    );
                    self.report.warn(text);
                }
                settings.default_queue_type = found.or(settings.default_queue_type);
            }
        }
        Ok(Some(match there {
            Some(_) => UpdateVhost { name, settings }.into(),
            None => CreateVhost { name, settings }.into(),
        }))
    }

    pub(super) fn permissions(&mut self, permissions: &[Permission]) {
        for it in permissions {
            let label = format!("permission of user '{}' in vhost '{}'", it.user, it.vhost);
            self.add(label, permission_command(it).map(Some));
        }
    }

    pub(super) fn topic_permissions(&mut self, permissions: &[TopicPermission]) {
        for it in permissions {
            let label = format!(
                "topic permission of user '{}' on exchange '{}' in vhost '{}'",
                it.user, it.exchange, it.vhost
            );
            self.add(label, topic_permission_command(it).map(Some));
        }
    }

    pub(super) fn global_parameters(&mut self, parameters: &[GlobalParameter]) {
        for it in parameters {
            let label = format!("global parameter '{}'", it.name);
            let command = parameter_command(None, "", &it.name, &it.value);
            if command.is_ok() {
                self.report.warn(format!("{label}: kept, without effect"));
            }
            self.add(label, command.map(Some));
        }
    }

    pub(super) fn parameters(&mut self, parameters: &[Parameter]) {
        for it in parameters {
            let (label, command) = match it.component.as_str() {
                VHOST_LIMITS => {
                    let label = self.label("limits", &it.name, it.vhost.as_ref());
                    (label, self.limits_command(it).map(Some))
                }
                OPERATOR_POLICY => {
                    let label = self.label("operator policy", &it.name, it.vhost.as_ref());
                    let rule = serde_json::from_value::<PolicyRule>(it.value.clone());
                    let command = rule.map_err(said).and_then(|rule| {
                        let kind = PolicyKind::Operator;
                        self.policy_command(kind, &it.name, &rule, it.vhost.as_ref())
                    });
                    (label, command)
                }
                component => {
                    let kind = format!("parameter {component}");
                    let label = self.label(&kind, &it.name, it.vhost.as_ref());
                    let vhost = self.vhost_name(it.vhost.as_ref());
                    let command = vhost.and_then(|vhost| {
                        parameter_command(Some(vhost), component, &it.name, &it.value)
                    });
                    if command.is_ok() {
                        self.report.warn(format!("{label}: kept, without effect"));
                    }
                    (label, command.map(Some))
                }
            };
            self.add(label, command);
        }
    }

    fn limits_command(&mut self, it: &Parameter) -> Planned<TopologyCommand> {
        let name = self.vhost_name(it.vhost.as_ref())?;
        let there = self.topology.vhost(name.as_str());
        let mut limits = VhostLimits {
            publishes_per_second: there.and_then(|it| it.limits.publishes_per_second),
            bytes: there.and_then(|it| it.limits.bytes),
            ..VhostLimits::default()
        };
        let values = it.value.as_object().ok_or("its value is no object")?;
        for (limit, value) in values {
            let value = limit_of(value)?;
            match limit.as_str() {
                "max-connections" => limits.connections = value,
                "max-queues" => limits.queues = value,
                "max-exchanges" => limits.exchanges = value,
                other => self.report.warn(format!(
                    "limits in vhost '{name}': '{other}' is not known: left out"
                )),
            }
        }
        Ok(SetVhostLimits { name, limits }.into())
    }

    pub(super) fn exchanges(&mut self, exchanges: &[Exchange]) {
        for it in exchanges {
            let label = self.label("exchange", &it.name, it.vhost.as_ref());
            let command = self.exchange_command(it);
            self.add(label, command.map(Some));
        }
    }

    fn exchange_command(&self, it: &Exchange) -> Planned<TopologyCommand> {
        Ok(TopologyCommand::DeclareExchange(DeclareExchange {
            vhost: self.vhost(it.vhost.as_ref())?,
            name: ExchangeName::try_from(it.name.as_str()).map_err(said)?,
            kind: ExchangeKind::try_from(it.kind.as_str()).map_err(said)?,
            durable: it.durable,
            auto_delete: it.auto_delete,
            internal: it.internal,
            arguments: table_of(&it.arguments).map_err(said)?,
        }))
    }

    pub(super) fn queues(&mut self, queues: &[Queue]) {
        for it in queues {
            let label = self.label("queue", &it.name, it.vhost.as_ref());
            let command = self.queue_command(it);
            if let Ok(command) = &command {
                self.warn_of_arguments(&label, &command.arguments);
            }
            let command = command.map(|it| Some(TopologyCommand::DeclareQueue(it)));
            self.add(label, command);
        }
    }

    fn queue_command(&self, it: &Queue) -> Planned<DeclareQueue> {
        let mut arguments = table_of(&it.arguments).map_err(said)?;
        if let (None, Some(queue_type)) = (arguments.get(QUEUE_TYPE), &it.queue_type) {
            arguments
                .insert(QUEUE_TYPE, queue_type.as_str())
                .map_err(said)?;
        }
        Ok(DeclareQueue {
            vhost: self.vhost(it.vhost.as_ref())?,
            name: NewQueueName::Named(QueueName::try_from(it.name.as_str()).map_err(said)?),
            durable: it.durable,
            auto_delete: it.auto_delete,
            exclusive: false,
            arguments,
            requester: None,
        })
    }

    fn warn_of_arguments(&mut self, label: &str, arguments: &Table) {
        for (name, _) in arguments.iter() {
            let is_known = arguments::QUEUE.iter().any(|(known, _)| *known == name);
            if !is_known {
                let text = format!("{label}: the argument '{name}' is kept, without effect");
                self.report.warn(text);
            }
        }
    }

    pub(super) fn bindings(&mut self, bindings: &[Binding]) {
        for it in bindings {
            let name = format!(
                "{}' to {} '{}",
                it.source, it.destination_type, it.destination
            );
            let label = self.label("binding of exchange", &name, it.vhost.as_ref());
            let command = self.binding_command(it);
            self.add(label, command);
        }
    }

    fn binding_command(&self, it: &Binding) -> Planned<Option<TopologyCommand>> {
        // Those of the default exchange are there by themselves.
        if it.source.is_empty() {
            return Ok(None);
        }
        let destination = it.destination.as_str();
        let to = match it.destination_type.as_str() {
            "queue" => BindTo::Queue(QueueName::try_from(destination).map_err(said)?),
            "exchange" => BindTo::Exchange(ExchangeName::try_from(destination).map_err(said)?),
            other => {
                return Err(format!("a destination of the type '{other}' is not known"));
            }
        };
        Ok(Some(TopologyCommand::Bind(Bind {
            vhost: self.vhost(it.vhost.as_ref())?,
            source: ExchangeName::try_from(it.source.as_str()).map_err(said)?,
            to,
            routing_key: RoutingKey::try_from(it.routing_key.as_str()).map_err(said)?,
            arguments: table_of(&it.arguments).map_err(said)?,
            requester: None,
        })))
    }

    /// What of the document is left alone in an import into one vhost, and what is not known at all.
    pub(super) fn left_alone(&mut self, document: &Document) {
        for section in document.unknown() {
            let text = format!("section '{section}' is not known: left out");
            self.report.warn(text);
        }
        if self.only.is_none() {
            return;
        }
        let sections = [
            ("users", document.users.is_some()),
            ("vhosts", document.vhosts.is_some()),
            ("permissions", document.permissions.is_some()),
            ("topic_permissions", document.topic_permissions.is_some()),
            ("global_parameters", document.global_parameters.is_some()),
        ];
        for (section, _) in sections.into_iter().filter(|it| it.1) {
            let text = format!("section '{section}' is left out: only one vhost is imported");
            self.report.warn(text);
        }
    }
}

fn pattern<E: std::fmt::Display>(right: &str, checked: Result<(), E>) -> Planned<()> {
    checked.map_err(|why| format!("{right}: {why}"))
}

fn permission_command(it: &Permission) -> Planned<TopologyCommand> {
    pattern("configure", Pattern::check(&it.configure))?;
    pattern("write", Pattern::check(&it.write))?;
    pattern("read", Pattern::check(&it.read))?;
    Ok(SetPermission {
        user: UserName::try_from(it.user.as_str()).map_err(said)?,
        vhost: VhostName::try_from(it.vhost.as_str()).map_err(said)?,
        configure: it.configure.as_str().into(),
        write: it.write.as_str().into(),
        read: it.read.as_str().into(),
    }
    .into())
}

fn topic_permission_command(it: &TopicPermission) -> Planned<TopologyCommand> {
    pattern("write", TopicPattern::check(&it.write))?;
    pattern("read", TopicPattern::check(&it.read))?;
    Ok(SetTopicPermission {
        user: UserName::try_from(it.user.as_str()).map_err(said)?,
        vhost: VhostName::try_from(it.vhost.as_str()).map_err(said)?,
        exchange: ExchangeName::try_from(it.exchange.as_str()).map_err(said)?,
        write: it.write.as_str().into(),
        read: it.read.as_str().into(),
    }
    .into())
}

fn parameter_command(
    vhost: Option<VhostName>,
    component: &str,
    name: &str,
    value: &Json,
) -> Planned<TopologyCommand> {
    if component.len() > ParameterKey::BYTES_MAX || name.len() > ParameterKey::BYTES_MAX {
        return Err(format!(
            "its name has more than {} bytes",
            ParameterKey::BYTES_MAX
        ));
    }
    Ok(SetParameter {
        vhost,
        component: component.into(),
        name: name.into(),
        value: value.to_string().into(),
    }
    .into())
}

/// Of users and vhosts: a negative one is none.
pub(super) fn limit_of(value: &Json) -> Planned<Option<u32>> {
    let whole = value.as_i64().ok_or("a limit is no whole number")?;
    if whole < 0 {
        return Ok(None);
    }
    u32::try_from(whole).map(Some).map_err(said)
}
