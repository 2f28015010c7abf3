//! Carrying prepared queries out.

use std::net::IpAddr;
use std::sync::Arc;

use lictor_machine::Rng;
use serde::{Deserialize, Serialize};

use super::def::{Prepared, PreparedService};
use crate::coordinate::place;
use crate::discovery::{Instance, Labels, NodeRecord, ServiceRecord, Status, Text};
use crate::state::State;

/// A prepared query to carry out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Execute {
    /// Which.
    pub target: Target,
    /// The node to sort by distance from, if whoever asks wants that rather than what the query says: see [`PreparedService::near`].
    /// Empty: as the query says.
    pub near: String,
    /// The node of the agent that was asked, for `_agent`.
    pub agent: String,
    /// The address of whoever asks, for `_ip`.
    pub client: Option<IpAddr>,
    /// Those that take the service's callers in the mesh, whatever the query says.
    pub connect: bool,
    /// How many instances are wanted at most; 0: all.
    pub limit: usize,
    /// Decides about the order of what has none.
    pub seed: u64,
}

/// Which prepared query is meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// The one that this id or name means.
    Named(String),
    /// This one, of another data center, which is filled in already.
    Ready(Arc<Prepared>),
}

/// What a prepared query found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Execution {
    /// The query, filled in.
    pub query: Arc<Prepared>,
    /// The instances.
    pub instances: Vec<Instance>,
    /// Whether they are in order of their distance. If not, they are shuffled.
    pub ordered: bool,
}

impl State {
    /// Carries a prepared query out here. `None` if there is none of this name. The error is a text for whoever asks.
    pub fn execute(&self, execute: &Execute) -> Result<Option<Execution>, String> {
        let query = match &execute.target {
            Target::Named(name) => match self.prepared.resolve(name)? {
                Some(query) => query,
                None => return Ok(None),
            },
            Target::Ready(query) => Arc::clone(query),
        };
        let service = &query.def.service;
        let mut found: Vec<_> = self
            .instances(&service.service, execute.connect || service.connect)
            .filter(|(node, instance)| self.is_wanted(service, node, instance))
            .collect();
        Rng::new(execute.seed).shuffle(&mut found);
        let center = self.center(execute, service);
        let ordered = center.is_some_and(|center| self.sort_by_distance(&center, &mut found));
        if execute.limit > 0 {
            found.truncate(execute.limit);
        }
        let instances = found.into_iter().map(|(node, instance)| Instance {
            node: Arc::clone(node),
            service: Arc::clone(instance),
            checks: self
                .checks_of(&node.def.name, "")
                .chain(self.checks_of(&node.def.name, &instance.def.id))
                .cloned()
                .collect(),
        });
        let instances = instances.collect();
        Ok(Some(Execution {
            query,
            instances,
            ordered,
        }))
    }

    fn is_wanted(&self, wanted: &PreparedService, node: &NodeRecord, instance: &ServiceRecord) -> bool {
        has_all(&node.def.meta, wanted.node_meta.as_ref())
            && has_all(&instance.def.meta, wanted.service_meta.as_ref())
            && has_tags(&instance.def.tags, wanted.tags.as_deref().unwrap_or_default())
            && self.is_well(wanted, &node.def.name, &instance.def.id)
    }

    fn is_well(&self, wanted: &PreparedService, node: &str, id: &str) -> bool {
        let ignored = wanted.ignored_checks.as_deref().unwrap_or_default();
        let mut checks = self.checks_of(node, "").chain(self.checks_of(node, id));
        checks.all(|check| {
            let well = match check.def.status {
                Status::Passing => true,
                Status::Warning => !wanted.only_passing,
                Status::Critical => false,
            };
            well || ignored.contains(&check.def.id)
        })
    }

    /// The node to sort by distance from.
    fn center(&self, execute: &Execute, service: &PreparedService) -> Option<String> {
        let near = if execute.near.is_empty() {
            &*service.near
        } else {
            &execute.near
        };
        match near {
            "" => None,
            "_agent" => Some(execute.agent.clone()),
            "_ip" => {
                let client = execute.client?.to_canonical();
                let mut nodes = self.nodes();
                let is_there = |node: &&Arc<NodeRecord>| node.def.address.parse() == Ok(client);
                nodes.find(is_there).map(|node| node.def.name.to_string())
            }
            name => Some(name.to_owned()),
        }
    }

    /// Puts what is nearest first, and what is nowhere last; whether it is known where `center` is.
    fn sort_by_distance(&self, center: &str, found: &mut [(&Arc<NodeRecord>, &Arc<ServiceRecord>)]) -> bool {
        let entries = &self.coordinates.entries;
        // Only within the segment that every node is in do all distances mean something.
        let coordinate = |node: &str| Some(entries.get(&place(node, ""))?.update.coordinate);
        let Some(origin) = coordinate(center) else {
            return false;
        };
        let distance = |node: &str| {
            if node.eq_ignore_ascii_case(center) {
                return f64::NEG_INFINITY;
            }
            coordinate(node).map_or(f64::INFINITY, |there| origin.round_trip(&there))
        };
        let mut measured: Vec<_> = found
            .iter()
            .map(|one| (distance(&one.0.def.name), *one))
            .collect();
        measured.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        for (place, (_, one)) in found.iter_mut().zip(measured) {
            *place = one;
        }
        true
    }
}

fn has_all(labels: &Labels, wanted: Option<&Labels>) -> bool {
    let mut wanted = wanted.into_iter().flat_map(Labels::iter);
    wanted.all(|(name, value)| labels.get(name) == Some(value))
}

fn has_tags(tags: &[Text], wanted: &[Text]) -> bool {
    let has = |wanted: &str| tags.iter().any(|tag| tag.eq_ignore_ascii_case(wanted));
    wanted.iter().all(|wanted| match wanted.strip_prefix('!') {
        Some(unwanted) => !has(unwanted),
        None => has(wanted),
    })
}
