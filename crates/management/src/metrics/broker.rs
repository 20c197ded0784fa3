//! Families of replicas, queues and clients. Not here: the process (`process`).

use std::fmt::Display;
use std::time::Duration;

use warren_gateway::{Counter, Counters, FrontCounters, Gateway};
use warren_shard::{Broker, GroupStatus, ReplicaHealth, Role};
use warren_types::NodeId;

use crate::page::{FamilyKind, MetricsPage};
use crate::totals::QueueTotals;

/// A follower whose last acknowledgement is older does not count as a copy.
const COPY_WITHIN: Duration = Duration::from_secs(5);

pub(super) fn groups(page: &mut MetricsPage, gateway: &Gateway) {
    let broker = gateway.broker();
    let (groups, own) = (broker.status(), broker.node());
    let count = |is: &dyn Fn(&GroupStatus) -> bool| groups.iter().filter(|it| is(it)).count();
    page.gauge(
        "warren_shard_replicas",
        "Replicas of this node.",
        groups.len(),
    );
    page.gauge(
        "warren_shard_leaders",
        "Groups that this node leads.",
        count(&|it| leads(it, own)),
    );
    page.gauge(
        "warren_shards_without_leader",
        "Replicas of this node that know no leader.",
        count(&|it| it.leadership.leader.is_none()),
    );
    page.gauge(
        "warren_shards_under_replicated",
        "Groups led here with a voter that has not acknowledged anything for five seconds.",
        count(&|it| leads(it, own) && is_under_replicated(it)),
    );
    page.gauge(
        "warren_shard_replicas_failed",
        "Replicas of this node that failed too often and stay down, or were found wrong and are set aside.",
        count(&|it| matches!(it.health, ReplicaHealth::Failed { .. })) + broker.set_aside().len(),
    );
    page.counter(
        "warren_snapshots_refused_total",
        "Copies of a replica's rows that did not match their checksums when they came here; each was sent again.",
        broker.snapshots_refused(),
    );
    audits(page, broker);
    per_group(page, &groups, own);
}

fn audits(page: &mut MetricsPage, broker: &Broker) {
    let mut views = broker.audits();
    views.extend(broker.topology_audit());
    page.counter(
        "warren_shard_audits_total",
        "Times a part of a replica's rows was read, checked and compared with the other replicas'.",
        broker.audit_count(),
    );
    page.gauge(
        "warren_shards_in_doubt",
        "Replicas of this node whose rows differ from others', where it is not known which are right.",
        views.iter().filter(|it| it.in_doubt).count(),
    );
    let mut family = page.family(
        "warren_shard_audit_seconds_since_clean",
        FamilyKind::Gauge,
        "Since all rows of this replica were last seen to be those of most replicas; at first, since it was opened.",
    );
    for view in views {
        family.labelled(&[("shard", &view.shard)], view.since_clean.as_secs());
    }
}

fn leads(group: &GroupStatus, node: NodeId) -> bool {
    group.role == Role::Leader && group.leadership.leader.is_some_and(|it| it.node == node)
}

fn is_under_replicated(group: &GroupStatus) -> bool {
    let fresh = group
        .followers
        .iter()
        .filter(|it| it.acked.is_some_and(|at| at.elapsed() < COPY_WITHIN))
        .count();
    fresh + 1 < group.voters.len()
}

fn per_group(page: &mut MetricsPage, groups: &[GroupStatus], own: NodeId) {
    type Read = fn(&GroupStatus) -> u64;
    let families: [(&str, &str, Read); 5] = [
        (
            "rabbitmq_raft_term",
            "The term this replica knows; shard 0 is the topology.",
            |it| it.leadership.term.0,
        ),
        (
            "rabbitmq_raft_last_written_index",
            "Last entry in this replica's log.",
            |it| it.last_log.map_or(0, |it| it.0),
        ),
        (
            "rabbitmq_raft_commit_index",
            "Last entry this replica knows to be committed.",
            |it| it.committed.max(it.heard_commit).map_or(0, |it| it.0),
        ),
        (
            "rabbitmq_raft_last_applied",
            "Last entry this replica has applied.",
            |it| it.applied.map_or(0, |it| it.0),
        ),
        (
            "warren_raft_waiting_commands",
            "Commands taken and not applied yet.",
            |it| u64::try_from(it.waiting).unwrap_or(u64::MAX),
        ),
    ];
    for (name, help, read) in families {
        let mut family = page.family(name, FamilyKind::Gauge, help);
        for group in groups {
            family.labelled(&[("shard", &group.group)], read(group));
        }
    }
    let mut family = page.family(
        "warren_raft_leader",
        FamilyKind::Gauge,
        "1 where this node leads.",
    );
    for group in groups {
        family.labelled(&[("shard", &group.group)], super::flag(leads(group, own)));
    }
}

