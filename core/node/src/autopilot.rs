//! The leader's care for who is in the configuration.
//!
//! Gossip says which servers there are, and how they are; Raft says how far each has come. From both the leader concludes who is to be
//! in the configuration, and changes it step by step, one change at a time:
//!
//! - a server that is well and in no cluster is *adopted*: it notes, durably, which cluster it belongs to;
//! - an adopted server becomes a learner, and, after it was healthy for long enough, a voter;
//! - a server that left, or that gossip has forgotten, is taken out;
//! - one that failed is taken out once enough others are there, if operators have not forbidden it.
//!
//! What gossip does not know is left alone: a leader that has just started must not take its followers out.

use std::collections::{BTreeMap, BTreeSet};

use core::time::Duration;

use lictor_catalog::{Action, AutopilotConfig, Found, Query};
use lictor_gossip::MemberState;
use lictor_machine::{Index, Instant, NodeId, Token};
use lictor_raft::{self as raft, Configuration, Role};

use crate::ClusterId;
use crate::agent::ServerFacts;
use crate::io::{Effect, Event, OperatorAnswer, OperatorRequest, RaftServer, ServerHealth, ServersHealth};
use crate::node::Node;

/// The most servers that gossip may tell of.
const ROSTER_MAX: usize = 1024;

/// The most members that a configuration may get by itself.
const MEMBERS_MAX: usize = 64;

/// How often somebody is told of the same trouble with a server.
const COMPLAIN_EVERY: Duration = Duration::from_mins(10);

#[derive(Debug, Default)]
pub(crate) struct Autopilot {
    roster: BTreeMap<NodeId, ServerFacts>,
    /// Members of the configuration that gossip has forgotten.
    forgotten: BTreeSet<NodeId>,
    /// Since when each server has been healthy, as this leader sees it.
    healthy_since: BTreeMap<NodeId, Instant>,
    /// Servers that are being asked to belong to this cluster, and those that do.
    adopting: BTreeSet<NodeId>,
    adopted: BTreeSet<NodeId>,
    /// The change that is under way.
    changing: Option<Token>,
    /// When to look next; only on a leader.
    at: Option<Instant>,
    complained: BTreeMap<NodeId, Instant>,
    /// This node wants to be taken out.
    leaving: bool,
    removed: bool,
}

impl Autopilot {
    pub(crate) const fn at(&self) -> Option<Instant> {
        self.at
    }

    fn state(&self, id: NodeId) -> Option<MemberState> {
        self.roster.get(&id).map(|facts| facts.state)
    }

    /// Whether gossip tells of servers; it tells of this one first of all.
    pub(crate) fn hears_gossip(&self) -> bool {
        !self.roster.is_empty()
    }

    /// Whether gossip knows that it is not there any more, nor will be.
    pub(crate) fn is_gone(&self, id: NodeId) -> bool {
        let left = matches!(self.state(id), Some(MemberState::Left | MemberState::Leaving));
        left || self.forgotten.contains(&id)
    }

    /// Whether gossip knows of a server in this cluster that has not left.
    pub(crate) fn tells_of(&self, cluster: ClusterId) -> bool {
        self.roster
            .values()
            .any(|facts| facts.cluster == Some(cluster) && !matches!(facts.state, MemberState::Left))
    }
}

/// Who is to be in the configuration.
struct Target {
    voters: BTreeSet<NodeId>,
    learners: BTreeSet<NodeId>,
}

impl Node {
    /// Gossip knows something new of a server.
    pub(crate) fn known(&mut self, facts: ServerFacts) {
        let autopilot = &mut self.autopilot;
        if autopilot.roster.len() >= ROSTER_MAX && !autopilot.roster.contains_key(&facts.id) {
            return;
        }
        autopilot.forgotten.remove(&facts.id);
        if facts.cluster.is_none() {
            // It may have come back without its memory.
            autopilot.adopted.remove(&facts.id);
        }
        if facts.id != self.config.id {
            if facts.state.is_well() {
                self.meet(&facts);
                self.note_founder(facts.id, false);
            } else if matches!(facts.state, MemberState::Left) {
                self.part(facts.id);
                self.note_founder(facts.id, true);
            }
        }
        self.autopilot.roster.insert(facts.id, facts);
        self.look_soon();
    }

