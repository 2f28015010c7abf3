//! Asks others: whom, for how long, and what may be tried again.
//!
//! A server that is silent is told from one that takes its time by asking it whether it is there. That makes two things
//! possible: an answer may take as long as it needs, and servers that are gone cost a request no more than [`SILENCE`].
//!
//! What is changed must not be asked for twice, so a write ends with the server that may have got it. It does so about when another
//! server begins to lead ([`Patience::takeover`]), and its error says that nobody knows what became of it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use lictor_http::{Failure, UNKNOWN_OUTCOME, offload};
use lictor_machine::NodeId;
use lictor_runtime::Runtime;
use lictor_transport_quic::{CallError, CallFailure, Plane, Target, Transport};
use serde::de::DeserializeOwned;

use super::ticker::Ticker;
use super::wire::{self, Question};
use crate::metrics::CallCounts;
use crate::network::{Complaints, Purpose};
use crate::routes::{Routes, Server};

/// How long a request goes on while nobody shows a sign of life.
const SILENCE: Duration = Duration::from_secs(4);

/// How many servers that are silent one after the other fit into that time.
const SILENT_SERVERS: u32 = 3;

/// How often a server that lets a request wait is asked whether it is still there.
const CHECK: Duration = Duration::from_secs(5);

/// A write is sent at once to a server that answered something in this time; another one is asked first whether it is
/// there, since a write cannot be taken back.
const LATELY: Duration = Duration::from_secs(3);

/// How long a server is thought to lead before that is looked at again.
const LEADERSHIP: Duration = Duration::from_secs(5);

/// For the way there and back, beside what the servers take.
const MARGIN: Duration = Duration::from_secs(3);

/// Passes requests to servers.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    transport: Transport,
    routes: Arc<Routes>,
    plane: Plane,
    patience: Patience,
    ticker: Ticker,
    runtime: Runtime,
    leader: Arc<Mutex<Hint>>,
    complaints: Arc<Complaints>,
    counts: CallCounts,
}

/// What is known of how long servers may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// How long a server may wait for a leader before it answers.
    pub(crate) hold: Duration,
    /// How long a write waits for a server of this data center that shows no sign of life, if there are others. One that led, and is
    /// silent for so long to all, leads no more; one that did not can do nothing for the write either.
    pub(crate) takeover: Duration,
}

impl Patience {
    /// By how long servers wait before they elect another leader.
    pub(crate) fn new(hold: Duration, election_timeout: Duration) -> Self {
        Self {
            hold,
            // Each of the others waits for one to two of these, by chance, and the first of them is enough.
            takeover: election_timeout * 7 / 4,
        }
    }
}

/// Who led when this was asked last. To be wrong costs a step more, and nothing else.
#[derive(Debug, Default)]
struct Hint {
    leader: Option<NodeId>,
    asked: Option<Instant>,
}

/// What a request is like.
#[derive(Clone, Copy)]
struct Manner {
    repeatable: bool,
    for_leader: bool,
    wait: Duration,
    /// Who alone can answer.
    server: Option<NodeId>,
}

impl Manner {
    fn of(question: &Question) -> Self {
        Self {
            repeatable: question.is_repeatable(),
            for_leader: question.is_for_leader(),
            wait: question.wait(),
            server: question.server(),
        }
    }
}

/// A request on its way.
enum Request<'a> {
    /// Of this agent, for that data center.
    Own(&'a str, Question),
    /// Of another agent, encoded.
    Relayed(Bytes),
}

/// Why a server did not answer.
enum Unanswered {
    /// It has not got the request.
    NotSent(String),
    /// It may have acted on it.
    MaybeSent(String),
    /// It has not taken it, since too much of this agent's is open there.
    Busy,
    /// It has answered, and more than agents pass on.
    TooLarge,
}

impl Caller {
    /// On the RPC plane requests for any data center go to servers of this one, which know the way; on the WAN plane,
    /// between servers, they go to the other data center itself.
    pub(crate) fn new(
        transport: Transport,
        routes: Arc<Routes>,
        plane: Plane,
        patience: Patience,
        runtime: Runtime,
        counts: CallCounts,
    ) -> Self {
        Self {
            counts,
            transport,
            routes,
            plane,
            patience,
            ticker: Ticker::new(runtime.clone()),
            runtime,
            leader: Arc::default(),
            complaints: Arc::default(),
        }
    }

