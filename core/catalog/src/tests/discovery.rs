//! Registering and finding nodes, services and checks.

use lictor_machine::NodeId;

use super::*;
use crate::{
    Builder, CatalogChange, CheckDef, CheckDefinition, ConnectDef, Cursor, Deregistration, Labels,
    MAX_CATALOG_CHANGES, MAX_CHECKS, MAX_TAGS, NodeCoordinate, NodeDef, Registration, Removal, Row, RowError,
    SERF_HEALTH, ServiceAddress, ServiceDef, Status, Table, Text, Watches, Weights,
};

pub(super) fn node(name: &str, address: &str) -> NodeDef {
    NodeDef {
        name: name.into(),
        address: address.into(),
        ..NodeDef::default()
    }
}

fn identified(id: u128, name: &str) -> NodeDef {
    NodeDef {
        id: Some(NodeId(id)),
        ..node(name, "1.1.1.1")
    }
}

pub(super) fn service(id: &str, name: &str) -> ServiceDef {
    ServiceDef {
        id: id.into(),
        name: name.into(),
        ..ServiceDef::default()
    }
}

pub(super) fn check(id: &str, service_id: &str, status: Status) -> CheckDef {
    CheckDef {
        id: id.into(),
        service_id: service_id.into(),
        status,
        ..CheckDef::default()
    }
}

fn of_node(def: NodeDef) -> Registration {
    Registration {
        node: def,
        ..Registration::default()
    }
}

/// A registration that leaves the node as it is.
fn on(name: &str, service: Option<ServiceDef>, checks: Vec<CheckDef>) -> Registration {
    Registration {
        node: node(name, ""),
        skip_node_update: true,
        service,
        checks,
    }
}

fn register(bench: &mut Bench, registration: Registration) {
    assert_eq!(bench.apply(Action::Register(Box::new(registration))), DONE);
}

fn refused_with(bench: &mut Bench, registration: Registration) -> String {
    let digest = bench.state.digest();
    let Outcome::Refused(why) = bench.apply(Action::Register(Box::new(registration))) else {
        panic!("it was not refused");
    };
    assert!(bench.changes.is_empty());
    let again = rebuilt(rows(&bench.state), bench.state.index().prev());
    assert_eq!(
        again.map(|state| state.digest()),
        Ok(digest),
        "something was changed"
    );
    why
}

fn remove(bench: &mut Bench, node: &str, what: Removal) {
    let node = node.into();
    assert_eq!(
        bench.apply(Action::Deregister(Deregistration { node, what })),
        DONE
    );
}

fn rows(state: &State) -> Vec<Row> {
    state.export().chunk(&Cursor::start(), usize::MAX).0
}

fn rebuilt(rows: impl IntoIterator<Item = Row>, applied: Index) -> Result<State, RowError> {
    let mut builder = Builder::new();
    rows.into_iter().try_for_each(|row| builder.add(row))?;
    builder.finish(applied)
}

fn health(service: &str) -> Query {
    Query::HealthService {
        service: service.to_owned(),
        connect: false,
    }
}

fn instances(service: &str, connect: bool) -> Query {
    Query::ServiceNodes {
        service: service.to_owned(),
        connect,
    }
}

fn checks(service: &str) -> Query {
    Query::HealthChecks {
        service: service.to_owned(),
        node_meta: vec![],
    }
}

fn state(status: Option<Status>) -> Query {
    let node_meta = vec![];
    Query::HealthState { status, node_meta }
}

fn services() -> Query {
    Query::Services { node_meta: vec![] }
}

/// The instances of a service as `node/id`, each with its checks.
fn found(bench: &Bench, query: &Query) -> Vec<(String, Vec<String>)> {
    let Found::Instances(found) = bench.state.query(query).1 else {
        panic!("not instances");
    };
    let shown = found.iter().map(|instance| {
        let name = format!("{}/{}", instance.node.def.name, instance.service.def.id);
        let checks = instance.checks.iter().map(|check| check.def.id.to_string());
        (name, checks.collect())
    });
    shown.collect()
}

fn listed(bench: &Bench) -> Vec<(String, Vec<String>)> {
    let Found::Services(found) = bench.state.query(&services()).1 else {
        panic!("not services");
    };
    let text = |text: &Text| text.to_string();
    found
        .iter()
        .map(|service| (text(&service.name), service.tags.iter().map(text).collect()))
        .collect()
}

