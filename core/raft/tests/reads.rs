//! Reads that are linearizable without a write, and what becomes of those that cannot be.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test picks out what it looks for"
)]

mod common;

use std::time::Duration;

use common::{Cluster, Disk, hard, message, n};
use lictor_machine::{Index, NodeId, Token};
use lictor_raft::{Body, Input, LogId, Message, Outcome, ReadMode, Reject, Role};

/// A lone leader of term 2 that has committed its first entry, at index 2.
fn leading() -> Cluster {
    let mut cluster = Cluster::lone(Disk::with_log(3, &[1], hard(1, 1)));
    cluster.win();
    cluster.accept(2, 2);
    cluster.accept(3, 2);
    assert_eq!(cluster.raft(n(1)).commit(), Index(2));
    cluster.sent();
    cluster
}

fn rounds(sent: &[(NodeId, Message)]) -> Vec<u64> {
    let rounds = sent.iter().filter_map(|(_, message)| match message.body {
        Body::Heartbeat { round, .. } => Some(round),
        _ => None,
    });
    let mut rounds: Vec<u64> = rounds.collect();
    rounds.dedup();
    rounds
}

fn answer(cluster: &mut Cluster, from: u128, round: u64) {
    cluster.deliver(n(from), n(1), message(2, Body::HeartbeatReply { round }));
}

fn follower(cluster: &Cluster, leader: NodeId) -> NodeId {
    let follows = |id: &NodeId| *id != leader;
    cluster.ids().into_iter().find(follows).expect("three servers")
}

#[test]
fn one_round_serves_all_reads_that_wait_for_it() {
    let mut cluster = leading();
    let first = cluster.read(n(1), ReadMode::Quorum).unwrap();
    let sent = cluster.sent();
    let [round] = rounds(&sent)[..] else {
        panic!("{sent:?}")
    };
    assert_eq!(sent.len(), 2, "a heartbeat to each");
    let later: Vec<Token> = (0..100)
        .map(|_| cluster.read(n(1), ReadMode::Quorum).unwrap())
        .collect();
    assert_eq!(cluster.sent(), [], "they wait for the next");
    answer(&mut cluster, 2, round);
    assert!(matches!(
        cluster.server(n(1)).resolved[&first],
        Outcome::Read { index: Index(2) }
    ));
    let sent = cluster.sent();
    let [next] = rounds(&sent)[..] else {
        panic!("{sent:?}")
    };
    assert_eq!(sent.len(), 2);
    assert!(
        later
            .iter()
            .all(|token| !cluster.servers[&n(1)].resolved.contains_key(token))
    );
    answer(&mut cluster, 3, next);
    assert!(
        later
            .iter()
            .all(|token| cluster.servers[&n(1)].resolved.contains_key(token))
    );
}

/// Answers to heartbeats that were sent before the read came prove nothing about it.
#[test]
fn late_answers_to_earlier_rounds_confirm_no_read() {
    let mut cluster = leading();
    for _ in 0..3 {
        cluster.tick(Duration::from_millis(100));
        cluster.accept(2, 2);
        cluster.accept(3, 2);
    }
    let earlier = rounds(&cluster.sent());
    let token = cluster.read(n(1), ReadMode::Quorum).unwrap();
    let round = rounds(&cluster.sent())[0];
    for old in earlier {
        assert!(old < round);
        answer(&mut cluster, 2, old);
        answer(&mut cluster, 3, old);
    }
    // Nor do answers to rounds that were never sent.
    answer(&mut cluster, 2, round + 1);
    answer(&mut cluster, 3, u64::MAX);
    assert!(!cluster.server(n(1)).resolved.contains_key(&token));
    answer(&mut cluster, 3, round);
    assert!(cluster.server(n(1)).resolved.contains_key(&token));
}

#[test]
fn a_read_whose_round_is_lost_is_confirmed_by_the_next() {
    let mut cluster = leading();
    let token = cluster.read(n(1), ReadMode::Quorum).unwrap();
    cluster.sent();
    cluster.tick(Duration::from_millis(100));
    let round = rounds(&cluster.sent())[0];
    answer(&mut cluster, 2, round);
    assert!(cluster.server(n(1)).resolved.contains_key(&token));
}

