//! The way of a request: to the leader and back, and what becomes of it when the leader goes.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test picks out what it looks for"
)]

mod common;

use std::time::Duration;

use common::{Packet, World, n, pair, set};
use lictor_catalog::{Action, KvWrite, Outcome};
use lictor_machine::{Index, Instant, Machine, Token};
use lictor_node::store::DiskFault;
use lictor_node::{Answer, Call, Config, Effect, Input, NodeFault, Reject, Reply, Request, RequestError};
use lictor_raft::{ReadMode, Role};

const fn as_usual(_: &mut Config) {}

fn written(answer: Option<&Answer>) -> bool {
    matches!(
        answer,
        Some(Answer::Written {
            outcome: Outcome::Done(true),
            ..
        })
    )
}

fn failed(answer: Option<&Answer>) -> Option<&RequestError> {
    match answer {
        Some(Answer::Failed(error)) => Some(error),
        _ => None,
    }
}

/// A write that succeeds only the first time.
fn once(key: &str, value: &str) -> Request {
    Request::Write(Action::Kv(KvWrite::Cas(pair(key, value), Index::ZERO)))
}

#[test]
fn a_write_goes_through_any_server() {
    let (mut world, leader) = World::founded(as_usual);
    for (at, key) in world.ids().into_iter().zip(["a", "b", "c"]) {
        let token = world.set(at, key, "1");
        world.settle();
        assert!(written(world.answer(at, token)), "{at:?}");
    }
    world.run(Duration::from_secs(1));
    assert!(world.agree());
    assert_eq!(world.get(leader, "c").as_deref(), Some("1"));
}

#[test]
fn what_was_written_is_visible_before_it_is_answered() {
    let (mut world, leader) = World::founded(as_usual);
    let token = world.set(leader, "a", "1");
    world.settle();
    let Some(Answer::Written { index, .. }) = world.answer(leader, token) else {
        panic!("not written")
    };
    assert!(world.seats[&leader].published.index() >= *index);
    assert_eq!(world.get(leader, "a").as_deref(), Some("1"));
}

#[test]
fn a_request_that_finds_no_leader_waits_and_then_fails() {
    let (mut world, leader) = World::founded(as_usual);
    for id in world.ids().into_iter().filter(|id| *id != leader) {
        world.crash(id);
    }
    world.run(Duration::from_secs(2));
    assert_eq!(world.leader(), None);
    let write = world.set(leader, "a", "1");
    let read = world.read(leader, ReadMode::Lease);
    world.run(Duration::from_millis(6_900));
    assert_eq!(world.answer(leader, write), None);
    world.run(Duration::from_millis(200));
    assert_eq!(failed(world.answer(leader, write)), Some(&RequestError::NoLeader));
    assert_eq!(failed(world.answer(leader, read)), Some(&RequestError::NoLeader));
}

#[test]
fn a_request_that_waits_for_a_leader_is_carried_out_when_there_is_one() {
    let (mut world, leader) = World::founded(as_usual);
    let at = world.follower(leader);
    world.crash(leader);
    let write = world.set(at, "a", "1");
    let read = world.read(at, ReadMode::Quorum);
    world.run(Duration::from_secs(5));
    assert!(written(world.answer(at, write)));
    assert!(matches!(world.answer(at, read), Some(Answer::Readable { .. })));
}

/// It may have been carried out, so it is not tried again.
#[test]
fn a_write_whose_reply_is_lost_is_uncertain_and_not_repeated() {
    let (mut world, leader) = World::founded(as_usual);
    let at = world.follower(leader);
    world.deaf.insert(at);
    let first = world.request(at, once("a", "1"));
    world.run(Duration::from_secs(8));
    assert_eq!(
        failed(world.answer(at, first)),
        Some(&RequestError::LeadershipLost)
    );
    assert_eq!(
        world.get(leader, "a").as_deref(),
        Some("1"),
        "it had been carried out"
    );
    let index = world.seats[&leader].node.applied();
    world.run(Duration::from_secs(8));
    assert_eq!(world.seats[&leader].node.applied(), index);
}

