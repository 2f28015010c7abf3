//! Servers that come and go (Raft §6): what a change needs, and how it ends. Numbers such as M-05 are those of bugs that other implementations had.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use bytes::Bytes;
use common::{
    Cluster, Disk, SECOND, append, command, hard, ids, joint, learned_removal, log_of, message, n, voters,
    with_learners,
};
use lictor_machine::{Index, NodeId};
use lictor_raft::{
    Body, Configuration, Entry, Event, Input, LogId, MEMBERS_MAX, MembersError, Outcome, Payload, Poll,
    Reject, Role, SnapshotMeta,
};

#[test]
fn a_server_comes_as_a_learner_becomes_a_voter_and_another_goes() {
    let mut cluster = with_learners(3, 1);
    cluster.propose(n(1), "a");
    cluster.run(SECOND);
    assert_eq!(cluster.state(n(4)), ["a"], "a learner gets the log");
    let status = cluster.raft(n(1)).status();
    let learner = status.peers.iter().find(|peer| peer.id == n(4)).unwrap();
    assert!(
        !learner.voter && learner.matched == status.last.index,
        "{learner:?}"
    );
    assert!(cluster.now.since(learner.last_heard) < SECOND / 2, "{learner:?}");

    let promoted = cluster.reconfigure(n(1), 1..=4, []).unwrap();
    assert_eq!(
        *cluster.raft(n(1)).members(),
        joint(&[1, 2, 3, 4], &[1, 2, 3]),
        "at once, by joint consensus"
    );
    assert!(cluster.raft(n(1)).status().is_changing_members());
    cluster.run(SECOND);
    let status = cluster.raft(n(1)).status();
    let made = Outcome::Reconfigured {
        index: status.members_id.index,
    };
    assert_eq!(cluster.server(n(1)).resolved[&promoted], made);
    assert_eq!(voters(&cluster, 4), ids(&[1, 2, 3, 4]));

    let removed = cluster.reconfigure(n(1), [1, 2, 4], []).unwrap();
    cluster.run(SECOND);
    assert!(cluster.is_reconfigured(n(1), removed));
    assert!(learned_removal(&cluster, 3), "who is left out is told");
    assert!(cluster.raft(n(3)).status().is_outside());
    assert!(!learned_removal(&cluster, 4));
    assert!(
        cluster
            .raft(n(1))
            .status()
            .peers
            .iter()
            .all(|peer| peer.id != n(3))
    );
    cluster.run(SECOND * 10);
    let done = cluster.propose(n(1), "b");
    cluster.settle();
    assert!(cluster.server(n(1)).committed.contains_key(&done));
}

#[test]
fn learners_change_by_one_entry_and_a_voter_may_become_one() {
    let mut cluster = with_learners(3, 2);
    let before = cluster.raft(n(1)).status().last.index;
    let token = cluster.reconfigure(n(1), 1..=3, [5]).unwrap();
    cluster.run(SECOND);
    assert!(cluster.is_reconfigured(n(1), token));
    assert_eq!(cluster.raft(n(1)).status().last.index, before.next());
    assert!(learned_removal(&cluster, 4));

    let token = cluster.reconfigure(n(1), [1, 2], [3, 5]).unwrap();
    cluster.run(SECOND);
    assert!(cluster.is_reconfigured(n(1), token));
    assert_eq!(cluster.raft(n(3)).members().learners, ids(&[3, 5]));
    assert!(!learned_removal(&cluster, 3), "a learner is a member");
    cluster.propose(n(1), "a");
    cluster.run(SECOND);
    assert_eq!(cluster.state(n(3)), ["a"]);
}

#[test]
fn m01_nothing_changes_before_an_entry_of_the_leaders_own_term_is_committed() {
    let mut cluster = Cluster::lone(Disk::with_log(3, &[1, 1], hard(1, 0)));
    cluster.win();
    cluster.persist(n(1));
    let refused = cluster.reconfigure(n(1), [1, 2], []);
    assert_eq!(refused, Err(MembersError::NotReady.into()));
    cluster.accept(2, 2);
    assert_eq!(
        cluster.reconfigure(n(1), [1, 2], []),
        Err(MembersError::NotReady.into())
    );
    cluster.accept(2, 3);
    cluster.reconfigure(n(1), [1, 2], []).unwrap();
}