#[test]
fn a_lease_lasts_from_the_sending_of_the_round_and_no_longer() {
    let mut cluster = leading();
    assert_eq!(cluster.raft(n(1)).lease_until(), None);
    cluster.tick(Duration::from_millis(100));
    let sent_at = cluster.now;
    let round = rounds(&cluster.sent())[0];
    cluster.tick(Duration::from_millis(80));
    answer(&mut cluster, 2, round);
    let until = cluster.raft(n(1)).lease_until().unwrap();
    let lease = until.since(sent_at);
    assert!(
        lease < Duration::from_millis(500),
        "{lease:?} leaves nothing for drifting clocks"
    );
    assert!(lease > Duration::from_millis(450));
    let token = cluster.read(n(1), ReadMode::Lease).unwrap();
    assert!(matches!(
        cluster.server(n(1)).resolved[&token],
        Outcome::Read { .. }
    ));
    assert_eq!(cluster.sent(), []);
}

/// The process was suspended, and the lease ran out unseen.
#[test]
fn a_leader_that_slept_serves_nothing_by_its_old_lease() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect();
    cluster.run(Duration::from_secs(1));
    cluster.cut_off(leader);
    cluster.now = cluster.now + Duration::from_secs(30);
    // The first thing that it sees is the read, before any of its timers.
    let token = cluster.read(leader, ReadMode::Lease).unwrap();
    assert!(!cluster.server(leader).resolved.contains_key(&token));
    cluster.run(Duration::from_secs(1));
    assert_eq!(cluster.server(leader).resolved[&token], Outcome::ReadFailed);
}

#[test]
fn a_leader_that_was_cut_off_answers_no_read() {
    let mut cluster = Cluster::new(3);
    let first = cluster.elect();
    cluster.run(Duration::from_secs(1));
    cluster.cut_off(first);
    let quorum = cluster.read(first, ReadMode::Quorum).unwrap();
    cluster.run(Duration::from_millis(480));
    let leased = cluster.read(first, ReadMode::Lease);
    cluster.run(Duration::from_secs(3));
    assert_ne!(cluster.leader(), Some(first));
    assert_eq!(cluster.server(first).resolved[&quorum], Outcome::ReadFailed);
    if let Ok(token) = leased {
        assert_eq!(cluster.server(first).resolved[&token], Outcome::ReadFailed);
    }
    assert_eq!(
        cluster.read(first, ReadMode::Quorum),
        Err(Reject::NotLeader { leader: None })
    );
}

#[test]
fn every_read_is_answered_when_leadership_changes() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect();
    cluster.run(Duration::from_secs(1));
    let follower = follower(&cluster, leader);
    // The questions leave; the leader is gone before it hears them.
    let asked: Vec<Token> = [ReadMode::Lease, ReadMode::Quorum]
        .map(|mode| cluster.read(follower, mode).unwrap())
        .into();
    let waiting = cluster.read(follower, ReadMode::Lease).unwrap();
    cluster.crash(leader);
    cluster.run(Duration::from_secs(3));
    for token in asked.into_iter().chain([waiting]) {
        assert_eq!(cluster.server(follower).resolved[&token], Outcome::ReadFailed);
    }
}

#[test]
fn a_question_that_gets_lost_fails_and_does_not_block_the_next() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect();
    cluster.run(Duration::from_secs(1));
    let follower = follower(&cluster, leader);
    let lost = cluster.read(follower, ReadMode::Lease).unwrap();
    let taken = cluster.take(|from, _, body| from == follower && matches!(body, Body::ReadIndex { .. }));
    assert_eq!(taken.len(), 1);
    cluster.run(Duration::from_millis(600));
    assert_eq!(cluster.server(follower).resolved[&lost], Outcome::ReadFailed);
    let next = cluster.read(follower, ReadMode::Lease).unwrap();
    cluster.settle();
    assert!(matches!(
        cluster.server(follower).resolved[&next],
        Outcome::Read { .. }
    ));
    let broken = cluster.read(follower, ReadMode::Lease).unwrap();
    cluster
        .input(follower, Input::Unreachable { peer: leader })
        .unwrap();
    assert_eq!(cluster.server(follower).resolved[&broken], Outcome::ReadFailed);
}

