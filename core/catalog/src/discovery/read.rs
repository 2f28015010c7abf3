//! Answering questions about nodes, services and checks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lictor_machine::{Index, NodeId};

use super::defs::{Status, Text};
use super::groups::{Group, Kind};
use super::labels::Labels;
use super::records::{
    CheckRecord, Instance, NodeInfo, NodeRecord, NodeServices, ServiceNode, ServiceRecord, ServiceTags,
};
use super::store::{Discovery, Host};
use crate::coordinate::folded;
use crate::state::State;

type NodeMeta = [(String, String)];

impl Discovery {
    fn host(&self, node: &str) -> Option<&Arc<Host>> {
        self.hosts.get(folded(node).as_bytes())
    }

    fn group(&self, kind: Kind, service: &str) -> Option<&Arc<Group>> {
        self.groups(kind).by_name.get(folded(service).as_bytes())
    }

    /// The index of a question about one node; that of all nodes if it does not exist.
    fn host_index(&self, node: &str, index: impl FnOnce(&Host) -> Index) -> Index {
        self.host(node).map_or(self.indexes.nodes, |host| index(host))
    }

    /// The index of a question about one service; when the last one vanished if it does not exist.
    fn group_index(&self, kind: Kind, service: &str, index: impl FnOnce(&Group) -> Index) -> Index {
        self.group(kind, service)
            .map_or(self.indexes.vanished, |group| index(group))
    }

    pub(crate) const fn nodes_index(&self) -> Index {
        self.indexes.nodes
    }

    pub(crate) fn nodes(&self) -> Vec<Arc<NodeRecord>> {
        self.hosts.values().map(|host| Arc::clone(&host.record)).collect()
    }

    pub(crate) fn node_services_index(&self, node: &str) -> Index {
        self.host_index(node, |host| host.record.modify_index.max(host.indexes.services))
    }

    pub(crate) fn node_services(&self, node: &str) -> Option<NodeServices> {
        self.host(node).map(|host| NodeServices {
            node: Arc::clone(&host.record),
            services: host.services.clone(),
        })
    }

    pub(crate) fn node_info_index(&self, node: &str) -> Index {
        self.host_index(node, |host| {
            let indexes = &host.indexes;
            host.record.modify_index.max(indexes.services).max(indexes.checks)
        })
    }

    pub(crate) fn node_info(&self, node: &str) -> Vec<NodeInfo> {
        self.host(node).map(|host| info(host)).into_iter().collect()
    }

    pub(crate) fn node_infos(&self) -> Vec<NodeInfo> {
        self.hosts.values().map(|host| info(host)).collect()
    }

    pub(crate) fn services_index(&self, node_meta: &NodeMeta) -> Index {
        if node_meta.is_empty() {
            return self.indexes.names;
        }
        self.indexes.latest()
    }

    pub(crate) fn service_tags(&self, node_meta: &NodeMeta) -> Vec<ServiceTags> {
        let groups = &self.services.by_name;
        if node_meta.is_empty() {
            let listed = groups.values().map(|group| ServiceTags {
                name: group.name.clone(),
                tags: group.tags().cloned().collect(),
            });
            return listed.collect();
        }
        let mut found: BTreeMap<String, BTreeSet<&Text>> = BTreeMap::new();
        for host in self.hosts.values().filter(|host| has_all(host, node_meta)) {
            for service in &host.services {
                let tags = found.entry(folded(&service.def.name)).or_default();
                tags.extend(service.def.tags.iter());
            }
        }
        let listed = found.into_iter().filter_map(|(key, tags)| {
            Some(ServiceTags {
                name: groups.get(key.as_bytes())?.name.clone(),
                tags: tags.into_iter().cloned().collect(),
            })
        });
        listed.collect()
    }

    pub(crate) fn service_nodes_index(&self, service: &str, connect: bool) -> Index {
        self.group_index(Kind::of(connect), service, |group| group.indexes.instances)
    }

    pub(crate) fn service_nodes(&self, service: &str, connect: bool) -> Vec<ServiceNode> {
        let found = self.members(service, connect).map(|(host, service)| ServiceNode {
            node: Arc::clone(&host.record),
            service: Arc::clone(service),
        });
        found.collect()
    }

    pub(crate) fn health_service_index(&self, service: &str, connect: bool) -> Index {
        self.group_index(Kind::of(connect), service, |group| group.indexes.health)
    }

    pub(crate) fn health_service(&self, service: &str, connect: bool) -> Vec<Instance> {
        let count = self
            .group(Kind::of(connect), service)
            .map_or(0, |group| group.count);
        let mut instances = Vec::with_capacity(count);
        instances.extend(self.members(service, connect).map(|(host, service)| {
            Instance {
                node: Arc::clone(&host.record),
                service: Arc::clone(service),
                checks: host
                    .checks_of("")
                    .chain(host.checks_of(&service.def.id))
                    .cloned()
                    .collect(),
            }
        }));
        instances
    }

    pub(crate) fn health_node_index(&self, node: &str) -> Index {
        self.host_index(node, |host| host.indexes.checks)
    }

