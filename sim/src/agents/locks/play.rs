//! Processes and oracles in the world of agents: who asks what when, who hears what, and who is told of it.

use core::time::Duration;
use std::collections::BTreeMap;

use lictor_catalog::{Action, KvPair, KvWrite, Outcome, SessionId, State};
use lictor_machine::{Instant, Rng};

use super::contender::{Contender, Want};
use super::errands::{Answer, Errand, ErrandId, Failure, Told};
use super::promises::Promises;
use super::witness::Witness;
use super::writer::{Account, Writer, count_in};
use super::{counter_key, lock_key, value_bytes};
use crate::agents::world::{Event, World, violation};
use crate::clock::LocalClock;
use crate::gossip::trace::Record;
use crate::oracles::{Check, ensure};

/// How long a process waits for an answer.
const PATIENCE: Duration = Duration::from_secs(4);

/// How often a process looks whether it has a session to renew.
const RENEWER_LOOKS: Duration = Duration::from_millis(200);

/// Who acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::agents) enum Actor {
    /// A contender, in its own business.
    Contender(usize),
    /// The part of it that renews its session.
    Renewer(usize),
    /// One that counts.
    Writer(usize),
    /// Somebody who never does the same twice.
    Passer,
}

/// Where and how a process runs.
#[derive(Debug)]
pub(super) struct Body {
    /// On whose machine.
    pub(super) at: usize,
    pub(super) clock: LocalClock,
    /// It does nothing until then.
    pub(super) frozen_until: Instant,
    /// How often it died.
    pub(super) life: u32,
    /// Its alarms; of each kind the latest counts.
    alarms: [u64; 2],
    /// Whether it has a request open, and whether one to renew its session.
    open: [bool; 2],
}

impl Body {
    pub(super) const fn new(at: usize, clock: LocalClock) -> Self {
        Self {
            at,
            clock,
            frozen_until: Instant::ZERO,
            life: 0,
            alarms: [0; 2],
            open: [false; 2],
        }
    }
}

#[derive(Debug)]
struct Open {
    actor: Actor,
    want: Option<Want>,
    life: u32,
    /// When it was asked, in true time and by the clock of whoever asked.
    asked: Instant,
    asked_own: Instant,
}

/// See the module.
pub(in crate::agents) struct Play {
    pub(super) rng: Rng,
    pub(super) contenders: Vec<(Body, Contender)>,
    pub(super) writers: Vec<(Body, Writer)>,
    pub(in crate::agents) witness: Witness,
    pub(super) promises: Promises,
    /// When whoever asks for a session began to, in true time: by the process.
    creating: BTreeMap<usize, Instant>,
    /// How many locks and counters there are.
    pub(super) locks: u8,
    pub(super) counters: u8,
    open: BTreeMap<ErrandId, Open>,
    next_errand: u64,
    next_value: u64,
    /// Requests of processes that were answered.
    pub(super) answered: u64,
}

impl Play {
    pub(super) fn new(rng: Rng, witness: Witness, locks: u8, counters: u8) -> Self {
        Self {
            rng,
            contenders: Vec::new(),
            writers: Vec::new(),
            witness,
            promises: Promises::default(),
            creating: BTreeMap::new(),
            locks,
            counters,
            open: BTreeMap::new(),
            next_errand: 0,
            next_value: 0,
            answered: 0,
        }
    }

    /// What is left that should not be, once everybody has gone.
    pub(super) fn remains(&self) -> Option<String> {
        let contenders = self.contenders.iter().map(|(_, contender)| contender);
        if let Some(number) = contenders.into_iter().position(|contender| !contender.has_gone()) {
            return Some(format!("p{number} is still there"));
        }
        if let Some(number) = self.writers.iter().position(|(_, writer)| !writer.has_gone()) {
            return Some(format!("w{number} is still there"));
        }
        self.witness.remains()
    }

