//! The state: stored, restored, sent to servers that lag, and rid of its tombstones.

mod common;

use std::time::Duration;

use common::{World, n};
use lictor_catalog::{Action, KvWrite};
use lictor_machine::{Index, Machine};
use lictor_node::{Config, Event, Input, Request};
use lictor_raft::{Body, Role};

const fn as_usual(_: &mut Config) {}

/// Keeps nothing in the log that is stored, and cuts snapshots into small chunks.
fn forgetful(config: &mut Config) {
    config.trailing_entries = 0;
    config.trailing_bytes = 0;
    config.chunk_bytes = 100;
    config.store_interval = Duration::from_millis(100);
}

fn fill(world: &mut World, at: lictor_machine::NodeId, keys: std::ops::Range<u32>) {
    for i in keys {
        world.set(at, &format!("key-{i:04}"), &format!("value-{i}"));
    }
    world.run(Duration::from_secs(1));
}

#[test]
fn a_restart_from_rows_and_log_gives_the_same_state() {
    let (mut world, leader) = World::founded(as_usual);
    fill(&mut world, leader, 0..50);
    world.run(Duration::from_secs(2));
    // These are in the log only.
    for id in world.ids() {
        world.seat(id).hold_state = true;
    }
    fill(&mut world, leader, 50..80);
    let delete = Action::Kv(KvWrite::DeleteTree("key-000".into()));
    world.request(leader, Request::Write(delete));
    world.run(Duration::from_secs(1));
    let mut expected = world.seats[&leader].node.state().clone();
    for id in world.ids() {
        let rows = world.seats[&id]
            .disk
            .inspect_state(|_, durable| durable.applied.index);
        assert!(rows > Index(50) && rows < world.seats[&id].node.applied());
        world.crash(id);
        world.restart(id);
        world.seat(id).hold_state = true;
    }
    world.elect();
    world.run(Duration::from_secs(1));
    // A new term begins with an empty entry, and nothing else has happened.
    expected.advance(world.seats[&leader].node.applied()).unwrap();
    for id in world.ids() {
        assert_eq!(world.seats[&id].node.state().digest(), expected.digest());
        assert_eq!(world.get(id, "key-0079").as_deref(), Some("value-79"));
        assert_eq!(world.get(id, "key-0001"), None);
    }
}

#[test]
fn a_server_that_lags_receives_the_state_in_many_chunks() {
    let (mut world, leader) = World::founded(forgetful);
    let lagging = world.follower(leader);
    world.crash(lagging);
    fill(&mut world, leader, 0..200);
    world.run(Duration::from_secs(1));
    let base = world.seats[&leader].node.raft_status().base.index;
    assert!(base > Index(100), "{base}");
    world.restart(lagging);
    world.run(Duration::from_secs(5));
    let restored = |event: &Event| matches!(event, Event::Restored(_));
    assert!(world.seats[&lagging].events.iter().any(restored));
    assert!(world.agree());
    world.set(leader, "after", "1");
    world.run(Duration::from_secs(2));
    assert!(world.agree());
    // And it is all on its disk.
    world.crash(lagging);
    world.restart(lagging);
    assert_eq!(world.get(lagging, "key-0123").as_deref(), Some("value-123"));
    world.run(Duration::from_secs(3));
    assert!(world.agree());
}

#[test]
fn the_connection_breaks_in_the_middle_of_a_snapshot_and_it_arrives_all_the_same() {
    let (mut world, leader) = World::founded(forgetful);
    let lagging = world.follower(leader);
    world.crash(lagging);
    fill(&mut world, leader, 0..300);
    world.run(Duration::from_secs(1));
    world.restart(lagging);
    // The log of the lagging server writes one chunk in ten milliseconds.
    world.seat(lagging).hold_log = true;
    for step in 0..2_000 {
        if let Some(input) = world.seat(lagging).work_log() {
            let _ = world.input(lagging, input);
        }
        world.run(Duration::from_millis(10));
        if step % 40 == 20 {
            world.cut_off(lagging);
            for id in world.ids() {
                let _ = world.input(id, Input::Unreachable { peer: lagging });
            }
        }
        if step % 40 == 24 {
            world.cut.clear();
        }
    }
    world.cut.clear();
    world.seat(lagging).hold_log = false;
    world.run(Duration::from_secs(5));
    assert!(world.agree());
}

