//! How servers find each other, and how a new cluster is founded exactly once.
//!
//! Every server greets those that gossip tells it of, or, without gossip, the addresses that it was told of and whom it hears of
//! there. Who knows of a cluster founds none, whether or not anybody of it answers. A server that is in no cluster counts those
//! that are in none either and expect as many as it does. When there are enough, the one with the lowest id of all proposes a
//! *founding*: a fresh cluster id and the first voters. It makes the founding durable, then asks every voter to agree, which
//! they make durable too, each to at most one. Only when *all* have agreed does the founder begin its log with the voters and
//! campaign; the others learn the rest from Raft. So two foundings never share a voter, and any two sets of
//! candidates that could both found a cluster would.
//!
//! A founder that meets a founding of a lower id gives up its own, durably, and says so in its greetings; whoever had agreed to it is free
//! again. It cannot have begun by then, since not all had agreed. Attempts are numbered, so that an old greeting frees nobody.
//!
//! A founder that is never heard from again may have begun with others before, so its silence frees nobody to found another cluster. If
//! it lasts for minutes, it frees who agreed for a cluster that is there and asks for them: that adds no cluster, but may take a voter from the
//! founder's, if that has begun after all. And people may know that a founder is gone, and have it leave by force. Neither frees anybody
//! while a server is known that is in the founder's cluster: that one may need the vote of whoever agreed. So a promise is not
//! forgotten at once; it is kept until another takes its place, and whether that may be is seen then.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use core::time::Duration;

use lictor_machine::{Instant, NodeId, Rng};
use lictor_raft::{self as raft, Configuration, LogId};

use crate::greeting::Acquaintance;
use crate::io::{
    Call, CallFailure, CallId, Effect, Event, FoundRefusal, Hello, InboundId, Reply, Request, RequestError,
    Target,
};
use crate::node::Node;
use crate::store::{Notes, PeerAddress};
use crate::waiting::Waiting;
use crate::{ClusterId, Founding};

/// The most servers that may found a cluster together.
const VOTERS_MAX: usize = 64;

/// How long to wait for the answer to a greeting.
pub(crate) const HELLO_TIMEOUT: Duration = Duration::from_secs(2);

/// A promise gives way to a cluster that is there when its founder was not heard from for so long. It is more than a restart takes, or a
/// machine that is short of memory.
const FORSAKEN_AFTER: Duration = Duration::from_mins(3);

/// An outbound call of this module.
#[derive(Debug)]
pub(crate) enum Errand {
    Greet(Target),
    Ask { voter: NodeId, cluster: ClusterId },
    Adopt(NodeId),
}

/// What is to happen once the notes that were last changed are durable.
#[derive(Debug)]
pub(crate) enum Then {
    /// Tell another founder that this node agrees.
    Agree(InboundId),
    /// Tell the leader of a cluster that this node belongs to it now.
    Belong(InboundId),
    /// Ask the voters of this node's own founding.
    AskVoters,
    /// All have agreed: begin the log.
    Begin,
    /// Let others know that this node's attempts up to this one have been given up.
    GiveUp(u64),
    /// Nothing.
    Rest,
}

/// A node among other servers.
#[derive(Debug)]
pub(crate) struct Society {
    pub(crate) notes: Notes,
    /// Notes handed to the store and not yet reported, and what each waits for.
    saving: VecDeque<Then>,
    pub(crate) contacts: BTreeSet<SocketAddr>,
    /// Addresses that turned out to be this node's own.
    pub(crate) own: BTreeSet<SocketAddr>,
    pub(crate) known: BTreeMap<NodeId, Acquaintance>,
    /// When the founder was last heard from to whose founding this node has agreed.
    founder_heard: Instant,
    /// Since when that founder is known to have left.
    founder_left: Option<Instant>,
    pub(crate) errands: BTreeMap<CallId, Errand>,
    /// Voters that agreed to this node's own founding.
    agreed: BTreeSet<NodeId>,
    /// This node's attempts up to this one are given up, durably.
    pub(crate) given_up: u64,
    pub(crate) hello_at: Instant,
    /// What was said of why this node is in no cluster.
    pub(crate) waiting: Waiting,
    pub(crate) rng: Rng,
}

