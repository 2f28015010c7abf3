//! The way of a request: a write to the leader, wherever it is, and a read to the moment when it may be served.
//!
//! A request that finds no leader is parked, and tried again when one appears. One that may have been carried out is not tried again,
//! unless that does no harm, as with an idempotency key: it fails with [`RequestError::LeadershipLost`].

use std::collections::{BTreeMap, VecDeque};

use lictor_catalog::{Action, Command, Outcome, SessionId};
use lictor_machine::{Index, Instant, NodeId, Token};
use lictor_raft::{self as raft, ReadMode};

use crate::io::{
    Answer, Call, CallFailure, CallId, Effect, InboundId, OperatorAnswer, OperatorRequest, Reply, Request,
    RequestError, Target,
};
use crate::node::{Node, Tokens};

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Asker {
    /// This agent's API.
    Local(Token),
    /// Another agent.
    Inbound(InboundId),
}

/// What an open request is waiting for.
#[derive(Debug)]
enum Stage {
    /// A leader.
    Parked,
    /// Raft, by the token that it was given.
    Raft(Token),
    /// The reply of the leader.
    Called(CallId),
}

#[derive(Debug)]
struct Open {
    request: Request,
    stage: Stage,
    deadline: Instant,
    /// It was tried before, and nobody knows what came of that.
    tried: bool,
}

impl Open {
    /// Whether it changes something, and may do so whatever becomes of whoever asked.
    const fn may_come_to_pass(&self) -> bool {
        let under_way = matches!(self.stage, Stage::Raft(_) | Stage::Called(_));
        (under_way || self.tried)
            && matches!(
                self.request,
                Request::Write(_) | Request::Operator(OperatorRequest::Remove(_))
            )
    }
}

#[derive(Debug, Default)]
pub(crate) struct Requests {
    open: BTreeMap<Asker, Open>,
    by_raft: Tokens<Asker>,
    by_call: BTreeMap<CallId, Asker>,
    /// When each request has waited long enough, in order; those answered meanwhile are skipped.
    deadlines: VecDeque<(Instant, Asker)>,
    /// The same for requests that have been given less time since.
    hurried: VecDeque<(Instant, Asker)>,
    parked: VecDeque<Asker>,
    retry_at: Option<Instant>,
    next_call: u64,
}

impl Requests {
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let fronts = [self.deadlines.front(), self.hurried.front()];
        fronts.into_iter().flatten().map(|(at, _)| *at).min()
    }

    /// The next request that is due.
    fn pop_due(&mut self, now: Instant) -> Option<Asker> {
        let queues = [&mut self.hurried, &mut self.deadlines];
        let due = queues
            .into_iter()
            .find(|queue| queue.front().is_some_and(|(at, _)| *at <= now))?;
        due.pop_front().map(|(_, asker)| asker)
    }

    pub(crate) const fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    pub(crate) fn new_call(&mut self) -> CallId {
        self.next_call += 1;
        CallId(self.next_call)
    }
}

impl Node {
    pub(crate) fn write(&mut self, token: Token, action: Action) {
        self.accept(Asker::Local(token), Request::Write(action));
    }

    pub(crate) fn read(&mut self, token: Token, mode: ReadMode) {
        self.accept(Asker::Local(token), Request::Read(mode));
    }

    pub(crate) fn renew(&mut self, token: Token, session: SessionId) {
        self.accept(Asker::Local(token), Request::RenewSession(session));
    }

    pub(crate) fn transfer(&mut self, token: Token, to: Option<NodeId>) {
        self.accept(Asker::Local(token), Request::TransferLeadership(to));
    }

    pub(crate) fn operator(&mut self, token: Token, request: OperatorRequest) {
        self.accept(Asker::Local(token), Request::Operator(request));
    }

    /// Another agent wants this of the leader.
    pub(crate) fn handle_call_request(&mut self, id: InboundId, request: Request) {
        self.accept(Asker::Inbound(id), request);
    }

    fn accept(&mut self, asker: Asker, request: Request) {
        if self.requests.open.len() >= self.config.requests_max {
            self.finish(asker, Answer::Failed(RequestError::Busy));
            return;
        }
        let deadline = self.now() + self.config.hold;
        self.requests.deadlines.push_back((deadline, asker));
        self.requests.open.insert(
            asker,
            Open {
                request,
                stage: Stage::Parked,
                deadline,
                tried: false,
            },
        );
        self.dispatch(asker);
    }

