//! Sessions: what they depend on, and what becomes of their locks.

mod histories;
mod locks;
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
