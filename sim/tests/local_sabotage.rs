//! Deliberate mistakes with what runs on agents, each of which the oracles must see within a small band of seeds.

use lictor_local::Sabotage;
use lictor_sim::agents::rolling;
use lictor_sim::agents::run::run_options;
use lictor_sim::agents::swarm::Options;

/// How many seeds there are to find a mistake in.
const SEEDS: u64 = 20;

/// Runs seeds until a mistake is noticed, and requires it to be noticed as one of `properties`.
fn caught(sabotage: Sabotage, properties: &[&str]) {
    for seed in 1..=SEEDS {
        let mut options = Options::of_seed(seed);
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
fn keeping_ghosts_is_seen() {
    caught(Sabotage::KeepGhosts, &["the catalog is the truth after calm"]);
}

#[test]
fn never_comparing_is_seen() {
    caught(Sabotage::NeverCompare, &["the catalog is the truth after calm"]);
}

#[test]
fn asking_twice_is_seen() {
    caught(Sabotage::AskTwice, &["an agent never overtakes itself"]);
}

#[test]
fn answering_before_it_is_durable_is_seen() {
    caught(
        Sabotage::AnswerBeforeSaved,
        &["what is registered survives a restart"],
    );
}

#[test]
fn keeping_records_of_what_was_removed_is_seen() {
    caught(Sabotage::KeepRecords, &["what is registered survives a restart"]);
}

#[test]
fn forgetting_statuses_is_seen_by_those_who_read_during_a_rolling_restart() {
    let mut options = rolling::Options::new(1, 5, 4);
    options.sabotage = Some(Sabotage::ForgetStatuses);
    let failure = rolling::run_options(options, None).expect_err("every status is forgotten");
    assert_eq!(failure.violation.property, "restarts are not seen", "{failure}");
}
