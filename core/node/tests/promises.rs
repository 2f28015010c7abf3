//! What a server has agreed to found, it stands by, until nothing can come of that any more.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test picks out what it looks for"
)]

mod common;

use std::time::Duration;

use common::played::{found, founding, hello, lone};
use common::{World, address, n};
use lictor_gossip::MemberState;
use lictor_node::agent::ServerFacts;
use lictor_node::{Call, ClusterId, Event, FoundRefusal, Input, Reply, RequestError};

#[test]
fn an_agreement_is_told_when_it_is_durable_and_binds() {
    let mut world = lone();
    world.seat(n(2)).hold_log = true;
    let first = founding(1, 1, &[1, 2, 3]);
    assert_eq!(found(&mut world, first.clone()), []);
    world.seat(n(2)).hold_log = false;
    world.drain(n(2));
    assert_eq!(world.replies(n(1)), [Reply::Found(Ok(()))]);
    world.crash(n(2));
    world.restart(n(2));
    let other = founding(3, 1, &[2, 3, 4]);
    let refused = Reply::Found(Err(FoundRefusal::Promised(first.clone())));
    assert_eq!(found(&mut world, other), [refused]);
    assert_eq!(found(&mut world, first), [Reply::Found(Ok(()))], "asked again");
}

#[test]
fn a_promise_is_released_by_its_founder_for_that_attempt_or_a_later_one() {
    let mut world = lone();
    let second = founding(1, 2, &[1, 2, 3]);
    assert_eq!(found(&mut world, second.clone()), [Reply::Found(Ok(()))]);
    let promised = |world: &World| world.seats[&n(2)].node.notes().founding.is_some();
    // A greeting from before that attempt, which is late, and one of somebody else.
    world.call(n(1), n(2), hello(1, 3, 1));
    world.call(n(3), n(2), hello(3, 3, 9));
    // One that speaks in another's name.
    world.call(n(3), n(2), hello(1, 3, 9));
    assert!(promised(&world));
    world.call(n(1), n(2), hello(1, 3, 2));
    assert!(!promised(&world));
    // The call itself was late, too: it is agreed to again, and released again.
    world.replies(n(1));
    assert_eq!(found(&mut world, second), [Reply::Found(Ok(()))]);
    world.call(n(1), n(2), hello(1, 3, 2));
    assert!(!promised(&world));
}

/// Gossip tells server 2 of another one.
fn gossip(world: &mut World, id: u128, cluster: Option<ClusterId>, state: MemberState) {
    let facts = ServerFacts {
        id: n(id),
        name: format!("server-{id}"),
        address: address(n(id)),
        datacenter: "dc1".into(),
        build: "1.8.7".into(),
        cluster,
        state,
    };
    assert_eq!(world.input(n(2), Input::Known(facts)), Ok(()));
}

fn troubles(world: &World, about: &str) -> usize {
    let said = |event: &&Event| matches!(event, Event::Trouble(why) if why.contains(about));
    world.seats[&n(2)].events.iter().filter(said).count()
}

#[test]
fn a_promise_ends_when_people_have_its_founder_leave_and_not_because_that_is_silent() {
    let mut world = lone();
    let first = founding(1, 1, &[1, 2, 3]);
    let other = || founding(3, 1, &[2, 3, 4]);
    let refused = || [Reply::Found(Err(FoundRefusal::Promised(first.clone())))];
    assert_eq!(found(&mut world, first.clone()), [Reply::Found(Ok(()))]);
    for state in [MemberState::Alive, MemberState::Failed] {
        gossip(&mut world, 1, None, state);
        world.run(Duration::from_mins(5));
        assert_eq!(found(&mut world, other()), refused(), "{state:?}");
    }
    assert_eq!(
        troubles(&world, "which is silent"),
        1,
        "people are told, but not all the time"
    );
    gossip(&mut world, 1, None, MemberState::Left);
    assert_eq!(found(&mut world, other()), refused(), "there may be more to hear");
    world.run(Duration::from_mins(1));
    // It came back, and left again.
    gossip(&mut world, 1, None, MemberState::Alive);
    assert_eq!(found(&mut world, other()), refused());
    gossip(&mut world, 1, None, MemberState::Left);
    world.run(Duration::from_mins(1));
    assert_eq!(found(&mut world, other()), [Reply::Found(Ok(()))]);
    world.crash(n(2));
    world.restart(n(2));
    let refused = [Reply::Found(Err(FoundRefusal::Promised(other())))];
    assert_eq!(
        found(&mut world, first.clone()),
        refused,
        "the other promise is durable"
    );
}

