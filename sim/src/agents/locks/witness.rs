//! What the log says, judged entry by entry: each command that becomes committed is carried out once more, and whatever it does to
//! sessions, locks, fences and receipts has to be what may be done, whoever carried it out. This knows nothing of how a catalog comes to
//! its decisions: only what was so before, what is so after, and how much true time has passed.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use lictor_catalog::{
    Action, Behavior, Changes, Command, IdempotencyKey, Key, KvTxnOp, Outcome, Query, RestoreId, RestoreStep,
    RunOut, Session, SessionId, State, TxnOp,
};
use lictor_machine::{Index, Instant};
use lictor_raft::{LogId, Payload, Term, WriteBatch};

use super::errands::entry;
use super::facts::{Hold, counted_by, frees, has_lost_its_ground, hold_of, locks_in, written_by};
use super::promises::Promises;
use super::seen::Seen;
use crate::agents::world::violation;
use crate::oracles::{Check, Violation, ensure};

/// A leader's clock may run six thousandths faster than true time.
pub(super) fn true_time(by_leader: Duration) -> Duration {
    by_leader * 1000 / 1006
}

/// The first answer under an idempotency key.
#[derive(Clone, Debug)]
struct First {
    at: Instant,
    revision: Index,
    outcome: Outcome,
}

type Firsts = BTreeMap<IdempotencyKey, First>;

/// For how many indexes it is known what the state was: servers that are further behind are not held against it.
const PAST: usize = 400;

/// A state of before, with its digest once somebody has asked for it.
struct Past {
    state: State,
    digest: Option<u64>,
}

/// What was known of a state when it was archived, or shall be known of it when it is restored.
#[derive(Clone, Debug, Default)]
struct Archived {
    firsts: Firsts,
    counted: Vec<(Index, Key)>,
}

/// See the module.
pub(in crate::agents) struct Witness {
    /// Entries that may become committed.
    made: BTreeMap<Index, BTreeMap<Term, Payload>>,
    pub(super) state: State,
    /// The latest states, one index after the other, the present one last.
    past: VecDeque<Past>,
    /// What became of each command.
    outcomes: BTreeMap<Index, Outcome>,
    /// Sessions, as of the state.
    sessions: BTreeMap<SessionId, Arc<Session>>,
    holds: BTreeMap<Key, Hold>,
    /// The highest fence that was ever given.
    highest: u64,
    /// Since when, and for how long, keys are kept from everybody.
    kept: BTreeMap<Key, (Instant, Duration)>,
    firsts: Firsts,
    receipt_ttl: Duration,
    /// Which command wrote each value: every write has one of its own.
    written: BTreeMap<u64, Index>,
    /// At which revisions counters were made to count one further, whatever archive took the place of others.
    counted: Vec<(Index, Key)>,
    /// What was archived last.
    archived: Option<Archived>,
    restoring: BTreeMap<RestoreId, Archived>,
    /// Where archives took the place of everything.
    replaced: Vec<Index>,
    pub(super) seen: Seen,
}

impl Witness {
    /// Sees a log from its beginning, in a cluster that keeps answers for so long.
    pub(super) fn new(state: State, receipt_ttl: Duration) -> Self {
        Self {
            made: BTreeMap::new(),
            state,
            past: VecDeque::new(),
            outcomes: BTreeMap::new(),
            sessions: BTreeMap::new(),
            holds: BTreeMap::new(),
            highest: 0,
            kept: BTreeMap::new(),
            firsts: Firsts::new(),
            receipt_ttl,
            written: BTreeMap::new(),
            counted: Vec::new(),
            archived: None,
            restoring: BTreeMap::new(),
            replaced: Vec::new(),
            seen: Seen::default(),
        }
    }

    /// A server writes entries to its log.
    pub(in crate::agents) fn issued(&mut self, batch: &WriteBatch) {
        for written in &batch.append {
            let LogId { term, index } = written.id;
            if index > self.state.index() {
                let of_index = self.made.entry(index).or_default();
                of_index.entry(term).or_insert_with(|| written.payload.clone());
            }
        }
    }

