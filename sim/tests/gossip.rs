//! A band of seeds of gossiping pools that is run with every change; longer ones are run with the binary.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use lictor_sim::gossip::run::run_options;
use lictor_sim::gossip::swarm::Options;
use lictor_sim::gossip::tally::Tally;

/// Runs the seeds on all cores and returns what they did together.
fn band(seeds: core::ops::Range<u64>) -> Tally {
    let next = AtomicU64::new(seeds.start);
    let sum = Mutex::new(Tally::default());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    match run_options(&Options::of_seed(seed, None), None) {
                        Ok(report) => sum
                            .lock()
                            .expect("no run panics while it holds the sum")
                            .add(&report.tally),
                        Err(failure) => panic!("{failure}"),
                    }
                }
            });
        }
    });
    sum.into_inner().expect("no run panics while it holds the sum")
}

#[test]
fn pools_hold_every_property_and_everything_happens_to_them() {
    let tally = band(1..19);
    // Honest members say nothing that is refused, and no small pool sends more than a frozen member has room for.
    let mut missing = tally.missing();
    missing.retain(|name| !["refused", "overflows"].contains(name));
    assert!(missing.is_empty(), "never: {missing:?}; {tally}");
}

#[test]
fn a_seed_gives_the_same_run_every_time_and_another_seed_another() {
    let hash = |seed| {
        run_options(&Options::of_seed(seed, Some(8)), None)
            .map(|report| (report.hash, report.records))
            .unwrap()
    };
    assert_eq!(hash(7), hash(7));
    assert_ne!(hash(7), hash(8));
    let mut text = Vec::new();
    let options = Options::of_seed(7, Some(8));
    let traced = run_options(&options, Some(&mut text)).unwrap();
    assert_eq!(
        (traced.hash, traced.records),
        hash(7),
        "looking on changes nothing"
    );
    assert_eq!(
        String::from_utf8(text).unwrap().lines().count() as u64,
        traced.records
    );
}
