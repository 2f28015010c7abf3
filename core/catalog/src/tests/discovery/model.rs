//! Nodes, services and checks as a naive program.
//!
//! The model keeps plain maps, scans all of them for each question, and finds the index of an answer by comparing it with what it was
//! before each single change.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::{
    CheckRecord, Instance, NodeInfo, NodeRecord, NodeServices, ServiceNode, ServiceRecord, ServiceTags,
};

type OnNode = (String, String);

/// An answer, and whether what it is about exists: since when, if it has a beginning.
type Answer = (Option<Index>, Found);

#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    /// With the index since when there is a node of this name.
    nodes: BTreeMap<String, (NodeRecord, Index)>,
    services: BTreeMap<OnNode, ServiceRecord>,
    checks: BTreeMap<OnNode, CheckRecord>,
    /// How the names of services were last spelled, and since when there are any of this name.
    groups: BTreeMap<(bool, String), (Text, Index)>,
    vanished: Index,
    answers: BTreeMap<Query, (Answer, Index)>,
}

fn fold(text: &str) -> String {
    text.to_lowercase()
}

impl Model {
    pub(super) fn new(queries: &[Query]) -> Self {
        let mut model = Self::default();
        for query in queries {
            let answer = model.answer(query);
            model.answers.insert(query.clone(), (answer, Index::ZERO));
        }
        model
    }

    pub(super) fn apply(&mut self, index: Index, action: &Action) -> bool {
        let mut copy = self.clone();
        let fine = match action {
            Action::Register(registration) => copy.register(index, registration),
            Action::Deregister(deregistration) => copy.deregister(index, deregistration),
            Action::RegisterMany(changes) => changes.iter().all(|change| match change {
                CatalogChange::Register(registration) => copy.register(index, registration),
                CatalogChange::Deregister(deregistration) => copy.deregister(index, deregistration),
            }),
            Action::Kv(_)
            | Action::Txn(_)
            | Action::ReapTombstones(_)
            | Action::SetAutopilot { .. }
            | Action::Coordinates(_)
            | Action::ForgetCoordinates(_)
            | Action::CreateSession(_)
            | Action::EndSessions(_)
            | Action::EndLockDelays(_)
            | Action::Once(_)
            | Action::ForgetReceipts(_)
            | Action::RunOut { .. }
            | Action::Restore(_)
            | Action::CreatePrepared(_)
            | Action::UpdatePrepared(_)
            | Action::DeletePrepared(_) => unreachable!("they have a model of their own"),
        };
        if fine {
            *self = copy;
        }
        fine
    }

    /// Notes which answers the change that was just made has changed.
    fn settle(&mut self, index: Index) {
        let mut answers = std::mem::take(&mut self.answers);
        for (query, (old, changed)) in &mut answers {
            let new = self.answer(query);
            if new != *old {
                (*old, *changed) = (new, index);
            }
        }
        self.answers = answers;
    }

    pub(super) fn query(&self, query: &Query) -> (Index, Found) {
        let of = |query: &Query| self.answers[query].1;
        let ((since, found), changed) = &self.answers[query];
        // Some are only as fine as another question; and what does not exist has no index of its own.
        let index = if let Query::Services { node_meta } | Query::HealthState { node_meta, .. } = query
            && !node_meta.is_empty()
        {
            of(&Query::NodeInfos)
        } else if let Query::HealthChecks { service, node_meta } = query
            && !node_meta.is_empty()
            && since.is_some()
        {
            of(&health(service, false))
        } else if since.is_some() {
            *changed
        } else if matches!(
            query,
            Query::NodeServices(_) | Query::NodeInfo(_) | Query::HealthNode(_)
        ) {
            of(&Query::Nodes)
        } else {
            self.vanished
        };
        (index, found.clone())
    }

    fn register(&mut self, index: Index, registration: &Registration) -> bool {
        let Registration {
            node,
            skip_node_update,
            service,
            checks,
        } = registration;
        let at = fold(&node.name);
        if node.name.is_empty() || (node.address.is_empty() && !skip_node_update) {
            return false;
        }
        if service.as_ref().is_some_and(|service| service.name.is_empty()) {
            return false;
        }
        if !skip_node_update || !self.nodes.contains_key(&at) {
            let same_id = |record: &NodeRecord| node.id.is_some() && record.def.id == node.id;
            let former = self.nodes.iter().find(|(_, (record, _))| same_id(record));
            let former = former.map(|(name, (record, _))| (name.clone(), record.create_index));
            let former = former.filter(|(name, _)| *name != at);
            if let (Some((owner, _)), Some(id)) = (self.nodes.get(&at), node.id) {
                let serf = self.checks.get(&(at.clone(), fold(SERF_HEALTH)));
                let well = serf.is_some_and(|check| check.def.status == Status::Passing);
                let anonymous = owner.def.id.is_none() && former.is_none();
                if owner.def.id != Some(id) && well && !anonymous {
                    return false;
                }
            }
            if let Some((name, _)) = &former {
                self.remove_node(index, name);
            }
            self.put_node(index, node, former.map(|(_, created)| created));
        }
        if let Some(service) = service {
            self.put_service(index, &at, service);
        }
        checks.iter().all(|check| self.put_check(index, &at, check))
    }

