//! The way of a question from what runs on an agent to the catalog: a server answers for itself, a client agent asks one that gossip
//! says is well, and stays with it until that fails. A server passes a write on to the leader, and has it agree that a read is fresh,
//! as with any request of its API.

use core::time::Duration;

use lictor_catalog::Outcome;
use lictor_local::{self as local, AskId, Question, Reply};
use lictor_machine::{NodeId, Token};
use lictor_node::Request;
use lictor_node::agent::{Input, Pool, ServerFacts};
use lictor_raft::ReadMode;

use super::world::{Caller, Cargo, Event, World, violation};
use crate::oracles::{Check, ensure};

/// How soon an agent knows that there is nobody whom it could ask.
const NOBODY_AFTER: Duration = Duration::from_millis(1);

/// One question in so many goes to another server than the one before, for no reason.
const MOVES_ON: u64 = 20;

/// Whom a server owes the answer to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// What runs on the server itself.
    Own(AskId),
    /// A client agent, which has called.
    Call(u64),
    /// Somebody outside, who writes to the catalog.
    Outside,
}

impl World<'_> {
    pub(super) fn ask_servers(&mut self, at: usize, id: AskId, question: Question) -> Check {
        self.tally.questions += 1;
        if let Question::Write(write) = &question {
            self.did(at, "writes to the catalog, bytes", write.size() as u64);
        }
        if self.is_of_own_node(at, &question) {
            let open = self.seats[at].post.asking.replace(id);
            ensure("an agent never overtakes itself", open.is_none(), || {
                format!("m{at} asks {question:?} while {open:?} is open")
            })?;
        }
        let life = self.truth[at].life;
        if self.seats[at].server {
            let asker = Asker::Own(id);
            let event = Event::Serve {
                at,
                life,
                asker,
                question,
            };
            self.queue.push(self.now, event);
            return Ok(());
        }
        let place = self
            .server_for(at)
            .and_then(|server| self.route(at, Pool::Lan, server));
        let timeout = if place.is_some() {
            self.pace.patience()
        } else {
            NOBODY_AFTER
        };
        self.send_call(at, Caller::Local(id), place, Cargo::Question(question), timeout);
        Ok(())
    }

    fn is_of_own_node(&self, at: usize, question: &Question) -> bool {
        match question {
            Question::Write(_) => true,
            Question::Node(name) => **name == *self.truth[at].name,
        }
    }

    /// The server that a client agent asks.
    pub(super) fn server_for(&mut self, at: usize) -> Option<NodeId> {
        let lan = self.seats[at].agent.as_ref()?.pool(Pool::Lan)?;
        let servers = lan
            .members()
            .filter(|member| member.state.is_well() && ServerFacts::from_member(member).is_some());
        let servers: Vec<NodeId> = servers.map(|member| member.id).collect();
        let stays = !self.rng.chance(1, MOVES_ON);
        let post = &mut self.seats[at].post;
        let current = post.server.filter(|server| stays && servers.contains(server));
        post.server = current.or_else(|| self.rng.pick(&servers).copied());
        post.server
    }

    /// What runs on an agent gets its answer, or hears that there is none.
    pub(super) fn answer_local(&mut self, at: usize, id: AskId, result: Result<Reply, String>) -> Check {
        let post = &mut self.seats[at].post;
        if result.is_err() {
            post.server = None;
        }
        if post.asking == Some(id) {
            post.asking = None;
        }
        self.give(at, None, Input::Local(local::Input::Answered { id, result }))
    }

    /// A server that is up is asked.
    pub(super) fn serve(&mut self, at: usize, asker: Asker, question: Question) -> Check {
        let request = match &question {
            Question::Write(action) => Request::Write(action.clone()),
            Question::Node(name) if !self.seats[at].frozen && self.leads_by_lease(at) => {
                let found = self.look_up(at, name);
                return self.reply_to(at, asker, Ok(found));
            }
            Question::Node(_) => Request::Read(ReadMode::Lease),
        };
        self.next_token += 1;
        let token = Token(self.next_token);
        self.seats[at].asks.insert(token, (asker, question));
        self.give(
            at,
            None,
            Input::Server(lictor_node::Input::Request { token, request }),
        )
    }

    fn look_up(&self, at: usize, name: &str) -> Reply {
        let state = &self.seats[at].published;
        let info = state.node(name).map(|node| lictor_catalog::NodeInfo {
            node: node.clone(),
            services: state.services_on(name).to_vec(),
            checks: state.checks_on(name).to_vec(),
        });
        Reply::Node(info.map(Box::new))
    }

    /// A server has done what a question takes.
    pub(super) fn served(
        &mut self,
        at: usize,
        asker: Asker,
        question: &Question,
        answer: lictor_node::Answer,
    ) -> Check {
        let result = match (answer, question) {
            (lictor_node::Answer::Readable { index }, Question::Node(name)) => {
                let published = self.seats[at].published.index();
                ensure("what may be read is published", published >= index, || {
                    format!("m{at}: {index} may be read, {published} is published")
                })?;
                Ok(self.look_up(at, name))
            }
            (lictor_node::Answer::Written { outcome, .. }, Question::Write(_)) => Ok(Reply::Written(outcome)),
            (lictor_node::Answer::Failed(error), _) => Err(error.to_string()),
            (answer, question) => {
                return Err(violation(
                    "requests are answered",
                    format!("m{at} answers {question:?} with {answer:?}"),
                ));
            }
        };
        self.reply_to(at, asker, result)
    }

    fn reply_to(&mut self, at: usize, asker: Asker, result: Result<Reply, String>) -> Check {
        match asker {
            Asker::Call(key) => {
                self.send_reply(key, at, Ok(Cargo::Reply(Box::new(result))));
                Ok(())
            }
            Asker::Own(id) => {
                let life = self.truth[at].life;
                self.queue
                    .push(self.now, Event::Answered { at, life, id, result });
                Ok(())
            }
            Asker::Outside => self.wrote_outside(result),
        }
    }
}

/// Whether a write was done; or why it is not known to be.
pub(super) fn fate_of(result: &Result<Reply, String>) -> Result<(), WriteFailure> {
    match result {
        Ok(Reply::Written(Outcome::Done(_))) => Ok(()),
        Ok(Reply::Written(Outcome::Refused(reason))) => Err(WriteFailure::Refused(reason.clone())),
        Ok(Reply::Written(Outcome::Txn(_) | Outcome::Session(_) | Outcome::Prepared(_)) | Reply::Node(_)) => {
            Err(WriteFailure::Refused(
                "the answer is to another question".to_owned(),
            ))
        }
        Err(_) => Err(WriteFailure::Unknown),
    }
}

/// Why a write was not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WriteFailure {
    /// It makes no sense as things are.
    Refused(String),
    /// Nobody knows what became of it.
    Unknown,
}
