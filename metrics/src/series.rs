//! What is counted under one name: by intervals, and since the start.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::quantiles::Buckets;
use crate::report::{Quantile, Summary, Total};

/// How long an interval is.
pub const INTERVAL: Duration = Duration::from_secs(10);

/// Values under one name.
#[derive(Debug, Default)]
pub(crate) struct Recorded(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Which interval is on, counted from 1970.
    interval: u64,
    current: Window,
    last: Window,
    total: Total,
}

#[derive(Debug, Default)]
struct Window {
    summary: Summary,
    /// Of what is measured, from the first value on.
    buckets: Option<Buckets>,
}

impl Window {
    fn clear(&mut self) {
        self.summary = Summary::default();
        if let Some(buckets) = &mut self.buckets {
            buckets.clear();
        }
    }
}

/// What is known of a series at one moment.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) current: Summary,
    pub(crate) last: Summary,
    pub(crate) total: Total,
    pub(crate) quantiles: Vec<Quantile>,
}

impl Recorded {
    /// Adds to a count, in the interval with this number.
    pub(crate) fn count(&self, interval: u64, value: f64) {
        self.at(interval).add(value, 1);
    }

    /// Adds a value that was measured `times` times, in the interval with this number.
    pub(crate) fn measure(&self, interval: u64, value: f64, times: u32) {
        let mut state = self.at(interval);
        state.add(value, times);
        state.current.buckets.get_or_insert_default().add(value, times);
    }

    /// What is known while the interval with this number is on.
    pub(crate) fn see(&self, interval: u64) -> Seen {
        let state = self.at(interval);
        let quantiles = match (&state.current.buckets, &state.last.buckets) {
            (Some(current), Some(last)) => current.quantiles(last),
            (Some(only), None) | (None, Some(only)) => only.quantiles(&Buckets::default()),
            (None, None) => Vec::new(),
        };
        Seen {
            current: state.current.summary,
            last: state.last.summary,
            total: state.total,
            quantiles,
        }
    }

    /// The state, with the windows of this interval. A clock that was set makes a new interval of what comes then.
    fn at(&self, interval: u64) -> MutexGuard<'_, State> {
        // Sums are sound after any step, so a poisoned lock means nothing.
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *guard;
        if state.interval != interval {
            std::mem::swap(&mut state.current, &mut state.last);
            state.current.clear();
            if state.interval.checked_add(1) != Some(interval) {
                state.last.clear();
            }
            state.interval = interval;
        }
        guard
    }
}

impl State {
    fn add(&mut self, value: f64, times: u32) {
        self.current.summary.add(value, times);
        self.total.count += u64::from(times);
        self.total.sum += value * f64::from(times);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_follow_each_other() {
        let recorded = Recorded::default();
        recorded.count(7, 2.0);
        recorded.count(7, 3.0);
        let seen = recorded.see(7);
        assert_eq!((seen.current.sum, seen.last.count), (5.0, 0));
        recorded.count(8, 1.0);
        let seen = recorded.see(8);
        assert_eq!((seen.current.sum, seen.last.sum, seen.last.max), (1.0, 5.0, 3.0));
        let seen = recorded.see(9);
        assert_eq!((seen.current.count, seen.last.sum), (0, 1.0));
        recorded.count(20, 1.0);
        let seen = recorded.see(20);
        assert_eq!((seen.last.count, seen.total.count, seen.total.sum), (0, 4, 7.0));
        let before = recorded.see(3);
        assert_eq!(
            (before.current.count, before.last.count, before.total.count),
            (0, 0, 4)
        );
    }

    #[test]
    fn quantiles_are_of_this_interval_and_the_one_before() {
        let recorded = Recorded::default();
        assert!(recorded.see(1).quantiles.is_empty());
        let median = |interval| {
            let quantiles = recorded.see(interval).quantiles;
            quantiles.first().map(|median| median.value.round())
        };
        recorded.measure(1, 100.0, 1);
        assert_eq!(median(1), Some(100.0));
        assert_eq!(median(2), Some(100.0));
        recorded.measure(2, 1.0, 2);
        assert_eq!(median(2), Some(1.0));
        assert_eq!(median(3), Some(1.0));
        assert_eq!(median(4), None);
    }
}
