//! Linearizable reads without a write (thesis §6.4): by the leader's lease, or by a round of heartbeats.
//!
//! Rounds are batched on both sides: one round serves all reads that waited for it, and a follower asks the leader once for all
//! reads that arrived since it last asked.

use std::collections::{BTreeMap, VecDeque};

use lictor_machine::{Index, Instant, NodeId, Token};

use crate::io::{Outcome, ReadMode, Reject, Role};
use crate::message::Body;
use crate::raft::Raft;

/// Who wants an index.
#[derive(Clone, Copy, Debug)]
enum Asker {
    Local(Token),
    Peer { id: NodeId, request: u64 },
}

/// Reads that a leader has yet to confirm.
#[derive(Debug, Default)]
pub(crate) struct LeaderReads {
    /// No round has been sent for these yet.
    unsent: Vec<Asker>,
    /// The round that confirms these, and the commit index when it was sent.
    sent: VecDeque<(u64, Index, Vec<Asker>)>,
}

impl LeaderReads {
    fn len(&self) -> usize {
        self.unsent.len() + self.sent.iter().map(|(.., askers)| askers.len()).sum::<usize>()
    }
}

/// Reads at a node that does not lead, and reads anywhere that wait for the state machine.
#[derive(Debug, Default)]
pub(crate) struct FollowerReads {
    /// Not asked for yet.
    unsent: BTreeMap<ReadMode, Vec<Token>>,
    /// Asked for: by request number, with the time of asking.
    asked: BTreeMap<u64, (Instant, Vec<Token>)>,
    requests: u64,
    /// Confirmed, and waiting until this index is applied.
    confirmed: BTreeMap<Index, Vec<Token>>,
    confirmed_len: usize,
    /// How long to wait for an answer.
    patience_until: Option<Instant>,
}

impl FollowerReads {
    /// Numbers requests apart from those of every earlier start: the answer to one of those may still be on its way, and its index
    /// is from before the restart.
    pub(crate) fn new(boot: u64) -> Self {
        const REQUESTS_OF_A_START_BITS: u32 = 40;
        Self {
            requests: boot << REQUESTS_OF_A_START_BITS,
            ..Self::default()
        }
    }

    fn len(&self) -> usize {
        self.unsent.values().map(Vec::len).sum::<usize>()
            + self.asked.values().map(|(_, tokens)| tokens.len()).sum::<usize>()
            + self.confirmed_len
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.patience_until
    }
}

impl Raft {
    pub(crate) fn read(&mut self, token: Token, mode: ReadMode) -> Result<(), Reject> {
        let max = self.config.reads_waiting_max.get();
        if let Some(leader) = &mut self.leader {
            if leader.reads.len() + self.follower_reads.confirmed_len >= max {
                return Err(Reject::Busy);
            }
            if mode == ReadMode::Lease && self.lease_until().is_some_and(|until| self.now() < until) {
                self.confirm(Asker::Local(token), self.hard.commit);
            } else if let Some(leader) = &mut self.leader {
                leader.reads.unsent.push(Asker::Local(token));
            }
            return Ok(());
        }
        if self.leader_id.is_none() {
            return Err(Reject::NotLeader { leader: None });
        }
        if self.follower_reads.len() >= max {
            return Err(Reject::Busy);
        }
        self.follower_reads.unsent.entry(mode).or_default().push(token);
        Ok(())
    }

    pub(crate) fn handle_read_index(&mut self, from: NodeId, request: u64, lease: bool) {
        let now = self.now();
        let leased = lease && self.lease_until().is_some_and(|until| now < until);
        let commit = self.hard.commit;
        let max = self.config.reads_waiting_max.get();
        match &mut self.leader {
            Some(_) if leased => self.send(
                from,
                Body::ReadIndexReply {
                    request,
                    index: Some(commit),
                },
            ),
            Some(leader) if leader.reads.len() < max => {
                leader.reads.unsent.push(Asker::Peer { id: from, request });
            }
            Some(_) | None => self.send(from, Body::ReadIndexReply { request, index: None }),
        }
    }

