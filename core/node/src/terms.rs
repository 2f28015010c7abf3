//! The leader's clock, for whatever the replicated state keeps for a time: sessions until they are renewed no more, locks that are kept
//! from others, answers under idempotency keys.
//!
//! Time passes only here, and only in the memory of the leader; what has run out becomes a command. A renewal is no command: nothing of it is
//! written down, so a hundred thousand clients renewing cost the log nothing. What a new leader needs to know is which sessions there
//! are and how long their TTLs are, and that is in the state: it grants every one of them its time anew, in full, as it does for locks
//! and answers. So whatever the elections, nothing ends before its time.
//!
//! **The time that counts for sessions** is that in which a quorum was known to follow the leader, so that it could have answered a renewal:
//! who cannot be heard is not late. It does not count either while this node itself stands still, or hands leadership over. A renewal is
//! answered under the lease only, or after a quorum has confirmed the leader; there is no other leader then that might end the session.
//!
//! After a transfer that failed there is no lease for the rest of the term, since the voter that was told to campaign may still do so. The
//! time goes on all the same: renewals are answered after a quorum, and another leader, should there be one before this one knows,
//! has answered none before what this one proposed was either in its log or lost for ever.
//!
//! A session ends when twice its TTL has passed without a renewal. Clients are promised one; the rest is for what keeps a client, the
//! network or a leader busy.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use core::time::Duration;

use bytes::Bytes;
use lictor_catalog::{
    Action, Key, LockDelay, MAX_ENDED_SESSIONS, MAX_LOCK_DELAYS, Row, RunOut, Session, SessionId, State,
    Table,
};
use lictor_machine::{Index, Instant};
use lictor_raft::Term;

use crate::node::Node;

/// What has run out is looked for this often at most, so that much of it makes few commands.
const TICK: Duration = Duration::from_millis(100);

/// While there are sessions with a TTL, this node looks at its clock this often at least.
const LOOK: Duration = Duration::from_secs(1);

/// A longer time between two looks counts as this: the node, or the machine it runs on, stood still.
const STANDSTILL: Duration = Duration::from_secs(2);

/// How long to wait for a command that ends something before it is proposed again.
const AGAIN: Duration = Duration::from_secs(2);

/// How often, in the time for which answers are kept, it is noted how far the log is, to know later how old an answer is.
const NOTES: u32 = 20;

/// How many bytes of keys a command that ends lock delays may have.
const DELAY_BYTES: usize = 256 << 10;

/// Time in which a quorum followed, since this node leads.
type Served = Duration;

#[derive(Debug, Default)]
pub(crate) struct Terms {
    /// The term in which this node leads and keeps the time.
    term: Option<Term>,
    clock: QuorumClock,
    sessions: BTreeMap<SessionId, Lease>,
    /// When to look at which session, each once. One that was renewed meanwhile is put back then.
    queue: BTreeSet<(Served, SessionId)>,
    delays: BTreeMap<Key, (Index, Instant)>,
    delay_queue: BTreeSet<(Instant, Key)>,
    /// How far the state was, and when.
    notes: VecDeque<(Instant, Index)>,
    note_at: Option<Instant>,
    /// When it was last looked for what has run out.
    ticked: Option<Instant>,
}

/// How long a session lives.
#[derive(Debug)]
struct Lease {
    ttl: Duration,
    /// When it ends, if it is not renewed.
    until: Served,
    /// Where it is in the queue.
    queued: Served,
    /// Its end was proposed.
    ending: bool,
}

/// Counts the time in which a quorum follows.
#[derive(Debug, Default)]
struct QuorumClock {
    served: Served,
    /// When it was last looked at, and until when a quorum was then known to follow.
    seen: Option<(Instant, Instant)>,
}

impl QuorumClock {
    /// Looks at the time. What is between two looks counts as far as a quorum was known to follow at the first.
    fn look(&mut self, now: Instant, confirmed: Option<Instant>) {
        if let Some((seen, until)) = self.seen {
            let counted = now.min(until).since(seen);
            self.served += counted.min(STANDSTILL);
        }
        self.seen = confirmed.map(|until| (now, until));
    }
}

impl Lease {
    fn renew(&mut self, now: Served) {
        // Twice a day at most, so no sum comes near the end.
        self.until = now + self.ttl * 2;
    }
}

