//! What processes may rely on, by what they were told, in true time: whoever was told that it holds a lock does so until its session has
//! gone without a renewal for its TTL, unless it gave the lock or the session up itself, somebody else ended or deleted it, or the ground
//! of the session was lost. So there are never two of them.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lictor_catalog::{Key, KvEntry, Session, SessionId};
use lictor_machine::Instant;

use super::witness::true_time;
use crate::oracles::{Check, ensure};

/// What is known of a session.
#[derive(Clone, Copy, Debug)]
struct Promise {
    ttl: Duration,
    /// When it was made, or renewed last, as far as anybody was told: not later than the leader did so.
    renewed: Instant,
    /// Until when whoever made it may rely on it; `None`: it was not told that it was made.
    good_until: Option<Instant>,
    /// When it ended; and whether that was by something else than its time.
    ended: Option<(Instant, bool)>,
    /// Somebody wants it to end.
    unwanted: bool,
}

/// Somebody was told that they hold a lock.
#[derive(Clone, Debug)]
struct Belief {
    who: usize,
    key: Key,
    session: SessionId,
    since: Instant,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Promises {
    sessions: BTreeMap<SessionId, Promise>,
    beliefs: Vec<Belief>,
    unwanted: BTreeSet<SessionId>,
    /// How often somebody was told that they hold a lock, and could rely on it.
    pub(super) relied: u64,
}

impl Promises {
    /// A session is in the log.
    pub(super) fn made(&mut self, id: SessionId, ttl: Duration, now: Instant) {
        let good_until = self.sessions.get(&id).and_then(|promise| promise.good_until);
        let promise = Promise {
            ttl,
            renewed: now,
            good_until,
            ended: None,
            unwanted: self.unwanted.contains(&id),
        };
        self.sessions.insert(id, promise);
    }

    /// A process asks for the end of a session.
    pub(super) fn unwant(&mut self, id: SessionId) {
        self.unwanted.insert(id);
        if let Some(promise) = self.sessions.get_mut(&id) {
            promise.unwanted = true;
        }
    }

    /// Whether anybody ever asked for its end.
    pub(super) fn is_unwanted(&self, id: SessionId) -> bool {
        self.unwanted.contains(&id)
    }

    /// The process that asked for a session at this time was told that it was made.
    pub(super) fn told_made(&mut self, id: SessionId, asked: Instant) {
        if let Some(promise) = self.sessions.get_mut(&id) {
            promise.good_until = promise.good_until.max(Some(until(asked, promise.ttl)));
        }
    }

    /// The process that asked for a session to be renewed at this time was told whether it was.
    pub(super) fn told_renewed(&mut self, id: SessionId, asked: Instant, renewed: bool) -> Check {
        let Some(promise) = self.sessions.get_mut(&id) else {
            return ensure("a renewal tells the truth", !renewed, || {
                format!("{id} was renewed, and never made")
            });
        };
        if !renewed {
            return Ok(());
        }
        promise.renewed = promise.renewed.max(asked);
        promise.good_until = promise.good_until.max(Some(until(asked, promise.ttl)));
        let promise = *promise;
        let Some((ended, by_others)) = promise.ended else {
            return Ok(());
        };
        ensure("a renewal tells the truth", ended >= asked, || {
            format!("{id} ended at {ended:?}, and was renewed at {asked:?} or later")
        })?;
        let in_time = by_others || ended.since(asked) >= lifetime(promise.ttl);
        ensure("sessions live as long as promised", in_time, || {
            format!("{id} ended at {ended:?}, and was renewed at {asked:?} or later: {promise:?}")
        })
    }

    /// A session has ended, by something else than its time if `by_others`.
    pub(super) fn ended(&mut self, id: SessionId, now: Instant, by_others: bool) {
        if let Some(promise) = self.sessions.get_mut(&id) {
            promise.ended = Some((now, by_others));
        }
    }

