//! Clients: each has one request open at a time, asks whichever server it likes, and remembers what it learned for its next comparison.

use lictor_machine::{Rng, Token};

use super::World;
use super::event::Event;
use crate::host::{Host, Stimulus};
use crate::linearizability::{Action, Operation};
use crate::oracles::Check;
use crate::trace::Record;
use crate::workload::{Answer, Change, Freshness, Held, Op, Target};

pub(super) struct Client {
    rng: Rng,
    /// The server that answered last.
    favourite: Option<usize>,
    /// What each key held when it was last seen.
    seen: Vec<Option<Held>>,
    pending: Option<Pending>,
    /// What it did, by key.
    pub(super) history: Vec<Vec<Operation>>,
}

#[derive(Clone, Copy)]
struct Pending {
    token: Token,
    op: Op,
    at: usize,
    called: u64,
}

impl Client {
    pub(super) fn new(rng: Rng, keys: u8) -> Self {
        let keys = usize::from(keys);
        Self {
            rng,
            favourite: None,
            seen: vec![None; keys],
            pending: None,
            history: vec![Vec::new(); keys],
        }
    }

    pub(super) const fn is_waiting(&self) -> bool {
        self.pending.is_some()
    }

    fn server(&mut self, servers: usize) -> usize {
        let any = self.rng.below(servers as u64) as usize;
        let faithful = self.rng.chance(4, 5);
        self.favourite.filter(|_| faithful).unwrap_or(any)
    }

    /// The next request; `servers` may come and go if it says how many there are.
    fn op(&mut self, value: u64, servers: Option<usize>) -> Op {
        if let Some(servers) = servers.filter(|_| self.rng.chance(1, 25)) {
            return Op::Reconfigure(self.target(servers));
        }
        let key = self.rng.below(self.seen.len() as u64) as u8;
        let expected = self.seen[usize::from(key)].map_or(lictor_machine::Index::ZERO, |held| held.index);
        match self.rng.below(100) {
            0..35 => Op::Write(Change::Set { key, value }),
            35..55 => Op::Write(Change::Cas {
                key,
                value,
                index: expected,
            }),
            55..63 => Op::Write(Change::Delete { key }),
            63..78 => Op::Get {
                key,
                freshness: Freshness::Default,
            },
            78..90 => Op::Get {
                key,
                freshness: Freshness::Consistent,
            },
            90..99 => Op::Get {
                key,
                freshness: Freshness::Stale,
            },
            _ => Op::Transfer,
        }
    }

    /// Any members at all; now and then, nobody.
    fn target(&mut self, servers: usize) -> Target {
        let (mut voters, mut learners) = (0, 0);
        for at in 0..servers {
            match self.rng.below(6) {
                0 => {}
                1 => learners |= 1 << at,
                _ => voters |= 1 << at,
            }
        }
        Target { voters, learners }
    }

    /// Notes an operation that came to an end, as far as the client knows: `None`, its outcome is not known.
    fn note(&mut self, pending: Pending, answer: Option<Answer>, moment: u64) {
        let (key, action) = match (pending.op, answer) {
            (_, Some(Answer::Refused)) | (Op::Transfer | Op::Reconfigure(_), _) => return,
            (
                Op::Get {
                    key,
                    freshness: Freshness::Default | Freshness::Consistent,
                },
                Some(Answer::Value { held, .. }),
            ) => (key, Action::Get(held.map(|held| held.value))),
            (Op::Get { .. }, _) => return,
            (Op::Write(change), answer) => {
                let done = match answer {
                    Some(Answer::Written { done, .. }) => Some(done),
                    Some(
                        Answer::Value { .. }
                        | Answer::Transferred(_)
                        | Answer::Reconfigured { .. }
                        | Answer::Refused
                        | Answer::Unknown,
                    )
                    | None => None,
                };
                let action = match change {
                    Change::Set { value, .. } => Action::Set(value),
                    Change::Delete { .. } => Action::Delete,
                    Change::Cas { key, value, index } => {
                        let expected = self.seen[usize::from(key)].filter(|held| held.index == index);
                        Action::Cas {
                            expected: expected.map(|held| held.value),
                            value,
                            done,
                        }
                    }
                };
                (change.key(), action)
            }
        };
        let known = answer.is_some_and(|answer| answer != Answer::Unknown);
        let returned = known.then_some(moment);
        self.history[usize::from(key)].push(Operation {
            action,
            called: pending.called,
            returned,
        });
    }

