//! What the leader keeps the time of: sessions, locks after their sessions, answers under idempotency keys.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test picks out what it looks for"
)]

mod common;

use std::time::Duration;

use common::{World, pair, set};
use lictor_catalog::{
    Action, IdempotencyKey, KvWrite, NodeDef, Once, Outcome, Registration, SessionDef, SessionId, SessionRef,
};
use lictor_machine::{Index, NodeId, Token};
use lictor_node::{Answer, Call, Config, Reply, Request, RequestError};

const TTL: Duration = Duration::from_secs(10);

const fn as_usual(_: &mut Config) {}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn def(id: u128, ttl: Duration) -> SessionDef {
    SessionDef {
        id: SessionId(id),
        node: "n".into(),
        ttl,
        ..SessionDef::default()
    }
}

fn register() -> Action {
    Action::Register(Box::new(Registration {
        node: NodeDef {
            name: "n".into(),
            address: "1.1.1.1".into(),
            ..NodeDef::default()
        },
        ..Registration::default()
    }))
}

/// What became of a write, which must have been carried out.
#[track_caller]
fn written(world: &mut World, at: NodeId, action: Action) -> Outcome {
    let token = world.request(at, Request::Write(action));
    for _ in 0..1000 {
        if let Some(answer) = world.answer(at, token) {
            let Answer::Written { outcome, .. } = answer else {
                panic!("not written: {answer:?}")
            };
            return outcome.clone();
        }
        world.run(millis(10));
    }
    panic!("no answer in ten seconds");
}

#[track_caller]
fn create(world: &mut World, at: NodeId, def: SessionDef) -> SessionRef {
    let id = def.id;
    let outcome = written(world, at, Action::CreateSession(Box::new(def)));
    assert_eq!(outcome, Outcome::Session(id));
    SessionRef(id.to_string())
}

fn lock(world: &mut World, at: NodeId, key: &str, by: &SessionRef) -> bool {
    let lock = KvWrite::Lock(pair(key, "v"), by.clone());
    written(world, at, Action::Kv(lock)) == Outcome::Done(true)
}

fn lives(world: &World, at: NodeId, id: u128) -> bool {
    world.seats[&at].node.state().session(SessionId(id)).is_some()
}

fn renew(world: &mut World, at: NodeId, id: u128) -> Token {
    world.request(at, Request::RenewSession(SessionId(id)))
}

/// Whether a renewal found its session; `None`: not answered yet.
fn renewed(world: &World, at: NodeId, token: Token) -> Option<bool> {
    match world.answer(at, token)? {
        Answer::Renewed(session) => Some(session.is_some()),
        other => panic!("not an answer to a renewal: {other:?}"),
    }
}

/// Three servers, the node `n` in their catalog, and a session with a TTL, made just now.
fn with_session() -> (World, NodeId) {
    let (mut world, leader) = World::founded(as_usual);
    written(&mut world, leader, register());
    create(&mut world, leader, def(1, TTL));
    (world, leader)
}

#[test]
fn a_session_that_nobody_renews_ends_after_twice_its_ttl() {
    let (mut world, leader) = with_session();
    create(&mut world, leader, def(2, Duration::ZERO));
    world.run(millis(19_800));
    assert!(lives(&world, leader, 1));
    world.run(millis(700));
    world.run(millis(500));
    for id in world.ids() {
        assert!(!lives(&world, id, 1));
        assert!(lives(&world, id, 2), "without a TTL there is no end");
    }
    let again = renew(&mut world, leader, 1);
    let other = renew(&mut world, leader, 2);
    world.settle();
    assert_eq!(renewed(&world, leader, again), Some(false));
    assert_eq!(renewed(&world, leader, other), Some(true));
}

#[test]
fn a_session_has_all_its_time_whenever_it_begins_or_is_renewed() {
    let ttl = Duration::from_secs(1);
    let (mut world, leader) = World::founded(as_usual);
    written(&mut world, leader, register());
    for id in 1..20 {
        // Leaders look at their clocks when they have something to do.
        world.run(millis(330));
        create(&mut world, leader, def(id, ttl));
        world.run((ttl * 2).saturating_sub(millis(40)));
        assert!(lives(&world, leader, id), "session {id} ends too soon");
        let token = renew(&mut world, leader, id);
        assert_eq!(renewed(&world, leader, token), Some(true));
        world.run((ttl * 2).saturating_sub(millis(40)));
        assert!(
            lives(&world, leader, id),
            "session {id} ends too soon after it was renewed"
        );
    }
}

