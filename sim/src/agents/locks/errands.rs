//! The way of a request of a process: to the agent on a machine, which answers it if it is a server, and asks one otherwise. Answers get
//! lost, come late, or say that nobody knows; what the process makes of that is its own affair.

use core::time::Duration;
use std::sync::Arc;

use lictor_catalog::{Action, Found, Key, KvEntry, Outcome, Query, SessionId};
use lictor_machine::{Index, Token};
use lictor_node::agent::{Input, Pool};
use lictor_node::{Request, RequestError};
use lictor_raft::ReadMode;

use crate::agents::world::{Caller, Cargo, Event, World, violation};
use crate::oracles::{Check, ensure};

/// From a process to the agent on its machine, or back.
const HOP: Duration = Duration::from_micros(50);

/// How often it is looked whether a frozen client agent goes on.
const LOOK: Duration = Duration::from_millis(50);

/// Names a request of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::agents) struct ErrandId(pub(in crate::agents) u64);

/// What a process wants.
#[derive(Clone, Debug)]
pub(in crate::agents) enum Errand {
    /// Change something.
    Write(Action),
    /// Give a session its time anew.
    Renew(SessionId),
    /// See what a key holds.
    Read(Key, ReadMode),
}

/// What it is told.
#[derive(Clone, Debug)]
pub(in crate::agents) enum Told {
    /// The change is in the log.
    Written(Index, Outcome),
    /// Whether there was such a session.
    Renewed(bool),
    /// What the key holds.
    Entry(Option<Arc<KvEntry>>),
}

/// Why it is told nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::agents) enum Failure {
    /// Nothing was done, and nothing will be.
    NotDone,
    /// It may have been done, or may be yet.
    Unknown,
}

/// What comes of an errand.
pub(in crate::agents) type Answer = Result<Told, Failure>;

/// To whom a server owes an answer.
#[derive(Clone, Copy, Debug)]
pub(in crate::agents) enum Bearer {
    /// A process that has asked it directly.
    Process(ErrandId),
    /// A client agent, which has called.
    Call(u64),
}

/// An agent's life: what was asked of another one is lost.
#[derive(Clone, Copy, Debug)]
pub(in crate::agents) struct Via {
    pub(in crate::agents) at: usize,
    pub(in crate::agents) life: u32,
}

