//! What must be durable before it is told. Every rule has a test of its name; disks write only when the test says so.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test picks out what it looks for"
)]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{Cluster, Disk, append, command, hard, message, n};
use lictor_machine::{Index, Machine, NodeId, Now};
use lictor_raft::{
    AppendReply, Body, Configuration, Fault, Input, LogId, Message, Outcome, Poll, ReadMode, Reject, Role,
    SnapshotMeta, Sync, Term, WriteId,
};

const POLL: Poll = Poll { boot: 7, count: 1 };

/// Server 1 of three, with the log 1.1 1.2, whose disk writes only when it is told to.
fn slow_disk() -> Cluster {
    let mut cluster = Cluster::lone(Disk::with_log(3, &[1, 1], hard(1, 0)));
    cluster.server(n(1)).auto_persist = false;
    // Nobody holds a lease any more.
    cluster.tick(Duration::from_millis(500));
    cluster.sent();
    cluster
}

fn vote(term: u64, last: LogId) -> Message {
    let (poll, transfer) = (POLL, false);
    message(term, Body::Vote { last, poll, transfer })
}

fn chunk(term: u64, last: LogId, chunk: u64, done: bool) -> Message {
    let members = Configuration::of((1..=3).map(NodeId));
    let body = Body::Snapshot {
        meta: Box::new(SnapshotMeta { last, members }),
        chunk,
        data: Bytes::from_static(b"aaaaaaaabbbbbbbb"),
        done,
    };
    message(term, body)
}

/// What was sent but for pre-votes.
fn bodies(cluster: &mut Cluster) -> Vec<Body> {
    let bodies = cluster.sent().into_iter().map(|(_, message)| message.body);
    bodies
        .filter(|body| !matches!(body, Body::PreVote { .. }))
        .collect()
}

fn accepted(through: u64) -> Body {
    let through = Index(through);
    Body::AppendReply(AppendReply::Accepted { through })
}

#[test]
fn a_vote_is_told_only_when_it_is_durable() {
    let mut cluster = slow_disk();
    cluster.deliver(n(2), n(1), vote(2, LogId::new(1, 2)));
    assert_eq!(bodies(&mut cluster), []);
    cluster.persist(n(1));
    assert!(matches!(
        bodies(&mut cluster)[..],
        [Body::VoteReply {
            granted: true,
            poll: POLL,
            ..
        }]
    ));
    assert_eq!(cluster.server(n(1)).disk.hard.vote, Some(n(2)));
}

#[test]
fn a_vote_that_was_told_binds_after_a_crash() {
    let mut cluster = slow_disk();
    cluster.deliver(n(2), n(1), vote(2, LogId::new(1, 2)));
    cluster.persist(n(1));
    cluster.crash(n(1));
    cluster.restart(n(1));
    cluster.tick(Duration::from_millis(500));
    bodies(&mut cluster);
    cluster.deliver(n(3), n(1), vote(2, LogId::new(1, 2)));
    assert!(matches!(
        bodies(&mut cluster)[..],
        [Body::VoteReply { granted: false, .. }]
    ));
    // The one who got it asks again: the answer may have been lost.
    cluster.deliver(n(2), n(1), vote(2, LogId::new(1, 2)));
    assert!(matches!(
        bodies(&mut cluster)[..],
        [Body::VoteReply { granted: true, .. }]
    ));
}

#[test]
fn an_append_is_acknowledged_only_as_far_as_it_is_durable() {
    let mut cluster = slow_disk();
    cluster.deliver(n(2), n(1), append(1, LogId::new(1, 2), vec![command(1, 3)], 0));
    // What was there before is durable, and may be told.
    assert_eq!(bodies(&mut cluster), [accepted(2)]);
    cluster.deliver(
        n(2),
        n(1),
        append(1, LogId::new(1, 3), vec![command(1, 4), command(1, 5)], 0),
    );
    assert_eq!(bodies(&mut cluster), []);
    cluster.persist_one(n(1));
    assert_eq!(bodies(&mut cluster), [accepted(3)]);
    cluster.persist_one(n(1));
    assert_eq!(bodies(&mut cluster), [accepted(5)]);
}