    /// Moves a parked request on.
    fn dispatch(&mut self, asker: Asker) {
        let leader = self.raft.leader();
        let me = self.config.id;
        let Some(open) = self
            .requests
            .open
            .get(&asker)
            .filter(|open| matches!(open.stage, Stage::Parked))
        else {
            return;
        };
        match (&open.request, leader) {
            (Request::Write(action), Some(leader)) if leader == me => {
                let command = Command {
                    stamp: self.wall,
                    action: action.clone(),
                };
                self.propose(asker, &command);
            }
            (Request::Operator(OperatorRequest::Servers { stale: true }), _) => {
                self.operate_now(asker, &OperatorRequest::Servers { stale: true });
            }
            (Request::Operator(request), Some(leader)) if leader == me => {
                let request = request.clone();
                self.operate_now(asker, &request);
            }
            (Request::RenewSession(session), Some(leader)) if leader == me => {
                let session = *session;
                self.renew_here(asker, session);
            }
            (Request::Write(_) | Request::Operator(_) | Request::RenewSession(_), Some(leader)) => {
                match asker {
                    Asker::Local(_) => {
                        let call = match &open.request {
                            Request::RenewSession(session) => Call::RenewSession(*session),
                            Request::Operator(request) => Call::Operator(request.clone()),
                            Request::Write(action) => Call::Write(action.clone()),
                            Request::Read(_) | Request::TransferLeadership(_) => return,
                        };
                        self.forward(asker, leader, call);
                    }
                    // A request travels at most once; its sender asks on.
                    Asker::Inbound(id) => self.not_leader(asker, id, Some(leader)),
                }
            }
            (Request::Write(_) | Request::Operator(_) | Request::RenewSession(_), None) => match asker {
                Asker::Local(_) => self.park(asker),
                Asker::Inbound(id) => self.not_leader(asker, id, None),
            },
            (Request::Read(mode), Some(_)) => {
                let mode = *mode;
                let token = self.token();
                match self.raft_input(raft::Input::Read { token, mode }) {
                    Ok(()) => self.wait_for_raft(asker, token),
                    Err(raft::Reject::Busy) => self.finish(asker, Answer::Failed(RequestError::Busy)),
                    Err(_) => self.park(asker),
                }
            }
            (Request::Read(_), None) => self.park(asker),
            (Request::TransferLeadership(to), _) => {
                let to = *to;
                let token = self.token();
                match self.raft_input(raft::Input::Transfer { token, to }) {
                    Ok(()) => self.wait_for_raft(asker, token),
                    Err(error) => {
                        let failed = RequestError::NotTransferred(error.to_string());
                        self.finish(asker, Answer::Failed(failed));
                    }
                }
            }
        }
    }

    /// Renews a session at this node, which leads: at once under its lease, otherwise after a quorum has confirmed it.
    fn renew_here(&mut self, asker: Asker, session: SessionId) {
        let now = self.now();
        let leased = self.raft.lease_until().is_some_and(|until| now < until);
        #[cfg(feature = "sabotage")]
        let leased = leased || self.sabotaged(crate::Sabotage::RenewWithoutQuorum);
        if leased && self.leads_up_to_date() {
            let renewed = self.renew_session(session);
            self.finish(asker, Answer::Renewed(renewed));
            return;
        }
        let token = self.token();
        let mode = ReadMode::Lease;
        match self.raft_input(raft::Input::Read { token, mode }) {
            Ok(()) => self.wait_for_raft(asker, token),
            Err(raft::Reject::Busy) => self.finish(asker, Answer::Failed(RequestError::Busy)),
            Err(_) => self.park(asker),
        }
    }

    /// The state may be read as of now: that is what a renewal waited for, if this node still leads.
    fn renew_confirmed(&mut self, asker: Asker, session: SessionId) {
        if self.leads_up_to_date() {
            let renewed = self.renew_session(session);
            self.finish(asker, Answer::Renewed(renewed));
        } else {
            self.park(asker);
        }
    }

    /// Does at this node, which leads or need not, what an operator asked for.
    fn operate_now(&mut self, asker: Asker, request: &OperatorRequest) {
        if let Some(answer) = self.operate(request) {
            self.finish(asker, Answer::Operator(answer));
            return;
        }
        let OperatorRequest::Remove(server) = request else {
            return;
        };
        let token = self.token();
        let change = match self.without(*server, token) {
            Ok(change) => change,
            Err(reason) => {
                self.finish(asker, Answer::Failed(RequestError::Refused(reason)));
                return;
            }
        };
        match self.raft_input(change) {
            Ok(()) => self.wait_for_raft(asker, token),
            // Another change is under way, or this term has committed nothing yet.
            Err(_) => self.park(asker),
        }
    }

    fn propose(&mut self, asker: Asker, command: &Command) {
        let data = command.encode();
        if data.len() > self.config.command_bytes_max {
            let (size, limit) = (data.len() as u64, self.config.command_bytes_max as u64);
            self.finish(asker, Answer::Failed(RequestError::TooLarge { size, limit }));
            return;
        }
        let token = self.token();
        match self.raft_input(raft::Input::Propose { token, data }) {
            Ok(()) => self.wait_for_raft(asker, token),
            Err(raft::Reject::Busy) => self.finish(asker, Answer::Failed(RequestError::Busy)),
            Err(_) => match asker {
                Asker::Local(_) => self.park(asker),
                Asker::Inbound(id) => self.not_leader(asker, id, None),
            },
        }
    }

