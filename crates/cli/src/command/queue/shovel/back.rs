//! Whether an exchange leads to a queue: then a shovel from that queue would never end. Pure. Not here: asking for exchanges and bindings
//! (`ends`), the exact way of a message (`warren-topology`).

use std::collections::BTreeSet;

use warren_client::{Binding, BindingDestination, Exchange};

const ALTERNATE: &str = "alternate-exchange";

/// Whether a message published there may come to the queue; with `key`, if all have this routing key. Of exchanges that look at more than
/// the name of a key each binding counts; an alternate exchange counts that is an argument, not one of a policy.
pub(super) fn leads_to(
    queue: &str,
    exchange: &str,
    key: Option<&str>,
    exchanges: &[Exchange],
    bindings: &[Binding],
) -> bool {
    if exchange.is_empty() {
        return key.is_none_or(|it| it == queue);
    }
    let mut seen = BTreeSet::from([exchange]);
    let mut to_do = vec![exchange];
    while let Some(name) = to_do.pop() {
        let exchange = exchanges.iter().find(|it| it.name == name);
        let is_direct = exchange.is_some_and(|it| it.kind == "direct");
        let takes = |it: &&Binding| !is_direct || key.is_none_or(|key| key == it.routing_key);
        let alternate = exchange.and_then(|it| it.arguments.get_str(ALTERNATE));
        let mut next: Vec<&str> = alternate.into_iter().collect();
        for binding in bindings.iter().filter(|it| it.source == name).filter(takes) {
            match &binding.destination {
                BindingDestination::Queue(it) if it == queue => return true,
                BindingDestination::Queue(_) => {}
                BindingDestination::Exchange(it) => next.push(it),
            }
        }
        to_do.extend(next.into_iter().filter(|it| seen.insert(*it)));
    }
    false
}

#[cfg(test)]
mod tests {
    use warren_types::Table;

    use super::*;

    fn exchange(name: &str, kind: &str, arguments: Table) -> Exchange {
        Exchange {
            vhost: "/".to_owned(),
            name: name.to_owned(),
            kind: kind.to_owned(),
            durable: true,
            auto_delete: false,
            internal: false,
            arguments,
        }
    }

    fn binding(source: &str, destination: BindingDestination, key: &str) -> Binding {
        Binding {
            vhost: "/".to_owned(),
            source: source.to_owned(),
            destination,
            routing_key: key.to_owned(),
            arguments: Table::new(),
        }
    }

    #[test]
    fn way_back_is_found_through_bindings_and_alternates_and_not_by_another_key() {
        let alternate = Table::new().with(ALTERNATE, "fan");
        let exchanges = [
            exchange("fan", "fanout", Table::new()),
            exchange("plain", "direct", Table::new()),
            exchange("topic", "topic", Table::new()),
            exchange("other", "direct", alternate),
        ];
        let to_queue = |it: &str| BindingDestination::Queue(it.to_owned());
        let to_exchange = |it: &str| BindingDestination::Exchange(it.to_owned());
        let bindings = [
            binding("fan", to_exchange("topic"), ""),
            binding("topic", to_exchange("fan"), "#"),
            binding("topic", to_queue("orders"), "a.*"),
            binding("plain", to_queue("orders"), "x"),
            binding("plain", to_queue("else"), "y"),
        ];
        let leads = |queue, from, key| leads_to(queue, from, key, &exchanges, &bindings);
        assert!(leads("orders", "fan", None), "over another exchange");
        assert!(leads("orders", "topic", Some("b")), "a pattern may match");
        assert!(leads("orders", "other", Some("z")), "by its alternate");
        assert!(leads("orders", "plain", None));
        assert!(leads("orders", "plain", Some("x")));
        assert!(!leads("orders", "plain", Some("y")));
        assert!(!leads("nobody", "fan", None), "and a circle ends");
        assert!(!leads("orders", "unknown", None));
        assert!(leads("orders", "", None));
        assert!(leads("orders", "", Some("orders")));
        assert!(!leads("orders", "", Some("else")));
    }
}
