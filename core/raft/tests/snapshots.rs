//! Snapshots: chunks that are lost, late, doubled or of another sender, and what becomes of the log.

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
    AppendReply, Body, Configuration, Event, Input, LogId, Message, Outcome, Role, SnapshotMeta,
};

fn members() -> Configuration {
    Configuration::of((1..=3).map(NodeId))
}

fn chunk(term: u64, last: LogId, chunk: u64, text: &str, done: bool) -> Message {
    let body = Body::Snapshot {
        meta: Box::new(SnapshotMeta {
            last,
            members: members(),
        }),
        chunk,
        data: Bytes::from(format!("{text:<8}")),
        done,
    };
    message(term, body)
}

/// The chunk wanted next, and whether that was all, of every snapshot reply.
fn wanted(cluster: &mut Cluster) -> Vec<(u64, bool)> {
    let replies = cluster
        .sent()
        .into_iter()
        .filter_map(|(_, message)| match message.body {
            Body::SnapshotReply { next_chunk, done, .. } => Some((next_chunk, done)),
            _ => None,
        });
    replies.collect()
}

#[test]
fn a_snapshot_drops_a_conflicting_tail() {
    let mut cluster = Cluster::lone(Disk::with_log(3, &[1, 1, 2, 2, 2, 2], hard(2, 2)));
    let last = LogId::new(3, 4);
    cluster.deliver(n(2), n(1), chunk(4, last, 0, "a", true));
    assert_eq!(wanted(&mut cluster), [(1, true)]);
    assert_eq!(cluster.state(n(1)), ["a"]);
    assert!(cluster.server(n(1)).disk.entries.is_empty());
    cluster.deliver(n(2), n(1), append(4, last, vec![command(4, 5)], 5));
    assert_eq!(cluster.server(n(1)).disk.log(), [LogId::new(4, 5)]);
    assert_eq!(cluster.server(n(1)).disk.applied, Index(5));
}

#[test]
fn a_snapshot_of_what_is_there_already_truncates_nothing() {
    let mut cluster = Cluster::lone(Disk::with_log(3, &[1; 6], hard(1, 0)));
    cluster.deliver(n(2), n(1), append(1, LogId::new(1, 6), vec![], 0));
    let through = Index(6);
    let reply = cluster.sent().remove(0).1.body;
    assert_eq!(reply, Body::AppendReply(AppendReply::Accepted { through }));
    cluster.deliver(n(2), n(1), chunk(1, LogId::new(1, 4), 0, "a", true));
    assert_eq!(wanted(&mut cluster), [(0, true)]);
    assert_eq!(cluster.server(n(1)).disk.last(), through);
    assert_eq!(
        cluster.raft(n(1)).commit(),
        Index(4),
        "what it includes is committed"
    );
}

#[test]
fn a_node_without_a_configuration_takes_a_snapshot() {
    let mut cluster = Cluster::lone(Disk::default());
    cluster.deliver(n(2), n(1), chunk(4, LogId::new(3, 9), 0, "a", true));
    assert_eq!(cluster.raft(n(1)).members(), &members());
    assert_eq!(cluster.state(n(1)), ["a"]);
    assert!(cluster.server(n(1)).events.contains(&Event::Members(members())));
}

#[test]
fn chunks_that_are_late_or_doubled_are_answered_with_what_is_wanted() {
    let mut cluster = Cluster::lone(Disk::with_log(3, &[1], hard(1, 0)));
    let last = LogId::new(1, 9);
    cluster.deliver(n(2), n(1), chunk(1, last, 1, "b", false));
    assert_eq!(wanted(&mut cluster), [(0, false)]);
    cluster.deliver(n(2), n(1), chunk(1, last, 0, "a", false));
    cluster.deliver(n(2), n(1), chunk(1, last, 0, "a", false));
    assert_eq!(wanted(&mut cluster), [(1, false), (1, false)]);
    // One that the leader gave up for this.
    cluster.deliver(n(2), n(1), chunk(1, LogId::new(1, 7), 0, "z", true));
    assert_eq!(wanted(&mut cluster), []);
    cluster.deliver(n(2), n(1), chunk(1, last, 1, "b", true));
    assert_eq!(wanted(&mut cluster), [(2, true)]);
    assert_eq!(cluster.state(n(1)), ["a", "b"]);
    cluster.deliver(n(2), n(1), chunk(1, last, 0, "a", false));
    assert_eq!(wanted(&mut cluster), [(0, true)], "it is installed");
    assert_eq!(cluster.state(n(1)), ["a", "b"]);
}

