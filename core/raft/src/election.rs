//! Elections (Raft §5.2, §5.4.1), with pre-vote (thesis §9.6) and votes that wait out a leader's lease (thesis §4.2.3).

use lictor_machine::{Index, NodeId};

use crate::io::{Reject, Role};
use crate::message::{Body, Poll};
use crate::quorum;
use crate::raft::Raft;
use crate::types::{LogId, Term};

/// No honest cluster counts this far; a term beyond it is a damaged or hostile message.
pub(crate) const TERM_MAX: Term = Term(u64::MAX >> 8);

impl Raft {
    /// Whether this node could win an election at all, and is to try.
    ///
    /// That includes one that has just lost its vote, until it knows that this is committed: it may be the only one that holds the entry, and
    /// the others would wait for its vote in vain (thesis §4.2.2). Its own vote counts for nothing then.
    pub(crate) fn may_campaign(&self) -> bool {
        let me = self.config.id;
        let has_vote = self.log.members().is_voter(me)
            || !self.is_members_committed() && self.log.members_before().is_voter(me);
        self.role != Role::Leader && has_vote && self.hard.term < TERM_MAX && !self.is_installing()
    }

    pub(crate) fn campaign(&mut self) -> Result<(), Reject> {
        if !self.may_campaign() {
            return Err(Reject::Invalid("this node leads already or is not a voter"));
        }
        if self.trusts_a_leader() {
            // This node's vote for itself is a vote too, and it may have promised a leader to give none for a while.
            return Err(Reject::Invalid(
                "a leader may be alive, and hold a lease with this node's promise",
            ));
        }
        self.start_pre_vote();
        Ok(())
    }

    pub(crate) fn election_timeout(&mut self) {
        self.set_leader(None);
        self.start_pre_vote();
    }

    fn start_pre_vote(&mut self) {
        self.role = Role::PreCandidate;
        self.poll.count += 1;
        self.votes.clear();
        self.votes.insert(self.config.id, true);
        self.reset_election_timer();
        if self.poll_result() == quorum::Poll::Won {
            self.start_election(false);
            return;
        }
        let body = Body::PreVote {
            last: self.log.last(),
            poll: self.poll,
        };
        self.send_to_voters(self.hard.term.next(), &body);
    }

    /// The leader has asked this node to take over: no pre-vote, and voters need not wait for the lease to end.
    pub(crate) fn campaign_for_transfer(&mut self) {
        if self.may_campaign() {
            self.start_election(true);
        }
    }

    /// Becomes a candidate. Its own vote counts, and its requests leave, once vote, term and log are durable: otherwise a
    /// grant that arrives after a crash could make it leader without the tail of the log that the grant was given for.
    fn start_election(&mut self, transfer: bool) {
        self.role = Role::Candidate;
        self.hard.term = self.hard.term.next();
        self.hard.vote = Some(self.config.id);
        self.writes.hard_state();
        self.set_leader(None);
        self.poll.count += 1;
        self.votes.clear();
        self.reset_election_timer();
        self.own_vote = Some(self.writes.latest());
        let body = Body::Vote {
            last: self.log.last(),
            poll: self.poll,
            transfer,
        };
        for to in self.other_voters() {
            self.send_when_durable(to, body.clone());
        }
    }

    /// Called when writes became durable: a candidate's vote for itself counts from then on.
    pub(crate) fn own_vote_durable(&mut self) {
        if self.own_vote.is_some_and(|id| self.writes.is_durable(id)) {
            self.own_vote = None;
            if self.role == Role::Candidate {
                self.votes.insert(self.config.id, true);
                self.count_votes();
            }
        }
    }

    /// Whether a leader may be alive, so that this node must not help to replace it.
    ///
    /// A node that has just started does not know whom it heard before, and waits as if it had heard a leader.
    fn trusts_a_leader(&self) -> bool {
        self.role == Role::Leader || self.now().since(self.leader_contact) < self.config.election_timeout
    }

