//! How a server comes to belong to a cluster that was founded without it, and how servers learn of each other from gossip.
//!
//! The leader sees a newcomer in gossip (`autopilot`) and asks it to belong to its cluster. A newcomer that has promised itself to
//! nobody, or to a founder that is long silent since or has left, and whose cluster nobody is known to be in, agrees, durably, before it says so;
//! from then on it takes part in Raft as the leader's configuration has it.

use lictor_machine::NodeId;

use crate::ClusterId;
use crate::agent::ServerFacts;
use crate::founding::{Errand, Then};
use crate::io::{Call, CallFailure, Effect, FoundRefusal, InboundId, Reply, Target};
use crate::node::Node;
use crate::store::PeerAddress;

impl Node {
    /// The leader of a cluster asks this server to be in it. Agreed to by one that is in no other and has promised itself to nobody, or to
    /// somebody who is long silent or has left; as with a founding, it is durable before it is said.
    pub(crate) fn handle_adopt(&mut self, id: InboundId, cluster: ClusterId) {
        let forsaken = self.is_forsaken();
        let notes = &self.society.notes;
        let refusal = match (notes.cluster, &notes.founding) {
            (Some(mine), _) if mine == cluster => None,
            (Some(other), _) => Some(FoundRefusal::Member(other)),
            (None, Some(promised)) if promised.cluster == cluster || forsaken => None,
            (None, Some(promised)) => Some(FoundRefusal::Promised(promised.clone())),
            (None, None) => None,
        };
        if let Some(refusal) = refusal {
            let mine = notes
                .founding
                .as_ref()
                .is_some_and(|other| other.founder == self.config.id);
            if mine {
                // There is a cluster: this server need not found another, unless others have agreed to.
                self.give_up();
            }
            let reply = Reply::Adopted(Err(refusal));
            self.emit(Effect::Reply { id, reply });
            return;
        }
        if notes.cluster.is_none() {
            let notes = &mut self.society.notes;
            notes.founding.take_if(|promised| promised.cluster != cluster);
            notes.cluster = Some(cluster);
            self.report_adoption(cluster);
        }
        self.save_notes(Then::Belong(id));
    }

    pub(crate) fn ask_to_adopt(&mut self, server: NodeId, cluster: ClusterId) {
        self.call(Target::Node(server), Call::Adopt(cluster), Errand::Adopt(server));
    }

    /// Gossip says that a server is there, and where.
    pub(crate) fn meet(&mut self, facts: &ServerFacts) {
        let peer = PeerAddress {
            id: facts.id,
            name: facts.name.clone(),
            address: facts.address,
        };
        let new = self.society.peer(facts.id).is_none();
        if self.learn_address(&peer) {
            self.save_notes(Then::Rest);
        }
        if new && self.society.notes.cluster.is_none() {
            let now = self.now();
            self.society.greet_at(now);
        }
    }

    /// A server has left: nobody greets it any more. One that is still in the configuration is remembered until it is not.
    pub(crate) fn part(&mut self, id: NodeId) {
        if self.raft.members().members().contains(&id) {
            return;
        }
        self.society.forget_acquaintance(id);
        let peers = &mut self.society.notes.peers;
        let before = peers.len();
        peers.retain(|peer| peer.id != id);
        if peers.len() < before {
            self.save_notes(Then::Rest);
        }
    }

    /// After a change of the configuration: those who left and are out of it now need not be remembered any more.
    pub(crate) fn part_with_the_removed(&mut self) {
        let peers = &self.society.notes.peers;
        let gone: Vec<NodeId> = peers
            .iter()
            .map(|peer| peer.id)
            .filter(|id| self.autopilot.is_gone(*id))
            .collect();
        for id in gone {
            self.part(id);
        }
    }

    pub(crate) fn peer_address(&self, id: NodeId) -> Option<&PeerAddress> {
        self.society.peer(id)
    }

    /// What became of [`Node::ask_to_adopt`].
    pub(crate) fn adoption_done(&mut self, server: NodeId, result: Result<Reply, CallFailure>) {
        let answer = match result {
            Ok(Reply::Adopted(Ok(()))) => Ok(()),
            Ok(Reply::Adopted(Err(FoundRefusal::Member(cluster)))) => {
                Err(Some(format!("it belongs to the cluster {cluster}")))
            }
            // It will be free, or in a cluster, in a moment; or it could not be reached.
            Ok(
                Reply::Adopted(Err(FoundRefusal::Promised(_) | FoundRefusal::Expects(_)))
                | Reply::Hello(_)
                | Reply::Found(_)
                | Reply::Written { .. }
                | Reply::NotLeader(_)
                | Reply::Failed(_)
                | Reply::Operator(_)
                | Reply::Renewed(_),
            )
            | Err(_) => Err(None),
        };
        self.adoption_answered(server, answer);
    }
}
