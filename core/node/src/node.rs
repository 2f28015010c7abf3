//! The machine: its state, the dispatch of inputs, and the translation of Raft's effects into its own.

use std::collections::{BTreeMap, VecDeque};

use lictor_catalog::State;
use lictor_machine::{Clamped, Deadline, Index, Instant, Machine, NodeId, Now, Rng, Token, UnixMillis};
use lictor_raft::{self as raft, Body, Fetch, Raft, Role};

use crate::applying::Applying;
use crate::autopilot::Autopilot;
use crate::config::Config;
use crate::founding::Society;
use crate::io::{Answer, Effect, Event, Input, Reply, Request, RequestError, Standing, Timer};
use crate::requests::Requests;
use crate::snapshots::{Receiving, Serving};
use crate::store::{LogBoot, StateMark, StoreError};
use crate::terms::Terms;

/// One agent, without its sockets and disks. See the crate's documentation.
///
/// After a fault the only effects that still come are answers to requests: nobody is left waiting.
#[derive(Debug)]
pub struct Node {
    pub(crate) config: Config,
    pub(crate) clock: Clamped,
    pub(crate) wall: UnixMillis,
    pub(crate) raft: Raft,
    pub(crate) state: State,
    pub(crate) requests: Requests,
    pub(crate) applying: Applying,
    pub(crate) serving: Serving,
    pub(crate) receiving: Receiving,
    pub(crate) society: Society,
    pub(crate) autopilot: Autopilot,
    pub(crate) terms: Terms,
    pub(crate) next_token: u64,
    out: VecDeque<Effect>,
    /// Messages leave last: nobody may hear of a commit, and show it to a reader, before this node's own readers see it or have
    /// lost their lease.
    sends: VecDeque<Effect>,
    standing: Option<Standing>,
    /// When this node was last seen to lead.
    led: Option<Instant>,
    /// Something happened since the standing was last looked at.
    dirty: bool,
    stopping: Stopping,
    fault: Option<NodeFault>,
}

/// How far a node is with leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopping {
    No,
    /// It waits for this transfer of leadership to end.
    HandingOver(Token),
    /// It waits until the state store has come this far and nothing is on its way there.
    Storing(Index),
    Done,
}

/// Why a node could not be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// Raft refuses its past or its settings.
    #[error(transparent)]
    Raft(#[from] raft::BootError),
    /// The node's settings make no sense.
    #[error("{0}")]
    Config(&'static str),
    /// The state store is ahead of the log, or has lost what the log no longer holds.
    #[error(
        "the state store and the log do not belong together: {0}; restore this server from a backup, or remove its data directory and let it join again"
    )]
    Mismatch(&'static str),
    /// The stores belong to another node. To go on would give two nodes one past, and one of them two.
    #[error(
        "this data directory belongs to node {owner}, but this agent is {this}: was a node-id file copied? \
         Give the directory back its own node id, or start with an empty directory"
    )]
    OtherNode {
        /// The node that started here first.
        owner: NodeId,
        /// The node that was to start now.
        this: NodeId,
    },
}

/// Why a node stopped for good. Start it again from what is durable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeFault {
    /// Consensus stopped.
    #[error(transparent)]
    Raft(raft::Fault),
    /// The state store failed.
    #[error("writing the state failed: {0}")]
    State(String),
    /// The log or a snapshot holds something that this version cannot read.
    #[error("{0}; a newer version of this program may have written it")]
    Unreadable(String),
}

/// Why an input was refused. The state is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    /// Consensus refused it.
    #[error(transparent)]
    Raft(#[from] raft::Reject),
    /// The message is from another cluster.
    #[error("a Raft message from another cluster")]
    ForeignCluster,
    /// The node has stopped.
    #[error("stopped: {0}")]
    Faulted(NodeFault),
}