    /// Gossip has forgotten a server.
    pub(crate) fn forgotten(&mut self, id: NodeId) {
        let autopilot = &mut self.autopilot;
        autopilot.roster.remove(&id);
        autopilot.adopted.remove(&id);
        if self.raft.members().members().contains(&id) {
            autopilot.forgotten.insert(id);
        }
        self.part(id);
        self.look_soon();
    }

    /// This node wants to be taken out of the configuration.
    pub(crate) fn leave_cluster(&mut self) {
        self.autopilot.leaving = true;
        let token = self.token();
        // Whoever leads next takes this one out. If nobody else can lead, this node takes itself out, or is the last.
        let _ = self.raft_input(raft::Input::Transfer { token, to: None });
        self.look_soon();
        self.see_whether_removed();
    }

    /// Whether gossip knows of a cluster that this server should belong to instead of founding one. Its servers may have failed, or be on
    /// the far side of a partition; only if they left is there none. People are told, since they may know that it is gone for good.
    pub(crate) fn sees_a_cluster(&mut self) -> bool {
        let autopilot = &self.autopilot;
        let others = autopilot.roster.values().filter(|facts| {
            facts.id != self.config.id && facts.cluster.is_some() && !autopilot.is_gone(facts.id)
        });
        // One that is well takes this server in; then there is nothing to say.
        let Some(other) = others.max_by_key(|facts| facts.state.is_well()).cloned() else {
            return false;
        };
        if !other.state.is_well() {
            self.complain(
                other.id,
                format!(
                    "this server founds no cluster, since server {:?} ({}) is in one and has only failed: bring it back, or, if that cluster \
                     is lost for good, have its servers leave by force",
                    other.name, other.id
                ),
            );
        }
        true
    }

    /// Says what the trouble with a server is, unless that was said lately.
    pub(crate) fn complain(&mut self, about: NodeId, trouble: String) {
        let now = self.now();
        let complained = &mut self.autopilot.complained;
        let last = complained.get(&about);
        if last.is_some_and(|at| now.since(*at) < COMPLAIN_EVERY) {
            return;
        }
        if complained.len() >= ROSTER_MAX {
            complained.clear();
        }
        complained.insert(about, now);
        self.event(Event::Trouble(trouble));
    }

    /// After each change of the configuration: whether this node is out of it, as it wanted, or has nobody to leave.
    pub(crate) fn see_whether_removed(&mut self) {
        if !self.autopilot.leaving || self.autopilot.removed {
            return;
        }
        // A change counts when it is agreed on, not when it is proposed: until then this node may be needed, or lead.
        let status = self.raft.status();
        let alone = status.members.members().iter().all(|id| *id == self.config.id);
        if status.is_outside() || (alone && !status.is_changing_members()) {
            self.autopilot.removed = true;
            self.emit(Effect::Removed);
        }
    }

    /// This node begins to lead, or ends.
    pub(crate) fn autopilot_leads(&mut self, leads: bool) {
        let autopilot = &mut self.autopilot;
        autopilot.healthy_since.clear();
        autopilot.changing = None;
        autopilot.adopting.clear();
        autopilot.at = leads.then_some(self.clock.latest());
    }

    fn look_soon(&mut self) {
        if self.raft.role() == Role::Leader {
            self.autopilot.at = Some(self.clock.latest());
        }
    }