impl Terms {
    /// Begins to keep the time of everything in this state, anew and in full.
    fn start(&mut self, term: Term, now: Instant, state: &State) {
        *self = Self {
            term: Some(term),
            note_at: Some(now),
            ..Self::default()
        };
        for session in state.sessions() {
            self.admit(session);
        }
        for (key, delay) in state.lock_delays() {
            self.keep(now, key, delay);
        }
    }

    /// Keeps the time of a session, if it has a TTL. One that is known already stays as it is.
    fn admit(&mut self, session: &Session) {
        let (id, ttl) = (session.def.id, session.def.ttl);
        if ttl.is_zero() || self.sessions.contains_key(&id) {
            return;
        }
        let mut lease = Lease {
            ttl,
            until: Served::ZERO,
            queued: Served::ZERO,
            ending: false,
        };
        lease.renew(self.clock.served);
        lease.queued = lease.until;
        self.queue.insert((lease.queued, id));
        self.sessions.insert(id, lease);
    }

    fn forget(&mut self, id: SessionId) {
        if let Some(lease) = self.sessions.remove(&id) {
            self.queue.remove(&(lease.queued, id));
        }
    }

    /// Keeps the time of a lock that is kept from everybody.
    fn keep(&mut self, now: Instant, key: &Key, delay: LockDelay) {
        if self
            .delays
            .get(key)
            .is_some_and(|(since, _)| *since == delay.since)
        {
            return;
        }
        self.release(key);
        // A slice of a large command must not live as long as the delay.
        let key = Bytes::copy_from_slice(key);
        let until = now + delay.delay;
        self.delays.insert(key.clone(), (delay.since, until));
        self.delay_queue.insert((until, key));
    }

    fn release(&mut self, key: &Key) {
        if let Some((_, until)) = self.delays.remove(key) {
            self.delay_queue.remove(&(until, key.clone()));
        }
    }

    /// Gives a session its time anew; false if its end was proposed, or it is not known.
    fn renew(&mut self, id: SessionId) -> bool {
        let served = self.clock.served;
        let lease = self.sessions.get_mut(&id).filter(|lease| !lease.ending);
        lease.map(|lease| lease.renew(served)).is_some()
    }

    /// Sessions whose time is over, at most as many as fit into one command.
    fn sessions_due(&mut self) -> Vec<SessionId> {
        let served = self.clock.served;
        let mut due = Vec::new();
        while let Some((at, id)) = self.queue.first().copied()
            && at <= served
            && due.len() < MAX_ENDED_SESSIONS
        {
            self.queue.pop_first();
            let Some(lease) = self.sessions.get_mut(&id) else {
                continue;
            };
            if lease.until <= served {
                lease.ending = true;
                lease.queued = served + AGAIN;
                due.push(id);
            } else {
                lease.queued = lease.until;
            }
            self.queue.insert((lease.queued, id));
        }
        due
    }

    /// Locks that were kept from others for long enough, at most as many as fit into one command.
    fn delays_due(&mut self, now: Instant) -> Vec<(Key, Index)> {
        let (mut due, mut bytes) = (Vec::new(), 0);
        while let Some((at, key)) = self.delay_queue.first()
            && *at <= now
            && due.len() < MAX_LOCK_DELAYS
            && (due.is_empty() || bytes + key.len() <= DELAY_BYTES)
        {
            let Some((_, key)) = self.delay_queue.pop_first() else {
                break;
            };
            let Some((since, until)) = self.delays.get_mut(&key) else {
                continue;
            };
            bytes += key.len();
            *until = now + AGAIN;
            self.delay_queue.insert((*until, key.clone()));
            due.push((key, *since));
        }
        due
    }

    /// Up to which revision answers are old enough to be forgotten. Notes how far the state is now.
    fn receipts_due(&mut self, now: Instant, revision: Index, ttl: Duration) -> Option<Index> {
        if self.note_at.is_none_or(|at| at > now) {
            return None;
        }
        self.note_at = Some(now + ttl / NOTES);
        self.notes.push_back((now, revision));
        let mut through = None;
        while self.notes.front().is_some_and(|(at, _)| now.since(*at) >= ttl) {
            through = self.notes.pop_front().map(|(_, revision)| revision);
        }
        through
    }

    /// When to look next.
    pub(crate) fn at(&self) -> Option<Instant> {
        self.term?;
        let seen = self.clock.seen.map(|(seen, _)| seen).or(self.ticked);
        let sessions = self.queue.first().map(|(at, _)| {
            let left = at.saturating_sub(self.clock.served);
            // Without a quorum no time passes, so there is nothing to be early for.
            let left = if self.clock.seen.is_some() {
                left.min(LOOK)
            } else {
                LOOK
            };
            seen.map_or(Instant::ZERO, |seen| seen + left)
        });
        let delays = self.delay_queue.first().map(|(at, _)| *at);
        let first = [sessions, delays, self.note_at].into_iter().flatten().min()?;
        Some(self.ticked.map_or(first, |ticked| first.max(ticked + TICK)))
    }
}

