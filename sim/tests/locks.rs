//! A band of seeds of processes that contend for locks, run with every change; longer ones are run with the binary.

use core::time::Duration;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use lictor_sim::agents::locks::run::{Report, run_options};
use lictor_sim::agents::locks::swarm::{Fault, Options};

/// Runs all of these on all cores and returns what they did together.
fn band(options: &[Options]) -> Report {
    let next = AtomicUsize::new(0);
    let sum = Mutex::new(Report::default());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some(options) = options.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match run_options(options, None) {
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

/// Runs a few seeds with these faults and no others, each with the mean seconds between two of its kind.
fn scenario(faults: &[(Fault, u64)], tune: impl Fn(&mut Options)) -> Report {
    let faults = faults
        .iter()
        .map(|(fault, mean)| (*fault, Duration::from_secs(*mean)));
    let faults: Vec<_> = faults.collect();
    let options = (1..=2).map(|seed| {
        let mut options = Options::of_seed(seed);
        options.faults.clone_from(&faults);
        options.faults_for = Duration::from_secs(25);
        tune(&mut options);
        options
    });
    band(&options.collect::<Vec<_>>())
}

#[test]
fn whoever_holds_a_lock_holds_it_alone_and_changes_under_a_key_happen_once() {
    let options: Vec<_> = (1..=8).map(Options::of_seed).collect();
    let sum = band(&options);
    let seen = sum.seen;
    let sessions = seen.expired > 0 && seen.ended > 10 && seen.lost > 0;
    let locks = seen.taken > 50 && seen.delays > 0 && sum.relied > 50;
    let fences = seen.fenced > 50 && seen.kept_out > 0;
    let once = seen.repeated > 30 && seen.forgotten > 0 && sum.counted > 50;
    let states = seen.restored > 0 && seen.compared > 1000;
    assert!(
        sessions && locks && fences && once && states && sum.elections > 8,
        "{sum:#?}"
    );
}

/// Who is told late that it took a lock has lost it before it hears of it.
#[test]
fn locks_are_deleted_and_sessions_ended_while_their_holders_wait_to_hear_of_them() {
    let report = scenario(&[(Fault::PassBy, 1), (Fault::Stall, 3)], |options| {
        options.weather.delay_max = Duration::from_millis(200);
        options.broken_for = Duration::from_secs(3);
    });
    assert!(report.seen.ended > 8 && report.relied > 8, "{report:#?}");
}

/// An archive brings back locks that are nobody's any more, and counters as they were.
#[test]
fn archives_are_restored_while_their_contenders_die() {
    let report = scenario(&[(Fault::Restore, 4), (Fault::Kill, 4)], |options| {
        options.receipt_ttl = Duration::from_secs(10);
    });
    assert!(report.seen.restored > 2 && report.relied > 10, "{report:#?}");
}

/// The dead lose their locks, however often leaders that could not give up their place go on to lead.
#[test]
fn sessions_end_after_transfers_of_leadership_that_failed() {
    let faults = [(Fault::Transfer, 2), (Fault::Freeze, 3), (Fault::Kill, 5)];
    let report = scenario(&faults, |options| options.broken_for = Duration::from_secs(5));
    assert!(report.seen.expired > 1 && report.elections > 3, "{report:#?}");
}

#[test]
fn a_seed_of_contenders_gives_the_same_run_every_time() {
    let hash = |seed| {
        run_options(&Options::of_seed(seed), None)
            .map(|report| report.hash)
            .unwrap()
    };
    assert_eq!(hash(4), hash(4));
    assert_ne!(hash(4), hash(5));
}