    fn forward(&mut self, asker: Asker, leader: NodeId, call: Call) {
        let id = self.requests.new_call();
        let now = self.now();
        let Some(open) = self.requests.open.get_mut(&asker) else {
            return;
        };
        open.stage = Stage::Called(id);
        let timeout = open.deadline.since(now);
        self.requests.by_call.insert(id, asker);
        self.emit(Effect::Call {
            id,
            to: Target::Node(leader),
            call,
            timeout,
        });
    }

    fn wait_for_raft(&mut self, asker: Asker, token: Token) {
        if let Some(open) = self.requests.open.get_mut(&asker) {
            open.stage = Stage::Raft(token);
        }
        self.requests.by_raft.insert(token, asker);
    }

    fn park(&mut self, asker: Asker) {
        if let Some(open) = self.requests.open.get_mut(&asker) {
            open.stage = Stage::Parked;
            self.requests.parked.push_back(asker);
            let retry_at = self.now() + self.config.retry;
            self.requests.retry_at.get_or_insert(retry_at);
        }
    }

    /// Tries again what may be carried out twice. `tried`: whether it may have been, so that it can no longer be said that it was not.
    fn try_again(&mut self, asker: Asker, tried: bool) {
        if let Some(open) = self.requests.open.get_mut(&asker) {
            open.tried |= tried;
        }
        self.park(asker);
    }

    fn not_leader(&mut self, asker: Asker, id: InboundId, leader: Option<NodeId>) {
        self.close(asker);
        self.emit(Effect::Reply {
            id,
            reply: Reply::NotLeader(leader),
        });
    }

    fn close(&mut self, asker: Asker) {
        let requests = &mut self.requests;
        requests.open.remove(&asker);
        // A name may be used again, so the deadline counts too.
        while requests.deadlines.front().is_some_and(|(at, asker)| {
            let open = requests.open.get(asker);
            open.is_none_or(|open| open.deadline != *at)
        }) {
            requests.deadlines.pop_front();
        }
    }

    /// Answers a request; nothing is left of it.
    fn finish(&mut self, asker: Asker, answer: Answer) {
        self.close(asker);
        match asker {
            Asker::Local(token) => self.answer(token, answer),
            Asker::Inbound(id) => {
                let reply = match answer {
                    Answer::Written { index, outcome } => Reply::Written { index, outcome },
                    Answer::Operator(answer) => Reply::Operator(answer),
                    Answer::Renewed(session) => Reply::Renewed(session),
                    Answer::Failed(error) => Reply::Failed(error),
                    // Other requests do not come from other agents.
                    Answer::Readable { .. } | Answer::Transferred => return,
                };
                self.emit(Effect::Reply { id, reply });
            }
        }
    }

    /// A leader appeared or went: try what waits for one.
    pub(crate) fn leader_changed(&mut self, known: bool) {
        if known {
            self.hurry_calls();
            self.retry_parked();
        }
    }

    /// Calls to a former leader: if it lives, it answers presently, and if not, nobody need wait for it to the end.
    fn hurry_calls(&mut self) {
        let by = self.now() + self.config.grace;
        let requests = &mut self.requests;
        for asker in requests.by_call.values() {
            if let Some(open) = requests.open.get_mut(asker).filter(|open| open.deadline > by) {
                open.deadline = by;
                requests.hurried.push_back((by, *asker));
            }
        }
    }

    pub(crate) fn retry_parked(&mut self) {
        self.requests.retry_at = None;
        for asker in std::mem::take(&mut self.requests.parked) {
            self.dispatch(asker);
        }
    }

    pub(crate) fn requests_expired(&mut self) {
        let now = self.now();
        while let Some(asker) = self.requests.pop_due(now) {
            let Some(open) = self.requests.open.get(&asker).filter(|open| open.deadline <= now) else {
                continue;
            };
            let error = match &open.request {
                _ if open.may_come_to_pass() => RequestError::LeadershipLost,
                Request::Write(_) | Request::Read(_) | Request::Operator(_) | Request::RenewSession(_) => {
                    RequestError::NoLeader
                }
                Request::TransferLeadership(_) => RequestError::NotTransferred("it took too long".into()),
            };
            match open.stage {
                Stage::Raft(token) => {
                    self.requests.by_raft.remove(&token);
                }
                Stage::Called(id) => {
                    self.requests.by_call.remove(&id);
                }
                Stage::Parked => {}
            }
            self.finish(asker, Answer::Failed(error));
        }
    }

