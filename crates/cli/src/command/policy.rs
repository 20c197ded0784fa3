//! `warren policy`: set, list, delete, show what is in force.

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use warren_client::{Connection, Policy, PolicySubject, PolicyTarget};

use crate::{
    args::Global,
    arguments::{self, Argument},
    output,
    table::TextTable,
};

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Create a policy or replace the one of that name
    Set(SetArgs),
    /// List policies, users' and operators'
    List,
    /// Delete a policy; a missing one is a success
    Delete(DeleteArgs),
    /// Show what is in force on a queue or exchange, and from where
    Show(ShowArgs),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ApplyTo {
    All,
    Queues,
    ClassicQueues,
    QuorumQueues,
    Streams,
    Exchanges,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  warren policy set limits '^orders\\.' --define max-length=100000 --define overflow=reject-publish
  warren policy set cap '.*' --operator --define message-ttl=86400000
  warren policy show --queue orders.eu")]
pub(crate) struct SetArgs {
    /// Name of the policy
    name: String,
    /// Regular expression over the names it applies to
    pattern: String,
    /// Setting; may be repeated
    #[arg(long = "define", value_name = "KEY=VALUE", required = true)]
    definition: Vec<Argument>,
    /// What it applies to
    #[arg(long, value_enum, default_value = "all")]
    apply_to: ApplyTo,
    /// The highest of those that match applies
    #[arg(long, default_value_t = 0, allow_hyphen_values = true)]
    priority: i32,
    /// The operator's: merged into the users' policies, the lower limit holds
    #[arg(long)]
    operator: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Name of the policy
    name: String,
    /// The operator's
    #[arg(long)]
    operator: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct ShowArgs {
    /// A queue
    #[arg(long)]
    queue: Option<String>,
    /// An exchange
    #[arg(long)]
    exchange: Option<String>,
}

#[derive(Serialize)]
struct SetView {
    name: String,
    vhost: String,
    applies_to: u64,
}

#[derive(Serialize)]
struct Deleted {
    name: String,
    vhost: String,
}

#[derive(Serialize)]
struct PolicyView {
    name: String,
    vhost: String,
    kind: &'static str,
    pattern: String,
    apply_to: &'static str,
    priority: i32,
    definition: serde_json::Value,
}

#[derive(Serialize)]
struct SettingView {
    name: String,
    value: serde_json::Value,
    source: &'static str,
    policy: String,
}

fn target(it: ApplyTo) -> PolicyTarget {
    match it {
        ApplyTo::All => PolicyTarget::All,
        ApplyTo::Queues => PolicyTarget::Queues,
        ApplyTo::ClassicQueues => PolicyTarget::ClassicQueues,
        ApplyTo::QuorumQueues => PolicyTarget::QuorumQueues,
        ApplyTo::Streams => PolicyTarget::Streams,
        ApplyTo::Exchanges => PolicyTarget::Exchanges,
    }
}

fn target_name(it: PolicyTarget) -> &'static str {
    match it {
        PolicyTarget::All => "all",
        PolicyTarget::Queues => "queues",
        PolicyTarget::ClassicQueues => "classic_queues",
        PolicyTarget::QuorumQueues => "quorum_queues",
        PolicyTarget::Streams => "streams",
        PolicyTarget::Exchanges => "exchanges",
    }
}

pub(crate) async fn run(global: &Global, command: PolicyCommand) -> Result<()> {
    let connection = global.connect()?;
    match command {
        PolicyCommand::Set(args) => set(global, &connection, args).await,
        PolicyCommand::List => list(global, &connection).await,
        PolicyCommand::Delete(args) => {
            let vhost = &global.vhost;
            connection
                .delete_policy(vhost, &args.name, args.operator)
                .await?;
            let view = Deleted {
                name: args.name,
                vhost: vhost.clone(),
            };
            output::result(global.output, &view, |it| {
                format!("policy {} deleted", it.name)
            })
        }
        PolicyCommand::Show(args) => show(global, &connection, args).await,
    }
}

async fn set(global: &Global, connection: &Connection, args: SetArgs) -> Result<()> {
    let policy = Policy {
        vhost: global.vhost.clone(),
        name: args.name,
        pattern: args.pattern,
        apply_to: target(args.apply_to),
        priority: args.priority,
        definition: arguments::table(&args.definition)?,
        operator: args.operator,
    };
    let applies_to = connection.set_policy(&policy).await?;
    let view = SetView {
        name: policy.name,
        vhost: policy.vhost,
        applies_to,
    };
    output::result(global.output, &view, |it| {
        format!("policy {} applies to {}", it.name, it.applies_to)
    })
}

async fn list(global: &Global, connection: &Connection) -> Result<()> {
    let policies = connection.policies(&global.vhost).await?;
    let view = |it: Policy| PolicyView {
        name: it.name,
        vhost: it.vhost,
        kind: if it.operator { "operator" } else { "user" },
        pattern: it.pattern,
        apply_to: target_name(it.apply_to),
        priority: it.priority,
        definition: arguments::to_json(&it.definition),
    };
    let views: Vec<PolicyView> = policies.into_iter().map(view).collect();
    output::result(global.output, &views, |views| {
        let mut table = TextTable::new(&[
            "name",
            "kind",
            "pattern",
            "apply-to",
            "priority",
            "definition",
        ]);
        for it in views {
            table.row(vec![
                it.name.clone(),
                it.kind.to_owned(),
                it.pattern.clone(),
                it.apply_to.to_owned(),
                it.priority.to_string(),
                it.definition.to_string(),
            ]);
        }
        table.text()
    })
}

async fn show(global: &Global, connection: &Connection, args: ShowArgs) -> Result<()> {
    let subject = match (args.queue, args.exchange) {
        (Some(queue), _) => PolicySubject::Queue(queue),
        (None, exchange) => PolicySubject::Exchange(exchange.unwrap_or_default()),
    };
    let settings = connection.effective_policy(&global.vhost, &subject).await?;
    let views: Vec<SettingView> = settings
        .into_iter()
        .map(|it| SettingView {
            name: it.name,
            value: arguments::value_to_json(&it.value),
            source: it.source,
            policy: it.policy,
        })
        .collect();
    output::result(global.output, &views, |views| {
        let mut table = TextTable::new(&["setting", "value", "source", "policy"]);
        for it in views {
            table.row(vec![
                it.name.clone(),
                it.value.to_string(),
                it.source.to_owned(),
                it.policy.clone(),
            ]);
        }
        table.text()
    })
}