#[test]
fn a_write_is_uncertain_when_the_leader_dies_with_it() {
    let (mut world, leader) = World::founded(as_usual);
    let at = world.follower(leader);
    world.seat(leader).hold_log = true;
    for id in world.ids() {
        world.seat(id).hold_log = true;
    }
    let token = world.request(at, once("a", "1"));
    world.settle();
    world.crash(leader);
    for id in world.ids() {
        world.seat(id).hold_log = false;
    }
    world.run(Duration::from_secs(5));
    assert_eq!(
        failed(world.answer(at, token)),
        Some(&RequestError::LeadershipLost)
    );
}

/// The network drops the leader without a word, with a write that it has taken: the follower waits for the next leader, and then for
/// a moment, but not until the time for the whole request is over.
#[test]
fn a_write_at_a_silent_leader_is_given_up_soon_after_the_next_leader_is_known() {
    let (mut world, leader) = World::founded(|config| config.hold = Duration::from_mins(1));
    let grace = world.seats[&leader].config.grace;
    let at = world.follower(leader);
    let token = world.request(at, once("a", "1"));
    let call =
        |packet: &Packet| matches!(packet, Packet::Call { call: Call::Write(_), to, .. } if *to == leader);
    let place = world.wire.iter().position(call).unwrap();
    let Some(Packet::Call { from, id, to, call }) = world.wire.remove(place) else {
        panic!("it was found")
    };
    world.cut_off(leader);
    world.deliver_call(from, id, to, call);
    let next = |world: &World| {
        let standing = world.seats[&at].standing.as_ref().unwrap();
        standing.leader.filter(|next| *next != leader)
    };
    let step = Duration::from_millis(10);
    while next(&world).is_none() {
        assert!(world.now < Instant::from_millis(40_000), "no other leader");
        assert_eq!(world.answer(at, token), None);
        world.run(step);
    }
    world.run(grace.saturating_sub(2 * step));
    assert_eq!(world.answer(at, token), None, "it may have been on its way");
    world.run(3 * step);
    assert_eq!(
        failed(world.answer(at, token)),
        Some(&RequestError::LeadershipLost)
    );
    // Nothing of it happened, and nobody does it again.
    let next = next(&world).unwrap();
    world.run(Duration::from_secs(2));
    assert_eq!(world.get(next, "a"), None);
}

#[test]
fn a_call_that_never_left_is_made_again() {
    let (mut world, leader) = World::founded(as_usual);
    let at = world.follower(leader);
    world.cut.insert((at, leader));
    let token = world.request(at, once("a", "1"));
    world.run(Duration::from_millis(200));
    assert_eq!(world.answer(at, token), None);
    world.cut.clear();
    world.run(Duration::from_secs(3));
    assert!(written(world.answer(at, token)));
}

#[test]
fn a_proposal_that_was_lost_is_made_again_and_applied_once() {
    let (mut world, first) = World::founded(as_usual);
    world.cut_off(first);
    let tokens: Vec<Token> = (0..5)
        .map(|i| world.request(first, once(&format!("k{i}"), "1")))
        .collect();
    world.run(Duration::from_secs(3));
    let second = world.leader().unwrap();
    assert_ne!(second, first);
    assert!(tokens.iter().all(|token| world.answer(first, *token).is_none()));
    world.cut.clear();
    world.run(Duration::from_secs(3));
    for token in tokens {
        assert!(
            written(world.answer(first, token)),
            "{:?}",
            world.answer(first, token)
        );
    }
    assert!(world.agree());
}

#[test]
fn reads_of_every_mode_are_served_by_every_server() {
    let (mut world, leader) = World::founded(as_usual);
    world.set(leader, "a", "1");
    world.run(Duration::from_secs(1));
    let applied = world.seats[&leader].node.applied();
    for at in world.ids() {
        for mode in [ReadMode::Lease, ReadMode::Quorum] {
            let token = world.read(at, mode);
            world.settle();
            assert_eq!(
                world.answer(at, token),
                Some(&Answer::Readable { index: applied })
            );
            assert_eq!(world.get(at, "a").as_deref(), Some("1"));
        }
    }
}

