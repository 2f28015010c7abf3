//! Reads and leases.

use lictor_raft::{Body, Message, Poll, Role};
use lictor_sim::stage::{Flight, is_append};
use lictor_sim::workload::{Answer, Freshness};

use super::{ELECTION, cluster};

/// a new leader serves a read before it knows what is committed (etcd#7331, tikv#9208; thesis §6.4).
#[test]
fn a_new_leader_reads_only_after_an_entry_of_its_own() {
    for freshness in [Freshness::Default, Freshness::Consistent] {
        let mut stage = cluster(3);
        stage.propose(1);
        // S2 has the entry; that it is committed it will not hear.
        stage.settle_but(|flight| flight.from == 1 && !is_append(flight));
        stage.crash(1, 9);
        stage.take(|_| true);
        stage.pass(ELECTION * 2);
        stage.elect_silently(2);
        let read = stage.read(2, freshness);
        stage.settle_but(is_append);
        assert_eq!(stage.answer(read), None, "{freshness:?}");
        stage.run(ELECTION);
        assert!(
            matches!(stage.answer(read), Some(Answer::Value { held: Some(_), .. })),
            "{:?}",
            stage.answer(read)
        );
        stage.expect_recovery();
    }
}

/// replies to earlier heartbeats arrive late and confirm a later read (etcd#20418).
#[test]
fn late_replies_confirm_no_later_read() {
    let mut stage = cluster(3);
    let is_reply =
        |flight: &Flight| flight.to == 1 && matches!(flight.message.body, Body::HeartbeatReply { .. });
    stage.run_but(ELECTION / 2, is_reply);
    let earlier = stage.read(1, Freshness::Consistent);
    stage.settle_but(is_reply);
    let late = stage.take(is_reply);
    assert!(late.len() >= 2);
    stage.isolate(1);
    stage.pass(ELECTION * 2);
    stage.elect(2);
    stage.propose(2);
    stage.settle();
    let read = stage.read(1, Freshness::Consistent);
    stage.heal();
    for flight in late.iter().chain(&late) {
        stage.deliver(flight.clone());
    }
    assert!(
        !matches!(stage.answer(read), Some(Answer::Value { .. })),
        "{:?}",
        stage.answer(read)
    );
    stage.expect_recovery();
    assert!(stage.answer(read).is_some() && stage.answer(earlier).is_some());
}

/// a leader is frozen while another is elected, and wakes up believing in its lease.
#[test]
fn a_leader_that_slept_does_not_trust_its_lease() {
    let mut stage = cluster(3);
    stage.run(ELECTION);
    let fresh = stage.read(1, Freshness::Default);
    assert!(
        matches!(stage.answer(fresh), Some(Answer::Value { .. })),
        "a lease is there to be used"
    );
    stage.isolate(1);
    stage.pass(ELECTION * 2);
    stage.elect(2);
    stage.propose(2);
    stage.settle();
    assert_eq!(stage.status(1).role, Role::Leader, "it has not woken up yet");
    let read = stage.read(1, Freshness::Default);
    assert!(
        !matches!(stage.answer(read), Some(Answer::Value { .. })),
        "{:?}",
        stage.answer(read)
    );
    stage.expect_recovery();
    assert!(stage.answer(read).is_some());
}

/// R-03, from the other side: nobody helps to replace a leader while its lease may last, not even a server that has been restarted since
/// it answered the leader.
#[test]
fn a_restarted_voter_keeps_the_promise_of_its_former_life() {
    let mut stage = cluster(3);
    stage.run(ELECTION);
    stage.crash(3, 0);
    stage.restart(3);
    stage.take(|_| true);
    stage.pass(ELECTION / 2);
    let (last, term) = (stage.status(2).last, stage.status(2).term.next());
    let poll = Poll { boot: 1, count: 99 };
    for body in [
        Body::PreVote { last, poll },
        Body::Vote {
            last,
            poll,
            transfer: false,
        },
    ] {
        let request = stage.forge(2, 3, Message { term, body });
        stage.deliver(request);
        stage.write(3);
    }
    let granted = |flight: &Flight| {
        matches!(
            flight.message.body,
            Body::PreVoteReply { granted: true, .. } | Body::VoteReply { granted: true, .. }
        )
    };
    assert!(!stage.flights.iter().any(granted), "{:?}", stage.flights);
    stage.expect_recovery();
}

/// the leader changes, and whoever waits for a read is forgotten.
#[test]
fn reads_that_nobody_will_answer_are_refused() {
    for freshness in [Freshness::Default, Freshness::Consistent] {
        let mut stage = cluster(3);
        stage.pass(ELECTION);
        stage.isolate(1);
        let reads = [
            stage.read(1, freshness),
            stage.read(2, freshness),
            stage.read(3, freshness),
        ];
        stage.run(ELECTION * 6);
        for read in reads {
            assert!(stage.answer(read).is_some(), "{freshness:?} {stage:?}");
        }
        stage.expect_recovery();
    }
}

/// a follower answers from a state that is older than the index it was given.
#[test]
fn a_follower_answers_once_it_has_applied_the_index() {
    let mut stage = cluster(3);
    stage.hold_disk(3);
    let write = stage.propose(1);
    stage.settle();
    assert!(stage.answer(write).is_some());
    let read = stage.read(3, Freshness::Consistent);
    stage.settle();
    assert_eq!(stage.answer(read), None);
    stage.release_disk(3);
    stage.run(ELECTION / 2);
    assert!(
        matches!(stage.answer(read), Some(Answer::Value { held: Some(_), .. })),
        "{:?}",
        stage.answer(read)
    );
    stage.expect_recovery();
}
