//! How logs become equal, and what is committed when.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test picks out what it looks for"
)]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{Cluster, Disk, append, command, hard, message, n};
use lictor_machine::{Index, Machine, NodeId};
use lictor_raft::{
    AppendReply, Body, Configuration, Entry, Fault, Input, LogId, Outcome, Payload, Poll, Reject, Role,
    SnapshotMeta, Term,
};

fn appends(cluster: &mut Cluster, to: u128) -> Vec<(LogId, Vec<Entry>)> {
    let sent = cluster.sent().into_iter().filter(|(id, _)| *id == n(to));
    let appends = sent.filter_map(|(_, message)| match message.body {
        Body::Append { prev, entries, .. } => Some((prev, entries)),
        _ => None,
    });
    appends.collect()
}

fn rejected(term: u64, prev: u64, hint: LogId, last: u64) -> lictor_raft::Message {
    let (prev, last) = (Index(prev), Index(last));
    message(
        term,
        Body::AppendReply(AppendReply::Rejected { prev, hint, last }),
    )
}

/// Figure 8 of the paper: an entry of an older term on a quorum is not committed by that, since it may yet be overwritten.
#[test]
fn replicas_of_an_older_term_commit_nothing() {
    let mut cluster = Cluster::lone(Disk::with_log(5, &[1, 2], hard(3, 1)));
    cluster.tick(Duration::from_secs(2));
    let (_, ask) = cluster.sent().remove(0);
    let Body::PreVote { poll, .. } = ask.body else {
        panic!("{ask:?}")
    };
    let granted = true;
    for id in [2, 3] {
        cluster.deliver(n(id), n(1), message(4, Body::PreVoteReply { poll, granted }));
    }
    let (_, ask) = cluster.sent().remove(0);
    let Body::Vote { poll, .. } = ask.body else {
        panic!("{ask:?}")
    };
    for id in [2, 3] {
        let commit = LogId::new(1, 1);
        cluster.deliver(
            n(id),
            n(1),
            message(
                4,
                Body::VoteReply {
                    poll,
                    granted,
                    commit,
                },
            ),
        );
    }
    assert_eq!(cluster.raft(n(1)).role(), Role::Leader);
    for id in 2..=5 {
        cluster.accept(id, 2);
        assert_eq!(cluster.raft(n(1)).commit(), Index(1), "2.2 is on {id} servers");
    }
    cluster.accept(2, 3);
    assert_eq!(cluster.raft(n(1)).commit(), Index(1));
    cluster.accept(3, 3);
    assert_eq!(
        cluster.raft(n(1)).commit(),
        Index(3),
        "and with it everything before"
    );
}

#[test]
fn old_refusals_move_nothing_back() {
    let mut cluster = Cluster::lone(Disk::with_log(3, &[1, 1, 1, 1], hard(1, 0)));
    cluster.win();
    cluster.accept(2, 4);
    cluster.accept(2, 5);
    let next = |cluster: &Cluster| {
        let status = cluster.raft(n(1)).status();
        let peer = status.peers.into_iter().find(|peer| peer.id == n(2)).unwrap();
        assert!(peer.next > peer.matched);
        (peer.matched, peer.next)
    };
    assert_eq!(next(&cluster), (Index(5), Index(6)));
    for prev in 0..=9 {
        for hint in [LogId::ZERO, LogId::new(1, 1), LogId::new(1, 4)] {
            cluster.deliver(n(2), n(1), rejected(2, prev, hint, 3));
            assert_eq!(next(&cluster), (Index(5), Index(6)), "refusal of {prev}");
        }
    }
    cluster.accept(2, 3);
    assert_eq!(next(&cluster), (Index(5), Index(6)), "an old acceptance");
    cluster.accept(2, 99);
    assert_eq!(next(&cluster), (Index(5), Index(6)), "of more than there is");
}

