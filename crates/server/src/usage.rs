//! Tells the other nodes what clients of this one use of vhosts and users with limits, and hears it from them. Not here: what is counted
//! and what it limits (`gateway`), how it goes between nodes (`raft`).

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use warren_gateway::Gateway;
use warren_raft::Peers;

const EVERY: Duration = Duration::from_millis(250);
/// What is stored is asked of the leaders in every so many rounds.
const MEASURE_IN: u32 = 2;
/// What a node that is silent for so long has said does not count any more: its connections are gone, or of no use.
const HEARD_WITHIN: Duration = Duration::from_secs(5);

/// Runs until `stop`.
pub(crate) async fn run(gateway: Gateway, peers: Peers, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut round: u32 = 0;
    loop {
        tokio::select! {
            biased; // stopping comes first
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        round = round.wrapping_add(1);
        if round.is_multiple_of(MEASURE_IN) {
            gateway.measure_stored().await;
        }
        peers.set_usage(gateway.usage());
        let others = peers.live(HEARD_WITHIN).into_iter();
        gateway.set_usage_elsewhere(others.map(|node| peers.usage(node)));
    }
}