#[test]
fn a_lost_connection_resumes_where_it_broke() {
    let mut cluster = Cluster::lone(Disk::with_log(3, &[1], hard(1, 0)));
    let last = LogId::new(1, 9);
    cluster.deliver(n(2), n(1), chunk(1, last, 0, "a", false));
    cluster.tick(Duration::from_secs(3));
    assert_eq!(cluster.raft(n(1)).leader(), None);
    cluster.sent();
    cluster.deliver(n(2), n(1), chunk(1, last, 1, "b", true));
    assert_eq!(wanted(&mut cluster), [(2, true)]);
    assert_eq!(cluster.state(n(1)), ["a", "b"]);
}

/// The next leader may hold the same snapshot, cut into other chunks.
#[test]
fn chunks_of_two_senders_are_never_mixed() {
    for (from, term) in [(3, 2), (2, 2)] {
        let mut cluster = Cluster::lone(Disk::with_log(3, &[1], hard(1, 0)));
        let last = LogId::new(1, 9);
        cluster.deliver(n(2), n(1), chunk(1, last, 0, "a", false));
        cluster.sent();
        cluster.deliver(n(from), n(1), chunk(term, last, 1, "x", true));
        assert_eq!(wanted(&mut cluster), [(0, false)]);
        cluster.deliver(n(from), n(1), chunk(term, last, 0, "ab", true));
        assert_eq!(cluster.state(n(1)), ["ab"]);
    }
}

#[test]
fn a_node_that_is_installing_campaigns_only_afterwards() {
    let mut cluster = Cluster::lone(Disk::with_log(3, &[1], hard(1, 0)));
    cluster.server(n(1)).auto_persist = false;
    cluster.deliver(n(2), n(1), chunk(1, LogId::new(1, 9), 0, "a", true));
    cluster.deliver(n(2), n(1), chunk(1, LogId::new(1, 9), 0, "a", true));
    cluster.sent();
    cluster.tick(Duration::from_secs(5));
    assert_eq!(cluster.raft(n(1)).role(), Role::Follower);
    assert_eq!(cluster.raft(n(1)).poll_timeout(), None);
    assert_eq!(cluster.sent(), []);
    cluster.persist(n(1));
    assert_eq!(wanted(&mut cluster), [(1, true)]);
    cluster.tick(Duration::from_secs(5));
    assert_eq!(cluster.raft(n(1)).role(), Role::PreCandidate);
}

/// The first chunk of the next leader's snapshot must not discard what the state machine has yet to load.
#[test]
fn nothing_is_staged_while_a_snapshot_waits_to_be_loaded() {
    let mut cluster = Cluster::lone(Disk::with_log(3, &[1], hard(1, 0)));
    cluster.server(n(1)).auto_persist = false;
    cluster.deliver(n(2), n(1), chunk(1, LogId::new(1, 9), 0, "a", true));
    let now = Now::at(cluster.now);
    let server = cluster.server(n(1));
    for batch in std::mem::take(&mut server.writes) {
        server.disk.write(&batch);
        let durable = Input::Persisted { through: batch.id };
        server.raft.handle(now, durable).unwrap();
    }
    // In the same turn, before the order to load has been carried out.
    let next = Input::Message {
        from: n(3),
        message: chunk(2, LogId::new(1, 12), 0, "b", true),
    };
    server.raft.handle(now, next.clone()).unwrap();
    cluster.drain(n(1));
    cluster.persist(n(1));
    assert_eq!(cluster.state(n(1)), ["a"]);
    assert_eq!(cluster.server(n(1)).disk.applied, Index(9));
    // Sent again, it is taken.
    cluster.input(n(1), next).unwrap();
    cluster.persist(n(1));
    assert_eq!(cluster.state(n(1)), ["b"]);
}

