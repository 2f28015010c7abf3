//! What else goes on while servers come and go: commits, elections, reads and transfers, and who is told of what.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::time::Duration;

use common::{Cluster, Disk, SECOND, hard, ids, message, n, voters, with_learners};
use lictor_machine::{Index, Instant, Machine, NodeId};
use lictor_raft::{Body, Configuration, Input, LogId, Outcome, Raft, ReadMode, Reject, Role, SnapshotMeta};

#[test]
fn e04_who_was_removed_behind_its_back_disturbs_nobody() {
    let mut cluster = with_learners(3, 0);
    cluster.cut_off(n(3));
    cluster.reconfigure(n(1), [1, 2], []).unwrap();
    cluster.run(SECOND * 10);
    let term = cluster.raft(n(1)).term();
    cluster.heal();
    cluster.run(SECOND * 20);
    assert_eq!((cluster.leader(), cluster.raft(n(1)).term()), (Some(n(1)), term));
    assert_eq!(cluster.raft(n(3)).term(), term, "and does not wear out terms");
    // A term that it came to in another way moves nobody either.
    let far = message(term.0 + 7, Body::HeartbeatReply { round: 0 });
    cluster.deliver(n(3), n(1), far);
    assert_eq!(
        (cluster.raft(n(1)).role(), cluster.raft(n(1)).term()),
        (Role::Leader, term)
    );
}

#[test]
fn e10_leadership_goes_to_no_learner_and_to_nobody_who_is_on_the_way_out() {
    let mut cluster = with_learners(3, 1);
    let transfer = |cluster: &mut Cluster, to| {
        let token = cluster.token();
        cluster.input(
            n(1),
            Input::Transfer {
                token,
                to: Some(n(to)),
            },
        )
    };
    assert!(matches!(transfer(&mut cluster, 4), Err(Reject::Invalid(_))));
    cluster.reconfigure(n(1), [1, 2, 4], []).unwrap();
    assert!(cluster.raft(n(1)).members().is_joint());
    assert!(matches!(transfer(&mut cluster, 3), Err(Reject::Invalid(_))));
    transfer(&mut cluster, 2).unwrap();
}

/// The joint configuration is committed while leadership is being handed over: whoever leads in the end, leaves it.
#[test]
fn e10_a_transfer_and_the_end_of_a_change_do_not_get_in_each_others_way() {
    for succeeds in [true, false] {
        let mut cluster = with_learners(3, 0);
        let change = cluster.reconfigure(n(1), [1, 2], []).unwrap();
        let token = cluster.token();
        cluster
            .input(
                n(1),
                Input::Transfer {
                    token,
                    to: Some(n(2)),
                },
            )
            .unwrap();
        if succeeds {
            cluster.settle();
            assert_eq!(cluster.server(n(1)).resolved[&token], Outcome::Transferred);
            cluster.run(SECOND);
            assert_eq!(cluster.leader(), Some(n(2)));
        } else {
            // The order does not come through.
            for _ in 0..1000 {
                let lost = cluster.take(|_, _, body| matches!(body, Body::TimeoutNow));
                let Some((from, to, message)) = cluster.wire.pop_front() else {
                    break;
                };
                assert!(lost.len() <= 1);
                cluster.deliver(from, to, message);
            }
            let raft = cluster.raft(n(1));
            assert!(
                raft.members().is_joint() && raft.commit() == raft.status().last.index,
                "it waits for the transfer"
            );
            cluster.run(SECOND);
            assert_eq!(cluster.server(n(1)).resolved[&token], Outcome::TransferFailed);
        }
        cluster.run(SECOND);
        assert!(cluster.is_reconfigured(n(1), change), "succeeds: {succeeds}");
        assert_eq!(voters(&cluster, 2), ids(&[1, 2]));
    }
}

/// A new configuration counts from the moment it is in the log, not when it is applied: a leader that is elected in between goes by it.
#[test]
fn e11_a_transfer_before_the_change_is_applied_goes_by_the_new_members() {
    let mut cluster = with_learners(1, 2);
    for id in [2, 3] {
        cluster.server(n(id)).auto_persist = false;
    }
    let change = cluster.reconfigure(n(1), 1..=3, []).unwrap();
    for _ in 0..20 {
        cluster.settle();
        cluster.persist(n(2));
    }
    assert!(cluster.is_reconfigured(n(1), change));
    assert_eq!(
        cluster.raft(n(2)).status().durable,
        cluster.raft(n(2)).status().last.index
    );
    // Server 3 has acknowledged nothing of it.
    assert!(cluster.raft(n(3)).status().durable < cluster.raft(n(2)).status().durable);
    let token = cluster.token();
    cluster
        .input(
            n(1),
            Input::Transfer {
                token,
                to: Some(n(2)),
            },
        )
        .unwrap();
    cluster.cut_off(n(1));
    cluster.cut.remove(&(n(1), n(2)));
    cluster.settle();
    cluster.persist(n(2));
    cluster.settle();
    assert_ne!(
        cluster.raft(n(2)).role(),
        Role::Leader,
        "its own vote is one of three"
    );
    cluster.persist(n(3));
    cluster.settle();
    assert_eq!(cluster.raft(n(2)).role(), Role::Leader);
}

