//! A band of seeds that is run with every change; longer ones are run with the binary.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use lictor_sim::host::Host;
use lictor_sim::network::Weather;
use lictor_sim::node_host::NodeHost;
use lictor_sim::raft_host::RaftHost;
use lictor_sim::report::Counters;
use lictor_sim::run::{run_options, run_seed};
use lictor_sim::swarm::{Fault, Options};

/// Runs the seeds on all cores and returns what they did together.
fn band<H: Host>(seeds: core::ops::Range<u64>) -> Counters {
    let next = AtomicU64::new(seeds.start);
    let sum = Mutex::new(Counters::default());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let servers = if seed.is_multiple_of(2) { 3 } else { 5 };
                    match run_seed::<H>(seed, servers, None) {
                        Ok(report) => {
                            assert_eq!(report.undecided, 0, "seed {seed}: make its histories shorter");
                            sum.lock()
                                .expect("no run panics while it holds the sum")
                                .add(&report.counters);
                        }
                        Err(failure) => panic!("{failure}"),
                    }
                }
            });
        }
    });
    sum.into_inner().expect("no run panics while it holds the sum")
}

/// Every kind of fault and every way of recovery must have been met: a band that sees nothing proves nothing.
fn assert_not_vacuous(counters: &Counters, but_for: &[&str]) {
    let mut missing = counters.missing();
    missing.retain(|name| !but_for.contains(name));
    assert!(missing.is_empty(), "never happened: {missing:?}; {counters}");
}

#[test]
fn bare_raft_servers_hold_every_property() {
    assert_not_vacuous(&band::<RaftHost>(1..45), &[]);
}

#[test]
fn whole_nodes_hold_every_property() {
    let not_asked_for = ["reconfigurations", "removals"];
    assert_not_vacuous(&band::<NodeHost>(1..45), &not_asked_for);
}

#[test]
fn a_seed_gives_the_same_run_every_time_and_another_seed_another() {
    let hash = |seed| {
        run_seed::<NodeHost>(seed, 5, None)
            .map(|report| (report.hash, report.records))
            .unwrap()
    };
    assert_eq!(hash(7), hash(7));
    assert_ne!(hash(7), hash(8));
    let mut text = Vec::new();
    let traced = run_seed::<NodeHost>(7, 5, Some(&mut text)).unwrap();
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

/// The drift bound is a promise of the environment. Clocks that break it must be found out, or the lease is not tested at all.
#[test]
fn clocks_beyond_their_bound_make_lease_reads_stale_and_the_oracles_see_it() {
    let caught = (1..400_u64).find_map(|seed| {
        let mut options = Options::of_seed(seed, 5);
        let raft = &mut options.setup.raft;
        raft.max_clock_drift_permille = 10;
        raft.heartbeat_interval = raft.election_timeout / 8;
        let election = raft.election_timeout;
        options.weather = Weather::calm();
        options.faults = vec![(Fault::Partition, election * 2), (Fault::ClockRate, election * 8)];
        options.faults_for = election * 40;
        (options.clients, options.keys, options.think) = (7, 1, election / 40);
        options.excess_drift_permille = 900;
        run_options::<RaftHost>(options, None).err()
    });
    let failure = caught.expect("some seed shows a stale read");
    assert!(
        ["lease reads never stale", "linearizability"].contains(&failure.violation.property),
        "{failure}"
    );
}