#[cfg(feature = "sabotage")]
impl Terms {
    /// Makes a mistake with what was just begun.
    fn start_wrongly(&mut self, mistake: Option<crate::Sabotage>, now: Instant, state: &State) {
        match mistake {
            Some(crate::Sabotage::ShortenTerms) => {
                self.queue.clear();
                for (id, lease) in &mut self.sessions {
                    lease.until /= 4;
                    lease.queued = lease.until;
                    self.queue.insert((lease.queued, *id));
                }
            }
            Some(crate::Sabotage::ForgetLockDelays) => {
                for (key, (_, until)) in &mut self.delays {
                    self.delay_queue.remove(&(*until, key.clone()));
                    *until = now;
                    self.delay_queue.insert((now, key.clone()));
                }
            }
            Some(crate::Sabotage::ForgetReceipts) => {
                self.notes.push_back((Instant::ZERO, state.revision()));
                self.note_at = Some(now);
            }
            Some(
                crate::Sabotage::IgnoreRenewals
                | crate::Sabotage::RenewWithoutQuorum
                | crate::Sabotage::RepeatEverything,
            )
            | None => {}
        }
    }
}

impl Node {
    /// Commands were applied that changed these rows: keeps the time of what is new in the state, or begins to, if this node has come to
    /// lead.
    pub(crate) fn keep_terms(&mut self, rows: &[Row]) {
        let now = self.now();
        if !self.leads_up_to_date() {
            self.terms = Terms::default();
            return;
        }
        let term = self.raft.term();
        if self.terms.term != Some(term) {
            self.terms.start(term, now, &self.state);
            #[cfg(feature = "sabotage")]
            self.terms.start_wrongly(self.config.sabotage, now, &self.state);
            return;
        }
        // What is new has its time from now on, not from the last look.
        self.look_at_quorum();
        for row in rows {
            match row.table {
                Table::Sessions => {
                    let Some(id) = SessionId::of_row(row) else {
                        continue;
                    };
                    match self.state.session(id) {
                        Some(session) => self.terms.admit(session),
                        None => self.terms.forget(id),
                    }
                }
                Table::LockDelays => match self.state.lock_delay(&row.key) {
                    Some(delay) => self.terms.keep(now, &row.key, delay),
                    None => self.terms.release(&row.key),
                },
                Table::Kv
                | Table::KvTombstones
                | Table::Meta
                | Table::Settings
                | Table::Coordinates
                | Table::Nodes
                | Table::Services
                | Table::Checks
                | Table::Marks
                | Table::SessionMarks
                | Table::Receipts
                | Table::PreparedQueries
                | Table::Staged => {}
            }
        }
    }

    /// The state was replaced as a whole, or another leads: what was known of its times is void.
    pub(crate) fn drop_terms(&mut self) {
        self.terms = Terms::default();
    }

    /// Takes note of the time, and of the quorum.
    pub(crate) fn look_at_quorum(&mut self) {
        if self.terms.term.is_some() {
            let (now, confirmed) = (self.now(), self.raft.confirmed_until());
            self.terms.clock.look(now, confirmed);
        }
    }

    /// Renews a session, on a leader that knows itself to be one. `None` if there is no such session, or it ends.
    pub(crate) fn renew_session(&mut self, id: SessionId) -> Option<Arc<Session>> {
        self.look_at_quorum();
        let session = self.state.session(id)?;
        #[cfg(feature = "sabotage")]
        if self.sabotaged(crate::Sabotage::IgnoreRenewals) {
            return Some(Arc::clone(session));
        }
        if session.def.ttl.is_zero() || self.terms.renew(id) {
            return Some(Arc::clone(session));
        }
        None
    }

    /// Ends what has run out.
    pub(crate) fn look_for_ends(&mut self) {
        self.look_at_quorum();
        let now = self.now();
        self.terms.ticked = Some(now);
        let sessions = self.terms.sessions_due();
        if !sessions.is_empty() {
            self.run_out(RunOut::Sessions(sessions));
        }
        let delays = self.terms.delays_due(now);
        if !delays.is_empty() {
            self.run_out(RunOut::LockDelays(delays));
        }
        let revision = self.state.revision();
        let through = self.terms.receipts_due(now, revision, self.config.receipt_ttl);
        if let Some(through) = through.filter(|through| self.state.has_receipts_through(*through)) {
            self.run_out(RunOut::Receipts(through));
        }
    }

