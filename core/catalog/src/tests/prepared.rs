//! Prepared queries: what they are called, what they go with, what they find.

mod executing;
mod properties;
mod templates;

use super::discovery::{rebuilt, rows};
use super::*;
use crate::edit::Edit;
use crate::{
    Failover, IdempotencyKey, Interest, MAX_PATTERNS, MAX_PREPARED_BYTES, MAX_PREPARED_LIST, Once, Prepared,
    PreparedDef, PreparedId, PreparedService, PreparedToken, Row, RowError, Table, TemplateDef, Touch,
    Touched, Watches,
};

/// A query for instances of `web`, by number.
fn def(id: u128, name: &str) -> PreparedDef {
    PreparedDef {
        id: PreparedId(id),
        name: name.into(),
        service: PreparedService {
            service: "web".into(),
            ..PreparedService::default()
        },
        ..PreparedDef::default()
    }
}

/// The same as a template.
fn template(id: u128, name: &str) -> PreparedDef {
    PreparedDef {
        template: TemplateDef {
            kind: TemplateDef::NAME_PREFIX_MATCH.into(),
            ..TemplateDef::default()
        },
        ..def(id, name)
    }
}

fn create(bench: &mut Bench, def: PreparedDef) -> Outcome {
    bench.apply(Action::CreatePrepared(Box::new(def)))
}

fn made(bench: &mut Bench, def: PreparedDef) {
    let id = def.id;
    assert_eq!(create(bench, def), Outcome::Prepared(id));
}

fn update(bench: &mut Bench, def: PreparedDef) -> Outcome {
    bench.apply(Action::UpdatePrepared(Box::new(def)))
}

fn delete(bench: &mut Bench, id: u128) -> Outcome {
    bench.apply(Action::DeletePrepared(PreparedId(id)))
}

fn listed(bench: &Bench, query: &Query) -> (u64, Vec<Arc<Prepared>>) {
    let (index, found) = bench.state.query(query);
    let Found::PreparedQueries(found) = found else {
        panic!("not prepared queries: {found:?}")
    };
    assert_eq!(bench.state.index_of(query), Some(index));
    (index.0, found)
}

fn ids(bench: &Bench) -> Vec<u128> {
    let (_, found) = listed(bench, &Query::PreparedQueries);
    found.iter().map(|query| query.def.id.0).collect()
}

fn resolve(bench: &Bench, name: &str) -> Result<Option<Arc<Prepared>>, String> {
    let Found::Resolved(found) = bench.state.query(&Query::Resolve(name.to_owned())).1 else {
        panic!("not a prepared query")
    };
    found
}

fn resolved(bench: &Bench, name: &str) -> Option<u128> {
    resolve(bench, name).unwrap().map(|query| query.def.id.0)
}

#[test]
fn a_query_is_what_was_asked_for_until_it_is_changed() {
    let mut bench = Bench::new();
    assert_eq!(listed(&bench, &Query::PreparedQueries), (0, vec![]));
    let asked = PreparedDef {
        token: PreparedToken("secret".into()),
        ttl: Some(std::time::Duration::from_secs(7)),
        ttl_text: "7s".into(),
        ..def(5, "q")
    };
    made(&mut bench, asked.clone());
    assert_eq!(create(&mut bench, def(5, "other")), NOT_DONE, "its id is taken");
    let one = Query::PreparedQuery(PreparedId(5));
    let (index, found) = listed(&bench, &one);
    assert_eq!((index, &found[0].def), (1, &asked));
    assert!(!format!("{found:?}").contains("secret"));
    assert_eq!(update(&mut bench, def(5, "r")), DONE);
    let (index, found) = listed(&bench, &one);
    assert_eq!((index, &found[0].def), (3, &def(5, "r")));
    assert_eq!(
        (found[0].create_index, found[0].modify_index),
        (Index(1), Index(3))
    );
    assert_eq!((resolved(&bench, "q"), resolved(&bench, "r")), (None, Some(5)));
    assert_eq!(delete(&mut bench, 5), DONE);
    let missing =
        refused("Cannot modify non-existent prepared query: '00000000-0000-0000-0000-000000000005'");
    assert_eq!(delete(&mut bench, 5), missing);
    assert_eq!(update(&mut bench, def(5, "r")), missing);
    assert!(bench.changes.is_empty());
    assert_eq!(listed(&bench, &Query::PreparedQueries), (4, vec![]));
    assert_eq!(resolved(&bench, "r"), None);
}

