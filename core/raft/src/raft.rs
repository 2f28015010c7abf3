//! The machine: its state, the dispatch of inputs, and what all parts of the protocol share.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lictor_machine::{Clamped, Deadline, Index, Instant, Machine, NodeId, Now, Rng, Token};

use crate::apply::Applying;
use crate::config::{Config, ConfigError};
use crate::io::{
    Effect, Extent, Fault, FetchId, Fetched, Input, Outcome, PeerStatus, Reject, Role, Status, Timer,
};
use crate::leader::Leader;
use crate::log::Log;
use crate::membership::Change;
use crate::message::{Body, Message, Poll};
use crate::reads::FollowerReads;
use crate::snapshot::Incoming;
use crate::types::{Boot, HardState, LogId, Term, WriteId};
use crate::writes::Writes;

/// A Raft node as a pure state machine.
///
/// Drive it as [`lictor_machine::Machine`] says: feed it inputs, carry out its effects in order, wake it at its
/// deadline. It may be dropped at any time, as by a crash; [`Raft::start`] resumes from what is durable.
#[derive(Debug)]
pub struct Raft {
    pub(crate) config: Config,
    pub(crate) clock: Clamped,
    rng: Rng,
    /// What is, or is on its way to be, durable.
    pub(crate) hard: HardState,
    pub(crate) log: Log,
    pub(crate) writes: Writes,
    pub(crate) role: Role,
    /// Whom this node follows.
    pub(crate) leader_id: Option<NodeId>,
    /// `Some` while this node leads.
    pub(crate) leader: Option<Leader>,
    /// Who answered the poll that this node holds as a (pre-)candidate.
    pub(crate) votes: BTreeMap<NodeId, bool>,
    pub(crate) poll: Poll,
    /// While a candidate's own vote is on its way to the disk: the write that carries it.
    pub(crate) own_vote: Option<WriteId>,
    pub(crate) election_at: Instant,
    /// When a leader was last heard; also the start of this node, which may have promised a lease before it.
    pub(crate) leader_contact: Instant,
    /// Whether a leader was heard since the start.
    pub(crate) heard_leader: bool,
    /// The end of the log part that is known to equal the current leader's log.
    pub(crate) matched: Index,
    /// What was acknowledged to the current leader.
    pub(crate) acked: Index,
    /// The leader sent an append that is to be acknowledged even if nothing new is durable.
    pub(crate) ack_due: bool,
    pub(crate) applying: Applying,
    /// Where and in which term each open proposal of this node was put into the log.
    pub(crate) proposals: BTreeMap<(Index, Term), Token>,
    /// A change of members that was asked for here and is not settled.
    pub(crate) change: Option<Change>,
    /// What follows from the configuration in force being committed has been done.
    pub(crate) members_settled: bool,
    /// Whether this node was a member by the latest configuration that is known committed.
    pub(crate) is_member: bool,
    pub(crate) follower_reads: FollowerReads,
    pub(crate) incoming: Option<Incoming>,
    next_fetch: u64,
    out: VecDeque<Effect>,
    /// Something was decided since the last flush.
    pub(crate) dirty: bool,
    fault: Option<Fault>,
}

/// Why a node could not be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootError {
    /// The settings contradict each other.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What the store held contradicts itself.
    #[error("the stored log contradicts itself: {0}")]
    Log(&'static str),
}

impl Raft {
    /// Starts a node from what is durable. It waits for a leader first, and campaigns if none is heard.
    pub fn start(config: Config, boot: &Boot, now: Now) -> Result<Self, BootError> {
        config.check()?;
        let log = Log::from_boot(boot).map_err(BootError::Log)?;
        if boot.applied > boot.last_index {
            return Err(BootError::Log("more was applied than the log holds"));
        }
        if boot.applied < boot.base.last.index {
            return Err(BootError::Log("the log begins behind what was applied"));
        }
        if boot.hard_state.term < log.last().term {
            return Err(BootError::Log("the log holds a later term than the hard state"));
        }
        let hard = boot.hard_state;
        let commit = hard.commit.min(boot.last_index).max(boot.applied);
        let is_member = log.members_at(commit).contains(config.id);
        let mut raft = Self {
            rng: Rng::new(config.seed ^ boot.boot.rotate_left(32)),
            clock: Clamped::new(now.mono),
            writes: Writes::new(boot.boot, hard),
            hard: HardState { commit, ..hard },
            log,
            role: Role::Follower,
            leader_id: None,
            leader: None,
            votes: BTreeMap::new(),
            poll: Poll {
                boot: boot.boot,
                count: 0,
            },
            own_vote: None,
            election_at: Instant::MAX,
            leader_contact: now.mono,
            heard_leader: false,
            matched: Index::ZERO,
            acked: Index::ZERO,
            ack_due: false,
            applying: Applying::new(boot.applied),
            proposals: BTreeMap::new(),
            change: None,
            members_settled: false,
            is_member,
            follower_reads: FollowerReads::new(boot.boot),
            incoming: None,
            next_fetch: 0,
            out: VecDeque::new(),
            dirty: true,
            fault: None,
            config,
        };
        raft.reset_election_timer();
        Ok(raft)
    }