    /// Takes in what is committed; `term_of` knows the terms of committed entries.
    pub(super) fn committed(
        &mut self,
        now: Instant,
        promises: &mut Promises,
        term_of: impl Fn(Index) -> Option<Term>,
    ) -> Check {
        loop {
            let index = self.state.index().next();
            let Some(term) = term_of(index) else {
                return Ok(());
            };
            let payload = self.made.remove(&index).and_then(|mut made| made.remove(&term));
            match payload {
                Some(Payload::Command(data)) => {
                    let command = Command::decode(&data)
                        .map_err(|error| violation("commands can be read", error.to_string()))?;
                    self.step(now, promises, index, &command)?;
                }
                Some(Payload::Noop | Payload::Members(_)) => self
                    .state
                    .advance(index)
                    .map_err(|error| violation("commands can be applied", error.to_string()))?,
                None => {
                    let wrong = format!("nobody was seen to write the entry at {index}");
                    return Err(violation("what is committed was written", wrong));
                }
            }
            self.remember();
        }
    }

    fn remember(&mut self) {
        if self.past.len() == PAST {
            self.past.pop_front();
        }
        let state = self.state.clone();
        self.past.push_back(Past { state, digest: None });
    }

    /// A server shows a state to its readers.
    pub(in crate::agents) fn published(&mut self, at: usize, state: &State) -> Check {
        let index = state.index();
        let behind = self.state.index().0.checked_sub(index.0);
        let place = behind.and_then(|behind| self.past.len().checked_sub(usize::try_from(behind).ok()? + 1));
        let Some(past) = place.and_then(|place| self.past.get_mut(place)) else {
            return Ok(());
        };
        self.seen.compared += 1;
        let digest = *past.digest.get_or_insert_with(|| past.state.digest());
        ensure("states are what the log says", digest == state.digest(), || {
            format!("that of m{at} after {index} differs")
        })
    }

    /// A process is told what became of its change.
    pub(super) fn told(&self, index: Index, outcome: &Outcome) -> Check {
        let found = self.outcomes.get(&index);
        ensure("answers are what the log says", found == Some(outcome), || {
            format!("the answer to what is at {index} is {outcome:?}, and the log says {found:?}")
        })
    }

    /// Whether an archive took the place of everything between two changes.
    pub(super) fn replaced_between(&self, one: Index, other: Index) -> bool {
        let (first, last) = (one.min(other), one.max(other));
        self.replaced.iter().any(|at| first < *at && *at <= last)
    }

    /// How often a counter was made to count one further, as far as no archive undid that.
    pub(super) fn count_of(&self, counter: &Key) -> u64 {
        let counted = self.counted.iter().filter(|(_, key)| key == counter);
        counted.count() as u64
    }

    /// Takes note of which answers a state that is to be archived keeps. Fails with one from before an archive was restored.
    pub(super) fn archive(&mut self, state: &State) -> bool {
        let replaced = self.replaced.last().is_some_and(|at| state.index() < *at);
        if replaced || state.index() > self.state.index() {
            return false;
        }
        let revision = state.revision();
        let firsts = self.firsts.iter().filter(|(_, first)| first.revision <= revision);
        let counted = self.counted.iter().filter(|(at, _)| *at <= revision);
        self.archived = Some(Archived {
            firsts: firsts.map(|(key, first)| (*key, first.clone())).collect(),
            counted: counted.cloned().collect(),
        });
        true
    }

    /// The latest archive will be restored under this name.
    pub(super) fn will_restore(&mut self, id: RestoreId) {
        let archived = self.archived.clone().unwrap_or_default();
        self.restoring.insert(id, archived);
    }

    /// What is left that should not be, once everybody has gone.
    pub(super) fn remains(&self) -> Option<String> {
        if let Some(session) = self.sessions.values().next() {
            return Some(format!("there is still a session: {session:?}"));
        }
        if let Some((key, hold)) = self.holds.iter().next() {
            return Some(format!("{key:?} is still locked: {hold:?}"));
        }
        let delay = self.state.lock_delays().next();
        delay.map(|(key, delay)| format!("{key:?} is still kept from everybody: {delay:?}"))
    }

