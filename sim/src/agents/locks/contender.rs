//! A process that wants a lock now and then, does something under its protection, and gives it back: as a careful program does it, or as
//! a careless one that never looks at its clock and has nothing but its fence.

use core::time::Duration;

use lictor_catalog::{
    Action, Behavior, IdempotencyKey, KvPair, KvTxnOp, KvWrite, Once, Outcome, SERF_HEALTH, SessionDef,
    SessionId, SessionRef, Text, TxnOp, TxnResult,
};
use lictor_machine::{Instant, Rng};
use lictor_raft::ReadMode;

use super::errands::{Answer, Errand, Failure, Told};
use super::{data_key, lock_key, value_bytes};

/// A node that no agent stands for, and a check on it.
pub(super) const GATE_NODE: &str = "x0";
pub(super) const GATE: &str = "gate";

/// What a session depends on, beside its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ground {
    /// Nothing.
    Nothing,
    /// That gossip takes the machine for alive.
    Alive,
    /// A check that people set.
    Gate,
}

/// What a process is like, for all its lives.
#[derive(Clone, Debug)]
pub(super) struct Habits {
    /// Zero: its sessions need not be renewed.
    pub(super) ttl: Duration,
    pub(super) lock_delay: Duration,
    pub(super) behavior: Behavior,
    pub(super) ground: Ground,
    /// Where its sessions are.
    pub(super) node: Text,
    /// Which lock it wants.
    pub(super) lock: u8,
    /// It takes locks by transactions, which give it the fence at once.
    pub(super) by_txn: bool,
    /// It writes by its fence; otherwise by the name of its session.
    pub(super) fenced: bool,
    /// It looks at its clock before it writes.
    pub(super) careful: bool,
    /// It asks for sessions under idempotency keys.
    pub(super) keyed: bool,
    /// How long it asks under the same one.
    pub(super) persists: Duration,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    Create,
    Renew(SessionId),
    Acquire(SessionId),
    Look(SessionId),
    Write(SessionId),
    Release(SessionId),
    /// Delete the lock's key, while holding it.
    Delete,
    Destroy(SessionId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It does not hold the lock.
    Without,
    /// It holds it, and does not know its fence.
    Blind,
    /// It holds it, for so many writes.
    Holding { fence: u64, writes: u64 },
}

/// A session of its own.
#[derive(Clone, Copy, Debug)]
struct Mine {
    id: SessionId,
    /// When it asked for it, or for the last renewal that was answered, by its own clock.
    renewed: Instant,
}

/// It asks for a session, and has no answer yet.
#[derive(Clone, Debug)]
struct Creating {
    key: IdempotencyKey,
    since: Instant,
    /// Under which names.
    tried: Vec<SessionId>,
}

/// See the module.
pub(super) struct Contender {
    pub(super) rng: Rng,
    pub(super) habits: Habits,
    session: Option<Mine>,
    stage: Stage,
    creating: Option<Creating>,
    /// Sessions that may be there, and would be for ever.
    orphans: Vec<SessionId>,
    /// How often it took the lock and gave it back, since that was counted anew.
    pub(super) turns: u64,
    /// It was told that it took the lock since then, and has not given it back.
    took: bool,
    /// It wants nothing any more but to go.
    pub(super) leaving: bool,
}

impl Contender {
    pub(super) const fn new(rng: Rng, habits: Habits) -> Self {
        Self {
            rng,
            habits,
            session: None,
            stage: Stage::Without,
            creating: None,
            orphans: Vec::new(),
            turns: 0,
            took: false,
            leaving: false,
        }
    }

    /// The process dies; another one comes that knows nothing but what has to be cleared away.
    pub(super) fn die(&mut self) {
        let tried = self
            .creating
            .take()
            .into_iter()
            .flat_map(|creating| creating.tried);
        let session = self.session.take().map(|mine| mine.id);
        if self.habits.ttl.is_zero() {
            self.orphans.extend(tried.chain(session));
        }
        self.stage = Stage::Without;
    }

    /// From now on counts its turns anew. Whoever holds the lock has taken it before.
    pub(super) const fn count_anew(&mut self) {
        (self.turns, self.took) = (0, false);
    }

    /// Whether a session is its own, or may be, or is to be cleared away by it.
    pub(super) fn knows(&self, id: SessionId) -> bool {
        let tried = self.creating.iter().flat_map(|creating| &creating.tried);
        self.session.is_some_and(|mine| mine.id == id)
            || self.orphans.iter().chain(tried).any(|other| *other == id)
    }

    /// The session to be renewed, if it needs to be.
    pub(super) fn to_renew(&self) -> Option<SessionId> {
        self.session
            .filter(|_| !self.habits.ttl.is_zero())
            .map(|mine| mine.id)
    }

