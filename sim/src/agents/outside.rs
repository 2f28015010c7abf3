//! Somebody who writes to the catalog past all agents: on nodes of their own, which nobody else touches, and on those of agents, which
//! put that right. One write after the other, each until it is acknowledged; so what is to be on their own nodes is known.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use core::time::Duration;

use bytes::Bytes;
use lictor_catalog::{
    Action, CatalogChange, CheckDef, ChunkError, Cursor, Deregistration, NodeDef, Registration, Removal,
    RestoreId, RestoreStep, ServiceDef, State, Text, encode_chunk,
};
use lictor_local::{Question, Reply};
use lictor_machine::Index;

use super::asks::{Asker, WriteFailure, fate_of};
use super::world::{Event, World, violation};
use crate::oracles::Check;

/// How soon a write that failed is tried again.
const AGAIN: Duration = Duration::from_secs(3);

/// Writes that may wait.
const WAITING_MAX: usize = 60;

/// How many bytes of rows go into a chunk of an archive.
const CHUNK_BYTES: usize = 8000;

/// What is on a node of theirs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Foreign {
    pub(super) node: NodeDef,
    pub(super) services: BTreeMap<Text, ServiceDef>,
    pub(super) checks: BTreeMap<Text, CheckDef>,
}

/// A write.
#[derive(Clone, Debug)]
pub(super) enum Job {
    /// On nodes of their own: never refused, and it stays.
    Own(Vec<CatalogChange>),
    /// On nodes of agents: they put it right.
    Interference(Vec<CatalogChange>),
    /// A step of restoring an archive; and what is on their own nodes once the last one is done.
    Restore(RestoreStep, Option<BTreeMap<Text, Foreign>>),
}

impl Job {
    fn action(&self) -> Action {
        match self {
            Self::Own(changes) | Self::Interference(changes) => Action::RegisterMany(changes.clone()),
            Self::Restore(step, _) => Action::Restore(step.clone()),
        }
    }
}

/// A state as it was.
#[derive(Clone, Debug)]
pub(super) struct Archive {
    index: Index,
    chunks: Vec<Bytes>,
    nodes: BTreeMap<Text, Foreign>,
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
    archive: Option<Archive>,
    /// How many archives were restored.
    pub(super) restored: u64,
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

    /// What restores the archive: its steps, one after the other. The archive can be restored again.
    fn restoring(&self, id: RestoreId) -> Vec<Job> {
        let Some(archive) = &self.archive else {
            return Vec::new();
        };
        let index = archive.index;
        let begin = RestoreStep::Begin { id, index };
        let chunks = archive.chunks.iter().cloned().zip(0..);
        let chunks = chunks.map(|(rows, number)| RestoreStep::Chunk { id, number, rows });
        let finish = RestoreStep::Finish {
            id,
            chunks: archive.chunks.len() as u64,
        };
        let steps = core::iter::once(begin).chain(chunks);
        let steps = steps.map(|step| Job::Restore(step, None));
        let finish = Job::Restore(finish, Some(archive.nodes.clone()));
        steps.chain([finish]).collect()
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
        let write = Question::Write(job.action());
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
        match (job, fate) {
            (Job::Own(changes), Ok(())) => self.outside.record(changes),
            (Job::Own(changes), Err(failure)) => {
                return Err(violation(
                    "writes that make sense are taken",
                    format!("{changes:?}: {failure:?}"),
                ));
            }
            // What agents have on their nodes may be in the way of what others want there.
            (Job::Interference(changes), _) => {
                let registered = changes.into_iter().filter_map(|change| match change {
                    CatalogChange::Register(registration) => Some(registration.node.name),
                    CatalogChange::Deregister(_) => None,
                });
                self.outside.interfered.extend(registered);
            }
            (Job::Restore(_, None), Ok(())) => {}
            (Job::Restore(_, Some(nodes)), Ok(())) => {
                self.outside.nodes = nodes;
                self.outside.restored += 1;
            }
            // It took too long, and was given up.
            (Job::Restore(..), Err(_)) => {
                let jobs = &mut self.outside.jobs;
                jobs.retain(|job| !matches!(job, Job::Restore(..)));
            }
        }
        Ok(())
    }

    /// Has somebody outside take an archive of what a server that is up has, or restore the one that they have.
    pub(super) fn archive_or_restore(&mut self, restore: bool) -> Check {
        if restore && self.outside.archive.is_some() {
            let id = RestoreId(u128::from(self.rng.next_u64()));
            self.announce_restore(id);
            self.phase("an archive is restored");
            let jobs = self.outside.restoring(id);
            return jobs.into_iter().try_for_each(|job| self.write_outside(job));
        }
        let up = self.up().into_iter();
        let servers: Vec<usize> = up.filter(|at| self.seats[*at].server).collect();
        let Some(at) = self.rng.pick(&servers).copied() else {
            return Ok(());
        };
        if !self.may_archive(at) {
            return Ok(());
        }
        self.did(at, "is archived", 0);
        let archive = archive_of(&self.seats[at].published);
        self.outside.archive =
            Some(archive.map_err(|error| violation("states can be archived", error.to_string()))?);
        Ok(())
    }
}

fn archive_of(state: &State) -> Result<Archive, ChunkError> {
    let export = state.for_archive().export();
    let mut chunks = Vec::new();
    let mut from = Some(Cursor::start());
    while let Some(cursor) = from {
        let (rows, next) = export.chunk(&cursor, CHUNK_BYTES);
        chunks.push(encode_chunk(&rows)?);
        from = next;
    }
    let own = state.nodes().filter(|node| is_own(&node.def.name));
    let nodes = own.map(|node| {
        let name = &node.def.name;
        let services = state.services_on(name).iter().map(|service| &service.def);
        let checks = state.checks_on(name).iter().map(|check| &check.def);
        let foreign = Foreign {
            node: node.def.clone(),
            services: services.map(|def| (def.id.clone(), def.clone())).collect(),
            checks: checks.map(|def| (def.id.clone(), def.clone())).collect(),
        };
        (name.clone(), foreign)
    });
    Ok(Archive {
        index: export.index(),
        chunks,
        nodes: nodes.collect(),
    })
}

/// The names of their own nodes begin so.
pub(super) const OWN_NODES: &str = "x";

fn is_own(name: &str) -> bool {
    name.starts_with(OWN_NODES)
}
