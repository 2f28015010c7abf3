//! Changes of members by joint consensus (Raft §6): who asks for one, how it ends, and who is told.
//!
//! A configuration is in force at whoever has it in its log, committed or not, and no longer once it is truncated. A change of voters
//! is two entries: the joint configuration, in which every decision needs a majority of both halves, and, once that is committed, the
//! new one alone. Whoever leads by then appends the second, so a change that has begun ends whatever becomes of the leader that began it.

use std::collections::BTreeSet;

use lictor_machine::{Index, Instant, NodeId, Token};

use crate::io::{Effect, Event, MembersError, Outcome, Reject, Role};
use crate::message::Body;
use crate::progress::Progress;
use crate::raft::Raft;
use crate::types::{Configuration, LogId, MEMBERS_MAX, Payload, Term};

/// How long, in election timeouts, a leader tries to tell those who are not members any more that it is so.
const FAREWELL_TIMEOUTS: u32 = 8;

/// A change of members that was asked for at this node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    token: Token,
    /// The first of its entries.
    first: LogId,
    /// That entry is committed, so the change will be made, by whomever.
    certain: bool,
}

/// A peer that is not a member any more, and may not know it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaving {
    /// The entry that left it out.
    since: Index,
    /// The first round of heartbeats that told it that this entry is committed.
    pub(crate) told: Option<u64>,
    /// When to give up.
    until: Instant,
}

impl Leaving {
    /// Notes that a heartbeat of `round` tells the peer of everything up to `commit`.
    pub(crate) fn tell(&mut self, round: u64, commit: Index) {
        if commit >= self.since {
            self.told.get_or_insert(round);
        }
    }
}

impl Raft {
    pub(crate) fn reconfigure(
        &mut self,
        token: Token,
        voters: BTreeSet<NodeId>,
        learners: BTreeSet<NodeId>,
    ) -> Result<(), Reject> {
        let Some(leader) = &self.leader else {
            return Err(Reject::NotLeader {
                leader: self.leader_id,
            });
        };
        if leader.transfer.is_some() {
            return Err(Reject::Transferring);
        }
        check_target(&voters, &learners)?;
        // Two leaders that change members one after the other, neither having committed anything, could end with majorities that do not
        // meet (Ongaro, raft-dev, 2015). That it is applied, too, means that whatever an earlier term of this node left open is settled.
        if self.applying.applied < leader.term_start {
            return Err(MembersError::NotReady.into());
        }
        let old = self.log.members();
        if old.is_joint() || !self.is_members_committed() || self.change.is_some() {
            return Err(MembersError::InProgress.into());
        }
        if voters == old.voters && learners == old.learners {
            return Err(MembersError::Unchanged.into());
        }
        let outgoing = if voters == old.voters || self.skips_joint() {
            BTreeSet::new()
        } else {
            old.voters.clone()
        };
        let first = self.append_members(Configuration {
            voters,
            outgoing,
            learners,
        });
        self.change = Some(Change {
            token,
            first,
            certain: false,
        });
        Ok(())
    }

    /// Whether the configuration in force is known committed.
    pub(crate) fn is_members_committed(&self) -> bool {
        self.log.members_id().index <= self.hard.commit
    }

    /// Whether nobody but this node has a vote.
    pub(crate) fn is_only_voter(&self) -> bool {
        let members = self.log.members();
        members.voters.len() == 1 && members.voters.contains(&self.config.id) && !members.is_joint()
    }

    /// Another configuration is in force.
    pub(crate) fn members_changed(&mut self) {
        self.members_settled = false;
        self.serve_members();
        let members = self.log.members().clone();
        self.emit(Effect::Event(Event::Members(members)));
    }

    /// Once a turn: draws the consequences of a configuration that has become committed.
    pub(crate) fn settle_members(&mut self) {
        self.settle_change();
        if self.members_settled || !self.is_members_committed() {
            return;
        }
        let members = self.log.members();
        if members.is_joint() {
            self.leave_joint();
            return;
        }
        let (is_voter, is_member) = (
            members.voters.contains(&self.config.id),
            members.contains(self.config.id),
        );
        self.members_settled = true;
        match self.role {
            Role::Leader if !is_voter => self.leave_office(),
            // It stood because nobody else might hold the entry; now it knows better.
            Role::PreCandidate | Role::Candidate if !is_voter => self.role = Role::Follower,
            Role::Leader | Role::PreCandidate | Role::Candidate | Role::Follower => {}
        }
        if core::mem::replace(&mut self.is_member, is_member) && !is_member {
            self.emit(Effect::Event(Event::Removed));
        }
    }

