//! The catalog, held against the truth: nodes, services, checks and their statuses, on every server; no ghost, and nothing missing.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use lictor_catalog::{CheckDef, NodeDef, Query, ServiceDef, State, Status, Text};
use lictor_local::{SERF_HEALTH, SERVERS};
use lictor_machine::Index;

use super::world::World;
use crate::gossip::truth::Fate;

/// How long gossip remembers who failed, with what it takes for everybody to agree on that.
const FORGOTTEN_AFTER: Duration = Duration::from_hours(80);

/// What must be said of one node.
#[derive(Debug, Default, PartialEq, Eq)]
struct Page {
    node: NodeDef,
    services: BTreeMap<Text, ServiceDef>,
    checks: BTreeMap<Text, CheckDef>,
}

impl World<'_> {
    /// The first thing in which the agents, or the catalog on some server, are not as they should be.
    pub(super) fn catalog_difference(&self) -> Option<String> {
        let up = self.up();
        if let Some(wrong) = up.iter().find_map(|at| self.local_difference(*at)) {
            return Some(wrong);
        }
        if !self.outside.is_idle() {
            return Some("somebody outside waits for a write".to_owned());
        }
        let expected = self.expected();
        let servers = up.into_iter().filter(|at| self.seats[*at].server);
        servers.into_iter().find_map(|at| {
            let wrong = self.wrong_in(&self.seats[at].published, &expected)?;
            Some(format!("in the catalog on m{at} {wrong}"))
        })
    }

    /// The latest index of the catalog on any server that is up.
    pub(super) fn catalog_index(&self) -> Index {
        let servers = self.up().into_iter().filter(|at| self.seats[*at].server);
        let indexes = servers.filter_map(|at| self.seats[at].published.index_of(&Query::NodeInfos));
        indexes.max().unwrap_or_default()
    }

    /// Whether there are nodes of agents that are no more.
    pub(super) fn has_remains(&self) -> bool {
        let expected = self.expected();
        let servers = self.up().into_iter().filter(|at| self.seats[*at].server);
        let mut nodes = servers.flat_map(|at| self.seats[at].published.nodes());
        nodes.any(|node| !expected.contains_key(&node.def.name))
    }

    /// How many services run on agents that are up.
    pub(super) fn services(&self) -> u64 {
        let locals = self.up().into_iter().filter_map(|at| self.agent(at)?.local());
        locals.map(|local| local.view().services.len() as u64).sum()
    }

    /// What must be there of all nodes that live, and of those that others brought.
    fn expected(&self) -> BTreeMap<Text, Page> {
        let mut pages: BTreeMap<Text, Page> = BTreeMap::new();
        for (name, foreign) in self.outside.nodes() {
            let page = Page {
                node: foreign.node.clone(),
                services: foreign.services.clone(),
                checks: foreign.checks.clone(),
            };
            pages.insert(name.clone(), page);
        }
        for at in self.up() {
            let Some(local) = self.agent(at).and_then(|agent| agent.local()) else {
                continue;
            };
            let view = local.view();
            let services = view.services.iter().map(|(_, service)| service.def.clone());
            let checks = view.checks.iter().map(|(_, check)| check.def.clone());
            let mut page = Page {
                services: services.map(|def| (def.id.clone(), def)).collect(),
                checks: checks.map(|def| (def.id.clone(), def)).collect(),
                node: view.node,
            };
            page.checks
                .insert(SERF_HEALTH.into(), member_check(Status::Passing));
            pages.insert(page.node.name.clone(), page);
        }
        pages
    }

    fn wrong_in(&self, state: &State, expected: &BTreeMap<Text, Page>) -> Option<String> {
        let there: BTreeSet<&Text> = state.nodes().map(|node| &node.def.name).collect();
        if let Some(missing) = expected.keys().find(|name| !there.contains(name)) {
            return Some(format!("there is no node {missing}"));
        }
        for name in there {
            let wrong = match expected.get(name) {
                Some(page) => self.wrong_on(state, page),
                None => self.ghost(state, name),
            };
            if wrong.is_some() {
                return wrong;
            }
        }
        None
    }

    fn wrong_on(&self, state: &State, expected: &Page) -> Option<String> {
        let name = &expected.node.name;
        let mut found = page(state, name);
        if self.is_server_named(name) {
            // What the leader says of servers in detail is not the agents' business; that it says something is.
            match found.services.remove(SERVERS) {
                Some(service) if *service.name == *SERVERS && service.port > 0 => {}
                other => return Some(format!("the server {name} has {other:?} for its own service")),
            }
        }
        if found == *expected {
            return None;
        }
        if found.node != expected.node {
            return Some(format!(
                "the node is {:?}, and should be {:?}",
                found.node, expected.node
            ));
        }
        let services = first_difference(&found.services, &expected.services);
        let checks = || first_difference(&found.checks, &expected.checks);
        services
            .or_else(checks)
            .map(|wrong| format!("on the node {name} {wrong}"))
    }

    fn is_server_named(&self, name: &str) -> bool {
        self.up()
            .into_iter()
            .any(|at| self.seats[at].server && self.truth[at].name == name)
    }

    /// A node may be there that nobody stands for only if its agent has failed, and only as failed, and not for ever.
    fn ghost(&self, state: &State, name: &Text) -> Option<String> {
        let all = self.truth.iter().zip(&self.seats);
        let dead = all.filter(|(truth, seat)| {
            let former = seat.former_names.iter().any(|former| **former == **name);
            truth.fate == Fate::Crashed && (truth.name == **name || former)
        });
        let Some(last) = dead.map(|(truth, _)| truth.since).max() else {
            // What others bring to a name that no agent goes by any more is their own.
            let theirs = self.outside.has_interfered_with(name);
            let wrong = format!("there is a node {name}, whose agent has left or never was");
            return (!theirs || state.check(name, SERF_HEALTH).is_some()).then_some(wrong);
        };
        let remembered = self.now.since(last) < FORGOTTEN_AFTER;
        let serf_health = state.check(name, SERF_HEALTH);
        // One that was written anew by others after its agent had failed has no such check.
        let failed = serf_health.is_none_or(|check| check.def == member_check(Status::Critical));
        if remembered && failed {
            return None;
        }
        Some(format!(
            "there is the node {name}, whose agent failed at {last:?}, with {:?}",
            serf_health.map(|check| &check.def)
        ))
    }
}

