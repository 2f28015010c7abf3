//! Changes of the catalog, and what makes one wrong.

use serde::{Deserialize, Deserializer, Serialize};

use super::defs::{CheckDef, NodeDef, ServiceDef, Text};
use super::labels::Labels;
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

    /// About how many bytes it takes on the wire.
    pub fn size(&self) -> usize {
        const FIXED: usize = 64;
        let labels = |labels: &Labels| -> usize {
            labels
                .iter()
                .map(|(name, value)| name.len() + value.len() + 2)
                .sum()
        };
        let NodeDef {
            id: _,
            name,
            address,
            tagged_addresses,
            meta,
        } = &self.node;
        let node = name.len() + address.len() + labels(tagged_addresses) + labels(meta);
        let service = self.service.as_ref().map_or(0, |service| {
            let tags: usize = service.tags.iter().map(|tag| tag.len() + 1).sum();
            let proxy = service.connect.as_ref().map_or(0, |connect| connect.proxy.len());
            FIXED + service.name.len() + service.id.len() + tags + labels(&service.meta) + proxy
        });
        let checks = self.checks.iter().map(|check| {
            let definition = check.definition.as_ref();
            let request = definition.map_or(0, |definition| definition.http.len() + definition.body.len());
            FIXED + check.name.len() + check.id.len() + check.notes.len() + check.output.len() + request
        });
        FIXED + node + service + checks.sum::<usize>()
    }
}

impl Deregistration {
    /// About how many bytes it takes on the wire.
    pub fn size(&self) -> usize {
        const FIXED: usize = 4;
        let what = match &self.what {
            Removal::Node => 0,
            Removal::Service(id) | Removal::Check(id) => id.len(),
        };
        FIXED + self.node.len() + what
    }
}

impl CatalogChange {
    /// About how many bytes it takes on the wire.
    pub fn size(&self) -> usize {
        match self {
            Self::Register(registration) => registration.size(),
            Self::Deregister(deregistration) => deregistration.size(),
        }
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