#[test]
fn each_answer_has_the_index_of_what_it_is_about() {
    let mut bench = Bench::new();
    bench.state.advance(Index(33)).unwrap();
    let shown: [Query; 13] = [
        Query::Nodes,
        services(),
        instances("ia", false),
        instances("ib", false),
        instances("nope", false),
        health("ia"),
        health("ib"),
        checks("ia"),
        checks("ib"),
        Query::HealthNode("nj".to_owned()),
        state(None),
        state(Some(Status::Passing)),
        Query::NodeServices("ni".to_owned()),
    ];
    let passing = |id: &str, of: &str| check(id, of, Status::Passing);
    let ia = || Some(service("", "ia"));
    let gone = |what: Removal| {
        Action::Deregister(Deregistration {
            node: "ni".into(),
            what,
        })
    };
    let put = |registration: Registration| Action::Register(Box::new(registration));
    let steps: [(Action, [u64; 13]); 12] = [
        (
            put(of_node(node("ni", "1"))),
            [34, 0, 0, 0, 0, 0, 0, 0, 0, 34, 0, 0, 34],
        ),
        (
            put(on("ni", ia(), vec![])),
            [34, 35, 35, 0, 0, 35, 0, 35, 0, 34, 0, 0, 35],
        ),
        (
            put(Registration {
                node: node("nj", "2"),
                service: Some(service("", "ib")),
                ..Registration::default()
            }),
            [36, 36, 35, 36, 0, 35, 36, 35, 36, 36, 0, 0, 35],
        ),
        (
            put(on("ni", None, vec![passing("c", "ia")])),
            [36, 36, 35, 36, 0, 37, 36, 37, 36, 36, 37, 37, 35],
        ),
        (
            put(on("ni", None, vec![passing("c", "ia")])),
            [36, 36, 35, 36, 0, 37, 36, 37, 36, 36, 37, 37, 35],
        ),
        (
            put(on("ni", ia(), vec![])),
            [36, 36, 35, 36, 0, 37, 36, 37, 36, 36, 37, 37, 35],
        ),
        (
            put(on("nj", None, vec![passing("all", "")])),
            [36, 36, 35, 36, 0, 37, 40, 37, 36, 40, 40, 40, 35],
        ),
        (
            put(of_node(node("nj", "3"))),
            [41, 36, 35, 41, 0, 37, 41, 37, 36, 40, 40, 40, 35],
        ),
        (
            gone(Removal::Check("c".into())),
            [41, 36, 35, 41, 0, 42, 41, 42, 36, 40, 42, 42, 35],
        ),
        (
            gone(Removal::Service("ia".into())),
            [41, 43, 43, 41, 43, 43, 41, 43, 36, 40, 42, 42, 43],
        ),
        (
            gone(Removal::Node),
            [44, 43, 43, 41, 43, 43, 41, 43, 36, 40, 42, 42, 44],
        ),
        (
            Action::Deregister(Deregistration {
                node: "NJ".into(),
                what: Removal::Node,
            }),
            [45, 45, 45, 45, 45, 45, 45, 45, 45, 45, 45, 45, 45],
        ),
    ];
    for (action, expected) in steps {
        assert_eq!(bench.apply(action), DONE);
        let index = bench.state.index();
        let found = shown.each_ref().map(|query| bench.state.query(query).0.0);
        assert_eq!(found, expected, "at {index}");
        let again = rebuilt(rows(&bench.state), index).unwrap();
        assert_eq!(shown.each_ref().map(|query| again.query(query).0.0), expected);
    }
}

#[test]
fn wrong_registrations_are_refused_in_the_apis_words() {
    let mut bench = Bench::new();
    register(&mut bench, of_node(identified(1, "vm")));
    register(
        &mut bench,
        on("vm", None, vec![check(SERF_HEALTH, "", Status::Passing)]),
    );
    register(&mut bench, of_node(node("n1", "1")));
    let wrong = [
        (of_node(node("", "1")), "Must provide node".to_owned()),
        (
            of_node(node("n1", "")),
            "Must provide address if SkipNodeUpdate is not set".to_owned(),
        ),
        (
            on("n1", Some(service("x", "")), vec![]),
            "Must provide service name with ID".to_owned(),
        ),
        (
            on("n1", Some(service("", "")), vec![]),
            "failed inserting service: failed inserting service: object missing primary index".to_owned(),
        ),
        (
            on("n1", None, vec![check("", "", Status::Passing)]),
            "failed inserting check: failed inserting check: object missing primary index on node \"n1\""
                .to_owned(),
        ),
        (
            on(
                "n1",
                Some(service("web", "web")),
                vec![check("c", "db", Status::Passing)],
            ),
            "failed inserting check: Missing service registration on node \"n1\"".to_owned(),
        ),
        (
            of_node(identified(2, "VM")),
            format!(
                "failed inserting node: Error while renaming Node ID: \"{}\": Node name VM is reserved by node {} with \
                 name vm (1.1.1.1)",
                NodeId(2),
                NodeId(1)
            ),
        ),
        (
            of_node(node("a\0b", "1")),
            "invalid registration: the node's name has a zero byte in it".to_owned(),
        ),
        (
            of_node(node(&"x".repeat(513), "1")),
            "invalid registration: the node's name has 513 bytes, and may have 512".to_owned(),
        ),
    ];
    for (registration, why) in wrong {
        assert_eq!(refused_with(&mut bench, registration), why);
    }
    let nobody = Deregistration {
        node: "".into(),
        what: Removal::Node,
    };
    assert_eq!(
        bench.apply(Action::Deregister(nobody)),
        refused("Must provide node")
    );
}