#[test]
fn a_promise_whose_founder_has_left_is_kept_while_anybody_is_known_to_be_in_its_cluster() {
    let first = founding(1, 1, &[1, 2, 3]);
    let cluster = first.cluster;
    let greeting = |world: &mut World| {
        let Call::Hello(mut hello) = hello(3, 3, 0) else {
            panic!("not a greeting")
        };
        hello.cluster = Some(cluster);
        world.call(n(3), n(2), Call::Hello(hello));
        world.replies(n(3));
    };
    let rumor = |world: &mut World| gossip(world, 3, Some(cluster), MemberState::Failed);
    for (tell, how) in [(&greeting as &dyn Fn(&mut World), "greeting"), (&rumor, "gossip")] {
        let mut world = lone();
        assert_eq!(found(&mut world, first.clone()), [Reply::Found(Ok(()))]);
        gossip(&mut world, 1, Some(cluster), MemberState::Left);
        tell(&mut world);
        world.run(Duration::from_mins(10));
        let refused = [Reply::Found(Err(FoundRefusal::Promised(first.clone())))];
        assert_eq!(found(&mut world, founding(4, 1, &[2, 4, 5])), refused, "{how}");
        world.call(n(5), n(2), Call::Adopt(ClusterId(77)));
        let refused = [Reply::Adopted(Err(FoundRefusal::Promised(first.clone())))];
        assert_eq!(world.replies(n(5)), refused, "{how}");
        assert_eq!(troubles(&world, "may need this server"), 1, "{how}");
        // That cluster is given up by people as well.
        gossip(&mut world, 3, Some(cluster), MemberState::Left);
        world.run(Duration::from_mins(1));
        let free = found(&mut world, founding(4, 1, &[2, 4, 5]));
        assert_eq!(free, [Reply::Found(Ok(()))], "{how}");
    }
}

/// The voter that the others need comes back after the founder was made to leave, and is heard of in this order.
#[test]
fn a_voter_that_died_after_it_agreed_votes_when_the_founder_has_left() {
    let mut world = World::of(3, 3, |_| {});
    // Server 2 agrees, and is gone before it hears anything more.
    world.seat(n(2)).hold_log = true;
    world.run(Duration::from_secs(1));
    world.seat(n(2)).hold_log = false;
    world.drain(n(2));
    world.crash(n(2));
    let leader = world.elect();
    let token = world.set(leader, "a", "1");
    world.run(Duration::from_secs(2));
    assert!(world.answer(leader, token).is_some(), "two of three acknowledge");
    assert_eq!(
        world.seats[&n(2)].node.notes().cluster,
        None,
        "it has heard nothing of that"
    );
    world.crash(n(1));
    world.restart(n(2));
    // Alone at first, it hears that the founder has left.
    world.cut_off(n(2));
    let cluster = world.cluster();
    gossip(&mut world, 1, cluster, MemberState::Left);
    world.run(Duration::from_mins(1));
    world.cut.clear();
    assert_eq!(world.elect(), n(3));
    world.run(Duration::from_secs(5));
    assert_eq!(world.get(n(2), "a").as_deref(), Some("1"));
}

/// What was agreed to is told when it is durable. Until then nothing frees this node, or it might agree to two.
#[test]
fn a_promise_on_its_way_to_the_disk_is_not_broken() {
    let mut world = lone();
    let first = founding(1, 1, &[1, 2, 3]);
    world.seat(n(2)).hold_log = true;
    assert_eq!(found(&mut world, first.clone()), []);
    gossip(&mut world, 1, None, MemberState::Left);
    world.run(Duration::from_mins(10));
    let refused = || [Reply::Found(Err(FoundRefusal::Promised(first.clone())))];
    assert_eq!(found(&mut world, founding(3, 1, &[2, 3, 4])), refused());
    world.seat(n(2)).hold_log = false;
    world.drain(n(2));
    assert_eq!(world.replies(n(1)), [Reply::Found(Ok(()))]);
    assert_eq!(world.seats[&n(2)].node.notes().founding.as_ref(), Some(&first));
}

#[test]
fn a_promise_to_a_silent_founder_gives_way_to_a_cluster_that_is_there() {
    let mut world = lone();
    let first = founding(1, 1, &[1, 2, 3]);
    assert_eq!(found(&mut world, first.clone()), [Reply::Found(Ok(()))]);
    let cluster = ClusterId(77);
    let adopted = |world: &mut World| {
        world.call(n(5), n(2), Call::Adopt(cluster));
        world.replies(n(5))
    };
    let refused = [Reply::Adopted(Err(FoundRefusal::Promised(first.clone())))];
    let silence = Duration::from_mins(3);
    for _ in 0..3 {
        world.run(silence.saturating_sub(Duration::from_secs(1)));
        assert_eq!(adopted(&mut world), refused);
        world.call(n(1), n(2), hello(1, 3, 0));
        world.replies(n(1));
    }
    // What it has just been told counts as well as before a restart.
    world.crash(n(2));
    world.restart(n(2));
    assert_eq!(adopted(&mut world), refused);
    world.run(silence + Duration::from_secs(1));
    assert_eq!(adopted(&mut world), [Reply::Adopted(Ok(()))]);
    world.crash(n(2));
    world.restart(n(2));
    let notes = world.seats[&n(2)].node.notes();
    assert_eq!((notes.cluster, &notes.founding), (Some(cluster), &None));
    let member = Reply::Found(Err(FoundRefusal::Member(cluster)));
    assert_eq!(
        found(&mut world, first),
        [member],
        "the founder is told when it comes back"
    );
}

#[test]
fn whoever_waits_for_an_agreement_hears_that_the_node_has_stopped() {
    let mut world = lone();
    world.seat(n(2)).hold_log = true;
    assert_eq!(found(&mut world, founding(1, 1, &[1, 2, 3])), []);
    let detail = "broken".to_owned();
    world.input(n(2), Input::StateFailed { detail }).unwrap();
    let replies = world.replies(n(1));
    assert!(
        matches!(&replies[..], [Reply::Failed(RequestError::Stopped(_))]),
        "{replies:?}"
    );
    world.call(n(1), n(2), hello(1, 3, 0));
    let replies = world.replies(n(1));
    assert!(
        matches!(&replies[..], [Reply::Failed(RequestError::Stopped(_))]),
        "{replies:?}"
    );
}
