//! One cluster is founded, by whoever, whatever happens on the way; never two. The harness asserts the latter at every step.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test picks out what it looks for"
)]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::played::{found, founding, hello, lone};
use common::{Packet, World, address, n};
use lictor_catalog::State;
use lictor_machine::{Machine, NodeId};
use lictor_node::store::{LogStore, StateMark};
use lictor_node::{
    Call, ClusterId, Config, Event, FoundRefusal, Hello, Input, Node, PeerAddress, Reject, Reply, StartError,
};
use lictor_raft::{Body, Message, Term};

fn voters(world: &World, at: u128) -> BTreeSet<NodeId> {
    world.seats[&n(at)].node.raft_status().members.voters
}

fn ids(ids: impl IntoIterator<Item = u128>) -> BTreeSet<NodeId> {
    ids.into_iter().map(NodeId).collect()
}

#[test]
fn three_servers_that_expect_three_found_a_cluster() {
    let mut world = World::of(3, 3, |_| {});
    let leader = world.elect();
    world.run(Duration::from_secs(3));
    for id in 1..=3 {
        assert_eq!(voters(&world, id), ids(1..=3));
        assert_eq!(world.seats[&n(id)].node.raft_status().leader, Some(leader));
        assert_eq!(world.seats[&n(id)].node.notes().cluster, world.cluster());
        let founded = |event: &&Event| matches!(event, Event::Founded(_));
        assert_eq!(world.seats[&n(id)].events.iter().filter(founded).count(), 1);
        let troubled = |event: &Event| matches!(event, Event::Trouble(_));
        assert!(!world.seats[&n(id)].events.iter().any(troubled));
    }
}

#[test]
fn a_server_that_expects_itself_alone_founds_at_once() {
    let mut world = World::of(1, 1, |_| {});
    assert_eq!(world.elect(), n(1));
    let token = world.set(n(1), "a", "1");
    world.settle();
    assert!(world.answer(n(1), token).is_some());
}

#[test]
fn too_few_servers_found_nothing() {
    let mut world = World::of(2, 3, |_| {});
    world.run(Duration::from_secs(20));
    assert_eq!(world.leader(), None);
    assert_eq!(world.cluster(), None);
    world.add(3, 3, &[1], |_| {});
    world.elect();
}

#[test]
fn servers_that_expect_nothing_found_nothing() {
    let mut world = World::of(3, 0, |_| {});
    world.run(Duration::from_secs(20));
    assert_eq!(world.cluster(), None);
}

#[test]
fn of_more_candidates_as_many_as_expected_found_and_the_others_wait_to_be_adopted() {
    for size in 4..=5 {
        let mut world = World::of(size, 3, |_| {});
        world.elect();
        world.run(Duration::from_secs(5));
        let members = voters(&world, 1);
        assert_eq!(members.len(), 3);
        for id in 1..=size {
            let member = members.contains(&n(id));
            assert_eq!(world.seats[&n(id)].node.raft_status().last.index.0 > 0, member);
            assert_eq!(world.seats[&n(id)].node.notes().cluster.is_some(), member);
        }
    }
}

#[test]
fn a_server_that_comes_late_founds_nothing_whatever_it_expects() {
    for expect in [0, 3] {
        let (mut world, leader) = World::founded(|_| {});
        world.add(4, expect, &[leader.0], |_| {});
        world.run(Duration::from_secs(5));
        assert_eq!(world.seats[&n(4)].node.notes().founding, None);
        assert_eq!(world.seats[&n(4)].node.raft_status().last.index.0, 0);
    }
}

#[test]
fn servers_find_each_other_through_one_that_they_know() {
    let mut world = World::new();
    world.add(1, 3, &[], |_| {});
    world.add(2, 3, &[1], |_| {});
    world.add(3, 3, &[1], |_| {});
    world.elect();
    assert_eq!(voters(&world, 1), ids(1..=3));
}

#[test]
fn a_crash_at_any_write_of_any_server_delays_the_founding_and_no_more() {
    for victim in 1..=3 {
        for writes in 0..12 {
            let mut world = World::of(3, 3, |_| {});
            world.seat(n(victim)).crash_after = Some(writes);
            world.run(Duration::from_secs(3));
            if !world.seats[&n(victim)].alive {
                world.restart(n(victim));
            }
            world.seat(n(victim)).crash_after = None;
            let leader = world.elect();
            let token = world.set(leader, "a", "1");
            world.run(Duration::from_secs(3));
            assert!(world.answer(leader, token).is_some(), "{victim} after {writes}");
            assert!(world.agree(), "{victim} after {writes}");
            assert_eq!(voters(&world, victim), ids(1..=3), "{victim} after {writes}");
        }
    }
}

