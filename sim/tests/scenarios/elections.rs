//! Elections, terms and transfers.

use lictor_machine::Index;
use lictor_raft::{Body, LogId, Message, Poll, Role, Term};
use lictor_sim::stage::{Stage, is_append};
use lictor_sim::workload::{Answer, Op};

use super::{ELECTION, cluster};

/// Has `n` stand for election in a new term that nobody else hears of.
fn raise_term(stage: &mut Stage, n: u8, leader: u8) {
    let term = stage.status(n).term;
    let flight = stage.forge(
        leader,
        n,
        Message {
            term,
            body: Body::TimeoutNow,
        },
    );
    stage.deliver(flight);
    stage.write(n);
    stage.take(|flight| flight.from == n);
    assert_eq!(stage.status(n).term, term.next());
}

/// E-01: a server in a later term cannot be heard, and the leader does not step down (etcd#8501, raft-rs#84).
#[test]
fn a_server_in_a_later_term_does_not_lock_the_cluster() {
    for servers in [2, 3] {
        let mut stage = cluster(servers);
        raise_term(&mut stage, servers, 1);
        stage.isolate(servers);
        stage.crash(servers, 9);
        stage.restart(servers);
        stage.heal();
        stage.run(ELECTION * 10);
        assert!(
            stage
                .all()
                .into_iter()
                .any(|n| stage.status(n).role == Role::Leader),
            "{stage:?}"
        );
        stage.expect_recovery();
    }
}

/// E-02: with two voters, the one with the longer log must take up the later term from a refused pre-vote (al8n/sailing 3a97c4c).
#[test]
fn a_refused_candidate_takes_up_the_later_term() {
    let mut stage = cluster(2);
    stage.cut(1, 2);
    stage.propose(1);
    stage.settle();
    stage.heal();
    raise_term(&mut stage, 2, 1);
    stage.crash(1, 9);
    stage.restart(1);
    assert!(stage.status(1).last > stage.status(2).last && stage.status(1).term < stage.status(2).term);
    stage.expect_recovery();
    assert_eq!(stage.disk(2).durable().entries, stage.disk(1).durable().entries);
}

/// E-03: a grant of an earlier poll arrives in a later one (openraft 511f33c7).
#[test]
fn a_late_grant_counts_in_no_later_poll() {
    let mut stage = cluster(3);
    stage.isolate(1);
    stage.take(|_| true);
    stage.pass(ELECTION * 2);
    stage.time_out(3);
    stage.settle_but(|flight| flight.to == 3);
    let late = stage.take(|flight| matches!(flight.message.body, Body::PreVoteReply { granted: true, .. }));
    assert_eq!(late.len(), 1);
    stage.time_out(3);
    stage.take(|_| true);
    for flight in late {
        stage.deliver(flight);
    }
    assert_eq!(
        stage.status(3).role,
        Role::PreCandidate,
        "a late grant was counted"
    );
    stage.expect_recovery();
}

/// E-05: links that work in one direction only (Howard, "Raft does not guarantee liveness", 2020; openraft#2080).
#[test]
fn a_leader_that_hears_nobody_or_that_nobody_hears_is_replaced() {
    for deaf in [true, false] {
        let mut stage = cluster(3);
        for other in [2, 3] {
            if deaf {
                stage.cut(other, 1);
            } else {
                stage.cut(1, other);
            }
        }
        stage.run(ELECTION * 10);
        let leader = [2, 3].into_iter().find(|n| stage.status(*n).role == Role::Leader);
        let leader = leader.unwrap_or_else(|| panic!("nobody took over: {stage:?}"));
        assert_ne!(stage.status(1).role, Role::Leader);
        let token = stage.propose(leader);
        stage.run(ELECTION);
        assert!(matches!(stage.answer(token), Some(Answer::Written { .. })));
        stage.expect_recovery();
    }
}

/// E-06: a vote is durable, its reply lost; after a crash another candidate asks in the same term.
#[test]
fn a_vote_survives_the_crash_of_the_voter() {
    let mut stage = cluster(3);
    stage.isolate(1);
    stage.pass(ELECTION * 2);
    stage.time_out(2);
    stage.settle_but(|flight| matches!(flight.message.body, Body::VoteReply { .. }));
    let lost = stage.take(|flight| flight.from == 3);
    assert!(matches!(
        lost[0].message.body,
        Body::VoteReply { granted: true, .. }
    ));
    let term = stage.status(3).term;
    stage.crash(3, 0);
    stage.restart(3);
    assert_eq!(stage.status(3).term, term);
    stage.heal();
    let last = stage.status(1).last;
    let body = Body::Vote {
        last,
        poll: Poll { boot: 1, count: 99 },
        transfer: true,
    };
    let second = stage.forge(1, 3, Message { term, body });
    stage.deliver(second);
    stage.write(3);
    let replies = stage.take(|flight| flight.from == 3 && flight.to == 1);
    assert!(
        replies
            .iter()
            .all(|flight| !matches!(flight.message.body, Body::VoteReply { granted: true, .. })),
        "{replies:?}"
    );
    stage.expect_recovery();
}

