//! Days of churn and a rolling restart, small enough to be run with every change; a month, and a thousand agents, are run with the binary.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use lictor_sim::agents::rolling;
use lictor_sim::agents::run::{Report, run_options};
use lictor_sim::agents::swarm::Options;

/// Runs the seeds on all cores and returns what they did together.
fn band(seeds: core::ops::Range<u64>, days: u32) -> Report {
    let next = AtomicU64::new(seeds.start);
    let sum = Mutex::new(Report::default());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    match run_options(&Options::churn(seed, days), None) {
                        Ok(report) => sum
                            .lock()
                            .expect("no run panics while it holds the sum")
                            .add(&report),
                        Err(failure) => panic!("{failure}"),
                    }
                }
            });
        }
    });
    sum.into_inner().expect("no run panics while it holds the sum")
}

#[test]
fn after_days_of_churn_the_catalog_is_the_truth() {
    let sum = band(1..4, 1);
    let tally = sum.tally;
    let enough = sum.services > 30 && sum.seen > 800 && sum.outside > 40;
    assert!(enough && sum.elections > 8, "{sum:?}");
    let enough = tally.done > 60 && tally.flips > 60 && tally.removed > 5 && tally.sync_failed > 10;
    assert!(enough, "{tally:?}");
}

#[test]
fn nobody_notices_a_rolling_restart() {
    let report = rolling::run_options(rolling::Options::new(1, 25, 10), None);
    let report = report.unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!((report.restarts, report.services), (28, 250));
}