#[test]
fn a_renewal_at_any_server_gives_all_the_time_anew_and_writes_nothing() {
    let (mut world, leader) = with_session();
    world.run(Duration::from_secs(1));
    let index = world.seats[&leader].node.applied();
    for at in world.ids().into_iter().cycle().take(6) {
        world.run(Duration::from_secs(15));
        let token = renew(&mut world, at, 1);
        world.settle();
        assert_eq!(renewed(&world, at, token), Some(true), "{at:?}");
        assert!(lives(&world, leader, 1));
    }
    assert_eq!(world.seats[&leader].node.applied(), index);
    world.run(millis(19_800));
    assert!(lives(&world, leader, 1));
    world.run(millis(700));
    assert!(!lives(&world, leader, 1));
}

#[test]
fn an_election_gives_every_session_all_its_time() {
    let (mut world, leader) = with_session();
    world.run(Duration::from_secs(19));
    world.crash(leader);
    let next = world.elect();
    assert_ne!(next, leader);
    world.run(Duration::from_secs(19));
    assert!(lives(&world, next, 1));
    // A leader may be asked at once.
    let token = renew(&mut world, next, 1);
    world.settle();
    assert_eq!(renewed(&world, next, token), Some(true));
    world.run(millis(19_800));
    assert!(lives(&world, next, 1));
    world.run(millis(700));
    assert!(!lives(&world, next, 1));
}

#[test]
fn handing_leadership_over_and_back_gives_the_time_anew_each_time() {
    let (mut world, mut leader) = with_session();
    for _ in 0..3 {
        world.run(Duration::from_secs(15));
        let before = leader;
        world.request(leader, Request::TransferLeadership(None));
        world.run(Duration::from_secs(2));
        leader = world.leader().unwrap();
        assert_ne!(leader, before);
        assert!(lives(&world, leader, 1));
    }
    world.run(Duration::from_secs(21));
    assert!(!lives(&world, leader, 1));
}

/// The voter that was to lead hears nothing. Its leader keeps the others, and time goes on for sessions, without a lease.
#[test]
fn after_a_transfer_that_failed_sessions_are_renewed_and_still_end() {
    let (mut world, leader) = with_session();
    create(&mut world, leader, def(2, TTL));
    let frozen = world.follower(leader);
    let term = world.seats[&leader].node.raft_status().term;
    world.cut.insert((leader, frozen));
    let token = world.request(leader, Request::TransferLeadership(Some(frozen)));
    // It is still thought to be there, and held all of the log: it is told to lead, but does not hear that.
    world.run(Duration::from_secs(2));
    assert!(
        matches!(
            world.answer(leader, token),
            Some(Answer::Failed(RequestError::NotTransferred(_)))
        ),
        "{:?}",
        world.answer(leader, token)
    );
    world.run(Duration::from_secs(10));
    let token = renew(&mut world, leader, 1);
    world.settle();
    assert_eq!(renewed(&world, leader, token), Some(true));
    // A transfer, in which no time passes, takes an election timeout at most.
    world.run(Duration::from_secs(10));
    assert!(lives(&world, leader, 1));
    assert!(!lives(&world, leader, 2), "nobody has renewed it");
    world.run(Duration::from_millis(9500));
    assert!(lives(&world, leader, 1));
    world.run(Duration::from_secs(1));
    assert!(!lives(&world, leader, 1));
    let status = world.seats[&leader].node.raft_status();
    assert_eq!(
        (status.term, status.leader),
        (term, Some(leader)),
        "it led all the time"
    );
    assert_eq!(
        world.seats[&leader].standing.as_ref().unwrap().lease_until,
        None,
        "the lease is void"
    );
}

#[test]
fn a_leader_that_was_cut_off_ends_nothing() {
    let (mut world, leader) = with_session();
    world.run(Duration::from_secs(15));
    world.cut_off(leader);
    world.run(Duration::from_secs(3));
    let next = world.leader().unwrap();
    assert_ne!(next, leader);
    let token = renew(&mut world, next, 1);
    world.settle();
    assert_eq!(renewed(&world, next, token), Some(true));
    // By the old leader's reckoning it would be over now.
    world.run(Duration::from_secs(10));
    world.cut.clear();
    world.run(Duration::from_secs(5));
    assert!(lives(&world, next, 1));
    assert!(world.agree());
}

