//! Archives that are restored while servers come and go.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::archives::{Archive, Operator};
use common::{StateJob, World, n};
use lictor_catalog::{Action, KvWrite, Outcome, RestoreId, RestoreStep, Row, State, Table, encode_chunk};
use lictor_machine::{Index, NodeId};
use lictor_node::{Answer, Config, Event, Progress, Request, RestoreError};

const fn as_usual(_: &mut Config) {}

/// Keeps nothing in the log that is stored, and cuts snapshots into small chunks.
fn forgetful(config: &mut Config) {
    config.trailing_entries = 0;
    config.trailing_bytes = 0;
    config.chunk_bytes = 100;
    config.store_interval = Duration::from_millis(100);
}

fn has(world: &World, at: NodeId, key: &str) -> bool {
    world.get(at, key).is_some()
}

/// Crashes and restarts everybody: what is on the disks is what was agreed on.
fn restart_all(world: &mut World) {
    let before = world.seats.values().next().unwrap().node.state().query_all();
    for id in world.ids() {
        world.crash(id);
    }
    for id in world.ids() {
        world.restart(id);
    }
    world.elect();
    world.run(Duration::from_secs(3));
    assert!(world.agree());
    assert_eq!(
        world.seats.values().next().unwrap().node.state().query_all(),
        before
    );
}

trait QueryAll {
    fn query_all(&self) -> (Index, String);
}

impl QueryAll for State {
    fn query_all(&self) -> (Index, String) {
        let (index, found) = self.query(&lictor_catalog::Query::KvList(Bytes::new()));
        (index, format!("{found:?}"))
    }
}

#[test]
fn everybody_has_what_the_archive_has() {
    let (mut world, leader) = World::founded(forgetful);
    world.set(leader, "before", "1");
    let follower = world.follower(leader);
    let mut operator = Operator::new(&world, follower, 1, Archive::of("key", 100));
    operator.finish(&mut world);
    world.run(Duration::from_secs(3));
    assert!(world.agree());
    for id in world.ids() {
        assert!(has(&world, id, "key-001") && has(&world, id, "key-100") && !has(&world, id, "before"));
        let events = &world.seats[&id].events;
        assert!(
            events
                .iter()
                .any(|event| matches!(event, Event::ArchiveRestored(_)))
        );
    }
    world.set(leader, "after", "1");
    world.run(Duration::from_secs(1));
    restart_all(&mut world);
    assert!(has(&world, leader, "after"));
}

#[test]
fn until_the_end_nobody_sees_anything_and_then_everybody_all() {
    let (mut world, leader) = World::founded(as_usual);
    world.set(leader, "before", "1");
    world.run(Duration::from_secs(1));
    let mut operator = Operator::new(&world, leader, 1, Archive::of("key", 60));
    let mut halves = 0;
    while operator.ended.is_none() {
        operator.turn(&mut world);
        world.run(Duration::from_millis(10));
        for id in world.ids() {
            let state = &world.seats[&id].published;
            let (_, text) = state.query_all();
            let (old, new) = (text.contains("before"), text.matches("restored").count());
            assert!((old && new == 0) || (!old && new == 60), "{old} {new}");
            halves += usize::from(old);
        }
    }
    assert!(halves > 10);
}

#[test]
fn the_leader_is_lost_in_the_middle_and_it_goes_on() {
    let (mut world, leader) = World::founded(forgetful);
    world.set(leader, "before", "1");
    let follower = world.follower(leader);
    let mut operator = Operator::new(&world, follower, 1, Archive::of("key", 60));
    operator.advance(&mut world, 5);
    world.crash(leader);
    operator.advance(&mut world, 5);
    world.restart(leader);
    let leader = world.leader().unwrap();
    let patient = operator.at != leader;
    if patient {
        world.crash(leader);
    }
    operator.finish(&mut world);
    if patient {
        world.restart(leader);
    }
    world.run(Duration::from_secs(5));
    assert!(world.agree());
    for id in world.ids() {
        assert!(has(&world, id, "key-060") && !has(&world, id, "before"));
    }
}

