//! Where a driver gets the time from.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use lictor_machine::{Instant, Now, UnixMillis};

/// Tells a driver the time.
pub trait Clock {
    /// The time now. The monotonic part never goes back, and goes on while the system is suspended.
    fn now(&self) -> Now;
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> Now {
        (**self).now()
    }
}

/// The system's clocks. All values share one origin per process, so instants of different machines in it compare.
///
/// On Linux, Android, Fuchsia, OpenBSD and Apple's systems the monotonic clock goes on while the system is suspended.
/// On others the standard library decides.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Now {
        Now {
            mono: monotonic(),
            wall: wall(),
        }
    }
}

#[cfg(any(
    target_os = "linux",
    target_os = "android",
    target_os = "fuchsia",
    target_os = "openbsd",
    target_vendor = "apple"
))]
fn monotonic() -> Instant {
    use rustix::time::{ClockId, clock_gettime};

    // Apple's CLOCK_MONOTONIC counts the time asleep; elsewhere that is CLOCK_BOOTTIME.
    #[cfg(target_vendor = "apple")]
    const CLOCK: ClockId = ClockId::Monotonic;
    #[cfg(not(target_vendor = "apple"))]
    const CLOCK: ClockId = ClockId::Boottime;

    let time = clock_gettime(CLOCK);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    Instant::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_os = "fuchsia",
    target_os = "openbsd",
    target_vendor = "apple"
)))]
fn monotonic() -> Instant {
    static ORIGIN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    Instant::ZERO + ORIGIN.get_or_init(std::time::Instant::now).elapsed()
}

/// A clock set before 1970 reads as 1970.
fn wall() -> UnixMillis {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_never_goes_back_and_moves() {
        let start = SystemClock.now().mono;
        let mut last = start;
        let give_up = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while last == start {
            assert!(std::time::Instant::now() < give_up, "the clock stands still");
            let now = SystemClock.now().mono;
            assert!(now >= last);
            last = now;
        }
    }

    #[test]
    fn every_instance_and_thread_shares_the_origin() {
        let before = SystemClock.now().mono;
        let other = std::thread::spawn(|| SystemClock.now().mono).join().unwrap();
        let after = SystemClock.now().mono;
        assert!(before <= other && other <= after);
    }

    #[test]
    fn the_wall_clock_is_in_milliseconds_since_1970() {
        let before = wall().0;
        let expected = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        assert!(u128::from(before) <= expected);
        assert!(u128::from(before) + 60_000 > expected);
    }
}
