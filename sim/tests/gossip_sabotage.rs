//! Deliberate mistakes in gossip, each of which the oracles must see within a small band of seeds.

use lictor_gossip::Sabotage;
use lictor_sim::gossip::run::run_options;
use lictor_sim::gossip::swarm::Options;

/// How many seeds there are to find a mistake in.
const SEEDS: u64 = 60;

/// Runs seeds until a mistake is noticed, and requires it to be noticed as one of `properties`.
fn caught(sabotage: Sabotage, properties: &[&str]) {
    for seed in 1..=SEEDS {
        let mut options = Options::of_seed(seed, None);
        options.sabotage = Some(sabotage);
        if let Err(failure) = run_options(&options, None) {
            let property = failure.violation.property;
            assert!(
                properties.contains(&property),
                "{sabotage:?} shows as {property} in seed {seed}:\n{failure}"
            );
            return;
        }
    }
    panic!("{sabotage:?} went unnoticed in {SEEDS} seeds");
}

#[test]
fn resurrecting_the_dead_is_seen() {
    caught(Sabotage::ResurrectTheDead, &["no resurrection"]);
}

#[test]
fn failing_who_left_is_seen() {
    caught(
        Sabotage::FailWhoLeft,
        &["left is not failed", "convergence after calm"],
    );
}

#[test]
fn retransmitting_for_ever_is_seen() {
    caught(Sabotage::RetransmitForEver, &["boundedness", "calm is quiet"]);
}

#[test]
fn never_contradicting_is_seen() {
    caught(Sabotage::NeverRefute, &["convergence after calm"]);
}
