//! Servers that come and go: adopted, promoted, taken out, as gossip has it. Gossip itself is played by the test.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test picks out what it looks for"
)]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::{World, address, n, set};
use lictor_catalog::{Action, AutopilotConfig};
use lictor_gossip::MemberState;
use lictor_machine::{Index, NodeId};
use lictor_node::agent::ServerFacts;
use lictor_node::{
    Answer, Call, ClusterId, Config, Event, FoundRefusal, Hello, Input, OperatorAnswer, OperatorRequest,
    PeerAddress, Reply, Request, RequestError,
};
use lictor_raft::Configuration;

const SECOND: Duration = Duration::from_secs(1);

fn facts(world: &World, id: NodeId, state: MemberState) -> ServerFacts {
    ServerFacts {
        id,
        name: format!("server-{}", id.0),
        address: address(id),
        datacenter: "dc1".into(),
        build: "1.8.7".into(),
        cluster: world.seats[&id].node.notes().cluster,
        state,
    }
}

/// Everybody hears how everybody is: those that run are well, those in `others` are as it says there.
fn gossip(world: &mut World, others: &[(u128, MemberState)]) {
    for about in world.ids() {
        let told = others
            .iter()
            .find(|(id, _)| n(*id) == about)
            .map(|(_, state)| *state);
        let truth = if world.seats[&about].alive {
            MemberState::Alive
        } else {
            MemberState::Failed
        };
        for to in world.ids() {
            if world.seats[&to].alive {
                let facts = facts(world, about, told.unwrap_or(truth));
                world.input(to, Input::Known(facts)).unwrap();
            }
        }
    }
}

/// Gossip and time go on for a while.
fn live(world: &mut World, seconds: u64, others: &[(u128, MemberState)]) {
    for _ in 0..seconds {
        gossip(world, others);
        world.run(SECOND);
    }
}

fn members(world: &World) -> Configuration {
    let leader = world.leader().expect("somebody leads");
    world.seats[&leader].node.raft_status().members
}

fn ids(ids: impl IntoIterator<Item = u128>) -> BTreeSet<NodeId> {
    ids.into_iter().map(NodeId).collect()
}

fn troubles(world: &World, at: NodeId) -> Vec<String> {
    let events = world.seats[&at].events.iter();
    events
        .filter_map(|event| match event {
            Event::Trouble(text) => Some(text.clone()),
            _ => None,
        })
        .collect()
}

fn operate(world: &mut World, at: NodeId, request: OperatorRequest) -> Answer {
    let token = world.request(at, Request::Operator(request));
    for _ in 0..100 {
        world.run(Duration::from_millis(100));
        if let Some(answer) = world.answer(at, token) {
            return answer.clone();
        }
    }
    panic!("no answer in ten seconds");
}

#[test]
fn a_newcomer_is_adopted_learns_and_votes_once_it_was_healthy_for_long_enough() {
    let (mut world, leader) = World::founded(|_| {});
    world.set(leader, "k", "v");
    world.add(4, 0, &[], |_| {});
    live(&mut world, 3, &[]);
    assert_eq!(members(&world).learners, ids([4]));
    assert_eq!(members(&world).voters, ids([1, 2, 3]));
    assert_eq!(world.get(n(4), "k").as_deref(), Some("v"));
    assert_eq!(world.seats[&n(4)].node.notes().cluster, world.cluster());
    // The usual time is ten seconds.
    live(&mut world, 5, &[]);
    assert_eq!(members(&world).voters, ids([1, 2, 3]));
    live(&mut world, 6, &[]);
    assert_eq!(members(&world).voters, ids([1, 2, 3, 4]));
    assert!(members(&world).learners.is_empty());
}

#[test]
fn a_learner_that_fails_has_to_prove_itself_anew() {
    let (mut world, _) = World::founded(|_| {});
    world.add(4, 0, &[], |_| {});
    live(&mut world, 8, &[]);
    assert_eq!(members(&world).learners, ids([4]));
    live(&mut world, 2, &[(4, MemberState::Failed)]);
    live(&mut world, 8, &[]);
    assert_eq!(members(&world).learners, ids([4]));
    live(&mut world, 4, &[]);
    assert_eq!(members(&world).voters, ids([1, 2, 3, 4]));
}

#[test]
fn one_that_expects_servers_of_its_own_is_adopted_all_the_same() {
    let (mut world, _) = World::founded(|_| {});
    world.add(4, 3, &[1, 2, 3], |_| {});
    world.add(5, 3, &[1, 2, 3], |_| {});
    live(&mut world, 16, &[]);
    assert_eq!(members(&world).voters, ids([1, 2, 3, 4, 5]));
}

