//! Logical time (Lamport 1978): what was said later has a higher time, if its speaker had heard the earlier.

use core::fmt;

use serde::{Deserialize, Serialize};

/// A moment of a logical clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct LamportTime(pub u64);

impl fmt::Display for LamportTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The furthest that one message may advance a clock.
///
/// Each tick of a clock is a message that somebody sent to everybody, so no member can miss four thousand million of them and
/// still be in touch. And a liar needs as many lies again to bring a clock to [`MAX_TIME`].
pub const MAX_JUMP: u64 = 1 << 32;

/// The highest time that a member takes over when it joins. Above it there is room for as many ticks again and more, so that a
/// clock never ends.
pub const MAX_TIME: LamportTime = LamportTime(1 << 62);

/// A time lies too far ahead of this member's to be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the Lamport time {time} lies too far ahead of {clock}")]
pub struct Jump {
    /// The time that was said.
    pub time: LamportTime,
    /// What the clock showed, and still shows.
    pub clock: LamportTime,
}

/// A logical clock: shows the highest time that was seen or given out.
#[derive(Clone, Copy, Debug, Default)]
pub struct LamportClock {
    now: LamportTime,
}

impl LamportClock {
    /// A clock that shows `now`.
    pub fn new(now: LamportTime) -> Self {
        Self {
            now: now.min(MAX_TIME),
        }
    }

    /// What it shows.
    pub const fn now(&self) -> LamportTime {
        self.now
    }

    /// The time of something new: one more than all that was seen.
    pub const fn increment(&mut self) -> LamportTime {
        self.now = LamportTime(self.now.0.saturating_add(1));
        self.now
    }

    /// Takes note of a time that somebody said.
    ///
    /// # Errors
    /// It is more than [`MAX_JUMP`] ahead; the clock is as before.
    pub const fn witness(&mut self, time: LamportTime) -> Result<(), Jump> {
        if time.0 > self.now.0.saturating_add(MAX_JUMP) {
            return Err(Jump {
                time,
                clock: self.now,
            });
        }
        self.advance(time);
        Ok(())
    }

    /// Takes over the time of a pool that this member joins. A clock that shows nothing yet may go as far as [`MAX_TIME`]: how old the
    /// pool is, the member cannot know.
    ///
    /// # Errors
    /// It is too far ahead; the clock is as before.
    pub const fn adopt(&mut self, time: LamportTime) -> Result<(), Jump> {
        if self.now.0 == 0 && time.0 <= MAX_TIME.0 {
            self.advance(time);
            return Ok(());
        }
        self.witness(time)
    }

    const fn advance(&mut self, time: LamportTime) {
        if time.0 > self.now.0 {
            self.now = time;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_is_higher() {
        let (mut a, mut b) = (LamportClock::default(), LamportClock::default());
        let first = a.increment();
        b.witness(first).unwrap();
        assert!(b.increment() > first);
        b.witness(first).unwrap();
        assert_eq!(b.now(), LamportTime(2), "an old time changes nothing");
    }

    #[test]
    fn nobody_pushes_a_clock_far_ahead() {
        let mut clock = LamportClock::new(LamportTime(7));
        let far = LamportTime(7 + MAX_JUMP + 1);
        let refused = Jump {
            time: far,
            clock: LamportTime(7),
        };
        assert_eq!(clock.witness(far), Err(refused));
        assert_eq!(clock.adopt(far), Err(refused), "it knows better");
        assert_eq!(clock.now(), LamportTime(7));
        clock.witness(LamportTime(7 + MAX_JUMP)).unwrap();
        assert_eq!(clock.increment(), LamportTime(8 + MAX_JUMP));
    }

    #[test]
    fn a_newcomer_takes_over_what_the_pool_has() {
        let mut clock = LamportClock::default();
        assert!(clock.witness(MAX_TIME).is_err(), "not from a stranger");
        assert!(clock.adopt(LamportTime(MAX_TIME.0 + 1)).is_err());
        clock.adopt(MAX_TIME).unwrap();
        assert_eq!(clock.increment(), LamportTime(MAX_TIME.0 + 1));
    }

    #[test]
    fn a_clock_never_overflows() {
        let mut clock = LamportClock::new(LamportTime(u64::MAX));
        assert_eq!(clock.now(), MAX_TIME, "also what is remembered has a bound");
        clock.now = LamportTime(u64::MAX - 1);
        clock.increment();
        assert_eq!(clock.increment(), LamportTime(u64::MAX));
        assert_eq!(clock.witness(LamportTime(u64::MAX)), Ok(()));
    }
}