    /// A session has ended since its time was over.
    pub(super) fn expired(&mut self, session: &Session, now: Instant) -> Check {
        let id = session.def.id;
        let promise = self.sessions.get(&id).copied();
        let lived = promise.map(|promise| now.since(promise.renewed));
        let ttl = session.def.ttl;
        let in_time = !ttl.is_zero() && lived.is_some_and(|lived| lived >= lifetime(ttl));
        ensure("sessions live as long as promised", in_time, || {
            format!("{id} of {ttl:?} ends {lived:?} after it was renewed: {promise:?}")
        })?;
        self.ended(id, now, false);
        Ok(())
    }

    /// A process was told that it holds a lock.
    pub(super) fn told_held(&mut self, who: usize, key: &Key, session: SessionId, now: Instant) -> Check {
        let belief = Belief {
            who,
            key: key.clone(),
            session,
            since: now,
        };
        if !self.is_good(&belief, now) {
            return Ok(());
        }
        let (sessions, beliefs) = (&self.sessions, &self.beliefs);
        let mut others = beliefs
            .iter()
            .filter(|other| other.key == *key && is_good(sessions, other, now));
        let (mine, other) = others
            .clone()
            .partition::<Vec<_>, _>(|other| other.session == session);
        ensure(
            "never two who believe that they hold a lock",
            other.is_empty(),
            || format!("at {now:?} {belief:?} was told so, and {:?} was", others.next()),
        )?;
        self.relied += 1;
        if mine.is_empty() {
            self.beliefs.push(belief);
        }
        self.beliefs.retain(|belief| is_good(&self.sessions, belief, now));
        Ok(())
    }

    /// A process that asked what a key holds is told so.
    pub(super) fn told_entry(
        &self,
        session: SessionId,
        key: &Key,
        entry: Option<&Arc<KvEntry>>,
        (asked, now): (Instant, Instant),
    ) -> Check {
        let holder = entry.and_then(|entry| entry.session());
        let right = !self.relies(session, key, (asked, now)) || holder == Some(&*session.to_string());
        ensure("readers see who holds a lock", right, || {
            format!("{session} holds {key:?}, and reads {entry:?}")
        })
    }

    /// Whether, from when it asked until it was answered, a session's process could rely on holding a lock.
    pub(super) fn relies(&self, session: SessionId, key: &Key, (asked, now): (Instant, Instant)) -> bool {
        let mut beliefs = self.beliefs.iter();
        beliefs.any(|belief| {
            belief.session == session
                && belief.key == *key
                && belief.since <= asked
                && self.is_good(belief, now)
        })
    }

    /// A process gives a lock back, or is about to.
    pub(super) fn gives_up(&mut self, key: &Key, session: SessionId) {
        self.freed(key, session);
    }

    /// A lock was lost by somebody's request.
    pub(super) fn freed(&mut self, key: &Key, session: SessionId) {
        self.beliefs
            .retain(|belief| belief.key != *key || belief.session != session);
    }

    /// These sessions live, and no others; all have their time anew.
    pub(super) fn restored<'s>(&mut self, living: impl Iterator<Item = &'s Arc<Session>>, now: Instant) {
        self.beliefs.clear();
        for promise in self
            .sessions
            .values_mut()
            .filter(|promise| promise.ended.is_none())
        {
            promise.ended = Some((now, true));
        }
        for session in living {
            let (id, ttl) = (session.def.id, session.def.ttl);
            self.made(id, ttl, now);
        }
    }

    fn is_good(&self, belief: &Belief, now: Instant) -> bool {
        is_good(&self.sessions, belief, now)
    }
}

fn is_good(sessions: &BTreeMap<SessionId, Promise>, belief: &Belief, now: Instant) -> bool {
    sessions.get(&belief.session).is_some_and(|promise| {
        let by_others = promise.ended.is_some_and(|(_, by_others)| by_others);
        !by_others && promise.good_until.is_some_and(|until| now < until)
    })
}

/// How long a session lives at least without being renewed.
fn lifetime(ttl: Duration) -> Duration {
    true_time(ttl * 2)
}

fn until(asked: Instant, ttl: Duration) -> Instant {
    if ttl.is_zero() { Instant::MAX } else { asked + ttl }
}
