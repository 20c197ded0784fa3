//! The document's sections as RabbitMQ writes them (4.x; what 3.x wrote is read too). Not here: what they are turned into (`plan`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use thiserror::Error;

use crate::user::PasswordHash;

/// What is no document at all: nothing of it was done.
#[derive(Debug, Error)]
pub enum DocumentError {
    #[error("the document cannot be read: {0}")]
    Malformed(#[from] serde_json::Error),
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Document {
    #[serde(flatten)]
    pub(super) about: BTreeMap<String, Json>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) users: Option<Vec<User>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) vhosts: Option<Vec<Vhost>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) permissions: Option<Vec<Permission>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) topic_permissions: Option<Vec<TopicPermission>>,
    #[serde(default)]
    pub(super) parameters: Vec<Parameter>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) global_parameters: Option<Vec<GlobalParameter>>,
    #[serde(default)]
    pub(super) policies: Vec<Policy>,
    #[serde(default)]
    pub(super) queues: Vec<Queue>,
    #[serde(default)]
    pub(super) exchanges: Vec<Exchange>,
    #[serde(default)]
    pub(super) bindings: Vec<Binding>,
}

/// What RabbitMQ and we say of the document itself.
const ABOUT: &[&str] = &[
    "rabbit_version",
    "rabbitmq_version",
    "product_name",
    "product_version",
    "rabbitmq_definition_format",
    "original_cluster_name",
    "original_vhost_name",
    "explanation",
    "description",
    "metadata",
    "default_queue_type",
];

impl Document {
    /// # Errors
    /// [`DocumentError`]: it is no JSON, or a section has another form than RabbitMQ gives it.
    pub fn read(json: &[u8]) -> Result<Self, DocumentError> {
        Ok(serde_json::from_slice(json)?)
    }

    /// # Errors
    /// Never: every name is text.
    pub fn write(&self) -> Result<Vec<u8>, DocumentError> {
        Ok(serde_json::to_vec_pretty(self)?)
    }

    /// Users whose password stands there in clear: each is to be given its hash before the users are planned.
    pub fn clear_passwords(&mut self) -> impl Iterator<Item = ClearPassword<'_>> {
        let users = self.users.iter_mut().flatten();
        users.filter_map(|it| {
            let is_hashed = it
                .password_hash
                .as_ref()
                .is_some_and(|hash| !hash.is_empty());
            let password = it.password.take().filter(|_| !is_hashed)?;
            Some(ClearPassword {
                password: password.0,
                hash: &mut it.hashed,
            })
        })
    }

    /// Sections that nobody knows.
    pub(super) fn unknown(&self) -> impl Iterator<Item = &str> {
        let names = self.about.keys().map(String::as_str);
        names.filter(|it| !ABOUT.contains(it))
    }
}

/// A password that is to be hashed.
pub struct ClearPassword<'a> {
    pub password: String,
    pub hash: &'a mut Option<PasswordHash>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct User {
    pub(super) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) password_hash: Option<String>,
    /// In clear, as some people write it by hand; never written.
    #[serde(default, skip_serializing)]
    pub(super) password: Option<Secret>,
    /// Of `password`.
    #[serde(skip)]
    pub(super) hashed: Option<PasswordHash>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) hashing_algorithm: Option<String>,
    #[serde(default)]
    pub(super) tags: Tags,
    #[serde(default)]
    pub(super) limits: Map<String, Json>,
}

/// A text that is never printed.
#[derive(Clone, Deserialize)]
pub(super) struct Secret(pub(super) String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// A list; before 3.9, words between commas.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Tags {
    List(Vec<String>),
    Words(String),
}

impl Default for Tags {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl Tags {
    pub(super) fn iter(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match self {
            Self::List(list) => Box::new(list.iter().map(String::as_str)),
            Self::Words(words) => {
                let words = words.split(',').map(str::trim);
                Box::new(words.filter(|it| !it.is_empty()))
            }
        }
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Vhost {
    pub(super) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tags: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) default_queue_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) protected_from_deletion: Option<bool>,
    /// The same once more, as newer versions write it.
    #[serde(default)]
    pub(super) metadata: VhostMetadata,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct VhostMetadata {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tags: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) default_queue_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) protected_from_deletion: Option<bool>,
    /// These three are ours: RabbitMQ keeps them without effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) relaxed_queue_type: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ignores_delays: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) live_prefetch: Option<bool>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Permission {
    pub(super) user: String,
    pub(super) vhost: String,
    pub(super) configure: String,
    pub(super) write: String,
    pub(super) read: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TopicPermission {
    pub(super) user: String,
    pub(super) vhost: String,
    pub(super) exchange: String,
    pub(super) write: String,
    pub(super) read: String,
}

/// In documents of one vhost the objects do not name it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Parameter {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) vhost: Option<String>,
    pub(super) component: String,
    pub(super) name: String,
    pub(super) value: Json,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct GlobalParameter {
    pub(super) name: String,
    pub(super) value: Json,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Policy {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) vhost: Option<String>,
    pub(super) name: String,
    #[serde(flatten)]
    pub(super) rule: PolicyRule,
}

/// Also the value of an operator policy, which is a parameter.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PolicyRule {
    pub(super) pattern: String,
    #[serde(rename = "apply-to", default = "all")]
    pub(super) apply_to: String,
    pub(super) definition: Map<String, Json>,
    #[serde(default)]
    pub(super) priority: i32,
}

fn all() -> String {
    "all".to_owned()
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Queue {
    pub(super) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) vhost: Option<String>,
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub(super) queue_type: Option<String>,
    #[serde(default)]
    pub(super) durable: bool,
    #[serde(default)]
    pub(super) auto_delete: bool,
    #[serde(default)]
    pub(super) arguments: Map<String, Json>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Exchange {
    pub(super) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) vhost: Option<String>,
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) durable: bool,
    #[serde(default)]
    pub(super) auto_delete: bool,
    #[serde(default)]
    pub(super) internal: bool,
    #[serde(default)]
    pub(super) arguments: Map<String, Json>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Binding {
    pub(super) source: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) vhost: Option<String>,
    pub(super) destination: String,
    pub(super) destination_type: String,
    #[serde(default)]
    pub(super) routing_key: String,
    #[serde(default)]
    pub(super) arguments: Map<String, Json>,
}