#[test]
fn a_peer_that_caught_up_in_another_way_needs_no_snapshot() {
    let mut cluster = Cluster::lone(Disk::with_log(3, &[1; 10], hard(1, 10)));
    cluster.drain(n(1));
    cluster.input(n(1), Input::Compact { through: Index(8) }).unwrap();
    cluster.win();
    cluster.sent();
    let (prev, hint, last) = (Index(10), LogId::new(1, 3), Index(3));
    let reply = AppendReply::Rejected { prev, hint, last };
    cluster.deliver(n(2), n(1), message(2, Body::AppendReply(reply)));
    let receiving = |cluster: &Cluster| {
        let status = cluster.raft(n(1)).status();
        status
            .peers
            .into_iter()
            .any(|peer| peer.id == n(2) && peer.snapshot)
    };
    assert!(receiving(&cluster));
    let is_chunk = |(_, message): &(NodeId, Message)| matches!(message.body, Body::Snapshot { .. });
    assert!(cluster.sent().iter().any(is_chunk));
    // A lost answer of old arrives: it is behind the base, but the snapshot is not needed if it reaches that.
    cluster.accept(2, 4);
    assert!(receiving(&cluster));
    cluster.accept(2, 10);
    assert!(!receiving(&cluster));
    let appended = cluster
        .sent()
        .into_iter()
        .find_map(|(to, message)| match message.body {
            Body::Append { prev, .. } if to == n(2) => Some(prev.index),
            _ => None,
        });
    assert_eq!(appended, Some(Index(10)));
}

#[test]
fn the_log_behind_a_snapshot_stays_for_whom_it_is_sent_to() {
    let mut cluster = Cluster::lone(Disk::with_log(3, &[1; 10], hard(1, 10)));
    cluster.drain(n(1));
    cluster.input(n(1), Input::Compact { through: Index(8) }).unwrap();
    cluster.win();
    let (prev, hint, last) = (Index(10), LogId::ZERO, Index(0));
    let reply = AppendReply::Rejected { prev, hint, last };
    cluster.deliver(n(2), n(1), message(2, Body::AppendReply(reply)));
    let sent = cluster
        .sent()
        .into_iter()
        .find_map(|(_, message)| match message.body {
            Body::Snapshot { meta, .. } => Some(meta.last),
            _ => None,
        });
    let snapshot = sent.unwrap();
    assert_eq!(snapshot, LogId::new(1, 10));
    cluster.accept(3, 11);
    assert_eq!(cluster.server(n(1)).disk.applied, Index(11));
    cluster
        .input(n(1), Input::Compact { through: Index(11) })
        .unwrap();
    assert_eq!(cluster.raft(n(1)).status().base, snapshot);
    let (next_chunk, done) = (1, true);
    let reply = Body::SnapshotReply {
        snapshot,
        next_chunk,
        done,
    };
    cluster.deliver(n(2), n(1), message(2, reply));
    cluster
        .input(n(1), Input::Compact { through: Index(11) })
        .unwrap();
    assert_eq!(cluster.raft(n(1)).status().base.index, Index(11));
}

/// Time passes in which server 3 answers every round of the lone leader 1, and nobody else says a word. What was sent meanwhile.
fn pass_with_one_follower(cluster: &mut Cluster, duration: Duration) -> Vec<(NodeId, Message)> {
    let step = Duration::from_millis(100);
    let mut sent = Vec::new();
    for _ in 0..duration.as_millis() / step.as_millis() {
        cluster.tick(step);
        let fresh = cluster.sent();
        for (to, message) in &fresh {
            if let (true, Body::Heartbeat { round, .. }) = (*to == n(3), &message.body) {
                let reply = Message {
                    term: message.term,
                    body: Body::HeartbeatReply { round: *round },
                };
                cluster.deliver(n(3), n(1), reply);
            }
        }
        sent.extend(fresh);
    }
    assert_eq!(cluster.raft(n(1)).role(), Role::Leader);
    sent
}

/// A probe that nobody answers says nothing of the peer's log, least of all that it is empty.
#[test]
fn a_silent_peer_is_probed_where_it_was_and_sent_no_snapshot() {
    let mut cluster = Cluster::lone(Disk::with_log(3, &[1; 10], hard(1, 10)));
    cluster.drain(n(1));
    cluster.input(n(1), Input::Compact { through: Index(8) }).unwrap();
    cluster.win();
    cluster.accept(3, 11);
    cluster.sent();
    let sent = pass_with_one_follower(&mut cluster, Duration::from_secs(20));
    let probes: Vec<Index> = sent
        .iter()
        .filter_map(|(to, message)| match &message.body {
            Body::Append { prev, .. } if *to == n(2) => Some(prev.index),
            Body::Snapshot { .. } => panic!("a snapshot for {to:?}"),
            _ => None,
        })
        .collect();
    assert!(probes.len() > 1, "it is probed again");
    assert!(probes.iter().all(|prev| *prev == Index(10)), "{probes:?}");
}

