//! Applying registrations and deregistrations.

use std::borrow::Cow;

use super::defs::{CheckDef, NodeDef, ServiceDef, Status, Text};
use super::registration::{Deregistration, Registration, Removal};
use super::store::{Discovery, Host, compare_folded};
use crate::command::Key;
use crate::coordinate::{Coordinates, folded};
use crate::edit::Edit;
use crate::quote::quote;

/// The id of the check by which the leader says of a node what gossip knows.
pub const SERF_HEALTH: &str = "serfHealth";

impl Discovery {
    /// Carries a registration out. On an error nothing was changed.
    pub(crate) fn register(
        &mut self,
        coordinates: &mut Coordinates,
        edit: &mut Edit,
        registration: &Registration,
    ) -> Result<(), String> {
        registration.check()?;
        if !registration.skip_node_update {
            self.check_name(&registration.node)
                .map_err(|why| format!("failed inserting node: {why}"))?;
        }
        self.check_instances(registration)?;
        let Registration {
            node,
            skip_node_update,
            service,
            checks,
        } = registration;
        let at = Key::from(folded(&node.name));
        if !skip_node_update || !self.hosts.contains_key(&at) {
            self.place_node(coordinates, edit, &at, node);
        }
        if let Some(service) = service {
            self.put_service(edit, &at, &named_service(service));
        }
        for check in checks {
            self.put_check(edit, &at, &named_check(check));
        }
        Ok(())
    }

    /// Carries a deregistration out. On an error nothing was changed.
    pub(crate) fn deregister(
        &mut self,
        coordinates: &mut Coordinates,
        edit: &mut Edit,
        deregistration: &Deregistration,
    ) -> Result<(), String> {
        let Deregistration { node, what } = deregistration;
        if node.is_empty() {
            return Err("Must provide node".to_owned());
        }
        let at = Key::from(folded(node));
        match what {
            Removal::Node => self.forget_node(coordinates, edit, &at),
            Removal::Service(id) => self.remove_service(edit, &at, id),
            Removal::Check(id) => self.remove_check(edit, &at, id),
        }
        Ok(())
    }

    /// Puts a node at `at`, in place of one that has its id.
    pub(super) fn place_node(
        &mut self,
        coordinates: &mut Coordinates,
        edit: &mut Edit,
        at: &Key,
        node: &NodeDef,
    ) {
        let former = node.id.and_then(|id| self.by_id.get(&id)).cloned();
        let former = former.filter(|former| former != at);
        let created = former
            .as_ref()
            .and_then(|former| self.hosts.get(former))
            .map(|host| host.record.create_index);
        if let Some(former) = former {
            self.forget_node(coordinates, edit, &former);
        }
        self.put_node(edit, at, node, created);
    }

    pub(super) fn forget_node(&mut self, coordinates: &mut Coordinates, edit: &mut Edit, at: &Key) {
        let Some(host) = self.hosts.get(at) else { return };
        let name = host.record.def.name.to_string();
        self.remove_node(edit, at);
        coordinates.forget(edit, &[name]);
    }

    /// A node keeps its name as long as it is known to be well: nobody else may take that.
    pub(super) fn check_name(&self, node: &NodeDef) -> Result<(), String> {
        let at = folded(&node.name);
        let (Some(id), Some(owner)) = (node.id, self.hosts.get(at.as_bytes())) else {
            return Ok(());
        };
        let owned = &owner.record.def;
        if owned.id == Some(id) || !is_well(owner) {
            return Ok(());
        }
        let renamed = self.by_id.contains_key(&id);
        let address = match (renamed, owned.id) {
            // A newcomer may say who a node is that has not said so.
            (false, None) => return Ok(()),
            (false, Some(_)) => String::new(),
            (true, _) => format!(" ({})", node.address),
        };
        Err(format!(
            "Error while renaming Node ID: {}{address}: Node name {} is reserved by node {} with \
             name {} ({})",
            quote(id.to_string().as_bytes()),
            node.name,
            owned.id.map(|id| id.to_string()).unwrap_or_default(),
            owned.name,
            owned.address
        ))
    }

    /// Every check of an instance needs that instance.
    fn check_instances(&self, registration: &Registration) -> Result<(), String> {
        let at = folded(&registration.node.name);
        let host = self.hosts.get(at.as_bytes());
        let offered = registration.service.as_ref().map(named_service);
        let is_there = |id: &Text| {
            id.is_empty()
                || offered
                    .as_ref()
                    .is_some_and(|service| compare_folded(&service.id, id).is_eq())
                || host.is_some_and(|host| host.service(id).is_some())
        };
        match registration
            .checks
            .iter()
            .find(|check| !is_there(&check.service_id))
        {
            None => Ok(()),
            Some(_) => Err(format!(
                "failed inserting check: Missing service registration on node {}",
                quote(registration.node.name.as_bytes())
            )),
        }
    }
}

/// Whether gossip finds the node well.
fn is_well(host: &Host) -> bool {
    host.check(SERF_HEALTH)
        .is_some_and(|check| check.def.status == Status::Passing)
}

/// With an id, which is the name if none was given.
pub(super) fn named_service(def: &ServiceDef) -> Cow<'_, ServiceDef> {
    if !def.id.is_empty() {
        return Cow::Borrowed(def);
    }
    Cow::Owned(ServiceDef {
        id: def.name.clone(),
        ..def.clone()
    })
}

/// With an id, which is the name if none was given.
pub(super) fn named_check(def: &CheckDef) -> Cow<'_, CheckDef> {
    if !def.id.is_empty() {
        return Cow::Borrowed(def);
    }
    Cow::Owned(CheckDef {
        id: def.name.clone(),
        ..def.clone()
    })
}