    fn deregister(&mut self, index: Index, deregistration: &Deregistration) -> bool {
        let at = fold(&deregistration.node);
        match &deregistration.what {
            Removal::Node => self.remove_node(index, &at),
            Removal::Service(id) => {
                let id = fold(id);
                if self.services.remove(&(at.clone(), id.clone())).is_some() {
                    self.checks
                        .retain(|(node, _), check| *node != at || fold(&check.def.service_id) != id);
                }
            }
            Removal::Check(id) => {
                self.checks.remove(&(at, fold(id)));
            }
        }
        self.regroup(index, None);
        !deregistration.node.is_empty()
    }

    fn put_node(&mut self, index: Index, def: &NodeDef, created: Option<Index>) {
        let at = fold(&def.name);
        let old = self.nodes.get(&at).cloned();
        let create_index = created
            .or(old.as_ref().map(|(old, _)| old.create_index))
            .unwrap_or(index);
        if old
            .as_ref()
            .is_some_and(|(old, _)| old.def == *def && old.create_index == create_index)
        {
            return;
        }
        let record = NodeRecord {
            def: def.clone(),
            create_index,
            modify_index: index,
        };
        self.nodes
            .insert(at.clone(), (record, old.map_or(index, |(_, since)| since)));
        for ((node, _), service) in &mut self.services {
            if *node == at {
                service.node = def.name.clone();
            }
        }
        for ((node, _), check) in &mut self.checks {
            if *node == at {
                check.node = def.name.clone();
            }
        }
        self.settle(index);
    }

    fn remove_node(&mut self, index: Index, at: &str) {
        self.nodes.remove(at);
        self.services.retain(|(node, _), _| node != at);
        self.checks.retain(|(node, _), _| node != at);
        self.regroup(index, None);
    }

    fn put_service(&mut self, index: Index, at: &str, def: &ServiceDef) {
        let mut def = def.clone();
        if def.id.is_empty() {
            def.id = def.name.clone();
        }
        let key = (at.to_owned(), fold(&def.id));
        let old = self.services.get(&key);
        if old.is_some_and(|old| old.def == def) {
            return;
        }
        let record = ServiceRecord {
            node: self.nodes[at].0.def.name.clone(),
            def: def.clone(),
            create_index: old.map_or(index, |old| old.create_index),
            modify_index: index,
        };
        self.services.insert(key.clone(), record);
        for ((node, _), check) in &mut self.checks {
            let stale = check.service_name != def.name || check.service_tags != def.tags;
            if *node == at && fold(&check.def.service_id) == key.1 && stale {
                check.service_name = def.name.clone();
                check.service_tags = def.tags.clone();
                check.modify_index = index;
            }
        }
        self.regroup(index, Some(&def));
    }

    /// Brings `groups` up to date after instances have changed, `put` being the one that was put.
    fn regroup(&mut self, index: Index, put: Option<&ServiceDef>) {
        for connect in [false, true] {
            let names: BTreeSet<String> = self
                .services
                .values()
                .filter_map(|service| found_by(&service.def, connect).map(|name| fold(&name)))
                .collect();
            if let Some(name) = put.and_then(|put| found_by(put, connect)) {
                let entry = self.groups.entry((connect, fold(&name)));
                entry
                    .and_modify(|(spelled, _)| *spelled = name.clone())
                    .or_insert((name, index));
            }
            let before = self.groups.len();
            self.groups
                .retain(|(other, name), _| *other != connect || names.contains(name));
            if self.groups.len() < before {
                self.vanished = index;
            }
        }
        self.settle(index);
    }

    fn put_check(&mut self, index: Index, at: &str, def: &CheckDef) -> bool {
        let mut def = def.clone();
        if def.id.is_empty() {
            def.id = def.name.clone();
        }
        let service = self.services.get(&(at.to_owned(), fold(&def.service_id)));
        if service.is_none() && !def.service_id.is_empty() {
            return false;
        }
        let key = (at.to_owned(), fold(&def.id));
        let old = self.checks.get(&key);
        if old.is_some_and(|old| old.def == def) {
            return true;
        }
        let record = CheckRecord {
            node: self.nodes[at].0.def.name.clone(),
            def,
            service_name: service.map_or("".into(), |service| service.def.name.clone()),
            service_tags: service.map_or([].into(), |service| service.def.tags.clone()),
            create_index: old.map_or(index, |old| old.create_index),
            modify_index: index,
        };
        self.checks.insert(key, record);
        self.settle(index);
        true
    }

