//! Free loopback ports for nodes that are killed and started again on the same ones. Not here: starting them.

use std::net::TcpListener;

use anyhow::{Result, bail};
use rand::Rng;

/// Below the range from which the system takes ports for outgoing connections: a port of that range could be gone by
/// the time a killed node comes back to it.
const RANGE: std::ops::Range<u16> = 18_000..32_000;

/// `count` different ports on 127.0.0.1 that nobody listens on now.
///
/// # Errors
/// When there are not that many.
pub fn free_ports(count: usize) -> Result<Vec<u16>> {
    let mut random = rand::rng();
    // Held until all are found, so that no port is found twice.
    let mut held: Vec<TcpListener> = Vec::new();
    for _ in 0..10_000 {
        if held.len() == count {
            break;
        }
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", random.random_range(RANGE))) {
            held.push(listener);
        }
    }
    if held.len() < count {
        bail!(
            "only {} of {count} ports between {RANGE:?} are free",
            held.len()
        );
    }
    let mut ports = Vec::with_capacity(count);
    for listener in &held {
        ports.push(listener.local_addr()?.port());
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_differ_and_can_be_bound() {
        let mut ports = free_ports(12).unwrap();
        for port in &ports {
            // Another test that looks for ports at this moment may hold one for an instant.
            let free = (0..1_000).any(|_| {
                std::thread::yield_now();
                TcpListener::bind(("127.0.0.1", *port)).is_ok()
            });
            assert!(free, "port {port} is taken");
        }
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 12);
    }
}