/// While a leader cannot answer renewals, nobody is late.
#[test]
fn time_without_a_quorum_does_not_count() {
    let (mut world, leader) = with_session();
    world.run(Duration::from_secs(15));
    for id in world.ids() {
        if id != leader {
            world.crash(id);
        }
    }
    world.run(Duration::from_secs(30));
    for id in world.ids() {
        if id != leader {
            world.restart(id);
        }
    }
    let next = world.elect();
    world.run(Duration::from_secs(4));
    assert!(lives(&world, next, 1));
}

#[test]
fn time_that_a_lone_server_slept_does_not_count() {
    let mut world = World::of(1, 1, as_usual);
    let alone = world.elect();
    written(&mut world, alone, register());
    create(&mut world, alone, def(1, TTL));
    world.run(Duration::from_secs(10));
    world.now = world.now + Duration::from_hours(1);
    world.run(Duration::from_secs(5));
    assert!(lives(&world, alone, 1));
    world.run(Duration::from_secs(6));
    assert!(!lives(&world, alone, 1));
}

#[test]
fn a_restart_of_all_gives_the_time_anew() {
    let (mut world, leader) = with_session();
    let held = SessionRef(SessionId(1).to_string());
    assert!(lock(&mut world, leader, "l", &held));
    world.run(Duration::from_secs(18));
    for id in world.ids() {
        world.crash(id);
    }
    for id in world.ids() {
        world.restart(id);
    }
    let leader = world.elect();
    world.run(Duration::from_secs(18));
    assert!(lives(&world, leader, 1));
    world.run(Duration::from_secs(3));
    assert!(!lives(&world, leader, 1));
    let other = create(&mut world, leader, def(2, TTL));
    assert!(lock(&mut world, leader, "l", &other));
}

#[test]
fn a_renewal_waits_for_a_leader_and_fails_without_one() {
    let (mut world, leader) = with_session();
    let at = world.follower(leader);
    world.crash(leader);
    let token = renew(&mut world, at, 1);
    world.settle();
    assert_eq!(renewed(&world, at, token), None);
    let next = world.elect();
    world.run(Duration::from_secs(1));
    assert_eq!(renewed(&world, at, token), Some(true));
    // Now there is no majority.
    let third = world
        .ids()
        .into_iter()
        .find(|id| *id != leader && *id != next)
        .unwrap();
    world.crash(third);
    world.run(Duration::from_secs(3));
    let token = renew(&mut world, next, 1);
    world.run(Duration::from_secs(8));
    assert_eq!(
        world.answer(next, token),
        Some(&Answer::Failed(RequestError::NoLeader))
    );
}

/// A server that does not lead says so to others, and renews nothing by itself.
#[test]
fn only_the_leader_renews() {
    let (mut world, leader) = with_session();
    let at = world.follower(leader);
    world.call(leader, at, Call::RenewSession(SessionId(1)));
    assert_eq!(world.replies(leader), [Reply::NotLeader(Some(leader))]);
    world.call(at, leader, Call::RenewSession(SessionId(1)));
    let replies = world.replies(at);
    assert!(matches!(&replies[..], [Reply::Renewed(Some(session))] if session.def.id == SessionId(1)));
    world.call(at, leader, Call::RenewSession(SessionId(9)));
    assert_eq!(world.replies(at), [Reply::Renewed(None)]);
}

#[test]
fn many_sessions_that_end_at_once_make_few_commands() {
    let (mut world, leader) = World::founded(as_usual);
    written(&mut world, leader, register());
    for id in 1..=3_000 {
        let create = Action::CreateSession(Box::new(def(id, TTL)));
        world.request(leader, Request::Write(create));
        if id % 100 == 0 {
            world.settle();
        }
    }
    world.run(Duration::from_secs(1));
    assert_eq!(world.seats[&leader].node.state().sessions().count(), 3_000);
    let before = world.seats[&leader].node.applied();
    let wakes = world.seats[&leader].wakes;
    world.run(Duration::from_secs(25));
    assert_eq!(world.seats[&leader].node.state().sessions().count(), 0);
    let entries = world.seats[&leader].node.applied().0 - before.0;
    assert!(entries <= 20, "{entries} entries for 3000 sessions");
    let wakes = world.seats[&leader].wakes - wakes;
    assert!(wakes < 25 * 30, "{wakes} wakes in 25 seconds");
    assert!(world.agree());
}

