//! What has a time in an archive has it anew, in full, once the archive is restored.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::World;
use common::archives::{Archive, Operator};
use lictor_catalog::{Action, KvWrite, NodeDef, Outcome, Registration, SessionDef, SessionId, SessionRef};
use lictor_machine::NodeId;
use lictor_node::{Answer, Config, Request};

const fn as_usual(_: &mut Config) {}

/// What became of a change.
fn written(world: &mut World, at: NodeId, action: Action) -> Outcome {
    let token = world.request(at, Request::Write(action));
    world.run(Duration::from_millis(500));
    match world.answer(at, token) {
        Some(Answer::Written { outcome, .. }) => outcome.clone(),
        other => panic!("{other:?}"),
    }
}

fn session(id: u128, ttl: Duration) -> Action {
    Action::CreateSession(Box::new(SessionDef {
        id: SessionId(id),
        node: "n".into(),
        ttl,
        ..SessionDef::default()
    }))
}

fn register_node() -> Action {
    Action::Register(Box::new(Registration {
        node: NodeDef {
            name: "n".into(),
            address: "1.1.1.1".into(),
            ..NodeDef::default()
        },
        ..Registration::default()
    }))
}

fn lock(id: u128) -> Action {
    let pair = common::pair("lock", "");
    Action::Kv(KvWrite::Lock(pair, SessionRef(SessionId(id).to_string())))
}

#[test]
fn sessions_and_locks_are_those_of_the_archive_and_their_time_begins_anew() {
    let (mut world, leader) = World::founded(as_usual);
    let ttl = Duration::from_secs(10);
    for action in [
        register_node(),
        session(1, ttl),
        session(2, Duration::ZERO),
        lock(1),
    ] {
        let outcome = written(&mut world, leader, action);
        assert!(
            matches!(outcome, Outcome::Done(true) | Outcome::Session(_)),
            "{outcome:?}"
        );
    }
    let archive = Archive::of_state(world.seats[&leader].node.state());
    // It has lived for a while when the archive is restored, and is told nothing of that.
    world.run(Duration::from_secs(12));
    written(&mut world, leader, Action::EndSessions(vec![SessionId(2)]));
    let mut operator = Operator::new(&world, leader, 1, archive);
    operator.finish(&mut world);
    let lives = |world: &World, id: u128| {
        let states = world.seats.values().map(|seat| seat.node.state());
        let lives: Vec<bool> = states
            .map(|state| state.session(SessionId(id)).is_some())
            .collect();
        assert!(lives.iter().all(|all| *all == lives[0]), "{lives:?}");
        lives[0]
    };
    assert!(lives(&world, 1) && lives(&world, 2));
    assert_eq!(
        written(&mut world, leader, lock(2)),
        Outcome::Done(false),
        "it is still held"
    );
    world.run(ttl + Duration::from_secs(8));
    assert!(lives(&world, 1), "its time began anew");
    world.run(ttl);
    assert!(!lives(&world, 1) && lives(&world, 2));
    assert!(world.agree());
}

#[test]
fn what_is_over_in_the_old_state_is_not_in_the_new_one_though_its_end_is_in_the_log_behind_the_restore() {
    let (mut world, leader) = World::founded(as_usual);
    let delayed = SessionDef {
        id: SessionId(2),
        node: "n".into(),
        lock_delay_nanos: 15_000_000_000,
        ..SessionDef::default()
    };
    let ttl = Duration::from_secs(10);
    let delayed = Action::CreateSession(Box::new(delayed));
    for action in [register_node(), session(1, ttl), delayed, lock(2)] {
        written(&mut world, leader, action);
    }
    world.run(Duration::from_secs(3));
    written(&mut world, leader, Action::EndSessions(vec![SessionId(2)]));
    let archive = Archive::of_state(world.seats[&leader].node.state());
    let steps = archive.chunks.len() + 1;
    let mut operator = Operator::new(&world, leader, 1, archive);
    operator.advance(&mut world, steps);
    world.run(Duration::from_secs(13));
    let left = |world: &World| {
        let state = world.seats[&leader].node.state();
        let delayed = state.lock_delay(&Bytes::from_static(b"lock")).is_some();
        (state.session(SessionId(1)).is_some(), delayed)
    };
    assert_eq!(left(&world), (true, true));
    // The last step is in the leader's log and cannot be agreed on, while the time of both runs out.
    let followers: Vec<NodeId> = world.ids().into_iter().filter(|id| *id != leader).collect();
    for id in &followers {
        world.seat(*id).hold_log = true;
    }
    operator.turn(&mut world);
    let last = |world: &World| world.seats[&leader].node.raft_status().last.index.0;
    let finish = last(&world);
    world.run(Duration::from_secs(5));
    assert_eq!(world.leader(), Some(leader));
    assert!(last(&world) > finish + 1, "both ends are proposed behind it");
    assert_eq!(left(&world), (true, true));
    for id in &followers {
        world.seat(*id).hold_log = false;
    }
    operator.finish(&mut world);
    world.run(Duration::from_secs(1));
    assert_eq!(left(&world), (true, true), "they have their time anew");
    assert!(world.agree());
    world.run(ttl * 2 + Duration::from_secs(2));
    assert_eq!(left(&world), (false, false));
    assert!(world.agree());
}
