//! Random histories, held against the model.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::model::{Model, health};
use super::*;

const NODES: [&str; 5] = ["n", "N", "m", "nn", ""];
const SERVICES: [&str; 4] = ["web", "WEB", "db", "we"];

fn queries() -> Vec<Query> {
    let metas = [vec![], vec![("k".to_owned(), "v".to_owned())]];
    let mut queries = vec![Query::Nodes, Query::NodeInfos];
    for name in NODES.map(str::to_owned) {
        queries.extend([
            Query::NodeServices(name.clone()),
            Query::NodeInfo(name.clone()),
            Query::HealthNode(name),
        ]);
    }
    for connect in [false, true] {
        for service in SERVICES.map(str::to_owned) {
            queries.push(health(&service, connect));
            queries.push(Query::ServiceNodes { service, connect });
        }
    }
    for node_meta in metas {
        for service in SERVICES.map(str::to_owned) {
            let node_meta = node_meta.clone();
            queries.push(Query::HealthChecks { service, node_meta });
        }
        for status in [
            None,
            Some(Status::Passing),
            Some(Status::Warning),
            Some(Status::Critical),
        ] {
            let node_meta = node_meta.clone();
            queries.push(Query::HealthState { status, node_meta });
        }
        queries.push(Query::Services { node_meta });
    }
    queries
}

fn one_of(texts: &'static [&'static str]) -> impl Strategy<Value = Text> {
    prop::sample::select(texts).prop_map(Text::from)
}

fn any_node() -> impl Strategy<Value = NodeDef> {
    let id = prop::option::of((1..3_u128).prop_map(NodeId));
    let address = one_of(&["1", "1", "2", ""]);
    (
        id,
        one_of(&["n", "n", "N", "m", "nn", ""]),
        address,
        any::<bool>(),
    )
        .prop_map(|(id, name, address, meta)| NodeDef {
            id,
            name,
            address,
            meta: meta.then_some(("k", "v".into())).into_iter().collect(),
            ..NodeDef::default()
        })
}

fn any_service() -> impl Strategy<Value = ServiceDef> {
    let tags = prop::collection::vec(one_of(&["x", "y", "X"]), 0..3);
    let kind = one_of(&["", "", "connect-proxy"]);
    let connect = (any::<bool>(), one_of(&["", "web", "Db"])).prop_map(|(native, destination)| {
        Arc::new(ConnectDef {
            native,
            destination,
            proxy: "".into(),
        })
    });
    (
        one_of(&["", "a", "A", "b"]),
        one_of(&["web", "web", "WEB", "db", ""]),
        kind,
        tags,
        0..2_u16,
        prop::option::of(connect),
    )
        .prop_map(|(id, name, kind, tags, port, connect)| ServiceDef {
            id,
            name,
            kind,
            tags: tags.into(),
            port,
            connect,
            ..ServiceDef::default()
        })
}

fn any_check() -> impl Strategy<Value = CheckDef> {
    (
        one_of(&["c", "C", "d", "e", "serfHealth", "serfHealth"]),
        prop::sample::select(&Status::ALL[..]),
        one_of(&["", "o"]),
        one_of(&["", "", "a", "B", "web"]),
    )
        .prop_map(|(id, status, output, service_id)| CheckDef {
            id,
            status,
            output,
            service_id,
            ..CheckDef::default()
        })
}

fn any_registration() -> impl Strategy<Value = Registration> {
    (
        any_node(),
        any::<bool>(),
        prop::option::of(any_service()),
        prop::collection::vec(any_check(), 0..3),
    )
        .prop_map(|(node, skip_node_update, service, checks)| Registration {
            node,
            skip_node_update,
            service,
            checks,
        })
}

fn any_deregistration() -> impl Strategy<Value = Deregistration> {
    let what = prop_oneof![
        1 => Just(Removal::Node),
        2 => one_of(&["a", "A", "b", "web", "db"]).prop_map(Removal::Service),
        2 => one_of(&["c", "D", "serfhealth"]).prop_map(Removal::Check),
    ];
    (one_of(&["n", "N", "m", "nn", "zz"]), what).prop_map(|(node, what)| Deregistration { node, what })
}

