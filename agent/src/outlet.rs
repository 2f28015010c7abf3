//! Everything that leaves the agent's loop, each to its place, in order.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use event_listener::Event as Signal;
use futures::channel::oneshot;
use lictor_machine::{NodeId, Token};
use lictor_node::agent::{self, Agent, Pool, Reject};
use lictor_node::{Answer, Effect, Event, InboundId, Published, wire};
use lictor_runtime::Outlet;
use lictor_transport_quic::ReplyHandle;

use crate::gossip::GossipOutlet;
use crate::handle::Tag;
use crate::local::Local;
use crate::metrics::RoleCounts;
use crate::network::Network;
use crate::running::LocalOutlet;
use crate::storage::Storage;
use crate::view::View;

/// Carries out what the agent's machine wants done.
#[derive(Debug)]
pub(crate) struct AgentOutlet {
    /// On a server.
    pub(crate) server: Option<ServerOutlet>,
    pub(crate) gossip: GossipOutlet,
    pub(crate) running: LocalOutlet,
    pub(crate) local: Arc<Local>,
    /// Notified when the agent has left, or stopped, in good order.
    pub(crate) gone: Arc<Signal>,
}

/// Carries out what the server within wants done.
#[derive(Debug)]
pub(crate) struct ServerOutlet {
    pub(crate) storage: Storage,
    network: Network,
    view: Arc<View>,
    roles: RoleCounts,
    requests: HashMap<Token, oneshot::Sender<Answer>>,
    calls: HashMap<InboundId, ReplyHandle>,
}

impl ServerOutlet {
    pub(crate) fn new(storage: Storage, network: Network, view: Arc<View>, roles: RoleCounts) -> Self {
        Self {
            storage,
            network,
            view,
            roles,
            requests: HashMap::new(),
            calls: HashMap::new(),
        }
    }

    fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::Persist(batch) => self.storage.persist(batch),
            Effect::SaveNotes(notes) => self.storage.save_notes(notes),
            Effect::Send { to, cluster, message } => self.network.send(to, cluster, &message),
            Effect::Fetch { id, what } => self.storage.fetch(id, what),
            Effect::Store(batch) => self.storage.store(batch),
            Effect::ReplaceState(snapshot) => self.storage.replace_state(snapshot),
            Effect::StoreWhole { applied, state } => self.storage.store_whole(applied, state),
            Effect::Publish(published) => {
                let Published { state, touched } = *published;
                self.view.publish(state, touched);
            }
            Effect::Standing(standing) => {
                if self.view.standing().role != standing.role {
                    self.roles.entered(standing.role);
                }
                self.view.set_standing(standing);
            }
            Effect::Call {
                id,
                to,
                call,
                timeout,
            } => self.network.call(id, to, &call, timeout),
            Effect::Reply { id, reply } => {
                if let Some(handle) = self.calls.remove(&id) {
                    // A caller that has given up hears nothing.
                    let _ = handle.send(Bytes::from(wire::encode_reply(&reply)));
                }
            }
            Effect::Answer { token, answer } => {
                if let Some(sender) = self.requests.remove(&token) {
                    let _ = sender.send(answer);
                }
            }
            Effect::Address(peer) => {
                self.network.transport().set_address(peer.id, peer.address);
                self.view.set_address(peer.id, peer.address);
            }
            Effect::Event(event) => log_event(event),
            // These are between the parts of the agent's machine.
            Effect::Expel(_) | Effect::Removed | Effect::Stopped => {}
        }
    }
}

impl Outlet<Agent> for AgentOutlet {
    type Tag = Tag;

    fn accepted(&mut self, tag: Tag) {
        match (tag, &mut self.server) {
            (Tag::Request(token, sender), Some(server)) => {
                server.requests.insert(token, sender);
            }
            (Tag::Call(id, reply), Some(server)) => {
                server.calls.insert(id, reply);
            }
            // Nobody answers for a server that is not there; the dropped sender says so.
            (Tag::None | Tag::Request(..) | Tag::Call(..), _) => {}
            (Tag::Local(token, sender), _) => self.running.asked(token, sender),
            (Tag::Gossip(token, sender), _) => self.gossip.asked(token, sender),
            (Tag::GossipCall(pool, id, reply), _) => self.gossip.called(pool, id, reply),
        }
    }