#[test]
fn everything_has_a_bound() {
    let mut bench = Bench::new();
    let long = "x".repeat(70_000);
    let labels = |count: usize| -> Labels { (0..count).map(|n| (n.to_string(), Text::from(""))).collect() };
    let web = || service("web", "web");
    let sick = || check("c", "", Status::Critical);
    let with = |service: ServiceDef| on("n", Some(service), vec![]);
    let checked = |check: CheckDef| on("n", None, vec![check]);
    let proxy = |destination: &str, proxy: &str| {
        Some(Arc::new(ConnectDef {
            native: false,
            destination: destination.into(),
            proxy: proxy.into(),
        }))
    };
    let definition = |definition: CheckDefinition| CheckDef {
        definition: Some(Arc::new(definition)),
        ..sick()
    };
    let address: Labels<ServiceAddress> = [(
        "lan",
        ServiceAddress {
            address: long.as_str().into(),
            port: 1,
        },
    )]
    .into_iter()
    .collect();
    #[rustfmt::skip]
    let bad = [
        of_node(NodeDef { meta: labels(257), ..node("n", "1") }),
        of_node(NodeDef { tagged_addresses: [("lan", long.as_str().into())].into_iter().collect(), ..node("n", "1") }),
        of_node(node("n", &long)),
        with(ServiceDef { tags: vec!["t".into(); MAX_TAGS + 1].into(), ..web() }),
        with(ServiceDef { tags: [long.as_str().into()].into(), ..web() }),
        with(ServiceDef { kind: long.as_str().into(), ..web() }),
        with(ServiceDef { address: long.as_str().into(), ..web() }),
        with(ServiceDef { tagged_addresses: address, ..web() }),
        with(ServiceDef { meta: labels(257), ..web() }),
        with(ServiceDef { connect: proxy("", &long), ..web() }),
        with(ServiceDef { connect: proxy("a\0", ""), ..web() }),
        with(service("a\0", "web")),
        checked(CheckDef { output: long.as_str().into(), ..sick() }),
        checked(CheckDef { notes: long.as_str().into(), ..sick() }),
        checked(CheckDef { kind: long.as_str().into(), ..sick() }),
        checked(CheckDef { name: long.as_str().into(), ..sick() }),
        checked(definition(CheckDefinition { http: long.as_str().into(), ..CheckDefinition::default() })),
        checked(definition(CheckDefinition {
            header: [("h", vec![Text::from(""); 257].into())].into_iter().collect(),
            ..CheckDefinition::default()
        })),
        on("n", None, vec![sick(); MAX_CHECKS + 1]),
    ];
    for registration in bad {
        let why = refused_with(&mut bench, registration.clone());
        assert!(why.starts_with("invalid registration: "), "{why}");
        assert_eq!(registration.check(), Err(why));
    }
    let change = CatalogChange::Register(Box::new(of_node(node("n", "1"))));
    let many = |count: usize| Action::RegisterMany(vec![change.clone(); count]);
    let why = "invalid registration: it has 1025 changes, and may have 1024";
    assert_eq!(bench.apply(many(MAX_CATALOG_CHANGES + 1)), refused(why));
    let decoded = |action: Action| Command::decode(&command(action).encode()).is_ok();
    assert!(decoded(many(MAX_CATALOG_CHANGES)) && !decoded(many(MAX_CATALOG_CHANGES + 1)));
    let tagged = |count: usize| {
        let tags = vec![Text::from("t"); count].into();
        decoded(Action::Register(Box::new(with(ServiceDef { tags, ..web() }))))
    };
    assert!(tagged(MAX_TAGS) && !tagged(MAX_TAGS + 1));
    let checked = |count: usize| decoded(Action::Register(Box::new(on("n", None, vec![sick(); count]))));
    assert!(checked(MAX_CHECKS) && !checked(MAX_CHECKS + 1));
}

