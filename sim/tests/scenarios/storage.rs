//! Storage and restarts.

use lictor_raft::{Body, Role, WriteId};
use lictor_sim::host::Stimulus;
use lictor_sim::stage::{Flight, Stage};
use lictor_sim::workload::Answer;

use super::{ELECTION, cluster, compacting_cluster};

/// D-01: a sync fails once, and the next one would succeed with the data gone ("fsyncgate").
#[test]
fn a_failed_write_stops_the_server_for_good() {
    let mut stage = cluster(3);
    stage.hold_disk(2);
    stage.propose(1);
    stage.settle();
    let id = stage.disk(2).failing().unwrap();
    stage.give(2, Stimulus::PersistFailed(id));
    assert!(!stage.is_up(2));
    assert!(
        stage.flights.iter().all(|flight| flight.from != 2),
        "a server that has stopped speaks"
    );
    stage.expect_recovery();
}

/// D-02: a crash takes some of what was not synced, of a follower or of the leader, and never half of a batch.
#[test]
fn a_crash_may_take_any_suffix_of_what_was_not_synced() {
    for victim in [1, 3] {
        for kept in 0..5 {
            let mut stage = cluster(3);
            stage.hold_disk(victim);
            for _ in 0..5 {
                stage.propose(1);
                stage.settle();
            }
            assert!(stage.disk(victim).unsettled() >= 3);
            stage.crash(victim, kept);
            stage.restart(victim);
            stage.expect_recovery();
        }
    }
}

/// D-04: a server alone acknowledges before it has written (etcd#14370).
#[test]
fn a_server_alone_answers_after_its_write() {
    let mut stage = cluster(1);
    stage.hold_disk(1);
    let token = stage.propose(1);
    stage.settle();
    assert_eq!(stage.answer(token), None);
    stage.crash(1, 0);
    stage.restart(1);
    stage.run(ELECTION * 3);
    let again = stage.propose(1);
    stage.settle();
    assert!(matches!(stage.answer(again), Some(Answer::Written { .. })));
    stage.expect_recovery();
}

/// D-05: the rows are ahead of the log, or behind it, after a crash (etcd#20426, etcd#13766). That replaying gives equal states the oracles
/// see by their digests.
#[test]
fn rows_and_log_fit_together_after_a_crash_at_any_point() {
    for steps in 0..12 {
        let mut setup = Stage::setup(3);
        (setup.store_every, setup.trailing) = (2, 1);
        let mut stage = Stage::with_leader(setup);
        for _ in 0..5 {
            stage.propose(1);
            stage.settle();
        }
        stage.hold_disk(3);
        for _ in 0..5 {
            stage.propose(1);
            stage.settle();
        }
        for _ in 0..steps {
            stage.write(3);
            stage.settle();
        }
        stage.crash(3, 0);
        stage.restart(3);
        stage.expect_recovery();
    }
}

/// D-05, with a snapshot: power is cut between the log's replacement and that of the rows.
#[test]
fn an_interrupted_installation_is_finished_at_the_start() {
    for steps in 0..6 {
        let mut stage = compacting_cluster(3);
        stage.crash(3, 0);
        for _ in 0..10 {
            stage.propose(1);
            stage.settle();
        }
        stage.restart(3);
        stage.hold_disk(3);
        for _ in 0..steps {
            stage.run(ELECTION / 4);
            stage.write(3);
        }
        stage.crash(3, steps);
        stage.restart(3);
        stage.expect_recovery();
    }
}

/// D-07: a server alone restarts, and does not find or commit again what it had (openraft#1246).
#[test]
fn a_server_alone_recovers_everything() {
    let mut stage = cluster(1);
    for _ in 0..3 {
        stage.propose(1);
        stage.settle();
    }
    let last = stage.status(1).last.index;
    stage.crash(1, 0);
    stage.restart(1);
    stage.run(ELECTION * 3);
    assert_eq!(stage.status(1).role, Role::Leader);
    assert!(stage.status(1).applied > last);
    stage.expect_recovery();
}

/// D-09: the completion of a write of an earlier life arrives.
#[test]
fn a_completion_from_an_earlier_life_is_refused() {
    let mut stage = cluster(3);
    stage.hold_disk(2);
    stage.propose(1);
    stage.settle();
    let old = stage.disk(2).failing().unwrap();
    stage.crash(2, 0);
    stage.restart(2);
    stage.hold_disk(2);
    stage.run(ELECTION);
    let before = stage.status(2).durable;
    assert!(stage.try_give(2, Stimulus::Persisted(old)).is_err());
    assert!(
        stage
            .try_give(
                2,
                Stimulus::Persisted(WriteId {
                    boot: old.boot + 5,
                    seq: 1
                })
            )
            .is_err()
    );
    assert_eq!(stage.status(2).durable, before);
    stage.expect_recovery();
}

/// D-10: a snapshot's chunks are resumed with another snapshot (al8n/sailing 82cade7).
#[test]
fn chunks_of_two_snapshots_never_mix() {
    let mut setup = Stage::setup(3);
    (setup.store_every, setup.chunk_bytes) = (1, 1);
    let mut stage = Stage::with_leader(setup);
    stage.crash(3, 0);
    let is_chunk = |flight: &Flight| matches!(flight.message.body, Body::Snapshot { .. });
    for key in 0..4 {
        stage.ask(
            1,
            lictor_sim::workload::Op::Write(lictor_sim::workload::Change::Set {
                key,
                value: 500 + u64::from(key),
            }),
        );
        stage.settle();
    }
    stage.restart(3);
    // One chunk arrives, then the leader is lost, and the next one has another snapshot.
    for _ in 0..20 {
        stage.run_but(ELECTION / 10, is_chunk);
        if stage.flights.iter().any(is_chunk) {
            break;
        }
    }
    let first = stage.take(is_chunk);
    assert!(!first.is_empty(), "{stage:?}");
    for flight in first.clone() {
        stage.deliver(flight);
    }
    stage.write(3);
    stage.take(|_| true);
    stage.isolate(1);
    stage.pass(ELECTION * 2);
    stage.elect(2);
    for _ in 0..3 {
        stage.propose(2);
        stage.settle();
    }
    // The first leader's chunk comes again in between.
    for flight in first {
        stage.deliver(flight);
    }
    stage.expect_recovery();
}

/// D-14: a leader's disk hangs for longer than an election takes. It must hand over, and terms must not run away.
#[test]
fn a_leader_whose_disk_hangs_is_replaced_without_a_storm_of_terms() {
    let mut stage = cluster(3);
    let term = stage.status(1).term;
    stage.hold_disk(1);
    stage.propose(1);
    stage.run(ELECTION * 20);
    let leader = [2, 3].into_iter().find(|n| stage.status(*n).role == Role::Leader);
    assert!(leader.is_some(), "{stage:?}");
    assert!(stage.status(2).term.0 <= term.0 + 3, "{stage:?}");
    let token = stage.propose(leader.unwrap());
    stage.settle();
    assert!(matches!(stage.answer(token), Some(Answer::Written { .. })));
    stage.expect_recovery();
}