    pub(crate) fn handle_pre_vote(&mut self, from: NodeId, term: Term, last: LogId, poll: Poll) {
        let granted = term > self.hard.term && last >= self.log.last() && !self.trusts_a_leader();
        // A grant speaks of the term that was asked about, a refusal of the term that the candidate should know.
        let reply_term = if granted { term } else { self.hard.term };
        let message = crate::Message {
            term: reply_term,
            body: Body::PreVoteReply { poll, granted },
        };
        self.emit(crate::Effect::Send { to: from, message });
    }

    pub(crate) fn handle_pre_vote_reply(&mut self, from: NodeId, term: Term, poll: Poll, granted: bool) {
        if !granted && term > self.hard.term {
            self.follow(term, None);
            return;
        }
        if self.role != Role::PreCandidate || poll != self.poll {
            return;
        }
        self.votes.insert(from, granted);
        match self.poll_result() {
            quorum::Poll::Won => self.start_election(false),
            quorum::Poll::Lost => self.role = Role::Follower,
            quorum::Poll::Open => {}
        }
    }

    pub(crate) fn handle_vote(&mut self, from: NodeId, term: Term, last: LogId, poll: Poll, transfer: bool) {
        // Whoever answered a leader's heartbeat has promised it not to vote for an election timeout.
        if !transfer && self.trusts_a_leader() && term >= self.hard.term {
            return;
        }
        if term > self.hard.term {
            self.follow(term, None);
        }
        let free = self.hard.vote.is_none_or(|vote| vote == from);
        #[cfg(feature = "sabotage")]
        let free = free || self.sabotaged(crate::Sabotage::VoteTwice);
        let waiting = matches!(self.role, Role::Follower | Role::PreCandidate) && self.leader_id.is_none();
        let granted = term == self.hard.term && free && waiting && last >= self.log.last();
        if granted {
            self.role = Role::Follower;
            if self.hard.vote != Some(from) {
                self.hard.vote = Some(from);
                self.writes.hard_state();
            }
            self.reset_election_timer();
        }
        let commit = self
            .log
            .id_at(self.hard.commit)
            .unwrap_or_else(|| self.log.base());
        self.send_when_durable(
            from,
            Body::VoteReply {
                poll,
                granted,
                commit,
            },
        );
    }

    pub(crate) fn handle_vote_reply(&mut self, from: NodeId, poll: Poll, granted: bool, commit: LogId) {
        if self.role != Role::Candidate || poll != self.poll {
            return;
        }
        // What a voter knows committed and we hold too is committed here: otherwise, of an even number of voters, the only
        // one who knows of a commit may die with that knowledge while the rest waits for it.
        if self.log.contains(commit) {
            self.commit_to(commit.index);
        }
        self.votes.insert(from, granted);
        self.count_votes();
    }

    fn count_votes(&mut self) {
        match self.poll_result() {
            quorum::Poll::Won => self.become_leader(),
            quorum::Poll::Lost => self.role = Role::Follower,
            quorum::Poll::Open => {}
        }
    }

    fn poll_result(&self) -> quorum::Poll {
        #[cfg(feature = "sabotage")]
        if self.miscounted_votes() {
            return quorum::Poll::Won;
        }
        quorum::poll(self.log.members(), |id| self.votes.get(&id).copied())
    }

    fn other_voters(&self) -> Vec<NodeId> {
        let members = self.log.members();
        let is_asked = |id: &NodeId| members.is_voter(*id);
        #[cfg(feature = "sabotage")]
        let is_asked = |id: &NodeId| is_asked(id) || self.is_miscounted(*id);
        self.others().into_iter().filter(is_asked).collect()
    }

    fn send_to_voters(&mut self, term: Term, body: &Body) {
        for to in self.other_voters() {
            let message = crate::Message {
                term,
                body: body.clone(),
            };
            self.emit(crate::Effect::Send { to, message });
        }
    }

    /// Takes everything up to `index` as committed, as far as the log reaches.
    pub(crate) fn commit_to(&mut self, index: Index) {
        let index = index.min(self.log.last().index);
        if index > self.hard.commit {
            self.hard.commit = index;
        }
    }
}