fn page(state: &State, name: &str) -> Page {
    let services = state.services_on(name).iter().map(|service| &service.def);
    let checks = state.checks_on(name).iter().map(|check| &check.def);
    Page {
        node: state.node(name).map(|node| node.def.clone()).unwrap_or_default(),
        services: services.map(|def| (def.id.clone(), def.clone())).collect(),
        checks: checks.map(|def| (def.id.clone(), def.clone())).collect(),
    }
}

fn first_difference<V: PartialEq + core::fmt::Debug>(
    found: &BTreeMap<Text, V>,
    expected: &BTreeMap<Text, V>,
) -> Option<String> {
    let ids: BTreeSet<&Text> = found.keys().chain(expected.keys()).collect();
    let id = ids.into_iter().find(|id| found.get(*id) != expected.get(*id))?;
    Some(format!(
        "{id} is {:?}, and should be {:?}",
        found.get(id),
        expected.get(id)
    ))
}

/// What the leader says of a member.
fn member_check(status: Status) -> CheckDef {
    let output = match status {
        Status::Passing => "Agent alive and reachable",
        Status::Warning | Status::Critical => "Agent not live or unreachable",
    };
    CheckDef {
        id: SERF_HEALTH.into(),
        name: "Serf Health Status".into(),
        status,
        output: output.into(),
        ..CheckDef::default()
    }
}