    /// The leader looks whether the right servers are in the configuration, and mends what is not as it should be.
    pub(crate) fn look_after_servers(&mut self) {
        let leads = self.raft.role() == Role::Leader;
        let again = self.now() + self.config.autopilot_interval;
        self.autopilot.at = leads.then_some(again);
        if !leads {
            return;
        }
        self.propose_settings();
        self.see_health();
        let members = self.raft.members().clone();
        let under_way = self.autopilot.changing.is_some() || !members.outgoing.is_empty();
        if members.is_empty() || under_way {
            return;
        }
        self.expel_the_dead(&members);
        self.adopt_newcomers(&members);
        let target = self.target(&members);
        if target.voters != members.voters || target.learners != members.learners {
            self.change_to(&members, target);
        }
    }

    fn target(&self, members: &Configuration) -> Target {
        let autopilot = &self.autopilot;
        let me = self.config.id;
        let gone = |id: &NodeId| autopilot.is_gone(*id) || (*id == me && autopilot.leaving);
        let mut voters: BTreeSet<NodeId> = members.voters.iter().filter(|id| !gone(id)).copied().collect();
        let settled = self.autopilot_config().server_stabilization_time;
        let now = self.now();
        let ripe = |id: &NodeId| {
            let since = autopilot.healthy_since.get(id);
            since.is_some_and(|since| now.since(*since) >= settled)
        };
        let staying = members.learners.iter().filter(|id| !gone(id));
        let (promoted, mut learners): (BTreeSet<NodeId>, BTreeSet<NodeId>) = staying.partition(|id| ripe(id));
        voters.extend(promoted);
        if voters.is_empty() {
            // The last voter stays: it leaves nobody.
            voters.clone_from(&members.voters);
        }
        for (id, facts) in &autopilot.roster {
            let ours =
                facts.cluster.is_some() && facts.cluster == self.cluster() || autopilot.adopted.contains(id);
            let new = !voters.contains(id) && !learners.contains(id);
            let room = voters.len() + learners.len() < MEMBERS_MAX;
            if facts.state.is_well() && ours && new && room && !gone(id) {
                learners.insert(*id);
            }
        }
        Target { voters, learners }
    }

    fn change_to(&mut self, members: &Configuration, target: Target) {
        let before = members.members();
        let Target { voters, learners } = target;
        let event = Event::Changing {
            added: learners.difference(&before).copied().collect(),
            promoted: voters.intersection(&members.learners).copied().collect(),
            removed: before
                .iter()
                .filter(|id| !voters.contains(id) && !learners.contains(id))
                .copied()
                .collect(),
        };
        let token = self.token();
        let change = raft::Input::Reconfigure {
            token,
            voters,
            learners,
        };
        // A refusal, as before the first entry of this term is committed, leaves all as it was: the next look tries again.
        if self.raft_input(change).is_ok() {
            self.autopilot.changing = Some(token);
            self.event(event);
        }
    }

    /// Whether this was the answer to a change that this node made by itself.
    pub(crate) fn changed_by_autopilot(&mut self, token: Token) -> bool {
        let ours = self.autopilot.changing == Some(token);
        if ours {
            self.autopilot.changing = None;
            self.look_soon();
        }
        ours
    }

    /// Asks servers that are in no cluster to belong to this one.
    fn adopt_newcomers(&mut self, members: &Configuration) {
        let Some(cluster) = self.cluster() else { return };
        let known = members.members();
        let mut ask = Vec::new();
        let mut strangers = Vec::new();
        let autopilot = &self.autopilot;
        let newcomers = autopilot
            .roster
            .values()
            .filter(|facts| facts.state.is_well() && !known.contains(&facts.id));
        for facts in newcomers {
            match facts.cluster {
                None if !autopilot.adopted.contains(&facts.id) && !autopilot.adopting.contains(&facts.id) => {
                    ask.push(facts.id);
                }
                Some(theirs) if theirs != cluster => strangers.push((facts.id, facts.name.clone(), theirs)),
                None | Some(_) => {}
            }
        }
        for id in ask {
            self.autopilot.adopting.insert(id);
            self.ask_to_adopt(id, cluster);
        }
        for (id, name, theirs) in strangers {
            self.complain(
                id,
                format!(
                    "server {name:?} ({id}) belongs to the cluster {theirs}, this one is {cluster}: to move it here, stop it and \
                     empty its data directory"
                ),
            );
        }
    }