#[test]
fn l10_a_bigger_cluster_needs_a_bigger_majority_at_once() {
    let mut cluster = Cluster::lone(Disk::with_log(1, &[1], hard(1, 1)));
    cluster.run(SECOND);
    assert_eq!(cluster.leader(), Some(n(1)));
    cluster.reconfigure(n(1), 1..=5, []).unwrap();
    let at = cluster.raft(n(1)).status().last.index;
    cluster.accept(2, at.0);
    assert_eq!(cluster.raft(n(1)).commit(), at.prev(), "two of five");
    cluster.accept(3, at.0);
    let status = cluster.raft(n(1)).status();
    assert_eq!(
        (status.commit, status.last.index),
        (at, at.next()),
        "three of five, and the change goes on"
    );
    cluster.accept(3, at.0 + 1);
    assert_eq!(cluster.raft(n(1)).commit(), at);
    cluster.accept(5, at.0 + 1);
    assert_eq!(cluster.raft(n(1)).commit(), at.next());
}

/// In joint consensus each half has a veto: on commits, on elections, on reads and the lease, and on who stays in office.
#[test]
fn both_halves_are_needed_for_everything() {
    for lost in [[2, 3], [4, 5]] {
        let mut cluster = with_learners(3, 2);
        // The final configuration never comes about: the joint one is not committed, as one half cannot be reached.
        for id in lost {
            cluster.cut_off(n(id));
        }
        cluster.reconfigure(n(1), [1, 4, 5], []).unwrap();
        cluster.settle();
        let at = cluster.raft(n(1)).status().last.index;
        assert!(cluster.raft(n(1)).commit() < at && cluster.raft(n(1)).members().is_joint());
        let read = cluster.read(n(1), ReadMode::Quorum).unwrap();
        cluster.run(SECOND / 4);
        assert!(!cluster.server(n(1)).resolved.contains_key(&read));
        cluster.run(SECOND * 5);
        assert_eq!(cluster.leader(), None, "without {lost:?}");
        assert_eq!(cluster.server(n(1)).resolved[&read], Outcome::ReadFailed);
        assert_eq!(cluster.raft(n(1)).lease_until(), None);
        cluster.heal();
        cluster.run(SECOND * 5);
        assert_eq!(voters(&cluster, 1), ids(&[1, 4, 5]));
    }
}

#[test]
fn a_lease_ends_when_there_are_others_who_may_come_to_lead() {
    let mut cluster = with_learners(1, 0);
    assert_eq!(cluster.raft(n(1)).lease_until(), Some(Instant::MAX));
    cluster.add(n(2), Disk::default());
    cluster.reconfigure(n(1), [1, 2], []).unwrap();
    let until = cluster.raft(n(1)).lease_until().unwrap();
    assert!(until <= cluster.now + SECOND / 2, "{until:?}");
    cluster.run(SECOND);
    assert!(cluster.raft(n(1)).lease_until().unwrap() > cluster.now);
    cluster.cut_off(n(2));
    cluster.tick(SECOND / 2);
    assert!(
        cluster
            .raft(n(1))
            .lease_until()
            .is_none_or(|until| until <= cluster.now)
    );
}

#[test]
fn the_votes_and_copies_of_learners_count_for_nothing() {
    let mut cluster = with_learners(2, 2);
    cluster.crash(n(2));
    let token = cluster.propose(n(1), "a");
    cluster.settle();
    assert!(cluster.raft(n(4)).status().durable == cluster.raft(n(1)).status().last.index);
    assert!(!cluster.server(n(1)).committed.contains_key(&token));
    cluster.run(SECOND * 5);
    assert_eq!(cluster.leader(), None, "one voter of two, whatever learners say");
    let wake = cluster.raft(n(3)).poll_timeout();
    assert_eq!(wake, None, "a learner waits for nothing");
}

#[test]
fn a_change_that_was_overwritten_is_known_to_be_lost() {
    let mut cluster = with_learners(3, 1);
    cluster.cut_off(n(1));
    let token = cluster.reconfigure(n(1), [1, 4], []).unwrap();
    cluster.run(SECOND * 3);
    let leader = cluster.leader().unwrap();
    cluster.propose(leader, "a");
    cluster.settle();
    assert!(
        !cluster.server(n(1)).resolved.contains_key(&token),
        "it may yet be made"
    );
    cluster.heal();
    cluster.run(SECOND);
    assert_eq!(cluster.server(n(1)).resolved[&token], Outcome::Lost);
    assert_eq!(voters(&cluster, 1), ids(&[1, 2, 3]));
}

/// Nobody waits for ever for one that left and is down.
#[test]
fn who_cannot_be_told_of_its_removal_is_forgotten() {
    let mut cluster = with_learners(3, 0);
    cluster.crash(n(3));
    cluster.reconfigure(n(1), [1, 2], []).unwrap();
    cluster.run(SECOND);
    let sent = |cluster: &mut Cluster, window| {
        cluster.tick(window);
        let sent = cluster.take(|from, to, _| from == n(1) && to == n(3));
        cluster.settle();
        sent.len()
    };
    assert!(sent(&mut cluster, Duration::from_millis(100)) > 0);
    cluster.run(SECOND * 10);
    for _ in 0..10 {
        assert_eq!(sent(&mut cluster, Duration::from_millis(100)), 0);
    }
}

/// A start from a disk where the newest configuration is the base's own.
#[test]
fn what_was_compacted_stays_in_force() {
    let members = Configuration::of([1, 2].map(NodeId));
    let disk = Disk {
        hard: hard(3, 7),
        base: SnapshotMeta {
            last: LogId::new(3, 7),
            members: members.clone(),
        },
        applied: Index(7),
        ..Disk::default()
    };
    let cluster = Cluster::lone(disk);
    let raft: &Raft = cluster.raft(n(1));
    assert_eq!(*raft.members(), members);
    assert_eq!(raft.status().members_id, LogId::new(3, 7));
    assert!(!raft.status().is_changing_members() && !raft.status().is_outside());
}