#[test]
fn m02_a_successor_ends_the_joint_configuration_that_it_finds() {
    let mut cluster = with_learners(3, 2);
    let token = cluster.reconfigure(n(1), [3, 4, 5], []).unwrap();
    for other in 2..=5 {
        cluster.cut.insert((n(other), n(1)));
    }
    cluster.settle();
    assert!((2..=5).all(|id| cluster.raft(n(id)).members().is_joint()));
    cluster.cut_off(n(1));
    cluster.run(SECOND * 3);
    let leader = cluster.leader().unwrap();
    assert!(leader != n(1));
    for id in 3..=5 {
        assert_eq!(voters(&cluster, id), ids(&[3, 4, 5]));
        assert!(!cluster.raft(n(id)).status().is_changing_members());
    }
    assert!(learned_removal(&cluster, 2));
    cluster.heal();
    cluster.run(SECOND);
    assert!(
        cluster.is_reconfigured(n(1), token),
        "who asked for it, and leads no more, still learns that it was made"
    );
    assert!(learned_removal(&cluster, 1));
}

#[test]
fn m03_a_joint_configuration_is_left_only_when_it_is_known_committed() {
    let plain = Configuration::of([1, 2, 3].map(NodeId));
    let mut cluster = Cluster::lone(log_of(&[plain, joint(&[1, 2], &[1, 2, 3])]));
    cluster.win();
    cluster.persist(n(1));
    assert_eq!(cluster.raft(n(1)).status().last, LogId::new(2, 3));
    cluster.accept(2, 2);
    assert_eq!(
        cluster.raft(n(1)).status().last,
        LogId::new(2, 3),
        "of an older term: not committed"
    );
    cluster.accept(2, 3);
    assert_eq!(cluster.raft(n(1)).status().last, LogId::new(2, 4));
    assert_eq!(voters(&cluster, 1), ids(&[1, 2]));
    assert!(
        cluster.raft(n(1)).status().is_changing_members(),
        "not committed itself"
    );
    cluster.persist(n(1));
    cluster.accept(2, 4);
    assert!(!cluster.raft(n(1)).status().is_changing_members());
}

#[test]
fn m04_with_an_even_number_the_only_one_that_knows_of_the_commit_may_die() {
    let mut cluster = with_learners(3, 1);
    cluster.reconfigure(n(1), 1..=4, []).unwrap();
    for _ in 0..1000 {
        if !cluster.raft(n(1)).status().is_changing_members() {
            break;
        }
        let (from, to, message) = cluster.wire.pop_front().unwrap();
        cluster.deliver(from, to, message);
    }
    assert_eq!(voters(&cluster, 1), ids(&[1, 2, 3, 4]));
    cluster.wire.clear();
    cluster.crash(n(1));
    cluster.run(SECOND * 3);
    let leader = cluster.leader().unwrap();
    assert!(!cluster.raft(leader).status().is_changing_members());
    let done = cluster.propose(leader, "a");
    cluster.settle();
    assert!(cluster.server(leader).committed.contains_key(&done));
}

