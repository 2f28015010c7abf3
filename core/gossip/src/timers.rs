//! What is due when, and a clock that stands still while this member does not run.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use lictor_machine::{Deadline, Instant};

/// Deadlines, one for each reason.
#[derive(Debug)]
pub(crate) struct Timers<R> {
    due: BTreeSet<(Instant, R)>,
    at: BTreeMap<R, Instant>,
}

impl<R: Copy + Ord> Timers<R> {
    pub(crate) const fn new() -> Self {
        Self {
            due: BTreeSet::new(),
            at: BTreeMap::new(),
        }
    }

    /// Sets the deadline for a reason; an earlier one for the same is forgotten.
    pub(crate) fn set(&mut self, reason: R, at: Instant) {
        self.cancel(reason);
        self.at.insert(reason, at);
        self.due.insert((at, reason));
    }

    /// Sets the deadline for a reason, unless there is one.
    pub(crate) fn set_if_none(&mut self, reason: R, at: Instant) {
        if !self.at.contains_key(&reason) {
            self.set(reason, at);
        }
    }

    pub(crate) fn is_set(&self, reason: R) -> bool {
        self.at.contains_key(&reason)
    }

    pub(crate) fn cancel(&mut self, reason: R) {
        if let Some(at) = self.at.remove(&reason) {
            self.due.remove(&(at, reason));
        }
    }

    pub(crate) fn first(&self) -> Option<Deadline<R>> {
        let (at, reason) = *self.due.first()?;
        Some(Deadline { at, reason })
    }

    /// Takes the earliest reason that is due.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<R> {
        let (at, reason) = *self.due.first()?;
        if at > now {
            return None;
        }
        self.cancel(reason);
        Some(reason)
    }

    pub(crate) fn clear(&mut self) {
        self.due.clear();
        self.at.clear();
    }
}

/// The time as far as this member lived it. A process that was stopped, or starved, finds answers and contradictions in its inbox and
/// all its deadlines over; if it believed the deadlines it would take the others for dead. So time in which it did not run does
/// not count.
#[derive(Debug)]
pub(crate) struct OwnClock {
    now: Instant,
    lost: Duration,
    /// Nothing was serviced since the last pause: another one does not put deadlines off, or a member that is always late would
    /// never act.
    paused: bool,
}

impl OwnClock {
    pub(crate) const fn new(now: Instant) -> Self {
        Self {
            now,
            lost: Duration::ZERO,
            paused: false,
        }
    }

    /// The own time now.
    pub(crate) const fn now(&self) -> Instant {
        self.now
    }

    /// Goes on to `mono`. `due` is the earliest deadline, in own time. If that is over by more than `tolerance`, the member was not
    /// running: what is lost is left out, and the deadline is put off by `grace`, for what waits in the inbox. True if so.
    pub(crate) fn advance(
        &mut self,
        mono: Instant,
        due: Option<Instant>,
        tolerance: Duration,
        grace: Duration,
    ) -> bool {
        let own = earlier(mono, self.lost).max(self.now);
        let late = due.map_or(Duration::ZERO, |due| own.since(due));
        if late <= tolerance {
            self.now = own;
            return false;
        }
        let due = due.unwrap_or(own);
        let resume = if self.paused { due } else { earlier(due, grace) }.max(self.now);
        self.paused = true;
        self.lost = self.lost.saturating_add(own.since(resume));
        self.now = resume;
        true
    }

    /// A deadline was serviced.
    pub(crate) const fn serviced(&mut self) {
        self.paused = false;
    }

    /// When an own time will be, by the driver's clock.
    pub(crate) fn outside(&self, own: Instant) -> Instant {
        own + self.lost
    }
}

fn earlier(instant: Instant, by: Duration) -> Instant {
    let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
    Instant::from_nanos(instant.as_nanos().saturating_sub(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;
    const AT: fn(u64) -> Instant = Instant::from_millis;

    #[test]
    fn timers_come_in_order_and_one_for_each_reason() {
        let mut timers = Timers::new();
        timers.set('a', AT(30));
        timers.set('b', AT(20));
        timers.set('a', AT(10));
        timers.set_if_none('b', AT(5));
        assert_eq!(timers.first().map(|first| first.reason), Some('a'));
        assert_eq!(timers.pop_due(AT(9)), None);
        assert_eq!(timers.pop_due(AT(20)), Some('a'));
        assert_eq!(timers.pop_due(AT(20)), Some('b'));
        assert_eq!(timers.pop_due(AT(50)), None);
    }

    #[test]
    fn time_in_which_a_member_does_not_run_does_not_count() {
        let mut clock = OwnClock::new(AT(1000));
        assert!(
            !clock.advance(AT(1150), Some(AT(1100)), MS(100), MS(50)),
            "a little late"
        );
        assert_eq!(clock.now(), AT(1150));
        assert!(
            clock.advance(AT(6300), Some(AT(1300)), MS(100), MS(50)),
            "stopped for five seconds"
        );
        assert_eq!(clock.now(), AT(1250), "shortly before what was due");
        assert_eq!(clock.outside(AT(1300)), AT(6350));
        assert!(!clock.advance(AT(6350), Some(AT(1300)), MS(100), MS(50)));
        assert_eq!(clock.now(), AT(1300), "and now it is due");
    }

    #[test]
    fn a_member_that_is_always_late_still_acts() {
        let mut clock = OwnClock::new(AT(0));
        let due = AT(100);
        assert!(clock.advance(AT(500), Some(due), MS(50), MS(20)));
        assert!(clock.now() < due);
        assert!(clock.advance(AT(900), Some(due), MS(50), MS(20)));
        assert_eq!(clock.now(), due, "deadlines are put off once, not for ever");
    }
}