    /// Asks a server for the answer of `datacenter`, or of this one. `T` is the type that the question is answered with.
    ///
    /// A question that may be repeated is asked of one server after the other. Another is so only as long as nobody can
    /// have got it: after a failure that begins with "rpc error making call" it may have been acted on.
    pub(crate) async fn ask<T: DeserializeOwned + Send + 'static>(
        &self,
        datacenter: Option<&str>,
        question: Question,
    ) -> Result<T, Failure> {
        let datacenter = match datacenter {
            Some(named) if !named.is_empty() => named.to_lowercase(),
            Some(_) | None => self.routes.datacenter().to_owned(),
        };
        let manner = Manner::of(&question);
        let request = Request::Own(&datacenter, question);
        self.counts.made.increment();
        let answer = self.pass(&datacenter, request, manner).await;
        let answer = answer.inspect_err(|_| self.counts.failed.increment())?;
        let decoded = offload(answer.len(), move || wire::decode_answer(&answer)).await;
        decoded.map_err(|error| making_call(&format!("the answer cannot be read: {error}")))?
    }

    /// Passes on what another agent asks of `datacenter`, and gives back the answer as it came.
    pub(crate) async fn relay(
        &self,
        datacenter: &str,
        question: &Question,
        ask: Bytes,
    ) -> Result<Bytes, Failure> {
        let request = Request::Relayed(Purpose::Agent.wrap(ask.to_vec()));
        self.pass(datacenter, request, Manner::of(question)).await
    }

    async fn pass(
        &self,
        datacenter: &str,
        mut request: Request<'_>,
        manner: Manner,
    ) -> Result<Bytes, Failure> {
        let Manner {
            repeatable,
            for_leader,
            wait,
            server: only,
        } = manner;
        let group = match self.plane {
            Plane::Wan => datacenter,
            Plane::Rpc | Plane::Raft | Plane::Gossip => self.routes.datacenter(),
        };
        let mut servers = self.routes.servers(group);
        if datacenter == group
            && let Some(only) = only
        {
            servers.retain(|server| server.id == only);
        }
        if for_leader
            && self.plane == Plane::Rpc
            && datacenter == group
            && let Some(leader) = self.leader()
            && let Some(at) = servers.iter().position(|server| server.id == leader)
        {
            servers[..=at].rotate_right(1);
        }
        let share = SILENCE / (servers.len() as u32).clamp(1, SILENT_SERVERS);
        // Beyond, the leader is behind the server that is asked, and how far away that is nobody knows. And where there is one server, nobody
        // comes to lead in its place.
        let at_most = if self.plane == Plane::Wan || servers.len() == 1 {
            SILENCE
        } else {
            self.patience.takeover
        };
        let budget = wait + self.patience.hold + MARGIN;
        let started = Instant::now();
        let mut silence = Duration::ZERO;
        let mut spent = Duration::ZERO;
        let mut busy = None;
        for server in servers {
            let left = budget.saturating_sub(spent);
            let patience = SILENCE.saturating_sub(silence).min(share);
            if left.is_zero() || patience.is_zero() {
                break;
            }
            let begun = Instant::now();
            let answer = if repeatable {
                let bytes = request.encode(wait.saturating_sub(spent));
                self.attempt(&server, bytes, left, patience).await
            } else if server.answered_within(LATELY) || self.is_there(&server, patience).await {
                let bytes = request.encode(wait.saturating_sub(spent));
                self.attempt(&server, bytes, left, at_most).await
            } else {
                Err(Unanswered::NotSent("it is silent".to_owned()))
            };
            let detail = match answer {
                Ok(answer) => match wire::failure_in(&answer) {
                    // It has done nothing.
                    Some(stopping @ Failure::Stopping) => stopping.to_string(),
                    Some(_) | None => return Ok(answer),
                },
                Err(Unanswered::TooLarge) => {
                    return Err(Failure::Unreachable(format!(
                        "the answer of {} is larger than what agents pass on: ask for less, or ask a server of data center {datacenter} itself",
                        server.name
                    )));
                }
                Err(Unanswered::MaybeSent(detail)) if !repeatable => {
                    self.give_up(group, server.id);
                    return Err(making_call(&format!(
                        "{}: {detail}; {UNKNOWN_OUTCOME}",
                        server.name
                    )));
                }
                Err(Unanswered::Busy) => {
                    // It is there, and will answer others.
                    busy = Some(Failure::Busy {
                        limit: format!("requests that are open at {}", server.name).into(),
                        retry_after: Duration::from_secs(1),
                    });
                    spent = started.elapsed();
                    continue;
                }
                Err(Unanswered::NotSent(detail) | Unanswered::MaybeSent(detail)) => detail,
            };
            self.give_up(group, server.id);
            self.complaints.about(Target::Node(server.id), &detail);
            // A server that was lost after a long wait had been there.
            silence += begun.elapsed().min(patience);
            spent = started.elapsed();
        }
        Err(busy.unwrap_or_else(|| self.nobody()))
    }

    /// What is said when no server has answered.
    fn nobody(&self) -> Failure {
        match self.plane {
            Plane::Wan => Failure::NoPathToDatacenter,
            Plane::Rpc | Plane::Raft | Plane::Gossip => match self.routes.refusal() {
                // The begin is what clients match on.
                Some(why) => Failure::Unreachable(format!("{}: {why}", Failure::NoServers)),
                None => Failure::NoServers,
            },
        }
    }

    /// Who is thought to lead this data center. Looks again, beside, when that was long ago.
    fn leader(&self) -> Option<NodeId> {
        let mut hint = self.hint();
        if hint.asked.is_none_or(|asked| asked.elapsed() >= LEADERSHIP) {
            hint.asked = Some(Instant::now());
            let caller = self.clone();
            let asking = async move {
                let answer: Result<Option<SocketAddr>, Failure> = caller.ask(None, Question::Leader).await;
                let leader = answer.ok().flatten();
                caller.hint().leader = leader.and_then(|at| caller.routes.server_at(at));
            };
            self.runtime.spawn(asking).detach();
        }
        hint.leader
    }

    fn hint(&self) -> MutexGuard<'_, Hint> {
        // Sound after any step.
        self.leader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks others before this one from now on: it did not answer.
    fn give_up(&self, group: &str, server: NodeId) {
        self.routes.demote(group, server);
        let mut hint = self.hint();
        hint.leader = hint.leader.filter(|leader| *leader != server);
    }

    /// Asks one server. Gives up when `limit` is over, or as soon as the server was silent for `patience`.
    async fn attempt(
        &self,
        server: &Server,
        request: Bytes,
        limit: Duration,
        patience: Duration,
    ) -> Result<Bytes, Unanswered> {
        let given_up = async {
            let begun = Instant::now();
            let mut pause = patience / 3;
            let limit_of_ping = patience.saturating_sub(pause);
            self.ticker.wait(pause).await;
            loop {
                if !server.answered_within(pause) && !self.is_there(server, limit_of_ping).await {
                    return CallFailure::GivenUp("it is silent".to_owned());
                }
                let left = limit.saturating_sub(begun.elapsed());
                if left.is_zero() {
                    return CallFailure::GivenUp(format!("no answer within {limit:?}"));
                }
                pause = CHECK.min(left);
                async_io::Timer::after(pause).await;
            }
        };
        match self
            .transport
            .call_until(server.id, self.plane, request, given_up)
            .await
        {
            Ok((_, answer)) => {
                server.note_answer();
                Ok(answer)
            }
            Err(CallError::MaybeSent(CallFailure::ReplyTooLarge)) => Err(Unanswered::TooLarge),
            Err(CallError::NotSent(CallFailure::Busy)) => Err(Unanswered::Busy),
            Err(CallError::NotSent(failure)) => Err(Unanswered::NotSent(failure.to_string())),
            Err(CallError::MaybeSent(failure)) => Err(Unanswered::MaybeSent(failure.to_string())),
        }
    }

    /// Asks a server whether it is there. Those who want to know it at the same time ask once, but those who have more patience than who
    /// asked ask again.
    async fn is_there(&self, server: &Server, patience: Duration) -> bool {
        let asked = Instant::now();
        let _alone = server.pinging.lock().await;
        let waited = asked.elapsed();
        if server.answered_within(waited) {
            return true;
        }
        // It was asked all the while.
        let left = patience.saturating_sub(waited);
        if left.is_zero() || server.silent_within(waited, patience) {
            return false;
        }
        let ping = wire::encode_ask(Purpose::Agent.begin(), "", &Question::Ping);
        let answer = self
            .transport
            .call(server.id, self.plane, ping.into(), left)
            .await;
        if answer.is_ok() {
            server.note_answer();
        } else {
            server.note_silence(left);
        }
        answer.is_ok()
    }
}

impl Request<'_> {
    /// The bytes of the request, which may still wait for `wait`.
    fn encode(&mut self, wait: Duration) -> Bytes {
        match self {
            Self::Own(datacenter, question) => {
                question.shorten(wait);
                let mut bytes = Purpose::Agent.begin();
                bytes.reserve(question.bytes());
                wire::encode_ask(bytes, datacenter, question).into()
            }
            // Whoever asked counts the time.
            Self::Relayed(bytes) => bytes.clone(),
        }
    }
}

/// The words that clients know for a call that got lost.
fn making_call(detail: &str) -> Failure {
    Failure::Unreachable(format!("rpc error making call: {detail}"))
}