pub(super) fn queues(page: &mut MetricsPage, gateway: &Gateway, totals: QueueTotals) {
    let topology = gateway.broker().topology().current();
    page.gauge(
        "warren_cluster_queues",
        "Queues of the whole cluster, as this node knows.",
        topology.queue_count(),
    );
    page.gauge(
        "rabbitmq_queues",
        "Queues that this node leads.",
        totals.queues,
    );
    let Some(sums) = totals.sums else { return };
    let gauges = [
        (
            "rabbitmq_queue_messages",
            "Messages in the queues that this node leads.",
            sums.ready + sums.unacked,
        ),
        (
            "rabbitmq_queue_messages_ready",
            "Of these, ready to be delivered.",
            sums.ready,
        ),
        (
            "rabbitmq_queue_messages_unacked",
            "Of these, delivered and not settled.",
            sums.unacked,
        ),
        (
            "rabbitmq_queue_messages_bytes",
            "Bytes of their bodies.",
            sums.body_bytes,
        ),
        (
            "rabbitmq_queue_consumers",
            "Consumers of the queues that this node leads.",
            sums.consumers,
        ),
        (
            "warren_queue_enqueued_messages",
            "Messages ever stored in the queues that this node leads; falls when a leader leaves.",
            sums.enqueued,
        ),
        (
            "warren_queue_settled_messages",
            "Messages that have ever left them.",
            sums.settled,
        ),
    ];
    for (name, help, value) in gauges {
        page.gauge(name, help, value);
    }
}

pub(super) fn clients(page: &mut MetricsPage, counters: &Counters) {
    let fronts: [(&str, &FrontCounters); 2] =
        [("amqp091", &counters.amqp), ("grpc", &counters.grpc)];
    let open = |it: &FrontCounters| {
        it.connections_opened
            .get()
            .saturating_sub(it.connections_closed.get())
    };
    let all: u64 = fronts.iter().map(|(_, it)| open(it)).sum();
    page.gauge("rabbitmq_connections", "Open client connections.", all);
    let mut family = page.family(
        "warren_connections",
        FamilyKind::Gauge,
        "Open client connections by protocol.",
    );
    for (protocol, front) in fronts {
        family.labelled(&[("protocol", &protocol)], open(front));
    }
    let sum = |read: fn(&FrontCounters) -> &Counter| -> u64 {
        fronts.iter().map(|(_, it)| read(it).get()).sum()
    };
    page.counter(
        "rabbitmq_connections_opened_total",
        "Client connections accepted.",
        sum(|it| &it.connections_opened),
    );
    page.counter(
        "rabbitmq_connections_closed_total",
        "Client connections ended.",
        sum(|it| &it.connections_closed),
    );
    messages(page, fronts);
    held_back(page, fronts);
}

fn messages(page: &mut MetricsPage, fronts: [(&str, &FrontCounters); 2]) {
    type Read = fn(&FrontCounters) -> &Counter;
    let families: [(&str, &str, Read); 5] = [
        (
            "rabbitmq_global_messages_received_total",
            "Messages that clients sent to be published.",
            |it| &it.received,
        ),
        (
            "rabbitmq_global_messages_routed_total",
            "Messages on their way to at least one queue.",
            |it| &it.routed,
        ),
        (
            "rabbitmq_global_messages_confirmed_total",
            "Messages on the disks of a majority, in every queue they went to.",
            |it| &it.confirmed,
        ),
        (
            "warren_messages_unroutable_total",
            "Messages that no queue takes.",
            |it| &it.unroutable,
        ),
        (
            "warren_publishes_failed_total",
            "Messages refused on their way, or with an outcome that is not known.",
            |it| &it.failed,
        ),
    ];
    for (name, help, read) in families {
        let mut family = page.family(name, FamilyKind::Counter, help);
        for (protocol, front) in fronts {
            family.labelled(&[("protocol", &protocol)], read(front).get());
        }
    }
}

fn held_back(page: &mut MetricsPage, fronts: [(&str, &FrontCounters); 2]) {
    let mut family = page.family(
        "warren_publishes_held_back_total",
        FamilyKind::Counter,
        "Publishes that were refused or let wait, for an alarm or a limit of their vhost.",
    );
    for (protocol, front) in fronts {
        let kinds: [(&dyn Display, &Counter); 4] = [
            (&"memory", &front.held_back_by_memory),
            (&"disk", &front.held_back_by_disk),
            (&"rate", &front.held_back_by_rate),
            (&"quota", &front.held_back_by_quota),
        ];
        for (reason, counter) in kinds {
            let labels: [(&str, &dyn Display); 2] = [("protocol", &protocol), ("reason", reason)];
            family.labelled(&labels, counter.get());
        }
    }
}
