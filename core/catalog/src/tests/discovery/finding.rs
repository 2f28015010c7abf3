//! Answers, their indexes, and who is woken when they change.

use super::*;

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
fn statuses_have_names() {
    for status in Status::ALL {
        assert_eq!(status.as_str().parse(), Ok(status));
        assert_eq!(status.to_string(), status.as_str());
    }
    assert!("Passing".parse::<Status>().is_err());
    assert!(Status::Critical > Status::Warning && Status::Warning > Status::Passing);
}
