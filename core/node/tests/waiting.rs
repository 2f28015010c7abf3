//! What servers that are in no cluster say of why they are not.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test picks out what it looks for"
)]

mod common;

use std::time::Duration;

use common::{World, n};
use lictor_node::Event;

/// What a server has said so far of why it is in no cluster.
fn said(world: &World, at: u128) -> Vec<String> {
    let events = world.seats[&n(at)].events.iter();
    events
        .filter_map(|event| match event {
            Event::Waiting(text) | Event::Trouble(text) => Some(text.clone()),
            _ => None,
        })
        .collect()
}

#[test]
fn a_server_says_how_many_it_waits_for_and_not_too_often() {
    let mut world = World::of(2, 3, |_| {});
    world.run(Duration::from_secs(2));
    assert_eq!(said(&world, 1), [""; 0], "others may be about to come");
    world.run(Duration::from_secs(200));
    for (id, other) in [(1, 2), (2, 1)] {
        let said = said(&world, id);
        assert!((3..=5).contains(&said.len()), "{said:?}");
        for text in said {
            assert!(
                text.contains("2 of 3 are there") && text.contains(&format!("server-{other}")),
                "{text}"
            );
            assert!(
                text.contains("this one") && text.contains("-retry-join"),
                "{text}"
            );
        }
    }
    let before = said(&world, 1).len();
    world.add(3, 3, &[1], |_| {});
    world.elect();
    world.run(Duration::from_mins(2));
    assert_eq!(said(&world, 1).len(), before, "there is nothing more to wait for");
}

#[test]
fn servers_that_expect_different_numbers_are_told_so() {
    let mut world = World::new();
    world.add(1, 3, &[], |_| {});
    world.add(2, 2, &[1], |_| {});
    world.run(Duration::from_secs(20));
    for (id, mine, theirs) in [(1, 3, 2), (2, 2, 3)] {
        let told = said(&world, id);
        let text = told.last().unwrap();
        assert!(
            text.contains(&format!("this server expects {mine} servers")),
            "{text}"
        );
        assert!(
            text.contains(&format!(" {theirs}; give all the same -bootstrap-expect")),
            "{text}"
        );
        let troubled = |event: &Event| matches!(event, Event::Trouble(_));
        assert!(world.seats[&n(id)].events.iter().any(troubled));
    }
    assert_eq!(world.cluster(), None);
}

#[test]
fn a_server_that_founds_nothing_says_what_it_waits_for() {
    let mut world = World::new();
    world.add(1, 0, &[], |_| {});
    world.run(Duration::from_secs(20));
    let told = said(&world, 1);
    assert!(told[0].contains("it has no -bootstrap-expect"), "{told:?}");
}