fn any_action() -> impl Strategy<Value = Action> {
    let change = prop_oneof![
        2 => any_registration().prop_map(|registration| CatalogChange::Register(Box::new(registration))),
        1 => any_deregistration().prop_map(CatalogChange::Deregister),
    ];
    prop_oneof![
        6 => any_registration().prop_map(|registration| Action::Register(Box::new(registration))),
        2 => any_deregistration().prop_map(Action::Deregister),
        2 => prop::collection::vec(change, 0..4).prop_map(Action::RegisterMany),
    ]
}

/// Whether an answer says that there is nothing.
fn is_empty(found: &Found) -> bool {
    match found {
        Found::NodeServices(found) => found.is_none(),
        Found::NodeInfos(found) => found.is_empty(),
        Found::ServiceNodes(found) => found.is_empty(),
        Found::Checks(found) => found.is_empty(),
        Found::Instances(found) => found.is_empty(),
        Found::Entry(_)
        | Found::Entries(_)
        | Found::Keys(_)
        | Found::Autopilot(_)
        | Found::Coordinates(_)
        | Found::Nodes(_)
        | Found::Services(_)
        | Found::Sessions(_)
        | Found::PreparedQueries(_)
        | Found::Resolved(_) => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nodes_services_and_checks_are_what_the_model_says(actions in prop::collection::vec((any_action(), 1..3_u64), 1..24)) {
        let queries = queries();
        let (mut state, mut model) = (State::new(), Model::new(&queries));
        let mut disk = BTreeMap::new();
        let answers = |state: &State| -> Vec<_> { queries.iter().map(|query| state.query(query)).collect() };
        let mut before = answers(&state);
        for (action, gap) in actions {
            let index = Index(state.index().0 + gap);
            let command = command(action);
            prop_assert_eq!(Command::decode(&command.encode()), Ok(command.clone()));
            let (old, mut changes) = (state.clone(), Changes::default());
            let outcome = state.apply(index, &command, &mut changes).unwrap();
            let fine = model.apply(index, &command.action);
            prop_assert_eq!(outcome == DONE, fine, "{:?}", outcome);
            let after = answers(&state);
            for (query, answer) in queries.iter().zip(&after) {
                prop_assert_eq!(answer, &model.query(query), "{:?}", query);
                prop_assert_eq!(Some(answer.0), state.index_of(query));
            }
            prop_assert_eq!(changes.is_empty(), before == after);
            prop_assert_eq!(old.query(&Query::NodeInfos), before[1].clone(), "an earlier state has changed");

            // Indexes never go back; who is woken has news, and who is not has none.
            let mut watches = Watches::new(queries.len());
            for (number, query) in queries.iter().enumerate() {
                watches.subscribe(query.interest(), number).unwrap();
            }
            let mut woken = Vec::new();
            watches.take_touched(&changes.touched, &mut woken);
            let unique: BTreeSet<_> = woken.iter().copied().collect();
            prop_assert_eq!(unique.len(), woken.len(), "somebody was woken twice");
            for (number, query) in queries.iter().enumerate() {
                let (was, is) = (&before[number], &after[number]);
                prop_assert!(was.0 <= is.0, "{:?} went back", query);
                if unique.contains(&number) {
                    prop_assert!(was.0 < is.0, "{:?} was woken for nothing", query);
                } else {
                    prop_assert_eq!(&was.1, &is.1, "{:?} was not woken", query);
                    prop_assert!(was.0 == is.0 || is_empty(&is.1), "{:?} missed an index", query);
                }
            }

            // What goes to disk is the state.
            for Row { table, key, value } in changes.rows {
                match value {
                    Some(value) => disk.insert((table, key), value),
                    None => disk.remove(&(table, key)),
                };
            }
            let stored = disk.iter().map(|((table, key), value): (&(Table, Bytes), &Bytes)| Row {
                table: *table,
                key: key.clone(),
                value: Some(value.clone()),
            });
            prop_assert_eq!(rows(&state), stored.collect::<Vec<_>>());
            before = after;
        }
        let again = rebuilt(rows(&state).into_iter().rev(), state.index()).unwrap();
        prop_assert_eq!(again.digest(), state.digest());
        prop_assert_eq!(answers(&again), before);

        // A snapshot can be read in small pieces from any place.
        let export = state.export();
        let (mut cursor, mut pieces) = (Some(Cursor::start()), Vec::new());
        while let Some(from) = cursor {
            let (chunk, next) = export.chunk(&from, 1);
            pieces.extend(chunk);
            cursor = next;
        }
        prop_assert_eq!(pieces, rows(&state));
    }
}
