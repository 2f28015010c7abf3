//! What it costs to do nothing, and to have much to do.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::mem::size_of;
use std::time::Duration;

use common::Cluster;
use lictor_machine::{Machine, Now};
use lictor_raft::{Effect, Input, Timer};

#[test]
fn an_idle_cluster_exchanges_heartbeats_and_nothing_else() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect();
    cluster.run(Duration::from_secs(2));
    cluster.effects.clear();
    cluster.run(Duration::from_secs(10));
    for id in cluster.ids() {
        let effects = cluster.effects[&id];
        // Ten rounds a second: the leader speaks to two, each of which answers.
        let expected = if id == leader { 200 } else { 100 };
        assert!(
            (expected - 10..=expected + 10).contains(&effects),
            "{id:?}: {effects}"
        );
    }
}

#[test]
fn an_idle_node_is_woken_for_its_deadline_alone() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect();
    cluster.run(Duration::from_secs(2));
    let now = Now::at(cluster.now);
    for id in cluster.ids() {
        let raft = &mut cluster.server(id).raft;
        let deadline = raft.poll_timeout().unwrap();
        let expected = if id == leader {
            Timer::Heartbeat
        } else {
            Timer::Election
        };
        assert_eq!(deadline.reason, expected);
        assert!(deadline.at > now.mono);
        for _ in 0..3 {
            raft.handle_timeout(now);
            assert!(raft.poll_effect().is_none());
        }
        assert_eq!(
            raft.poll_timeout(),
            Some(deadline),
            "asking early changes nothing"
        );
    }
}

#[test]
fn effects_are_small_enough_to_be_moved_about() {
    assert!(size_of::<Effect>() <= 128, "{}", size_of::<Effect>());
}

/// Were the deadline sought among all that is pending, this would take hours.
#[test]
fn a_busy_leader_knows_its_deadline_at_once() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect();
    cluster.run(Duration::from_secs(1));
    cluster.server(leader).auto_persist = false;
    cluster.cut_off(leader);
    let (mut accepted, now) = (0, Now::at(cluster.now));
    for _ in 0..100_000 {
        let token = cluster.token();
        let raft = &mut cluster.server(leader).raft;
        let data = bytes::Bytes::from_static(b"12345678");
        accepted += u32::from(raft.handle(now, Input::Propose { token, data }).is_ok());
        while raft.poll_effect().is_some() {}
    }
    assert_eq!(accepted, 100_000);
    let raft = &cluster.server(leader).raft;
    assert_eq!(raft.status().writes_in_flight, 100_000);
    let deadline = raft.poll_timeout();
    for _ in 0..1_000_000 {
        assert_eq!(raft.poll_timeout(), deadline);
    }
}
