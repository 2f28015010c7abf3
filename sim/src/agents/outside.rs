//! Somebody who writes to the catalog past all agents: on nodes of their own, which nobody else touches, and on those of agents, which
//! put that right. One write after the other, each until it is acknowledged; so what is to be on their own nodes is known.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use core::time::Duration;

use lictor_catalog::{
    Action, CatalogChange, CheckDef, Deregistration, NodeDef, Registration, Removal, ServiceDef, Text,
};
use lictor_local::{Question, Reply};

use super::asks::{Asker, WriteFailure, fate_of};
use super::world::{Event, World, violation};
use crate::oracles::Check;

/// How soon a write that failed is tried again.
const AGAIN: Duration = Duration::from_secs(3);

/// Writes that may wait.
const WAITING_MAX: usize = 20;

/// What is on a node of theirs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Foreign {
    pub(super) node: NodeDef,
    pub(super) services: BTreeMap<Text, ServiceDef>,
    pub(super) checks: BTreeMap<Text, CheckDef>,
}

/// A write.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) changes: Vec<CatalogChange>,
    /// It is on nodes of their own: it is never refused, and stays.
    pub(super) own: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Outside {
    /// The first of them is under way, or will be tried again.
    jobs: VecDeque<Job>,
    /// The server that the first of them was given to.
    server: Option<usize>,
    /// What is on their own nodes, by name.
    nodes: BTreeMap<Text, Foreign>,
    /// Nodes of agents that they have written on.
    interfered: BTreeSet<Text>,
    /// How many writes were acknowledged.
    pub(super) acknowledged: u64,
}

impl Outside {
    pub(super) const fn nodes(&self) -> &BTreeMap<Text, Foreign> {
        &self.nodes
    }

    pub(super) fn is_idle(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Whether they have ever written on the node of an agent that had this name.
    pub(super) fn has_interfered_with(&self, name: &Text) -> bool {
        self.interfered.contains(name)
    }

    /// An own job is done.
    fn record(&mut self, changes: Vec<CatalogChange>) {
        for change in changes {
            match change {
                CatalogChange::Register(registration) => self.registered(*registration),
                CatalogChange::Deregister(deregistration) => self.deregistered(deregistration),
            }
        }
    }

    fn registered(&mut self, registration: Registration) {
        let Registration {
            node,
            skip_node_update: _,
            service,
            checks,
        } = registration;
        let foreign = self.nodes.entry(node.name.clone()).or_default();
        foreign.node = node;
        if let Some(service) = service {
            foreign.services.insert(service.id.clone(), service);
        }
        for check in checks {
            foreign.checks.insert(check.id.clone(), check);
        }
    }

    fn deregistered(&mut self, Deregistration { node, what }: Deregistration) {
        let Some(foreign) = self.nodes.get_mut(&node) else {
            return;
        };
        match what {
            Removal::Node => {
                self.nodes.remove(&node);
            }
            Removal::Service(id) => {
                if foreign.services.remove(&id).is_some() {
                    foreign.checks.retain(|_, check| check.service_id != id);
                }
            }
            Removal::Check(id) => {
                foreign.checks.remove(&id);
            }
        }
    }
}

impl World<'_> {
    /// Has somebody outside write this, once all before it is written.
    pub(super) fn write_outside(&mut self, job: Job) -> Check {
        if self.outside.jobs.len() >= WAITING_MAX {
            return Ok(());
        }
        self.outside.jobs.push_back(job);
        if self.outside.jobs.len() > 1 {
            return Ok(());
        }
        self.go_on_outside()
    }

    /// A change that takes all nodes out that any server knows.
    pub(super) fn removal_of_all_nodes(&self) -> Vec<CatalogChange> {
        let states = self
            .seats
            .iter()
            .filter(|seat| seat.server)
            .map(|seat| &seat.published);
        let nodes = states.flat_map(|state| state.nodes().map(|node| node.def.name.clone()));
        let all: BTreeSet<Text> = nodes.chain(self.outside.nodes.keys().cloned()).collect();
        let removal = |node| {
            CatalogChange::Deregister(Deregistration {
                node,
                what: Removal::Node,
            })
        };
        all.into_iter().map(removal).collect()
    }

    /// Tries the first write, unless it is under way.
    pub(super) fn go_on_outside(&mut self) -> Check {
        let Some(job) = self
            .outside
            .jobs
            .front()
            .filter(|_| self.outside.server.is_none())
        else {
            return Ok(());
        };
        let write = Question::Write(Action::RegisterMany(job.changes.clone()));
        let up = self.up().into_iter();
        let servers: Vec<usize> = up
            .filter(|at| self.seats[*at].server && !self.seats[*at].frozen)
            .collect();
        let Some(at) = self.rng.pick(&servers).copied() else {
            self.queue.push(self.now + AGAIN, Event::Outside);
            return Ok(());
        };
        self.outside.server = Some(at);
        self.serve(at, Asker::Outside, write)
    }

    /// A server is no more: whoever waits for it tries another one.
    pub(super) fn outside_lost(&mut self, at: usize) {
        if self.outside.server == Some(at) {
            self.outside.server = None;
            self.queue.push(self.now + AGAIN, Event::Outside);
        }
    }

    pub(super) fn wrote_outside(&mut self, result: Result<Reply, String>) -> Check {
        self.outside.server = None;
        let fate = fate_of(&result);
        if fate == Err(WriteFailure::Unknown) {
            self.queue.push(self.now + AGAIN, Event::Outside);
            return Ok(());
        }
        let Some(job) = self.outside.jobs.pop_front() else {
            return Err(violation(
                "requests are answered",
                "nobody outside has asked".to_owned(),
            ));
        };
        self.outside.acknowledged += 1;
        // Not at once: this is in the midst of a server's turn.
        self.queue.push(self.now, Event::Outside);
        if !job.own {
            let registered = job.changes.iter().filter_map(|change| match change {
                CatalogChange::Register(registration) => Some(registration.node.name.clone()),
                CatalogChange::Deregister(_) => None,
            });
            self.outside.interfered.extend(registered);
        }
        match fate {
            Ok(()) if job.own => self.outside.record(job.changes),
            Err(WriteFailure::Refused(reason)) if job.own => {
                return Err(violation(
                    "writes that make sense are taken",
                    format!("{:?}: {reason}", job.changes),
                ));
            }
            // What agents have on their nodes may be in the way of what others want there.
            Ok(()) | Err(WriteFailure::Refused(_) | WriteFailure::Unknown) => {}
        }
        Ok(())
    }
}