    /// This node.
    pub const fn id(&self) -> NodeId {
        self.config.id
    }

    /// The latest term seen.
    pub const fn term(&self) -> Term {
        self.hard.term
    }

    /// The part this node plays.
    pub const fn role(&self) -> Role {
        self.role
    }

    /// The leader, if one is known; this node itself if it leads.
    pub const fn leader(&self) -> Option<NodeId> {
        self.leader_id
    }

    /// Everything up to here is committed.
    pub const fn commit(&self) -> Index {
        self.hard.commit
    }

    /// When a leader was last heard; `None` if never since the start.
    pub const fn leader_contact(&self) -> Option<Instant> {
        if self.heard_leader {
            Some(self.leader_contact)
        } else {
            None
        }
    }

    /// The configuration in force.
    pub fn members(&self) -> &crate::Configuration {
        self.log.members()
    }

    /// The configuration in force at `index`, which the log must still reach back to.
    pub fn members_at(&self, index: Index) -> &crate::Configuration {
        self.log.members_at(index)
    }

    /// The id of the entry at `index`, if the log still reaches back to it.
    pub fn id_at(&self, index: Index) -> Option<LogId> {
        self.log.id_at(index)
    }

    /// How far this node has come with its log.
    pub fn extent(&self) -> Extent {
        Extent {
            base: self.log.base(),
            last: self.log.last(),
            commit: self.hard.commit,
            applied: self.applying.applied,
        }
    }

    /// A view for people, metrics and tests.
    pub fn status(&self) -> Status {
        let members = self.log.members().clone();
        let is_member = |(_, peer): &(&NodeId, &crate::progress::Progress)| peer.leaving.is_none();
        let peers = self.leader.as_ref().map_or_else(Vec::new, |leader| {
            let status = |(id, peer): (&NodeId, &crate::progress::Progress)| PeerStatus {
                id: *id,
                voter: members.is_voter(*id),
                matched: peer.matched,
                next: peer.next,
                last_heard: peer.last_heard,
                bytes_in_flight: peer.bytes_in_flight(),
                snapshot: peer.is_receiving_snapshot(),
            };
            leader.peers.iter().filter(is_member).map(status).collect()
        });
        Status {
            id: self.config.id,
            role: self.role,
            term: self.hard.term,
            vote: self.hard.vote,
            leader: self.leader_id,
            commit: self.hard.commit,
            applied: self.applying.applied,
            last: self.log.last(),
            base: self.log.base(),
            durable: self.log.durable,
            writes_in_flight: self.writes.in_flight(),
            members,
            members_id: self.log.members_id(),
            peers,
        }
    }

    pub(crate) const fn now(&self) -> Instant {
        self.clock.latest()
    }

    pub(crate) fn emit(&mut self, effect: Effect) {
        self.out.push_back(effect);
    }

    pub(crate) fn resolve(&mut self, token: Token, outcome: Outcome) {
        self.emit(Effect::Resolve { token, outcome });
    }

    /// Sends a message that depends on nothing this node has yet to write.
    pub(crate) fn send(&mut self, to: NodeId, body: Body) {
        let message = Message {
            term: self.hard.term,
            body,
        };
        self.emit(Effect::Send { to, message });
    }

    /// Sends a message once everything decided so far is durable.
    pub(crate) fn send_when_durable(&mut self, to: NodeId, body: Body) {
        let message = Message {
            term: self.hard.term,
            body,
        };
        #[cfg(feature = "sabotage")]
        if self.sabotaged(crate::Sabotage::AckBeforePersist) {
            self.emit(Effect::Send { to, message });
            return;
        }
        if let Some(message) = self.writes.gate(to, message) {
            self.emit(Effect::Send { to, message });
        }
    }

    pub(crate) fn new_fetch(&mut self) -> FetchId {
        self.next_fetch += 1;
        FetchId(self.next_fetch)
    }

    /// Stops for good. The first reason is kept.
    pub(crate) fn fail(&mut self, fault: Fault) {
        if self.fault.is_none() {
            self.fault = Some(fault);
            self.out.clear();
        }
    }

    #[cfg(feature = "sabotage")]
    pub(crate) fn sabotaged(&self, kind: crate::Sabotage) -> bool {
        self.config.sabotage == Some(kind)
    }

    /// Everybody else in the configuration.
    pub(crate) fn others(&self) -> BTreeSet<NodeId> {
        let mut others = self.log.members().members();
        others.remove(&self.config.id);
        others
    }

    pub(crate) fn reset_election_timer(&mut self) {
        let timeout = self.config.election_timeout;
        self.election_at = self.now() + self.rng.between(timeout, timeout + timeout / 2);
    }

