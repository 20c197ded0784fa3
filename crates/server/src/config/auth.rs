//! `[auth]`: who is let in without a user of the cluster, and the cluster's first user. Not here: checking logins (`gateway`).

use std::path::PathBuf;

use warren_types::UserName;

use super::Config;
use super::cluster::read_secret_file;
use super::report::Report;
use super::secret::Secret;
use super::setting::{Kind, Setting, switch};

/// The first user, where nothing else is said.
const ADMIN: &str = "admin";

#[derive(Clone, Debug, Default)]
pub struct AuthConfig {
    /// Clients on this machine are `guest`, who may everything.
    pub loopback_guest: bool,
    /// `None` = not said; empty = none.
    pub first_user: Option<String>,
    pub first_password_file: Option<PathBuf>,
    /// `None` = drawn at random and told once.
    pub first_password: Option<Secret>,
}

impl AuthConfig {
    /// The user that a cluster without users gets; `None` = none.
    #[must_use]
    pub fn first_user(&self) -> Option<UserName> {
        let name = match &self.first_user {
            Some(name) => name,
            None if self.loopback_guest => "",
            None => ADMIN,
        };
        UserName::try_from(name).ok()
    }
}

pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        name: "auth.loopback_guest",
        about: "let clients on this machine in as guest, who may everything: AMQP with the password guest, gRPC without any [default: false]",
        kind: Kind::Switch,
        set: |config, text| {
            config.auth.loopback_guest = switch(text)?;
            Ok(())
        },
        show: |config| config.auth.loopback_guest.to_string(),
    },
    Setting {
        name: "auth.first_user",
        about: "administrator that a cluster without users gets; empty = none [default: admin, or none with auth.loopback_guest]",
        kind: Kind::Text,
        set: |config, text| {
            config.auth.first_user = Some(text.to_owned());
            Ok(())
        },
        show: |config| {
            config
                .auth
                .first_user()
                .map_or_else(String::new, |it| it.to_string())
        },
    },
    Setting {
        name: "auth.first_password_file",
        about: "file with the first user's password [default: none: it is drawn at random and told once, on stderr]",
        kind: Kind::Path,
        set: |config, text| {
            config.auth.first_password_file = (!text.is_empty()).then(|| PathBuf::from(text));
            Ok(())
        },
        show: |config| {
            let path = config.auth.first_password_file.as_ref();
            path.map_or_else(String::new, |it| it.display().to_string())
        },
    },
    Setting {
        name: "auth.first_password",
        about: "the first user's password itself; from the environment only",
        kind: Kind::Secret,
        set: |config, text| {
            config.auth.first_password = Some(Secret::new(text.trim()));
            Ok(())
        },
        show: |config| {
            let password = config.auth.first_password.as_ref();
            password.map_or_else(String::new, ToString::to_string)
        },
    },
];

/// Takes the password from its file, unless the environment gave it.
pub(super) fn read_password(config: &mut Config, report: &mut Report) {
    let auth = &mut config.auth;
    let Some(path) = auth.first_password_file.as_ref() else {
        return;
    };
    if auth.first_password.is_some() {
        return;
    }
    match read_secret_file(path, report) {
        Ok(secret) => auth.first_password = Some(secret),
        Err(why) => report.wrong("auth.first_password_file", why),
    }
}

pub(super) fn check(config: &Config, report: &mut Report) {
    let auth = &config.auth;
    if let Some(name) = auth.first_user.as_ref().filter(|it| !it.is_empty())
        && let Err(error) = UserName::try_from(name.as_str())
    {
        report.wrong("auth.first_user", error.to_string());
    }
    let is_empty = |it: &Secret| it.expose().is_empty();
    if auth.first_password.as_ref().is_some_and(is_empty) {
        report.wrong("auth.first_password", "is empty");
    }
}
