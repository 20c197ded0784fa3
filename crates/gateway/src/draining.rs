//! A node that is being drained: it gives its leaderships away, as often as they come back, and says that it is not ready.
//! Clients stay connected, and it still stores and routes. Not here: the end of the process (`server`), waiting for others (`cli`).

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::gateway::Gateway;

/// A leadership that could not be handed over, or came back, is tried again after this time.
const AGAIN_AFTER: Duration = Duration::from_millis(250);

#[derive(Debug, Default)]
pub(crate) struct Draining(watch::Sender<bool>);

impl Gateway {
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.draining().0.borrow()
    }

    /// Begins to give leaderships away, until the drain or the node ends. Again changes nothing.
    pub(crate) fn drain(&self, stop: CancellationToken) {
        let begun = self
            .draining()
            .0
            .send_if_modified(|on| !std::mem::replace(on, true));
        if begun {
            self.broker().peers().set_draining(true);
            info!("draining: leaderships are handed over");
            let gateway = self.clone();
            self.tasks()
                .spawn(async move { gateway.give_away(stop).await });
        }
    }

    /// Ends the drain: the node takes leaderships again when they come to it.
    pub(crate) fn revive(&self) {
        if self.draining().0.send_replace(false) {
            self.broker().peers().set_draining(false);
            info!("the drain has ended");
        }
    }

    async fn give_away(&self, stop: CancellationToken) {
        let mut draining = self.draining().0.subscribe();
        let handing_over = async {
            loop {
                self.broker().hand_over().await;
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        };
        tokio::select! {
            biased; // stopping comes first: the node hands over itself then
            () = stop.cancelled() => {}
            _ended = draining.wait_for(|on| !on) => {}
            () = handing_over => {}
        }
    }
}