impl Society {
    pub(crate) fn new(notes: Notes, now: Instant, rng: &mut Rng) -> Self {
        Self {
            given_up: notes.given_up,
            notes,
            saving: VecDeque::new(),
            contacts: BTreeSet::new(),
            own: BTreeSet::new(),
            known: BTreeMap::new(),
            founder_heard: now,
            founder_left: None,
            errands: BTreeMap::new(),
            agreed: BTreeSet::new(),
            hello_at: now,
            waiting: Waiting::since(now),
            rng: rng.fork(),
        }
    }

    pub(crate) const fn hello_at(&self) -> Instant {
        self.hello_at
    }

    /// Greets everybody at the next opportunity.
    pub(crate) fn greet_at(&mut self, now: Instant) {
        self.hello_at = self.hello_at.min(now);
    }

    /// Counts on this server no more.
    pub(crate) fn forget_acquaintance(&mut self, id: NodeId) {
        self.known.remove(&id);
    }

    pub(crate) fn peer(&self, id: NodeId) -> Option<&PeerAddress> {
        self.notes.peers.iter().find(|peer| peer.id == id)
    }
}

impl Node {
    /// The cluster that this node is in, or whose founding it has agreed to.
    pub(crate) fn cluster(&self) -> Option<ClusterId> {
        let notes = &self.society.notes;
        notes
            .cluster
            .or_else(|| notes.founding.as_ref().map(|founding| founding.cluster))
    }

    /// Whether a Raft message of this cluster is for this node. The first one ends the founding.
    pub(crate) fn belongs_to(&mut self, cluster: ClusterId) -> bool {
        if self.society.notes.cluster == Some(cluster) {
            return true;
        }
        let agreed = self
            .society
            .notes
            .founding
            .as_ref()
            .is_some_and(|founding| founding.cluster == cluster);
        if self.society.notes.cluster.is_none() && agreed {
            self.join_cluster(cluster);
            return true;
        }
        false
    }

    fn join_cluster(&mut self, cluster: ClusterId) {
        self.society.notes.cluster = Some(cluster);
        self.save_notes(Then::Rest);
        if let Some(founding) = self.society.notes.founding.clone() {
            self.event(Event::Founded(founding));
        }
    }

    pub(crate) fn save_notes(&mut self, then: Then) {
        self.society.saving.push_back(then);
        self.emit(Effect::SaveNotes(self.society.notes.clone()));
    }

    pub(crate) fn notes_saved(&mut self) {
        match self.society.saving.pop_front() {
            Some(Then::Agree(id)) => self.emit(Effect::Reply {
                id,
                reply: Reply::Found(Ok(())),
            }),
            Some(Then::Belong(id)) => self.emit(Effect::Reply {
                id,
                reply: Reply::Adopted(Ok(())),
            }),
            Some(Then::AskVoters) => self.ask_voters(),
            Some(Then::Begin) => self.begin_log(),
            Some(Then::GiveUp(attempt)) => self.society.given_up = attempt,
            Some(Then::Rest) | None => {}
        }
    }

    /// This node stops: whoever waits for its agreement is told so.
    pub(crate) fn fail_promises(&mut self, error: &RequestError) {
        for then in std::mem::take(&mut self.society.saving) {
            if let Then::Agree(id) | Then::Belong(id) = then {
                let reply = Reply::Failed(error.clone());
                self.emit(Effect::Reply { id, reply });
            }
        }
    }

    /// At the first start: has the stores say whose they are.
    pub(crate) fn own_notes(&mut self) {
        if self.society.notes.node.is_none() {
            self.society.notes.node = Some(self.config.id);
            self.save_notes(Then::Rest);
        }
    }

    /// At start: goes on with a founding that a crash interrupted.
    pub(crate) fn resume_founding(&mut self) {
        if self.raft_status().last != LogId::ZERO {
            return;
        }
        let notes = &self.society.notes;
        let mine = notes
            .founding
            .as_ref()
            .is_some_and(|founding| founding.founder == self.config.id);
        if mine && notes.cluster.is_some() {
            self.begin_log();
        } else if mine {
            self.society.agreed.clear();
            self.ask_voters();
        }
    }

    pub(crate) fn call(&mut self, to: Target, call: Call, errand: Errand) {
        let id = self.requests.new_call();
        self.society.errands.insert(id, errand);
        self.emit(Effect::Call {
            id,
            to,
            call,
            timeout: HELLO_TIMEOUT,
        });
    }