#[test]
fn nothing_is_acknowledged_in_a_term_that_a_crash_would_forget() {
    let mut cluster = slow_disk();
    cluster.deliver(n(2), n(1), append(2, LogId::new(1, 2), vec![], 0));
    assert_eq!(bodies(&mut cluster), [], "the log is durable, the term is not");
    cluster.persist(n(1));
    assert_eq!(bodies(&mut cluster), [accepted(2)]);
}

#[test]
fn a_chunk_is_acknowledged_only_when_it_is_durable() {
    let mut cluster = slow_disk();
    let last = LogId::new(1, 9);
    let reply = |next_chunk, done| Body::SnapshotReply {
        snapshot: last,
        next_chunk,
        done,
    };
    cluster.deliver(n(2), n(1), chunk(1, last, 0, false));
    assert_eq!(bodies(&mut cluster), []);
    cluster.persist(n(1));
    assert_eq!(bodies(&mut cluster), [reply(1, false)]);
    cluster.deliver(n(2), n(1), chunk(1, last, 1, true));
    assert_eq!(bodies(&mut cluster), []);
    cluster.persist(n(1));
    let sent = bodies(&mut cluster);
    assert!(sent.contains(&reply(2, true)), "{sent:?}");
}

#[test]
fn a_leader_counts_itself_only_as_far_as_its_disk() {
    let mut cluster = slow_disk();
    cluster.win();
    cluster.propose(n(1), "a");
    // The followers need not wait for the leader's disk (thesis §10.2.1): index 3 began the term, 4 is the command.
    cluster.accept(2, 3);
    assert!(!cluster.server(n(1)).writes.is_empty());
    assert_eq!(cluster.raft(n(1)).commit(), Index(0));
    cluster.accept(2, 4);
    assert_eq!(cluster.raft(n(1)).commit(), Index(0), "one disk of three");
    for body in bodies(&mut cluster) {
        if let Body::Append { commit, .. } | Body::Heartbeat { commit, .. } = body {
            assert_eq!(commit, Index(0));
        }
    }
    cluster.persist(n(1));
    assert_eq!(cluster.raft(n(1)).commit(), Index(4));
}

#[test]
fn a_quorum_without_the_leader_commits_but_the_leader_applies_nothing_before_its_disk() {
    let mut cluster = slow_disk();
    cluster.win();
    cluster.propose(n(1), "a");
    cluster.persist_one(n(1));
    let durable = cluster.raft(n(1)).status().durable;
    assert_eq!(durable, Index(3));
    cluster.accept(2, 4);
    cluster.accept(3, 4);
    assert_eq!(cluster.raft(n(1)).commit(), Index(4));
    assert_eq!(cluster.server(n(1)).disk.applied, durable);
}

#[test]
fn a_single_node_commits_nothing_before_its_disk() {
    let mut cluster = Cluster::lone(Disk::with_log(1, &[1], hard(1, 1)));
    cluster.server(n(1)).auto_persist = false;
    cluster.tick(Duration::from_secs(2));
    assert_eq!(
        cluster.raft(n(1)).role(),
        Role::Candidate,
        "its vote is not durable"
    );
    cluster.persist_one(n(1));
    assert_eq!(cluster.raft(n(1)).role(), Role::Leader);
    let token = cluster.propose(n(1), "a");
    assert_eq!(cluster.raft(n(1)).commit(), Index(1));
    cluster.persist(n(1));
    assert!(cluster.server(n(1)).committed.contains_key(&token));
}