#[test]
fn m05_a_leader_that_is_removed_leads_until_it_is_committed_and_hands_over() {
    let mut cluster = with_learners(3, 0);
    let token = cluster.reconfigure(n(1), [2, 3], []).unwrap();
    let mut led_without_vote = false;
    for _ in 0..1000 {
        let raft = cluster.raft(n(1));
        led_without_vote |= raft.role() == Role::Leader && !raft.members().contains(n(1));
        let Some((from, to, message)) = cluster.wire.pop_front() else {
            break;
        };
        cluster.deliver(from, to, message);
    }
    assert!(led_without_vote);
    assert!(cluster.is_reconfigured(n(1), token) && learned_removal(&cluster, 1));
    let successor = cluster
        .leader()
        .expect("handed over without waiting for anything");
    assert!(successor != n(1));
    let term = cluster.raft(successor).term();
    cluster.run(SECOND * 10);
    cluster.crash(n(1));
    cluster.restart(n(1));
    cluster.run(SECOND * 10);
    assert_eq!(
        (cluster.leader(), cluster.raft(successor).term()),
        (Some(successor), term)
    );
    assert_eq!(cluster.raft(n(1)).role(), Role::Follower);
    assert!(cluster.raft(n(1)).status().is_outside());
}

/// The entry that removes it is on its disk alone: the other cannot win without its vote, which it cannot give (thesis §4.2.2).
#[test]
fn m05_a_removed_leader_stands_once_more_if_nobody_else_holds_the_entry() {
    let mut cluster = with_learners(2, 0);
    cluster.reconfigure(n(1), [2], []).unwrap();
    for _ in 0..1000 {
        if !cluster.raft(n(1)).members().is_joint() {
            break;
        }
        let (from, to, message) = cluster.wire.pop_front().unwrap();
        cluster.deliver(from, to, message);
    }
    cluster.wire.clear();
    cluster.crash(n(1));
    assert!(cluster.raft(n(2)).members().is_joint());
    cluster.restart(n(1));
    cluster.run(SECOND * 5);
    assert_eq!(cluster.leader(), Some(n(2)));
    assert_eq!(voters(&cluster, 2), ids(&[2]));
    assert!(!cluster.raft(n(2)).status().is_changing_members());
}

/// Both are needed to take one out: nothing is done, and nothing is broken, until it is back.
#[test]
fn m06_one_of_two_cannot_be_removed_while_it_is_down() {
    let mut cluster = with_learners(2, 0);
    cluster.crash(n(2));
    let token = cluster.reconfigure(n(1), [1], []).unwrap();
    cluster.run(SECOND * 5);
    assert!(cluster.leader().is_none() && cluster.server(n(1)).events.contains(&Event::QuorumLost));
    assert!(!cluster.server(n(1)).resolved.contains_key(&token));
    cluster.restart(n(2));
    cluster.run(SECOND * 5);
    assert!(cluster.is_reconfigured(n(1), token));
    assert_eq!(voters(&cluster, 1), ids(&[1]));
    assert!(learned_removal(&cluster, 2));
}

#[test]
fn m07_a_learner_votes_when_it_is_asked_and_never_stands() {
    let members = Configuration {
        learners: ids(&[1]),
        ..Configuration::of([2, 3].map(NodeId))
    };
    let mut cluster = Cluster::lone(log_of(&[members]));
    for _ in 0..20 {
        cluster.tick(SECOND);
    }
    assert_eq!(cluster.sent(), []);
    let refused = cluster.input(n(1), Input::Campaign);
    assert!(matches!(refused, Err(Reject::Invalid(_))), "{refused:?}");
    // It has been promoted, and does not know it yet.
    let vote = Body::Vote {
        last: LogId::new(1, 9),
        poll: Poll::default(),
        transfer: false,
    };
    cluster.deliver(n(2), n(1), message(2, vote));
    cluster.persist(n(1));
    let sent = cluster.sent();
    assert!(
        matches!(sent[..], [(_, ref reply)] if matches!(reply.body, Body::VoteReply { granted: true, .. })),
        "{sent:?}"
    );
}

