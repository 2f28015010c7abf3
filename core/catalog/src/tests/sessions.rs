//! Sessions: what they depend on, and what becomes of their locks.

mod histories;
mod rows;

use std::cell::Cell;
use std::time::Duration;

use super::discovery::{check, identified, node, of_node, on, register, remove, service};
use super::*;
use crate::{
    Behavior, Interest, LockDelay, MAX_LOCK_DELAY, MAX_SESSION_CHECKS, MAX_SESSION_TTL, Removal, Row,
    ServiceCheck, Session, SessionDef, Status, Table, Text, Watches,
};

/// A session on the node `n`, by number, that depends on nothing else and leaves no lock delay.
fn def(id: u128) -> SessionDef {
    SessionDef {
        id: SessionId(id),
        node: "n".into(),
        ..SessionDef::default()
    }
}

fn seconds(seconds: i64) -> i64 {
    seconds * 1_000_000_000
}

fn create(bench: &mut Bench, def: SessionDef) -> Outcome {
    bench.apply(Action::CreateSession(Box::new(def)))
}

fn made(bench: &mut Bench, def: SessionDef) -> String {
    let id = def.id;
    assert_eq!(create(bench, def), Outcome::Session(id));
    id.to_string()
}

fn end(bench: &mut Bench, ids: &[u128]) {
    let ids = ids.iter().map(|id| SessionId(*id)).collect();
    assert_eq!(bench.apply(Action::EndSessions(ids)), DONE);
}

/// A state with the node `n`, an instance `web` on it, and checks `c` of the node and `w` of the instance.
fn bench() -> Bench {
    let mut bench = Bench::new();
    register(&mut bench, of_node(node("N", "1.1.1.1")));
    let checks = vec![
        check("C", "", Status::Passing),
        check("w", "web", Status::Warning),
    ];
    register(&mut bench, on("n", Some(service("web", "web")), checks));
    bench
}

/// The sessions that a query finds, and the index of the answer.
fn found(bench: &Bench, query: &Query) -> (u64, Vec<u128>) {
    let (index, found) = bench.state.query(query);
    let Found::Sessions(sessions) = found else {
        panic!("not sessions: {found:?}")
    };
    assert_eq!(bench.state.index_of(query), Some(index));
    (index.0, sessions.iter().map(|session| session.def.id.0).collect())
}

fn living(bench: &Bench) -> Vec<u128> {
    found(bench, &Query::Sessions).1
}

#[test]
fn a_session_is_what_was_asked_for() {
    let mut bench = bench();
    let asked = SessionDef {
        name: "mine".into(),
        lock_delay_nanos: seconds(-5),
        behavior: Behavior::Delete,
        ttl: Duration::from_secs(30),
        ttl_text: "30s".into(),
        node_checks: Some(vec!["c".into()]),
        service_checks: Some(vec![ServiceCheck {
            id: "W".into(),
            namespace: "z".into(),
        }]),
        checks: vec!["C".into()],
        ..def(7)
    };
    made(&mut bench, asked.clone());
    let index = bench.state.index();
    let expected = Session {
        def: asked,
        create_index: index,
    };
    assert_eq!(
        bench.state.query(&Query::Session(SessionId(7))),
        (index, Found::Sessions(vec![Arc::new(expected.clone())]))
    );
    assert_eq!(
        bench.state.session(SessionId(7)).map(|found| &**found),
        Some(&expected)
    );
    assert_eq!(bench.state.sessions().count(), 1);
    assert_eq!(expected.def.lock_delay(), Duration::ZERO);
    let long = |seconds| SessionDef {
        lock_delay_nanos: seconds,
        ..SessionDef::default()
    };
    assert_eq!(long(seconds(61)).lock_delay(), MAX_LOCK_DELAY);
    assert_eq!(long(1500).lock_delay(), Duration::from_nanos(1500));
}