#[test]
fn everybody_crashes_again_and_again_and_one_cluster_is_founded() {
    for writes in 0..6 {
        let mut world = World::of(3, 3, |_| {});
        for _ in 0..4 {
            for id in 1..=3 {
                world.seat(n(id)).crash_after = Some(writes);
            }
            world.run(Duration::from_secs(2));
            for id in 1..=3 {
                if !world.seats[&n(id)].alive {
                    world.restart(n(id));
                }
            }
        }
        for id in 1..=3 {
            world.seat(n(id)).crash_after = None;
        }
        world.elect();
        world.run(Duration::from_secs(3));
        assert!(world.agree());
    }
}

/// Servers 1 and 2 each see enough others and not one another: their foundings share a voter, which agrees to one of them.
#[test]
fn of_two_foundings_that_share_a_voter_one_wins() {
    for slow in [1, 2] {
        let mut world = World::new();
        for id in 1..=5 {
            world.add(id, 3, &[4], |_| {});
        }
        for (a, b) in [(1, 2), (1, 3), (2, 5), (3, 5)] {
            world.separate(a, b);
        }
        world.seat(n(slow)).hold_log = true;
        world.run(Duration::from_secs(2));
        world.seat(n(slow)).hold_log = false;
        world.run(Duration::from_secs(10));
        world.cut.clear();
        let leader = world.elect();
        world.run(Duration::from_secs(10));
        let members = world.seats[&leader].node.raft_status().members.voters;
        assert_eq!(members.len(), 3);
        for id in 1..=5 {
            let in_it = world.seats[&n(id)].node.notes().cluster.is_some();
            assert_eq!(in_it, members.contains(&n(id)), "{id} of {members:?}");
        }
    }
}

#[test]
fn improper_foundings_are_refused() {
    let mut world = lone();
    let expects = || vec![Reply::Found(Err(FoundRefusal::Expects(3)))];
    for voters in [
        &[1, 2][..],
        &[1, 3, 4],
        &[2, 1, 3],
        &[1, 2, 2],
        &[2, 3, 4],
        &[1, 2, 3, 4],
        &[],
    ] {
        assert_eq!(found(&mut world, founding(1, 1, voters)), expects(), "{voters:?}");
    }
    // In another's name.
    world.call(n(3), n(2), Call::Found(founding(1, 1, &[1, 2, 3])));
    assert_eq!(world.replies(n(3)), expects());
}

#[test]
fn servers_that_expect_different_numbers_found_nothing_together() {
    let mut world = World::new();
    world.add(1, 2, &[2, 3], |_| {});
    world.add(2, 3, &[1, 3], |_| {});
    world.add(3, 3, &[1, 2], |_| {});
    world.run(Duration::from_secs(10));
    assert_eq!(world.cluster(), None);
}

#[test]
fn raft_messages_of_another_cluster_are_refused() {
    let (mut world, leader) = World::founded(|_| {});
    let from = world.follower(leader);
    let message = Message {
        term: Term(99),
        body: Body::TimeoutNow,
    };
    let foreign = Input::Raft {
        from,
        cluster: ClusterId(4711),
        message,
    };
    let term = world.seats[&leader].node.raft_status().term;
    assert_eq!(world.input(leader, foreign), Err(Reject::ForeignCluster));
    assert_eq!(world.seats[&leader].node.raft_status().term, term);
    // And by a server that is in none.
    world.add(9, 0, &[], |_| {});
    let message = Message {
        term: Term(99),
        body: Body::TimeoutNow,
    };
    let cluster = world.cluster().unwrap();
    assert_eq!(
        world.input(
            n(9),
            Input::Raft {
                from,
                cluster,
                message
            }
        ),
        Err(Reject::ForeignCluster)
    );
}

/// The founder picked a voter that has died for good. Others are there.
#[test]
fn a_founding_that_a_dead_voter_holds_up_is_given_up_for_one_without_it() {
    let mut world = World::of(4, 3, |_| {});
    // Server 3 is greeted, and gone before it can agree.
    world.seat(n(3)).hold_log = true;
    world.run(Duration::from_secs(1));
    assert_eq!(world.leader(), None);
    assert!(world.seats[&n(1)].node.notes().founding.is_some());
    world.crash(n(3));
    world.elect();
    world.run(Duration::from_secs(5));
    assert_eq!(voters(&world, 1), ids([1, 2, 4]));
    // Back again, it may have agreed to the founding that was given up.
    world.restart(n(3));
    world.run(Duration::from_secs(10));
    assert_eq!(world.seats[&n(3)].node.notes().cluster, None);
    assert_eq!(world.seats[&n(3)].node.notes().founding, None);
}