impl Node {
    /// Starts a node from what its stores hold. The first one to start from them is their owner for ever.
    pub fn start(
        config: Config,
        boot: LogBoot,
        stored: (State, StateMark),
        now: Now,
    ) -> Result<Self, StartError> {
        let LogBoot {
            raft: mut past,
            notes,
        } = boot;
        config.check().map_err(StartError::Config)?;
        let this = config.id;
        if let Some(owner) = notes.node.filter(|owner| *owner != this) {
            return Err(StartError::OtherNode { owner, this });
        }
        let (state, mark) = stored;
        past.applied = mark.applied.index;
        if state.index() > mark.applied.index {
            return Err(StartError::Mismatch("the rows are newer than their mark"));
        }
        if past.applied > past.last_index {
            return Err(StartError::Mismatch("the state is ahead of the log"));
        }
        if past.applied < past.base.last.index {
            return Err(StartError::Mismatch("the log begins behind the state"));
        }
        let raft = Raft::start(config.raft.clone(), &past, now)?;
        if raft.id_at(mark.applied.index) != Some(mark.applied) {
            return Err(StartError::Mismatch("the state was made by another log"));
        }
        let mut rng = Rng::new((config.seed as u64) ^ (config.seed >> 64) as u64);
        let mut node = Self {
            clock: Clamped::new(now.mono),
            wall: now.wall,
            requests: Requests::default(),
            applying: Applying::new(mark.applied),
            serving: Serving::default(),
            receiving: Receiving::default(),
            society: Society::new(notes, now.mono, &mut rng),
            autopilot: Autopilot::default(),
            terms: Terms::default(),
            next_token: 0,
            out: VecDeque::new(),
            sends: VecDeque::new(),
            standing: None,
            led: None,
            dirty: true,
            stopping: Stopping::No,
            fault: None,
            raft,
            state,
            config,
        };
        node.publish(lictor_catalog::Touched::All);
        node.own_notes();
        node.introduce_peers();
        node.resume_founding();
        Ok(node)
    }

    /// This node.
    pub const fn id(&self) -> NodeId {
        self.config.id
    }

    /// The state that was last applied.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// The part that this server plays.
    pub const fn role(&self) -> Role {
        self.raft.role()
    }

    /// Whether it leads and its state holds all that was agreed on before it did.
    pub(crate) fn leads_up_to_date(&self) -> bool {
        self.raft.role() == Role::Leader && self.applying.applied.term == self.raft.term()
    }

    /// Raft's view, for metrics, the operator's API and tests.
    pub fn raft_status(&self) -> raft::Status {
        self.raft.status()
    }

    /// How far Raft has come with the log.
    pub fn raft_extent(&self) -> raft::Extent {
        self.raft.extent()
    }

    /// What is kept beside the log.
    pub const fn notes(&self) -> &crate::store::Notes {
        &self.society.notes
    }

    pub(crate) const fn now(&self) -> Instant {
        self.clock.latest()
    }

    pub(crate) const fn driver_time(&self) -> Now {
        Now {
            mono: self.clock.latest(),
            wall: self.wall,
        }
    }

    /// Queues an effect. After a fault nothing leaves but answers.
    pub(crate) fn emit(&mut self, effect: Effect) {
        if self.fault.is_none() || effect.answers_somebody() {
            self.out.push_back(effect);
        }
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.emit(Effect::Event(event));
    }

    pub(crate) fn answer(&mut self, token: Token, answer: Answer) {
        self.emit(Effect::Answer { token, answer });
    }

    pub(crate) fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    /// Stops for good: everything that waits is told so.
    pub(crate) fn fail(&mut self, fault: NodeFault) {
        if self.fault.is_some() {
            return;
        }
        // What was answered before is true; whoever asked waits for it.
        self.out.retain(Effect::answers_somebody);
        let reason = RequestError::Stopped(fault.to_string());
        self.fail_all_requests(&reason);
        self.fail_promises(&reason);
        self.fault = Some(fault);
    }

    pub(crate) fn raft_input(&mut self, input: raft::Input) -> Result<(), raft::Reject> {
        self.raft.handle(self.driver_time(), input)
    }

    /// Gives Raft something that it cannot refuse unless it has stopped.
    pub(crate) fn tell_raft(&mut self, input: raft::Input) {
        let result = self.raft_input(input);
        debug_assert!(result.is_ok() || self.raft.fault().is_some(), "{result:?}");
    }

    fn handle_request(&mut self, token: Token, request: Request) {
        match request {
            Request::Write(action) => self.write(token, action),
            Request::Read(mode) => self.read(token, mode),
            Request::TransferLeadership(to) => self.transfer(token, to),
            Request::Operator(request) => self.operator(token, request),
            Request::RenewSession(id) => self.renew(token, id),
        }
    }

    /// Leaves in good order.
    fn stop(&mut self) {
        if self.stopping != Stopping::No {
            return;
        }
        let token = self.token();
        let waits = self.raft.role() == Role::Leader
            && self.raft_input(raft::Input::Transfer { token, to: None }).is_ok();
        if waits {
            self.stopping = Stopping::HandingOver(token);
        } else {
            self.handed_over();
        }
    }

    /// Leadership is elsewhere, as far as that could be had: what is applied goes to the store, for a quick start next time.
    fn handed_over(&mut self) {
        self.stopping = Stopping::Storing(self.applied());
        self.store_rows();
        self.stop_if_stored();
    }

    pub(crate) fn stop_if_stored(&mut self) {
        if let Stopping::Storing(through) = self.stopping
            && self.is_stored(through)
        {
            self.stopping = Stopping::Done;
            self.emit(Effect::Stopped);
        }
    }