    fn answer(&self, query: &Query) -> Answer {
        let begin = Some(Index::ZERO);
        let node = |at: &String| Arc::new(self.nodes[at].0.clone());
        let services = |at: &str| -> Vec<_> {
            let on_node = self.services.iter().filter(|((node, _), _)| node == at);
            on_node.map(|(_, service)| Arc::new(service.clone())).collect()
        };
        let checks = |wanted: &dyn Fn(&str, &CheckRecord) -> bool| -> Vec<Arc<CheckRecord>> {
            let found = self
                .checks
                .iter()
                .filter(|((node, _), check)| wanted(node, check));
            found.map(|(_, check)| Arc::new(check.clone())).collect()
        };
        let info = |at: &String| NodeInfo {
            node: node(at),
            services: services(at),
            checks: checks(&|node, _| node == at),
        };
        let since = |at: &str| self.nodes.get(at).map(|(_, since)| *since);
        let group =
            |connect: bool, name: &str| self.groups.get(&(connect, fold(name))).map(|(_, since)| *since);
        let members = |name: &str, connect: bool| -> Vec<(String, &ServiceRecord)> {
            let found = self.services.iter().filter(|(_, service)| {
                found_by(&service.def, connect).is_some_and(|other| fold(&other) == fold(name))
            });
            found
                .map(|((node, _), service)| (node.clone(), service))
                .collect()
        };
        let has = |at: &str, meta: &[(String, String)]| {
            meta.iter().all(|(name, value)| {
                let found = self.nodes[at].0.def.meta.get(name);
                found.is_some_and(|found| **found == **value)
            })
        };
        match query {
            Query::Nodes => (begin, Found::Nodes(self.nodes.keys().map(node).collect())),
            Query::NodeServices(name) => {
                let at = fold(name);
                let found = since(&at).map(|_| NodeServices {
                    node: node(&at),
                    services: services(&at),
                });
                (since(&at), Found::NodeServices(found))
            }
            Query::NodeInfo(name) => {
                let at = fold(name);
                (
                    since(&at),
                    Found::NodeInfos(since(&at).map(|_| info(&at)).into_iter().collect()),
                )
            }
            Query::NodeInfos => (begin, Found::NodeInfos(self.nodes.keys().map(info).collect())),
            Query::Services { node_meta } => {
                let mut found: BTreeMap<String, BTreeSet<Text>> = BTreeMap::new();
                for (_, service) in self.services.iter().filter(|((at, _), _)| has(at, node_meta)) {
                    let tags = found.entry(fold(&service.def.name)).or_default();
                    tags.extend(service.def.tags.iter().cloned());
                }
                let listed = found.into_iter().map(|(name, tags)| ServiceTags {
                    name: self.groups[&(false, name)].0.clone(),
                    tags: tags.into_iter().collect(),
                });
                (begin, Found::Services(listed.collect()))
            }
            Query::ServiceNodes { service, connect } => {
                let found = members(service, *connect)
                    .into_iter()
                    .map(|(at, service)| ServiceNode {
                        node: node(&at),
                        service: Arc::new(service.clone()),
                    });
                (group(*connect, service), Found::ServiceNodes(found.collect()))
            }
            Query::HealthNode(name) => {
                let at = fold(name);
                (since(&at), Found::Checks(checks(&|node, _| node == at)))
            }
            Query::HealthChecks { service, node_meta } => {
                let wanted = |node: &str, check: &CheckRecord| {
                    fold(&check.service_name) == fold(service) && has(node, node_meta)
                };
                (group(false, service), Found::Checks(checks(&wanted)))
            }
            Query::HealthService { service, connect } => {
                let found = members(service, *connect).into_iter().map(|(at, service)| {
                    let of = |id: &str| {
                        checks(&|node, check| node == at && fold(&check.def.service_id) == fold(id))
                    };
                    Instance {
                        node: node(&at),
                        service: Arc::new(service.clone()),
                        checks: [of(""), of(&service.def.id)].concat(),
                    }
                });
                (group(*connect, service), Found::Instances(found.collect()))
            }
            Query::HealthState { status, node_meta } => {
                let wanted = |node: &str, check: &CheckRecord| {
                    status.is_none_or(|status| check.def.status == status) && has(node, node_meta)
                };
                (begin, Found::Checks(checks(&wanted)))
            }
            Query::KvGet(_)
            | Query::KvList(_)
            | Query::KvKeys { .. }
            | Query::Autopilot
            | Query::Coordinates
            | Query::Coordinate(_)
            | Query::Sessions
            | Query::Session(_)
            | Query::NodeSessions(_)
            | Query::PreparedQueries
            | Query::PreparedQuery(_)
            | Query::Resolve(_) => unreachable!("they have a model of their own"),
        }
    }
}

/// The name by which an instance is found.
fn found_by(def: &ServiceDef, connect: bool) -> Option<Text> {
    if !connect {
        return Some(def.name.clone());
    }
    let part = def.connect.as_ref()?;
    match (&*def.kind, part.native) {
        ("connect-proxy", _) => (!part.destination.is_empty()).then(|| part.destination.clone()),
        (_, native) => native.then(|| def.name.clone()),
    }
}

pub(super) fn health(service: &str, connect: bool) -> Query {
    Query::HealthService {
        service: service.to_owned(),
        connect,
    }
}
