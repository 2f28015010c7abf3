//! Terms, and who speaks in them: what a message may say depends on its term, and so does who is followed. (§5.1)

use lictor_machine::{Index, NodeId};

use crate::io::{Effect, Event, Reject, Role};
use crate::message::{Body, Message};
use crate::raft::Raft;
use crate::types::Term;

impl Raft {
    /// Takes what another node has sent to the part of the protocol that it is for, if its term allows.
    pub(crate) fn handle_message(&mut self, from: NodeId, message: Message) -> Result<(), Reject> {
        message.check().map_err(Reject::Malformed)?;
        if from == self.config.id {
            return Err(Reject::Malformed("a message from this node itself"));
        }
        let Message { term, body } = message;
        if let Some(peer) = self
            .leader
            .as_mut()
            .and_then(|leader| leader.peers.get_mut(&from))
        {
            peer.spoke();
        }
        match body {
            // These say by themselves when a newer term is to be taken up.
            Body::PreVote { last, poll } => self.handle_pre_vote(from, term, last, poll),
            Body::PreVoteReply { poll, granted } => self.handle_pre_vote_reply(from, term, poll, granted),
            Body::Vote { last, poll, transfer } => self.handle_vote(from, term, last, poll, transfer),
            Body::Append { .. } | Body::Heartbeat { .. } | Body::Snapshot { .. } if term < self.hard.term => {
                // A leader of an older term learns from any reply that it no longer leads. (§5.1)
                self.send(from, Body::HeartbeatReply { round: 0 });
            }
            Body::Append {
                prev,
                entries,
                commit,
            } => {
                self.hear_leader(from, term)?;
                self.handle_append(prev, entries, commit);
            }
            Body::Heartbeat { commit, round } => {
                self.hear_leader(from, term)?;
                self.handle_heartbeat(from, commit, round);
            }
            Body::Snapshot {
                meta,
                chunk,
                data,
                done,
            } => {
                self.hear_leader(from, term)?;
                self.handle_snapshot(from, *meta, chunk, data, done);
            }
            Body::TimeoutNow => {
                if term == self.hard.term && self.leader_id == Some(from) && self.role == Role::Follower {
                    self.campaign_for_transfer();
                }
            }
            Body::VoteReply { .. }
            | Body::AppendReply(_)
            | Body::HeartbeatReply { .. }
            | Body::SnapshotReply { .. }
            | Body::ReadIndex { .. }
            | Body::ReadIndexReply { .. } => {
                if term > self.hard.term {
                    if !self.is_outsider_to_leader(from) {
                        self.follow(term, None);
                    }
                } else if term == self.hard.term {
                    self.heard_in_this_term(from);
                    self.handle_reply(from, body);
                }
            }
        }
        Ok(())
    }

    /// Messages of the current term that are not from its leader, except for read indexes.
    fn handle_reply(&mut self, from: NodeId, body: Body) {
        match body {
            Body::VoteReply {
                poll,
                granted,
                commit,
            } => self.handle_vote_reply(from, poll, granted, commit),
            Body::AppendReply(reply) => self.handle_append_reply(from, reply),
            Body::HeartbeatReply { round } => self.handle_heartbeat_reply(from, round),
            Body::SnapshotReply {
                snapshot,
                next_chunk,
                done,
            } => {
                self.handle_snapshot_reply(from, snapshot, next_chunk, done);
            }
            Body::ReadIndex { request, lease } => self.handle_read_index(from, request, lease),
            Body::ReadIndexReply { request, index } => self.handle_read_index_reply(from, request, index),
            Body::PreVote { .. }
            | Body::PreVoteReply { .. }
            | Body::Vote { .. }
            | Body::Append { .. }
            | Body::Heartbeat { .. }
            | Body::Snapshot { .. }
            | Body::TimeoutNow => {}
        }
    }

    /// Leader: only who speaks in the leader's own term hears the leader. Somebody whom it no longer reaches may well be heard asking for
    /// votes, and must not keep it in office.
    fn heard_in_this_term(&mut self, from: NodeId) {
        let now = self.now();
        if let Some(peer) = self
            .leader
            .as_mut()
            .and_then(|leader| leader.peers.get_mut(&from))
        {
            peer.last_heard = now;
        }
    }

    /// A leader of this or a newer term has spoken: follow it.
    fn hear_leader(&mut self, from: NodeId, term: Term) -> Result<(), Reject> {
        if term == self.hard.term && self.leader_id.is_some_and(|leader| leader != from) {
            return Err(Reject::Malformed("a second node claims to lead this term"));
        }
        if term > self.hard.term || self.role != Role::Follower || self.leader_id != Some(from) {
            self.follow(term, Some(from));
        }
        self.leader_contact = self.now();
        self.heard_leader = true;
        self.reset_election_timer();
        Ok(())
    }

    /// Takes up `term` if it is newer, and follows `leader`.
    pub(crate) fn follow(&mut self, term: Term, leader: Option<NodeId>) {
        let newer = term > self.hard.term;
        if newer {
            self.hard.term = term;
            self.hard.vote = None;
            self.writes.hard_state();
        }
        let was_leader = self.role == Role::Leader;
        self.role = Role::Follower;
        if newer || was_leader || self.leader_id != leader {
            self.matched = Index::ZERO;
            self.acked = Index::ZERO;
            self.ack_due = false;
        }
        if was_leader {
            self.step_down();
            self.reset_election_timer();
        }
        self.set_leader(leader);
    }

    pub(crate) fn set_leader(&mut self, leader: Option<NodeId>) {
        if self.leader_id == leader {
            return;
        }
        self.leader_id = leader;
        self.fail_follower_reads();
        self.emit(Effect::Event(Event::Leader {
            term: self.hard.term,
            leader,
        }));
    }
}
