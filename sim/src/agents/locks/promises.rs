//! What processes may rely on, by what they were told, in true time: whoever was told that it holds a lock does so until its session has
//! gone without a renewal for its TTL, unless it gave the lock or the session up itself, somebody else ended or deleted it, or the ground
//! of the session was lost. So there are never two of them.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lictor_catalog::{Key, KvEntry, Session, SessionId};
use lictor_machine::{Index, Instant};

use super::witness::true_time;
use crate::oracles::{Check, ensure};

/// What is known of a session.
#[derive(Clone, Copy, Debug)]
struct Promise {
    ttl: Duration,
    /// Where in the log its life began: by being made, or with an archive.
    begun: Index,
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
    key: Key,
    session: SessionId,
    since: Instant,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Promises {
    sessions: BTreeMap<SessionId, Promise>,
    beliefs: Vec<Belief>,
    /// Where in the log a session lost a lock last, but not by its own end.
    freed: BTreeMap<(Key, SessionId), Index>,
    unwanted: BTreeSet<SessionId>,
    /// How often somebody was told that they hold a lock, and could rely on it.
    pub(super) relied: u64,
}

impl Promises {
    /// A session is in the log, as of this index.
    pub(super) fn made(&mut self, id: SessionId, ttl: Duration, begun: Index, now: Instant) {
        let good_until = self.sessions.get(&id).and_then(|promise| promise.good_until);
        let promise = Promise {
            ttl,
            begun,
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
        if by_others {
            self.beliefs.retain(|belief| belief.session != id);
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

    /// A process was told that it holds a lock, which it took at this index: unless the log says already that it lost it after that.
    pub(super) fn told_held(&mut self, key: &Key, session: SessionId, taken: Index, now: Instant) -> Check {
        let freed = self.freed.get(&(key.clone(), session)).copied();
        let begun = self.sessions.get(&session).map(|promise| promise.begun);
        if freed.max(begun).is_some_and(|since| taken < since) {
            return Ok(());
        }
        let belief = Belief {
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

    /// A lock was lost by somebody's request, at this index.
    pub(super) fn freed(&mut self, key: &Key, session: SessionId, index: Index) {
        self.freed.insert((key.clone(), session), index);
        self.gives_back(key, session);
    }

    /// Whoever holds a lock is about to give it back.
    pub(super) fn gives_back(&mut self, key: &Key, session: SessionId) {
        self.beliefs
            .retain(|belief| belief.key != *key || belief.session != session);
    }

    /// As of this index these sessions live, and no others; all have their time anew.
    pub(super) fn restored<'s>(
        &mut self,
        living: impl Iterator<Item = &'s Arc<Session>>,
        index: Index,
        now: Instant,
    ) {
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
            self.made(id, ttl, index, now);
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

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(1);

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn key() -> Key {
        Key::from_static(b"lock/0")
    }

    /// Two sessions, of which both processes know.
    fn two() -> Promises {
        let mut promises = Promises::default();
        for id in [1, 2].map(SessionId) {
            promises.made(id, TTL, Index(10), at(100));
            promises.told_made(id, at(90));
        }
        promises
    }

    fn expire(promises: &mut Promises, id: u128, now: u64) -> Check {
        let mut session = Session {
            def: lictor_catalog::SessionDef::default(),
            create_index: Index(1),
        };
        (session.def.id, session.def.ttl) = (SessionId(id), TTL);
        promises.expired(&session, at(now))
    }

    #[test]
    fn two_may_not_believe_that_they_hold_a_lock() {
        let mut promises = two();
        promises
            .told_held(&key(), SessionId(1), Index(20), at(200))
            .unwrap();
        let other = promises.told_held(&key(), SessionId(2), Index(20), at(1000));
        let property = other.unwrap_err().property;
        assert_eq!(property, "never two who believe that they hold a lock");
        // It was told so, and has to renew its session to go on believing it.
        promises.told_renewed(SessionId(2), at(1050), true).unwrap();
        promises
            .told_held(&key(), SessionId(2), Index(20), at(1100))
            .unwrap();
        assert_eq!(promises.relied, 2);
    }

    #[test]
    fn who_gave_a_lock_back_or_lost_its_session_to_others_holds_it_no_more() {
        let mut promises = two();
        promises
            .told_held(&key(), SessionId(1), Index(20), at(200))
            .unwrap();
        assert!(promises.relies(SessionId(1), &key(), (at(200), at(300))));
        promises.freed(&key(), SessionId(1), Index(21));
        promises
            .told_held(&key(), SessionId(2), Index(22), at(400))
            .unwrap();
        promises.ended(SessionId(2), at(500), true);
        promises
            .told_held(&key(), SessionId(1), Index(24), at(600))
            .unwrap();
        assert!(!promises.relies(SessionId(2), &key(), (at(400), at(600))));
    }

    #[test]
    fn news_of_a_lock_that_comes_after_its_loss_is_no_news() {
        let mut promises = two();
        promises.freed(&key(), SessionId(1), Index(221));
        promises
            .told_held(&key(), SessionId(1), Index(220), at(300))
            .unwrap();
        assert!(!promises.relies(SessionId(1), &key(), (at(300), at(400))));
        promises
            .told_held(&key(), SessionId(2), Index(222), at(400))
            .unwrap();
        promises.freed(&key(), SessionId(2), Index(223));
        promises
            .told_held(&key(), SessionId(1), Index(224), at(500))
            .unwrap();
        assert!(promises.relies(SessionId(1), &key(), (at(500), at(600))));
    }

    #[test]
    fn what_an_archive_replaced_or_somebody_ended_is_believed_no_more() {
        let mut promises = two();
        let lasts = Session {
            def: lictor_catalog::SessionDef {
                id: SessionId(1),
                ..Default::default()
            },
            create_index: Index(1),
        };
        promises
            .told_held(&key(), SessionId(1), Index(20), at(200))
            .unwrap();
        promises.restored([Arc::new(lasts)].iter(), Index(30), at(300));
        assert!(!promises.relies(SessionId(1), &key(), (at(300), at(400))));
        // It is told only now what was so before that.
        promises
            .told_held(&key(), SessionId(1), Index(25), at(400))
            .unwrap();
        assert!(!promises.relies(SessionId(1), &key(), (at(400), at(500))));
        promises
            .told_held(&key(), SessionId(1), Index(31), at(500))
            .unwrap();
        assert!(promises.relies(SessionId(1), &key(), (at(500), at(600))));
        // Whoever ended it, it is another one that is made under its name.
        promises.ended(SessionId(1), at(600), true);
        promises.made(SessionId(1), TTL, Index(40), at(700));
        assert!(!promises.relies(SessionId(1), &key(), (at(700), at(701))));
    }

    #[test]
    fn a_session_may_not_end_before_twice_its_ttl_since_it_was_renewed() {
        let mut promises = two();
        assert!(expire(&mut promises, 1, 2050).is_err());
        expire(&mut promises, 1, 2101).unwrap();
        promises.told_renewed(SessionId(2), at(1000), true).unwrap();
        assert!(expire(&mut promises, 2, 2900).is_err());
        expire(&mut promises, 2, 3001).unwrap();
    }

    #[test]
    fn a_renewal_of_what_has_ended_is_a_lie() {
        let mut promises = two();
        expire(&mut promises, 1, 2500).unwrap();
        // It was on its way, and has not lived long enough after that.
        assert!(promises.told_renewed(SessionId(1), at(2400), true).is_err());
        let late = promises.told_renewed(SessionId(1), at(2600), true);
        assert_eq!(late.unwrap_err().property, "a renewal tells the truth");
        promises.told_renewed(SessionId(1), at(2600), false).unwrap();
    }
}
