//! A band of seeds of whole agents that is run with every change; longer ones are run with the binary.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use lictor_sim::agents::run::{Report, run_options};
use lictor_sim::agents::swarm::Options;

#[test]
fn agents_hold_every_property_while_servers_and_clients_come_and_go() {
    let seeds = 1..7;
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
    assert!(
        sum.writes > 1000 && sum.elections > 6 && sum.replaced > 0,
        "{sum:?}"
    );
}

#[test]
fn a_seed_of_agents_gives_the_same_run_every_time() {
    let hash = |seed| {
        run_options(&Options::of_seed(seed), None)
            .map(|report| report.hash)
            .unwrap()
    };
    assert_eq!(hash(2), hash(2));
    assert_ne!(hash(2), hash(3));
}