#[test]
fn a_lost_answer_does_no_harm() {
    let (mut world, leader) = World::founded(as_usual);
    let follower = world.follower(leader);
    let archive = Archive::of("key", 40);
    let last = archive.chunks.len() + 1;
    let mut operator = Operator::new(&world, follower, 1, archive);
    for _ in 0..2 {
        operator.advance(&mut world, 1);
        world.deaf.insert(follower);
        while !operator.turn(&mut world) && operator.asked.is_some() {
            world.run(Duration::from_millis(10));
        }
        world.deaf.clear();
    }
    operator.advance(&mut world, last - 2);
    // The last answer gets lost, and something is written before it is asked for again.
    world.deaf.insert(follower);
    operator.turn(&mut world);
    world.run(Duration::from_secs(1));
    operator.turn(&mut world);
    world.deaf.clear();
    assert!(has(&world, leader, "key-040"), "it was done");
    assert_eq!(operator.ended, None, "and nobody knows");
    world.set(leader, "since", "1");
    operator.finish(&mut world);
    assert!(has(&world, leader, "since"), "it was done once");
}

#[test]
fn a_server_that_is_far_behind_catches_up_in_the_middle() {
    let (mut world, leader) = World::founded(forgetful);
    let lagging = world.follower(leader);
    world.crash(lagging);
    for key in 0..100 {
        world.set(leader, &format!("old-{key}"), "1");
    }
    world.run(Duration::from_secs(1));
    let mut operator = Operator::new(&world, leader, 1, Archive::of("key", 80));
    operator.advance(&mut world, 8);
    world.run(Duration::from_secs(1));
    world.restart(lagging);
    world.run(Duration::from_secs(5));
    // What it got is a snapshot, with a part of the archive in it.
    let restored = |event: &Event| matches!(event, Event::Restored(_));
    assert!(world.seats[&lagging].events.iter().any(restored));
    let so_far = world.seats[&lagging].node.state().restoring();
    assert_eq!(so_far, Some((RestoreId(1), 7)));
    operator.finish(&mut world);
    world.run(Duration::from_secs(3));
    assert!(world.agree());
    assert!(has(&world, lagging, "key-080") && !has(&world, lagging, "old-1"));
    restart_all(&mut world);
}

#[test]
fn a_server_that_missed_all_of_it_gets_the_outcome() {
    let (mut world, leader) = World::founded(forgetful);
    let away = world.follower(leader);
    world.crash(away);
    let mut operator = Operator::new(&world, leader, 1, Archive::of("key", 80));
    operator.finish(&mut world);
    world.set(leader, "after", "1");
    world.run(Duration::from_secs(2));
    world.restart(away);
    world.run(Duration::from_secs(5));
    assert!(world.agree());
    assert!(has(&world, away, "key-080") && has(&world, away, "after"));
}

#[test]
fn power_is_cut_while_the_rows_are_replaced() {
    let (mut world, leader) = World::founded(forgetful);
    world.set(leader, "before", "1");
    world.run(Duration::from_secs(1));
    let archive = Archive::of("key", 60);
    let steps = archive.chunks.len() + 1;
    let mut operator = Operator::new(&world, leader, 1, archive);
    operator.advance(&mut world, steps);
    world.run(Duration::from_secs(1));
    for id in world.ids() {
        world.seat(id).hold_state = true;
    }
    operator.finish(&mut world);
    world.set(leader, "after", "1");
    world.run(Duration::from_secs(1));
    // Nothing of it is in any state store: the old rows are, and the log has the rest.
    for id in world.ids() {
        let whole = |job: &StateJob| match job {
            StateJob::Whole(applied, _) => Some(applied.index),
            StateJob::Write(_) | StateJob::Replace(_) => None,
        };
        let waits: Vec<Index> = world.seats[&id].state_jobs.iter().filter_map(whole).collect();
        let stored = world.seats[&id]
            .disk
            .inspect_state(|_, durable| durable.applied.index);
        assert!(waits.len() == 1 && stored < waits[0], "{stored} {waits:?}");
        world.crash(id);
        world.restart(id);
        assert_ne!(
            has(&world, id, "before"),
            has(&world, id, "key-001"),
            "one or the other"
        );
    }
    world.elect();
    world.run(Duration::from_secs(3));
    assert!(world.agree());
    for id in world.ids() {
        assert!(has(&world, id, "key-060") && has(&world, id, "after") && !has(&world, id, "before"));
    }
    restart_all(&mut world);
}