#[test]
fn names_and_ids_count_in_any_case_and_are_shown_as_last_spelled() {
    let mut bench = Bench::new();
    register(&mut bench, of_node(node("n1", "1")));
    register(
        &mut bench,
        on(
            "N1",
            Some(service("IDa", "Web")),
            vec![check("Ch", "ida", Status::Passing)],
        ),
    );
    register(&mut bench, of_node(node("N1", "2")));
    let found_node = bench.state.node("n1").unwrap();
    assert_eq!((&*found_node.def.name, &*found_node.def.address), ("N1", "2"));
    assert_eq!(
        (found_node.create_index, found_node.modify_index),
        (Index(1), Index(3))
    );
    assert_eq!(
        found(&bench, &health("WEB")),
        [("N1/IDa".to_owned(), vec!["Ch".to_owned()])]
    );
    assert_eq!(&*bench.state.check("n1", "CH").unwrap().node, "N1");
    assert_eq!(&*bench.state.service("n1", "IDA").unwrap().node, "N1");
    register(&mut bench, on("n1", Some(service("ida", "WEB")), vec![]));
    assert_eq!(
        found(&bench, &health("web")),
        [("N1/ida".to_owned(), vec!["Ch".to_owned()])]
    );
    assert_eq!(listed(&bench), [("WEB".to_owned(), vec![])]);
    assert_eq!(&*bench.state.check("n1", "ch").unwrap().service_name, "WEB");
    remove(&mut bench, "n1", Removal::Service("iDa".into()));
    assert_eq!(bench.state.checks_on("N1").len(), 0);
    assert_eq!(bench.state.services_on("N1").len(), 0);
}

#[test]
fn a_node_is_who_its_id_says() {
    let mut bench = Bench::new();
    register(
        &mut bench,
        Registration {
            service: Some(service("", "web")),
            ..of_node(identified(1, "old"))
        },
    );
    let coordinate = NodeCoordinate {
        node: "old".to_owned(),
        segment: String::new(),
        coordinate: crate::Coordinate::new([0.0; 8], 0.0, 0.0, 0.0).unwrap(),
    };
    bench.apply(Action::Coordinates(vec![coordinate]));
    register(&mut bench, of_node(identified(1, "new")));
    assert_eq!(bench.state.node("old"), None);
    assert_eq!(found(&bench, &health("web")), []);
    assert_eq!(
        bench.state.query(&Query::Coordinates).1,
        Found::Coordinates(vec![]),
        "it is forgotten where the old name was"
    );
    let renamed = bench.state.node_by_id(NodeId(1)).unwrap();
    assert_eq!((&*renamed.def.name, renamed.create_index), ("new", Index(1)));

    // A name is free if its owner is not known to be well, or never said who it is.
    register(&mut bench, of_node(identified(2, "NEW")));
    assert_eq!(bench.state.node_by_id(NodeId(1)), None);
    register(&mut bench, of_node(node("plain", "1")));
    register(
        &mut bench,
        on("plain", None, vec![check(SERF_HEALTH, "", Status::Passing)]),
    );
    let why = refused_with(&mut bench, of_node(identified(2, "plain")));
    assert!(
        why.contains("(1.1.1.1): Node name plain is reserved by node  with name plain (1)"),
        "{why}"
    );
    register(&mut bench, of_node(identified(3, "plain")));
    let why = refused_with(&mut bench, of_node(identified(4, "plain")));
    assert!(why.ends_with("with name plain (1.1.1.1)"), "{why}");
    register(
        &mut bench,
        on("plain", None, vec![check(SERF_HEALTH, "", Status::Critical)]),
    );
    register(&mut bench, of_node(identified(2, "plain")));
    assert_eq!(bench.state.node("new"), None);
    assert_eq!(bench.state.node_by_id(NodeId(3)), None);
    assert_eq!(
        bench.state.checks_on("plain").len(),
        1,
        "what ran under the name stays"
    );

    // Without an id it is nobody any more; with one that it had, nothing of it is lost.
    register(&mut bench, of_node(node("plain", "1")));
    assert_eq!(bench.state.node_by_id(NodeId(2)), None);
    assert_eq!(bench.state.node("plain").unwrap().def.id, None);
}

