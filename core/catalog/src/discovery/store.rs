//! The tables of nodes, services and checks, and how one object of them is put or removed.

use std::cmp::Ordering;
use std::sync::Arc;

use imbl::OrdMap;
use lictor_machine::{Index, NodeId};
use serde::{Deserialize, Serialize};

use super::defs::{CheckDef, NodeDef, ServiceDef, Status, Text};
use super::groups::{Facet, Group, GroupIndexes, Groups, Kind};
use super::marks;
use super::records::{CheckRecord, NodeRecord, ServiceRecord};
use super::validation::END;
use crate::command::Key;
use crate::coordinate::folded;
use crate::edit::{Edit, Lost, Touch};
use crate::row::Table;

/// Nodes, services and checks. Clones are O(1).
#[derive(Clone, Debug, Default)]
pub(crate) struct Discovery {
    /// By name in lower case.
    pub(super) hosts: OrdMap<Key, Arc<Host>>,
    /// The keys of those in `hosts` that have an id.
    pub(super) by_id: OrdMap<NodeId, Key>,
    pub(super) services: Groups,
    pub(super) connect: Groups,
    pub(super) indexes: TableIndexes,
}

/// When each table last changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct TableIndexes {
    /// The nodes.
    pub(super) nodes: Index,
    /// The instances.
    pub(super) services: Index,
    /// The names and tags of all services.
    pub(super) names: Index,
    /// When the last instance of any service went.
    pub(super) vanished: Index,
    /// The checks.
    pub(super) checks: Index,
    /// The checks with each status, in the order of [`Status::ALL`].
    pub(super) statuses: [Index; 3],
}

impl TableIndexes {
    /// When anything last changed.
    pub(crate) fn latest(&self) -> Index {
        self.nodes.max(self.services).max(self.checks)
    }
}

/// A node and what runs on it.
#[derive(Clone, Debug)]
pub(super) struct Host {
    pub(super) record: Arc<NodeRecord>,
    /// By id in lower case.
    pub(super) services: Vec<Arc<ServiceRecord>>,
    /// By id in lower case.
    pub(super) checks: Vec<Arc<CheckRecord>>,
    pub(super) indexes: HostIndexes,
}

/// When what runs on a node last changed, or the node itself came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HostIndexes {
    pub(super) services: Index,
    pub(super) checks: Index,
}

impl Host {
    pub(super) fn service(&self, id: &str) -> Option<&Arc<ServiceRecord>> {
        let at = self.service_at(id).ok()?;
        self.services.get(at)
    }

    pub(super) fn check(&self, id: &str) -> Option<&Arc<CheckRecord>> {
        let at = self.check_at(id).ok()?;
        self.checks.get(at)
    }

    /// The checks of an instance on it; those of the node as a whole for the empty id.
    pub(super) fn checks_of<'a>(&'a self, service_id: &'a str) -> impl Iterator<Item = &'a Arc<CheckRecord>> {
        self.checks
            .iter()
            .filter(move |check| check.def.service_id.eq_ignore_ascii_case(service_id))
    }

    pub(super) fn service_at(&self, id: &str) -> Result<usize, usize> {
        self.services
            .binary_search_by(|other| compare_folded(&other.def.id, id))
    }

    pub(super) fn check_at(&self, id: &str) -> Result<usize, usize> {
        self.checks
            .binary_search_by(|other| compare_folded(&other.def.id, id))
    }
}

impl Discovery {
    /// When the tables last changed.
    pub(crate) const fn indexes(&self) -> &TableIndexes {
        &self.indexes
    }

    /// How many nodes there are.
    pub(crate) fn len(&self) -> usize {
        self.hosts.len()
    }

    /// How many services there are, by name.
    pub(crate) fn service_names(&self) -> usize {
        self.services.by_name.len()
    }

    /// How many instances and checks there are on all nodes.
    pub(crate) fn instances_and_checks(&self) -> (usize, usize) {
        let counts = self
            .hosts
            .values()
            .map(|host| (host.services.len(), host.checks.len()));
        counts.fold((0, 0), |(services, checks), of| (services + of.0, checks + of.1))
    }

    /// Whether there is a node at `at`, its name in lower case.
    pub(crate) fn has_node(&self, at: &Key) -> bool {
        self.hosts.contains_key(at)
    }

