//! Changes of the catalog, and what makes one wrong.

use serde::{Deserialize, Deserializer, Serialize};

use super::defs::{CheckDef, NodeDef, ServiceDef, Text};
use super::validation;
use crate::codec::bounded;

/// The longest name or id of a node, a service or a check, and the longest kind, address or tag, in bytes.
pub const MAX_NAME_BYTES: usize = 512;

/// The longest note, name or value of a label, or other text about an object, in bytes.
pub const MAX_TEXT_BYTES: usize = 16 << 10;

/// The longest output of a check, in bytes.
pub const MAX_OUTPUT_BYTES: usize = 64 << 10;

/// The longest description of a proxy, in bytes.
pub const MAX_PROXY_BYTES: usize = 64 << 10;

/// The most labels of one kind on an object.
pub const MAX_LABELS: usize = 256;

/// The most tags of an instance.
pub const MAX_TAGS: usize = 1024;

/// The most checks in one registration.
pub const MAX_CHECKS: usize = 1024;

/// The most changes in one command.
pub const MAX_CATALOG_CHANGES: usize = 1024;

/// Adds a node, what runs on it and how well that is to the catalog, or changes it. What is there already and the same stays untouched.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Registration {
    /// The node. All of it replaces what was known. One that has the same id and another name is renamed: what ran under the old name
    /// is gone.
    pub node: NodeDef,
    /// If a node of this name exists, leave it as it is: only its name counts.
    pub skip_node_update: bool,
    /// An instance of a service on the node. All of it replaces what was known; its checks stay.
    pub service: Option<ServiceDef>,
    /// Checks of the node or of instances on it, which must exist, at most [`MAX_CHECKS`]. All of each replaces what was known.
    #[serde(deserialize_with = "bounded_checks")]
    pub checks: Vec<CheckDef>,
}

/// Takes something out of the catalog. What is not there is no error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deregistration {
    /// The name of the node.
    pub node: Text,
    /// What of it.
    pub what: Removal,
}

/// What a [`Deregistration`] removes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Removal {
    /// The node with everything on it.
    Node,
    /// The instance with this id and its checks.
    Service(Text),
    /// The check with this id.
    Check(Text),
}

/// One of several changes in a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CatalogChange {
    /// Adds or changes.
    Register(Box<Registration>),
    /// Removes.
    Deregister(Deregistration),
}

impl Registration {
    /// Whether it may be stored, as far as that can be told without the catalog; the error is a text for whoever sent it.
    pub fn check(&self) -> Result<(), String> {
        validation::registration(self)
    }
}

/// Reads a registration's checks without trusting the number that they claim to be.
fn bounded_checks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<CheckDef>, D::Error> {
    bounded(deserializer, MAX_CHECKS, "checks")
}

/// Reads a command's changes without trusting the number that they claim to be.
pub(crate) fn bounded_changes<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<CatalogChange>, D::Error> {
    bounded(deserializer, MAX_CATALOG_CHANGES, "changes of the catalog")
}