    /// A server has answered whether it belongs to this cluster now; `Err`: why not.
    pub(crate) fn adoption_answered(&mut self, id: NodeId, result: Result<(), Option<String>>) {
        self.autopilot.adopting.remove(&id);
        match result {
            Ok(()) => {
                self.autopilot.adopted.insert(id);
                self.look_soon();
            }
            // The next look asks again.
            Err(None) => {}
            Err(Some(reason)) => {
                self.complain(id, format!("server {id} cannot join the cluster: {reason}"));
            }
        }
    }

    /// Has gossip say of servers that failed that they left, where operators allow it: if they are a minority that nobody needs, so that
    /// the others can decide without them, and enough voters stay.
    fn expel_the_dead(&mut self, members: &Configuration) {
        let settings = self.autopilot_config();
        if !settings.cleanup_dead_servers {
            return;
        }
        let failed = |id: &&NodeId| self.autopilot.state(**id) == Some(MemberState::Failed);
        let voters: Vec<NodeId> = members.voters.iter().filter(failed).copied().collect();
        let learners = members.learners.iter().filter(failed).copied();
        let mut dead: Vec<NodeId> = learners.collect();
        let left = (members.voters.len() - voters.len()) as u64;
        let enough = left >= settings.min_quorum.max(1);
        if enough && voters.len() < members.voters.len() / 2 {
            dead.extend(voters);
        }
        // Servers that are in no configuration block nobody.
        for id in dead {
            self.emit(Effect::Expel(id));
        }
    }

    /// The settings in force: what operators have set, or what this server was started with.
    pub(crate) fn autopilot_config(&self) -> AutopilotConfig {
        if let (index, Found::Autopilot(stored)) = self.state.query(&Query::Autopilot)
            && index > Index::ZERO
        {
            return stored.config.clone();
        }
        self.config.autopilot.clone()
    }

    /// What this server was started with becomes everybody's settings, if nobody has set any and they are not the usual ones.
    fn propose_settings(&mut self) {
        let (stored, _) = self.state.query(&Query::Autopilot);
        if stored == Index::ZERO && self.config.autopilot != AutopilotConfig::default() {
            let config = self.config.autopilot.clone();
            let cas = Some(Index::ZERO);
            self.do_duty(Action::SetAutopilot { config, cas });
        }
    }

    /// A server is healthy that gossip finds well, that was heard from lately, and that is not far behind.
    fn see_health(&mut self) {
        let now = self.now();
        let status = self.raft.status();
        let settings = self.autopilot_config();
        let mut healthy: BTreeSet<NodeId> = status
            .peers
            .iter()
            .filter(|peer| self.is_healthy(&settings, status.last.index, peer))
            .map(|peer| peer.id)
            .collect();
        healthy.insert(self.config.id);
        let since = &mut self.autopilot.healthy_since;
        since.retain(|id, _| healthy.contains(id));
        for id in healthy {
            since.entry(id).or_insert(now);
        }
    }

    fn is_healthy(&self, settings: &AutopilotConfig, last: Index, peer: &raft::PeerStatus) -> bool {
        let patience = settings
            .last_contact_threshold
            .max(self.config.raft.heartbeat_interval * 3);
        // Without gossip, as where a server is driven by itself, Raft alone decides.
        let well = self.autopilot.state(peer.id).is_none_or(MemberState::is_well);
        let near = peer.matched.0.saturating_add(settings.max_trailing_logs) >= last.0;
        let recent = self.now().since(peer.last_heard) <= patience;
        // In a short log one that has never answered is not far behind, either.
        let answers = peer.matched > Index::ZERO;
        well && answers && near && recent && !peer.snapshot
    }