#[test]
fn names_are_taken_in_any_letter_case() {
    let mut bench = Bench::new();
    made(&mut bench, def(1, "Q1"));
    made(&mut bench, template(2, ""));
    for (wrong, why) in [
        (def(3, "q1"), "name 'q1' aliases an existing query name"),
        (template(3, "q1"), "name 'q1' aliases an existing query name"),
        (
            template(3, ""),
            "a query template with an empty name already exists",
        ),
        (
            def(3, "00000000-0000-0000-0000-000000000001"),
            "name '00000000-0000-0000-0000-000000000001' aliases an existing query ID",
        ),
    ] {
        assert_eq!(create(&mut bench, wrong.clone()), refused(why));
        assert!(bench.changes.is_empty());
    }
    assert_eq!(update(&mut bench, def(1, "q1")), DONE, "it keeps its own");
    assert_eq!(update(&mut bench, template(2, "")), DONE);
    // A name may look like the id of a query that there is not.
    made(&mut bench, def(3, "00000000-0000-0000-0000-000000000009"));
    assert_eq!(resolved(&bench, "00000000-0000-0000-0000-000000000009"), Some(3));
    assert_eq!(resolved(&bench, "00000000-0000-0000-0000-000000000001"), Some(1));
}

#[test]
fn an_id_comes_before_a_name_and_a_name_before_the_longest_template() {
    let mut bench = Bench::new();
    assert_eq!(resolved(&bench, "a"), None);
    for (id, name) in [(1, "g"), (2, "Geo-"), (3, "geo-db-"), (4, "geo-dc"), (5, "z")] {
        made(&mut bench, template(id, name));
    }
    made(&mut bench, def(6, "geo-db-main"));
    for (name, expected) in [
        ("geo-db-main", Some(6)),
        ("GEO-DB-MAIN", Some(6)),
        ("geo-db-main2", Some(3)),
        ("geo-db-", Some(3)),
        ("geo-db", Some(2)),
        ("geo-dd", Some(2)),
        ("geo-dcx", Some(4)),
        ("geo", Some(1)),
        ("gz", Some(1)),
        ("a", None),
        ("h", None),
        ("", None),
    ] {
        assert_eq!(resolved(&bench, name), expected, "{name}");
    }
    made(&mut bench, template(7, ""));
    assert_eq!((resolved(&bench, "a"), resolved(&bench, "h")), (Some(7), Some(7)));
    assert_eq!(resolved(&bench, ""), None);
    assert_eq!(resolved(&bench, &"x".repeat(513)), None);
    assert_eq!(resolved(&bench, "0000000000000000-0000-0000-00000000-1"), Some(7));
    assert_eq!(
        resolve(&bench, "00000000-0000-0000-0000-000000000007"),
        Err("prepared query templates can only be resolved up by name, not by ID".to_owned())
    );
    assert_eq!(delete(&mut bench, 3), DONE);
    assert_eq!(resolved(&bench, "geo-db-x"), Some(2));
}