#[test]
fn of_two_at_once_one_is_restored_and_the_other_is_told() {
    let (mut world, leader) = World::founded(as_usual);
    let follower = world.follower(leader);
    let mut first = Operator::new(&world, leader, 1, Archive::of("first", 60));
    let mut second = Operator::new(&world, follower, 2, Archive::of("second", 60));
    first.advance(&mut world, 4);
    for _ in 0..5_000 {
        first.turn(&mut world);
        second.turn(&mut world);
        world.run(Duration::from_millis(10));
        if first.ended.is_some() && second.ended.is_some() {
            break;
        }
    }
    let Some(Progress::Failed(RestoreError::Refused(why))) = first.ended else {
        panic!("{:?}", first.ended);
    };
    assert!(why.contains("another archive"), "{why}");
    assert_eq!(second.ended, Some(Progress::Restored));
    world.run(Duration::from_secs(1));
    assert!(world.agree());
    assert!(has(&world, leader, "second-060") && !has(&world, leader, "first-060"));
}

#[test]
fn a_damaged_archive_is_so_to_all_also_to_who_was_started_again_in_the_middle() {
    let (mut world, leader) = World::founded(as_usual);
    world.set(leader, "before", "1");
    let mut archive = Archive::of("key", 60);
    archive.chunks[4] = encode_chunk(&[Row {
        table: Table::Kv,
        key: "key".into(),
        value: None,
    }])
    .unwrap();
    let mut operator = Operator::new(&world, leader, 1, archive);
    operator.advance(&mut world, 3);
    // From here on one of them has what has come only as rows, and builds nothing of it.
    let follower = world.follower(leader);
    world.run(Duration::from_secs(5));
    world.crash(follower);
    world.restart(follower);
    while operator.ended.is_none() {
        operator.advance(&mut world, 1);
        world.run(Duration::from_millis(100));
        assert!(world.agree(), "{:?}", operator.restoring);
    }
    let Some(Progress::Failed(RestoreError::Refused(why))) = &operator.ended else {
        panic!("{:?}", operator.ended);
    };
    assert!(why.contains("cannot be read"), "{why}");
    assert!(has(&world, follower, "before"));
    let mut operator = Operator::new(&world, leader, 2, Archive::of("other", 60));
    operator.finish(&mut world);
    world.run(Duration::from_secs(1));
    assert!(world.agree());
    assert!(has(&world, follower, "other-060"));
}

#[test]
fn what_nobody_brings_to_an_end_is_dropped() {
    let (mut world, leader) = World::founded(as_usual);
    world.set(leader, "before", "1");
    let mut operator = Operator::new(&world, leader, 1, Archive::of("key", 60));
    operator.advance(&mut world, 5);
    let staged = |world: &World| {
        world
            .ids()
            .iter()
            .all(|id| world.seats[id].node.state().restoring().is_some())
    };
    world.run(Duration::from_mins(2));
    assert!(staged(&world), "somebody may be slow");
    world.run(Duration::from_mins(3));
    for id in world.ids() {
        assert_eq!(world.seats[&id].node.state().restoring(), None);
    }
    assert!(has(&world, leader, "before"));
    operator.turn(&mut world);
    world.run(Duration::from_secs(1));
    operator.turn(&mut world);
    assert!(matches!(
        operator.ended,
        Some(Progress::Failed(RestoreError::Refused(_)))
    ));
}

#[test]
fn deleted_keys_are_forgotten_in_time_also_in_a_state_from_far_ahead() {
    let (mut world, leader) = World::founded(|config| {
        config.tombstone_ttl = Duration::from_secs(20);
        config.tombstone_interval = Duration::from_secs(5);
    });
    let mut operator = Operator::new(&world, leader, 1, Archive::of("key", 500));
    operator.finish(&mut world);
    assert!(world.seats[&leader].node.state().revision() > Index(500));
    let delete = Action::Kv(KvWrite::Delete("key-007".into()));
    world.request(leader, Request::Write(delete));
    world.run(Duration::from_secs(10));
    let has_any = |world: &World| {
        world.seats[&leader]
            .node
            .state()
            .has_tombstones_through(Index(u64::MAX))
    };
    assert!(has_any(&world));
    world.run(Duration::from_secs(30));
    assert!(!has_any(&world));
}

#[test]
fn the_answer_to_a_step_is_that_of_a_write() {
    let (mut world, leader) = World::founded(as_usual);
    let step = RestoreStep::Abandon(RestoreId(1));
    let token = world.request(n(leader.0), Request::Write(Action::Restore(step)));
    world.run(Duration::from_secs(1));
    let answer = world.answer(leader, token);
    assert!(
        matches!(
            answer,
            Some(Answer::Written {
                outcome: Outcome::Done(true),
                ..
            })
        ),
        "{answer:?}"
    );
}