impl World<'_> {
    /// A process asks the agent on a machine.
    pub(super) fn send_errand(&mut self, at: usize, id: ErrandId, errand: Errand) {
        let life = self.truth[at].life;
        let via = Via { at, life };
        self.queue.push(self.now + HOP, Event::Errand { via, id, errand });
    }

    /// A request comes to an agent.
    pub(in crate::agents) fn take_errand(&mut self, via: Via, id: ErrandId, errand: Errand) -> Check {
        let Via { at, life } = via;
        if !self.lives(at, life) {
            self.answer_errand(None, id, Err(Failure::NotDone));
            return Ok(());
        }
        if self.seats[at].server {
            return self.do_errand(at, Bearer::Process(id), errand);
        }
        if self.seats[at].frozen {
            self.queue
                .push(self.now + LOOK, Event::Errand { via, id, errand });
            return Ok(());
        }
        let server = self.server_for(at);
        let Some(place) = server.and_then(|server| self.route(at, Pool::Lan, server)) else {
            self.answer_errand(Some(via), id, Err(Failure::NotDone));
            return Ok(());
        };
        let patience = self.pace.patience();
        self.send_call(
            at,
            Caller::Errand(id),
            Some(place),
            Cargo::Errand(errand),
            patience,
        );
        Ok(())
    }

    /// A server that is up is asked.
    pub(in crate::agents) fn do_errand(&mut self, at: usize, bearer: Bearer, errand: Errand) -> Check {
        let request = match &errand {
            Errand::Write(action) => Request::Write(action.clone()),
            Errand::Renew(session) => Request::RenewSession(*session),
            Errand::Read(key, ReadMode::Lease) if !self.seats[at].frozen && self.leads_by_lease(at) => {
                let told = self.look_at(at, key);
                self.bring(at, bearer, Ok(told));
                return Ok(());
            }
            Errand::Read(_, mode) => Request::Read(*mode),
        };
        self.next_token += 1;
        let token = Token(self.next_token);
        self.seats[at].errands.insert(token, (bearer, errand));
        let input = lictor_node::Input::Request { token, request };
        self.give(at, None, Input::Server(input))
    }

    /// A server has done what an errand takes.
    pub(in crate::agents) fn did_errand(
        &mut self,
        at: usize,
        (bearer, errand): (Bearer, Errand),
        answer: lictor_node::Answer,
    ) -> Check {
        let answer = match (answer, errand) {
            (lictor_node::Answer::Readable { index }, Errand::Read(key, _)) => {
                let published = self.seats[at].published.index();
                ensure("what may be read is published", published >= index, || {
                    format!("m{at}: {index} may be read, {published} is published")
                })?;
                Ok(self.look_at(at, &key))
            }
            (lictor_node::Answer::Written { index, outcome }, Errand::Write(_)) => {
                Ok(Told::Written(index, outcome))
            }
            (lictor_node::Answer::Renewed(session), Errand::Renew(_)) => Ok(Told::Renewed(session.is_some())),
            (lictor_node::Answer::Failed(error), _) => Err(failure(&error)),
            (answer, errand) => {
                let wrong = format!("m{at} answers {errand:?} with {answer:?}");
                return Err(violation("requests are answered", wrong));
            }
        };
        self.bring(at, bearer, answer);
        Ok(())
    }

    /// A process gets an answer, by way of the agent that it has asked; or from nobody.
    pub(in crate::agents) fn answer_errand(&mut self, via: Option<Via>, id: ErrandId, answer: Answer) {
        let heard = Event::Heard { via, id, answer };
        self.queue.push(self.now + HOP, heard);
    }

    /// An answer has come to the agent that a process has asked.
    pub(in crate::agents) fn pass_on(&mut self, via: Option<Via>, id: ErrandId, answer: Answer) -> Check {
        let Some(Via { at, life }) = via else {
            return self.process_heard(id, answer);
        };
        if !self.lives(at, life) {
            return self.process_heard(id, Err(Failure::Unknown));
        }
        if self.seats[at].frozen {
            self.queue.push(self.now + LOOK, Event::Heard { via, id, answer });
            return Ok(());
        }
        self.process_heard(id, answer)
    }

    /// A server is no more: those on its machine who wait for it see their connections break.
    pub(in crate::agents) fn errands_lost(&mut self, at: usize) {
        for (_, (bearer, _)) in core::mem::take(&mut self.seats[at].errands) {
            if let Bearer::Process(id) = bearer {
                self.answer_errand(None, id, Err(Failure::Unknown));
            }
        }
    }

    fn bring(&mut self, at: usize, bearer: Bearer, answer: Answer) {
        match bearer {
            Bearer::Process(id) => {
                let life = self.truth[at].life;
                self.answer_errand(Some(Via { at, life }), id, answer);
            }
            Bearer::Call(key) => self.send_reply(key, at, Ok(Cargo::Told(Box::new(answer)))),
        }
    }

    fn look_at(&self, at: usize, key: &Key) -> Told {
        Told::Entry(entry(&self.seats[at].published, key))
    }
}

/// What a key holds in a state.
pub(super) fn entry(state: &lictor_catalog::State, key: &Key) -> Option<Arc<KvEntry>> {
    if let Found::Entry(entry) = state.query(&Query::KvGet(key.clone())).1 {
        entry
    } else {
        None
    }
}

const fn failure(error: &RequestError) -> Failure {
    match error {
        RequestError::NoLeader
        | RequestError::Busy
        | RequestError::TooLarge { .. }
        | RequestError::Stopped(_)
        | RequestError::NotTransferred(_)
        | RequestError::Refused(_) => Failure::NotDone,
        RequestError::LeadershipLost => Failure::Unknown,
    }
}