/// One step back for each term that the logs differ in, not for each entry.
#[test]
fn diverged_logs_meet_in_few_steps() {
    let terms: Vec<u64> = [vec![1; 10], vec![4; 50]].concat();
    let mut cluster = Cluster::empty(|_| {});
    cluster.add(n(1), Disk::with_log(3, &terms, hard(4, 1)));
    let other: Vec<u64> = [vec![1; 10], vec![2; 30], vec![3; 40]].concat();
    cluster.add(n(2), Disk::with_log(3, &other, hard(4, 1)));
    cluster.elect_this(n(1));
    cluster.run(Duration::from_secs(1));
    assert_eq!(
        cluster.servers[&n(1)].disk.log(),
        cluster.servers[&n(2)].disk.log()
    );

    let mut cluster = Cluster::lone(Disk::with_log(3, &terms, hard(4, 1)));
    cluster.win();
    let (prev, _) = appends(&mut cluster, 2).remove(0);
    assert_eq!(prev.index, Index(60));
    // Server 2's log is `other`: the last entry at or before 59 with a term of at most 4 is 3.59.
    cluster.deliver(n(2), n(1), rejected(5, 60, LogId::new(3, 59), 80));
    let (prev, entries) = appends(&mut cluster, 2).remove(0);
    assert_eq!(prev, LogId::new(1, 10), "nothing of term 4 can match");
    assert_eq!(entries.first().map(|entry| entry.id), Some(LogId::new(4, 11)));
}

#[test]
fn an_append_that_begins_before_the_base_is_taken_from_there_on() {
    let mut disk = Disk::with_log(3, &[1; 6], hard(1, 5));
    let members = Configuration::of((1..=3).map(NodeId));
    disk.entries = disk.entries.split_off(&Index(5));
    disk.base = SnapshotMeta {
        last: LogId::new(1, 4),
        members,
    };
    disk.applied = Index(4);
    let mut cluster = Cluster::lone(disk);
    let all: Vec<Entry> = (2..=8).map(|index| command(1, index)).collect();
    let accepted = |cluster: &mut Cluster| {
        let replies = cluster.sent().into_iter().map(|(_, message)| message.body);
        replies.collect::<Vec<_>>()
    };
    let through = |through| {
        Body::AppendReply(AppendReply::Accepted {
            through: Index(through),
        })
    };
    // All of it is settled already.
    cluster.deliver(n(2), n(1), append(1, LogId::new(1, 1), all[..2].to_vec(), 0));
    assert_eq!(accepted(&mut cluster), [through(5)]);
    cluster.deliver(n(2), n(1), append(1, LogId::new(1, 1), all.clone(), 6));
    assert_eq!(
        accepted(&mut cluster),
        [through(6), through(8)],
        "what is durable, and then the rest"
    );
    assert_eq!(cluster.server(n(1)).disk.last(), Index(8));
    assert_eq!(cluster.raft(n(1)).commit(), Index(6));
}

#[test]
fn what_is_committed_is_never_overwritten() {
    for prev in [LogId::new(1, 1), LogId::new(1, 2)] {
        let mut cluster = Cluster::lone(Disk::with_log(3, &[1, 1, 1], hard(1, 3)));
        let first = prev.index.0 + 1;
        let entries = (first..6).map(|index| command(2, index)).collect();
        cluster.deliver(n(2), n(1), append(2, prev, entries, 5));
        assert!(matches!(cluster.raft(n(1)).fault(), Some(Fault::Safety(_))));
        assert_eq!(cluster.server(n(1)).disk.last(), Index(3));
    }
}

#[test]
fn a_heartbeat_says_nothing_about_the_log() {
    let mut cluster = Cluster::lone(Disk::with_log(3, &[1, 1], hard(1, 0)));
    let (commit, round) = (Index(9), 4);
    cluster.deliver(n(2), n(1), message(2, Body::Heartbeat { commit, round }));
    let sent: Vec<Body> = cluster
        .sent()
        .into_iter()
        .map(|(_, message)| message.body)
        .collect();
    assert_eq!(sent, [Body::HeartbeatReply { round }]);
    assert_eq!(
        cluster.raft(n(1)).commit(),
        Index(0),
        "the logs are not known to be equal"
    );
    cluster.deliver(n(2), n(1), append(2, LogId::new(1, 1), vec![], 0));
    cluster.deliver(n(2), n(1), message(2, Body::Heartbeat { commit, round }));
    assert_eq!(cluster.raft(n(1)).commit(), Index(1), "as far as they are");
}

