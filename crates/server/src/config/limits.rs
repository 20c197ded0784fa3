//! `[limits]`: what clients may ask for, and when publishers are held back. Not here: holding them to it (`gateway`).

use std::time::Duration;

use warren_types::{Level, Watermarks};

use super::Config;
use super::level::{level, show_level};
use super::report::Report;
use super::setting::{Kind, Setting, whole};
use super::units::{duration, show_duration, show_size, size};

#[derive(Clone, Debug)]
pub struct LimitsConfig {
    /// Body and properties of one message.
    pub max_message_size: u64,
    /// Publishes that clients of this node have not had confirmed yet.
    pub admission_bytes: u64,
    /// Above so much resident memory publishers are held back; shares are of the container's limit, else of the machine.
    pub memory_watermark: Level,
    /// Below so much free disk publishers are held back; shares are of the file system.
    pub disk_free_min: Level,
    /// Connections of gRPC clients; those of AMQP are in `[amqp]`.
    pub grpc_connection_max: u32,
    /// How long a consumer may hold a delivery where neither it nor its queue says anything.
    pub consumer_timeout: Option<Duration>,
    /// Queues that the cluster may have when a client of this node declares one more.
    pub cluster_queue_max: Option<u64>,
    /// Exchanges, without those that every vhost has.
    pub cluster_exchange_max: Option<u64>,
    pub vhost_max: Option<u64>,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        let watermarks = Watermarks::default();
        Self {
            max_message_size: 16 << 20,
            admission_bytes: 128 << 20,
            memory_watermark: watermarks.memory,
            disk_free_min: watermarks.disk_free,
            grpc_connection_max: 20_000,
            consumer_timeout: None,
            cluster_queue_max: None,
            cluster_exchange_max: None,
            vhost_max: None,
        }
    }
}

macro_rules! setting {
    ($key:ident, $kind:ident, $read:ident, $show:expr, $about:literal) => {
        Setting {
            name: concat!("limits.", stringify!($key)),
            about: $about,
            kind: Kind::$kind,
            set: |config, text| {
                config.limits.$key = $read(text)?;
                Ok(())
            },
            show: |config| $show(config.limits.$key),
        }
    };
}

fn show_number(number: impl std::fmt::Display) -> String {
    number.to_string()
}

pub(super) const SETTINGS: &[Setting] = &[
    setting!(
        max_message_size,
        Size,
        size,
        show_size,
        "the largest message that is taken [default: 16 MiB]"
    ),
    setting!(
        admission_bytes,
        Size,
        size,
        show_size,
        "unconfirmed publishes of all clients of this node; beyond it they wait [default: 128 MiB]"
    ),
    setting!(
        memory_watermark,
        Level,
        level,
        show_level,
        "above so much resident memory publishers are held back [default: 60%]"
    ),
    setting!(
        disk_free_min,
        Level,
        level,
        show_level,
        "below so much free disk publishers are held back [default: 2 GiB, 5%]"
    ),
    setting!(
        grpc_connection_max,
        Whole,
        whole,
        show_number,
        "connections of gRPC clients; more are closed at once [default: 20000]"
    ),
    setting!(
        consumer_timeout,
        Duration,
        timeout,
        show_timeout,
        "how long a consumer may hold a delivery, if neither it nor its queue says; 0 = as long as it wants [default: 0]"
    ),
    setting!(
        cluster_queue_max,
        Whole,
        ceiling,
        show_ceiling,
        "queues that the cluster may have; a client that declares one more is refused; 0 = as many as it holds [default: 0]"
    ),
    setting!(
        cluster_exchange_max,
        Whole,
        ceiling,
        show_ceiling,
        "exchanges that the cluster may have beside those of every vhost; 0 = as many as it holds [default: 0]"
    ),
    setting!(
        vhost_max,
        Whole,
        ceiling,
        show_ceiling,
        "vhosts that the cluster may have; 0 = as many as it holds [default: 0]"
    ),
];

/// Zero = none.
fn timeout(text: &str) -> Result<Option<Duration>, Option<String>> {
    duration(text).map(|it| Some(it).filter(|it| !it.is_zero()))
}

fn show_timeout(timeout: Option<Duration>) -> String {
    show_duration(timeout.unwrap_or_default())
}

/// Zero = none.
fn ceiling(text: &str) -> Result<Option<u64>, Option<String>> {
    whole(text).map(|it| Some(it).filter(|it| *it > 0))
}

fn show_ceiling(ceiling: Option<u64>) -> String {
    ceiling.unwrap_or(0).to_string()
}

/// One message must fit into one frame between nodes.
const MESSAGE_MAX: u64 = 128 << 20;
const MESSAGE_MIN: u64 = 1 << 10;
const CONNECTIONS_MAX: u32 = 1_000_000;
/// A shorter one would return what a busy consumer is about to settle.
const TIMEOUT_MIN: Duration = Duration::from_secs(1);
const TIMEOUT_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

pub(super) fn check(config: &Config, report: &mut Report) {
    let limits = &config.limits;
    if !(MESSAGE_MIN..=MESSAGE_MAX).contains(&limits.max_message_size) {
        let (min, max) = (show_size(MESSAGE_MIN), show_size(MESSAGE_MAX));
        let found = show_size(limits.max_message_size);
        report.wrong(
            "limits.max_message_size",
            format!("is {found}; allowed are {min} to {max}"),
        );
    }
    if limits.admission_bytes < limits.max_message_size {
        report.wrong(
            "limits.admission_bytes",
            "is less than limits.max_message_size: such a message would never be taken",
        );
    }
    let Level { bytes, percent } = limits.memory_watermark;
    if percent == 0 && bytes < Watermarks::MEMORY_MIN {
        let (found, min) = (show_size(bytes), show_size(Watermarks::MEMORY_MIN));
        report.wrong(
            "limits.memory_watermark",
            format!("is {found}, less than an idle node may take: it needs at least {min}"),
        );
    }
    let timeout = limits.consumer_timeout;
    if timeout.is_some_and(|it| !(TIMEOUT_MIN..=TIMEOUT_MAX).contains(&it)) {
        let (min, max) = (show_duration(TIMEOUT_MIN), show_duration(TIMEOUT_MAX));
        let found = show_timeout(timeout);
        report.wrong(
            "limits.consumer_timeout",
            format!("is {found}; allowed are 0 (none) and {min} to {max}"),
        );
    }
    if !(1..=CONNECTIONS_MAX).contains(&limits.grpc_connection_max) {
        let found = limits.grpc_connection_max;
        report.wrong(
            "limits.grpc_connection_max",
            format!("is {found}; allowed are 1 to {CONNECTIONS_MAX}"),
        );
    }
}
