//! Deliberate mistakes with sessions, locks and answers under idempotency keys, each of which the oracles must see within a small band
//! of seeds.

use std::time::Duration;

use lictor_catalog::Sabotage as Catalog;
use lictor_node::Sabotage as Node;
use lictor_sim::agents::locks::run::run_options;
use lictor_sim::agents::locks::swarm::{Fault, Mistake, Options};

/// How many seeds there are to find a mistake in.
const SEEDS: u64 = 60;

/// Runs seeds until a mistake is noticed, and requires it to be noticed as one of `properties`, and nothing to be noticed without it.
fn caught(mistake: Mistake, properties: &[&str]) {
    caught_with(mistake, properties, |_| {});
}

/// As [`caught`], with faults that fit the mistake.
fn caught_with(mistake: Mistake, properties: &[&str], tune: fn(&mut Options)) {
    for seed in 1..=SEEDS {
        let mut options = Options::of_seed(seed);
        tune(&mut options);
        options.sabotage = Some(mistake);
        if let Err(failure) = run_options(&options, None) {
            let property = failure.violation.property;
            assert!(
                properties.contains(&property),
                "{mistake:?} shows as {property} in seed {seed}:\n{failure}"
            );
            options.sabotage = None;
            if let Err(failure) = run_options(&options, None) {
                panic!("seed {seed} fails without a mistake, too:\n{failure}");
            }
            return;
        }
    }
    panic!("{mistake:?} went unnoticed in {SEEDS} seeds");
}

/// Leaders come and go.
fn restless(options: &mut Options) {
    options.faults = vec![
        (Fault::Transfer, Duration::from_secs(2)),
        (Fault::Crash, Duration::from_secs(4)),
    ];
}

#[test]
fn letting_an_old_fence_through_is_seen() {
    let mistake = Mistake::Catalog(Catalog::PassOldFences);
    caught_with(mistake, &["an old fence changes nothing"], |options| {
        options.faults = vec![(Fault::Stall, Duration::from_secs(2))];
    });
}

#[test]
fn giving_a_lock_that_another_holds_is_seen() {
    caught(Mistake::Catalog(Catalog::GiveHeldLocks), &["never two holders"]);
}

#[test]
fn counting_fences_anew_is_seen() {
    caught(Mistake::Catalog(Catalog::ReuseFences), &["fences rise"]);
}

#[test]
fn a_lock_that_can_be_taken_at_once_is_seen() {
    caught(Mistake::Catalog(Catalog::SkipLockDelays), &["lock delays last"]);
}

#[test]
fn a_lock_that_the_dead_hold_is_seen() {
    caught(
        Mistake::Catalog(Catalog::KeepLocksOfTheDead),
        &["who holds a lock lives"],
    );
}

#[test]
fn carrying_a_repeated_change_out_again_is_seen() {
    caught(
        Mistake::Catalog(Catalog::CarryOutAgain),
        &["a repeated change happens once"],
    );
}

#[test]
fn losing_answers_with_a_restart_is_seen() {
    let properties = [
        "state machine safety",
        "states are what the log says",
        "a repeated change happens once",
        "answers are what the log says",
    ];
    caught(Mistake::Catalog(Catalog::LoseReceipts), &properties);
}

#[test]
fn giving_sessions_a_part_of_their_time_is_seen() {
    caught_with(
        Mistake::Node(Node::ShortenTerms),
        &["sessions live as long as promised"],
        restless,
    );
}

#[test]
fn ignoring_renewals_is_seen() {
    caught(
        Mistake::Node(Node::IgnoreRenewals),
        &["sessions live as long as promised"],
    );
}

#[test]
fn a_renewal_by_one_who_leads_no_more_is_seen() {
    let properties = [
        "a renewal tells the truth",
        "sessions live as long as promised",
        "never two who believe that they hold a lock",
    ];
    caught_with(Mistake::Node(Node::RenewWithoutQuorum), &properties, |options| {
        options.faults = vec![(Fault::Seclude, Duration::from_secs(6))];
        options.broken_for = Duration::from_secs(12);
        options.ttls = vec![Duration::from_secs(1)];
        options.contenders = 8;
    });
}

#[test]
fn lock_delays_that_an_election_ends_are_seen() {
    caught_with(
        Mistake::Node(Node::ForgetLockDelays),
        &["lock delays last"],
        restless,
    );
}

#[test]
fn answers_that_an_election_ends_are_seen() {
    caught_with(
        Mistake::Node(Node::ForgetReceipts),
        &["answers are kept for their time"],
        restless,
    );
}

#[test]
fn repeating_what_must_not_be_repeated_is_seen() {
    let property = "a write that is asked for once happens once";
    caught_with(Mistake::Node(Node::RepeatEverything), &[property], |options| {
        // Servers that fall apart while answers are on their way, which take long.
        options.faults = vec![
            (Fault::Partition, Duration::from_secs(3)),
            (Fault::Cut, Duration::from_secs(3)),
        ];
        options.broken_for = Duration::from_secs(2);
        options.weather.delay_max = Duration::from_millis(150);
        options.contenders = 8;
    });
}
