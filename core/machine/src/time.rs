//! Time as an argument.

use core::fmt;
use core::ops::Add;
use core::time::Duration;

use serde::{Deserialize, Serialize};

/// A point on a monotonic clock: nanoseconds since an origin that the driver chooses. There is no `now()`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Instant(u64);

impl Instant {
    /// The origin.
    pub const ZERO: Self = Self(0);
    /// Later than every other instant; "never".
    pub const MAX: Self = Self(u64::MAX);

    /// The instant `nanos` nanoseconds after the origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The instant `millis` milliseconds after the origin.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time passed since `earlier`; zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Saturates at [`Instant::MAX`].
    fn add(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t+{}.{:06}ms", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// Wall-clock time in milliseconds since the Unix epoch. For stamps that people read; never for safety.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct UnixMillis(pub u64);

/// The time as the driver sees it at one input. Deliberately without an order: compare `mono`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// The monotonic clock. It must go on while the machine is suspended.
    pub mono: Instant,
    /// The wall clock.
    pub wall: UnixMillis,
}

impl Now {
    /// A `Now` whose wall clock is unknown; for tests and for machines that stamp nothing.
    pub const fn at(mono: Instant) -> Self {
        Self {
            mono,
            wall: UnixMillis(0),
        }
    }
}

/// When a machine wants to be woken, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline<R> {
    /// The instant.
    pub at: Instant,
    /// The reason, for logs and tests.
    pub reason: R,
}

/// A clock that never goes back: holds the latest instant seen and counts attempts to go behind it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clamped {
    latest: Instant,
    backward_steps: u64,
}

impl Clamped {
    /// Starts at `now`.
    pub const fn new(now: Instant) -> Self {
        Self {
            latest: now,
            backward_steps: 0,
        }
    }

    /// Advances to `now` if that is later, and returns the latest instant.
    pub fn advance(&mut self, now: Instant) -> Instant {
        if now < self.latest {
            self.backward_steps += 1;
        } else {
            self.latest = now;
        }
        self.latest
    }

    /// The latest instant seen.
    pub const fn latest(&self) -> Instant {
        self.latest
    }

    /// How often the driver's clock went back.
    pub const fn backward_steps(&self) -> u64 {
        self.backward_steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Instant::MAX + Duration::from_secs(1), Instant::MAX);
        assert_eq!(
            Instant::from_millis(1).since(Instant::from_millis(2)),
            Duration::ZERO
        );
        assert_eq!(Instant::from_millis(2) + Duration::MAX, Instant::MAX);
        assert_eq!(
            Instant::from_millis(3).since(Instant::from_millis(1)),
            Duration::from_millis(2)
        );
    }

    #[test]
    fn a_clamped_clock_never_goes_back() {
        let mut clock = Clamped::new(Instant::from_millis(5));
        assert_eq!(clock.advance(Instant::from_millis(3)), Instant::from_millis(5));
        assert_eq!(clock.backward_steps(), 1);
        assert_eq!(clock.advance(Instant::from_millis(7)), Instant::from_millis(7));
    }
}
