//! The leader turns membership into entries of the catalog: every agent that gossip knows is a node with a check that says whether it is
//! reachable, and servers have a service of their own.
//!
//! Each look compares what gossip knows with what the catalog has, and asks only for what differs; so a look that comes too often, or a
//! change that got lost, does no harm. Whoever has changed is looked at soon, everybody upon election and now and then.
//!
//! A node that gossip has never heard of is left alone for a while: a leader that has just started does not know everybody yet.

#[cfg(test)]
mod tests;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lictor_catalog::{
    Action, CatalogChange, CheckDef, CheckRecord, Deregistration, Found, Labels, NodeDef, NodeInfo, Query,
    Registration, Removal, ServiceDef, State, Status, Text,
};
use lictor_gossip::{Member, MemberEvent, MemberState};
use lictor_machine::{Instant, NodeId};

use crate::agent::{BUILD, ServerFacts, WAN_ADDRESS};
use lictor_local::{SERF_HEALTH, SERVERS, node_def, serf_health};

/// How soon members that have changed are looked at: what happens together is written together.
const SOON: Duration = Duration::from_millis(50);

/// How soon a member is looked at again, to see whether what was asked for has happened.
const AGAIN: Duration = Duration::from_millis(500);

/// How often everybody is looked at.
const ALL_INTERVAL: Duration = Duration::from_mins(1);

/// How long a node must be unknown to gossip, in the eyes of one leader, to be taken out of the catalog.
const UNKNOWN_FOR: Duration = Duration::from_mins(2);

/// The most changes in one command, and the most commands of one look.
const BATCH_MAX: usize = 512;
const COMMANDS_MAX: usize = 8;

/// After so many looks in vain a change goes alone: another one that is refused may have kept it back.
const TOGETHER_MAX: u32 = 2;

/// After so many looks in vain a member has to wait for its turn among all.
const TRIES_MAX: u32 = 6;

/// What the leader has still to look at.
#[derive(Debug, Default)]
pub(crate) struct Reconciler {
    /// Who is to be looked at, and how often that was in vain. Empty on everybody but the leader.
    concerned: BTreeMap<Text, u32>,
    /// Members that gossip has forgotten on purpose.
    reaped: BTreeSet<Text>,
    /// Nodes that gossip does not know, and since when.
    unknown: BTreeMap<Text, Instant>,
    at: Option<Instant>,
    /// When everybody is looked at; only on the leader.
    all_at: Option<Instant>,
}

/// What a look needs to know.
pub(crate) struct Scene<'a> {
    pub(crate) now: Instant,
    /// This agent, which is not taken out by itself.
    pub(crate) me: NodeId,
    pub(crate) state: &'a State,
    /// The members of the pool of this data center.
    pub(crate) members: &'a dyn Members,
}

/// The members of a pool.
pub(crate) trait Members {
    fn by_name(&self, name: &str) -> Option<&Arc<Member>>;
    fn names(&self) -> Vec<Text>;
}

impl Reconciler {
    /// This agent begins to lead, or ends.
    pub(crate) fn leads(&mut self, leads: bool, now: Instant) {
        if leads != self.all_at.is_some() {
            *self = Self {
                all_at: leads.then_some(now),
                ..Self::default()
            };
        }
    }

    /// When to look next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let all = self.all_at?;
        Some(self.at.map_or(all, |at| at.min(all)))
    }

    /// The leader cannot look yet.
    pub(crate) fn postpone(&mut self, now: Instant) {
        self.at = None;
        self.all_at = self.all_at.map(|_| now + SOON);
    }

    /// The catalog is another one, from an archive: everybody is looked at soon.
    pub(crate) fn catalog_replaced(&mut self, now: Instant) {
        self.all_at = self.all_at.map(|_| now + SOON);
    }

    /// Something has happened to a member.
    pub(crate) fn member_changed(&mut self, event: &MemberEvent, now: Instant) {
        if self.all_at.is_none() {
            return;
        }
        let name = Text::from(event.member().name.as_str());
        match event {
            MemberEvent::Reaped(_) => {
                self.reaped.insert(name.clone());
            }
            MemberEvent::Joined(_)
            | MemberEvent::Updated(_)
            | MemberEvent::Failed(_)
            | MemberEvent::Left(_) => {
                self.reaped.remove(&name);
            }
        }
        self.concerned.insert(name, 0);
        self.at.get_or_insert(now + SOON);
    }

    /// Looks at whoever is due; returns what is to be proposed.
    pub(crate) fn look(&mut self, scene: &Scene<'_>) -> Vec<Action> {
        if self.all_at.is_some_and(|at| at <= scene.now) {
            self.all_at = Some(scene.now + ALL_INTERVAL);
            self.everybody(scene);
        }
        let mut together = Vec::new();
        let mut alone = Vec::new();
        let mut left = false;
        for (name, tries) in std::mem::take(&mut self.concerned) {
            let full = together.len() >= BATCH_MAX * COMMANDS_MAX || alone.len() >= COMMANDS_MAX;
            if full {
                self.concerned.insert(name, tries);
                left = true;
                continue;
            }
            let Some(change) = self.change(&name, scene) else {
                self.reaped.remove(&name);
                continue;
            };
            if tries < TRIES_MAX {
                self.concerned.insert(name, tries + 1);
            }
            if tries < TOGETHER_MAX {
                together.push(change);
            } else {
                alone.push(Action::RegisterMany(vec![change]));
            }
        }
        let again = if left { SOON } else { AGAIN };
        self.at = (!self.concerned.is_empty()).then(|| scene.now + again);
        let batches = together.chunks(BATCH_MAX);
        let batches = batches.map(|changes| Action::RegisterMany(changes.to_vec()));
        batches.chain(alone).collect()
    }

    /// All members and all nodes that ever were one are to be looked at.
    fn everybody(&mut self, scene: &Scene<'_>) {
        for name in scene.members.names() {
            self.concerned.entry(name).or_default();
        }
        let (_, found) = scene.state.query(&Query::HealthState {
            status: None,
            node_meta: Vec::new(),
        });
        let Found::Checks(checks) = found else { return };
        let nodes = checks.iter().filter(|check| is_serf_health(check));
        let unknown: BTreeSet<Text> = nodes
            .map(|check| check.node.clone())
            .filter(|name| scene.members.by_name(name).is_none())
            .collect();
        self.unknown.retain(|name, _| unknown.contains(name));
        for name in unknown {
            self.unknown.entry(name.clone()).or_insert(scene.now);
            self.concerned.entry(name).or_default();
        }
    }

    /// What is to be changed in the catalog, so that it says of one node what gossip says.
    fn change(&self, name: &Text, scene: &Scene<'_>) -> Option<CatalogChange> {
        let node = node_info(scene.state, name);
        let member = scene.members.by_name(name);
        let gone = || {
            CatalogChange::Deregister(Deregistration {
                node: name.clone(),
                what: Removal::Node,
            })
        };
        let Some(member) = member else {
            let node = node?;
            let unknown_for = self.unknown.get(name).map(|since| scene.now.since(*since));
            let expired = unknown_for.is_some_and(|unknown| unknown >= UNKNOWN_FOR);
            let ours = node.checks.iter().any(|check| is_serf_health(check));
            return (ours && (expired || self.reaped.contains(name))).then(gone);
        };
        match member.state {
            MemberState::Alive | MemberState::Suspect => alive(member, node.as_ref()),
            MemberState::Failed => failed(node.as_ref()?),
            // It says so itself before it is gone.
            MemberState::Leaving => None,
            MemberState::Left => (node.is_some() && member.id != scene.me).then(gone),
        }
    }
}

