//! Waking at a machine's deadline.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_io::Timer;
use lictor_machine::Instant;

use crate::clock::Clock;

/// The reactor's clock may stand still while the system is suspended, and the driver's does not. Looking at the
/// driver's clock this often bounds how late a deadline that passed during a suspension is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// A timer that follows a deadline which moves all the time, mostly to later.
///
/// Arming a reactor's timer costs a system call, so a deadline that moves to later leaves the timer as it is: it
/// then fires early, and is armed again only then. Whether a deadline has passed is the clock's word alone.
#[derive(Debug)]
pub(crate) struct Alarm {
    timer: Timer,
    /// When the timer fires, on the driver's clock. `None`: it is not armed.
    armed: Option<Instant>,
}

impl Alarm {
    pub(crate) fn new() -> Self {
        Self {
            timer: Timer::never(),
            armed: None,
        }
    }

    /// Ready once `deadline` is not later than `clock`'s now; never, without a deadline.
    pub(crate) fn poll_due<C: Clock + ?Sized>(
        &mut self,
        cx: &mut Context<'_>,
        clock: &C,
        deadline: Option<Instant>,
    ) -> Poll<()> {
        let Some(deadline) = deadline else {
            return Poll::Pending;
        };
        loop {
            let now = clock.now().mono;
            if deadline <= now {
                return Poll::Ready(());
            }
            if self.armed.is_none_or(|armed| armed > deadline) {
                let sleep = deadline.since(now).min(LONGEST_SLEEP);
                self.timer.set_after(sleep);
                self.armed = Some(now + sleep);
            }
            ready!(Pin::new(&mut self.timer).poll(cx));
            self.armed = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::task::Waker;

    use futures_lite::future::block_on;
    use lictor_machine::Now;

    use super::*;
    use crate::clock::SystemClock;

    struct Manual(Cell<Instant>);

    impl Clock for Manual {
        fn now(&self) -> Now {
            Now::at(self.0.get())
        }
    }

    fn poll(alarm: &mut Alarm, clock: &Manual, deadline: Option<Instant>) -> bool {
        alarm
            .poll_due(&mut Context::from_waker(Waker::noop()), clock, deadline)
            .is_ready()
    }

    #[test]
    fn only_an_earlier_deadline_arms_the_timer_again() {
        let clock = Manual(Cell::new(Instant::ZERO));
        let mut alarm = Alarm::new();
        assert!(!poll(&mut alarm, &clock, None));
        assert_eq!(alarm.armed, None);
        assert!(!poll(&mut alarm, &clock, Some(Instant::from_millis(500))));
        assert_eq!(alarm.armed, Some(Instant::from_millis(500)));
        assert!(!poll(&mut alarm, &clock, Some(Instant::from_millis(700))));
        assert_eq!(
            alarm.armed,
            Some(Instant::from_millis(500)),
            "later: left as it is"
        );
        assert!(!poll(&mut alarm, &clock, Some(Instant::from_millis(300))));
        assert_eq!(alarm.armed, Some(Instant::from_millis(300)), "earlier: moved");
    }

    #[test]
    fn the_clock_decides_what_is_due() {
        let clock = Manual(Cell::new(Instant::ZERO));
        let mut alarm = Alarm::new();
        let hour = Instant::ZERO + Duration::from_hours(1);
        assert!(!poll(&mut alarm, &clock, Some(hour)));
        assert!(
            alarm.armed <= Some(Instant::ZERO + LONGEST_SLEEP),
            "a long sleep is cut in pieces"
        );
        clock.0.set(hour);
        assert!(poll(&mut alarm, &clock, Some(hour)));
    }

    #[test]
    fn a_timer_that_fires_early_is_armed_for_the_rest() {
        let clock = SystemClock;
        let start = clock.now().mono;
        let (early, late) = (
            start + Duration::from_millis(5),
            start + Duration::from_millis(30),
        );
        let mut alarm = Alarm::new();
        let polled = alarm.poll_due(&mut Context::from_waker(Waker::noop()), &clock, Some(early));
        if polled.is_pending() {
            assert_eq!(alarm.armed, Some(early));
        }
        block_on(poll_fn(|cx| alarm.poll_due(cx, &clock, Some(late))));
        assert!(clock.now().mono >= late);
    }
}
