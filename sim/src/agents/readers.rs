//! Those who read the catalog on the servers: an index never goes back, what changes has a new one and wakes whoever waits for it; and,
//! if that is asked for, nothing that was well is seen to be critical or to vanish.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lictor_catalog::{
    CheckRecord, Key, NodeRecord, Query, ServiceRecord, State, Status, Text, Touch, Touched,
};
use lictor_machine::Index;

use crate::oracles::{Check, ensure};

const PROPERTY: &str = "readers miss nothing";

/// Publications between two looks at everything.
const LOOK_EVERY: u64 = 64;

/// See the module.
#[derive(Debug)]
pub(super) struct Readers {
    on: Vec<OnServer>,
    publications: u64,
    /// From now on everything has to stay well.
    pub(super) all_is_well: bool,
    /// How often a reader saw something change.
    pub(super) seen: u64,
}

/// Who reads on one server.
#[derive(Debug, Default)]
struct OnServer {
    nodes: BTreeMap<Key, Page>,
    services: BTreeMap<Key, Index>,
}

/// What is said of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Page {
    index: Index,
    node: Option<Arc<NodeRecord>>,
    services: Vec<Arc<ServiceRecord>>,
    checks: Vec<Arc<CheckRecord>>,
}

impl Readers {
    pub(super) fn new(servers: usize) -> Self {
        let mut on = Vec::new();
        on.resize_with(servers, OnServer::default);
        Self {
            on,
            publications: 0,
            all_is_well: false,
            seen: 0,
        }
    }

    /// Those who read on a server that starts begin anew: it may be behind where it was.
    pub(super) fn booted(&mut self, at: usize, state: &State) {
        self.on[at] = OnServer::default();
        for name in names(state) {
            let page = Page::of(state, &name);
            self.on[at].nodes.insert(name, page);
        }
    }

    pub(super) fn published(&mut self, at: usize, state: &State, touched: &Touched) -> Check {
        self.publications += 1;
        let Touched::These(touches) = touched else {
            // Everything may be another: who waited is woken.
            let before = core::mem::take(&mut self.on[at]);
            self.booted(at, state);
            return self.on[at].nodes.iter().try_for_each(|(name, page)| {
                let index = before.nodes.get(name).map(|page| page.index).unwrap_or_default();
                ensure(PROPERTY, page.index >= index, || {
                    went_back(at, name, index, page.index)
                })
            });
        };
        let mut woken = BTreeSet::new();
        for touch in touches {
            if let Touch::Node(name) | Touch::NodeServices(name) | Touch::NodeChecks(name) = touch {
                woken.insert(name);
            } else if let Touch::Health {
                service,
                connect: false,
            } = touch
            {
                self.look_at_service(at, state, service)?;
            }
        }
        for name in &woken {
            self.look_at_node(at, state, name)?;
        }
        if self.publications.is_multiple_of(LOOK_EVERY) {
            self.look_at_all(at, state)?;
        }
        Ok(())
    }

    fn look_at_service(&mut self, at: usize, state: &State, service: &Key) -> Check {
        let query = Query::HealthService {
            service: String::from_utf8_lossy(service).into_owned(),
            connect: false,
        };
        let index = state.index_of(&query).unwrap_or_default();
        let before = self.on[at].services.insert(service.clone(), index);
        let before = before.unwrap_or_default();
        ensure(PROPERTY, index >= before, || {
            went_back(at, service, before, index)
        })
    }

    fn look_at_node(&mut self, at: usize, state: &State, name: &Key) -> Check {
        let page = Page::of(state, name);
        let before = self.on[at].nodes.get(name).cloned().unwrap_or_default();
        self.seen += 1;
        ensure(PROPERTY, page.index >= before.index, || {
            went_back(at, name, before.index, page.index)
        })?;
        let same =
            (&page.node, &page.services, &page.checks) == (&before.node, &before.services, &before.checks);
        ensure(PROPERTY, same || page.index > before.index, || {
            format!(
                "on m{at} the node {name:?} changed, and its index stays {}",
                page.index
            )
        })?;
        if self.all_is_well {
            let worse = page.worse_than(&before);
            ensure("restarts are not seen", worse.is_none(), || {
                format!("on m{at} at index {} {}", page.index, worse.unwrap_or_default())
            })?;
        }
        self.on[at].nodes.insert(name.clone(), page);
        Ok(())
    }

    /// Who was not woken has missed nothing.
    fn look_at_all(&self, at: usize, state: &State) -> Check {
        for name in names(state) {
            let page = Page::of(state, &name);
            let known = self.on[at].nodes.get(&name);
            ensure(PROPERTY, known == Some(&page), || {
                format!("on m{at} the node {name:?} is {page:?}, and its readers have last seen {known:?}")
            })?;
        }
        Ok(())
    }
}

impl Page {
    fn of(state: &State, name: &Key) -> Self {
        let text = String::from_utf8_lossy(name);
        let query = Query::NodeInfo(text.clone().into_owned());
        Self {
            index: state.index_of(&query).unwrap_or_default(),
            node: state.node(&text).cloned(),
            services: state.services_on(&text).to_vec(),
            checks: state.checks_on(&text).to_vec(),
        }
    }

    /// The first thing that was well, and is critical or gone.
    fn worse_than(&self, before: &Self) -> Option<String> {
        if before.node.is_some() && self.node.is_none() {
            return Some("a node vanished".to_owned());
        }
        let here: BTreeSet<&Text> = self.services.iter().map(|service| &service.def.id).collect();
        let gone = before
            .services
            .iter()
            .find(|service| !here.contains(&service.def.id));
        if let Some(gone) = gone {
            return Some(format!("the service {} on {} vanished", gone.def.id, gone.node));
        }
        let statuses: BTreeMap<&Text, Status> = self
            .checks
            .iter()
            .map(|check| (&check.def.id, check.def.status))
            .collect();
        let worse = before.checks.iter().find(|check| {
            check.def.status != Status::Critical
                && statuses.get(&check.def.id).copied() == Some(Status::Critical)
        })?;
        Some(format!(
            "the check {} on {} went from {} to critical",
            worse.def.id, worse.node, worse.def.status
        ))
    }
}

fn names(state: &State) -> Vec<Key> {
    let nodes = state.nodes();
    nodes
        .map(|node| Key::from(node.def.name.to_ascii_lowercase().into_bytes()))
        .collect()
}

fn went_back(at: usize, name: &Key, before: Index, now: Index) -> String {
    format!("on m{at} the index of {name:?} went from {before} to {now}")
}
