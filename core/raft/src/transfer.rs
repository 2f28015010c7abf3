//! Leadership transfer (thesis §3.10).

use lictor_machine::{NodeId, Token};

use crate::io::{Outcome, Reject};
use crate::leader::Transfer;
use crate::message::Body;
use crate::raft::Raft;

impl Raft {
    pub(crate) fn transfer(&mut self, token: Token, to: Option<NodeId>) -> Result<(), Reject> {
        let deadline = self.now() + self.config.election_timeout;
        let Some(leader) = &self.leader else {
            return Err(Reject::NotLeader {
                leader: self.leader_id,
            });
        };
        if leader.transfer.is_some() {
            return Err(Reject::Transferring);
        }
        let Some(to) = to.or_else(|| self.furthest_voter()) else {
            return Err(Reject::Invalid("there is no other voter to hand leadership to"));
        };
        if to == self.config.id {
            return Err(Reject::Invalid("this node leads already"));
        }
        if !self.log.members().voters.contains(&to) {
            return Err(Reject::Invalid(
                "leadership can only be handed to a voter that is to stay one",
            ));
        }
        if let Some(leader) = &mut self.leader {
            leader.transfer = Some(Transfer {
                token,
                to,
                deadline,
                told: false,
            });
        }
        self.advance_transfer();
        Ok(())
    }

    /// Tells the target to campaign as soon as it holds the whole log; until then no proposals are taken.
    pub(crate) fn advance_transfer(&mut self) {
        let last = self.log.last().index;
        let Some(leader) = &mut self.leader else { return };
        let Some(transfer) = &mut leader.transfer else {
            return;
        };
        if transfer.told
            || leader
                .peers
                .get(&transfer.to)
                .is_none_or(|peer| peer.matched < last)
        {
            return;
        }
        transfer.told = true;
        leader.lease_void = true;
        let to = transfer.to;
        self.send(to, Body::TimeoutNow);
    }

    pub(crate) fn transfer_timeout(&mut self) {
        if let Some(transfer) = self.leader.as_mut().and_then(|leader| leader.transfer.take()) {
            self.resolve(transfer.token, Outcome::TransferFailed);
        }
    }

    /// The voter, other than this node and not about to lose its vote, that holds most of the log and was heard lately.
    pub(crate) fn furthest_voter(&self) -> Option<NodeId> {
        let now = self.now();
        let members = self.log.members();
        let leader = self.leader.as_ref()?;
        let lively = leader.peers.iter().filter(|(id, peer)| {
            members.voters.contains(*id) && now.since(peer.last_heard) <= self.config.election_timeout
        });
        lively.max_by_key(|(_, peer)| peer.matched).map(|(id, _)| *id)
    }
}