#[test]
fn votes_are_asked_for_when_term_vote_and_log_are_durable() {
    let mut cluster = slow_disk();
    cluster.deliver(n(2), n(1), append(1, LogId::new(1, 2), vec![command(1, 3)], 0));
    cluster.sent();
    cluster.tick(Duration::from_secs(2));
    let (_, pre_vote) = cluster.sent().remove(0);
    let Body::PreVote { last, poll } = pre_vote.body else {
        panic!("{pre_vote:?}")
    };
    assert_eq!((pre_vote.term, last), (Term(2), LogId::new(1, 3)));
    let granted = true;
    let reply = message(2, Body::PreVoteReply { poll, granted });
    cluster.deliver(n(2), n(1), reply);
    assert_eq!(cluster.raft(n(1)).role(), Role::Candidate);
    assert_eq!(bodies(&mut cluster), []);
    cluster.persist_one(n(1));
    assert_eq!(bodies(&mut cluster), [], "the log is durable, the vote is not");
    cluster.persist_one(n(1));
    assert_eq!(cluster.server(n(1)).disk.hard.vote, Some(n(1)));
    let asked = bodies(&mut cluster);
    assert_eq!(asked.len(), 2);
    for body in asked {
        assert!(matches!(body, Body::Vote { last, .. } if last == LogId::new(1, 3)));
    }
}

#[test]
fn a_grant_for_a_former_life_elects_nobody() {
    let mut cluster = slow_disk();
    cluster.tick(Duration::from_secs(2));
    let (_, pre_vote) = cluster.sent().remove(0);
    let Body::PreVote { poll, .. } = pre_vote.body else {
        panic!("{pre_vote:?}")
    };
    let granted = true;
    cluster.deliver(n(2), n(1), message(2, Body::PreVoteReply { poll, granted }));
    cluster.persist(n(1));
    let (_, asked) = cluster.sent().remove(0);
    let Body::Vote { poll: former, .. } = asked.body else {
        panic!("{asked:?}")
    };
    cluster.crash(n(1));
    cluster.restart(n(1));
    cluster.tick(Duration::from_secs(2));
    let commit = LogId::ZERO;
    let late = Body::VoteReply {
        poll: former,
        granted,
        commit,
    };
    cluster.deliver(n(2), n(1), message(2, late));
    assert_ne!(cluster.raft(n(1)).role(), Role::Leader);
}

#[test]
fn completions_are_watermarks_in_whatever_order_they_come() {
    let mut cluster = slow_disk();
    for index in 3..6 {
        let prev = LogId::new(1, index - 1);
        cluster.deliver(n(2), n(1), append(1, prev, vec![command(1, index)], 0));
    }
    bodies(&mut cluster);
    let server = cluster.server(n(1));
    let writes: Vec<_> = server.writes.drain(..).collect();
    for batch in &writes {
        server.disk.write(batch);
    }
    let [first, second, third] = &writes[..] else {
        panic!("{writes:?}")
    };
    let mut report = |through| {
        cluster
            .input(n(1), Input::Persisted { through })
            .map(|()| bodies(&mut cluster))
    };
    assert_eq!(report(second.id), Ok(vec![accepted(4)]));
    assert_eq!(report(first.id), Ok(vec![]), "old news");
    assert_eq!(report(second.id), Ok(vec![]));
    let unknown = WriteId {
        seq: third.id.seq + 1,
        ..third.id
    };
    assert!(matches!(report(unknown), Err(Reject::Invalid(_))));
    let of_another_start = WriteId {
        boot: third.id.boot - 1,
        ..third.id
    };
    assert!(matches!(report(of_another_start), Err(Reject::Invalid(_))));
    assert_eq!(report(third.id), Ok(vec![accepted(5)]));
}

