//! The first user of a cluster that has none, made at its start (features E8). Not here: telling its password (`server`).

use rand::Rng;
use rand::distr::Alphanumeric;
use thiserror::Error;
use tracing::info;
use warren_shard::{Broker, TopologyError};
use warren_topology::{
    Batch, CreateUser, SetPermission, TopologyCommand, TopologyReply, UserLimits, UserTag,
};
use warren_types::{UserName, VhostName};

use super::password::{HashError, Password, hash_password};

const PASSWORD_LETTERS: usize = 24;

/// Whom to make.
#[derive(Clone, Debug)]
pub struct FirstUser {
    pub name: UserName,
    /// `None`: one is drawn at random, for its owner to be told.
    pub password: Option<Password>,
}

#[derive(Debug, Error)]
pub enum FirstUserError {
    #[error(transparent)]
    Hash(#[from] HashError),
    #[error(transparent)]
    Topology(#[from] TopologyError),
}

/// Makes the user an administrator with all permissions in "/", if the cluster has no user at all. Gives the password that was drawn, to
/// be told once: no node keeps it. Of several nodes that start together one makes the user.
///
/// # Errors
/// It is not known whether the user was made; the next start tries again.
pub async fn make_first_user(
    broker: &Broker,
    user: FirstUser,
) -> Result<Option<String>, FirstUserError> {
    if broker.topology().fresh().await?.user_count() > 0 {
        return Ok(None);
    }
    let (password, drawn) = match user.password {
        Some(password) => (password, None),
        None => {
            let letters = rand::rng().sample_iter(Alphanumeric);
            let text: String = letters.take(PASSWORD_LETTERS).map(char::from).collect();
            (Password::new(text.clone()), Some(text))
        }
    };
    let hashed = tokio::task::spawn_blocking(move || hash_password(&password)).await;
    let hash = hashed.map_err(|error| HashError::Argon2(error.to_string()))??;
    let create = CreateUser {
        name: user.name.clone(),
        tags: vec![UserTag::Administrator],
        password: Some(hash),
        limits: UserLimits::default(),
    };
    let Ok(vhost) = VhostName::try_from("/") else {
        return Ok(None);
    };
    let permit = SetPermission {
        user: user.name.clone(),
        vhost,
        configure: ".*".into(),
        write: ".*".into(),
        read: ".*".into(),
    };
    let commands = vec![create.into(), permit.into()];
    let batch = TopologyCommand::Batch(Batch { commands });
    let reply = broker.topology().propose(batch, "").await?;
    let TopologyReply::Batch(replies) = reply else {
        return Ok(None);
    };
    // A user that differs was made by another node; an equal one is ours, proposed twice.
    if !matches!(replies.first(), Some(TopologyReply::UserCreated(_))) {
        return Ok(None);
    }
    info!(user = %user.name, "first user made");
    Ok(drawn)
}