#[test]
fn a_read_at_a_follower_sees_what_was_written_before_it() {
    let (mut world, leader) = World::founded(as_usual);
    let at = world.follower(leader);
    // The follower knows of nothing yet: its disk is slow.
    world.seat(at).hold_log = true;
    let write = world.set(leader, "a", "1");
    world.settle();
    assert!(written(world.answer(leader, write)));
    let read = world.read(at, ReadMode::Lease);
    world.run(Duration::from_millis(300));
    assert_eq!(world.answer(at, read), None);
    world.seat(at).hold_log = false;
    world.run(Duration::from_millis(300));
    assert!(matches!(world.answer(at, read), Some(Answer::Readable { .. })));
    assert_eq!(world.get(at, "a").as_deref(), Some("1"));
}

#[test]
fn requests_beyond_the_bound_are_refused_as_busy() {
    let (mut world, leader) = World::founded(|config| config.requests_max = 3);
    world.cut_off(leader);
    let tokens: Vec<Token> = (0..10).map(|_| world.set(leader, "a", "1")).collect();
    let busy = |token: &&Token| failed(world.answer(leader, **token)) == Some(&RequestError::Busy);
    assert_eq!(tokens.iter().filter(busy).count(), 7);
    world.cut.clear();
    world.run(Duration::from_secs(3));
    assert!(written(world.answer(leader, tokens[0])));
    let token = world.set(leader, "b", "1");
    world.settle();
    assert!(written(world.answer(leader, token)));
}

#[test]
fn a_command_that_is_too_large_is_refused_wherever_it_comes_from() {
    let (mut world, leader) = World::founded(|config| config.command_bytes_max = 1_000);
    let large = "x".repeat(2_000);
    for at in world.ids() {
        let token = world.set(at, "a", &large);
        world.settle();
        let error = failed(world.answer(at, token));
        assert!(
            matches!(error, Some(RequestError::TooLarge { limit: 1_000, .. })),
            "{error:?}"
        );
    }
    assert_eq!(world.get(leader, "a"), None);
}

#[test]
fn a_request_travels_once() {
    let (mut world, leader) = World::founded(as_usual);
    let at = world.follower(leader);
    world.call(n(9), at, Call::Write(set("a", "1")));
    assert_eq!(world.replies(n(9)), [Reply::NotLeader(Some(leader))]);
    world.call(n(9), leader, Call::Write(set("a", "1")));
    world.settle();
    assert_eq!(world.get(leader, "a").as_deref(), Some("1"));
}

#[test]
fn a_failed_disk_stops_the_node_and_everybody_is_told() {
    let (mut world, leader) = World::founded(as_usual);
    world.seat(leader).hold_log = true;
    world.cut_off(leader);
    let write = world.set(leader, "a", "1");
    let read = world.read(leader, ReadMode::Quorum);
    world.call(n(9), leader, Call::Write(set("b", "1")));
    assert_eq!(world.replies(n(9)), []);
    // Something is ready to leave when the failure is reported.
    let now = world.time();
    let seat = world.seat(leader);
    seat.disk.fail_next_log_write(DiskFault::Io);
    let failure = seat.work_log().unwrap();
    let answered = Token(u64::MAX);
    let request = Request::TransferLeadership(Some(n(77)));
    seat.node
        .handle(
            now,
            Input::Request {
                token: answered,
                request,
            },
        )
        .unwrap();
    seat.node.handle(now, failure).unwrap();
    world.drain(leader);
    assert!(matches!(
        failed(world.answer(leader, read)),
        Some(RequestError::Stopped(_))
    ));
    // Followers may have got it, and who hears "stopped" asks another server.
    assert!(matches!(
        failed(world.answer(leader, write)),
        Some(RequestError::LeadershipLost)
    ));
    let refused = failed(world.answer(leader, answered));
    assert!(
        matches!(refused, Some(RequestError::NotTransferred(_))),
        "what was decided before is true"
    );
    assert!(matches!(
        world.replies(n(9))[..],
        [Reply::Failed(RequestError::LeadershipLost)]
    ));
    assert!(matches!(
        world.seats[&leader].node.fault(),
        Some(NodeFault::Raft(_))
    ));
    let wire = world.wire.len();
    let later = world.set(leader, "c", "1");
    assert!(matches!(
        failed(world.answer(leader, later)),
        Some(RequestError::Stopped(_))
    ));
    let refused = world.input(leader, Input::NotesSaved);
    assert!(matches!(refused, Err(Reject::Faulted(_))));
    assert_eq!(world.seats[&leader].node.poll_timeout(), None);
    assert_eq!(world.wire.len(), wire, "nothing leaves");
}