/// Should the next snapshot be staged while the rows of this one are still being read, they would be lost.
#[test]
fn nothing_is_staged_while_rows_are_replaced() {
    let (mut world, leader) = World::founded(forgetful);
    let lagging = world.follower(leader);
    world.crash(lagging);
    fill(&mut world, leader, 0..100);
    world.run(Duration::from_secs(1));
    world.restart(lagging);
    world.seat(lagging).hold_state = true;
    world.run(Duration::from_secs(5));
    assert_eq!(world.seats[&lagging].state_jobs.len(), 1);
    // The leader's log goes on without it, so that it needs another snapshot.
    world.cut_off(lagging);
    fill(&mut world, leader, 100..200);
    world.run(Duration::from_secs(1));
    world.cut.clear();
    let mut offered = 0;
    for _ in 0..50 {
        world.run(Duration::from_millis(100));
        let chunk = |packet: &common::Packet| matches!(packet, common::Packet::Raft { message, .. } if matches!(message.body, Body::Snapshot { .. }));
        offered += world.wire.iter().filter(|packet| chunk(packet)).count();
    }
    let staged = |world: &World| world.seats[&lagging].log_jobs.len() + offered;
    assert_eq!(staged(&world), 0);
    // The harness asserts that what is staged is what is to be loaded.
    world.seat(lagging).hold_state = false;
    world.run(Duration::from_secs(10));
    assert!(world.agree());
}

#[test]
fn a_slow_store_has_one_batch_at_a_time() {
    let (mut world, leader) = World::founded(|config| {
        config.store_interval = Duration::from_millis(50);
        config.store_bytes = 100;
    });
    world.seat(leader).hold_state = true;
    for round in 0..10 {
        fill(&mut world, leader, round * 10..round * 10 + 10);
        assert_eq!(
            world.seats[&leader].state_jobs.len(),
            1,
            "the harness asserts the rest"
        );
        if round % 3 == 2 {
            let done = world.seat(leader).work_state().unwrap();
            world.input(leader, done).unwrap();
            world.run(Duration::from_millis(100));
        }
    }
    world.seat(leader).hold_state = false;
    world.run(Duration::from_secs(1));
    let seat = &world.seats[&leader];
    let stored = seat.disk.inspect_state(|_, durable| durable.applied.index);
    assert_eq!(stored, seat.node.applied());
}

#[test]
fn several_servers_that_lag_are_served_together() {
    let mut world = World::of(5, 5, forgetful);
    let leader = world.elect();
    world.run(Duration::from_secs(2));
    fill(&mut world, leader, 0..20);
    let mut lagging: Vec<_> = world.ids().into_iter().filter(|id| *id != leader).collect();
    lagging.truncate(2);
    for id in &lagging {
        world.crash(*id);
    }
    fill(&mut world, leader, 20..200);
    for id in &lagging {
        world.restart(*id);
        // The state goes on while each begins at another time.
        world.set(leader, "more", "1");
        world.run(Duration::from_millis(60));
    }
    for i in 0..100 {
        world.set(leader, "more", &i.to_string());
        world.run(Duration::from_millis(20));
    }
    world.run(Duration::from_secs(5));
    assert!(world.agree());
}

#[test]
fn the_leader_reaps_tombstones_when_their_time_is_over() {
    let (mut world, leader) = World::founded(|config| {
        config.tombstone_ttl = Duration::from_secs(20);
        config.tombstone_interval = Duration::from_secs(5);
    });
    fill(&mut world, leader, 0..5);
    let delete = Action::Kv(KvWrite::Delete("key-0001".into()));
    world.request(leader, Request::Write(delete));
    world.run(Duration::from_secs(2));
    let stones = |world: &World, id| {
        world.seats[&id]
            .node
            .state()
            .has_tombstones_through(Index(u64::MAX))
    };
    world.run(Duration::from_secs(15));
    for id in world.ids() {
        assert!(stones(&world, id));
    }
    world.run(Duration::from_secs(20));
    for id in world.ids() {
        assert!(!stones(&world, id), "{id:?}");
    }
    assert!(world.agree());
    // Nothing is left to reap, so nothing is proposed.
    let index = world.seats[&leader].node.applied();
    world.run(Duration::from_mins(1));
    assert_eq!(world.seats[&leader].node.applied(), index);
}

#[test]
fn a_state_that_does_not_fit_its_log_does_not_start() {
    use lictor_catalog::State;
    use lictor_node::store::{LogBoot, StateMark};
    use lictor_node::{Node, StartError};
    use lictor_raft::LogId;
    let config = Config::new(n(1), "a", common::address(n(1)), 1);
    let start = |applied| {
        let mark = StateMark { applied };
        let world = World::new();
        Node::start(
            config.clone(),
            LogBoot::default(),
            (State::new(), mark),
            world.time(),
        )
    };
    assert!(start(LogId::ZERO).is_ok());
    assert!(matches!(start(LogId::new(1, 3)), Err(StartError::Mismatch(_))));
    let node = start(LogId::ZERO).unwrap();
    assert_eq!(node.raft_status().role, Role::Follower);
    assert!(node.fault().is_none());
}