#[test]
fn a_query_ends_with_its_session() {
    let mut bench = Bench::new();
    let bound = |id, session: &str| PreparedDef {
        session: session.into(),
        ..def(id, "")
    };
    for (session, why) in [
        (
            "zz",
            "invalid session: index error: UUID must be 36 characters".to_owned(),
        ),
        (GHOST, format!("invalid session \"{GHOST}\"")),
    ] {
        assert_eq!(create(&mut bench, bound(1, session)), refused(&why));
    }
    made(&mut bench, bound(1, ALICE));
    made(&mut bench, bound(2, &BOB.to_uppercase()));
    made(&mut bench, bound(3, ALICE));
    assert_eq!(update(&mut bench, bound(3, BOB)), DONE);
    made(&mut bench, def(4, "free"));
    let mut watches = Watches::new(1);
    watches.subscribe(Interest::PreparedQueries, ()).unwrap();
    let mut edit = Edit::new(Index(50));
    bench
        .state
        .prepared
        .end_session(&mut edit, SessionId::parse(BOB).unwrap().unwrap());
    let mut changes = Changes::default();
    edit.report(&bench.state, &mut changes);
    assert_eq!(ids(&bench), [1, 4]);
    assert_eq!(listed(&bench, &Query::PreparedQueries).0, 50);
    let mut woken = Vec::new();
    watches.take_touched(&changes.touched, &mut woken);
    assert_eq!(woken.len(), 1);
    assert_eq!(changes.rows.iter().filter(|row| row.value.is_none()).count(), 2);
}

#[test]
fn a_query_ends_when_its_session_does() {
    use crate::tests::discovery::{node, of_node, register, remove};
    let mut bench = Bench::new();
    register(&mut bench, of_node(node("n", "1.1.1.1")));
    let id = SessionId(77);
    let session = crate::SessionDef {
        id,
        node: "n".into(),
        ..crate::SessionDef::default()
    };
    assert_eq!(
        bench.apply(Action::CreateSession(Box::new(session))),
        Outcome::Session(id)
    );
    let bound = PreparedDef {
        session: id.to_string().into(),
        ..def(1, "")
    };
    made(&mut bench, bound);
    remove(&mut bench, "n", crate::Removal::Node);
    assert_eq!(ids(&bench), [0; 0]);
    let Touched::These(touches) = &bench.changes.touched else {
        panic!("everything was touched")
    };
    assert!(touches.contains(&Touch::PreparedQueries));
}

#[test]
fn nonsense_is_refused_in_the_known_words() {
    let service = |service| PreparedDef {
        service,
        ..def(1, "q")
    };
    let web = def(1, "q").service;
    let with_meta = |name: &str, value: &str| {
        service(PreparedService {
            node_meta: Some([(name, value.into())].into_iter().collect()),
            ..web.clone()
        })
    };
    let many = vec!["x".into(); MAX_PREPARED_LIST + 1];
    for (wrong, why) in [
        (def(1, ""), "Must be bound to a session".to_owned()),
        (
            PreparedDef {
                token: PreparedToken("<hidden>".into()),
                ..def(1, "q")
            },
            "Bad Token '<hidden>', it looks like a query definition with a redacted token was submitted"
                .to_owned(),
        ),
        (
            service(PreparedService::default()),
            "Must provide a Service name to query".to_owned(),
        ),
        (
            service(PreparedService {
                failover: Failover {
                    nearest: -1,
                    datacenters: None,
                },
                ..web.clone()
            }),
            "Bad NearestN '-1', must be >= 0".to_owned(),
        ),
        (
            with_meta("a b", "c"),
            "Couldn't load metadata pair ('a b', 'c'): Key contains invalid characters".to_owned(),
        ),
        (
            with_meta("", "c"),
            "Couldn't load metadata pair ('', 'c'): Key cannot be blank".to_owned(),
        ),
        (
            def(1, &"n".repeat(513)),
            "its name has 513 bytes, and may have 512".to_owned(),
        ),
        (
            service(PreparedService {
                tags: Some(many),
                ..web.clone()
            }),
            "it has 257 tags, and may have 256".to_owned(),
        ),
    ] {
        let mut bench = Bench::new();
        assert_eq!(
            create(&mut bench, wrong),
            Outcome::Refused(format!("Invalid prepared query: {why}"))
        );
        assert!(bench.changes.is_empty());
        assert_eq!(ids(&bench), [0; 0]);
    }
}