#[test]
fn leadership_is_handed_over_on_request() {
    let (mut world, leader) = World::founded(as_usual);
    let to = world.follower(leader);
    let token = world.request(leader, Request::TransferLeadership(Some(to)));
    world.run(Duration::from_secs(1));
    assert_eq!(world.answer(leader, token), Some(&Answer::Transferred));
    assert_eq!(world.leader(), Some(to));
    let token = world.request(leader, Request::TransferLeadership(None));
    world.settle();
    assert!(matches!(
        failed(world.answer(leader, token)),
        Some(RequestError::NotTransferred(_))
    ));
}

#[test]
fn a_leader_that_leaves_hands_over_and_stores_what_it_has() {
    let (mut world, leader) = World::founded(as_usual);
    world.seat(leader).hold_state = true;
    world.set(leader, "a", "1");
    world.run(Duration::from_secs(2));
    assert_eq!(world.seats[&leader].state_jobs.len(), 1, "a batch is on its way");
    world.set(leader, "b", "1");
    world.settle();
    world.input(leader, Input::Stop).unwrap();
    world.run(Duration::from_secs(1));
    assert_ne!(world.leader(), Some(leader));
    assert!(!world.seats[&leader].left, "the batch is still on its way");
    world.seat(leader).hold_state = false;
    world.run(Duration::from_secs(1));
    assert!(world.seats[&leader].left);
    let applied = world.seats[&leader]
        .disk
        .inspect_state(|_, durable| durable.applied.index);
    assert!(world.seats[&leader].node.state().index() >= applied);
    world.crash(leader);
    world.restart(leader);
    assert_eq!(
        world.get(leader, "b").as_deref(),
        Some("1"),
        "before anything is replayed"
    );
    world.input(leader, Input::Stop).unwrap();
    assert!(world.seats[&leader].left, "a follower has nothing to wait for");
}

#[test]
fn names_of_requests_may_be_used_again() {
    let (mut world, leader) = World::founded(as_usual);
    world.cut_off(leader);
    world.run(Duration::from_secs(2));
    assert_ne!(world.seats[&leader].node.raft_status().role, Role::Leader);
    let token = Token(u64::MAX);
    let ask = |world: &mut World, request| world.input(leader, Input::Request { token, request }).unwrap();
    ask(&mut world, Request::TransferLeadership(None));
    assert!(world.seat(leader).answers.remove(&token).is_some());
    world.run(Duration::from_secs(5));
    ask(&mut world, once("a", "1"));
    // The time of the first is over, that of the second is not.
    world.run(Duration::from_secs(3));
    assert_eq!(world.answer(leader, token), None);
    world.cut.clear();
    world.run(Duration::from_secs(3));
    assert!(written(world.answer(leader, token)));
}

#[test]
fn effects_are_small_enough_to_be_moved_about() {
    // The largest are rare: a standing, a greeting.
    assert!(size_of::<Effect>() <= 256, "{}", size_of::<Effect>());
}

#[test]
fn an_idle_server_sleeps() {
    let mut world = World::of(1, 1, as_usual);
    world.elect();
    world.run(Duration::from_secs(5));
    let before = world.seats[&n(1)].wakes;
    world.run(Duration::from_mins(1));
    let wakes = world.seats[&n(1)].wakes - before;
    // Ten heartbeats a second, and a greeting now and then.
    assert!(wakes <= 620, "{wakes}");
    assert!(world.seats[&n(1)].state_jobs.is_empty());
}
