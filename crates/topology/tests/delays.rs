//! Delayed exchanges: where their messages wait, and that the queue for it is nobody's (features B11). Not here: passing messages on when
//! they are due (`tests/pika/exchanges.py`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use support::*;
use warren_topology::{
    ApplyTo, ExchangeKind, PolicyKind, Published, SetPolicy, Topology, TopologyCommand,
    TopologyReply, Vhost,
};
use warren_types::{Properties, PropertiesBuilder, Table, Value};

fn done(topology: &mut Topology, command: TopologyCommand) {
    let reply = run(topology, command);
    assert!(!matches!(reply, TopologyReply::Refused(_)), "{reply:?}");
}

fn delayed(name: &str) -> TopologyCommand {
    let mut command = exchange(name, ExchangeKind::Delayed);
    command.arguments = Table::new().with("x-delayed-type", "direct");
    TopologyCommand::DeclareExchange(command)
}

/// The exchange `later` with queue `q` bound by key `k`, and where its messages wait.
fn with_delays() -> Topology {
    let mut topology = formed();
    let declare = delayed("later");
    assert_eq!(declare.delayed_exchanges().len(), 1);
    done(&mut topology, declare);
    done(&mut topology, declare_queue("q"));
    done(&mut topology, bind("later", "k", "q"));
    let queue = topology.declare_delay_queue(Vhost::ROOT, "later").unwrap();
    done(&mut topology, queue);
    assert_eq!(topology.declare_delay_queue(Vhost::ROOT, "later"), None);
    topology
}

fn with_delay(delay: impl Into<Value>) -> Properties {
    let mut headers = Table::new();
    headers.push("x-delay", delay.into()).unwrap();
    PropertiesBuilder::new().headers(&headers).build().unwrap()
}

#[test]
fn delayed_message_waits_in_a_queue_of_its_exchange_and_any_other_is_routed() {
    let topology = with_delays();
    let wait = with_delay(Value::I32(5));
    let message = |key| Published::new("later", key).with_properties(&wait);
    // Whether anything is bound is seen when it is due.
    for key in ["k", "unbound"] {
        let found = routed_as(&topology, &message(key));
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("amq.delayed-"), "{found:?}");
    }
    assert_eq!(routed_as(&topology, &message("k").from_broker()), ["q"]);
    for delay in [
        Value::I32(0),
        Value::I32(-5),
        Value::from("5"),
        Value::Bool(true),
    ] {
        let now = with_delay(delay);
        let now = Published::new("later", "k").with_properties(&now);
        assert_eq!(routed_as(&topology, &now), ["q"]);
    }
    assert_eq!(routed_as(&topology, &Published::new("later", "k")), ["q"]);
}

#[test]
fn queue_of_a_delayed_exchange_is_nobodys_and_no_policy_holds_for_it() {
    let mut topology = with_delays();
    let queue = topology.exclusive_queues().next().unwrap().clone();
    let exchange = topology.exchange(Vhost::ROOT, "later").unwrap().id;
    assert_eq!(queue.delays_for(), Some(exchange));
    assert!(!queue.is_open_to(None));
    let settings = topology.queue_settings(&queue);
    assert_eq!(settings.message_ttl_ms, Some(0));
    let policy = SetPolicy {
        vhost: Vhost::ROOT,
        kind: PolicyKind::User,
        name: "all".into(),
        pattern: ".*".into(),
        apply_to: ApplyTo::All,
        priority: 0,
        definition: Table::new().with("expires", 1_000_i64),
    };
    done(&mut topology, TopologyCommand::SetPolicy(policy));
    assert_eq!(topology.queue_settings(&queue), settings);
    let other = topology.queue(Vhost::ROOT, "q").unwrap();
    assert_eq!(topology.queue_settings(other).expires_ms, Some(1_000));
    assert_eq!(other.delays_for(), None);
}

#[test]
fn queue_of_a_deleted_exchange_is_to_be_deleted_and_a_new_one_gets_another() {
    let mut topology = with_delays();
    assert_eq!(topology.delay_queues_without_exchange().count(), 0);
    done(&mut topology, unbind("later", "k", "q"));
    done(&mut topology, delete_exchange("later"));
    assert_eq!(topology.delay_queues_without_exchange().count(), 1);
    done(&mut topology, delayed("later"));
    assert!(topology.declare_delay_queue(Vhost::ROOT, "later").is_some());
}