#[test]
fn a_server_of_another_cluster_is_named_and_left_alone() {
    let (mut world, leader) = World::founded(|_| {});
    let stranger = ServerFacts {
        cluster: Some(ClusterId(99)),
        ..facts(&world, n(1), MemberState::Alive)
    };
    let stranger = ServerFacts {
        id: n(9),
        name: "other".into(),
        ..stranger
    };
    for _ in 0..20 {
        world.input(leader, Input::Known(stranger.clone())).unwrap();
        world.run(SECOND);
    }
    assert_eq!(members(&world).members(), ids([1, 2, 3]));
    let said = troubles(&world, leader);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].contains("\"other\"") && said[0].contains("empty its data directory"),
        "{said:?}"
    );
}

#[test]
fn who_belongs_to_a_cluster_is_not_adopted_by_another() {
    let (mut world, _) = World::founded(|_| {});
    let cluster = world.cluster().unwrap();
    world.call(n(2), n(1), Call::Adopt(ClusterId(99)));
    assert_eq!(
        world.replies(n(2)),
        [Reply::Adopted(Err(FoundRefusal::Member(cluster)))]
    );
    // To be asked again by one's own is no harm.
    world.call(n(2), n(1), Call::Adopt(cluster));
    assert_eq!(world.replies(n(2)), [Reply::Adopted(Ok(()))]);
}

#[test]
fn an_adoption_is_durable_before_it_is_said() {
    let mut world = World::new();
    world.add(1, 0, &[], |_| {});
    world.add(4, 0, &[], |_| {});
    world.settle();
    world.seat(n(4)).hold_log = true;
    world.call(n(1), n(4), Call::Adopt(ClusterId(5)));
    assert_eq!(world.replies(n(1)), []);
    world.seat(n(4)).hold_log = false;
    world.drain(n(4));
    assert_eq!(world.replies(n(1)), [Reply::Adopted(Ok(()))]);
}

#[test]
fn who_leaves_is_taken_out_and_told() {
    let (mut world, leader) = World::founded(|_| {});
    live(&mut world, 2, &[]);
    let follower = world.follower(leader);
    world.input(follower, Input::Leave).unwrap();
    live(&mut world, 3, &[(follower.0, MemberState::Leaving)]);
    assert!(!members(&world).members().contains(&follower));
    assert!(world.seats[&follower].removed);
    assert!(!world.seats[&leader].removed);
}

#[test]
fn a_leader_that_leaves_hands_over_first() {
    let (mut world, leader) = World::founded(|_| {});
    live(&mut world, 2, &[]);
    world.input(leader, Input::Leave).unwrap();
    live(&mut world, 4, &[(leader.0, MemberState::Leaving)]);
    assert_ne!(world.leader(), Some(leader));
    assert!(!members(&world).members().contains(&leader));
    assert!(world.seats[&leader].removed);
}

#[test]
fn the_last_one_leaves_nobody() {
    let mut world = World::of(1, 1, |_| {});
    let leader = world.elect();
    world.input(leader, Input::Leave).unwrap();
    live(&mut world, 2, &[(1, MemberState::Leaving)]);
    assert!(world.seats[&leader].removed);
    // It stays a cluster of one, to start again.
    assert_eq!(world.seats[&leader].node.raft_status().members.voters, ids([1]));
}

#[test]
fn who_comes_back_after_it_left_learns_and_votes_again() {
    let (mut world, leader) = World::founded(|_| {});
    live(&mut world, 2, &[]);
    let follower = world.follower(leader);
    live(&mut world, 3, &[(follower.0, MemberState::Left)]);
    assert_eq!(members(&world).voters.len(), 2);
    live(&mut world, 16, &[]);
    assert_eq!(members(&world).voters, ids([1, 2, 3]));
}

#[test]
fn a_failed_server_goes_only_once_another_is_there_to_do_without_it() {
    let (mut world, leader) = World::founded(|_| {});
    let dead = world.follower(leader);
    world.crash(dead);
    live(&mut world, 5, &[]);
    assert!(world.seats[&leader].expelled.is_empty());
    world.add(4, 0, &[], |_| {});
    live(&mut world, 16, &[]);
    assert!(members(&world).voters.contains(&n(4)));
    assert_eq!(world.seats[&leader].expelled, BTreeSet::from([dead]));
    live(&mut world, 3, &[(dead.0, MemberState::Left)]);
    assert!(!members(&world).members().contains(&dead));
    assert_eq!(members(&world).voters.len(), 3);
}

#[test]
fn operators_can_forbid_the_cleaning_up() {
    let forbid = |config: &mut Config| config.autopilot.cleanup_dead_servers = false;
    let (mut world, leader) = World::founded(forbid);
    let dead = world.follower(leader);
    world.crash(dead);
    world.add(4, 0, &[], |_| {});
    live(&mut world, 18, &[]);
    assert!(members(&world).voters.contains(&n(4)));
    assert!(world.seats[&leader].expelled.is_empty());
    // What the servers were started with is everybody's setting now, and can be changed.
    let config = AutopilotConfig::default();
    world.request(leader, Request::Write(Action::SetAutopilot { config, cas: None }));
    live(&mut world, 3, &[]);
    assert_eq!(world.seats[&leader].expelled, BTreeSet::from([dead]));
}

