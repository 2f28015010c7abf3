//! Servers that come and go (Raft §6): what a change needs, how it ends, and who may do what in the meantime. Numbers such as M-05 are those of
//! bugs that other implementations had.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use common::{Cluster, Disk, append, command, hard, message, n};
use lictor_machine::{Index, Instant, Machine, NodeId};
use lictor_raft::{
    Body, Configuration, Entry, Event, Input, LogId, MEMBERS_MAX, MembersError, Outcome, Payload, Poll, Raft,
    ReadMode, Reject, Role, SnapshotMeta,
};

const SECOND: Duration = Duration::from_secs(1);

fn ids(of: &[u128]) -> BTreeSet<NodeId> {
    of.iter().copied().map(NodeId).collect()
}

fn joint(voters: &[u128], outgoing: &[u128]) -> Configuration {
    Configuration {
        voters: ids(voters),
        outgoing: ids(outgoing),
        learners: BTreeSet::new(),
    }
}

/// A cluster of `size` servers, led by the first, with `spares` more that are learners and have caught up.
fn with_learners(size: u128, spares: u128) -> Cluster {
    let mut cluster = Cluster::new(size);
    cluster.elect_this(n(1));
    if spares == 0 {
        return cluster;
    }
    let learners = size + 1..=size + spares;
    for id in learners.clone() {
        cluster.add(n(id), Disk::default());
    }
    let token = cluster.reconfigure(n(1), 1..=size, learners).unwrap();
    cluster.run(SECOND);
    assert!(cluster.is_reconfigured(n(1), token));
    cluster
}

/// The log of server 1, with these configurations behind each other in it, all of term 1.
fn log_of(members: &[Configuration]) -> Disk {
    let entries = members.iter().zip(1..).map(|(members, index)| {
        let id = LogId::new(1, index);
        let payload = Payload::Members(members.clone());
        (id.index, Entry { id, payload })
    });
    Disk {
        hard: hard(1, 0),
        entries: entries.collect(),
        ..Disk::default()
    }
}

fn voters(cluster: &Cluster, id: u128) -> BTreeSet<NodeId> {
    let members = cluster.raft(n(id)).members();
    assert!(!members.is_joint(), "{members:?}");
    members.voters.clone()
}

fn learned_removal(cluster: &Cluster, id: u128) -> bool {
    cluster.servers[&n(id)].events.contains(&Event::Removed)
}

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
