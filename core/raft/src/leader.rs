//! What only a leader has: its peers, its rounds of heartbeats, and the check that a quorum still follows.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use lictor_machine::{Index, Instant, NodeId, Token};

use crate::io::{Effect, Event, Outcome, Reject, Role};
use crate::message::Body;
use crate::progress::Progress;
use crate::quorum;
use crate::raft::Raft;
use crate::reads::LeaderReads;
use crate::types::{Entry, LogId, Payload};

/// How many unanswered rounds of heartbeats a leader remembers.
const ROUNDS_MAX: usize = 64;

#[derive(Debug)]
pub(crate) struct Leader {
    /// The index of the entry that began the leader's term. Once it is committed, so is everything before.
    pub(crate) term_start: Index,
    pub(crate) peers: BTreeMap<NodeId, Progress>,
    pub(crate) heartbeat_at: Instant,
    /// The latest round of heartbeats.
    pub(crate) round: u64,
    /// When each round that a quorum has not yet answered was sent.
    rounds: VecDeque<(u64, Instant)>,
    /// When the latest round that a quorum answered was sent: nobody who answered votes for an election timeout from then on.
    pub(crate) confirmed_at: Option<Instant>,
    pub(crate) confirmed_round: u64,
    pub(crate) reads: LeaderReads,
    pub(crate) transfer: Option<Transfer>,
    /// A peer may have been told to campaign without waiting for the lease, so there is none for the rest of the term.
    pub(crate) lease_void: bool,
    /// Bytes of entries that are not committed yet.
    pub(crate) uncommitted_bytes: usize,
}

/// A transfer of leadership under way (thesis §3.10).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transfer {
    pub(crate) token: Token,
    pub(crate) to: NodeId,
    pub(crate) deadline: Instant,
    pub(crate) told: bool,
}

impl Raft {
    pub(crate) fn become_leader(&mut self) {
        let now = self.now();
        let next = self.log.last().index.next();
        self.role = Role::Leader;
        self.votes.clear();
        self.leader = Some(Leader {
            term_start: next,
            peers: BTreeMap::new(),
            heartbeat_at: now,
            round: 0,
            rounds: VecDeque::new(),
            confirmed_at: None,
            confirmed_round: 0,
            reads: LeaderReads::default(),
            transfer: None,
            lease_void: false,
            uncommitted_bytes: self.log.bytes_between(self.hard.commit, self.log.last().index),
        });
        self.serve_members();
        // A joint configuration that an earlier leader left is now for this one to end.
        self.members_settled = false;
        self.set_leader(Some(self.config.id));
        // Entries of earlier terms are committed only together with one of this term (§5.4.2).
        self.append(Payload::Noop);
        self.heartbeat_due();
    }

    /// Leaves no trace of having led, except for proposals, whose fate only the log tells.
    pub(crate) fn step_down(&mut self) {
        let Some(leader) = self.leader.take() else { return };
        if let Some(transfer) = leader.transfer {
            self.resolve(transfer.token, Outcome::Transferred);
        }
        self.fail_leader_reads(leader.reads);
    }

    pub(crate) fn propose(&mut self, token: Token, data: Bytes) -> Result<(), Reject> {
        let Some(leader) = &self.leader else {
            return Err(Reject::NotLeader {
                leader: self.leader_id,
            });
        };
        if leader.transfer.is_some() {
            return Err(Reject::Transferring);
        }
        if leader.uncommitted_bytes >= self.config.uncommitted_bytes_max.get() {
            return Err(Reject::Busy);
        }
        let id = self.append(Payload::Command(data));
        self.proposals.insert((id.index, id.term), token);
        Ok(())
    }

    pub(crate) fn append(&mut self, payload: Payload) -> LogId {
        let id = LogId {
            term: self.hard.term,
            index: self.log.last().index.next(),
        };
        let entry = Entry { id, payload };
        if let Some(leader) = &mut self.leader {
            leader.uncommitted_bytes += entry.size();
        }
        self.writes.append(entry.clone());
        self.log.append(entry);
        id
    }

    /// A heartbeat is due: check that a quorum still follows, look for peers that fell silent, and go round again.
    pub(crate) fn heartbeat_due(&mut self) {
        let now = self.now();
        let timeout = self.config.election_timeout;
        let me = self.config.id;
        let Some(leader) = &mut self.leader else { return };
        leader.heartbeat_at = now + self.config.heartbeat_interval;
        let heard = |id: NodeId| {
            id == me
                || leader
                    .peers
                    .get(&id)
                    .is_some_and(|peer| now.since(peer.last_heard) <= timeout)
        };
        if !quorum::reached(self.log.members(), heard) {
            self.emit(Effect::Event(Event::QuorumLost));
            self.follow(self.hard.term, None);
            return;
        }
        for peer in leader.peers.values_mut() {
            peer.check_silence(now, &self.config);
        }
        self.forget_leaving();
        self.send_round();
    }

    /// Sends a round of heartbeats. Its answers prove that this node led when it was sent.
    pub(crate) fn send_round(&mut self) {
        let now = self.now();
        let commit = self.hard.commit;
        let Some(leader) = &mut self.leader else { return };
        leader.round += 1;
        let round = leader.round;
        if leader.rounds.len() == ROUNDS_MAX {
            leader.rounds.pop_front();
        }
        leader.rounds.push_back((round, now));
        let mut heartbeats = Vec::with_capacity(leader.peers.len());
        for (to, peer) in &mut leader.peers {
            let commit = commit.min(peer.matched);
            peer.commit_told = commit;
            if let Some(leaving) = &mut peer.leaving {
                leaving.tell(round, commit);
            }
            heartbeats.push((*to, Body::Heartbeat { commit, round }));
        }
        for (to, heartbeat) in heartbeats {
            self.send(to, heartbeat);
        }
        self.note_confirmed();
    }

