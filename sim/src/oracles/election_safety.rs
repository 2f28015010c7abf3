//! Election Safety (§5.2): at most one leader is elected in a term; and what it rests on, that a server gives at most one vote
//! in a term, whatever crashes it has been through.

use std::collections::{BTreeMap, BTreeSet};

use lictor_machine::NodeId;
use lictor_raft::{Body, Message, Role, Status, Term};

use super::configurations::is_quorum;
use super::{Check, ensure};

#[derive(Debug, Default)]
pub(super) struct ElectionSafety {
    leaders: BTreeMap<Term, NodeId>,
    votes: BTreeMap<(Term, NodeId), NodeId>,
}

impl ElectionSafety {
    pub(super) fn turned(&mut self, status: &Status) -> Check {
        if status.role != Role::Leader {
            return Ok(());
        }
        let known = self.leaders.contains_key(&status.term);
        let first = *self.leaders.entry(status.term).or_insert(status.id);
        ensure("election safety", first == status.id, || {
            format!("{first:?} and {:?} both lead in term {}", status.id, status.term)
        })?;
        if !known {
            self.elected(status)?;
        }
        Ok(())
    }

    /// A new leader has the votes of a quorum. (A member that is its only voter asks nobody.)
    fn elected(&self, status: &Status) -> Check {
        let votes = self
            .votes
            .range((status.term, NodeId(0))..=(status.term, NodeId(u128::MAX)));
        let given = votes.filter(|(_, candidate)| **candidate == status.id);
        let mut voters: BTreeSet<NodeId> = given.map(|((_, voter), _)| *voter).collect();
        voters.insert(status.id);
        ensure("election safety", is_quorum(&status.members, &voters), || {
            format!(
                "{:?} leads in term {} by the votes of {voters:?}, and goes by {:?}",
                status.id, status.term, status.members
            )
        })
    }

    pub(super) fn sent(&mut self, from: NodeId, to: NodeId, message: &Message) -> Check {
        let candidate = match &message.body {
            Body::VoteReply { granted: true, .. } => to,
            Body::Vote { .. } => from,
            Body::VoteReply { granted: false, .. }
            | Body::PreVote { .. }
            | Body::PreVoteReply { .. }
            | Body::Append { .. }
            | Body::AppendReply(_)
            | Body::Heartbeat { .. }
            | Body::HeartbeatReply { .. }
            | Body::Snapshot { .. }
            | Body::SnapshotReply { .. }
            | Body::ReadIndex { .. }
            | Body::ReadIndexReply { .. }
            | Body::TimeoutNow => return Ok(()),
        };
        let first = *self.votes.entry((message.term, from)).or_insert(candidate);
        ensure("election safety", first == candidate, || {
            format!(
                "{from:?} votes for {first:?} and for {candidate:?} in term {}",
                message.term
            )
        })
    }
}
