//! The clocks of simulated servers: one true time, and for each server a monotonic clock that runs a little fast.

use lictor_machine::{Instant, Now, UnixMillis};

/// The wall clock at the beginning of simulated time: 2030-01-01, in milliseconds since the Unix epoch.
const WALL_ORIGIN_MS: u64 = 1_893_456_000_000;

/// One server's view of time.
///
/// Its monotonic clock begins at zero at each boot and runs between 0 and some bound of thousandths faster than
/// true time, so that any two clocks differ in rate by at most that bound. Its wall clock may be stepped at will.
#[derive(Clone, Debug)]
pub struct LocalClock {
    since: Instant,
    mono_then: u64,
    drift_permille: u32,
    wall_offset_ms: i64,
}

impl LocalClock {
    /// A clock that reads zero at `now`, of true time.
    pub const fn start(now: Instant, drift_permille: u32) -> Self {
        Self {
            since: now,
            mono_then: 0,
            drift_permille,
            wall_offset_ms: 0,
        }
    }

    /// What the server sees when true time is `now`.
    pub fn now(&self, now: Instant) -> Now {
        let wall = WALL_ORIGIN_MS + now.as_nanos() / 1_000_000;
        Now {
            mono: self.mono(now),
            wall: UnixMillis(wall.saturating_add_signed(self.wall_offset_ms)),
        }
    }

    /// The monotonic clock at true time `now`.
    pub fn mono(&self, now: Instant) -> Instant {
        Instant::from_nanos(
            self.mono_then
                .saturating_add(self.ticks(nanos_since(now, self.since))),
        )
    }

    /// The earliest true time at which the monotonic clock reads `mono` or more.
    pub fn true_time(&self, mono: Instant) -> Instant {
        if mono == Instant::MAX {
            return Instant::MAX;
        }
        let wanted = mono.as_nanos().saturating_sub(self.mono_then);
        let rate = 1000 + u128::from(self.drift_permille);
        let guess = u128::from(wanted) * 1000 / rate;
        let mut elapsed = u64::try_from(guess).unwrap_or(u64::MAX);
        while self.ticks(elapsed) < wanted {
            elapsed += 1;
        }
        Instant::from_nanos(self.since.as_nanos().saturating_add(elapsed))
    }

    /// From `now` on the clock runs at another rate. It does not jump.
    pub fn set_drift(&mut self, now: Instant, drift_permille: u32) {
        self.mono_then = self.mono(now).as_nanos();
        self.since = now;
        self.drift_permille = drift_permille;
    }

    /// Somebody sets the wall clock.
    pub fn step_wall(&mut self, by_ms: i64) {
        self.wall_offset_ms = self.wall_offset_ms.saturating_add(by_ms);
    }

    /// How far the clock runs in a true span.
    fn ticks(&self, nanos: u64) -> u64 {
        let extra = u128::from(nanos) * u128::from(self.drift_permille) / 1000;
        nanos.saturating_add(u64::try_from(extra).unwrap_or(u64::MAX))
    }
}

fn nanos_since(now: Instant, then: Instant) -> u64 {
    now.as_nanos().saturating_sub(then.as_nanos())
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use lictor_machine::Rng;

    use super::*;

    #[test]
    fn true_time_is_the_earliest_at_which_the_clock_has_come_that_far() {
        let mut rng = Rng::new(1);
        for _ in 0..2000 {
            let begin = Instant::from_nanos(rng.below(1 << 40));
            let mut clock = LocalClock::start(begin, rng.below(200) as u32);
            clock.set_drift(
                begin + Duration::from_nanos(rng.below(1 << 36)),
                rng.below(200) as u32,
            );
            let mono = Instant::from_nanos(clock.mono_then + rng.below(1 << 36));
            let at = clock.true_time(mono);
            assert!(clock.mono(at) >= mono);
            if at > clock.since {
                assert!(clock.mono(Instant::from_nanos(at.as_nanos() - 1)) < mono);
            }
        }
        assert_eq!(
            LocalClock::start(Instant::ZERO, 7).true_time(Instant::MAX),
            Instant::MAX
        );
    }

    #[test]
    fn a_clock_never_jumps_when_its_rate_changes_and_its_wall_clock_does_when_stepped() {
        let mut clock = LocalClock::start(Instant::from_millis(100), 50);
        let then = Instant::from_millis(1100);
        assert_eq!(clock.mono(then), Instant::from_millis(1050));
        clock.set_drift(then, 0);
        assert_eq!(clock.mono(then), Instant::from_millis(1050));
        assert_eq!(
            clock.mono(then + Duration::from_secs(1)),
            Instant::from_millis(2050)
        );
        let before = clock.now(then).wall;
        clock.step_wall(-5000);
        assert_eq!(clock.now(then).wall.0, before.0 - 5000);
        assert_eq!(clock.now(then).mono, Instant::from_millis(1050));
    }
}
