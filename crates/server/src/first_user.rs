//! Has a cluster without users get its first one, and tells its password once. Not here: making it (`gateway`).

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{debug, error};
use warren_gateway::{FirstUser, FirstUserError, Password, make_first_user};
use warren_shard::Broker;

use crate::config::AuthConfig;

const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Returns when there is a user, or none is wanted, or the node stops.
pub(crate) async fn first_user(broker: Broker, auth: AuthConfig, stop: CancellationToken) {
    let Some(name) = auth.first_user() else {
        return;
    };
    let password = auth.first_password.as_ref();
    let user = FirstUser {
        name,
        password: password.map(|it| Password::new(it.expose().to_vec())),
    };
    loop {
        if broker.topology().current().cluster().is_some() {
            let made = tokio::select! {
                biased; // stopping comes first
                () = stop.cancelled() => return,
                made = make_first_user(&broker, user.clone()) => made,
            };
            match made {
                Ok(drawn) => return drawn.iter().for_each(|it| tell(&user, it)),
                Err(cause @ FirstUserError::Hash(_)) => {
                    error!(%cause, "no first user");
                    return;
                }
                Err(cause @ FirstUserError::Topology(_)) => debug!(%cause, "no first user yet"),
            }
        }
        tokio::select! {
            biased; // stopping comes first
            () = stop.cancelled() => return,
            () = tokio::time::sleep(AGAIN_AFTER) => {}
        }
    }
}

/// Not in the log, which is kept and sent elsewhere.
fn tell(user: &FirstUser, password: &str) {
    let name = &user.name;
    eprintln!("The first user of this cluster is {name}, with the password {password}");
    eprintln!("This is told only once: change it, or keep it in a safe place.");
}