#[test]
fn a_node_that_should_be_left_alone_is() {
    let mut bench = Bench::new();
    let quiet = |address: &str| Registration {
        node: node("n", address),
        skip_node_update: true,
        ..Registration::default()
    };
    register(&mut bench, quiet(""));
    assert_eq!(&*bench.state.node("n").unwrap().def.address, "");
    register(&mut bench, quiet("9"));
    assert!(bench.changes.is_empty());
    assert_eq!(&*bench.state.node("n").unwrap().def.address, "");
}

#[test]
fn a_check_follows_its_service() {
    let mut bench = Bench::new();
    let tagged = |tag: &str, name: &str| ServiceDef {
        tags: [tag.into()].into(),
        ..service("a", name)
    };
    let sick = check("c", "A", Status::Critical);
    register(&mut bench, on("n", Some(tagged("x", "web")), vec![sick.clone()]));
    register(&mut bench, on("n", Some(tagged("y", "web")), vec![]));
    let shown = |bench: &Bench| {
        let check = bench.state.check("n", "c").unwrap();
        let tags: Vec<_> = check.service_tags.iter().map(ToString::to_string).collect();
        (
            check.service_name.to_string(),
            tags,
            check.create_index.0,
            check.modify_index.0,
        )
    };
    assert_eq!(shown(&bench), ("web".to_owned(), vec!["y".to_owned()], 1, 2));
    register(&mut bench, on("n", Some(tagged("y", "db")), vec![]));
    assert_eq!(shown(&bench), ("db".to_owned(), vec!["y".to_owned()], 1, 3));
    assert_eq!(bench.state.query(&checks("web")).1, Found::Checks(vec![]));
    assert_eq!(bench.state.query(&checks("db")).0, Index(3));
    register(
        &mut bench,
        on(
            "n",
            Some(ServiceDef {
                port: 9,
                ..tagged("y", "db")
            }),
            vec![],
        ),
    );
    assert_eq!(shown(&bench).3, 3, "a port is not seen in a check");
    // It may become one of the node, or of another instance.
    register(
        &mut bench,
        on(
            "n",
            Some(service("b", "other")),
            vec![check("c", "", Status::Critical)],
        ),
    );
    assert_eq!(shown(&bench), (String::new(), vec![], 1, 5));
    assert_eq!(
        found(&bench, &health("other")),
        [("n/b".to_owned(), vec!["c".to_owned()])]
    );
    register(&mut bench, on("n", None, vec![check("c", "b", Status::Critical)]));
    assert_eq!(found(&bench, &health("db")), [("n/a".to_owned(), vec![])]);
    assert_eq!(bench.state.checks_of("n", "b").count(), 1);
    remove(&mut bench, "n", Removal::Service("b".into()));
    assert_eq!(bench.state.check("n", "c"), None);
}

#[test]
fn several_changes_happen_together_or_not_at_all() {
    let mut bench = Bench::new();
    let put = |registration: Registration| CatalogChange::Register(Box::new(registration));
    let drop = |what: Removal| {
        CatalogChange::Deregister(Deregistration {
            node: "n".into(),
            what,
        })
    };
    let many = vec![
        put(of_node(node("n", "1"))),
        put(on(
            "n",
            Some(service("", "web")),
            vec![check("c", "web", Status::Passing)],
        )),
        put(on("n", Some(service("", "db")), vec![])),
        drop(Removal::Service("db".into())),
    ];
    assert_eq!(bench.apply(Action::RegisterMany(many)), DONE);
    assert_eq!(listed(&bench), [("web".to_owned(), vec![])]);
    let digest = rows(&bench.state);
    let bad = vec![
        drop(Removal::Node),
        put(of_node(node("m", "1"))),
        put(on("m", None, vec![check("c", "web", Status::Passing)])),
    ];
    assert_eq!(
        bench.apply(Action::RegisterMany(bad)),
        refused("failed inserting check: Missing service registration on node \"m\"")
    );
    assert!(bench.changes.is_empty());
    assert_eq!(rows(&bench.state), digest);
}