#[test]
fn nothing_is_kept_for_a_receiver_that_is_away() {
    let mut cluster = Cluster::lone(Disk::with_log(3, &[1; 10], hard(1, 10)));
    cluster.drain(n(1));
    cluster.input(n(1), Input::Compact { through: Index(8) }).unwrap();
    cluster.win();
    let (prev, hint, last) = (Index(10), LogId::ZERO, Index(0));
    let reply = AppendReply::Rejected { prev, hint, last };
    cluster.deliver(n(2), n(1), message(2, Body::AppendReply(reply)));
    cluster.accept(3, 11);
    pass_with_one_follower(&mut cluster, Duration::from_secs(20));
    let is_chunk = |(_, message): &(NodeId, Message)| matches!(message.body, Body::Snapshot { .. });
    let sent = pass_with_one_follower(&mut cluster, Duration::from_secs(20));
    assert!(!sent.iter().any(is_chunk), "nobody is there to take it");
    cluster
        .input(n(1), Input::Compact { through: Index(11) })
        .unwrap();
    assert_eq!(cluster.raft(n(1)).status().base.index, Index(11));
    // Its first word makes the leader go on at once.
    cluster.deliver(n(2), n(1), message(2, Body::HeartbeatReply { round: 1 }));
    assert!(cluster.sent().iter().any(is_chunk));
}

#[test]
fn proposals_that_a_snapshot_overtook_are_unknown_and_later_ones_lost() {
    let mut cluster = Cluster::lone(Disk::with_log(3, &[1], hard(1, 1)));
    cluster.win();
    let tokens: Vec<_> = ["a", "b", "c", "d"]
        .map(|data| cluster.propose(n(1), data))
        .into();
    // They stand at 3 to 6; the snapshot of the next leader ends at 4.
    cluster.deliver(n(2), n(1), chunk(3, LogId::new(3, 4), 0, "x", true));
    let resolved = &cluster.server(n(1)).resolved;
    let outcomes: Vec<_> = tokens.iter().map(|token| resolved[token]).collect();
    let expected = [Outcome::Unknown, Outcome::Unknown, Outcome::Lost, Outcome::Lost];
    assert_eq!(outcomes, expected);
}

#[test]
fn a_snapshot_that_is_no_longer_held_begins_anew_with_the_newest() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect();
    let lagging = *cluster.ids().iter().find(|id| **id != leader).unwrap();
    cluster.crash(lagging);
    for i in 0..30 {
        cluster.propose(leader, &format!("c{i}"));
    }
    cluster.run(Duration::from_secs(1));
    let through = cluster.server(leader).disk.applied;
    cluster.input(leader, Input::Compact { through }).unwrap();
    cluster.restart(lagging);
    // The harness holds only the snapshot of what is applied last: each write makes the one being sent go.
    for i in 0..10 {
        cluster.propose(leader, &format!("d{i}"));
        cluster.run(Duration::from_millis(7));
    }
    cluster.run(Duration::from_secs(5));
    assert_eq!(cluster.state(lagging), cluster.state(leader));
    assert!(cluster.server(lagging).disk.installs >= 1);
}

#[test]
fn a_peer_behind_a_wholly_purged_log_is_served() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect();
    cluster.run(Duration::from_secs(1));
    let lagging = *cluster.ids().iter().find(|id| **id != leader).unwrap();
    cluster.crash(lagging);
    cluster.propose(leader, "a");
    cluster.run(Duration::from_secs(1));
    for id in cluster.ids() {
        if id != lagging {
            let through = cluster.server(id).disk.applied;
            cluster.input(id, Input::Compact { through }).unwrap();
            assert!(cluster.server(id).disk.entries.is_empty());
        }
    }
    // With nothing new in the log, and also after everybody was restarted.
    for id in cluster.ids() {
        cluster.crash(id);
        cluster.restart(id);
    }
    cluster.elect();
    cluster.run(Duration::from_secs(3));
    assert_eq!(cluster.state(lagging), ["a"]);
}