fn alive(member: &Member, node: Option<&NodeInfo>) -> Option<CatalogChange> {
    let def = match node.map(|node| &node.node.def) {
        Some(known) if known.id == Some(member.id) => None,
        // Another machine has come under this name. The catalog lets it have that once the former owner is known not to be well.
        Some(NodeDef { id: Some(_), .. }) if node.is_some_and(is_well) => return node.and_then(failed),
        // So it does now; or somebody else has described the node.
        Some(known) => Some(NodeDef {
            id: Some(member.id),
            address: member.address.ip().to_string().into(),
            ..known.clone()
        }),
        None => {
            let wan = member.tags.get(WAN_ADDRESS);
            let wan = wan.and_then(|text| text.parse::<std::net::SocketAddr>().ok());
            let wan = wan.unwrap_or(member.address).ip();
            Some(node_def(member.id, &member.name, member.address.ip(), wan, []))
        }
    };
    let service = ServerFacts::from_member(member).map(|facts| service_of(member, &facts));
    let service = service.filter(|wanted| {
        let mut services = node.into_iter().flat_map(|node| &node.services);
        !services.any(|service| service.def == *wanted)
    });
    let check = serf_health(Status::Passing);
    let check = node.is_none_or(|node| !has(node, &check)).then_some(check);
    if def.is_none() && service.is_none() && check.is_none() {
        return None;
    }
    let skip_node_update = def.is_none();
    let known = || node.map(|node| node.node.def.clone()).unwrap_or_default();
    Some(CatalogChange::Register(Box::new(Registration {
        node: def.unwrap_or_else(known),
        skip_node_update,
        service,
        checks: check.into_iter().collect(),
    })))
}

/// One that the catalog does not know need not be known to have failed.
fn failed(node: &NodeInfo) -> Option<CatalogChange> {
    let check = serf_health(Status::Critical);
    (!has(node, &check)).then(|| {
        CatalogChange::Register(Box::new(Registration {
            node: node.node.def.clone(),
            skip_node_update: true,
            service: None,
            checks: vec![check],
        }))
    })
}

/// The service that stands for a server.
fn service_of(member: &Member, facts: &ServerFacts) -> ServiceDef {
    let build = member.tags.get(BUILD).map(String::as_str).unwrap_or_default();
    let version = build.split(':').next().unwrap_or_default();
    let meta = [
        ("non_voter", "false"),
        ("raft_version", "3"),
        ("serf_protocol_current", "2"),
        ("serf_protocol_max", "5"),
        ("serf_protocol_min", "1"),
        ("version", version),
    ];
    let meta: Labels = meta
        .into_iter()
        .map(|(name, value)| (name, Text::from(value)))
        .collect();
    ServiceDef {
        id: SERVERS.into(),
        name: SERVERS.into(),
        port: facts.address.port(),
        meta,
        ..ServiceDef::default()
    }
}

fn is_serf_health(check: &CheckRecord) -> bool {
    check.def.id.eq_ignore_ascii_case(SERF_HEALTH)
}

fn is_well(node: &NodeInfo) -> bool {
    has(node, &serf_health(Status::Passing))
}

fn has(node: &NodeInfo, wanted: &CheckDef) -> bool {
    node.checks.iter().any(|check| check.def == *wanted)
}

fn node_info(state: &State, name: &Text) -> Option<NodeInfo> {
    let (_, Found::NodeInfos(mut infos)) = state.query(&Query::NodeInfo(name.to_string())) else {
        return None;
    };
    infos.pop()
}