#[test]
fn a_session_needs_what_it_depends_on() {
    let mut bench = bench();
    register(
        &mut bench,
        on("n", None, vec![check("bad", "", Status::Critical)]),
    );
    let on_checks = |checks: &[&str]| SessionDef {
        node_checks: Some(checks.iter().map(|check| Text::from(*check)).collect()),
        ..def(1)
    };
    let elsewhere = SessionDef {
        node: "m".into(),
        ..def(1)
    };
    let long = "x".repeat(16 << 10) + "x";
    for (wrong, why) in [
        (elsewhere, "Missing node registration"),
        (
            SessionDef {
                node: "".into(),
                ..def(1)
            },
            "Must provide Node",
        ),
        (on_checks(&["c", "nope"]), "Missing check 'nope' registration"),
        (on_checks(&[""]), "Missing check '' registration"),
        (on_checks(&["bad"]), "Check 'bad' is in critical state"),
        (
            SessionDef {
                service_checks: Some(vec![ServiceCheck::default()]),
                ..def(1)
            },
            "Missing check '' registration",
        ),
        (
            SessionDef {
                ttl: MAX_SESSION_TTL + Duration::from_nanos(1),
                ..def(1)
            },
            "invalid session: its TTL is 86400.000000001s, and may be 86400s",
        ),
        (
            on_checks(&["c"; MAX_SESSION_CHECKS + 1]),
            "invalid session: it depends on 65 checks, and may on 64",
        ),
        (
            SessionDef {
                name: long.as_str().into(),
                ..def(1)
            },
            "invalid session: its name has 16385 bytes, and may have 16384",
        ),
        (
            on_checks(&[&long]),
            "invalid session: its node or a check that it depends on has 16385 bytes, and may have 512",
        ),
    ] {
        assert_eq!(create(&mut bench, wrong), refused(why));
        assert!(bench.changes.is_empty());
    }
    made(&mut bench, on_checks(&["c", "w", "c"]));
    assert_eq!(create(&mut bench, def(1)), NOT_DONE, "the name is taken");
    assert!(bench.changes.is_empty());
    assert_eq!(living(&bench), [1]);
}

