//! What runs where, and is it well: nodes, the services on them, and checks of both.
//!
//! Names of nodes and of services, and ids of services and of checks, count in any letter case of ASCII, and are shown as they were
//! last spelled.

mod apply;
mod defs;
mod groups;
mod labels;
mod marks;
mod read;
mod records;
mod registration;
mod rows;
mod store;
mod touching;
mod txn;
mod validation;

pub use apply::SERF_HEALTH;

pub use defs::{
    CheckDef, CheckDefinition, ConnectDef, NodeDef, ServiceAddress, ServiceDef, Status, Tags, Text,
    UnknownStatus, Weights,
};
pub use labels::Labels;
pub use records::{
    CheckRecord, Instance, NodeInfo, NodeRecord, NodeServices, ServiceNode, ServiceRecord, ServiceTags,
};
pub(crate) use registration::bounded_changes;
pub use registration::{
    CatalogChange, Deregistration, MAX_CATALOG_CHANGES, MAX_CHECKS, MAX_LABELS, MAX_NAME_BYTES,
    MAX_OUTPUT_BYTES, MAX_PROXY_BYTES, MAX_TAGS, MAX_TEXT_BYTES, Registration, Removal,
};
pub(crate) use rows::{Misfit, Parts};
pub(crate) use store::{Discovery, place};