    fn step(&mut self, now: Instant, promises: &mut Promises, index: Index, command: &Command) -> Check {
        let before = self.state.clone();
        let mut changes = Changes::default();
        let outcome = self
            .state
            .apply(index, command, &mut changes)
            .map_err(|error| violation("commands can be applied", error.to_string()))?;
        self.outcomes.insert(index, outcome.clone());
        if changes.replaced {
            return self.restored(now, promises, index, &command.action);
        }
        let mut action = command.action.clone();
        if let Action::Once(once) = &command.action {
            if let Some(first) = self.firsts.get(&once.key) {
                self.seen.repeated += 1;
                return self.repeated(&before, index, first, &outcome);
            }
            let first = First {
                at: now,
                revision: self.state.revision(),
                outcome: outcome.clone(),
            };
            self.firsts.insert(once.key, first);
            action = once
                .action()
                .map_err(|error| violation("commands can be read", error.to_string()))?;
        }
        self.judge(now, promises, &before, index, &action, &outcome)
    }

    /// A change was asked for again, and has to have been carried out the first time only.
    fn repeated(&self, before: &State, index: Index, first: &First, outcome: &Outcome) -> Check {
        const PROPERTY: &str = "a repeated change happens once";
        let tables = [
            Query::KvList(Key::new()),
            Query::Sessions,
            Query::NodeInfos,
            Query::PreparedQueries,
        ];
        let same = tables
            .iter()
            .all(|table| before.index_of(table) == self.state.index_of(table));
        ensure(PROPERTY, same, || {
            format!("the repetition at {index} has changed something")
        })?;
        ensure(PROPERTY, first.outcome == *outcome, || {
            format!(
                "the answer at {index} is {outcome:?}, and was {:?} the first time",
                first.outcome
            )
        })
    }

    fn judge(
        &mut self,
        now: Instant,
        promises: &mut Promises,
        before: &State,
        index: Index,
        action: &Action,
        outcome: &Outcome,
    ) -> Check {
        let wrote = written_by(action, outcome);
        for value in wrote {
            let first = *self.written.entry(value).or_insert(index);
            ensure(
                "a write that is asked for once happens once",
                first == index,
                || format!("value {value} was written at {first} and at {index}"),
            )?;
        }
        let revision = self.state.revision();
        self.counted
            .extend(counted_by(action, outcome).map(|key| (revision, key)));
        self.conditions(index, action, outcome)?;
        self.receipts(now, action)?;
        let ended = self.sessions_of(now, promises, index, action)?;
        self.locks_of(now, promises, before, index, action, &ended)?;
        self.delays(now, before)
    }

    /// What a transaction requires of locks must have been so.
    fn conditions(&mut self, index: Index, action: &Action, outcome: &Outcome) -> Check {
        let Action::Txn(ops) = action else {
            return Ok(());
        };
        let done = matches!(outcome, Outcome::Txn(Ok(_)));
        for op in ops {
            let TxnOp::Kv(op) = op else { continue };
            // Whatever comes behind a change sees what that did.
            if !op.is_read_only() {
                break;
            }
            let held = self.holds.get(op.key());
            match op {
                KvTxnOp::CheckFence(key, fence) => {
                    let right = held.is_some_and(|hold| hold.fence == *fence);
                    ensure("an old fence changes nothing", right || !done, || {
                        format!(
                            "at {index} fence {fence} of {key:?} lets a write through, and it is {held:?}"
                        )
                    })?;
                    ensure("the holder's fence lets writes through", done || !right, || {
                        format!("at {index} fence {fence} of {key:?} is right, and the write fails")
                    })?;
                    *(if done {
                        &mut self.seen.fenced
                    } else {
                        &mut self.seen.kept_out
                    }) += 1;
                }
                KvTxnOp::CheckSession(key, session) => {
                    let right = held.is_some_and(|hold| hold.session.to_string() == session.0);
                    ensure("who holds no lock changes nothing", right || !done, || {
                        format!("at {index} {session:?} writes by {key:?}, which is held by {held:?}")
                    })?;
                }
                KvTxnOp::Get(_)
                | KvTxnOp::GetOrEmpty(_)
                | KvTxnOp::GetTree(_)
                | KvTxnOp::CheckIndex(..)
                | KvTxnOp::CheckNotExists(_)
                | KvTxnOp::Set(_)
                | KvTxnOp::Cas(..)
                | KvTxnOp::Lock(..)
                | KvTxnOp::Unlock(..)
                | KvTxnOp::Delete(_)
                | KvTxnOp::DeleteTree(_)
                | KvTxnOp::DeleteCas(..) => {}
            }
        }
        Ok(())
    }