#[test]
fn answers_are_in_order() {
    let mut bench = Bench::new();
    for (name, id) in [("b", "2"), ("B0", "1"), ("a", "x"), ("b", "10")] {
        register(
            &mut bench,
            on(
                name,
                Some(ServiceDef {
                    tags: [id.into(), "t".into()].into(),
                    ..service(id, "web")
                }),
                vec![
                    check("z", "", Status::Passing),
                    check("y", id, Status::Passing),
                    check("A", "", Status::Warning),
                ],
            ),
        );
    }
    let names = |query: &Query| -> Vec<String> {
        let Found::Checks(found) = bench.state.query(query).1 else {
            panic!("not checks");
        };
        found
            .iter()
            .map(|check| format!("{}/{}", check.node, check.def.id))
            .collect()
    };
    let of = |checks: &[&str]| -> Vec<String> { checks.iter().map(|&check| check.to_owned()).collect() };
    assert_eq!(
        found(&bench, &health("web")),
        [
            ("a/x".to_owned(), of(&["A", "z", "y"])),
            ("b/10".to_owned(), of(&["A", "z", "y"])),
            ("b/2".to_owned(), of(&["A", "z"])),
            ("B0/1".to_owned(), of(&["A", "z", "y"])),
        ]
    );
    assert_eq!(names(&checks("web")), of(&["a/y", "b/y", "B0/y"]));
    assert_eq!(names(&state(Some(Status::Warning))), of(&["a/A", "b/A", "B0/A"]));
    assert_eq!(
        names(&Query::HealthNode("B".to_owned())),
        of(&["b/A", "b/y", "b/z"])
    );
    assert_eq!(
        listed(&bench),
        [("web".to_owned(), of(&["1", "10", "2", "t", "x"]))]
    );
    let nodes: Vec<_> = bench
        .state
        .nodes()
        .map(|node| node.def.name.to_string())
        .collect();
    assert_eq!(nodes, of(&["a", "b", "B0"]));
    let on_nodes = bench.state.instances("WEB", false);
    let ids: Vec<_> = on_nodes.map(|(_, service)| service.def.id.to_string()).collect();
    assert_eq!(ids, of(&["x", "10", "2", "1"]));
}

#[test]
fn callers_in_the_mesh_come_to_proxies_and_to_those_who_need_none() {
    let mut bench = Bench::new();
    let part = |native: bool, destination: &str| {
        Some(Arc::new(ConnectDef {
            native,
            destination: destination.into(),
            proxy: "{}".into(),
        }))
    };
    let proxy = ServiceDef {
        kind: ServiceDef::CONNECT_PROXY.into(),
        connect: part(false, "WEB"),
        ..service("p", "web-proxy")
    };
    let native = ServiceDef {
        connect: part(true, ""),
        ..service("w", "web")
    };
    register(&mut bench, on("n", Some(proxy.clone()), vec![]));
    register(&mut bench, on("m", Some(native), vec![]));
    register(&mut bench, on("m", Some(service("plain", "web")), vec![]));
    let connect = Query::HealthService {
        service: "web".to_owned(),
        connect: true,
    };
    assert_eq!(
        found(&bench, &connect),
        [("m/w".to_owned(), vec![]), ("n/p".to_owned(), vec![])]
    );
    assert_eq!(bench.state.query(&connect).0, Index(2));
    register(&mut bench, on("n", None, vec![check("c", "p", Status::Passing)]));
    assert_eq!(bench.state.query(&connect).0, Index(4));
    assert_eq!(bench.state.query(&instances("web", true)).0, Index(2));
    assert_eq!(
        listed(&bench).len(),
        2,
        "names by which callers are taken are no services"
    );
    let moved = ServiceDef {
        connect: part(false, "db"),
        ..proxy
    };
    register(&mut bench, on("n", Some(moved), vec![]));
    assert_eq!(found(&bench, &connect), [("m/w".to_owned(), vec![])]);
    assert_eq!(bench.state.query(&instances("db", true)).0, Index(5));
    remove(&mut bench, "n", Removal::Node);
    assert_eq!(bench.state.query(&instances("db", true)).0, Index(6));
}

#[test]
fn nodes_are_chosen_by_their_labels() {
    let mut bench = Bench::new();
    let labelled = |name: &str, rack: &str| NodeDef {
        meta: [("rack", rack.into()), ("os", "linux".into())]
            .into_iter()
            .collect(),
        ..node(name, "1")
    };
    for (name, rack, web) in [("a", "1", "web"), ("b", "2", "db")] {
        register(
            &mut bench,
            Registration {
                node: labelled(name, rack),
                service: Some(service("", web)),
                checks: vec![check("c", web, Status::Passing), check("d", "", Status::Passing)],
                ..Registration::default()
            },
        );
    }
    let meta = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect()
    };
    for (pairs, expected) in [
        (&[("rack", "1")][..], 1),
        (&[("rack", "1"), ("os", "linux")], 1),
        (&[("rack", "1"), ("os", "bsd")], 0),
        (&[("os", "linux")], 2),
        (&[("rack", "")], 0),
    ] {
        let node_meta = meta(pairs);
        let Found::Services(listed) = bench
            .state
            .query(&Query::Services {
                node_meta: node_meta.clone(),
            })
            .1
        else {
            panic!("not services");
        };
        assert_eq!(listed.len(), expected, "{pairs:?}");
        let status = None;
        let Found::Checks(found) = bench.state.query(&Query::HealthState { status, node_meta }).1 else {
            panic!("not checks");
        };
        assert_eq!(found.len(), expected * 2);
    }
    let of_web = |pairs| {
        let service = "web".to_owned();
        let node_meta = meta(pairs);
        bench.state.query(&Query::HealthChecks { service, node_meta }).1
    };
    assert_eq!(of_web(&[("rack", "2")]), Found::Checks(vec![]));
    assert!(matches!(of_web(&[("rack", "1")]), Found::Checks(found) if found.len() == 1));
}