    /// What an operator asked for; answered at once, unless it is a change.
    pub(crate) fn operate(&self, request: &OperatorRequest) -> Option<OperatorAnswer> {
        match request {
            OperatorRequest::Servers { .. } => Some(OperatorAnswer::Servers(self.servers())),
            OperatorRequest::Health => Some(OperatorAnswer::Health(self.servers_health())),
            OperatorRequest::Remove(_) => None,
        }
    }

    /// The configuration without a server; `Err`: why that makes no sense.
    pub(crate) fn without(&self, id: NodeId, token: Token) -> Result<raft::Input, String> {
        let members = self.raft.members();
        if !members.members().contains(&id) {
            return Err(format!("{id} is not a server of this cluster"));
        }
        let without = |ids: &BTreeSet<NodeId>| ids.iter().filter(|other| **other != id).copied().collect();
        let voters: BTreeSet<NodeId> = without(&members.voters);
        if voters.is_empty() {
            return Err(format!("{id} is the last voter: a cluster cannot be without one"));
        }
        let learners = without(&members.learners);
        Ok(raft::Input::Reconfigure {
            token,
            voters,
            learners,
        })
    }

    fn servers(&self) -> Vec<RaftServer> {
        let members = self.raft.members();
        members
            .members()
            .into_iter()
            .map(|id| self.server(members, id))
            .collect()
    }

    fn server(&self, members: &Configuration, id: NodeId) -> RaftServer {
        let me = id == self.config.id;
        let known = self.peer_address(id);
        RaftServer {
            id,
            name: if me {
                Some(self.config.name.clone())
            } else {
                known.map(|peer| peer.name.clone())
            },
            address: if me {
                Some(self.config.address)
            } else {
                known.map(|peer| peer.address)
            },
            leader: self.raft.leader() == Some(id),
            voter: members.is_voter(id),
        }
    }

    fn servers_health(&self) -> ServersHealth {
        let now = self.now();
        let members = self.raft.members();
        let status = self.raft.status();
        let settings = self.autopilot_config();
        let build = |id| self.autopilot.roster.get(&id).map(|facts| facts.build.clone());
        let mut servers: Vec<ServerHealth> = status
            .peers
            .iter()
            .map(|peer| {
                let healthy = self.is_healthy(&settings, status.last.index, peer);
                ServerHealth {
                    server: self.server(members, peer.id),
                    member: self.autopilot.state(peer.id),
                    build: build(peer.id).unwrap_or_default(),
                    last_contact: Some(now.since(peer.last_heard)),
                    last_term: self
                        .raft
                        .id_at(peer.matched)
                        .map_or(raft::Term::ZERO, |id| id.term),
                    last_index: peer.matched,
                    healthy,
                    stable_for: self.stable_for(peer.id).filter(|_| healthy).unwrap_or_default(),
                }
            })
            .collect();
        servers.push(ServerHealth {
            server: self.server(members, self.config.id),
            member: self.autopilot.state(self.config.id),
            build: build(self.config.id).unwrap_or_default(),
            last_contact: Some(Duration::ZERO),
            last_term: status.last.term,
            last_index: status.last.index,
            healthy: true,
            stable_for: self.stable_for(self.config.id).unwrap_or_default(),
        });
        servers.sort_by_key(|health| health.server.id);
        let well = servers
            .iter()
            .filter(|health| health.server.voter && health.healthy)
            .count();
        let majority = members.voters.len() / 2 + 1;
        ServersHealth {
            servers,
            failure_tolerance: well.saturating_sub(majority),
        }
    }

    fn stable_for(&self, id: NodeId) -> Option<Duration> {
        let since = self.autopilot.healthy_since.get(&id)?;
        Some(self.now().since(*since))
    }

    /// Says of this node that it belongs to a cluster that was founded without it.
    pub(crate) fn report_adoption(&mut self, cluster: ClusterId) {
        self.event(Event::Adopted(cluster));
    }
}