#[test]
fn a_lock_is_kept_from_others_for_its_delay() {
    let (mut world, leader) = World::founded(as_usual);
    written(&mut world, leader, register());
    let delayed = SessionDef {
        lock_delay_nanos: 5_000_000_000,
        ..def(1, Duration::ZERO)
    };
    let first = create(&mut world, leader, delayed);
    let second = create(&mut world, leader, def(2, Duration::ZERO));
    assert!(lock(&mut world, leader, "l", &first));
    written(&mut world, leader, Action::EndSessions(vec![SessionId(1)]));
    assert!(!lock(&mut world, leader, "l", &second));
    world.run(millis(4_800));
    assert!(!lock(&mut world, leader, "l", &second));
    world.run(millis(500));
    assert!(lock(&mut world, leader, "l", &second));
    assert!(world.agree());
}

#[test]
fn a_lock_delay_outlives_the_leader_that_began_it() {
    let (mut world, leader) = World::founded(as_usual);
    written(&mut world, leader, register());
    let delayed = SessionDef {
        lock_delay_nanos: 5_000_000_000,
        ..def(1, Duration::ZERO)
    };
    let first = create(&mut world, leader, delayed);
    let second = create(&mut world, leader, def(2, Duration::ZERO));
    assert!(lock(&mut world, leader, "l", &first));
    written(&mut world, leader, Action::EndSessions(vec![SessionId(1)]));
    world.run(millis(4_500));
    world.crash(leader);
    let next = world.elect();
    world.run(millis(4_500));
    assert!(
        !lock(&mut world, next, "l", &second),
        "never shorter, though it began anew"
    );
    world.run(millis(1_500));
    assert!(lock(&mut world, next, "l", &second));
}

/// A change that happens once, and would be refused the second time.
fn once() -> Action {
    let create = Action::Kv(KvWrite::Cas(pair("a", "1"), Index::ZERO));
    let once = Once::new(IdempotencyKey::of(&[b"mine"]), &create);
    Action::Once(Box::new(once.expect("a change of a key takes one")))
}

#[test]
fn a_change_under_a_key_is_made_once_over_a_change_of_leader() {
    let (mut world, leader) = World::founded(|config| config.receipt_ttl = Duration::from_mins(2));
    let at = world.follower(leader);
    // The reply gets lost, and nobody answers for long: nobody knows whether it was made.
    world.deaf.insert(at);
    let token = world.request(at, Request::Write(once()));
    world.run(Duration::from_secs(8));
    assert_eq!(
        world.answer(at, token),
        Some(&Answer::Failed(RequestError::LeadershipLost))
    );
    world.deaf.clear();
    world.crash(leader);
    let next = world.elect();
    written(&mut world, next, set("a", "other"));
    for id in [at, next] {
        assert_eq!(written(&mut world, id, once()), Outcome::Done(true));
        assert_eq!(
            world.get(next, "a").as_deref(),
            Some("other"),
            "it was not made again"
        );
    }
    // The time is counted anew by the new leader, and then it is over.
    world.run(Duration::from_mins(1));
    assert_eq!(written(&mut world, next, once()), Outcome::Done(true));
    world.run(Duration::from_mins(3));
    assert_eq!(
        written(&mut world, next, once()),
        Outcome::Done(false),
        "what was forgotten is tried anew"
    );
}

/// Where it does no harm, a server asks again by itself.
#[test]
fn a_change_under_a_key_is_asked_for_again_when_its_fate_is_unknown() {
    let (mut world, leader) = World::founded(as_usual);
    let at = world.follower(leader);
    world.deaf.insert(at);
    let token = world.request(at, Request::Write(once()));
    world.run(Duration::from_secs(2));
    assert_eq!(world.answer(at, token), None);
    assert_eq!(world.get(leader, "a").as_deref(), Some("1"), "it was made");
    world.deaf.clear();
    world.run(Duration::from_secs(1));
    let answer = world.answer(at, token);
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
    // And over the death of a leader that had taken it.
    let other = |key: &[u8]| {
        let create = Action::Kv(KvWrite::Cas(pair("b", "1"), Index::ZERO));
        Action::Once(Box::new(Once::new(IdempotencyKey::of(&[key]), &create).unwrap()))
    };
    for id in world.ids() {
        world.seat(id).hold_log = true;
    }
    let token = world.request(at, Request::Write(other(b"b")));
    world.settle();
    world.crash(leader);
    for id in world.ids() {
        world.seat(id).hold_log = false;
    }
    world.run(Duration::from_secs(5));
    let answer = world.answer(at, token);
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
