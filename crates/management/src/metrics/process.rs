//! Families of the process, its disk and its log. Not here: what clients and replicas do (`broker`).

use super::flag;
use crate::figures::ProcessFigures;
use crate::overview::Overview;
use crate::page::{FamilyKind, MetricsPage};

pub(super) fn put(page: &mut MetricsPage, overview: &Overview) {
    identity(page, overview);
    let figures = overview.figures();
    let alarms = figures.alarms;
    page.gauge(
        "rabbitmq_alarms_memory_used_watermark",
        "1 while publishers are held back for lack of memory.",
        flag(alarms.memory),
    );
    page.gauge(
        "rabbitmq_alarms_free_disk_space_watermark",
        "1 while publishers are held back for lack of disk space.",
        flag(alarms.disk),
    );
    gauges(page, &figures);
    counters(page, &figures);
}

fn gauges(page: &mut MetricsPage, figures: &ProcessFigures) {
    let gauges = [
        (
            "rabbitmq_process_resident_memory_bytes",
            "Resident memory of the process.",
            figures.resident_bytes,
        ),
        (
            "process_resident_memory_bytes",
            "Resident memory of the process.",
            figures.resident_bytes,
        ),
        (
            "warren_memory_available_bytes",
            "What the container or the machine gives to this process.",
            figures.memory_bytes,
        ),
        (
            "rabbitmq_resident_memory_limit_bytes",
            "Above it publishers are held back.",
            figures.memory_watermark_bytes,
        ),
        (
            "rabbitmq_disk_space_available_bytes",
            "Free space where the data is.",
            figures.disk_free_bytes,
        ),
        (
            "rabbitmq_disk_space_available_limit_bytes",
            "Below it publishers are held back.",
            figures.disk_watermark_bytes,
        ),
        (
            "rabbitmq_process_open_fds",
            "Open file descriptors.",
            figures.fds_open,
        ),
        (
            "rabbitmq_process_max_fds",
            "Most file descriptors the process may have.",
            figures.fds_max,
        ),
    ];
    for (name, help, value) in gauges {
        if let Some(value) = value {
            page.gauge(name, help, value);
        }
    }
}

fn counters(page: &mut MetricsPage, figures: &ProcessFigures) {
    if let Some(cpu) = figures.cpu {
        let seconds = cpu.as_secs_f64();
        page.counter(
            "process_cpu_seconds_total",
            "User and system time.",
            seconds,
        );
    }
    let counters = [
        (
            "warren_log_syncs_total",
            "Syncs of the log, for all groups together.",
            figures.log_syncs,
        ),
        (
            "warren_log_batches_total",
            "Batches written to the log.",
            figures.log_batches,
        ),
        (
            "warren_log_records_total",
            "Entries written to the log; by syncs: entries that shared one.",
            figures.log_records,
        ),
        (
            "warren_log_written_bytes_total",
            "Bytes of those batches.",
            figures.log_bytes,
        ),
        (
            "warren_log_scrubbed_bytes_total",
            "Bytes of the log that were read and checked in the background.",
            figures.log_scrubbed_bytes,
        ),
        (
            "warren_log_damage_found_total",
            "Files of the log that were found damaged since the start.",
            figures.log_damage_found,
        ),
    ];
    for (name, help, value) in counters {
        page.counter(name, help, value);
    }
    page.gauge(
        "warren_log_damaged_files",
        "Those of them that are there still.",
        figures.log_damaged_files,
    );
}

fn identity(page: &mut MetricsPage, overview: &Overview) {
    let facts = overview.facts();
    page.family(
        "rabbitmq_build_info",
        FamilyKind::Gauge,
        "The software; the name is what dashboards for RabbitMQ look for.",
    )
    .labelled(
        &[
            ("product_name", &"Warren"),
            ("product_version", &facts.version),
            ("rabbitmq_version", &facts.version),
        ],
        1,
    );
    let topology = overview
        .gateway()
        .map(|gateway| gateway.broker().topology().current());
    let cluster = topology.as_ref().and_then(|it| it.cluster());
    let name = cluster.map(|it| it.name.to_string()).unwrap_or_default();
    let id = cluster.map(|it| it.id.to_string()).unwrap_or_default();
    page.family(
        "rabbitmq_identity_info",
        FamilyKind::Gauge,
        "Which node of which cluster this is.",
    )
    .labelled(
        &[
            ("rabbitmq_node", &format_args!("warren@{}", facts.node)),
            ("rabbitmq_cluster", &name),
            ("rabbitmq_cluster_permanent_id", &id),
        ],
        1,
    );
    page.gauge(
        "process_start_time_seconds",
        "When the process started, since the epoch.",
        overview.started().as_secs_f64(),
    );
    page.gauge(
        "warren_node_ready",
        "1 while /readyz says yes.",
        flag(overview.ready().is_ok()),
    );
}