/// What happens, and how it is brought about.
type Cause = (&'static str, fn(&mut Bench));

#[test]
fn a_session_ends_with_whatever_it_depends_on() {
    let depending = |check: &str| SessionDef {
        node_checks: Some(vec![check.into()]),
        ..def(1)
    };
    let causes: [Cause; 8] = [
        ("its end", |bench| end(bench, &[9, 1, 1])),
        ("its check is critical", |bench| {
            register(bench, on("n", None, vec![check("c", "", Status::Critical)]));
        }),
        ("its check is gone", |bench| {
            remove(bench, "N", Removal::Check("C".into()));
        }),
        ("its service is gone", |bench| {
            remove(bench, "n", Removal::Service("WEB".into()));
        }),
        ("its service's check is critical", |bench| {
            register(bench, on("n", None, vec![check("W", "web", Status::Critical)]));
        }),
        ("its node is gone", |bench| remove(bench, "N", Removal::Node)),
        ("its node has another name", |bench| {
            register(bench, of_node(identified(5, "n")));
            register(bench, of_node(identified(5, "other")));
        }),
        ("among many changes", |bench| {
            let critical = on(
                "n",
                None,
                vec![
                    check("c", "", Status::Critical),
                    check("w", "web", Status::Critical),
                ],
            );
            let passing = on(
                "n",
                None,
                vec![
                    check("c", "", Status::Passing),
                    check("w", "web", Status::Passing),
                ],
            );
            let changes = [critical, passing].map(|one| crate::CatalogChange::Register(Box::new(one)));
            assert_eq!(bench.apply(Action::RegisterMany(changes.into())), DONE);
        }),
    ];
    for (cause, strike) in causes {
        let hits = |check: &str| {
            let mut bench = bench();
            made(&mut bench, depending(check));
            strike(&mut bench);
            assert!(living(&bench).is_empty() || living(&bench) == [1]);
            living(&bench).is_empty()
        };
        let (by_node, by_service) = (hits("C"), hits("w"));
        let only_node = cause.starts_with("its check");
        let only_service = cause.starts_with("its service");
        assert_eq!((by_node, by_service), (!only_service, !only_node), "{cause}");
    }
    // What is no worse than a warning, and what happens elsewhere, ends nothing.
    let mut bench = bench();
    made(&mut bench, depending("c"));
    register(&mut bench, on("n", None, vec![check("c", "", Status::Warning)]));
    register(&mut bench, on("n", None, vec![check("c2", "", Status::Critical)]));
    register(&mut bench, of_node(node("n2", "1.1.1.2")));
    register(&mut bench, on("n2", None, vec![check("c", "", Status::Critical)]));
    remove(&mut bench, "n2", Removal::Node);
    assert_eq!(living(&bench), [1]);
}

#[test]
fn what_a_session_locked_is_free_or_gone_when_it_ends() {
    let mut bench = bench();
    let stays = made(&mut bench, def(1));
    let goes = made(
        &mut bench,
        SessionDef {
            behavior: Behavior::Delete,
            ..def(2)
        },
    );
    let flagged = KvPair {
        flags: 7,
        ..pair("l/1", "v")
    };
    assert_eq!(bench.kv(KvWrite::Lock(flagged, session(&stays))), DONE);
    for (key, by) in [("l/2", &stays), ("l/3", &goes), ("l/4", &stays), ("l/5", &goes)] {
        assert_eq!(bench.lock(key, "v", by), DONE);
    }
    assert_eq!(bench.unlock("l/4", "v", &stays), DONE);
    bench.delete("l/5");
    bench.set("l/5", "plain");
    let before = bench.lock_of("l/4");
    end(&mut bench, &[1, 2]);
    let index = bench.state.index().0;
    assert_eq!(bench.lock_of("l/1"), (None, 1, index));
    assert_eq!(
        (
            &bench.get("l/1").unwrap().value[..],
            bench.get("l/1").unwrap().flags
        ),
        (&b"v"[..], 7)
    );
    assert_eq!(bench.lock_of("l/2"), (None, 1, index));
    assert_eq!(bench.get("l/3"), None);
    assert_eq!(bench.index_of("l/3"), index, "it left a tombstone");
    // These were no longer theirs.
    assert_eq!(bench.lock_of("l/4"), before);
    assert_eq!(&bench.get("l/5").unwrap().value[..], b"plain");
    // No lock delay: others may have them at once.
    let other = made(&mut bench, def(3));
    assert_eq!(bench.lock("l/1", "v", &other), DONE);
    assert_eq!(bench.lock_of("l/1").1, 2);
    assert_eq!(
        bench.lock("l/2", "v", &stays),
        refused(&format!("invalid session \"{stays}\""))
    );
}

#[test]
fn a_lock_is_found_by_its_session_in_any_spelling() {
    let mut bench = bench();
    let id = 0xabcd_ef01_u128 << 96;
    let upper = made(&mut bench, def(id)).to_uppercase();
    assert_eq!(bench.lock("l", "v", &upper), DONE);
    end(&mut bench, &[id]);
    assert_eq!(bench.lock_of("l").0, None);
}

#[test]
fn a_lock_delay_keeps_a_key_from_all_until_the_leader_says_so() {
    let mut bench = bench();
    let delayed = |id| SessionDef {
        lock_delay_nanos: seconds(15),
        ..def(id)
    };
    let first = made(&mut bench, delayed(1));
    let second = made(&mut bench, def(2));
    for key in ["a", "b"] {
        assert_eq!(bench.lock(key, "v", &first), DONE);
    }
    // Who gives a lock back leaves no delay.
    assert_eq!(bench.unlock("b", "v", &first), DONE);
    end(&mut bench, &[1]);
    let since = bench.state.index();
    let delay = LockDelay {
        since,
        delay: Duration::from_secs(15),
    };
    assert_eq!(
        bench.state.lock_delays().collect::<Vec<_>>(),
        [(&bytes("a"), delay)]
    );
    assert_eq!(bench.lock("b", "w", &second), DONE);
    assert_eq!(bench.lock("a", "w", &second), NOT_DONE);
    assert!(bench.changes.is_empty());
    // The delay comes first, whatever the session.
    assert_eq!(bench.lock("a", "w", "x"), NOT_DONE);
    let ops = vec![
        KvTxnOp::Lock(pair("a", "w"), session(&second)),
        KvTxnOp::Get(bytes("nope")),
        KvTxnOp::Set(pair("", "")),
    ];
    let Outcome::Txn(Err(errors)) = bench.txn(ops) else {
        panic!("it was locked")
    };
    let errors: Vec<_> = errors.iter().map(|error| (error.op, &*error.what)).collect();
    assert_eq!(
        errors,
        [
            (0, "failed to lock key \"a\" due to lock delay"),
            (2, "Must provide key"),
        ]
    );
    // All else is as ever.
    bench.set("a", "plain");
    bench.delete("a");
    assert_eq!(bench.lock("a", "w", &second), NOT_DONE);
    // An end of another delay than this one is none.
    let ended = |bench: &mut Bench, since| {
        assert_eq!(
            bench.apply(Action::EndLockDelays(vec![(bytes("a"), since)])),
            DONE
        );
    };
    ended(&mut bench, since.next());
    assert!(bench.changes.is_empty());
    assert_eq!(bench.state.lock_delay(&bytes("a")), Some(delay));
    ended(&mut bench, since);
    assert_eq!(bench.state.lock_delay(&bytes("a")), None);
    assert_eq!(bench.lock("a", "w", &second), DONE);
}

#[test]
fn a_deleted_key_is_kept_from_others_too() {
    let mut bench = bench();
    let gone = made(
        &mut bench,
        SessionDef {
            behavior: Behavior::Delete,
            lock_delay_nanos: seconds(100),
            ..def(1)
        },
    );
    let other = made(&mut bench, def(2));
    bench.lock("a", "v", &gone);
    remove(&mut bench, "nope", Removal::Node);
    end(&mut bench, &[1]);
    assert_eq!(bench.get("a"), None);
    assert_eq!(bench.lock("a", "v", &other), NOT_DONE);
    let delay = bench.state.lock_delay(&bytes("a")).unwrap();
    assert_eq!(delay.delay, MAX_LOCK_DELAY);
}

#[test]
fn a_transaction_sees_sessions_end_within_it() {
    let mut bench = bench();
    let held = made(
        &mut bench,
        SessionDef {
            node_checks: Some(vec!["c".into()]),
            ..def(1)
        },
    );
    bench.lock("a", "v", &held);
    let critical = TxnOp::Check {
        node: "n".into(),
        verb: crate::TxnVerb::Set(Box::new(check("c", "", Status::Critical))),
    };
    let lock = TxnOp::Kv(KvTxnOp::Lock(pair("b", "v"), session(&held)));
    let Outcome::Txn(Err(errors)) = bench.apply(Action::Txn(vec![critical.clone(), lock])) else {
        panic!("a dead session has locked something")
    };
    assert_eq!(errors[0].what, format!("invalid session \"{held}\""));
    assert_eq!(living(&bench), [1], "nothing happened");
    let free = TxnOp::Kv(KvTxnOp::CheckSession(bytes("a"), session("")));
    let Outcome::Txn(Ok(_)) = bench.apply(Action::Txn(vec![critical, free])) else {
        panic!("the lock is not free")
    };
    assert!(living(&bench).is_empty());
}

#[test]
fn fences_rise_over_all_keys_releases_and_deletions() {
    let mut bench = bench();
    let (one, two) = (made(&mut bench, def(1)), made(&mut bench, def(2)));
    let fence = |bench: &Bench, key: &str| bench.get(key).unwrap().fence();
    let last = Cell::new(0);
    let taken = |bench: &mut Bench, key: &str, by: &str| {
        assert_eq!(bench.lock(key, "v", by), DONE);
        let now = fence(bench, key);
        assert!(now > last.get(), "{now} after {}", last.get());
        assert!(now >= bench.state.index().0);
        last.set(now);
    };
    taken(&mut bench, "a", &one);
    // Its holder keeps it, whatever is written.
    let mine = fence(&bench, "a");
    bench.lock("a", "w", &one);
    bench.set("a", "x");
    assert_eq!(fence(&bench, "a"), mine);
    bench.unlock("a", "v", &one);
    assert_eq!(fence(&bench, "a"), 0);
    taken(&mut bench, "a", &two);
    bench.delete("a");
    taken(&mut bench, "a", &one);
    taken(&mut bench, "b", &one);
    end(&mut bench, &[1]);
    assert_eq!(fence(&bench, "a"), 0);
    taken(&mut bench, "a", &two);
    // Twice in one command.
    let ops = vec![
        KvTxnOp::Delete(bytes("a")),
        KvTxnOp::Lock(pair("a", "v"), session(&two)),
        KvTxnOp::Unlock(pair("a", "v"), session(&two)),
        KvTxnOp::Lock(pair("a", "v"), session(&two)),
    ];
    let Outcome::Txn(Ok(results)) = bench.txn(ops) else {
        panic!("not locked")
    };
    let fences: Vec<u64> = results
        .iter()
        .map(|result| {
            let crate::TxnResult::Kv { entry, .. } = result else {
                panic!("not an entry: {result:?}")
            };
            entry.fence()
        })
        .collect();
    assert!(
        fences[0] > last.get() && fences[1] == 0 && fences[2] > fences[0],
        "{fences:?}"
    );
    last.set(fences[2]);
    bench.unlock("a", "v", &two);
    taken(&mut bench, "a", &two);
}

#[test]
fn a_write_with_an_old_fence_is_refused() {
    let mut bench = bench();
    let (one, two) = (made(&mut bench, def(1)), made(&mut bench, def(2)));
    bench.lock("l", "v", &one);
    let old = bench.get("l").unwrap().fence();
    let guarded = |bench: &mut Bench, fence| {
        let ops = vec![
            KvTxnOp::CheckFence(bytes("l"), fence),
            KvTxnOp::Set(pair("data", "1")),
        ];
        let Outcome::Txn(answer) = bench.txn(ops) else {
            panic!("not the answer to a transaction")
        };
        answer.map(drop).map_err(|errors| errors[0].what.clone())
    };
    let stale = |found: u64, given: u64| {
        Err(format!(
            "failed fence check for key \"l\", current fence {found} != {given}"
        ))
    };
    assert_eq!(guarded(&mut bench, old), Ok(()));
    assert_eq!(guarded(&mut bench, old + 1), stale(old, old + 1));
    end(&mut bench, &[1]);
    // Nobody holds it: whoever thinks so is wrong, also one who never had a fence.
    assert_eq!(guarded(&mut bench, old), stale(0, old));
    assert_eq!(guarded(&mut bench, 0), stale(0, 0));
    bench.lock("l", "v", &two);
    let new = bench.get("l").unwrap().fence();
    assert_eq!(guarded(&mut bench, old), stale(new, old));
    assert_eq!(guarded(&mut bench, new), Ok(()));
    bench.delete("l");
    assert_eq!(
        guarded(&mut bench, new),
        Err("failed to check fence, key \"l\" doesn't exist".to_owned())
    );
}

#[test]
fn sessions_are_found_and_waited_for_by_name_and_by_node() {
    let mut bench = bench();
    register(&mut bench, of_node(node("m", "1.1.1.2")));
    let on_m = |id| SessionDef {
        node: "M".into(),
        ..def(id)
    };
    let queries = [
        Query::Sessions,
        Query::Session(SessionId(1)),
        Query::Session(SessionId(2)),
        Query::NodeSessions("N".to_owned()),
        Query::NodeSessions("m".to_owned()),
    ];
    assert_eq!(queries[3].interest(), Interest::NodeSessions(bytes("n")));
    let all = |bench: &Bench| queries.clone().map(|query| found(bench, &query));
    let woken = |bench: &Bench| {
        let mut watches = Watches::new(10);
        for (number, query) in queries.iter().enumerate() {
            watches.subscribe(query.interest(), number).unwrap();
        }
        let mut woken = Vec::new();
        watches.take_touched(&bench.changes.touched, &mut woken);
        woken.sort_unstable();
        woken
    };
    assert_eq!(all(&bench), [(); 5].map(|()| (0, vec![])));
    made(&mut bench, def(2));
    let first = bench.state.index().0;
    assert_eq!(woken(&bench), [0, 2, 3]);
    made(&mut bench, on_m(1));
    let second = bench.state.index().0;
    assert_eq!(woken(&bench), [0, 1, 4]);
    assert_eq!(
        all(&bench),
        [
            (second, vec![1, 2]),
            (second, vec![1]),
            (first, vec![2]),
            (first, vec![2]),
            (second, vec![1])
        ]
    );
    end(&mut bench, &[2]);
    let third = bench.state.index().0;
    assert_eq!(woken(&bench), [0, 2, 3]);
    assert_eq!(
        all(&bench),
        [
            (third, vec![1]),
            (second, vec![1]),
            (third, vec![]),
            (third, vec![]),
            (second, vec![1])
        ]
    );
    remove(&mut bench, "m", Removal::Node);
    let fourth = bench.state.index().0;
    assert_eq!(woken(&bench), [0, 1, 4]);
    assert_eq!(
        all(&bench),
        [
            (fourth, vec![]),
            (fourth, vec![]),
            (fourth, vec![]),
            (third, vec![]),
            (fourth, vec![])
        ]
    );
}

#[test]
fn many_locks_of_one_session_end_together() {
    let mut bench = bench();
    let held = made(
        &mut bench,
        SessionDef {
            lock_delay_nanos: seconds(1),
            ..def(1)
        },
    );
    for number in 0..500 {
        bench.lock(&format!("k/{number}"), "v", &held);
    }
    bench.delete_tree("k/1");
    end(&mut bench, &[1]);
    let left = bench.keys("k/", "").len();
    assert_eq!(bench.state.lock_delays().count(), left);
    let locked = |row: &&Row| row.table == Table::LockDelays;
    assert_eq!(bench.changes.rows.iter().filter(locked).count(), left);
    bench.delete_tree("");
    assert_eq!(bench.state.kv.locks.held_by(SessionId(1)), Vec::<Key>::new());
}
