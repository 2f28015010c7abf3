//! The objects of the catalog as they are stored, and as answers put them together.

use std::sync::Arc;

use lictor_machine::Index;
use serde::{Deserialize, Serialize};

use super::defs::{CheckDef, NodeDef, ServiceDef, Tags, Text};

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// What was said of it.
    pub def: NodeDef,
    /// The index that created it. It stays when the node is renamed.
    pub create_index: Index,
    /// The index that last changed it; changes of its services and checks do not count.
    pub modify_index: Index,
}

/// An instance of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRecord {
    /// The name of the node that it runs on.
    pub node: Text,
    /// What was said of it. The id is never empty.
    pub def: ServiceDef,
    /// The index that created it.
    pub create_index: Index,
    /// The index that last changed it; changes of its checks do not count.
    pub modify_index: Index,
}

/// A check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckRecord {
    /// The name of the node that it belongs to.
    pub node: Text,
    /// What was said of it. The id is never empty.
    pub def: CheckDef,
    /// The name of the service whose instance it looks after, always as the instance has it; empty for one of the node.
    pub service_name: Text,
    /// The tags of that instance, always as it has them.
    pub service_tags: Tags,
    /// The index that created it.
    pub create_index: Index,
    /// The index that last changed it, or the name or tags of its instance.
    pub modify_index: Index,
}

/// A service, over all its instances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceTags {
    /// Its name.
    pub name: Text,
    /// The tags of all instances, sorted, each once. Tags that differ in letter case are different.
    pub tags: Tags,
}

/// A node and what runs on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeServices {
    /// The node.
    pub node: Arc<NodeRecord>,
    /// Its instances, by id in lower case.
    pub services: Vec<Arc<ServiceRecord>>,
}

/// All about a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// The node.
    pub node: Arc<NodeRecord>,
    /// Its instances, by id in lower case.
    pub services: Vec<Arc<ServiceRecord>>,
    /// All checks on it, by id in lower case.
    pub checks: Vec<Arc<CheckRecord>>,
}

/// An instance and where it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceNode {
    /// The node.
    pub node: Arc<NodeRecord>,
    /// The instance.
    pub service: Arc<ServiceRecord>,
}

/// An instance, where it runs, and how well it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// The node.
    pub node: Arc<NodeRecord>,
    /// The instance.
    pub service: Arc<ServiceRecord>,
    /// The checks of the node as a whole, then those of the instance, either by id in lower case.
    pub checks: Vec<Arc<CheckRecord>>,
}