#[test]
fn m08_impossible_and_untimely_changes_are_refused_and_change_nothing() {
    let mut cluster = with_learners(3, 1);
    let before = cluster.raft(n(1)).status();
    let crowd = 10..=10 + MEMBERS_MAX as u128;
    for (voters, learners, error) in [
        (vec![], vec![4], MembersError::NoVoters),
        (vec![1, 2, 3], vec![3, 4], MembersError::VoterAndLearner(n(3))),
        (
            crowd.clone().collect(),
            vec![],
            MembersError::TooMany(MEMBERS_MAX + 1),
        ),
        (vec![1], crowd.collect(), MembersError::TooMany(MEMBERS_MAX + 2)),
        (vec![1, 2, 3], vec![4], MembersError::Unchanged),
    ] {
        assert_eq!(cluster.reconfigure(n(1), voters, learners), Err(error.into()));
    }
    let elsewhere = cluster.reconfigure(n(2), [1, 2], []);
    assert_eq!(elsewhere, Err(Reject::NotLeader { leader: Some(n(1)) }));
    assert_eq!(cluster.raft(n(1)).status(), before);
    assert_eq!(cluster.wire.len(), 0);

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
    assert_eq!(cluster.reconfigure(n(1), [1, 2], []), Err(Reject::Transferring));
}

#[test]
fn m08_messages_with_impossible_members_are_refused() {
    let mut cluster = Cluster::lone(Disk::with_log(3, &[1], hard(1, 0)));
    let both = Configuration {
        learners: ids(&[2]),
        ..Configuration::of([1, 2].map(NodeId))
    };
    let demoted = Configuration {
        learners: ids(&[3]),
        ..joint(&[1, 2], &[1, 2, 3])
    };
    let crowd = Configuration::of((1..=MEMBERS_MAX as u128 + 1).map(NodeId));
    for (members, good) in [
        (both, false),
        (Configuration::default(), false),
        (crowd, false),
        (demoted, true),
    ] {
        let entry = Entry {
            id: LogId::new(1, 2),
            payload: Payload::Members(members.clone()),
        };
        let message = append(1, LogId::new(1, 1), vec![entry], 0);
        let taken = cluster.input(n(1), Input::Message { from: n(2), message });
        assert_eq!(taken.is_ok(), good, "{members:?}: {taken:?}");
    }
}

#[test]
fn m09_the_latest_configuration_is_in_force_wherever_it_comes_from() {
    let [a, b, c, d] =
        [[1, 2, 3], [1, 2, 4], [1, 2, 5], [1, 2, 6]].map(|ids| Configuration::of(ids.map(NodeId)));
    // The log's beats the base's.
    let mut disk = log_of(&[a.clone(), b.clone(), c.clone()]);
    disk.hard = hard(1, 2);
    disk.applied = Index(2);
    let mut cluster = Cluster::lone(disk);
    assert_eq!(*cluster.raft(n(1)).members(), c);
    cluster.input(n(1), Input::Compact { through: Index(2) }).unwrap();
    assert_eq!(
        (
            cluster.server(n(1)).disk.base.members.clone(),
            cluster.raft(n(1)).members().clone()
        ),
        (b.clone(), c)
    );
    cluster.crash(n(1));
    cluster.restart(n(1));
    assert_eq!(cluster.raft(n(1)).status().members_id, LogId::new(1, 3));
    // What another leader overwrites is taken back, and the one before is in force again.
    cluster.deliver(n(2), n(1), append(2, LogId::new(1, 2), vec![command(2, 3)], 2));
    assert_eq!(*cluster.raft(n(1)).members(), b);
    assert_eq!(
        cluster.server(n(1)).events.last(),
        Some(&Event::Members(b.clone()))
    );
    cluster.deliver(n(2), n(1), append(2, LogId::new(2, 3), vec![], 3));
    // A snapshot from before what is committed here changes nothing; one from behind the log replaces everything.
    let snapshot = |last, members: &Configuration| {
        let body = Body::Snapshot {
            meta: Box::new(SnapshotMeta {
                last,
                members: members.clone(),
            }),
            chunk: 0,
            data: Bytes::new(),
            done: true,
        };
        message(2, body)
    };
    cluster.deliver(n(2), n(1), snapshot(LogId::new(1, 2), &a));
    assert_eq!(*cluster.raft(n(1)).members(), b);
    cluster.deliver(n(2), n(1), snapshot(LogId::new(2, 9), &d));
    assert_eq!(*cluster.raft(n(1)).members(), d);
    cluster.crash(n(1));
    cluster.restart(n(1));
    assert_eq!(*cluster.raft(n(1)).members(), d);
}

