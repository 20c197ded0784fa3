//! `[advertise]`: where others reach the listeners, if that differs from where they listen. Not here: listening (`listen`).

use super::Config;
use super::listen::endpoint_fault;
use super::report::Report;
use super::setting::{Kind, Setting};

/// `None`: where it listens.
#[derive(Clone, Debug, Default)]
pub struct AdvertiseConfig {
    pub grpc: Option<String>,
    pub node: Option<String>,
    pub amqp: Option<String>,
}

macro_rules! setting {
    ($key:ident, $name:literal, $about:literal) => {
        Setting {
            name: $name,
            about: $about,
            kind: Kind::Endpoint,
            set: |config, text| {
                config.advertise.$key = (!text.is_empty()).then(|| text.to_owned());
                Ok(())
            },
            show: |config| {
                config
                    .advertise
                    .$key
                    .clone()
                    .unwrap_or_else(|| "none".into())
            },
        }
    };
}

pub(super) const SETTINGS: &[Setting] = &[
    setting!(
        grpc,
        "advertise.grpc",
        "where gRPC clients reach this node [default: where it listens]"
    ),
    setting!(
        node,
        "advertise.node",
        "where other nodes reach this node [default: where it listens]"
    ),
    setting!(
        amqp,
        "advertise.amqp",
        "where AMQP clients reach this node [default: where it listens]"
    ),
];

pub(super) fn check(config: &Config, report: &mut Report) {
    let (listen, advertise) = (&config.listen, &config.advertise);
    let all = [
        (
            "advertise.grpc",
            &advertise.grpc,
            Some(listen.grpc),
            "listen.grpc",
        ),
        (
            "advertise.node",
            &advertise.node,
            Some(listen.node),
            "listen.node",
        ),
        (
            "advertise.amqp",
            &advertise.amqp,
            listen.amqp,
            "listen.amqp",
        ),
    ];
    for (name, given, listens, at) in all {
        match (given, listens) {
            (Some(given), _) => {
                if let Some(fault) = endpoint_fault(given) {
                    report.wrong(
                        name,
                        format!("{given:?} {fault}: it is {}", Kind::Endpoint.expected()),
                    );
                }
            }
            (None, Some(listens)) if listens.ip().is_unspecified() => {
                let why = format!(
                    "is missing: {at} is {listens}, which nobody can be told to connect to"
                );
                report.wrong(name, why);
            }
            (None, _) => {}
        }
    }
}