#[test]
fn only_those_who_wait_for_it_wake() {
    let mut bench = Bench::new();
    for name in ["a", "b"] {
        register(
            &mut bench,
            on(
                &format!("node-{name}"),
                Some(service("", name)),
                vec![check("c", name, Status::Passing)],
            ),
        );
    }
    let node = |name: &str| Query::NodeServices(format!("node-{name}"));
    let all: Vec<Query> = ["a", "b", "none"]
        .into_iter()
        .flat_map(|name| {
            [
                health(name),
                instances(name, false),
                checks(name),
                node(name),
                Query::HealthNode(format!("node-{name}")),
            ]
        })
        .chain([
            Query::Nodes,
            services(),
            state(None),
            state(Some(Status::Critical)),
            state(Some(Status::Passing)),
        ])
        .collect();
    let woken = |bench: &Bench| {
        let mut watches = Watches::new(100);
        for query in all.clone() {
            watches.subscribe(query.interest(), query).unwrap();
        }
        let mut woken = Vec::new();
        watches.take_touched(&bench.changes.touched, &mut woken);
        woken.sort();
        woken
    };
    let mut expect = |registration: Registration, mut expected: Vec<Query>| {
        register(&mut bench, registration);
        expected.sort();
        assert_eq!(woken(&bench), expected);
    };
    let of_a = |status| vec![check("c", "a", status)];
    let node_a = Query::HealthNode("node-a".to_owned());
    expect(on("node-a", None, of_a(Status::Passing)), vec![]);
    let said = CheckDef {
        output: "still fine".into(),
        ..check("c", "a", Status::Passing)
    };
    let passing = state(Some(Status::Passing));
    let critical = state(Some(Status::Critical));
    let checked = || {
        vec![
            health("a"),
            checks("a"),
            node_a.clone(),
            state(None),
            passing.clone(),
        ]
    };
    expect(on("node-a", None, vec![said]), checked());
    expect(
        on("node-a", None, of_a(Status::Critical)),
        [checked(), vec![critical.clone()]].concat(),
    );
    let moved = ServiceDef {
        port: 80,
        ..service("", "a")
    };
    expect(
        on("node-a", Some(moved.clone()), vec![]),
        vec![health("a"), instances("a", false), node("a")],
    );
    let weighed = ServiceDef {
        weights: Weights {
            passing: 2,
            warning: 1,
        },
        tags: ["t".into()].into(),
        ..moved
    };
    expect(
        on("node-a", Some(weighed), vec![]),
        vec![
            health("a"),
            instances("a", false),
            checks("a"),
            node("a"),
            node_a.clone(),
            services(),
            state(None),
            critical,
        ],
    );
    expect(
        on("node-a", None, vec![check("whole", "", Status::Passing)]),
        vec![health("a"), node_a, state(None), passing],
    );
    expect(
        of_node(NodeDef {
            address: "7".into(),
            name: "node-a".into(),
            ..NodeDef::default()
        }),
        vec![health("a"), instances("a", false), node("a"), Query::Nodes],
    );
    expect(
        on("elsewhere", Some(service("", "c")), vec![]),
        vec![Query::Nodes, services()],
    );
}

#[test]
fn instances_of_a_service_share_what_they_have_in_common() {
    let mut bench = Bench::new();
    for name in ["a", "b"] {
        let registration = on(
            name,
            Some(ServiceDef {
                tags: ["t".into()].into(),
                meta: [("k", "v".into())].into_iter().collect(),
                ..service("", "web")
            }),
            vec![check("c", "web", Status::Passing)],
        );
        // As it comes from the log: nothing of it is shared.
        let bytes = command(Action::Register(Box::new(registration))).encode();
        let command = Command::decode(&bytes).unwrap();
        bench.apply(command.action);
    }
    let again = rebuilt(rows(&bench.state), bench.state.index()).unwrap();
    for state in [&bench.state, &again] {
        let [a, b] = ["a", "b"].map(|node| state.service(node, "web").unwrap());
        assert!(Arc::ptr_eq(&a.def.name, &b.def.name));
        assert!(Arc::ptr_eq(&a.def.tags, &b.def.tags));
        let check = state.check("b", "c").unwrap();
        assert!(Arc::ptr_eq(&check.service_name, &b.def.name));
        assert!(Arc::ptr_eq(&check.node, &b.node));
    }
}