    /// Takes note of a greeting: the founder of what this node agreed to is there, and may say that it has given up.
    pub(crate) fn heed_founder(&mut self, hello: &Hello) {
        let Some(founding) = self.promise().filter(|founding| founding.founder == hello.me.id) else {
            return;
        };
        let given_up = hello.given_up >= founding.attempt;
        self.hear_of_founder();
        if given_up {
            self.release_promise();
        }
    }

    fn hear_of_founder(&mut self) {
        self.society.founder_heard = self.now();
        self.society.founder_left = None;
    }

    /// Gossip says that a server has left, by itself or because people said so; or that it is there after all.
    pub(crate) fn note_founder(&mut self, id: NodeId, has_left: bool) {
        if self.promise().is_some_and(|founding| founding.founder == id) {
            let since = self.society.founder_left.unwrap_or(self.now());
            self.society.founder_left = has_left.then_some(since);
        }
    }

    /// The founding of another server that this node has agreed to, as long as nothing has come of it.
    pub(crate) fn promise(&self) -> Option<&Founding> {
        let notes = &self.society.notes;
        let founding = notes.founding.as_ref()?;
        (notes.cluster.is_none() && founding.founder != self.config.id).then_some(founding)
    }

    /// Whether nothing has come of this node's promise, and nothing can: the founder has left, and nobody is in its cluster. Then the
    /// promise keeps this node from nothing any more.
    fn is_promise_void(&self) -> bool {
        // Gossip tells of one server after the other. Those who are in the cluster may be told of next.
        let left = self
            .society
            .founder_left
            .is_some_and(|since| self.now().since(since) > self.silence());
        left && self.promise_may_be_broken()
    }

    /// Whether nothing has come of this node's promise, and for very long nothing was heard from the founder, or it has left. It may have begun
    /// with others all the same, so while it is only silent the promise still keeps this node from any other founding; but not
    /// from a cluster that there is.
    pub(crate) fn is_forsaken(&self) -> bool {
        let silent = self.now().since(self.society.founder_heard) > FORSAKEN_AFTER;
        silent && self.promise_may_be_broken() || self.is_promise_void()
    }

    /// Whether there is a promise that is told already, or never will be, and nobody is known to be in the cluster that it is about.
    fn promise_may_be_broken(&self) -> bool {
        let told = |then: &Then| !matches!(then, Then::Agree(_));
        self.promise()
            .is_some_and(|founding| !self.knows_of_cluster(founding.cluster))
            && self.society.saving.iter().all(told)
    }

    /// Whether a server has said, or is said by gossip, to be in this cluster, and has not left since.
    fn knows_of_cluster(&self, cluster: ClusterId) -> bool {
        let mut known = self.society.known.values();
        known.any(|other| other.cluster == Some(cluster)) || self.autopilot.tells_of(cluster)
    }

    fn release_promise(&mut self) {
        self.society.notes.founding = None;
        self.save_notes(Then::Rest);
    }

    /// Proposes a founding if enough servers are there and it falls to this node.
    pub(crate) fn try_founding(&mut self) {
        let notes = &self.society.notes;
        let promised = notes.founding.is_some() && !self.is_promise_void();
        if notes.cluster.is_some() || promised {
            self.complain_of_founder();
            return;
        }
        if self.lively().any(|(_, other)| other.cluster.is_some()) {
            // The others form a cluster already. Its leader asks this server to be in it.
            return;
        }
        let expect = self.config.expect;
        if expect == 0 {
            return;
        }
        let candidates = self.candidates();
        let enough =
            usize::try_from(expect).is_ok_and(|expect| candidates.len() >= expect && expect <= VOTERS_MAX);
        if !enough || candidates.first() != Some(&self.config.id) {
            return;
        }
        // A greeting of theirs may be on its way still.
        if self.sees_a_cluster() {
            return;
        }
        let cluster = ClusterId(
            (u128::from(self.society.rng.next_u64()) << 64)
                | (self.config.seed ^ u128::from(self.society.rng.next_u64())),
        );
        let voters = candidates.into_iter().take(expect as usize).collect();
        let attempt = self.society.notes.given_up + 1;
        self.society.notes.founding = Some(Founding {
            cluster,
            founder: self.config.id,
            attempt,
            voters,
        });
        self.society.founder_left = None;
        self.society.agreed.clear();
        self.save_notes(Then::AskVoters);
    }

