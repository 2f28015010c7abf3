//! Deliberate mistakes, each the breach of one rule. The simulator must notice every one of them: that is how we know that its
//! oracles see. Never compiled into a program that serves anybody.

use lictor_machine::{Index, NodeId};

use crate::raft::Raft;

/// A mistake to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Vote for a second candidate in the same term.
    VoteTwice,
    /// Send what depends on a write before the write is durable.
    AckBeforePersist,
    /// Commit an entry of an older term by counting replicas (Figure 8 of the paper).
    CommitOldTerm,
    /// Commit what only the leader itself holds.
    CountWithoutQuorum,
    /// Take the lease for granted without hearing from a quorum.
    LeaseWithoutQuorum,
    /// Apply entries before they are committed.
    ApplyUncommitted,
    /// Drop a conflicting tail in memory but not on disk.
    ForgetTruncate,
    /// Let the copies and votes of servers that have been removed count towards a majority of those that are left.
    CountRemovedVoter,
    /// Let the copies and votes of learners count towards a majority of the voters.
    LearnerVotes,
    /// Go straight to the new voters, without joint consensus.
    SkipJoint,
}

impl Raft {
    /// Whether a server that has no vote is counted all the same.
    pub(crate) fn is_miscounted(&self, id: NodeId) -> bool {
        let members = self.log.members();
        self.sabotaged(Sabotage::LearnerVotes) && members.learners.contains(&id)
            || self.sabotaged(Sabotage::CountRemovedVoter) && !members.contains(id)
    }

    /// Leader: the highest index that as many servers hold as there are in a majority, those that have no vote being counted, too.
    pub(crate) fn miscounted_commit(&self) -> Index {
        let members = self.log.members();
        let counts = |id: NodeId| members.voters.contains(&id) || self.is_miscounted(id);
        let peers = self.leader.iter().flat_map(|leader| &leader.peers);
        let mut held: Vec<Index> = peers
            .filter(|(id, _)| counts(**id))
            .map(|(_, peer)| peer.matched)
            .collect();
        if counts(self.config.id) {
            held.push(self.log.durable);
        }
        held.sort_unstable_by(|a, b| b.cmp(a));
        held.get(members.voters.len() / 2).copied().unwrap_or_default()
    }

    /// Candidate: whether as many have granted their vote as there are in a majority, those that have none being counted, too.
    pub(crate) fn miscounted_votes(&self) -> bool {
        let members = self.log.members();
        let counts = |id: NodeId| members.voters.contains(&id) || self.is_miscounted(id);
        let granted = self
            .votes
            .iter()
            .filter(|(id, granted)| **granted && counts(**id));
        let sabotaged = self.sabotaged(Sabotage::LearnerVotes) || self.sabotaged(Sabotage::CountRemovedVoter);
        sabotaged && granted.count() > members.voters.len() / 2
    }
}