    fn body(&mut self, actor: Actor) -> Option<(&mut Body, usize)> {
        match actor {
            Actor::Contender(number) => Some((&mut self.contenders[number].0, 0)),
            Actor::Renewer(number) => Some((&mut self.contenders[number].0, 1)),
            Actor::Writer(number) => Some((&mut self.writers[number].0, 0)),
            Actor::Passer => None,
        }
    }

    fn value(&mut self) -> u64 {
        self.next_value += 1;
        self.next_value
    }
}

/// What a process does, for the record.
const fn word(want: Option<Want>) -> &'static str {
    match want {
        Some(Want::Create) => "asks for a session",
        Some(Want::Renew(_)) => "renews its session",
        Some(Want::Acquire(_)) => "wants the lock",
        Some(Want::Look(_)) => "looks at the lock",
        Some(Want::Write(_)) => "writes",
        Some(Want::Release(_)) => "gives the lock back",
        Some(Want::Delete) => "deletes the lock",
        Some(Want::Destroy(_)) => "ends a session",
        None => "asks",
    }
}

/// What it hears, for the record: the index of its change and whether that was done, or something that stands for the failure.
const fn gist(answer: &Answer) -> (&'static str, u64) {
    match answer {
        Ok(Told::Written(index, Outcome::Done(false) | Outcome::Refused(_) | Outcome::Txn(Err(_)))) => {
            ("is refused, at", index.0)
        }
        Ok(Told::Written(index, _)) => ("is done, at", index.0),
        Ok(Told::Renewed(true)) => ("is renewed", 0),
        Ok(Told::Renewed(false)) => ("has no session", 0),
        Ok(Told::Entry(_)) => ("has read", 0),
        Err(Failure::NotDone) => ("is told that nothing was done", 0),
        Err(Failure::Unknown) => ("is told that nobody knows", 0),
    }
}