#[test]
fn min_quorum_keeps_failed_voters() {
    let keep = |config: &mut Config| config.autopilot.min_quorum = 4;
    let (mut world, leader) = World::founded(keep);
    let dead = world.follower(leader);
    world.crash(dead);
    world.add(4, 0, &[], |_| {});
    live(&mut world, 18, &[]);
    assert!(members(&world).voters.contains(&n(4)));
    assert!(world.seats[&leader].expelled.is_empty());
}

#[test]
fn a_new_leader_takes_nobody_out_whom_gossip_does_not_know() {
    let (mut world, _) = World::founded(|_| {});
    world.run(SECOND * 10);
    assert_eq!(members(&world).voters, ids([1, 2, 3]));
}

#[test]
fn newcomers_that_gossip_tells_of_a_cluster_found_no_other_though_nobody_in_it_answers() {
    let (mut world, _) = World::founded(|_| {});
    for id in 4..=6 {
        for old in 1..=3 {
            world.separate(id, old);
        }
        let cluster = facts(&world, n(1), MemberState::Alive);
        world.add(id, 3, &[], |_| {});
        world.input(n(id), Input::Known(cluster)).unwrap();
        world
            .input(n(id), Input::Contacts((4..=6).map(|id| address(n(id))).collect()))
            .unwrap();
    }
    // The harness would notice two clusters.
    live(&mut world, 5, &[]);
    for id in 4..=6 {
        assert_eq!(world.seats[&n(id)].node.notes().founding, None);
        assert_eq!(troubles(&world, n(id)), [""; 0]);
    }
    // Those that only failed may come back.
    live(
        &mut world,
        5,
        &[
            (1, MemberState::Failed),
            (2, MemberState::Failed),
            (3, MemberState::Failed),
        ],
    );
    let said = troubles(&world, n(4));
    assert!(
        said.len() == 1 && said[0].contains("founds no cluster"),
        "{said:?}"
    );
    world.cut.clear();
    live(&mut world, 16, &[]);
    assert_eq!(members(&world).voters, ids(1..=6));
}

#[test]
fn who_has_left_is_forgotten_by_all_and_not_brought_back_by_hearsay() {
    let (mut world, leader) = World::founded(|_| {});
    live(&mut world, 2, &[]);
    let follower = world.follower(leader);
    let staying = world
        .ids()
        .into_iter()
        .filter(|id| *id != follower)
        .collect::<Vec<_>>();
    live(&mut world, 3, &[(follower.0, MemberState::Left)]);
    let knows = |world: &World, at: &NodeId| {
        let peers = &world.seats[at].node.notes().peers;
        peers.iter().any(|peer| peer.id == follower)
    };
    assert!(!members(&world).members().contains(&follower));
    assert!(staying.iter().all(|at| !knows(&world, at)));
    // A greeting from one who does not know it yet.
    let known = facts(&world, follower, MemberState::Alive);
    let peer = |facts: &ServerFacts| PeerAddress {
        id: facts.id,
        name: facts.name.clone(),
        address: facts.address,
    };
    let hello = Hello {
        me: peer(&facts(&world, staying[1], MemberState::Alive)),
        expect: 3,
        cluster: world.cluster(),
        given_up: 0,
        peers: vec![peer(&known)],
    };
    world.call(staying[1], staying[0], Call::Hello(hello));
    assert!(!knows(&world, &staying[0]));
}

#[test]
fn a_learner_that_has_never_answered_is_not_promoted() {
    let at_once = |config: &mut Config| {
        config.autopilot.server_stabilization_time = Duration::ZERO;
    };
    let (mut world, leader) = World::founded(at_once);
    world.set(leader, "k", "v");
    live(&mut world, 2, &[]);
    let silent = ServerFacts {
        id: n(9),
        name: "silent".into(),
        ..facts(&world, leader, MemberState::Alive)
    };
    for _ in 0..10 {
        world.input(leader, Input::Known(silent.clone())).unwrap();
        world.run(SECOND);
        assert_eq!(members(&world).voters, ids([1, 2, 3]));
    }
    assert_eq!(members(&world).learners, ids([9]));
}

#[test]
fn a_server_that_gossip_has_forgotten_is_taken_out() {
    let (mut world, leader) = World::founded(|_| {});
    live(&mut world, 2, &[]);
    let dead = world.follower(leader);
    world.crash(dead);
    world.run(SECOND);
    world.input(leader, Input::Forgotten(dead)).unwrap();
    world.run(SECOND * 3);
    assert_eq!(members(&world).voters.len(), 2);
    assert!(!members(&world).members().contains(&dead));
}