#[test]
fn a_failed_read_of_the_store_is_never_taken_for_an_empty_log() {
    let mut cluster = Cluster::empty(|config| config.tail_bytes = 0);
    let terms = [1; 20];
    cluster.add(n(1), Disk::with_log(3, &terms, hard(1, 1)));
    cluster.win();
    cluster.sent();
    cluster.server(n(1)).unreadable = true;
    cluster.deliver(n(2), n(1), rejected(2, 20, LogId::new(1, 5), 5));
    assert_eq!(appends(&mut cluster, 2), []);
    assert_eq!(
        cluster.raft(n(1)).fault(),
        Some(&Fault::Read("unreadable".into()))
    );
}

#[test]
fn a_window_that_was_lost_opens_again() {
    let mut cluster = Cluster::with(3, |config| {
        config.window_messages = 2.try_into().unwrap();
        config.append_bytes_max = 50.try_into().unwrap();
    });
    let leader = cluster.elect();
    cluster.run(Duration::from_secs(1));
    let follower = *cluster.ids().iter().find(|id| **id != leader).unwrap();
    // Heartbeats get through, appends and their answers do not.
    for i in 0..20 {
        cluster.propose(leader, &format!("c{i}"));
        cluster.take(|_, to, body| to == follower && matches!(body, Body::Append { .. }));
        cluster.take(|from, _, body| from == follower && matches!(body, Body::AppendReply(_)));
    }
    let in_flight = |cluster: &Cluster| {
        let status = cluster.raft(leader).status();
        let peer = status.peers.into_iter().find(|peer| peer.id == follower).unwrap();
        (peer.bytes_in_flight, peer.matched)
    };
    assert!(in_flight(&cluster).0 > 0);
    cluster.run(Duration::from_secs(3));
    let last = cluster.raft(leader).status().last.index;
    assert_eq!(in_flight(&cluster), (0, last));
    assert_eq!(cluster.state(follower).len(), 20);
}

/// Whoever waits on a deposed leader hears soon that its proposals are lost, also those far behind the new leader's log.
#[test]
fn proposals_of_a_deposed_leader_are_lost_exactly_once() {
    let mut cluster = Cluster::new(3);
    let first = cluster.elect();
    cluster.run(Duration::from_secs(1));
    cluster.cut_off(first);
    let tokens: Vec<_> = (0..20)
        .map(|i| cluster.propose(first, &format!("c{i}")))
        .collect();
    cluster.run(Duration::from_secs(3));
    let second = cluster.leader().unwrap();
    assert_ne!(second, first);
    assert!(
        cluster.server(first).resolved.is_empty(),
        "they may still come to pass"
    );
    cluster.heal();
    cluster.run(Duration::from_secs(2));
    // One entry of the new term suffices.
    assert!(cluster.raft(second).commit() < cluster.raft(second).status().last.index.next());
    for token in tokens {
        assert_eq!(cluster.server(first).resolved.get(&token), Some(&Outcome::Lost));
    }
    assert_eq!(cluster.state(first), Vec::<String>::new());
}

/// The same, but one follower had received them, and it is that one who wins.
#[test]
fn proposals_that_reached_the_next_leader_are_committed_for_the_one_who_made_them() {
    let mut cluster = Cluster::new(3);
    let first = cluster.elect();
    cluster.run(Duration::from_secs(1));
    let others: Vec<_> = cluster.ids().into_iter().filter(|id| *id != first).collect();
    // What reaches the others is never acknowledged.
    for other in &others {
        cluster.cut.insert((*other, first));
    }
    let token = cluster.propose(first, "a");
    cluster.settle();
    cluster.cut_off(first);
    cluster.run(Duration::from_secs(3));
    cluster.heal();
    cluster.run(Duration::from_secs(2));
    assert!(cluster.server(first).committed.contains_key(&token));
    assert_eq!(cluster.state(others[0]), ["a"]);
}