    /// Answers are kept for as long as they should be.
    fn receipts(&mut self, now: Instant, action: &Action) -> Check {
        let through = if let Action::ForgetReceipts(through) = action {
            *through
        } else if let Action::RunOut {
            era,
            what: RunOut::Receipts(through),
        } = action
            && *era == self.state.era()
        {
            *through
        } else {
            return Ok(());
        };
        let ttl = true_time(self.receipt_ttl);
        let early = self
            .firsts
            .values()
            .find(|first| first.revision <= through && now.since(first.at) < ttl);
        ensure("answers are kept for their time", early.is_none(), || {
            format!(
                "after {:?} it is forgotten: {early:?}",
                early.map(|first| now.since(first.at))
            )
        })?;
        let before = self.firsts.len();
        self.firsts.retain(|_, first| first.revision > through);
        self.seen.forgotten += (before - self.firsts.len()) as u64;
        Ok(())
    }

    /// Sessions come by being made, and go when somebody ends them, when what they depend on is gone, or when their time is over.
    fn sessions_of(
        &mut self,
        now: Instant,
        promises: &mut Promises,
        index: Index,
        action: &Action,
    ) -> Result<Vec<Arc<Session>>, Violation> {
        let living: BTreeMap<SessionId, Arc<Session>> = self
            .state
            .sessions()
            .map(|session| (session.def.id, Arc::clone(session)))
            .collect();
        for (id, session) in living.iter().filter(|(id, _)| !self.sessions.contains_key(id)) {
            let made = matches!(action, Action::CreateSession(def) if def.id == *id);
            ensure("sessions are made", made, || {
                format!("{session:?} comes by {action:?}")
            })?;
            promises.made(*id, session.def.ttl, index, now);
        }
        let ended: Vec<_> = self
            .sessions
            .iter()
            .filter(|(id, _)| !living.contains_key(id))
            .map(|(_, session)| Arc::clone(session))
            .collect();
        for session in &ended {
            let id = session.def.id;
            let by_name = matches!(action, Action::EndSessions(ids) if ids.contains(&id));
            if by_name && promises.is_unwanted(id) {
                self.seen.ended += 1;
                promises.ended(id, now, true);
            } else if by_name
                || matches!(
                    action,
                    Action::RunOut {
                        what: RunOut::Sessions(_),
                        ..
                    }
                )
            {
                self.seen.expired += 1;
                promises.expired(session, now)?;
            } else {
                self.seen.lost += 1;
                ensure(
                    "sessions end for a reason",
                    has_lost_its_ground(&self.state, session),
                    || format!("{session:?} ends by {action:?}"),
                )?;
                promises.ended(id, now, true);
            }
        }
        self.sessions = living;
        Ok(ended)
    }

    /// Locks are taken by those who ask, when they are free; and they are lost by those who give them back, or end, or by their deletion.
    fn locks_of(
        &mut self,
        now: Instant,
        promises: &mut Promises,
        before: &State,
        index: Index,
        action: &Action,
        ended: &[Arc<Session>],
    ) -> Check {
        let entries = locks_in(&self.state);
        let holds: BTreeMap<Key, Hold> = entries.iter().filter_map(|entry| hold_of(entry)).collect();
        let keys: BTreeSet<Key> = self.holds.keys().chain(holds.keys()).cloned().collect();
        for key in keys {
            let (old, new) = (self.holds.get(&key).copied(), holds.get(&key).copied());
            match (old, new) {
                (Some(old), Some(new)) => ensure("never two holders", old == new, || {
                    format!("at {index} {key:?} goes from {old:?} to {new:?} by {action:?}")
                })?,
                (None, Some(new)) => self.taken(now, before, index, &key, new)?,
                (Some(old), None) => {
                    let session = ended.iter().find(|session| session.def.id == old.session);
                    if let Some(session) = session {
                        self.released(now, before, &key, session)?;
                    } else {
                        let by_request = frees(action, &key, old.session);
                        ensure("locks are lost for a reason", by_request, || {
                            format!("at {index} {key:?} is free, which was {old:?}, by {action:?}")
                        })?;
                        promises.freed(&key, old.session, index);
                    }
                }
                (None, None) => {}
            }
        }
        self.holds = holds;
        let dead = self
            .holds
            .iter()
            .find(|(_, hold)| !self.sessions.contains_key(&hold.session));
        ensure("who holds a lock lives", dead.is_none(), || {
            format!("after {index} {dead:?}")
        })
    }