    /// How well a check of the node `at` finds it; `None` if there is no such check.
    pub(crate) fn check_status(&self, at: &Key, id: &str) -> Option<Status> {
        let check = self.hosts.get(at)?.check(id)?;
        Some(check.def.status)
    }

    /// How many rows of [`Table::Marks`] there are.
    pub(super) fn marks(&self) -> usize {
        self.hosts.len() + self.services.by_name.len() + self.connect.by_name.len()
    }

    pub(super) const fn groups(&self, kind: Kind) -> &Groups {
        match kind {
            Kind::Service => &self.services,
            Kind::Connect => &self.connect,
        }
    }

    pub(super) const fn groups_mut(&mut self, kind: Kind) -> &mut Groups {
        match kind {
            Kind::Service => &mut self.services,
            Kind::Connect => &mut self.connect,
        }
    }

    pub(super) fn host_mut(&mut self, at: &Key) -> Option<&mut Host> {
        self.hosts.get_mut(at).map(Arc::make_mut)
    }

    /// Creates the node `at`, or replaces what was known of it. `create_index` is that of one it takes the place of.
    pub(super) fn put_node(&mut self, edit: &mut Edit, at: &Key, def: &NodeDef, create_index: Option<Index>) {
        let old = self.hosts.get(at).map(|host| Arc::clone(&host.record));
        if let Some(old) = &old
            && old.def == *def
            && create_index.is_none_or(|index| index == old.create_index)
        {
            return;
        }
        let record = Arc::new(NodeRecord {
            def: def.clone(),
            create_index: create_index
                .or_else(|| old.as_ref().map(|old| old.create_index))
                .unwrap_or(edit.index),
            modify_index: edit.index,
        });
        if let Some(id) = old.as_ref().and_then(|old| old.def.id) {
            self.by_id.remove(&id);
        }
        if let Some(id) = def.id {
            self.by_id.insert(id, at.clone());
        }
        self.indexes.nodes = edit.index;
        edit.changed(Table::Nodes, at.clone());
        edit.touch(Touch::Node(at.clone()));
        match old {
            None => {
                let host = Host {
                    record,
                    services: Vec::new(),
                    checks: Vec::new(),
                    indexes: HostIndexes {
                        services: edit.index,
                        checks: edit.index,
                    },
                };
                self.hosts.insert(at.clone(), Arc::new(host));
                edit.changed(Table::Marks, marks::of_host(at));
            }
            Some(old) => {
                let respelled = old.def.name != record.def.name;
                if let Some(host) = self.host_mut(at) {
                    host.record = record;
                }
                self.touch_all_on(edit, at, Facet::Instances);
                if respelled {
                    self.respell(edit, at);
                }
            }
        }
    }

    /// Gives everything on a node the node's name as it is spelled now. Only the spelling changes, so the objects keep their indexes;
    /// but answers look different.
    fn respell(&mut self, edit: &mut Edit, at: &Key) {
        let Some(host) = self.host_mut(at) else { return };
        let name = host.record.def.name.clone();
        for service in &mut host.services {
            Arc::make_mut(service).node = name.clone();
        }
        for check in &mut host.checks {
            Arc::make_mut(check).node = name.clone();
        }
        let (services, checks) = (host.services.clone(), host.checks.clone());
        for service in &services {
            for kind in Kind::ALL {
                if let Some(name) = kind.name(&service.def) {
                    let key = Key::from(folded(name));
                    self.groups_mut(kind).replace(&key, at, service);
                }
            }
        }
        for check in &checks {
            self.touch_check(edit, at, check);
        }
    }

    /// Removes a node and everything on it, if it is there.
    pub(super) fn remove_node(&mut self, edit: &mut Edit, at: &Key) {
        let Some(host) = self.hosts.get(at).cloned() else {
            return;
        };
        // From the end, where removing costs least.
        for check in host.checks.iter().rev() {
            self.remove_check(edit, at, &check.def.id);
        }
        for service in host.services.iter().rev() {
            self.remove_service(edit, at, &service.def.id);
        }
        self.hosts.remove(at);
        if let Some(id) = host.record.def.id {
            self.by_id.remove(&id);
        }
        self.indexes.nodes = edit.index;
        edit.changed(Table::Nodes, at.clone());
        edit.changed(Table::Marks, marks::of_host(at));
        edit.touch(Touch::Node(at.clone()));
        edit.lose(Lost::Node(at.clone()));
    }

