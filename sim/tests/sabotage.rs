//! Deliberate mistakes in Raft, each of which the oracles must see within a small band of seeds.

use lictor_raft::Sabotage;
use lictor_sim::raft_host::RaftHost;
use lictor_sim::run::run_options;
use lictor_sim::swarm::{Fault, Options};

/// How many seeds there are to find a mistake in.
const SEEDS: u64 = 400;

/// Runs seeds until a mistake is noticed, and requires it to be noticed as one of `properties`.
fn caught(sabotage: Sabotage, properties: &[&str]) {
    caught_with(sabotage, properties, |_| {});
}

/// As [`caught`], with faults that fit the mistake.
fn caught_with(sabotage: Sabotage, properties: &[&str], tune: fn(&mut Options)) {
    for seed in 1..=SEEDS {
        let mut options = Options::of_seed(seed, if seed % 2 == 0 { 3 } else { 5 });
        tune(&mut options);
        options.setup.raft.sabotage = Some(sabotage);
        if let Err(failure) = run_options::<RaftHost>(options, None) {
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
fn voting_twice_is_seen() {
    caught(Sabotage::VoteTwice, &["election safety"]);
}

#[test]
fn acknowledging_before_writing_is_seen() {
    caught(
        Sabotage::AckBeforePersist,
        &["durability gate", "durability of acknowledged writes"],
    );
}

#[test]
fn committing_an_old_term_by_counting_is_seen() {
    caught(
        Sabotage::CommitOldTerm,
        &[
            "commits its own term only",
            "leader completeness",
            "state machine safety",
        ],
    );
}

#[test]
fn committing_without_a_quorum_is_seen() {
    caught(
        Sabotage::CountWithoutQuorum,
        &["durability of acknowledged writes"],
    );
}

#[test]
fn a_lease_that_nobody_granted_is_seen() {
    caught_with(
        Sabotage::LeaseWithoutQuorum,
        &["lease reads never stale"],
        |options| {
            // Leaders that sleep through an election, and many clients that ask them as soon as they wake up.
            let election = options.setup.raft.election_timeout;
            options.faults = vec![(Fault::Pause, election), (Fault::Partition, election * 3)];
            (options.clients, options.keys, options.think) = (7, 1, election / 40);
        },
    );
}

#[test]
fn applying_what_is_not_committed_is_seen() {
    caught(
        Sabotage::ApplyUncommitted,
        &["state machine safety", "monotone commit"],
    );
}

#[test]
fn a_tail_that_stays_on_disk_is_seen() {
    caught(Sabotage::ForgetTruncate, &["storage contract", "log matching"]);
}

/// Members change all the time, and few messages come through.
fn restless(options: &mut Options) {
    let servers = options.setup.servers.len();
    let election = options.setup.raft.election_timeout;
    (options.changes, options.setup.spares) = (true, servers / 2);
    options.faults = vec![(Fault::Partition, election * 2), (Fault::Crash, election * 3)];
    (options.clients, options.think) = (7, election / 20);
}

#[test]
fn counting_a_removed_voter_is_seen() {
    caught_with(
        Sabotage::CountRemovedVoter,
        &["durability of acknowledged writes", "election safety"],
        restless,
    );
}

#[test]
fn counting_a_learner_is_seen() {
    caught_with(
        Sabotage::LearnerVotes,
        &["durability of acknowledged writes", "election safety"],
        restless,
    );
}

#[test]
fn going_to_new_voters_without_joint_consensus_is_seen() {
    caught_with(
        Sabotage::SkipJoint,
        &["quorums of successive configurations meet"],
        restless,
    );
}