    pub(crate) fn handle_heartbeat_reply(&mut self, from: NodeId, round: u64) {
        let Some(leader) = &mut self.leader else { return };
        if round > leader.round {
            return;
        }
        if let Some(peer) = leader.peers.get_mut(&from) {
            peer.acked_round = peer.acked_round.max(round);
            peer.answers(self.clock.latest(), &self.config);
            self.note_confirmed();
        }
    }

    /// Works out which rounds a quorum has answered.
    pub(crate) fn note_confirmed(&mut self) {
        let me = self.config.id;
        #[cfg(feature = "sabotage")]
        let blind = self.sabotaged(crate::Sabotage::LeaseWithoutQuorum);
        #[cfg(not(feature = "sabotage"))]
        let blind = false;
        let Some(leader) = &mut self.leader else { return };
        let answered = quorum::highest(self.log.members(), |id| {
            if id == me || blind {
                leader.round
            } else {
                leader.peers.get(&id).map_or(0, |peer| peer.acked_round)
            }
        });
        leader.confirmed_round = leader.confirmed_round.max(answered);
        while let Some((_, sent)) = leader
            .rounds
            .front()
            .copied()
            .filter(|(round, _)| *round <= answered)
        {
            leader.confirmed_at = Some(sent);
            leader.rounds.pop_front();
        }
    }

    /// Until when this leader may serve reads without asking: nobody else can lead before then, if clocks drift apart by no more
    /// than [`crate::Config::max_clock_drift_permille`].
    ///
    /// `None` if it does not lead, has not yet committed and applied an entry of its term, is handing leadership over or has tried to in
    /// this term, or has not been confirmed by a quorum.
    pub fn lease_until(&self) -> Option<Instant> {
        let void = self.leader.as_ref().is_some_and(|leader| leader.lease_void);
        self.confirmed_until().filter(|_| !void)
    }

    /// Until when a quorum that has answered this leader supports it. That is as long as the lease would last, and goes on when the
    /// lease is void: for what may go wrong if another leads already, but must not stop because another might. Whoever only reads this
    /// knows nothing of that other; what this leader proposes is committed only if there is none.
    ///
    /// `None` if it does not lead, has not yet committed and applied an entry of its term, is handing leadership over, or has not been
    /// confirmed by a quorum.
    pub fn confirmed_until(&self) -> Option<Instant> {
        let leader = self.leader.as_ref()?;
        if leader.transfer.is_some() || self.applying.applied < leader.term_start {
            return None;
        }
        if leader.peers.is_empty() {
            return Some(Instant::MAX);
        }
        leader.confirmed_at.map(|sent| sent + self.config.lease())
    }

    /// Commits what a quorum holds durably (§5.3, §5.4.2).
    pub(crate) fn advance_commit(&mut self) {
        #[cfg(feature = "sabotage")]
        let miscounted = self.miscounted_commit();
        let Some(leader) = &mut self.leader else { return };
        let me = self.config.id;
        let durable = self.log.durable;
        #[allow(unused_mut, reason = "changed only by sabotage")]
        let mut index = quorum::committed(self.log.members(), |id| {
            if id == me {
                durable
            } else {
                leader.peers.get(&id).map_or(Index::ZERO, |peer| peer.matched)
            }
        });
        #[allow(unused_mut, reason = "changed only by sabotage")]
        let mut own_term = self.log.term_at(index) == Some(self.hard.term);
        #[cfg(feature = "sabotage")]
        match self.config.sabotage {
            Some(crate::Sabotage::CountWithoutQuorum) => {
                index = durable;
                own_term = self.log.term_at(index) == Some(self.hard.term);
            }
            Some(crate::Sabotage::CommitOldTerm) => own_term = true,
            Some(crate::Sabotage::CountRemovedVoter | crate::Sabotage::LearnerVotes) => {
                index = index.max(miscounted);
                own_term = self.log.term_at(index) == Some(self.hard.term);
            }
            _ => {}
        }
        // An entry of an older term may still be overwritten although a quorum holds it (Figure 8).
        if index > self.hard.commit && own_term {
            leader.uncommitted_bytes = leader
                .uncommitted_bytes
                .saturating_sub(self.log.bytes_between(self.hard.commit, index));
            self.hard.commit = index;
        }
    }

    pub(crate) fn disk_stall_at(&self) -> Option<Instant> {
        if self.leader.is_none() || self.is_only_voter() {
            // Nobody could do better.
            return None;
        }
        self.writes
            .oldest_required()
            .map(|(_, since)| since + self.config.disk_stall)
    }

    /// The disk has hung: a leader that cannot write is no leader, however well it is heard. Somebody else takes over.
    pub(crate) fn disk_stalled(&mut self) {
        if let Some((write, _)) = self.writes.oldest_required() {
            self.emit(Effect::Event(Event::DiskStalled { write }));
        }
        if let Some(to) = self.furthest_voter() {
            self.send(to, Body::TimeoutNow);
        }
        self.follow(self.hard.term, None);
        // Give the others a head start.
        self.election_at = self.election_at + self.config.election_timeout * 2;
    }
}