    /// The last step of a restore may be in the log already, before this command. So it says which state it is about.
    fn run_out(&mut self, what: RunOut) {
        let era = self.state.era();
        self.do_duty(Action::RunOut { era, what });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn served(looks: &[(u64, Option<u64>)]) -> u128 {
        let mut clock = QuorumClock::default();
        for (now, confirmed) in looks {
            clock.look(at(*now), confirmed.map(at));
        }
        clock.served.as_millis()
    }

    #[test]
    fn only_time_with_a_quorum_counts() {
        assert_eq!(
            served(&[(1000, Some(1500)), (1400, Some(1900)), (1800, None)]),
            800
        );
        // It ended, and was had again later.
        assert_eq!(
            served(&[(1000, Some(1500)), (1900, Some(2400)), (2000, None)]),
            600
        );
        // There was none for a while.
        assert_eq!(served(&[(1000, None), (1900, Some(2400)), (2000, None)]), 100);
        // It ended before it was seen.
        assert_eq!(served(&[(1000, Some(900)), (1900, None)]), 0);
    }

    #[test]
    fn a_standstill_counts_little() {
        let never = Instant::MAX.as_nanos() / 1_000_000;
        assert_eq!(served(&[(1000, Some(never)), (3_601_000, None)]), 2000);
    }

    fn lease(served: u64, id: u128) -> Terms {
        let mut terms = Terms {
            term: Some(Term(1)),
            ..Terms::default()
        };
        terms.clock.served = Duration::from_millis(served);
        let mut session = Session {
            def: lictor_catalog::SessionDef::default(),
            create_index: Index(1),
        };
        session.def.id = SessionId(id);
        session.def.ttl = Duration::from_secs(10);
        terms.admit(&session);
        terms
    }

    #[test]
    fn what_is_about_to_end_is_renewed_no_more_and_ended_again_if_that_got_lost() {
        let mut terms = lease(5000, 7);
        terms.clock.served = Duration::from_millis(24_999);
        assert!(terms.sessions_due().is_empty());
        terms.clock.served = Duration::from_secs(25);
        assert_eq!(terms.sessions_due(), [SessionId(7)]);
        assert!(!terms.renew(SessionId(7)));
        assert!(terms.sessions_due().is_empty());
        terms.clock.served += AGAIN;
        assert_eq!(terms.sessions_due(), [SessionId(7)]);
        terms.forget(SessionId(7));
        terms.clock.served += AGAIN;
        assert!(terms.sessions_due().is_empty());
        assert!(terms.queue.is_empty() && terms.sessions.is_empty());
    }

    #[test]
    fn a_renewed_session_is_put_back() {
        let mut terms = lease(0, 7);
        terms.clock.served = Duration::from_secs(19);
        assert!(terms.renew(SessionId(7)));
        assert!(!terms.renew(SessionId(8)));
        terms.clock.served = Duration::from_secs(38);
        assert!(terms.sessions_due().is_empty());
        assert_eq!(terms.queue.len(), 1);
        terms.clock.served = Duration::from_secs(39);
        assert_eq!(terms.sessions_due(), [SessionId(7)]);
    }

    #[test]
    fn many_delays_go_out_in_parts() {
        let mut terms = Terms::default();
        let delay = LockDelay {
            since: Index(3),
            delay: Duration::from_secs(1),
        };
        let long = |number: u8| Bytes::from(vec![number; DELAY_BYTES / 2]);
        for number in 0..4 {
            terms.keep(at(0), &long(number), delay);
            terms.keep(at(500), &long(number), delay);
        }
        assert!(terms.delays_due(at(999)).is_empty());
        assert_eq!(terms.delays_due(at(1000)).len(), 2);
        assert_eq!(terms.delays_due(at(1000)).len(), 2);
        assert!(terms.delays_due(at(1000)).is_empty());
        terms.release(&long(0));
        let again: Vec<_> =
            std::iter::from_fn(|| Some(terms.delays_due(at(3000))).filter(|due| !due.is_empty()))
                .flatten()
                .collect();
        assert_eq!(again.len(), 3);
        for (key, since) in again {
            assert_eq!(since, Index(3));
            terms.release(&key);
        }
        assert!(terms.delays.is_empty() && terms.delay_queue.is_empty());
    }
}