impl World<'_> {
    /// Processes and those who judge them are there from now on.
    pub(super) fn play(&mut self, play: Play) {
        self.play = Some(Box::new(play));
    }

    /// Has an actor act after this time, and not at any time that was set before.
    pub(super) fn act_later(&mut self, actor: Actor, after: Duration) {
        let Some(play) = &mut self.play else { return };
        let Some((body, alarm)) = play.body(actor) else {
            return;
        };
        body.alarms[alarm] += 1;
        let alarm = body.alarms[alarm];
        self.queue.push(self.now + after, Event::Act { actor, alarm });
    }

    /// An actor's time has come.
    pub(in crate::agents) fn process_acts(&mut self, actor: Actor, alarm: u64) {
        let now = self.now;
        let Some(play) = &mut self.play else {
            return;
        };
        let Some((body, which)) = play.body(actor) else {
            return;
        };
        if body.alarms[which] != alarm || body.open[which] {
            return;
        }
        if body.frozen_until > now {
            self.queue.push(body.frozen_until, Event::Act { actor, alarm });
            return;
        }
        let own = body.clock.now(now).mono;
        let value = play.value();
        let (want, errand) = match actor {
            Actor::Contender(number) => match play.contenders[number].1.next(own, value) {
                Some((want, errand)) => (Some(want), errand),
                None => return,
            },
            Actor::Renewer(number) => {
                let Some(session) = play.contenders[number].1.to_renew() else {
                    self.act_later(actor, RENEWER_LOOKS);
                    return;
                };
                (Some(Want::Renew(session)), Errand::Renew(session))
            }
            Actor::Writer(number) => match play.writers[number].1.next() {
                Some(errand) => (None, errand),
                None => return,
            },
            Actor::Passer => return,
        };
        self.ask(actor, want, errand);
    }

    fn ask(&mut self, actor: Actor, want: Option<Want>, errand: Errand) {
        let (now, machines) = (self.now, self.seats.len() as u64);
        let Some(play) = &mut self.play else { return };
        play.next_errand += 1;
        let id = ErrandId(play.next_errand);
        let elsewhere = play.rng.below(machines) as usize;
        let (at, life, asked_own) = match play.body(actor) {
            Some((body, which)) => {
                body.open[which] = true;
                (body.at, body.life, body.clock.now(now).mono)
            }
            None => (elsewhere, 0, now),
        };
        // What is asked of another agent each time gets there on other ways.
        let anywhere = match actor {
            Actor::Contender(_) | Actor::Renewer(_) => false,
            Actor::Writer(_) | Actor::Passer => true,
        };
        let at = if anywhere { elsewhere } else { at };
        if let Errand::Write(Action::EndSessions(sessions)) = &errand {
            for session in sessions {
                play.promises.unwant(*session);
            }
        }
        if let (Some(Want::Release(session)), Actor::Contender(number)) = (want, actor) {
            let key = lock_key(play.contenders[number].1.habits.lock);
            play.promises.gives_back(&key, session);
        }
        if let (Some(Want::Create), Actor::Contender(number)) = (want, actor) {
            // It counts from when it asked first.
            let contender = &play.contenders[number].1;
            if contender.creating_since() == Some(asked_own) {
                play.creating.insert(number, now);
            }
        }
        let open = Open {
            actor,
            want,
            life,
            asked: now,
            asked_own,
        };
        play.open.insert(id, open);
        self.note(actor, word(want), id.0);
        let answer = Err(Failure::Unknown);
        self.queue.push(
            now + PATIENCE,
            Event::Heard {
                via: None,
                id,
                answer,
            },
        );
        self.send_errand(at, id, errand);
    }

    /// A process has an answer, or gives up waiting for one.
    pub(in crate::agents) fn process_heard(&mut self, id: ErrandId, answer: Answer) -> Check {
        let now = self.now;
        let Some(play) = &mut self.play else {
            return Ok(());
        };
        let Some(actor) = play.open.get(&id).map(|open| open.actor) else {
            return Ok(());
        };
        if let Some((body, _)) = play.body(actor)
            && body.frozen_until > now
        {
            self.queue.push(
                body.frozen_until,
                Event::Heard {
                    via: None,
                    id,
                    answer,
                },
            );
            return Ok(());
        }
        let Some(open) = play.open.remove(&id) else {
            return Ok(());
        };
        if let Some((body, which)) = play.body(actor) {
            if body.life != open.life {
                return Ok(());
            }
            body.open[which] = false;
        }
        play.answered += u64::from(answer.is_ok());
        if let Ok(Told::Written(index, outcome)) = &answer {
            play.witness.told(*index, outcome)?;
        }
        let (what, number) = gist(&answer);
        self.note(actor, what, number);
        match actor {
            Actor::Contender(number) | Actor::Renewer(number) => self.contender_heard(number, &open, answer),
            Actor::Writer(number) => {
                let Some(play) = &mut self.play else {
                    return Ok(());
                };
                let Play { writers, witness, .. } = &mut **play;
                let replaced = |one, other| witness.replaced_between(one, other);
                let wait = writers[number].1.hear(now, answer, replaced)?;
                self.act_later(actor, wait);
                Ok(())
            }
            Actor::Passer => Ok(()),
        }
    }

    fn contender_heard(&mut self, number: usize, open: &Open, answer: Answer) -> Check {
        let now = self.now;
        let Some(play) = &mut self.play else {
            return Ok(());
        };
        let Some(want) = open.want else {
            return Ok(());
        };
        let (body, contender) = &mut play.contenders[number];
        let key = lock_key(contender.habits.lock);
        let span = (open.asked, now);
        let promises = &mut play.promises;
        match (want, &answer) {
            (Want::Create, Ok(Told::Written(_, Outcome::Session(session)))) => {
                let asked = play.creating.get(&number).copied().unwrap_or(open.asked);
                promises.told_made(*session, asked);
            }
            (Want::Renew(session), Ok(Told::Renewed(renewed))) => {
                promises.told_renewed(session, open.asked, *renewed)?;
            }
            (Want::Acquire(session), Ok(Told::Written(index, Outcome::Done(true) | Outcome::Txn(Ok(_))))) => {
                promises.told_held(&key, session, *index, now)?;
            }
            (Want::Look(session), Ok(Told::Entry(entry))) => {
                promises.told_entry(session, &key, entry.as_ref(), span)?;
            }
            (Want::Write(session), Ok(Told::Written(_, Outcome::Txn(Err(errors))))) => {
                let holds = promises.relies(session, &key, span);
                ensure("who holds a lock writes", !holds, || {
                    format!("p{number} holds {key:?} by {session}, and may not write: {errors:?}")
                })?;
            }
            _ => {}
        }
        let (own, answered) = (body.clock.now(now).mono, answer.is_ok());
        let wait = contender.hear(want, open.asked_own, own, answer);
        let wait = match want {
            // What was not answered is asked for again soon, and what was in time.
            Want::Renew(_) if answered => {
                let ttl = contender.habits.ttl;
                contender.rng.between(ttl / 3, ttl * 2 / 3)
            }
            Want::Renew(_)
            | Want::Create
            | Want::Acquire(_)
            | Want::Look(_)
            | Want::Write(_)
            | Want::Release(_)
            | Want::Delete
            | Want::Destroy(_) => wait,
        };
        self.act_later(open.actor, wait);
        Ok(())
    }

    fn note(&mut self, actor: Actor, what: &'static str, number: u64) {
        let (letter, who) = match actor {
            Actor::Contender(who) | Actor::Renewer(who) => ('p', who),
            Actor::Writer(who) => ('w', who),
            Actor::Passer => ('x', 0),
        };
        let record = Record::Process {
            letter,
            who,
            what,
            number,
        };
        self.trace.record(self.now, record);
    }

    /// A process does nothing for a while, and does not know that.
    pub(super) fn stall(&mut self, actor: Actor, duration: Duration) {
        let until = self.now + duration;
        let body = self.play.as_mut().and_then(|play| Some(play.body(actor)?.0));
        if let Some(body) = body {
            body.frozen_until = body.frozen_until.max(until);
            self.note(actor, "stands still, for ms", duration.as_millis() as u64);
        }
    }

    /// A contender dies, and another one comes after a while.
    pub(super) fn kill(&mut self, number: usize, gone: Duration) {
        let Some(play) = &mut self.play else { return };
        let (body, contender) = &mut play.contenders[number];
        contender.die();
        body.life += 1;
        body.open = [false; 2];
        body.frozen_until = self.now;
        self.note(Actor::Contender(number), "dies, for ms", gone.as_millis() as u64);
        self.act_later(Actor::Contender(number), gone);
        self.act_later(Actor::Renewer(number), gone);
    }

    /// Somebody passes by and does something to sessions, locks or what they protect.
    pub(super) fn pass_by(&mut self) {
        let Some(play) = &mut self.play else { return };
        let value = play.value();
        let number = play.rng.below(u64::from(play.locks)) as u8;
        let sessions: Vec<SessionId> = play
            .witness
            .state
            .sessions()
            .map(|session| session.def.id)
            .collect();
        let some = play.rng.pick(&sessions).copied();
        let pair = |key| KvPair {
            key,
            value: value_bytes(value),
            flags: 0,
        };
        let action = match (play.rng.below(6), some) {
            (0..2, Some(session)) => Action::EndSessions(vec![session]),
            (2, _) => Action::Kv(KvWrite::Delete(lock_key(number))),
            (3, _) => Action::Kv(KvWrite::DeleteTree(lock_key(number))),
            (4, _) => Action::Kv(KvWrite::Set(pair(lock_key(number)))),
            (5.., _) | (_, None) => Action::Kv(KvWrite::Set(pair(super::data_key(number)))),
        };
        self.ask(Actor::Passer, None, Errand::Write(action));
    }

    /// Ends the sessions that would be there for ever and that no process knows of: an archive brings back what was done with, and what is
    /// asked for late may come after whoever asked for it has cleared it away.
    pub(super) fn sweep(&mut self) {
        let Some(play) = &self.play else { return };
        let known = |id| play.contenders.iter().any(|(_, contender)| contender.knows(id));
        let sessions = play.witness.state.sessions();
        let lasting: Vec<SessionId> = sessions
            .filter(|session| session.def.ttl.is_zero() && !known(session.def.id))
            .map(|session| session.def.id)
            .collect();
        if !lasting.is_empty() {
            self.ask(Actor::Passer, None, Errand::Write(Action::EndSessions(lasting)));
        }
    }

    /// Takes in what a server's turn has made committed.
    pub(in crate::agents) fn bear_witness(&mut self) -> Check {
        let Some(play) = &mut self.play else {
            return Ok(());
        };
        let Play {
            witness, promises, ..
        } = &mut **play;
        witness.committed(self.now, promises, |index| self.raft.committed_term(index))
    }

    /// Whether each counter says how often somebody was told that they counted.
    pub(super) fn counters_are_right(&self) -> Check {
        let Some(play) = &self.play else {
            return Ok(());
        };
        for number in 0..play.counters {
            let key = counter_key(number);
            let entry = super::errands::entry(&play.witness.state, &key);
            let count = entry.as_ref().map_or(Ok(0), |entry| count_in(entry))?;
            let logged = play.witness.count_of(&key);
            ensure("a repeated change happens once", count == logged, || {
                format!("counter {number} says {count}, and was counted {logged} times")
            })?;
            if play.witness.seen.restored > 0 {
                // Those who count were told of what archives have undone.
                continue;
            }
            let writers = play.writers.iter().map(|(_, writer)| writer);
            let mine = writers.filter(|writer| writer.counter == number);
            let sum = mine.fold(Account::default(), |sum, writer| Account {
                counted: sum.counted + writer.account.counted,
                unknown: sum.unknown + writer.account.unknown,
            });
            let right = (sum.counted..=sum.counted + sum.unknown).contains(&count);
            ensure("a repeated change happens once", right, || {
                format!("counter {number} says {count}, and those who count {sum:?}")
            })?;
        }
        Ok(())
    }

    /// A state as servers begin with.
    #[allow(clippy::unused_self, reason = "mistakes belong to the world")]
    pub(super) fn empty_state(&self) -> State {
        #[allow(unused_mut, reason = "changed only by sabotage")]
        let mut state = State::new();
        #[cfg(feature = "sabotage")]
        super::swarm::Mistake::spoil(self.mistake, &mut state);
        state
    }

    /// A server that has not answered everything, or has something on its way to others.
    pub(super) fn owed(&self) -> Option<String> {
        self.up().into_iter().find_map(|at| {
            let seat = &self.seats[at];
            if !(seat.open.is_empty() && seat.asks.is_empty() && seat.errands.is_empty()) {
                return Some(format!("m{at} owes answers: {:?}", seat.errands));
            }
            let status = seat.agent.as_ref()?.server()?.raft_status();
            let mut peers = status.peers.iter();
            let busy = peers.find(|peer| peer.bytes_in_flight > 0 || peer.snapshot);
            let busy = busy.map(|peer| format!("m{at} sends to {peer:?}"));
            busy.or_else(|| (status.writes_in_flight > 0).then(|| format!("m{at} writes")))
        })
    }

    /// A state that is to be archived is shown to those who judge what comes of it. Whether it may be.
    pub(in crate::agents) fn may_archive(&mut self, at: usize) -> bool {
        let state = &self.seats[at].published;
        self.play.as_mut().is_none_or(|play| play.witness.archive(state))
    }

    /// The latest archive is about to be restored.
    pub(in crate::agents) fn announce_restore(&mut self, id: lictor_catalog::RestoreId) {
        if let Some(play) = &mut self.play {
            play.witness.will_restore(id);
        }
    }

    pub(super) fn judge(&self) -> Result<&Play, crate::oracles::Violation> {
        let missing = || violation("the driver's contract", "there are no processes".to_owned());
        self.play.as_deref().ok_or_else(missing)
    }

    pub(super) fn processes_mut(&mut self) -> Option<&mut Play> {
        self.play.as_deref_mut()
    }
}