    fn learn(&mut self, op: Op, answer: Answer) {
        match (op, answer) {
            (Op::Get { key, .. }, Answer::Value { held, .. }) => self.seen[usize::from(key)] = held,
            (
                Op::Write(Change::Set { key, value } | Change::Cas { key, value, .. }),
                Answer::Written { index, done: true },
            ) => {
                self.seen[usize::from(key)] = Some(Held { value, index });
            }
            (Op::Write(Change::Delete { key }), Answer::Written { .. }) => self.seen[usize::from(key)] = None,
            (Op::Get { .. } | Op::Write(_) | Op::Transfer | Op::Reconfigure(_), _) => {}
        }
    }
}

impl<H: Host> World<'_, H> {
    /// A client's time to act has come.
    pub(super) fn client_acts(&mut self, client: usize) -> Check {
        if !self.stormy || self.clients[client].is_waiting() {
            return Ok(());
        }
        let (value, servers) = (self.next_token + 1, self.seats.len());
        let changes = (H::CHANGES_MEMBERS && self.options.changes).then_some(servers);
        let op = self.clients[client].op(value, changes);
        let at = self.clients[client].server(servers);
        self.ask(client, at, op)
    }

    /// A client asks a server. Whoever asks a server that is down learns so at once.
    pub(super) fn ask(&mut self, client: usize, at: usize, op: Op) -> Check {
        if self.seats[at].host.is_none() {
            self.clients[client].favourite = None;
            self.client_later(client);
            return Ok(());
        }
        self.next_token += 1;
        let token = Token(self.next_token);
        self.moments += 1;
        self.clients[client].pending = Some(Pending {
            token,
            op,
            at,
            called: self.moments,
        });
        self.open.insert(token, (client, at));
        self.counters.requests += 1;
        self.record(Record::Asked {
            client,
            at,
            token,
            op,
        });
        self.oracles.asked(at, token, op);
        let patience = self.options.patience;
        self.schedule_in(patience, Event::GiveUp { client, token });
        self.stimulate(at, Stimulus::Request(token, op))
    }

    /// An answer has come, perhaps for a client that no longer waits for it.
    pub(super) fn client_hears(&mut self, token: Token, answer: Answer) {
        let Some((client, _)) = self.open.remove(&token) else {
            return;
        };
        self.moments += 1;
        let moment = self.moments;
        let waiting = &mut self.clients[client];
        let Some(pending) = waiting.pending.filter(|pending| pending.token == token) else {
            return;
        };
        waiting.pending = None;
        waiting.note(pending, Some(answer), moment);
        waiting.learn(pending.op, answer);
        waiting.favourite = (answer != Answer::Refused).then_some(pending.at);
        match answer {
            Answer::Written { .. } => self.counters.writes += 1,
            Answer::Value { .. } => self.counters.reads += 1,
            Answer::Transferred(true) => self.counters.transfers += 1,
            Answer::Reconfigured { .. } => self.counters.reconfigurations += 1,
            Answer::Refused => self.counters.refusals += 1,
            Answer::Unknown => self.counters.unknown += 1,
            Answer::Transferred(false) => {}
        }
        self.client_later(client);
    }

    pub(super) fn client_gives_up(&mut self, client: usize, token: Token) {
        let waiting = &mut self.clients[client];
        let Some(pending) = waiting.pending.filter(|pending| pending.token == token) else {
            return;
        };
        waiting.pending = None;
        waiting.favourite = None;
        waiting.note(pending, None, 0);
        self.counters.timeouts += 1;
        self.client_later(client);
    }

    pub(super) fn client_later(&mut self, client: usize) {
        let think = self.options.think;
        let after = self.clients[client].rng.between(think / 5, think * 2);
        self.schedule_in(after, Event::Client(client));
    }

    /// What all clients did to each key.
    pub(super) fn histories(&self) -> Vec<Vec<Operation>> {
        let of_key = |key: usize| {
            self.clients
                .iter()
                .flat_map(move |client| client.history[key].iter().copied())
                .collect()
        };
        (0..usize::from(self.options.keys)).map(of_key).collect()
    }
}
