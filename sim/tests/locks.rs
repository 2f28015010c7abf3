//! A band of seeds of processes that contend for locks, run with every change; longer ones are run with the binary.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use lictor_sim::agents::locks::run::{Report, run_options};
use lictor_sim::agents::locks::swarm::Options;

#[test]
fn whoever_holds_a_lock_holds_it_alone_and_changes_under_a_key_happen_once() {
    let seeds = 1..8;
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
                    match run_options(&Options::of_seed(seed), None) {
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
    let sum = sum.into_inner().expect("no run panics while it holds the sum");
    let seen = sum.seen;
    let sessions = seen.expired > 0 && seen.ended > 10 && seen.lost > 0;
    let locks = seen.taken > 50 && seen.delays > 0 && sum.relied > 50;
    let fences = seen.fenced > 50 && seen.kept_out > 0;
    let once = seen.repeated > 30 && sum.counted > 50;
    assert!(
        sessions && locks && fences && once && sum.elections > 7,
        "{sum:#?}"
    );
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