/// E-07: a candidate asks for votes with a log, or in a term, that a crash could take from it again; a grant that was given to an earlier
/// life would then make it leader without an entry that is committed.
#[test]
fn a_candidate_asks_for_votes_only_with_what_is_on_its_disk() {
    let mut stage = cluster(3);
    stage.isolate(1);
    stage.pass(ELECTION * 2);
    stage.hold_disk(2);
    let term = stage.status(2).term;
    stage.time_out(2);
    stage.settle();
    assert_eq!(
        (stage.status(2).role, stage.status(2).term),
        (Role::Candidate, term.next())
    );
    assert_eq!(
        (stage.status(3).term, stage.status(3).vote),
        (term, stage.status(3).vote),
        "a request for votes left too early"
    );
    stage.crash(2, 0);
    stage.restart(2);
    assert_eq!(stage.status(2).term, term);

    // Now a grant is under way while the candidate crashes.
    stage.pass(ELECTION * 2);
    stage.time_out(2);
    stage.settle_but(|flight| matches!(flight.message.body, Body::VoteReply { .. }));
    let late = stage.take(|flight| flight.to == 2);
    assert!(matches!(
        late[0].message.body,
        Body::VoteReply { granted: true, .. }
    ));
    stage.crash(2, 0);
    stage.restart(2);
    for flight in late {
        stage.deliver(flight);
    }
    assert_eq!(stage.status(2).role, Role::Follower);
    stage.expect_recovery();
}

/// E-09: a damaged message carries a term near the largest number.
#[test]
fn an_impossible_term_is_refused() {
    let mut stage = cluster(3);
    let before = stage.status(2);
    for term in [u64::MAX, u64::MAX - 1] {
        for body in [
            Body::Heartbeat {
                commit: Index::ZERO,
                round: 1,
            },
            Body::Vote {
                last: LogId::ZERO,
                poll: Poll::default(),
                transfer: false,
            },
            Body::HeartbeatReply { round: 0 },
        ] {
            let message = Message {
                term: Term(term),
                body,
            };
            let bytes = lictor_node::wire::encode_raft(lictor_node::ClusterId(1), &message).into();
            let from = lictor_machine::NodeId(3);
            let refused = stage.try_give(2, lictor_sim::host::Stimulus::Message { from, bytes });
            assert!(refused.is_err(), "{message:?}");
        }
    }
    assert_eq!(stage.status(2), before);
    stage.expect_recovery();
}

/// E-10: a transfer that does not come about must end, and let proposals through again (hashicorp/raft#696).
#[test]
fn a_transfer_ends_either_way() {
    let mut stage = cluster(3);
    let done = stage.ask(1, Op::Transfer);
    stage.settle();
    assert_eq!(stage.answer(done), Some(Answer::Transferred(true)));
    let leader = stage
        .all()
        .into_iter()
        .find(|n| stage.status(*n).role == Role::Leader)
        .unwrap();
    assert_ne!(leader, 1);

    // Whoever is chosen hears nothing of it.
    let failed = stage.ask(leader, Op::Transfer);
    stage.take(|flight| matches!(flight.message.body, Body::TimeoutNow));
    let early = stage.propose(leader);
    assert_eq!(stage.answer(early), Some(Answer::Refused));
    stage.run(ELECTION * 2);
    assert_eq!(stage.answer(failed), Some(Answer::Transferred(false)));
    let token = stage.propose(leader);
    stage.settle();
    assert!(matches!(stage.answer(token), Some(Answer::Written { .. })));
    stage.expect_recovery();
}

/// E-10, the rest: the target learns of its luck only after the transfer was given up, and takes over with all that was committed since.
#[test]
fn a_late_order_to_campaign_is_harmless() {
    let mut stage = cluster(3);
    let transfer = stage.ask(1, Op::Transfer);
    let late = stage.take(|flight| matches!(flight.message.body, Body::TimeoutNow));
    assert_eq!(late.len(), 1);
    stage.run(ELECTION * 2);
    assert_eq!(stage.answer(transfer), Some(Answer::Transferred(false)));
    let token = stage.propose(1);
    stage.settle_but(is_append);
    for flight in late {
        stage.deliver(flight);
    }
    stage.settle();
    assert!(stage.answer(token).is_some() || stage.status(1).role != Role::Leader);
    let read = stage.read(1, lictor_sim::workload::Freshness::Default);
    stage.run(ELECTION);
    assert!(stage.answer(read).is_some());
    stage.expect_recovery();
}