#[test]
fn a_completion_vouches_for_nothing_that_was_replaced_since() {
    let mut cluster = slow_disk();
    let old = vec![command(2, 3), command(2, 4), command(2, 5)];
    cluster.deliver(n(2), n(1), append(2, LogId::new(1, 2), old, 0));
    cluster.deliver(
        n(3),
        n(1),
        message(
            3,
            Body::Heartbeat {
                commit: Index(0),
                round: 1,
            },
        ),
    );
    let new = vec![command(3, 3), command(3, 4)];
    cluster.deliver(n(3), n(1), append(3, LogId::new(1, 2), new, 0));
    bodies(&mut cluster);
    assert_eq!(cluster.server(n(1)).writes.len(), 3);
    // The old entries reach the disk, at indexes that hold others in memory.
    cluster.persist_one(n(1));
    cluster.persist_one(n(1));
    assert_eq!(cluster.server(n(1)).disk.last(), Index(5));
    assert_eq!(cluster.raft(n(1)).status().durable, Index(2));
    for body in bodies(&mut cluster) {
        assert_eq!(body, accepted(2));
    }
    cluster.persist_one(n(1));
    assert_eq!(bodies(&mut cluster), [accepted(4)]);
    let ids = [
        LogId::new(1, 1),
        LogId::new(1, 2),
        LogId::new(3, 3),
        LogId::new(3, 4),
    ];
    assert_eq!(cluster.server(n(1)).disk.log(), ids);
}

#[test]
fn the_term_is_written_before_or_with_its_entries() {
    let mut cluster = slow_disk();
    cluster.deliver(n(2), n(1), append(5, LogId::new(1, 2), vec![command(5, 3)], 0));
    let batch = cluster.persist_one(n(1)).unwrap();
    assert_eq!(batch.hard_state.map(|hard| hard.term), Some(Term(5)));
    assert_eq!(batch.append, [command(5, 3)]);
    assert_eq!(batch.sync, Sync::Required);
}

#[test]
fn a_snapshot_takes_the_place_of_log_and_hard_state_in_one_write() {
    for writes in 0..=2 {
        let mut cluster = slow_disk();
        let last = LogId::new(4, 9);
        cluster.deliver(n(2), n(1), chunk(5, last, 0, false));
        cluster.persist(n(1));
        cluster.deliver(n(2), n(1), chunk(5, last, 1, true));
        let pending = cluster.server(n(1)).writes.clone();
        let install = pending.iter().find(|batch| batch.install.is_some()).unwrap();
        assert_eq!(install.hard_state.map(|hard| hard.commit), Some(last.index));
        for _ in 0..writes {
            cluster.persist_one(n(1));
        }
        let installed = cluster.server(n(1)).disk.base.last == last;
        cluster.crash(n(1));
        let disk = cluster.server(n(1)).disk.clone();
        if installed {
            assert!(disk.entries.is_empty());
            assert_eq!(disk.hard.commit, last.index);
        } else {
            assert_eq!(disk.log(), [LogId::new(1, 1), LogId::new(1, 2)]);
        }
        cluster.restart(n(1));
        let applied = if installed { last.index } else { Index(0) };
        assert_eq!(cluster.raft(n(1)).status().applied, applied);
    }
}

#[test]
fn after_a_failed_write_nothing_leaves_any_more() {
    let mut cluster = slow_disk();
    cluster.deliver(n(2), n(1), vote(2, LogId::new(1, 2)));
    bodies(&mut cluster);
    let now = Now::at(cluster.now);
    let write = cluster.server(n(1)).writes[0].id;
    let raft = &mut cluster.server(n(1)).raft;
    // Something is ready to leave when the failure is reported.
    let from = n(3);
    let pre_vote = Body::PreVote {
        last: LogId::new(1, 2),
        poll: POLL,
    };
    let message = message(9, pre_vote);
    raft.handle(now, Input::Message { from, message }).unwrap();
    let failed = |detail: &str| Input::PersistFailed {
        id: write,
        detail: detail.into(),
    };
    raft.handle(now, failed("broken")).unwrap();
    assert!(raft.poll_effect().is_none());
    assert_eq!(raft.poll_timeout(), None);
    let fault = Fault::Write("broken".into());
    assert_eq!(raft.fault(), Some(&fault));
    // The write that something waited for completes after all: too late.
    let through = write;
    assert_eq!(
        raft.handle(now, Input::Persisted { through }),
        Err(Reject::Faulted(fault.clone()))
    );
    assert_eq!(
        raft.handle(now, failed("again")),
        Err(Reject::Faulted(fault.clone()))
    );
    raft.handle_timeout(now);
    assert!(raft.poll_effect().is_none());
    assert_eq!(raft.fault(), Some(&fault), "the first reason is kept");
}