#[test]
fn a_log_longer_than_memory_is_applied_from_the_store() {
    let mut cluster = Cluster::with(3, |config| {
        config.tail_bytes = 100;
        config.apply_bytes_max = 90.try_into().unwrap();
    });
    let leader = cluster.elect();
    let expected: Vec<String> = (0..40).map(|i| format!("c{i}")).collect();
    for data in &expected {
        cluster.propose(leader, data);
    }
    cluster.run(Duration::from_secs(1));
    for id in cluster.ids() {
        cluster.crash(id);
        let disk = &mut cluster.server(id).disk;
        disk.applied = Index::ZERO;
        disk.state.clear();
        cluster.restart(id);
    }
    cluster.elect();
    cluster.run(Duration::from_secs(1));
    for id in cluster.ids() {
        assert_eq!(cluster.state(id), expected);
    }
}

#[test]
fn messages_that_contradict_themselves_are_refused_and_change_nothing() {
    let id = LogId::new;
    let members = |voters: &[u128], learners: &[u128]| Configuration {
        voters: voters.iter().copied().map(NodeId).collect(),
        learners: learners.iter().copied().map(NodeId).collect(),
        ..Configuration::default()
    };
    let config = |members| Entry {
        id: id(1, 2),
        payload: Payload::Members(members),
    };
    let snapshot = |last, members| Body::Snapshot {
        meta: Box::new(SnapshotMeta { last, members }),
        chunk: 0,
        data: Bytes::new(),
        done: false,
    };
    let huge = Index(u64::MAX);
    let poll = Poll::default();
    let good = members(&[1, 2, 3], &[]);
    let bad = [
        append(0, id(1, 1), vec![], 0),
        append(2, id(3, 1), vec![], 0),
        append(2, id(1, 0), vec![], 0),
        append(
            2,
            LogId {
                term: Term(0),
                index: Index(1),
            },
            vec![],
            0,
        ),
        append(2, id(1, 1), vec![], u64::MAX),
        append(2, id(1, 1), vec![command(1, 3)], 0),
        append(2, id(1, 1), vec![command(1, 2), command(1, 2)], 0),
        append(2, id(2, 1), vec![command(1, 2)], 0),
        append(2, id(1, 1), vec![command(3, 2)], 0),
        append(2, id(1, 1), vec![config(members(&[], &[]))], 0),
        append(2, id(1, 1), vec![config(members(&[1, 2], &[2]))], 0),
        append(
            2,
            id(1, 1),
            vec![config(members(&(0..2000).collect::<Vec<_>>(), &[]))],
            0,
        ),
        message(2, snapshot(LogId::ZERO, good.clone())),
        message(2, snapshot(id(3, 4), good.clone())),
        message(2, snapshot(id(1, 4), members(&[], &[]))),
        message(
            2,
            Body::Vote {
                last: id(2, 1),
                poll,
                transfer: false,
            },
        ),
        message(2, Body::PreVote { last: id(5, 1), poll }),
        message(
            2,
            Body::Heartbeat {
                commit: huge,
                round: 0,
            },
        ),
        message(2, Body::AppendReply(AppendReply::Accepted { through: huge })),
        rejected(2, u64::MAX, LogId::ZERO, 0),
        rejected(2, 1, id(1, u64::MAX), 0),
        message(
            2,
            Body::ReadIndexReply {
                request: 0,
                index: Some(huge),
            },
        ),
        message(
            2,
            Body::SnapshotReply {
                snapshot: id(1, 1),
                next_chunk: u64::MAX,
                done: false,
            },
        ),
        message(0, Body::TimeoutNow),
    ];
    let mut cluster = Cluster::lone(Disk::with_log(3, &[1, 1], hard(1, 1)));
    cluster.settle();
    let before = cluster.raft(n(1)).status();
    for message in bad {
        let from = n(2);
        let refused = cluster.input(
            n(1),
            Input::Message {
                from,
                message: message.clone(),
            },
        );
        assert!(matches!(refused, Err(Reject::Malformed(_))), "{message:?}");
        assert_eq!(cluster.raft(n(1)).status(), before);
        assert_eq!(cluster.sent(), []);
    }
    let (from, message) = (n(1), append(2, id(1, 1), vec![], 0));
    let refused = cluster.input(n(1), Input::Message { from, message });
    assert!(matches!(refused, Err(Reject::Malformed(_))), "from itself");
}