#[test]
fn one_that_answers_for_another_is_not_believed() {
    let mut world = World::new();
    world.add(2, 3, &[1], |_| {});
    world.run(Duration::from_millis(300));
    world.call(n(1), n(2), hello(1, 3, 0));
    world.replies(n(1));
    let me = |id, at| PeerAddress {
        id: n(id),
        name: format!("server-{id}"),
        address: address(n(at)),
    };
    let known = |world: &World| {
        let peers = &world.seats[&n(2)].node.notes().peers;
        peers
            .iter()
            .map(|peer| (peer.id, peer.address))
            .collect::<Vec<_>>()
    };
    assert_eq!(known(&world), [(n(1), address(n(1)))]);
    // Greeted as server 1, somebody says that he is server 7.
    world.now = world.now + Duration::from_secs(20);
    let now = world.time();
    world.seat(n(2)).node.handle_timeout(now);
    let mut call = None;
    while let Some(effect) = world.seat(n(2)).node.poll_effect() {
        if let lictor_node::Effect::Call {
            id,
            to: lictor_node::Target::Node(to),
            ..
        } = effect
        {
            assert_eq!(to, n(1));
            call = Some(id);
        }
    }
    let liar = Hello {
        me: me(7, 7),
        expect: 3,
        cluster: None,
        given_up: 0,
        peers: Vec::new(),
    };
    let result = Ok(Reply::Hello(liar));
    world
        .input(
            n(2),
            Input::CallDone {
                id: call.unwrap(),
                result,
            },
        )
        .unwrap();
    assert_eq!(known(&world), [(n(1), address(n(1)))]);
    assert!(
        !world
            .wire
            .iter()
            .any(|packet| matches!(packet, Packet::Reply { .. }))
    );
}

#[test]
fn what_strangers_say_is_bounded() {
    let mut world = lone();
    let peer = |id: u128, name: String| PeerAddress {
        id: n(id),
        name,
        address: address(n(3)),
    };
    for from in 1_000..2_000_u128 {
        let peers = (0..100).map(|i| peer(from * 1_000 + i, "x".into())).collect();
        let me = peer(from, "x".into());
        let call = Call::Hello(Hello {
            me,
            expect: 3,
            cluster: None,
            given_up: 0,
            peers,
        });
        world.call(n(from), n(2), call);
    }
    let long = Hello {
        me: peer(5, "x".repeat(100_000)),
        expect: 3,
        cluster: None,
        given_up: 0,
        peers: Vec::new(),
    };
    world.call(n(5), n(2), Call::Hello(long));
    let peers = &world.seats[&n(2)].node.notes().peers;
    assert!(peers.len() <= 256, "{}", peers.len());
    assert!(peers.iter().all(|peer| peer.name.len() <= 255));
}

#[test]
fn stores_belong_to_the_node_that_started_from_them_first() {
    let mut world = lone();
    let notes = |world: &World| world.seats[&n(2)].node.notes().clone();
    assert_eq!(notes(&world).node, Some(n(2)));
    world.settle();
    world.crash(n(2));
    world.restart(n(2));
    assert_eq!(notes(&world).node, Some(n(2)));

    // What it left behind, under the name of another.
    world.crash(n(2));
    let (mut log, _) = world.seats[&n(2)].disk.open().unwrap();
    let boot = log.load(1 << 20).unwrap();
    assert_eq!(boot.notes.node, Some(n(2)), "it was saved");
    let config = Config {
        id: n(7),
        raft: lictor_raft::Config::lan(n(7), 1),
        ..world.seats[&n(2)].config.clone()
    };
    let stored = (State::new(), StateMark::default());
    let never = Config {
        retry: Duration::ZERO,
        ..world.seats[&n(2)].config.clone()
    };
    let impossible = Node::start(never, boot.clone(), stored.clone(), world.time()).unwrap_err();
    assert!(
        matches!(impossible, StartError::Config(_)),
        "an interval of nothing would never end"
    );
    let refused = Node::start(config, boot, stored, world.time()).unwrap_err();
    let (owner, this) = (n(2), n(7));
    assert_eq!(refused, StartError::OtherNode { owner, this });
    let words = refused.to_string();
    assert!(
        words.contains(&owner.to_string()) && words.contains(&this.to_string()),
        "{words}"
    );
}
