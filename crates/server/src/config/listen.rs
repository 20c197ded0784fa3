//! `[listen]`: where the node listens. Not here: what others are told (`advertise`), the sockets (`listeners`).

use std::net::{Ipv4Addr, SocketAddr};

use super::Config;
use super::report::Report;
use super::setting::{Kind, Setting};

#[derive(Clone, Debug)]
pub struct ListenConfig {
    /// Clients over gRPC.
    pub grpc: SocketAddr,
    /// Other nodes.
    pub node: SocketAddr,
    /// Clients over AMQP; `None` = not served.
    pub amqp: Option<SocketAddr>,
    /// Probes over HTTP; `None` = not served.
    pub http: Option<SocketAddr>,
    /// Metrics over HTTP; `None` = not served.
    pub metrics: Option<SocketAddr>,
}

impl Default for ListenConfig {
    fn default() -> Self {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self {
            grpc: local(7101),
            node: local(7201),
            amqp: Some(local(5672)),
            http: Some(local(15672)),
            metrics: Some(local(15692)),
        }
    }
}

macro_rules! optional {
    ($key:ident, $about:literal) => {
        Setting {
            name: concat!("listen.", stringify!($key)),
            about: $about,
            kind: Kind::Socket,
            set: |config, text| {
                let address = (!text.is_empty()).then(|| text.parse().map_err(|_| None));
                config.listen.$key = address.transpose()?;
                Ok(())
            },
            show: |config| {
                config
                    .listen
                    .$key
                    .map_or("none".into(), |address| address.to_string())
            },
        }
    };
}

pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        name: "listen.grpc",
        about: "where gRPC clients are taken [default: 127.0.0.1:7101]",
        kind: Kind::Socket,
        set: |config, text| {
            config.listen.grpc = text.parse().map_err(|_| None)?;
            Ok(())
        },
        show: |config| config.listen.grpc.to_string(),
    },
    Setting {
        name: "listen.node",
        about: "where other nodes are taken [default: 127.0.0.1:7201]",
        kind: Kind::Socket,
        set: |config, text| {
            config.listen.node = text.parse().map_err(|_| None)?;
            Ok(())
        },
        show: |config| config.listen.node.to_string(),
    },
    optional!(
        amqp,
        "where AMQP 0-9-1 clients are taken; empty = not at all [default: 127.0.0.1:5672]"
    ),
    optional!(
        http,
        "where health is asked for, without a login; empty = not at all [default: 127.0.0.1:15672]"
    ),
    optional!(
        metrics,
        "where metrics are read, without a login; empty = not at all [default: 127.0.0.1:15692]"
    ),
];

pub(super) fn check(config: &Config, report: &mut Report) {
    let listen = &config.listen;
    let all = [
        ("listen.node", Some(listen.node)),
        ("listen.grpc", Some(listen.grpc)),
        ("listen.amqp", listen.amqp),
        ("listen.http", listen.http),
        ("listen.metrics", listen.metrics),
    ];
    for (at, (name, address)) in all.iter().enumerate() {
        let earlier = all.iter().take(at).find(|(_, other)| {
            address.is_some_and(|address| address.port() != 0) && other == address
        });
        if let (Some((other, _)), Some(address)) = (earlier, address) {
            report.wrong(name, format!("{address} is {other}, too"));
        }
    }
    if config.cluster.secret.is_none() && config.cluster.secret_file.is_none() {
        if listen.node.ip().is_loopback() {
            let text =
                "there is no cluster secret: every process of this machine can pass for a node";
            report.warnings.push(text.to_owned());
        } else {
            report.wrong(
                "listen.node",
                format!(
                    "{} can be reached from outside this machine, and there is no cluster secret: set cluster.secret_file (or WARREN_CLUSTER_SECRET) or listen on 127.0.0.1",
                    listen.node
                ),
            );
        }
    }
}

/// What keeps a text from being `host:port`.
pub(super) fn endpoint_fault(text: &str) -> Option<&'static str> {
    let Some((host, port)) = text.rsplit_once(':') else {
        return Some("has no port");
    };
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c == '/') {
        return Some("has no valid host");
    }
    if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        return Some("needs brackets around an IPv6 address");
    }
    let unbound = host
        .trim_matches(['[', ']'])
        .parse()
        .is_ok_and(|address: std::net::IpAddr| address.is_unspecified());
    if unbound {
        return Some("is no address that anyone can connect to");
    }
    match port.parse::<u16>() {
        Ok(0) | Err(_) => Some("has no valid port"),
        Ok(_) => None,
    }
}