    fn handle_fetched(&mut self, id: FetchId, data: Fetched) {
        if let Fetched::Failed(detail) = data {
            self.fail(Fault::Read(detail));
        } else if self.applying.fetch == Some(id) {
            self.applying.fetch = None;
            match data {
                Fetched::Entries(entries) => self.apply_fetched(entries),
                Fetched::Chunk { .. } | Fetched::Gone | Fetched::Failed(_) => {
                    self.fail(Fault::Read("entries were asked for, something else came".into()));
                }
            }
        } else {
            self.replicate_fetched(id, data);
        }
    }

    fn handle_persisted(&mut self, through: WriteId) -> Result<(), Reject> {
        if !self.writes.issued(through) {
            return Err(Reject::Invalid("that write was not issued since this start"));
        }
        let valid_to = self.writes.persisted(through);
        self.log.durable = self.log.durable.max(valid_to);
        while let Some((to, message)) = self.writes.release() {
            // A request for votes in a poll that is over asks for nothing any more.
            let over = matches!(message.body, Body::Vote { poll, .. } if self.role != Role::Candidate || poll != self.poll);
            if !over {
                self.emit(Effect::Send { to, message });
            }
        }
        self.own_vote_durable();
        self.snapshot_durable();
        self.advance_commit();
        Ok(())
    }

    /// Turns everything decided since the last flush into effects: one write for all of it, one append per peer.
    fn flush(&mut self) {
        self.dirty = false;
        self.settle_members();
        if let Some(batch) = self.writes.close(self.clock.latest(), self.hard) {
            self.emit(Effect::Persist(Box::new(batch)));
        }
        if self.role == Role::Leader {
            self.confirm_reads();
            self.replicate();
        } else {
            self.ask_read_index();
            self.acknowledge();
        }
        // The batch is closed: from here on nothing may be decided that has to be written.
        self.apply_committed();
        self.evict();
    }

    /// Drops the oldest entries from memory, of those that are applied and durable here.
    fn evict(&mut self) {
        let through = self.applying.applied.min(self.log.durable);
        self.log.evict(self.config.tail_bytes, through);
    }
}

impl Machine for Raft {
    type Input = Input;
    type Effect = Effect;
    type Reject = Reject;
    type Timer = Timer;
    type Fault = Fault;

    fn handle(&mut self, now: Now, input: Input) -> Result<(), Reject> {
        if let Some(fault) = &self.fault {
            return Err(Reject::Faulted(fault.clone()));
        }
        self.clock.advance(now.mono);
        self.dirty = true;
        match input {
            Input::Message { from, message } => self.handle_message(from, message),
            Input::Unreachable { peer } => {
                self.handle_unreachable(peer);
                Ok(())
            }
            Input::Persisted { through } => self.handle_persisted(through),
            Input::PersistFailed { id: _, detail } => {
                self.fail(Fault::Write(detail));
                Ok(())
            }
            Input::Fetched { id, data } => {
                self.handle_fetched(id, data);
                Ok(())
            }
            Input::Applied { through } => self.handle_applied(through),
            Input::Propose { token, data } => self.propose(token, data),
            Input::Read { token, mode } => self.read(token, mode),
            Input::Transfer { token, to } => self.transfer(token, to),
            Input::Reconfigure {
                token,
                voters,
                learners,
            } => self.reconfigure(token, voters, learners),
            Input::Campaign => self.campaign(),
            Input::Compact { through } => {
                self.compact(through);
                Ok(())
            }
            Input::Found { members } => self.found(members),
        }
    }

    fn handle_timeout(&mut self, now: Now) {
        if self.fault.is_some() {
            return;
        }
        let now = self.clock.advance(now.mono);
        while let Some(deadline) = self.poll_timeout().filter(|deadline| deadline.at <= now) {
            self.dirty = true;
            match deadline.reason {
                Timer::Election => self.election_timeout(),
                Timer::Heartbeat => self.heartbeat_due(),
                Timer::Transfer => self.transfer_timeout(),
                Timer::DiskStall => self.disk_stalled(),
                Timer::ReadIndex => self.fail_follower_reads(),
            }
        }
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        if self.fault.is_some() {
            return None;
        }
        if self.out.is_empty() && self.dirty {
            self.flush();
            if self.fault.is_some() {
                return None;
            }
        }
        self.out.pop_front()
    }

    fn poll_timeout(&self) -> Option<Deadline<Timer>> {
        if self.fault.is_some() {
            return None;
        }
        let mut earliest: Option<Deadline<Timer>> = None;
        let mut offer = |at: Instant, reason: Timer| {
            if earliest.is_none_or(|deadline| at < deadline.at) {
                earliest = Some(Deadline { at, reason });
            }
        };
        if let Some(leader) = &self.leader {
            offer(leader.heartbeat_at, Timer::Heartbeat);
            if let Some(transfer) = &leader.transfer {
                offer(transfer.deadline, Timer::Transfer);
            }
            if let Some(at) = self.disk_stall_at() {
                offer(at, Timer::DiskStall);
            }
        } else {
            if self.may_campaign() {
                offer(self.election_at, Timer::Election);
            }
            if let Some(at) = self.follower_reads.deadline() {
                offer(at, Timer::ReadIndex);
            }
        }
        earliest
    }

    fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }
}
