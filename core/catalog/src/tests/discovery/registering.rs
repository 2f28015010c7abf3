//! What registrations and deregistrations do, and which are refused.

use super::*;

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