    /// Leader: answers reads whose round a quorum has answered, and starts the next round if reads wait and none is under way.
    pub(crate) fn confirm_reads(&mut self) {
        loop {
            self.answer_confirmed();
            let commit = self.hard.commit;
            let Some(leader) = &self.leader else { return };
            // Before an entry of its own term is committed, a leader does not know what is (thesis §6.4, step 1).
            if leader.reads.unsent.is_empty() || !leader.reads.sent.is_empty() || commit < leader.term_start {
                return;
            }
            self.send_round();
            let Some(leader) = &mut self.leader else { return };
            let askers = std::mem::take(&mut leader.reads.unsent);
            leader.reads.sent.push_back((leader.round, commit, askers));
            // Only a leader that is its own quorum is confirmed at once.
            if leader.confirmed_round < leader.round {
                return;
            }
        }
    }

    fn answer_confirmed(&mut self) {
        while let Some(leader) = &mut self.leader
            && leader
                .reads
                .sent
                .front()
                .is_some_and(|(round, ..)| *round <= leader.confirmed_round)
            && let Some((_, index, askers)) = leader.reads.sent.pop_front()
        {
            for asker in askers {
                self.confirm(asker, index);
            }
        }
    }

    fn confirm(&mut self, asker: Asker, index: Index) {
        match asker {
            Asker::Peer { id, request } => self.send(
                id,
                Body::ReadIndexReply {
                    request,
                    index: Some(index),
                },
            ),
            Asker::Local(token) if index <= self.applying.applied => {
                self.resolve(token, Outcome::Read { index });
            }
            Asker::Local(token) => {
                let waiting = &mut self.follower_reads;
                waiting.confirmed.entry(index).or_default().push(token);
                waiting.confirmed_len += 1;
            }
        }
    }

    /// Answers confirmed reads that the state machine has caught up with.
    pub(crate) fn answer_reads(&mut self) {
        while let Some(first) = self
            .follower_reads
            .confirmed
            .first_entry()
            .filter(|first| *first.key() <= self.applying.applied)
        {
            let (index, tokens) = first.remove_entry();
            self.follower_reads.confirmed_len -= tokens.len();
            for token in tokens {
                self.resolve(token, Outcome::Read { index });
            }
        }
    }

    /// Follower: asks the leader, once for all that wait, unless an answer is already on its way.
    pub(crate) fn ask_read_index(&mut self) {
        let Some(leader) = self.leader_id else { return };
        if self.role != Role::Follower || !self.follower_reads.asked.is_empty() {
            return;
        }
        let now = self.now();
        for (mode, tokens) in std::mem::take(&mut self.follower_reads.unsent) {
            self.follower_reads.requests = self.follower_reads.requests.wrapping_add(1);
            let request = self.follower_reads.requests;
            self.follower_reads.asked.insert(request, (now, tokens));
            self.follower_reads.patience_until = Some(now + self.config.election_timeout);
            self.send(
                leader,
                Body::ReadIndex {
                    request,
                    lease: mode == ReadMode::Lease,
                },
            );
        }
    }

    pub(crate) fn handle_read_index_reply(&mut self, from: NodeId, request: u64, index: Option<Index>) {
        if self.leader_id != Some(from) {
            return;
        }
        let Some((_, tokens)) = self.follower_reads.asked.remove(&request) else {
            return;
        };
        if self.follower_reads.asked.is_empty() {
            self.follower_reads.patience_until = None;
        }
        match index {
            Some(index) => {
                // The leader says that this much is committed; where our log is known to equal its log, it is here too.
                self.commit_to(index.min(self.matched));
                for token in tokens {
                    self.confirm(Asker::Local(token), index);
                }
            }
            None => {
                for token in tokens {
                    self.resolve(token, Outcome::ReadFailed);
                }
            }
        }
    }

    /// Nobody will answer: the leader is gone or silent.
    pub(crate) fn fail_follower_reads(&mut self) {
        self.follower_reads.patience_until = None;
        let unsent = std::mem::take(&mut self.follower_reads.unsent);
        let asked = std::mem::take(&mut self.follower_reads.asked);
        for token in unsent
            .into_values()
            .flatten()
            .chain(asked.into_values().flat_map(|(_, tokens)| tokens))
        {
            self.resolve(token, Outcome::ReadFailed);
        }
    }

    /// This node no longer leads. Reads confirmed before remain good: they were linearizable at their index.
    pub(crate) fn fail_leader_reads(&mut self, reads: LeaderReads) {
        for asker in reads
            .unsent
            .into_iter()
            .chain(reads.sent.into_iter().flat_map(|(.., askers)| askers))
        {
            match asker {
                Asker::Local(token) => self.resolve(token, Outcome::ReadFailed),
                Asker::Peer { id, request } => self.send(id, Body::ReadIndexReply { request, index: None }),
            }
        }
    }
}