    /// When it began to ask for the session that it is asking for.
    pub(super) fn creating_since(&self) -> Option<Instant> {
        self.creating.as_ref().map(|creating| creating.since)
    }

    /// Whether it wanted to go, and has left nothing behind that it knows of.
    pub(super) const fn has_gone(&self) -> bool {
        self.leaving && self.session.is_none() && self.creating.is_none() && self.orphans.is_empty()
    }

    /// What it asks for next; `None`: nothing more. `value` is the number of what it writes, if it does.
    pub(super) fn next(&mut self, now: Instant, value: u64) -> Option<(Want, Errand)> {
        if let Some(orphan) = self.orphans.last().copied() {
            return Some((Want::Destroy(orphan), destroy(orphan)));
        }
        let Some(mine) = self.session else {
            if self.leaving && self.creating.is_none() {
                return None;
            }
            return Some((Want::Create, self.create(now)));
        };
        let (id, key) = (mine.id, lock_key(self.habits.lock));
        let pair = KvPair {
            key: key.clone(),
            value: value_bytes(value),
            flags: 0,
        };
        if self.leaving {
            return Some((Want::Destroy(id), destroy(id)));
        }
        let session = SessionRef(id.to_string());
        Some(match self.stage {
            Stage::Without if self.habits.by_txn => {
                let ops = [KvTxnOp::Lock(pair, session), KvTxnOp::Get(key)];
                (Want::Acquire(id), txn(ops))
            }
            Stage::Without => {
                let lock = Action::Kv(KvWrite::Lock(pair, session));
                (Want::Acquire(id), Errand::Write(lock))
            }
            Stage::Blind => {
                let mode = if self.rng.chance(1, 2) {
                    ReadMode::Lease
                } else {
                    ReadMode::Quorum
                };
                (Want::Look(id), Errand::Read(key, mode))
            }
            Stage::Holding { fence, writes: 1.. } => {
                if self.habits.careful && !self.believes(now) {
                    // Whoever has this process's session now, it may be nobody's.
                    (self.session, self.stage) = (None, Stage::Without);
                    return self.next(now, value);
                }
                let data = KvPair {
                    key: data_key(self.habits.lock),
                    ..pair
                };
                let condition = if self.habits.fenced {
                    KvTxnOp::CheckFence(key, fence)
                } else {
                    KvTxnOp::CheckSession(key, session)
                };
                (Want::Write(id), txn([condition, KvTxnOp::Set(data)]))
            }
            Stage::Holding { writes: 0, .. } => match self.rng.below(10) {
                0..7 => (
                    Want::Release(id),
                    Errand::Write(Action::Kv(KvWrite::Unlock(pair, session))),
                ),
                7..9 => (Want::Destroy(id), destroy(id)),
                _ => (Want::Delete, Errand::Write(Action::Kv(KvWrite::Delete(key)))),
            },
        })
    }

    /// Takes note of what came of what it asked for at this time. Returns how long it waits before it goes on.
    pub(super) fn hear(&mut self, want: Want, asked: Instant, now: Instant, answer: Answer) -> Duration {
        let soon = self
            .rng
            .between(Duration::from_millis(1), Duration::from_millis(60));
        let later = self
            .rng
            .between(Duration::from_millis(100), Duration::from_millis(900));
        match want {
            Want::Create => self.created(now, answer, (soon, later)),
            Want::Renew(id) => {
                self.renewed(id, asked, &answer);
                soon
            }
            Want::Acquire(id) => self.acquired(id, answer, (soon, later)),
            Want::Look(id) => {
                match answer {
                    Ok(Told::Entry(Some(entry))) if entry.session() == Some(&*id.to_string()) => {
                        self.hold(entry.fence());
                    }
                    Ok(_) => self.stage = Stage::Without,
                    Err(_) => return later,
                }
                soon
            }
            Want::Write(_) => {
                match (&mut self.stage, &answer) {
                    (_, Ok(Told::Written(_, Outcome::Txn(Err(_))))) => self.stage = Stage::Without,
                    (Stage::Holding { writes, .. }, _) => *writes -= 1,
                    (Stage::Without | Stage::Blind, _) => {}
                }
                soon * 4
            }
            Want::Release(_) | Want::Delete => {
                self.gave_back(matches!(answer, Ok(Told::Written(_, Outcome::Done(true)))));
                self.stage = Stage::Without;
                later
            }
            Want::Destroy(id) => {
                if answer.is_ok() {
                    self.orphans.retain(|orphan| *orphan != id);
                    if self.session.is_some_and(|mine| mine.id == id) {
                        self.gave_back(self.stage != Stage::Without);
                        (self.session, self.stage) = (None, Stage::Without);
                    }
                }
                later
            }
        }
    }