    /// People may know of a founder that is gone for good. This node does not.
    fn complain_of_founder(&mut self) {
        if self.now().since(self.society.founder_heard) <= self.silence() {
            return;
        }
        let Some(Founding { founder, cluster, .. }) = self.promise().cloned() else {
            return;
        };
        let name = self.peer_address(founder).map(|peer| peer.name.clone());
        let name = name.unwrap_or_default();
        let trouble = if self.knows_of_cluster(cluster) {
            format!(
                "this server has agreed to found a cluster with server {name:?} ({founder}), which is silent; others are in that cluster and may \
                 need this server: see that they run and reach it; or, if that cluster is lost for good, have its servers leave by force"
            )
        } else {
            format!(
                "this server has agreed to found a cluster with server {name:?} ({founder}), which is silent: bring it back; or, if it is lost \
                 for good, have it leave by force or, where nobody knows it any more, empty the data directory of this server"
            )
        };
        self.complain(founder, trouble);
    }

    /// This node and whoever is there and expects as many servers.
    pub(crate) fn candidates(&self) -> BTreeSet<NodeId> {
        let alike = |other: &Acquaintance| other.expect == self.config.expect;
        let others = self.lively().filter(|(_, other)| alike(other)).map(|(id, _)| id);
        others.chain([self.config.id]).collect()
    }

    /// A voter that fell silent before it agreed holds the founding up for ever, if there are enough others to do without it.
    pub(crate) fn give_up_on_the_dead(&mut self) {
        let Some(founding) = self.proposal() else { return };
        let candidates = self.candidates();
        let silent = founding
            .voters
            .iter()
            .any(|voter| !candidates.contains(voter) && !self.society.agreed.contains(voter));
        if silent && candidates.len() >= founding.voters.len() {
            self.give_up();
        }
    }

    /// Who has not agreed yet to this node's own founding, as long as nothing has come of that.
    pub(crate) fn reluctant(&self) -> Option<Vec<NodeId>> {
        let agreed = |voter: &NodeId| *voter == self.config.id || self.society.agreed.contains(voter);
        let voters = self.proposal()?.voters.iter().copied();
        Some(voters.filter(|voter| !agreed(voter)).collect())
    }

    /// This node's own founding, while it is neither begun nor given up, and durable.
    fn proposal(&self) -> Option<&Founding> {
        let notes = &self.society.notes;
        let unsaved = self
            .society
            .saving
            .iter()
            .any(|then| matches!(then, Then::AskVoters));
        let founding = notes
            .founding
            .as_ref()
            .filter(|founding| founding.founder == self.config.id)?;
        (notes.cluster.is_none() && !unsaved).then_some(founding)
    }

    pub(crate) fn ask_voters(&mut self) {
        let Some(founding) = self.proposal().cloned() else {
            return;
        };
        let me = self.config.id;
        for voter in founding.voters.iter().copied().filter(|voter| *voter != me) {
            let asked = self
                .society
                .errands
                .values()
                .any(|errand| matches!(errand, Errand::Ask { voter: to, .. } if *to == voter));
            if !asked && !self.society.agreed.contains(&voter) {
                let errand = Errand::Ask {
                    voter,
                    cluster: founding.cluster,
                };
                self.call(Target::Node(voter), Call::Found(founding.clone()), errand);
            }
        }
        self.begin_if_agreed();
    }

    fn begin_if_agreed(&mut self) {
        let Some(founding) = self.proposal() else { return };
        let all = founding
            .voters
            .iter()
            .all(|voter| *voter == self.config.id || self.society.agreed.contains(voter));
        if all {
            let cluster = founding.cluster;
            self.society.notes.cluster = Some(cluster);
            self.save_notes(Then::Begin);
        }
    }

    fn begin_log(&mut self) {
        let Some(founding) = self.society.notes.founding.clone() else {
            return;
        };
        let members = Configuration::of(founding.voters.iter().copied());
        match self.raft_input(raft::Input::Found { members }) {
            Ok(()) => self.event(Event::Founded(founding)),
            Err(error) => self.event(Event::Trouble(format!("the cluster cannot be founded: {error}"))),
        }
    }