    /// Puts an instance on the node `at`, which must exist.
    pub(super) fn put_service(&mut self, edit: &mut Edit, at: &Key, def: &ServiceDef) {
        let Some(host) = self.hosts.get(at) else { return };
        let old = host.service(&def.id).cloned();
        if old.as_ref().is_some_and(|old| old.def == *def) {
            return;
        }
        let record = Arc::new(ServiceRecord {
            node: host.record.def.name.clone(),
            def: self.shared(def),
            create_index: old.as_ref().map_or(edit.index, |old| old.create_index),
            modify_index: edit.index,
        });
        self.regroup(edit, at, old.as_deref(), Some(&record));
        if let Some(host) = self.host_mut(at) {
            insert_service(host, Arc::clone(&record));
        }
        self.touch_services_of(edit, at, &record.def.id);
        if old.is_some_and(|old| old.def.name != record.def.name || old.def.tags != record.def.tags) {
            self.refresh_checks(edit, at, &record);
        }
    }

    /// Gives the checks of an instance its name and tags.
    fn refresh_checks(&mut self, edit: &mut Edit, at: &Key, service: &ServiceRecord) {
        let Some(host) = self.hosts.get(at) else { return };
        let stale: Vec<_> = host.checks_of(&service.def.id).cloned().collect();
        for old in stale {
            let new = Arc::new(CheckRecord {
                service_name: service.def.name.clone(),
                service_tags: Arc::clone(&service.def.tags),
                modify_index: edit.index,
                ..CheckRecord::clone(&old)
            });
            if let Some(host) = self.host_mut(at) {
                insert_check(host, Arc::clone(&new));
            }
            // Its group was told by the instance's change; that of the old name too, but for its checks.
            self.touch_check(edit, at, &old);
            self.touch_check(edit, at, &new);
        }
    }

    /// Removes an instance and its checks, if it is there.
    pub(super) fn remove_service(&mut self, edit: &mut Edit, at: &Key, id: &str) {
        let Some(host) = self.hosts.get(at) else { return };
        let Some(record) = host.service(id).cloned() else {
            return;
        };
        let checks: Vec<_> = host.checks_of(id).cloned().collect();
        for check in checks {
            self.remove_check(edit, at, &check.def.id);
        }
        self.regroup(edit, at, Some(&record), None);
        if let Some(host) = self.host_mut(at)
            && let Ok(position) = host.service_at(id)
        {
            host.services.remove(position);
        }
        self.touch_services_of(edit, at, id);
    }

    /// Puts a check on the node `at`. Both that and the check's instance must exist.
    pub(super) fn put_check(&mut self, edit: &mut Edit, at: &Key, def: &CheckDef) {
        let Some(host) = self.hosts.get(at) else { return };
        let old = host.check(&def.id).cloned();
        if old.as_ref().is_some_and(|old| old.def == *def) {
            return;
        }
        let service = host.service(&def.service_id).cloned();
        let new = Arc::new(check_record(
            &host.record.def.name,
            def.clone(),
            service.as_deref(),
            [
                old.as_ref().map_or(edit.index, |old| old.create_index),
                edit.index,
            ],
        ));
        if let Some(host) = self.host_mut(at) {
            insert_check(host, Arc::clone(&new));
        }
        if let Some(old) = old {
            self.touch_check(edit, at, &old);
        }
        self.touch_check(edit, at, &new);
        if new.def.status == Status::Critical {
            edit.lose(Lost::Check(place(at, &new.def.id)));
        }
    }

    /// Removes a check, if it is there.
    pub(super) fn remove_check(&mut self, edit: &mut Edit, at: &Key, id: &str) {
        let Some(host) = self.host_mut(at) else { return };
        let Ok(position) = host.check_at(id) else { return };
        let old = host.checks.remove(position);
        self.touch_check(edit, at, &old);
        edit.lose(Lost::Check(place(at, id)));
    }