    /// Whether rows go to the store without waiting for more.
    pub(crate) fn stores_at_once(&self) -> bool {
        matches!(self.stopping, Stopping::Storing(_))
    }

    /// Carries out, or passes on, one effect of Raft.
    fn translate(&mut self, effect: raft::Effect) {
        match effect {
            raft::Effect::Persist(batch) => {
                if let Some(chunk) = &batch.stage {
                    self.receive_chunk(chunk);
                }
                self.emit(Effect::Persist(batch));
            }
            raft::Effect::Send { to, message } => {
                if let Some(cluster) = self.cluster() {
                    self.sends.push_back(Effect::Send { to, cluster, message });
                }
            }
            raft::Effect::Fetch { id, what } => match what {
                Fetch::Entries { .. } => self.emit(Effect::Fetch { id, what }),
                Fetch::Chunk { snapshot, chunk } => self.serve_chunk(id, snapshot, chunk),
            },
            raft::Effect::Apply(committed) => self.apply(committed),
            raft::Effect::Restore(meta) => self.restore(meta),
            raft::Effect::Resolve { token, outcome } => {
                if self.stopping == Stopping::HandingOver(token) {
                    self.handed_over();
                } else if !self.changed_by_autopilot(token) {
                    self.resolved(token, outcome);
                }
            }
            raft::Effect::Event(event) => {
                match &event {
                    raft::Event::Leader { leader, .. } => {
                        self.leader_changed(leader.is_some());
                        self.watch_tombstones();
                        self.autopilot_leads(*leader == Some(self.config.id));
                        if *leader != Some(self.config.id) {
                            self.drop_terms();
                        }
                    }
                    raft::Event::Members(_) | raft::Event::Removed => {
                        self.part_with_the_removed();
                        self.see_whether_removed();
                    }
                    raft::Event::SendingSnapshot { .. }
                    | raft::Event::DiskStalled { .. }
                    | raft::Event::QuorumLost
                    | _ => {}
                }
                self.event(Event::Raft(event));
            }
        }
    }

    /// Reports the node's standing if it changed.
    fn look_around(&mut self) {
        self.dirty = false;
        let role = self.raft.role();
        if role == Role::Leader {
            self.led = Some(self.now());
            self.look_at_quorum();
        }
        // One who led a moment ago was in the best of contacts.
        let contact = self.raft.leader_contact().max(self.led);
        // A leader with a slow disk commits what it cannot apply yet, and others may have shown it to their readers.
        let up_to_date = self.raft.commit() <= self.applying.applied.index;
        let lease_until = self.raft.lease_until().filter(|_| up_to_date);
        let same = self.standing.as_ref().is_some_and(|old| {
            old.role == role
                && old.term == self.raft.term()
                && old.leader == self.raft.leader()
                && old.lease_until == lease_until
                // A leader's contact with itself moves all the time and tells nobody anything.
                && (role == Role::Leader || old.leader_contact == contact)
                && old.members == *self.raft.members()
        });
        if same {
            return;
        }
        let standing = Standing {
            role,
            term: self.raft.term(),
            leader: self.raft.leader(),
            lease_until,
            leader_contact: contact,
            members: self.raft.members().clone(),
        };
        self.standing = Some(standing.clone());
        self.emit(Effect::Standing(standing));
    }
}

impl Machine for Node {
    type Input = Input;
    type Effect = Effect;
    type Reject = Reject;
    type Timer = Timer;
    type Fault = NodeFault;

