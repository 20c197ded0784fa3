//! Commands of policies. Not here: other commands (`samples`).

use warren_topology::{ApplyTo, DeletePolicy, PolicyKind, SetPolicy, TopologyCommand, Vhost};
use warren_types::Table;

pub(super) fn policies() -> Vec<(&'static str, TopologyCommand)> {
    let set = SetPolicy {
        vhost: Vhost::ROOT,
        kind: PolicyKind::Operator,
        name: "limits".into(),
        pattern: "^(?!amq\\.)o".into(),
        apply_to: ApplyTo::QuorumQueues,
        priority: -3,
        definition: Table::new().with("max-length", 7_i64),
    };
    let delete = DeletePolicy {
        vhost: Vhost::ROOT,
        kind: PolicyKind::User,
        name: "none".into(),
    };
    vec![
        ("set_policy", TopologyCommand::SetPolicy(set)),
        ("delete_policy", TopologyCommand::DeletePolicy(delete)),
    ]
}
