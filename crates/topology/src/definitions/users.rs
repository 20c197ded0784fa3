//! From users of the document to commands. Pure. Not here: their hashes (`hashes`), permissions (`plan`).

use serde_json::{Map, Value as Json};
use warren_types::UserName;

use super::document::User;
use super::hashes::read;
use super::plan::{Planned, Planner, limit_of, said};
use crate::command::{CreateUser, PasswordChange, TopologyCommand, UpdateUser};
use crate::user::{PasswordHash, UserLimits, UserTag};

impl Planner<'_> {
    pub(super) fn users(&mut self, users: &[User]) {
        for it in users {
            let label = format!("user '{}'", it.name);
            let command = self.user_command(it, &label);
            self.add(label, command.map(Some));
        }
    }

    fn user_command(&mut self, it: &User, label: &str) -> Planned<TopologyCommand> {
        let name = UserName::try_from(it.name.as_str()).map_err(said)?;
        let limits = self.user_limits(&it.limits, label)?;
        let tags: Vec<UserTag> = it.tags.iter().map(UserTag::from).collect();
        let password = self.password(it, label)?;
        if self.topology.user(name.as_str()).is_none() {
            let user = CreateUser {
                name,
                tags,
                password,
                limits,
            };
            return Ok(user.into());
        }
        Ok(UpdateUser {
            name,
            tags: Some(tags),
            password: password.map_or(PasswordChange::Remove, PasswordChange::Set),
            limits: Some(limits),
        }
        .into())
    }

    fn password(&mut self, it: &User, label: &str) -> Planned<Option<PasswordHash>> {
        if let Some(hash) = &it.hashed {
            return Ok(Some(hash.clone()));
        }
        let text = it.password_hash.as_deref().unwrap_or_default();
        if text.is_empty() {
            return Ok(None);
        }
        let hash = read(text, it.hashing_algorithm.as_deref())?;
        if hash.is_none() {
            let text = "MD5 hashes are not taken: it cannot log in before it is given a password";
            self.report.warn(format!("{label}: {text}"));
        }
        Ok(hash)
    }

    fn user_limits(&mut self, values: &Map<String, Json>, label: &str) -> Planned<UserLimits> {
        let mut limits = UserLimits::default();
        for (name, value) in values {
            match name.as_str() {
                "max-connections" => limits.connections = limit_of(value)?,
                "max-channels" => limits.channels = limit_of(value)?,
                other => {
                    let text = format!("{label}: the limit '{other}' is not known: left out");
                    self.report.warn(text);
                }
            }
        }
        Ok(limits)
    }
}