    /// The same, sharing with another instance of the service whatever they have in common.
    pub(super) fn shared(&self, def: &ServiceDef) -> ServiceDef {
        let mut def = def.clone();
        let Some(sibling) = self.services.any_member(folded(&def.name).as_bytes()) else {
            return def;
        };
        let ServiceDef {
            name,
            kind,
            tags,
            address,
            tagged_addresses,
            meta,
            ..
        } = &sibling.def;
        share(&mut def.name, name);
        share(&mut def.kind, kind);
        share(&mut def.tags, tags);
        share(&mut def.address, address);
        share(&mut def.tagged_addresses, tagged_addresses);
        share(&mut def.meta, meta);
        def
    }

    /// Sets up a group as it was stored.
    pub(super) fn restore_group(&mut self, kind: Kind, key: &Key, name: Text, indexes: GroupIndexes) -> bool {
        let Some(group) = self.groups_mut(kind).by_name.get_mut(key) else {
            return false;
        };
        let group: &mut Group = Arc::make_mut(group);
        group.name = name;
        group.indexes = indexes;
        true
    }

    /// Adds a node as it was stored.
    pub(super) fn restore_node(&mut self, at: &Key, record: NodeRecord) {
        let indexes = HostIndexes {
            services: record.modify_index,
            checks: record.modify_index,
        };
        let host = Host {
            record: Arc::new(record),
            services: Vec::new(),
            checks: Vec::new(),
            indexes,
        };
        self.hosts.insert(at.clone(), Arc::new(host));
    }

    /// Adds an instance as it was stored. Its node must exist.
    pub(super) fn restore_service(&mut self, at: &Key, record: ServiceRecord) {
        let index = record.modify_index;
        let record = Arc::new(record);
        for kind in Kind::ALL {
            if let Some(name) = kind.name(&record.def) {
                let key = Key::from(folded(name));
                self.groups_mut(kind).join(name, &key, at, &record, None, index);
            }
        }
        if let Some(host) = self.host_mut(at) {
            insert_service(host, record);
        }
    }

    /// Adds a check as it was stored. Its node must exist.
    pub(super) fn restore_check(&mut self, at: &Key, record: CheckRecord) {
        if let Some(host) = self.host_mut(at) {
            insert_check(host, Arc::new(record));
        }
    }

    /// Sets when things on a node last changed, as it was stored; false if there is no such node.
    pub(super) fn restore_host(&mut self, at: &Key, indexes: HostIndexes) -> bool {
        let host = self.host_mut(at);
        host.map(|host| host.indexes = indexes).is_some()
    }
}

/// The record of a check on a node, for an instance if it has one, created and last changed at these indexes.
pub(super) fn check_record(
    node: &Text,
    mut def: CheckDef,
    service: Option<&ServiceRecord>,
    [create_index, modify_index]: [Index; 2],
) -> CheckRecord {
    if let Some(service) = service {
        share(&mut def.service_id, &service.def.id);
    }
    CheckRecord {
        node: node.clone(),
        def,
        service_name: service
            .map(|service| service.def.name.clone())
            .unwrap_or_default(),
        service_tags: service
            .map(|service| Arc::clone(&service.def.tags))
            .unwrap_or_default(),
        create_index,
        modify_index,
    }
}

/// The name of the row of an object on a node.
pub(crate) fn place(at: &[u8], id: &str) -> Key {
    let mut place = Vec::with_capacity(at.len() + 1 + id.len());
    place.extend_from_slice(at);
    place.push(END);
    place.extend(id.bytes().map(|byte| byte.to_ascii_lowercase()));
    Key::from(place)
}

/// The order of two texts in lower case.
pub(super) fn compare_folded(a: &str, b: &str) -> Ordering {
    let [a, b] = [a, b].map(|text| text.bytes().map(|byte| byte.to_ascii_lowercase()));
    a.cmp(b)
}

fn insert_service(host: &mut Host, record: Arc<ServiceRecord>) {
    match host.service_at(&record.def.id) {
        Ok(at) => host.services[at] = record,
        Err(at) => host.services.insert(at, record),
    }
}

fn insert_check(host: &mut Host, record: Arc<CheckRecord>) {
    match host.check_at(&record.def.id) {
        Ok(at) => host.checks[at] = record,
        Err(at) => host.checks.insert(at, record),
    }
}

/// Makes equal things one in memory.
fn share<T: Clone + PartialEq>(mine: &mut T, theirs: &T) {
    if mine == theirs {
        mine.clone_from(theirs);
    }
}
