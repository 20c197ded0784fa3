//! The pure control plane: exchanges, queues, bindings, members, placement; routing.