    pub(crate) fn handle_call(&mut self, id: InboundId, from: NodeId, call: Call) {
        match call {
            Call::Hello(hello) => {
                // The transport vouches for the sender; what it says of others is only hearsay.
                if hello.me.id == from && from != self.config.id {
                    self.hear(&hello);
                }
                let reply = Reply::Hello(self.hello());
                self.emit(Effect::Reply { id, reply });
            }
            Call::Found(founding) => self.handle_found(id, from, founding),
            Call::Write(action) => self.handle_call_request(id, Request::Write(action)),
            Call::Operator(request) => self.handle_call_request(id, Request::Operator(request)),
            Call::RenewSession(session) => self.handle_call_request(id, Request::RenewSession(session)),
            Call::Adopt(cluster) => self.handle_adopt(id, cluster),
        }
    }

    fn handle_found(&mut self, id: InboundId, from: NodeId, founding: Founding) {
        let refuse = |refusal| Effect::Reply {
            id,
            reply: Reply::Found(Err(refusal)),
        };
        let notes = &self.society.notes;
        let mut voters = founding.voters.clone();
        voters.dedup();
        let proper = founding.founder == from
            && voters.len() == self.config.expect as usize
            && voters.is_sorted()
            && voters == founding.voters
            && voters.contains(&self.config.id)
            && voters.contains(&from);
        if let Some(cluster) = notes.cluster.filter(|cluster| *cluster != founding.cluster) {
            self.emit(refuse(FoundRefusal::Member(cluster)));
        } else if !proper {
            self.emit(refuse(FoundRefusal::Expects(self.config.expect)));
        } else if notes.founding.as_ref() == Some(&founding) {
            // Asked again. The answer waits for the notes, should they still be on their way.
            self.save_notes(Then::Agree(id));
        } else if let Some(other) = notes.founding.clone().filter(|_| !self.is_promise_void()) {
            self.emit(refuse(FoundRefusal::Promised(other.clone())));
            if other.founder == self.config.id && founding.founder < self.config.id {
                self.give_up();
            }
        } else {
            self.hear_of_founder();
            self.society.notes.founding = Some(founding);
            self.save_notes(Then::Agree(id));
        }
    }

    /// Gives up this node's own founding, which has not begun.
    pub(crate) fn give_up(&mut self) {
        if let Some(attempt) = self.proposal().map(|founding| founding.attempt) {
            self.society.notes.founding = None;
            self.society.notes.given_up = attempt;
            self.society.agreed.clear();
            self.save_notes(Then::GiveUp(attempt));
        }
    }

    pub(crate) fn call_done(&mut self, id: CallId, result: Result<Reply, CallFailure>) {
        let Some(errand) = self.society.errands.remove(&id) else {
            self.forwarded(id, result);
            return;
        };
        match (errand, result) {
            // The one who answers is not the one who was called; it will say so itself.
            (Errand::Greet(Target::Node(id)), Ok(Reply::Hello(hello))) if hello.me.id != id => {}
            (Errand::Greet(target), Ok(Reply::Hello(hello))) => {
                if hello.me.id == self.config.id {
                    if let Target::Address(address) = target {
                        self.society.own.insert(address);
                    }
                } else {
                    self.hear(&hello);
                }
            }
            (Errand::Ask { voter, cluster }, Ok(Reply::Found(answer))) => {
                if self.proposal().is_none_or(|founding| founding.cluster != cluster) {
                    return;
                }
                match answer {
                    Ok(()) => {
                        self.society.agreed.insert(voter);
                        self.begin_if_agreed();
                    }
                    Err(FoundRefusal::Promised(other)) if other.founder < self.config.id => self.give_up(),
                    // The other founder will give way, or somebody must look at the configuration.
                    Err(FoundRefusal::Promised(_)) => {}
                    Err(FoundRefusal::Member(_)) => self.give_up(),
                    Err(FoundRefusal::Expects(expect)) => {
                        self.give_up();
                        let trouble = format!(
                            "server {voter} expects {expect} servers, this one {}: give all the same -bootstrap-expect",
                            self.config.expect
                        );
                        self.event(Event::Trouble(trouble));
                    }
                }
            }
            (Errand::Adopt(server), result) => self.adoption_done(server, result),
            // Nobody there, or nonsense: the next greeting tries again.
            (Errand::Greet(_) | Errand::Ask { .. }, _) => {}
        }
    }
}
