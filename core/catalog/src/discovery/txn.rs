//! What transactions do with nodes, services and checks.

use std::sync::Arc;

use lictor_machine::{Index, NodeId};

use super::apply::{named_check, named_service};
use super::defs::{CheckDef, NodeDef, ServiceDef, Text};
use super::records::{CheckRecord, NodeRecord, ServiceRecord};
use super::store::{Discovery, Host};
use super::validation;
use crate::command::{Key, TxnVerb};
use crate::coordinate::{Coordinates, folded};
use crate::edit::Edit;
use crate::quote::quote;

/// The answer to something on a node that does not exist.
const NO_NODE: &str = "Missing node registration";

impl Discovery {
    /// Carries out one operation on a node; what it answers with. On an error nothing was changed.
    pub(crate) fn txn_node(
        &mut self,
        coordinates: &mut Coordinates,
        edit: &mut Edit,
        verb: &TxnVerb<NodeDef>,
    ) -> Result<Option<Arc<NodeRecord>>, String> {
        let stale =
            |what: &str, name: &str| format!("failed to {what} node {}, index is stale", quoted(name));
        let found = |discovery: &Self, name: &str| Some(Arc::clone(&discovery.txn_host(name)?.record));
        match verb {
            TxnVerb::Get(name) => found(self, name).map(Some).ok_or_else(|| no_node(name)),
            TxnVerb::Set(def) => {
                self.txn_set_node(coordinates, edit, def)?;
                Ok(found(self, &def.name))
            }
            TxnVerb::Cas(def, expected) => {
                if !may_set(found(self, &def.name).map(|node| node.modify_index), *expected) {
                    return Err(stale("set", &def.name));
                }
                self.txn_set_node(coordinates, edit, def)?;
                Ok(found(self, &def.name))
            }
            TxnVerb::Delete(name) => {
                self.forget_node(coordinates, edit, &Key::from(folded(name)));
                Ok(None)
            }
            TxnVerb::DeleteCas(name, expected) => {
                if found(self, name).is_none_or(|node| node.modify_index != *expected) {
                    return Err(stale("delete", name));
                }
                self.forget_node(coordinates, edit, &Key::from(folded(name)));
                Ok(None)
            }
        }
    }

    /// The node with this id. `name` is what to call it if it does not exist.
    pub(crate) fn txn_node_by_id(&self, id: NodeId, name: &str) -> Result<Arc<NodeRecord>, String> {
        let host = self.by_id.get(&id).and_then(|at| self.hosts.get(at));
        host.map(|host| Arc::clone(&host.record))
            .ok_or_else(|| no_node(name))
    }

    /// Carries out one operation on a service of a node; what it answers with. On an error nothing was changed.
    pub(crate) fn txn_service(
        &mut self,
        edit: &mut Edit,
        node: &Text,
        verb: &TxnVerb<ServiceDef>,
    ) -> Result<Option<Arc<ServiceRecord>>, String> {
        let at = Key::from(folded(node));
        let name = |id: &str| format!("service {} on node {}", quoted(id), quoted(node));
        let stale = |what: &str, id: &str| format!("failed to {what} {}, index is stale", name(id));
        let found = |discovery: &Self, id: &str| discovery.txn_host(node)?.service(id).cloned();
        match verb {
            TxnVerb::Get(id) => found(self, id)
                .map(Some)
                .ok_or_else(|| format!("{} doesn't exist", name(id))),
            TxnVerb::Set(def) => {
                let def = named_service(def);
                self.txn_set_service(edit, &at, &def)?;
                Ok(found(self, &def.id))
            }
            TxnVerb::Cas(def, expected) => {
                let def = named_service(def);
                if !may_set(
                    found(self, &def.id).map(|service| service.modify_index),
                    *expected,
                ) {
                    return Err(stale("set", &def.id));
                }
                self.txn_set_service(edit, &at, &def)?;
                Ok(found(self, &def.id))
            }
            TxnVerb::Delete(id) => {
                self.remove_service(edit, &at, id);
                Ok(None)
            }
            TxnVerb::DeleteCas(id, expected) => {
                if found(self, id).is_none_or(|service| service.modify_index != *expected) {
                    return Err(stale("delete", id));
                }
                self.remove_service(edit, &at, id);
                Ok(None)
            }
        }
    }