#[test]
fn m10_a_snapshot_from_before_its_time_serves_a_new_learner() {
    let mut cluster = Cluster::with(3, |config| config.tail_bytes = 0);
    cluster.elect_this(n(1));
    for value in ["a", "b", "c"] {
        cluster.propose(n(1), value);
        cluster.run(SECOND / 5);
    }
    for id in 1..=3 {
        let through = cluster.server(n(id)).disk.applied;
        cluster.input(n(id), Input::Compact { through }).unwrap();
    }
    cluster.add(n(4), Disk::default());
    // The state machine of the leader is behind: its snapshot is from before the change.
    let meta = SnapshotMeta {
        last: cluster.raft(n(1)).status().base,
        members: Configuration::of([1, 2, 3].map(NodeId)),
    };
    let term = cluster.raft(n(1)).term().0;
    let data = Bytes::from_static(b"a       b       c       ");
    let body = Body::Snapshot {
        meta: Box::new(meta),
        chunk: 0,
        data,
        done: true,
    };
    cluster.deliver(n(1), n(4), message(term, body));
    assert_eq!(cluster.state(n(4)), ["a", "b", "c"]);
    assert!(!cluster.raft(n(4)).members().contains(n(4)));
    assert!(!learned_removal(&cluster, 4), "it has never been a member");
    let token = cluster.reconfigure(n(1), 1..=3, [4]).unwrap();
    cluster.run(SECOND);
    assert!(cluster.is_reconfigured(n(1), token));

    // And one that has nothing at all gets everything.
    cluster.add(n(5), Disk::default());
    cluster.reconfigure(n(1), 1..=3, [4, 5]).unwrap();
    cluster.propose(n(1), "d");
    cluster.run(SECOND);
    assert_eq!(cluster.server(n(5)).disk.installs, 1);
    for id in [4, 5] {
        assert_eq!(cluster.state(n(id)), ["a", "b", "c", "d"]);
        assert!(cluster.raft(n(id)).members().learners.contains(&n(id)));
    }
}

#[test]
fn m11_a_change_within_a_change_is_refused() {
    let mut cluster = with_learners(3, 2);
    cluster.reconfigure(n(1), [1, 2, 4], []).unwrap();
    let second = [1, 2, 5];
    for _ in 0..1000 {
        let status = cluster.raft(n(1)).status();
        if status.is_changing_members() {
            let refused = cluster.reconfigure(n(1), second, []);
            assert_eq!(refused, Err(MembersError::InProgress.into()), "{status:?}");
        }
        let Some((from, to, message)) = cluster.wire.pop_front() else {
            break;
        };
        cluster.deliver(from, to, message);
    }
    let token = cluster.reconfigure(n(1), second, []).unwrap();
    cluster.run(SECOND);
    assert!(cluster.is_reconfigured(n(1), token));
}

/// Who has lost its disk has forgotten its votes. It comes back as somebody else, and the one it was is taken out.
#[test]
fn m12_a_server_that_lost_its_disk_is_replaced_under_another_id() {
    let mut cluster = with_learners(3, 0);
    let kept = cluster.propose(n(1), "a");
    cluster.run(SECOND);
    cluster.crash(n(3));
    cluster.add(n(4), Disk::default());
    cluster.reconfigure(n(1), [1, 2, 3], [4]).unwrap();
    cluster.run(SECOND);
    let token = cluster.reconfigure(n(1), [1, 2, 4], []).unwrap();
    cluster.run(SECOND);
    assert!(cluster.is_reconfigured(n(1), token) && cluster.server(n(1)).committed.contains_key(&kept));
    cluster.crash(n(1));
    let leader = cluster.elect();
    assert_eq!(cluster.state(leader), ["a"]);
}