    /// The command that was proposed with this token has been applied.
    pub(crate) fn applied_own(&mut self, token: Token, index: Index, outcome: Outcome) {
        if let Some(asker) = self.requests.by_raft.remove(&token) {
            self.finish(asker, Answer::Written { index, outcome });
        }
    }

    /// Raft has answered, but not with an applied entry.
    pub(crate) fn resolved(&mut self, token: Token, outcome: raft::Outcome) {
        let Some(asker) = self.requests.by_raft.remove(&token) else {
            return;
        };
        match outcome {
            raft::Outcome::Read { index } => match self.renewal_of(asker) {
                Some(session) => self.renew_confirmed(asker, session),
                None => self.finish(asker, Answer::Readable { index }),
            },
            raft::Outcome::ReadFailed => self.park(asker),
            // It was never applied, so it may be tried again.
            raft::Outcome::Lost => match asker {
                Asker::Local(_) => self.park(asker),
                Asker::Inbound(id) => self.not_leader(asker, id, None),
            },
            raft::Outcome::Unknown => match asker {
                Asker::Local(_) if self.is_repeatable(asker) => self.try_again(asker, true),
                Asker::Local(_) | Asker::Inbound(_) => {
                    self.finish(asker, Answer::Failed(RequestError::LeadershipLost));
                }
            },
            raft::Outcome::Reconfigured { .. } => {
                self.finish(asker, Answer::Operator(OperatorAnswer::Removed));
            }
            raft::Outcome::Transferred => self.finish(asker, Answer::Transferred),
            raft::Outcome::TransferFailed => {
                let failed =
                    RequestError::NotTransferred("the other server did not take over in time".into());
                self.finish(asker, Answer::Failed(failed));
            }
        }
    }

    /// Whether a request does no more when it is carried out twice than once: a renewal, and what has an idempotency key.
    fn is_repeatable(&self, asker: Asker) -> bool {
        let Some(open) = self.requests.open.get(&asker) else {
            return false;
        };
        match &open.request {
            Request::RenewSession(_) => true,
            #[cfg(feature = "sabotage")]
            Request::Write(_) if self.sabotaged(crate::Sabotage::RepeatEverything) => true,
            Request::Write(action) => matches!(action, Action::Once(_)),
            Request::Read(_) | Request::TransferLeadership(_) | Request::Operator(_) => false,
        }
    }

    /// The session that a request wants to renew.
    fn renewal_of(&self, asker: Asker) -> Option<SessionId> {
        let open = self.requests.open.get(&asker)?;
        match open.request {
            Request::RenewSession(session) => Some(session),
            Request::Write(_) | Request::Read(_) | Request::TransferLeadership(_) | Request::Operator(_) => {
                None
            }
        }
    }

    /// The leader has answered a forwarded request, or nobody has.
    pub(crate) fn forwarded(&mut self, id: CallId, result: Result<Reply, CallFailure>) {
        let Some(asker) = self.requests.by_call.remove(&id) else {
            return;
        };
        match result {
            Ok(Reply::Written { index, outcome }) => self.finish(asker, Answer::Written { index, outcome }),
            Ok(Reply::Operator(answer)) => self.finish(asker, Answer::Operator(answer)),
            Ok(Reply::Renewed(session)) => self.finish(asker, Answer::Renewed(session)),
            Ok(Reply::Failed(RequestError::LeadershipLost)) if self.is_repeatable(asker) => {
                self.try_again(asker, true);
            }
            Ok(Reply::Failed(error)) => self.finish(asker, Answer::Failed(error)),
            Ok(Reply::NotLeader(_))
            | Err(CallFailure {
                maybe_sent: false, ..
            }) => self.park(asker),
            Err(failure) if self.is_repeatable(asker) => self.try_again(asker, failure.maybe_sent),
            Ok(Reply::Hello(_) | Reply::Found(_) | Reply::Adopted(_))
            | Err(CallFailure { maybe_sent: true, .. }) => {
                self.finish(asker, Answer::Failed(RequestError::LeadershipLost));
            }
        }
    }

    /// This node stops: whoever waits is told so. Not of what may be carried out by others all the same: "stopped" means that nothing
    /// was done, and that it may be asked of another server.
    pub(crate) fn fail_all_requests(&mut self, error: &RequestError) {
        let open: Vec<(Asker, bool)> = self
            .requests
            .open
            .iter()
            .map(|(asker, open)| (*asker, open.may_come_to_pass()))
            .collect();
        for (asker, may_come_to_pass) in open {
            let error = if may_come_to_pass {
                RequestError::LeadershipLost
            } else {
                error.clone()
            };
            self.finish(asker, Answer::Failed(error));
        }
        self.requests = Requests {
            next_call: self.requests.next_call,
            ..Requests::default()
        };
    }
}
