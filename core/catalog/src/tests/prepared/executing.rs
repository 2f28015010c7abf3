//! What prepared queries find, and in which order.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::*;
use crate::tests::discovery::{check, node, on, register, service};
use crate::{
    Coordinate, Execute, Execution, NodeCoordinate, NodeDef, Registration, ServiceDef, Status, Target,
};

fn named(name: &str) -> Execute {
    Execute {
        target: Target::Named(name.to_owned()),
        near: String::new(),
        agent: "agent".to_owned(),
        client: None,
        connect: false,
        limit: 0,
        seed: 1,
    }
}

/// The nodes of what was found, in order.
fn order(execution: &Execution) -> Vec<String> {
    let nodes = execution.instances.iter();
    nodes.map(|instance| instance.node.def.name.to_string()).collect()
}

fn executed(bench: &Bench, execute: &Execute) -> Execution {
    bench.state.execute(execute).unwrap().unwrap()
}

/// The nodes of what the query `q` finds, sorted.
fn found(bench: &mut Bench, service: PreparedService) -> BTreeSet<String> {
    let query = PreparedDef {
        service,
        ..def(1, "q")
    };
    if ids(bench).is_empty() {
        made(bench, query);
    } else {
        assert_eq!(update(bench, query), DONE);
    }
    order(&executed(bench, &named("q"))).into_iter().collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Instances of `web` on `a` to `e`: passing, with a warning, critical, on a node that is, and of a passing node with labels and tags.
fn bench() -> Bench {
    let mut bench = Bench::new();
    for (name, number) in [("a", 1), ("b", 2), ("c", 3), ("d", 4)] {
        register(
            &mut bench,
            Registration {
                node: node(name, &format!("10.0.0.{number}")),
                service: Some(service("web", "web")),
                ..Registration::default()
            },
        );
    }
    let web = || Some(service("web", "web"));
    register(
        &mut bench,
        on("b", web(), vec![check("warns", "web", Status::Warning)]),
    );
    register(
        &mut bench,
        on("c", web(), vec![check("down", "web", Status::Critical)]),
    );
    register(
        &mut bench,
        on("d", web(), vec![check("lost", "", Status::Critical)]),
    );
    let labelled = Registration {
        node: NodeDef {
            meta: [("rack", "r1".into())].into_iter().collect(),
            ..node("E", "10.0.0.5")
        },
        service: Some(ServiceDef {
            tags: ["Blue".into(), "v2".into()].into(),
            meta: [("zone", "z".into())].into_iter().collect(),
            ..service("web", "web")
        }),
        ..Registration::default()
    };
    register(&mut bench, labelled);
    // Another service's checks do not matter.
    let other = check("other", "db", Status::Critical);
    register(&mut bench, on("a", Some(service("db", "db")), vec![other]));
    bench
}

#[test]
fn what_is_not_well_is_left_out() {
    let mut bench = bench();
    let web = def(1, "q").service;
    assert_eq!(found(&mut bench, web.clone()), set(&["a", "b", "E"]));
    let in_capitals = PreparedService {
        service: "WEB".into(),
        only_passing: true,
        ..web.clone()
    };
    assert_eq!(found(&mut bench, in_capitals), set(&["a", "E"]));
    let ignoring = PreparedService {
        only_passing: true,
        ignored_checks: Some(vec!["warns".into(), "lost".into()]),
        ..web.clone()
    };
    assert_eq!(found(&mut bench, ignoring), set(&["a", "b", "d", "E"]));
    let none = PreparedService {
        service: "none".into(),
        ..web
    };
    assert_eq!(found(&mut bench, none), set(&[]));
    assert_eq!(bench.state.execute(&named("unknown")), Ok(None));
    let checks = executed(&bench, &named("q")).instances.len();
    assert_eq!(checks, 0);
}

#[test]
fn labels_and_tags_choose() {
    let mut bench = bench();
    let web = def(1, "q").service;
    let tagged = |tags: &[&str]| PreparedService {
        tags: Some(tags.iter().map(|tag| (*tag).into()).collect()),
        ..web.clone()
    };
    for (tags, expected) in [
        (&["BLUE"][..], &["E"][..]),
        (&["blue", "v2"], &["E"]),
        (&["blue", "none"], &[]),
        (&["!blue"], &["a", "b"]),
        (&["!green", "!red"], &["a", "b", "E"]),
        (&["v2", "!Blue"], &[]),
    ] {
        assert_eq!(found(&mut bench, tagged(tags)), set(expected), "{tags:?}");
    }
    let labels = |name: &str, value: &str| Some([(name, value.into())].into_iter().collect());
    for (of_node, of_service, expected) in [
        (labels("rack", "r1"), None, &["E"][..]),
        (labels("rack", "R1"), None, &[]),
        (None, labels("zone", "z"), &["E"]),
        (labels("rack", "r1"), labels("zone", "y"), &[]),
    ] {
        let wanted = PreparedService {
            node_meta: of_node,
            service_meta: of_service,
            ..web.clone()
        };
        assert_eq!(found(&mut bench, wanted), set(expected));
    }
}

#[test]
fn who_takes_part_in_the_mesh_when_that_is_asked_for() {
    let mut bench = bench();
    let native = ServiceDef {
        connect: Some(Arc::new(crate::ConnectDef {
            native: true,
            ..crate::ConnectDef::default()
        })),
        ..service("web", "web")
    };
    register(&mut bench, on("a", Some(native), vec![]));
    made(&mut bench, def(1, "q"));
    let asked = Execute {
        connect: true,
        ..named("q")
    };
    assert_eq!(order(&executed(&bench, &asked)), ["a"]);
    let web = PreparedService {
        connect: true,
        ..def(1, "q").service
    };
    assert_eq!(found(&mut bench, web), set(&["a"]));
}

/// Fifty instances of `web`, each as far from `n00` as its number says.
fn line() -> Bench {
    let mut bench = Bench::new();
    for number in 0_u32..50 {
        let name = format!("n{number:02}");
        register(
            &mut bench,
            Registration {
                node: node(&name, &format!("10.0.1.{number}")),
                service: Some(service("web", "web")),
                ..Registration::default()
            },
        );
        // Nobody knows where the last one is.
        if number < 49 {
            let mut vector = [0.0; 8];
            vector[0] = f64::from(number);
            let update = NodeCoordinate {
                node: name,
                segment: String::new(),
                coordinate: Coordinate::new(vector, 0.1, 0.0, 0.0).unwrap(),
            };
            assert_eq!(bench.apply(Action::Coordinates(vec![update])), DONE);
        }
    }
    made(&mut bench, def(1, "q"));
    bench
}

#[test]
fn without_a_center_the_order_is_any_and_all_have_their_turn() {
    let bench = line();
    let first = |seed| {
        let one = Execute {
            limit: 1,
            seed,
            ..named("q")
        };
        let found = executed(&bench, &one);
        assert!(!found.ordered);
        order(&found)
    };
    let seen: BTreeSet<_> = (0..2000).map(first).collect();
    assert_eq!(seen.len(), 50);
    assert_eq!(
        order(&executed(&bench, &named("q"))),
        order(&executed(&bench, &named("q")))
    );
    assert_eq!(executed(&bench, &named("q")).instances.len(), 50);
}

#[test]
fn what_is_near_comes_first() {
    let mut bench = line();
    let near = |bench: &Bench, execute: Execute| {
        let found = executed(bench, &Execute { limit: 3, ..execute });
        (found.ordered, order(&found))
    };
    let by = |near: &str, client: Option<&str>| Execute {
        near: near.to_owned(),
        agent: "n30".to_owned(),
        client: client.map(|client| client.parse::<IpAddr>().unwrap()),
        ..named("q")
    };
    let from_zero = (true, vec!["n00".to_owned(), "n01".to_owned(), "n02".to_owned()]);
    assert_eq!(near(&bench, by("N00", None)), from_zero);
    assert_eq!(near(&bench, by("_ip", Some("10.0.1.0"))), from_zero);
    assert_eq!(near(&bench, by("_ip", Some("::ffff:10.0.1.0"))), from_zero);
    let (ordered, nodes) = near(&bench, by("_agent", None));
    assert_eq!((ordered, &*nodes[0]), (true, "n30"));
    for nowhere in [
        by("n49", None),
        by("nobody", None),
        by("_ip", None),
        by("_ip", Some("9.9.9.9")),
    ] {
        assert!(!near(&bench, nowhere).0);
    }
    let all = executed(&bench, &by("n00", None));
    assert_eq!(order(&all)[49], "n49", "what is nowhere comes last");
    // The query's own wish counts if the client has none.
    let web = PreparedService {
        near: "n00".into(),
        ..def(1, "q").service
    };
    found(&mut bench, web);
    assert_eq!(near(&bench, by("", None)), from_zero);
    assert_eq!(near(&bench, by("n40", None)).1[0], "n40");
}

#[test]
fn one_from_elsewhere_is_carried_out_as_it_is() {
    let bench = bench();
    let query = Arc::new(Prepared {
        def: def(9, "of another data center"),
        ..Prepared::default()
    });
    let execute = Execute {
        target: Target::Ready(Arc::clone(&query)),
        ..named("")
    };
    let found = executed(&bench, &execute);
    assert_eq!(found.query, query);
    assert_eq!(found.instances.len(), 3);
    let checks = |name: &str| {
        let mut instances = found.instances.iter();
        let instance = instances.find(|one| *one.node.def.name == *name).unwrap();
        instance
            .checks
            .iter()
            .map(|check| check.def.id.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!((checks("b"), checks("a")), (vec!["warns".to_owned()], vec![]));
}