/// The answer to a question of a former life says what was committed then.
#[test]
fn an_answer_from_before_a_restart_confirms_nothing() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect();
    cluster.run(Duration::from_secs(1));
    let follower = follower(&cluster, leader);
    cluster.read(follower, ReadMode::Lease).unwrap();
    let question = cluster.take(|_, _, body| matches!(body, Body::ReadIndex { .. }));
    let (from, to, message) = question.into_iter().next().unwrap();
    cluster.deliver(from, to, message);
    let late = cluster.take(|_, _, body| matches!(body, Body::ReadIndexReply { .. }));
    cluster.crash(follower);
    cluster.restart(follower);
    cluster.propose(leader, "a");
    cluster.run(Duration::from_secs(1));
    let token = cluster.read(follower, ReadMode::Lease).unwrap();
    for (from, to, message) in late {
        cluster.deliver(from, to, message);
    }
    assert!(!cluster.server(follower).resolved.contains_key(&token));
    cluster.settle();
    let index = cluster.raft(leader).commit();
    assert_eq!(cluster.server(follower).resolved[&token], Outcome::Read { index });
}

#[test]
fn reads_beyond_the_bound_are_refused_as_busy() {
    let configure = |config: &mut lictor_raft::Config| config.reads_waiting_max = 5.try_into().unwrap();
    let mut cluster = Cluster::with(3, configure);
    let leader = cluster.elect();
    cluster.run(Duration::from_secs(1));
    let follower = follower(&cluster, leader);
    let count = |cluster: &mut Cluster, at, mode| {
        (0..20)
            .filter(|_| cluster.read(at, mode) == Err(Reject::Busy))
            .count()
    };
    assert_eq!(count(&mut cluster, leader, ReadMode::Quorum), 15);
    assert_eq!(count(&mut cluster, follower, ReadMode::Lease), 15);
    cluster.settle();
    // The follower's disk hangs: reads are confirmed, and wait for the state machine.
    cluster.server(follower).auto_persist = false;
    cluster.propose(leader, "a");
    cluster.settle();
    let mut refused = 0;
    for _ in 0..20 {
        refused += usize::from(cluster.read(follower, ReadMode::Lease) == Err(Reject::Busy));
        cluster.settle();
    }
    assert_eq!(refused, 15);
    cluster.server(follower).auto_persist = true;
    cluster.persist(follower);
    cluster.run(Duration::from_secs(1));
    assert!(cluster.read(follower, ReadMode::Lease).is_ok());
}

#[test]
fn a_node_that_does_not_lead_gives_no_index() {
    let mut cluster = Cluster::lone(Disk::with_log(3, &[1], hard(1, 1)));
    cluster.tick(Duration::from_secs(2));
    cluster.sent();
    let (request, lease) = (7, true);
    cluster.deliver(n(2), n(1), message(1, Body::ReadIndex { request, lease }));
    let sent: Vec<Body> = cluster
        .sent()
        .into_iter()
        .map(|(_, message)| message.body)
        .collect();
    assert_eq!(sent, [Body::ReadIndexReply { request, index: None }]);
    assert_ne!(cluster.raft(n(1)).role(), Role::Leader);
    // And it believes no index from one who is not its leader.
    let (commit, round) = (Index(0), 1);
    cluster.deliver(n(2), n(1), message(1, Body::Heartbeat { commit, round }));
    let token = cluster.read(n(1), ReadMode::Lease).unwrap();
    let question = cluster
        .sent()
        .into_iter()
        .find_map(|(_, message)| match message.body {
            Body::ReadIndex { request, .. } => Some(request),
            _ => None,
        });
    let (request, index) = (question.unwrap(), Some(Index(1)));
    cluster.deliver(n(3), n(1), message(1, Body::ReadIndexReply { request, index }));
    assert!(!cluster.server(n(1)).resolved.contains_key(&token));
    cluster.deliver(n(2), n(1), message(1, Body::ReadIndexReply { request, index }));
    assert!(cluster.server(n(1)).resolved.contains_key(&token));
    assert_eq!(cluster.raft(n(1)).status().last, LogId::new(1, 1));
}