    fn handle(&mut self, now: Now, input: Input) -> Result<(), Reject> {
        self.stop_with_raft();
        if let Some(fault) = &self.fault {
            // Whoever asks is always answered, also by a node that has stopped.
            let reason = RequestError::Stopped(fault.to_string());
            match input {
                Input::Request { token, .. } => self.answer(token, Answer::Failed(reason)),
                Input::Call { id, .. } => self.emit(Effect::Reply {
                    id,
                    reply: Reply::Failed(reason),
                }),
                Input::Raft { .. }
                | Input::Unreachable { .. }
                | Input::Persisted { .. }
                | Input::PersistFailed { .. }
                | Input::Fetched { .. }
                | Input::NotesSaved
                | Input::StateStored { .. }
                | Input::StateFailed { .. }
                | Input::CallDone { .. }
                | Input::Contacts(_)
                | Input::Known(_)
                | Input::Forgotten(_)
                | Input::Duty(_)
                | Input::Leave
                | Input::Stop => return Err(Reject::Faulted(fault.clone())),
            }
            return Ok(());
        }
        self.clock.advance(now.mono);
        self.wall = now.wall;
        self.dirty = true;
        match input {
            Input::Raft {
                from,
                cluster,
                message,
            } => {
                if !self.belongs_to(cluster) {
                    return Err(Reject::ForeignCluster);
                }
                if self.is_replacing() && matches!(message.body, Body::Snapshot { .. }) {
                    // Its first chunk would take the place of the staged ones that are still being read. The leader sends it again.
                    return Ok(());
                }
                self.raft_input(raft::Input::Message { from, message })?;
            }
            Input::Unreachable { peer } => self.raft_input(raft::Input::Unreachable { peer })?,
            Input::Persisted { through } => self.raft_input(raft::Input::Persisted { through })?,
            Input::PersistFailed { id, detail } => {
                self.raft_input(raft::Input::PersistFailed { id, detail })?;
            }
            Input::Fetched { id, data } => self.raft_input(raft::Input::Fetched { id, data })?,
            Input::NotesSaved => self.notes_saved(),
            Input::StateStored { applied } => self.state_stored(applied),
            Input::StateFailed { detail } => self.fail(NodeFault::State(detail)),
            Input::Request { token, request } => self.handle_request(token, request),
            Input::Call { id, from, call } => self.handle_call(id, from, call),
            Input::CallDone { id, result } => self.call_done(id, result),
            Input::Contacts(contacts) => self.set_contacts(contacts),
            Input::Known(facts) => self.known(facts),
            Input::Forgotten(server) => self.forgotten(server),
            Input::Duty(action) => self.do_duty(action),
            Input::Leave => self.leave_cluster(),
            Input::Stop => self.stop(),
        }
        self.stop_with_raft();
        Ok(())
    }

    fn handle_timeout(&mut self, now: Now) {
        if self.fault.is_some() {
            return;
        }
        let at = self.clock.advance(now.mono);
        self.wall = now.wall;
        self.raft.handle_timeout(now);
        self.stop_with_raft();
        while let Some(deadline) = self.own_deadline().filter(|deadline| deadline.at <= at) {
            self.dirty = true;
            match deadline.reason {
                Timer::Raft(_) => {}
                Timer::Deadline => self.requests_expired(),
                Timer::Retry => self.retry_parked(),
                Timer::Store => self.store_rows(),
                Timer::Hello => self.greet(),
                Timer::Tombstones => self.look_for_tombstones(),
                Timer::Autopilot => self.look_after_servers(),
                Timer::Terms => self.look_for_ends(),
            }
        }
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.stop_with_raft();
        while self.out.is_empty() && self.fault.is_none() {
            if let Some(effect) = self.raft.poll_effect() {
                self.dirty = true;
                self.translate(effect);
                self.stop_with_raft();
            } else if self.dirty {
                self.look_around();
            } else {
                return self.sends.pop_front();
            }
        }
        self.out.pop_front()
    }

    fn poll_timeout(&self) -> Option<Deadline<Timer>> {
        if self.fault.is_some() {
            return None;
        }
        let raft = self.raft.poll_timeout().map(|deadline| Deadline {
            at: deadline.at,
            reason: Timer::Raft(deadline.reason),
        });
        match (raft, self.own_deadline()) {
            (Some(raft), Some(own)) => Some(if raft.at <= own.at { raft } else { own }),
            (raft, own) => raft.or(own),
        }
    }

    fn fault(&self) -> Option<&NodeFault> {
        self.fault.as_ref()
    }
}

impl Node {
    /// Where Raft has stopped for good, so has the node.
    fn stop_with_raft(&mut self) {
        if let Some(fault) = self.raft.fault() {
            self.fail(NodeFault::Raft(fault.clone()));
        }
    }

    fn own_deadline(&self) -> Option<Deadline<Timer>> {
        let deadlines = [
            (self.requests.next_deadline(), Timer::Deadline),
            (self.requests.retry_at(), Timer::Retry),
            (self.applying.store_at(), Timer::Store),
            (Some(self.society.hello_at()), Timer::Hello),
            (self.applying.tombstones_at(), Timer::Tombstones),
            (self.autopilot.at(), Timer::Autopilot),
            (self.terms.at(), Timer::Terms),
        ];
        let offered = deadlines
            .into_iter()
            .filter_map(|(at, reason)| at.map(|at| Deadline { at, reason }));
        offered.min_by_key(|deadline| deadline.at)
    }

    /// How far the state is applied.
    pub const fn applied(&self) -> Index {
        self.applying.applied.index
    }
}

pub(crate) type Tokens<T> = BTreeMap<Token, T>;

impl From<StoreError> for NodeFault {
    fn from(error: StoreError) -> Self {
        Self::State(error.to_string())
    }
}