#[test]
fn rows_that_do_not_belong_together_are_refused() {
    let mut bench = Bench::new();
    register(
        &mut bench,
        Registration {
            node: identified(1, "n"),
            service: Some(service("", "web")),
            checks: vec![check("c", "web", Status::Passing)],
            ..Registration::default()
        },
    );
    register(&mut bench, of_node(identified(2, "m")));
    let all = rows(&bench.state);
    let named: Vec<_> = all.iter().map(|row| (row.table, &row.key[..])).collect();
    let expected: [(Table, &[u8]); 8] = [
        (Table::Meta, b"discovery-indexes"),
        (Table::Nodes, b"m"),
        (Table::Nodes, b"n"),
        (Table::Services, b"n\0web"),
        (Table::Checks, b"n\0c"),
        (Table::Marks, b"nm"),
        (Table::Marks, b"nn"),
        (Table::Marks, b"sweb"),
    ];
    assert_eq!(named, expected);
    let without = |at: usize| {
        let mut rows = all.clone();
        rows.remove(at);
        rebuilt(rows, Index(2)).unwrap_err()
    };
    let misfit = |table: Table, name: &str, detail: &'static str| RowError::Misfit {
        table,
        name: name.to_owned(),
        detail,
    };
    assert!(matches!(without(0), RowError::Inconsistent { .. }));
    assert_eq!(
        without(1),
        misfit(Table::Marks, "\"nm\"", "what it is about is missing")
    );
    assert_eq!(
        without(2),
        misfit(Table::Services, "\"n\\x00web\"", "its node is missing")
    );
    assert_eq!(
        without(3),
        misfit(Table::Checks, "\"n\\x00c\"", "its service is missing")
    );
    assert_eq!(without(5), misfit(Table::Marks, "\"\"", "some are missing"));
    assert_eq!(without(7), misfit(Table::Marks, "\"\"", "some are missing"));
    assert!(matches!(
        rebuilt(all.clone(), Index(1)),
        Err(RowError::Inconsistent { .. })
    ));

    let with = |at: usize, change: &dyn Fn(&mut Row)| {
        let mut rows = all.clone();
        change(&mut rows[at]);
        rebuilt(rows, Index(2)).unwrap_err().to_string()
    };
    let damaged = |table: &str, name: &str| {
        format!("row \"{name}\" of table {table} is damaged: it is that of another, ")
    };
    let renamed = |key: &'static str| move |row: &mut Row| row.key = bytes(key);
    assert!(with(1, &renamed("x")).starts_with(&damaged("Nodes", "x")));
    assert!(with(3, &renamed("n\0x")).starts_with(&damaged("Services", "n\\x00x")));
    assert!(with(4, &renamed("n\0x")).starts_with(&damaged("Checks", "n\\x00x")));
    assert!(with(7, &renamed("sx")).starts_with(&damaged("Marks", "sx")));
    assert!(with(7, &renamed("xx")).ends_with("its name says nothing"));
    assert!(with(3, &renamed("web")).ends_with("its name is not one"));
    let value = all[2].value.clone();
    let twins = with(1, &|row: &mut Row| {
        row.key = bytes("o");
        let mut bytes = value.clone().unwrap().to_vec();
        let name = bytes.windows(2).position(|pair| pair == b"\x01n").unwrap();
        bytes[name + 1] = b'o';
        row.value = Some(bytes.into());
    });
    assert!(twins.ends_with("another node has the same id"), "{twins}");
    let twice = [all.clone(), vec![all[3].clone()]].concat();
    assert!(matches!(
        rebuilt(twice, Index(2)),
        Err(RowError::Duplicate { .. })
    ));
    let twice = [all.clone(), vec![all[0].clone()]].concat();
    assert!(matches!(
        rebuilt(twice, Index(2)),
        Err(RowError::Duplicate { .. })
    ));
}

#[test]
fn statuses_have_names() {
    for status in Status::ALL {
        assert_eq!(status.as_str().parse(), Ok(status));
        assert_eq!(status.to_string(), status.as_str());
    }
    assert!("Passing".parse::<Status>().is_err());
    assert!(Status::Critical > Status::Warning && Status::Warning > Status::Passing);
}