#[test]
fn the_durable_commit_index_never_passes_the_durable_log() {
    // The harness asserts it at every write; here a crash comes after each of them.
    for writes in 0..=4 {
        let mut cluster = slow_disk();
        for index in 3..7 {
            let prev = LogId::new(1, index - 1);
            cluster.deliver(n(2), n(1), append(1, prev, vec![command(1, index)], index));
        }
        assert_eq!(cluster.raft(n(1)).commit(), Index(6));
        assert_eq!(cluster.server(n(1)).writes.len(), 4);
        for _ in 0..writes {
            cluster.persist_one(n(1));
        }
        cluster.crash(n(1));
        cluster.restart(n(1));
        let status = cluster.raft(n(1)).status();
        assert_eq!(status.last.index, Index(2 + writes));
        assert!(status.commit <= status.last.index);
        assert!(status.applied <= status.commit);
    }
}

#[test]
fn reads_wait_for_an_entry_of_the_leaders_own_term() {
    let mut cluster = slow_disk();
    cluster.win();
    cluster.persist(n(1));
    cluster.sent();
    let token = cluster.read(n(1), ReadMode::Quorum).unwrap();
    let leased = cluster.read(n(1), ReadMode::Lease).unwrap();
    let (request, lease) = (4, true);
    cluster.deliver(n(2), n(1), message(2, Body::ReadIndex { request, lease }));
    // All heartbeats are answered: the leader is one beyond doubt, and yet it does not know what is committed.
    for round in 1..4 {
        cluster.deliver(n(2), n(1), message(2, Body::HeartbeatReply { round }));
    }
    assert_eq!(bodies(&mut cluster), []);
    assert!(cluster.server(n(1)).resolved.is_empty());
    assert_eq!(cluster.raft(n(1)).lease_until(), None);

    cluster.accept(2, 3);
    let round = bodies(&mut cluster).into_iter().find_map(|body| match body {
        Body::Heartbeat { round, .. } => Some(round),
        _ => None,
    });
    assert!(
        cluster.server(n(1)).resolved.is_empty(),
        "it takes a round of its own"
    );
    let round = round.unwrap();
    cluster.deliver(n(2), n(1), message(2, Body::HeartbeatReply { round }));
    let read = Outcome::Read { index: Index(3) };
    assert_eq!(cluster.server(n(1)).resolved[&token], read);
    assert_eq!(cluster.server(n(1)).resolved[&leased], read);
    let index = Some(Index(3));
    assert!(bodies(&mut cluster).contains(&Body::ReadIndexReply { request, index }));
}

#[test]
fn a_lazy_write_holds_no_message_back() {
    let mut cluster = Cluster::lone(Disk::with_log(3, &[1, 1, 1], hard(1, 3)));
    cluster.tick(Duration::from_millis(500));
    cluster.sent();
    cluster.server(n(1)).auto_persist = false;
    cluster.input(n(1), Input::Compact { through: Index(2) }).unwrap();
    assert_eq!(cluster.server(n(1)).writes[0].sync, Sync::Lazy);
    cluster.deliver(n(2), n(1), vote(1, LogId::ZERO));
    assert!(matches!(
        bodies(&mut cluster)[..],
        [Body::VoteReply { granted: false, .. }]
    ));
}

#[test]
fn a_hung_disk_holds_back_a_bounded_number_of_messages() {
    let mut cluster = slow_disk();
    for _ in 0..10_000 {
        cluster.deliver(n(2), n(1), vote(2, LogId::new(1, 2)));
    }
    assert_eq!(bodies(&mut cluster), []);
    cluster.persist(n(1));
    let released = bodies(&mut cluster).len();
    assert!((1..=4096).contains(&released), "{released}");
}
