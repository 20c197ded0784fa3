//! Runtime parameters: JSON values by component and name, per vhost or for the whole cluster. They are kept for imports and exports and
//! have no effect of their own (features F31). Not here: policies and limits, which RabbitMQ keeps among them.

use warren_types::VhostId;

/// What makes a parameter itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ParameterKey {
    /// `None`: a global one, which has no component.
    pub vhost: Option<VhostId>,
    /// Empty in a global one.
    pub component: Box<str>,
    pub name: Box<str>,
}

impl ParameterKey {
    /// Bytes of the component, and of the name.
    pub const BYTES_MAX: usize = 255;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    pub key: ParameterKey,
    /// JSON text.
    pub value: Box<str>,
}

impl Parameter {
    pub const VALUE_BYTES_MAX: usize = 64 << 10;
}