    /// Asks for a session: once more for the same one, or for another.
    fn create(&mut self, now: Instant) -> Errand {
        let random = |rng: &mut Rng| u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64());
        let id = SessionId(random(&mut self.rng));
        let fresh = random(&mut self.rng);
        let creating = self.creating.get_or_insert_with(|| Creating {
            key: IdempotencyKey(fresh),
            since: now,
            tried: Vec::new(),
        });
        creating.tried.push(id);
        let key = creating.key;
        let habits = &self.habits;
        let def = SessionDef {
            id,
            name: "a contender's".into(),
            node: habits.node.clone(),
            lock_delay_nanos: habits.lock_delay.as_nanos() as i64,
            behavior: habits.behavior,
            ttl: habits.ttl,
            ttl_text: format!("{:?}", habits.ttl).into(),
            node_checks: match habits.ground {
                Ground::Nothing => None,
                Ground::Alive => Some(vec![SERF_HEALTH.into()]),
                Ground::Gate => Some(vec![GATE.into()]),
            },
            service_checks: None,
            checks: Vec::new(),
        };
        let plain = Action::CreateSession(Box::new(def));
        let keyed = Once::new(key, &plain).filter(|_| habits.keyed);
        Errand::Write(keyed.map_or(plain, |once| Action::Once(Box::new(once))))
    }

    fn created(&mut self, now: Instant, answer: Answer, (soon, later): (Duration, Duration)) -> Duration {
        let Some(creating) = self.creating.take() else {
            return soon;
        };
        match answer {
            Ok(Told::Written(_, Outcome::Session(id))) => {
                let renewed = creating.since;
                self.session = Some(Mine { id, renewed });
                soon
            }
            Err(_) if self.habits.keyed && now.since(creating.since) < self.habits.persists => {
                self.creating = Some(creating);
                soon
            }
            // Of what was asked for before this, something may have been done.
            Err(failure) if failure == Failure::Unknown || creating.tried.len() > 1 => {
                if self.habits.ttl.is_zero() {
                    self.orphans.extend(creating.tried);
                }
                later
            }
            // There is no such node, or its check is critical.
            Ok(_) | Err(Failure::NotDone | Failure::Unknown) => later,
        }
    }

    fn renewed(&mut self, id: SessionId, asked: Instant, answer: &Answer) {
        let Some(mine) = self.session.as_mut().filter(|mine| mine.id == id) else {
            return;
        };
        match answer {
            Ok(Told::Renewed(true)) => mine.renewed = mine.renewed.max(asked),
            // A careless one finds that out when it wants the lock again.
            Ok(_) if self.habits.careful || self.stage == Stage::Without => {
                (self.session, self.stage) = (None, Stage::Without);
            }
            Ok(_) | Err(_) => {}
        }
    }

    fn acquired(&mut self, id: SessionId, answer: Answer, (soon, later): (Duration, Duration)) -> Duration {
        let gone = |what: &str| what.starts_with("invalid session");
        match answer {
            Ok(Told::Written(_, Outcome::Done(true))) => self.stage = Stage::Blind,
            Ok(Told::Written(_, Outcome::Txn(Ok(results)))) => {
                let entries = results.iter().filter_map(|result| match result {
                    TxnResult::Kv { entry, .. } => Some(entry),
                    TxnResult::Node(_) | TxnResult::Service(_) | TxnResult::Check(_) => None,
                });
                let fence = entries.map(|entry| entry.fence()).next_back();
                self.hold(fence.unwrap_or_default());
            }
            Ok(Told::Written(_, Outcome::Refused(what))) if gone(&what) => self.session = None,
            Ok(Told::Written(_, Outcome::Txn(Err(errors))))
                if errors.iter().any(|error| gone(&error.what)) =>
            {
                self.session = None;
            }
            Ok(_) | Err(_) => return later,
        }
        let kept = self.session.is_some_and(|mine| mine.id == id);
        if !kept {
            self.stage = Stage::Without;
        }
        self.took |= self.stage != Stage::Without;
        soon
    }

    /// It has tried to give the lock back; `had`: it was its to give.
    fn gave_back(&mut self, had: bool) {
        self.turns += u64::from(had && self.took);
        self.took = false;
    }

    fn hold(&mut self, fence: u64) {
        let writes = self.rng.below(5);
        self.stage = Stage::Holding { fence, writes };
    }

    /// Whether its session lives for certain, by its own clock.
    fn believes(&self, now: Instant) -> bool {
        let ttl = self.habits.ttl;
        self.session
            .is_some_and(|mine| ttl.is_zero() || now.since(mine.renewed) < ttl)
    }
}

fn destroy(session: SessionId) -> Errand {
    Errand::Write(Action::EndSessions(vec![session]))
}

fn txn(ops: [KvTxnOp; 2]) -> Errand {
    Errand::Write(Action::Txn(ops.map(TxnOp::Kv).into()))
}