    pub(crate) fn health_node(&self, node: &str) -> Vec<Arc<CheckRecord>> {
        self.host(node)
            .map(|host| host.checks.clone())
            .unwrap_or_default()
    }

    pub(crate) fn health_checks_index(&self, service: &str, node_meta: &NodeMeta) -> Index {
        self.group_index(Kind::Service, service, |group| {
            if node_meta.is_empty() {
                group.indexes.checks
            } else {
                group.indexes.health
            }
        })
    }

    pub(crate) fn health_checks(&self, service: &str, node_meta: &NodeMeta) -> Vec<Arc<CheckRecord>> {
        let mut found: Vec<Arc<CheckRecord>> = Vec::new();
        let mut last: Option<&Arc<Host>> = None;
        // Several instances may be on one node; its checks are wanted in their own order, once.
        for (host, _) in self.members(service, false) {
            if last.is_some_and(|last| Arc::ptr_eq(last, host)) {
                continue;
            }
            last = Some(host);
            if has_all(host, node_meta) {
                let of_service = |check: &&Arc<CheckRecord>| check.service_name.eq_ignore_ascii_case(service);
                found.extend(host.checks.iter().filter(of_service).cloned());
            }
        }
        found
    }

    pub(crate) fn health_state_index(&self, status: Option<Status>, node_meta: &NodeMeta) -> Index {
        match status {
            Some(_) | None if !node_meta.is_empty() => self.indexes.latest(),
            Some(status) => self.indexes.statuses[status as usize],
            None => self.indexes.checks,
        }
    }

    pub(crate) fn health_state(&self, status: Option<Status>, node_meta: &NodeMeta) -> Vec<Arc<CheckRecord>> {
        let hosts = self.hosts.values().filter(|host| has_all(host, node_meta));
        hosts
            .flat_map(|host| &host.checks)
            .filter(|check| status.is_none_or(|status| check.def.status == status))
            .cloned()
            .collect()
    }

    fn members<'a>(
        &'a self,
        service: &str,
        connect: bool,
    ) -> impl Iterator<Item = (&'a Arc<Host>, &'a Arc<ServiceRecord>)> + use<'a> {
        let members = self
            .groups(Kind::of(connect))
            .members_of(folded(service).as_bytes());
        members.filter_map(|(at, service)| Some((self.hosts.get(at)?, service)))
    }
}

/// Looking at single objects. Everything is found in any letter case, in O(log n).
impl State {
    /// The node with this name.
    pub fn node(&self, name: &str) -> Option<&Arc<NodeRecord>> {
        self.discovery.host(name).map(|host| &host.record)
    }

    /// The node with this id.
    pub fn node_by_id(&self, id: NodeId) -> Option<&Arc<NodeRecord>> {
        let at = self.discovery.by_id.get(&id)?;
        self.discovery.hosts.get(at).map(|host| &host.record)
    }

    /// All nodes, by name in lower case.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<NodeRecord>> {
        self.discovery.hosts.values().map(|host| &host.record)
    }

    /// The instances on a node, by id in lower case.
    pub fn services_on(&self, node: &str) -> &[Arc<ServiceRecord>] {
        self.discovery.host(node).map_or(&[], |host| &host.services)
    }

    /// The checks on a node, by id in lower case.
    pub fn checks_on(&self, node: &str) -> &[Arc<CheckRecord>] {
        self.discovery.host(node).map_or(&[], |host| &host.checks)
    }

    /// An instance.
    pub fn service(&self, node: &str, id: &str) -> Option<&Arc<ServiceRecord>> {
        self.discovery.host(node)?.service(id)
    }

    /// A check.
    pub fn check(&self, node: &str, id: &str) -> Option<&Arc<CheckRecord>> {
        self.discovery.host(node)?.check(id)
    }

    /// The checks of an instance, without those of its node; those of the node as a whole for the empty id. Looks at all on the node.
    pub fn checks_of<'a>(
        &'a self,
        node: &str,
        service_id: &'a str,
    ) -> impl Iterator<Item = &'a Arc<CheckRecord>> {
        let host = self.discovery.host(node);
        host.into_iter().flat_map(move |host| host.checks_of(service_id))
    }

    /// The instances of a service with their nodes, or with `connect` those that take its callers in the service mesh: by the node's
    /// name, then by id, both in lower case.
    pub fn instances<'a>(
        &'a self,
        service: &str,
        connect: bool,
    ) -> impl Iterator<Item = (&'a Arc<NodeRecord>, &'a Arc<ServiceRecord>)> + use<'a> {
        let members = self.discovery.members(service, connect);
        members.map(|(host, service)| (&host.record, service))
    }
}

fn info(host: &Host) -> NodeInfo {
    NodeInfo {
        node: Arc::clone(&host.record),
        services: host.services.clone(),
        checks: host.checks.clone(),
    }
}

/// Whether a node has all these labels.
fn has_all(host: &Host, wanted: &NodeMeta) -> bool {
    let meta: &Labels = &host.record.def.meta;
    wanted
        .iter()
        .all(|(name, value)| meta.get(name).is_some_and(|found| **found == **value))
}