#[test]
fn operators_see_the_servers_and_take_one_out() {
    let (mut world, leader) = World::founded(|_| {});
    live(&mut world, 2, &[]);
    let follower = world.follower(leader);
    let asked = operate(&mut world, follower, OperatorRequest::Servers { stale: false });
    let Answer::Operator(OperatorAnswer::Servers(servers)) = asked else {
        panic!("{asked:?}")
    };
    let known: Vec<_> = servers
        .iter()
        .map(|server| (server.id.0, server.name.as_deref(), server.leader))
        .collect();
    let leads = |id| n(id) == leader;
    assert_eq!(
        known,
        [
            (1, Some("server-1"), leads(1)),
            (2, Some("server-2"), leads(2)),
            (3, Some("server-3"), leads(3))
        ]
    );
    let answer = operate(&mut world, follower, OperatorRequest::Remove(n(77)));
    assert!(
        matches!(&answer, Answer::Failed(RequestError::Refused(text)) if text.contains("not a server")),
        "{answer:?}"
    );
    let other = world
        .ids()
        .into_iter()
        .find(|id| *id != leader && *id != follower)
        .unwrap();
    let answer = operate(&mut world, follower, OperatorRequest::Remove(other));
    assert_eq!(answer, Answer::Operator(OperatorAnswer::Removed));
    assert!(!members(&world).members().contains(&other));
}

#[test]
fn the_last_voter_cannot_be_taken_out() {
    let mut world = World::of(1, 1, |_| {});
    let leader = world.elect();
    let answer = operate(&mut world, leader, OperatorRequest::Remove(leader));
    assert!(
        matches!(&answer, Answer::Failed(RequestError::Refused(text)) if text.contains("last voter")),
        "{answer:?}"
    );
}

#[test]
fn health_is_what_gossip_and_raft_say_together() {
    let (mut world, leader) = World::founded(|_| {});
    live(&mut world, 3, &[]);
    let follower = world.follower(leader);
    let health = |world: &mut World| {
        let answer = operate(world, leader, OperatorRequest::Health);
        let Answer::Operator(OperatorAnswer::Health(health)) = answer else {
            panic!("{answer:?}")
        };
        health
    };
    let well = health(&mut world);
    assert!(well.servers.iter().all(|server| server.healthy), "{well:?}");
    assert_eq!(well.failure_tolerance, 1);
    assert!(well.servers.iter().all(|server| server.last_index > Index::ZERO));
    world.crash(follower);
    live(&mut world, 3, &[]);
    let hurt = health(&mut world);
    let sick: Vec<_> = hurt
        .servers
        .iter()
        .filter(|server| !server.healthy)
        .map(|server| server.server.id)
        .collect();
    assert_eq!(sick, [follower]);
    assert_eq!(hurt.failure_tolerance, 0);
}

#[test]
fn a_servers_new_address_is_learned_from_gossip() {
    let (mut world, leader) = World::founded(|_| {});
    let follower = world.follower(leader);
    let moved = ServerFacts {
        address: "192.0.2.7:8300".parse().unwrap(),
        ..facts(&world, follower, MemberState::Alive)
    };
    world.input(leader, Input::Known(moved)).unwrap();
    world.settle();
    let peers = &world.seats[&leader].node.notes().peers;
    let known = peers.iter().find(|peer| peer.id == follower).unwrap();
    assert_eq!(known.address, "192.0.2.7:8300".parse().unwrap());
}

#[test]
fn replacing_every_server_one_after_another_loses_nothing() {
    let (mut world, leader) = World::founded(|_| {});
    world.set(leader, "k", "0");
    live(&mut world, 2, &[]);
    let mut gone: Vec<(u128, MemberState)> = Vec::new();
    for (old, new) in [(1, 4), (2, 5), (3, 6)] {
        world.add(new, 0, &[], |_| {});
        live(&mut world, 14, &gone);
        assert!(members(&world).voters.contains(&n(new)));
        world.input(n(old), Input::Leave).unwrap();
        gone.push((old, MemberState::Left));
        live(&mut world, 4, &gone);
        assert!(world.seats[&n(old)].removed);
        world.crash(n(old));
        let leader = world.elect();
        let token = world.request(leader, Request::Write(set(&format!("k{new}"), "v")));
        world.run(SECOND);
        assert!(matches!(
            world.answer(leader, token),
            Some(Answer::Written { .. })
        ));
    }
    assert_eq!(members(&world).voters, ids([4, 5, 6]));
    for key in ["k", "k4", "k5", "k6"] {
        assert!(world.get(n(6), key).is_some(), "{key}");
    }
}