#[test]
fn one_that_is_asked_for_twice_is_made_once() {
    let mut bench = Bench::new();
    let once = |id| {
        let action = Action::CreatePrepared(Box::new(def(id, "q")));
        Action::Once(Box::new(Once::new(IdempotencyKey(1), &action).unwrap()))
    };
    assert_eq!(bench.apply(once(1)), Outcome::Prepared(PreparedId(1)));
    assert_eq!(bench.apply(once(2)), Outcome::Prepared(PreparedId(1)));
    assert_eq!(ids(&bench), [1]);
}

/// A state with queries of all kinds.
fn filled() -> Bench {
    let mut bench = Bench::new();
    made(&mut bench, def(3, "plain"));
    made(&mut bench, template(1, "t-"));
    made(
        &mut bench,
        PreparedDef {
            session: ALICE.into(),
            ..def(2, "")
        },
    );
    bench
}

fn with_sessions_rebuilt(rows: Vec<Row>, applied: Index) -> Result<State, RowError> {
    let mut builder = crate::Builder::new();
    builder.assumed = assumed();
    rows.into_iter().try_for_each(|row| builder.add(row))?;
    builder.finish(applied)
}

#[test]
fn a_restart_keeps_them() {
    let mut bench = filled();
    let state = with_sessions_rebuilt(rows(&bench.state), bench.state.index()).unwrap();
    assert_eq!(state.digest(), bench.state.digest());
    bench.state = state;
    assert_eq!(ids(&bench), [1, 2, 3]);
    assert_eq!(
        (resolved(&bench, "plain"), resolved(&bench, "t-x")),
        (Some(3), Some(1))
    );
    assert_eq!(bench.state.counts().prepared_queries, 3);
}

#[test]
fn the_format_stands_still() {
    let mut bench = Bench::new();
    bench.state.advance(Index(299)).unwrap();
    let full = PreparedDef {
        token: PreparedToken("k".into()),
        template: TemplateDef {
            pattern: "x".into(),
            remove_empty_tags: true,
            ..TemplateDef::default()
        },
        service: PreparedService {
            service: "web".into(),
            failover: Failover {
                nearest: 2,
                datacenters: Some(vec!["dc2".into()]),
            },
            only_passing: true,
            ignored_checks: Some(vec![]),
            near: "_ip".into(),
            tags: Some(vec!["!a".into()]),
            node_meta: None,
            service_meta: Some([("b", "c".into())].into_iter().collect()),
            connect: true,
        },
        ttl: Some(std::time::Duration::from_secs(1)),
        ttl_text: "1s".into(),
        ..def(5, "q")
    };
    made(&mut bench, full);
    let all = rows(&bench.state);
    let expected = [
        (Table::Meta, &b"prepared-index"[..], &b"\x01\xac\x02"[..]),
        (
            Table::PreparedQueries,
            &PreparedId(5).0.to_be_bytes(),
            b"\x01\x05\x01q\x00\x01k\x00\x01x\x01\x03web\x04\x01\x01\x03dc2\x01\x01\x00\x03_ip\x01\x01\x02!a\x00\x01\x01\x01b\x01c\x01\
              \x01\x01\x00\x021s\xac\x02\xac\x02",
        ),
    ];
    let expected = expected.map(|(table, key, value)| Row {
        table,
        key: Bytes::copy_from_slice(key),
        value: Some(Bytes::copy_from_slice(value)),
    });
    assert_eq!(all, expected);
}