    /// Carries out one operation on a check of a node; what it answers with. On an error nothing was changed.
    pub(crate) fn txn_check(
        &mut self,
        edit: &mut Edit,
        node: &Text,
        verb: &TxnVerb<CheckDef>,
    ) -> Result<Option<Arc<CheckRecord>>, String> {
        let at = Key::from(folded(node));
        let name = |id: &str| format!("check {} on node {}", quoted(id), quoted(node));
        let stale = |what: &str, id: &str| format!("failed to {what} {}, index is stale", name(id));
        let found = |discovery: &Self, id: &str| discovery.txn_host(node)?.check(id).cloned();
        match verb {
            TxnVerb::Get(id) => found(self, id)
                .map(Some)
                .ok_or_else(|| format!("{} doesn't exist", name(id))),
            TxnVerb::Set(def) => {
                let def = named_check(def);
                self.txn_set_check(edit, &at, &def)?;
                Ok(found(self, &def.id))
            }
            TxnVerb::Cas(def, expected) => {
                let def = named_check(def);
                if !may_set(found(self, &def.id).map(|check| check.modify_index), *expected) {
                    return Err(stale("set", &def.id));
                }
                self.txn_set_check(edit, &at, &def)?;
                Ok(found(self, &def.id))
            }
            TxnVerb::Delete(id) => {
                self.remove_check(edit, &at, id);
                Ok(None)
            }
            TxnVerb::DeleteCas(id, expected) => {
                if found(self, id).is_none_or(|check| check.modify_index != *expected) {
                    return Err(stale("delete", id));
                }
                self.remove_check(edit, &at, id);
                Ok(None)
            }
        }
    }

    fn txn_host(&self, node: &str) -> Option<&Arc<Host>> {
        self.hosts.get(folded(node).as_bytes())
    }

    fn txn_set_node(
        &mut self,
        coordinates: &mut Coordinates,
        edit: &mut Edit,
        def: &NodeDef,
    ) -> Result<(), String> {
        validation::node(def)?;
        self.check_name(def)?;
        self.place_node(coordinates, edit, &Key::from(folded(&def.name)), def);
        Ok(())
    }

    fn txn_set_service(&mut self, edit: &mut Edit, at: &Key, def: &ServiceDef) -> Result<(), String> {
        if !self.hosts.contains_key(at) {
            return Err(NO_NODE.to_owned());
        }
        if def.id.is_empty() {
            return Err("failed inserting service: object missing primary index".to_owned());
        }
        validation::service(def)?;
        self.put_service(edit, at, def);
        Ok(())
    }

    fn txn_set_check(&mut self, edit: &mut Edit, at: &Key, def: &CheckDef) -> Result<(), String> {
        let Some(host) = self.hosts.get(at) else {
            return Err(NO_NODE.to_owned());
        };
        if def.id.is_empty() {
            return Err("failed inserting check: object missing primary index".to_owned());
        }
        validation::check(def)?;
        if !def.service_id.is_empty() && host.service(&def.service_id).is_none() {
            return Err("Missing service registration".to_owned());
        }
        self.put_check(edit, at, def);
        Ok(())
    }
}

/// Whether something with this modify index, or nothing, may be set on the condition that it has `expected`; 0 stands for nothing.
fn may_set(found: Option<Index>, expected: Index) -> bool {
    found.unwrap_or(Index::ZERO) == expected
}

fn no_node(name: &str) -> String {
    format!("node {} doesn't exist", quoted(name))
}

fn quoted(text: &str) -> String {
    quote(text.as_bytes())
}