    fn rejected(&mut self, tag: Tag, reject: Reject) {
        // Whoever waits is told by the dropped sender.
        drop(tag);
        tracing::debug!(%reject, "an input was refused");
    }

    fn turn_ended(&mut self, machine: &Agent) {
        self.local.vitals.look(machine);
    }

    fn effect(&mut self, effect: agent::Effect) {
        match effect {
            agent::Effect::Server(effect) => {
                if let Some(server) = &mut self.server {
                    server.effect(effect);
                }
            }
            agent::Effect::Gossip { pool, effect } => {
                if let (Pool::Lan, Some(server)) = (pool, &self.server) {
                    if let lictor_gossip::Effect::Address { id, address } = &effect {
                        server.view.set_address(*id, *address);
                    } else if let lictor_gossip::Effect::Forget(id) = &effect {
                        server.view.forget_address(*id);
                    }
                }
                self.gossip.effect(pool, effect);
            }
            agent::Effect::Distances(distances) => self.local.pools.set_distances(distances),
            agent::Effect::Local(effect) => self.running.effect(effect),
            agent::Effect::Left | agent::Effect::Stopped => {
                self.gone.notify(usize::MAX);
            }
        }
    }
}

fn log_event(event: Event) {
    match event {
        Event::Raft(lictor_raft::Event::Leader {
            term,
            leader: Some(leader),
        }) => {
            tracing::info!(%leader, %term, "new leader");
        }
        Event::Raft(lictor_raft::Event::Leader { term, leader: None }) => {
            tracing::info!(%term, "there is no leader");
        }
        Event::Raft(lictor_raft::Event::SendingSnapshot { peer, last }) => {
            tracing::info!(%peer, %last, "sending a snapshot to a server that lags behind");
        }
        Event::Raft(lictor_raft::Event::DiskStalled { .. }) => {
            tracing::error!("the disk does not finish a write of the log; another server takes over");
        }
        Event::Raft(lictor_raft::Event::QuorumLost) => {
            tracing::warn!("most servers are out of reach: this server no longer leads");
        }
        Event::Raft(lictor_raft::Event::Members(members)) => {
            let list =
                |ids: &BTreeSet<NodeId>| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            let (voters, learners) = (list(&members.voters), list(&members.learners));
            if members.outgoing.is_empty() {
                tracing::debug!(voters, learners, "the servers that Raft counts");
            } else {
                let outgoing = list(&members.outgoing);
                tracing::debug!(
                    voters,
                    outgoing,
                    learners,
                    "the servers that Raft counts, while they change"
                );
            }
        }
        Event::Raft(lictor_raft::Event::Removed) => {
            tracing::info!("this server was taken out of the cluster, and takes part in nothing from now on");
        }
        Event::Raft(other) => tracing::debug!(?other, "raft"),
        Event::PeerFound(peer) => {
            tracing::info!(name = %peer.name, address = %peer.address, id = %peer.id, "found a server");
        }
        Event::Trouble(what) => tracing::warn!("{what}"),
        Event::Waiting(what) => tracing::info!("{what}"),
        Event::Founded(founding) => {
            tracing::info!(cluster = %founding.cluster, servers = founding.voters.len(), "the cluster is founded");
        }
        Event::Restored(last) => tracing::info!(%last, "installed a snapshot from the leader"),
        Event::ArchiveRestored(at) => tracing::warn!(%at, "the state was replaced by that of an archive"),
        Event::Adopted(cluster) => {
            tracing::info!(%cluster, "this server joins a cluster that was founded before");
        }
        Event::Changing {
            added,
            promoted,
            removed,
        } => {
            let list = |ids: &[NodeId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            let (added, promoted, removed) = (list(&added), list(&promoted), list(&removed));
            tracing::info!(added, promoted, removed, "the servers of the cluster change");
        }
        other => tracing::debug!(?other, "node"),
    }
}