    fn taken(&mut self, now: Instant, before: &State, index: Index, key: &Key, new: Hold) -> Check {
        self.seen.taken += 1;
        let highest = self.highest;
        ensure("fences rise", new.fence > highest, || {
            format!("at {index} {key:?} is given {new:?}, and {highest} was given before")
        })?;
        self.highest = new.fence;
        let early = self
            .kept
            .get(key)
            .filter(|(since, delay)| now.since(*since) < true_time(*delay));
        let free = early.is_none() && before.lock_delay(key).is_none();
        ensure("lock delays last", free, || {
            format!("at {index}, {now:?}, {key:?} is given to {new:?}, and was kept: {early:?}")
        })
    }

    /// A session that held a lock has ended.
    fn released(&mut self, now: Instant, before: &State, key: &Key, session: &Session) -> Check {
        let (old, new) = (entry(before, key), entry(&self.state, key));
        let right = match session.def.behavior {
            Behavior::Delete => new.is_none(),
            Behavior::Release => new
                .as_ref()
                .zip(old.as_ref())
                .is_some_and(|(new, old)| new.value == old.value),
        };
        ensure("locks end as their sessions say", right, || {
            format!("{key:?} of {session:?} was {old:?}, and is {new:?}")
        })?;
        let delay = session.def.lock_delay();
        let kept = self.state.lock_delay(key).is_some();
        ensure("lock delays last", kept || delay.is_zero(), || {
            format!("{key:?} of {session:?} is free at once")
        })?;
        if !delay.is_zero() {
            self.kept.insert(key.clone(), (now, delay));
        }
        Ok(())
    }

    /// What is kept from everybody is kept for its time.
    fn delays(&mut self, now: Instant, before: &State) -> Check {
        for (key, _) in before.lock_delays() {
            if self.state.lock_delay(key).is_some() {
                continue;
            }
            self.seen.delays += 1;
            let kept = self.kept.remove(key);
            let over = kept.is_some_and(|(since, delay)| now.since(since) >= true_time(delay));
            ensure("lock delays last", over, || {
                format!("at {now:?} that of {key:?} is over, which is {kept:?}")
            })?;
        }
        Ok(())
    }

    /// An archive has taken the place of everything: all in there has its time anew.
    fn restored(&mut self, now: Instant, promises: &mut Promises, index: Index, action: &Action) -> Check {
        self.seen.restored += 1;
        self.replaced.push(index);
        let archived = if let Action::Restore(RestoreStep::Finish { id, .. }) = action {
            self.restoring.get(id).cloned()
        } else {
            None
        };
        let Some(archived) = archived else {
            let wrong = format!("{action:?}");
            return Err(violation("archives are restored by those who asked", wrong));
        };
        // Their time begins anew, too.
        let anew = |(key, first): (IdempotencyKey, First)| (key, First { at: now, ..first });
        self.firsts = archived.firsts.into_iter().map(anew).collect();
        self.counted = archived.counted;
        let delays = self.state.lock_delays();
        self.kept = delays
            .map(|(key, delay)| (key.clone(), (now, delay.delay)))
            .collect();
        self.sessions = self
            .state
            .sessions()
            .map(|session| (session.def.id, Arc::clone(session)))
            .collect();
        let locks = locks_in(&self.state);
        self.holds = locks.iter().filter_map(|entry| hold_of(entry)).collect();
        let above = self.holds.iter().find(|(_, hold)| hold.fence > self.highest);
        ensure("fences rise", above.is_none(), || {
            format!(
                "an archive brings {above:?}, and none above {} was given",
                self.highest
            )
        })?;
        promises.restored(self.sessions.values(), index, now);
        Ok(())
    }
}