#[test]
fn rows_that_do_not_go_together_are_refused() {
    let bench = filled();
    let (all, applied) = (rows(&bench.state), bench.state.index());
    let prepared: Vec<_> = all
        .iter()
        .filter(|row| row.table == Table::PreparedQueries)
        .collect();
    assert_eq!(prepared.len(), 3);
    let plus = |row: Row| {
        let mut more = all.clone();
        more.push(row);
        with_sessions_rebuilt(more, applied).err()
    };
    let misfit = |error: Option<RowError>, why: &str| {
        assert!(
            matches!(&error, Some(RowError::Misfit { table: Table::PreparedQueries, detail, .. }) if *detail == why),
            "{error:?}"
        );
    };
    misfit(rebuilt(all.clone(), applied).err(), "its session is missing");
    assert!(matches!(
        plus(prepared[0].clone()),
        Some(RowError::Duplicate { .. })
    ));
    let key = |id: u128| Bytes::copy_from_slice(&id.to_be_bytes());
    let moved = Row {
        key: key(9),
        ..prepared[0].clone()
    };
    assert!(matches!(plus(moved), Some(RowError::Damaged { .. })));
    let mut twin = prepared[2].value.clone().unwrap().to_vec();
    twin[1] = 9;
    let twin = Row {
        table: Table::PreparedQueries,
        key: key(9),
        value: Some(twin.into()),
    };
    misfit(plus(twin), "another has its name");
    let unmarked: Vec<Row> = all
        .iter()
        .filter(|row| row.table != Table::Meta)
        .cloned()
        .collect();
    let error = with_sessions_rebuilt(unmarked, applied).err();
    assert!(matches!(error, Some(RowError::Inconsistent { .. })), "{error:?}");
}

#[test]
fn there_are_only_so_many_regular_expressions() {
    let with_pattern = |id: u128| {
        let mut def = template(id, &format!("t{id}-"));
        def.template.pattern = "^t(.*)$".into();
        def
    };
    let mut bench = Bench::new();
    let most = MAX_PATTERNS as u128;
    for id in 1..=most {
        made(&mut bench, with_pattern(id));
    }
    let why = format!(
        "there would be {} prepared query templates with a regular expression, and there may be {MAX_PATTERNS}: delete \
         some that are not needed",
        MAX_PATTERNS + 1
    );
    assert_eq!(create(&mut bench, with_pattern(most + 1)), refused(&why));
    assert!(bench.changes.is_empty());
    // Others may come, and those that are there may change.
    made(&mut bench, template(most + 1, "other-"));
    assert_eq!(update(&mut bench, with_pattern(most + 1)), refused(&why));
    assert_eq!(update(&mut bench, with_pattern(1)), DONE);
    // So it is after a restart, and until one goes.
    bench.state = rebuilt(rows(&bench.state), bench.state.index()).unwrap();
    assert_eq!(update(&mut bench, with_pattern(most + 1)), refused(&why));
    assert_eq!(delete(&mut bench, 2), DONE);
    assert_eq!(update(&mut bench, with_pattern(most + 1)), DONE);
    assert_eq!(resolved(&bench, &format!("t{}-x", most + 1)), Some(most + 1));
}

#[test]
fn all_together_are_only_so_large() {
    let tag = crate::Text::from("x".repeat(500));
    let large = |id: u128| {
        let mut def = def(id, &format!("q{id}"));
        def.service.tags = Some(vec![tag.clone(); MAX_PREPARED_LIST]);
        def
    };
    let mut bench = Bench::new();
    let mut id = 0;
    let refusal = loop {
        id += 1;
        match create(&mut bench, large(id)) {
            Outcome::Prepared(_) => {}
            Outcome::Refused(why) => break why,
            other @ (Outcome::Done(_) | Outcome::Txn(_) | Outcome::Session(_)) => panic!("{other:?}"),
        }
    };
    let most = MAX_PREPARED_BYTES / (500 * MAX_PREPARED_LIST);
    let made = bench.state.counts().prepared_queries;
    assert!((most - 9..=most).contains(&made), "{made} of {most}");
    assert!(refusal.contains("bytes of prepared queries"), "{refusal}");
    let small = def(9999, "small");
    assert_eq!(create(&mut bench, small), Outcome::Prepared(PreparedId(9999)));
    assert_eq!(delete(&mut bench, 1), DONE);
    assert_eq!(create(&mut bench, large(id)), Outcome::Prepared(PreparedId(id)));
    assert!(matches!(create(&mut bench, large(id + 1)), Outcome::Refused(_)));
}