    /// The change that was asked for here may have been made by now, and others may have been begun since. Its entries are still in the log:
    /// they are not applied before this has seen them committed.
    fn settle_change(&mut self) {
        let commit = self.hard.commit;
        let Some(change) = &mut self.change else { return };
        change.certain |= change.first.index <= commit && self.log.contains(change.first);
        let last = self.log.plain_members_from(change.first.index);
        if change.certain
            && let Some(last) = last.filter(|last| last.index <= commit)
        {
            let token = change.token;
            self.change = None;
            self.resolve(token, Outcome::Reconfigured { index: last.index });
        }
    }

    /// Leader: the joint configuration is committed; ends it. Not during a transfer, whose target would be left behind by the entry; if the
    /// transfer comes to nothing, the next turn is soon enough.
    fn leave_joint(&mut self) {
        let Some(leader) = &self.leader else { return };
        if leader.transfer.is_some() || self.hard.commit < leader.term_start {
            return;
        }
        let Configuration { voters, learners, .. } = self.log.members().clone();
        self.append_members(Configuration {
            voters,
            outgoing: BTreeSet::new(),
            learners,
        });
        // What waited for the outgoing half alone waits no longer.
        self.advance_commit();
        self.note_confirmed();
    }

    /// A leader that has no vote any more has led until this was committed (§6), and hands over to whoever is furthest.
    fn leave_office(&mut self) {
        self.send_round();
        if let Some(to) = self.furthest_voter() {
            self.send(to, Body::TimeoutNow);
        }
        self.follow(self.hard.term, None);
    }

    fn append_members(&mut self, members: Configuration) -> LogId {
        let id = self.append(Payload::Members(members));
        self.members_changed();
        id
    }

    /// Leader: everybody in the configuration is a peer, and for a while whoever has just been left out of it.
    pub(crate) fn serve_members(&mut self) {
        let now = self.now();
        let next = self.log.last().index.next();
        let members = self.log.members().members();
        let since = self.log.members_id().index;
        let before = if self.is_members_committed() {
            BTreeSet::new()
        } else {
            self.log.members_before().members()
        };
        let Some(leader) = &mut self.leader else { return };
        for id in members.union(&before).filter(|id| **id != self.config.id) {
            let peer = leader.peers.entry(*id);
            let peer = peer.or_insert_with(|| Progress::new(next, now, &self.config));
            if members.contains(id) {
                peer.leaving = None;
            } else if peer.leaving.is_none() {
                peer.leaving = Some(Leaving {
                    since,
                    told: None,
                    until: now + self.config.election_timeout * FAREWELL_TIMEOUTS,
                });
            }
        }
    }

    /// Leader: forgets those who left and know it, or cannot be told.
    pub(crate) fn forget_leaving(&mut self) {
        let now = self.now();
        let Some(leader) = &mut self.leader else { return };
        leader.peers.retain(|_, peer| {
            peer.leaving.is_none_or(|leaving| {
                let knows = leaving.told.is_some_and(|round| peer.acked_round >= round);
                !knows && now < leaving.until
            })
        });
    }

    /// Takes the change that was asked for here if it is certain that it will never be made: an entry of `term` is committed, and what
    /// the change began with is neither before it nor, since terms only grow along a log, can it be behind.
    pub(crate) fn lost_change(&mut self, term: Term) -> Option<Token> {
        let log = &self.log;
        self.change
            .take_if(|change| !change.certain && change.first.term < term && !log.contains(change.first))
            .map(|change| change.token)
    }

    /// A snapshot that ends at `last` has taken the place of the log.
    pub(crate) fn change_behind_snapshot(&mut self, last: LogId) {
        if let Some(change) = self
            .change
            .take_if(|change| change.certain || change.first.index <= last.index)
        {
            self.resolve(change.token, Outcome::Unknown);
        } else if let Some(token) = self.lost_change(last.term) {
            self.resolve(token, Outcome::Lost);
        }
    }

    /// Whether this node leads and `id` is not a member, or not any more: its term is no reason to step down.
    pub(crate) fn is_outsider_to_leader(&self, id: NodeId) -> bool {
        self.role == Role::Leader && !self.log.members().contains(id)
    }

    #[cfg(feature = "sabotage")]
    fn skips_joint(&self) -> bool {
        self.sabotaged(crate::Sabotage::SkipJoint)
    }

    #[cfg(not(feature = "sabotage"))]
    #[expect(clippy::unused_self, reason = "sabotage looks at the settings")]
    const fn skips_joint(&self) -> bool {
        false
    }
}

/// Whether these could be the members of a cluster.
pub(crate) fn check_target(
    voters: &BTreeSet<NodeId>,
    learners: &BTreeSet<NodeId>,
) -> Result<(), MembersError> {
    if voters.is_empty() {
        return Err(MembersError::NoVoters);
    }
    if let Some(id) = voters.intersection(learners).next() {
        return Err(MembersError::VoterAndLearner(*id));
    }
    let count = voters.len() + learners.len();
    if count > MEMBERS_MAX {
        return Err(MembersError::TooMany(count));
    }
    Ok(())
}
