//! What is registered, and what is refused.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod desk;

use std::time::Duration;

use desk::{Catalog, Desk, alias, config, service, tcp, ttl};
use lictor_catalog::{Status, Tags, Text};
use lictor_local::{Definitions, Error, Memory, Request};
use lictor_machine::Instant;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn checks_stay_unless_they_are_to_be_replaced() {
    let mut desk = Desk::new();
    desk.register(service("web", vec![ttl("", 10), ttl("", 10)]));
    desk.tell("service:web:1", Status::Passing, "fine").unwrap();
    desk.ask(Request::Maintain {
        service: Some("web".into()),
        enable: true,
        reason: Text::default(),
    });
    let mut again = service("web", vec![]);
    again.def.tags = Tags::from([Text::from("new")]);
    desk.register(again);
    assert_eq!(desk.view.checks.len(), 3);
    assert_eq!(desk.view.check("service:web:1").unwrap().service_tags.len(), 1);
    let mut first = ttl("", 10);
    first.id = "service:web:1".into();
    let replace = Request::RegisterService {
        spec: Box::new(service("web", vec![first])),
        replace_checks: true,
    };
    assert_eq!(desk.ask(replace), Some(Ok(())));
    let ids: Vec<&str> = desk.view.checks.iter().map(|(id, _)| &**id).collect();
    assert_eq!(ids, ["_service_maintenance:web", "service:web:1"]);
    assert_eq!(desk.status("service:web:1"), Status::Passing);
    assert_eq!(desk.output("service:web:1"), "fine");
    desk.run(SECOND);
    desk.assert_in_sync();
}

#[test]
fn maintenance_keeps_its_first_reason_and_survives_a_restart() {
    let mut desk = Desk::new();
    let maintain = |service: Option<&str>, enable, reason: &str| Request::Maintain {
        service: service.map(Text::from),
        enable,
        reason: reason.into(),
    };
    let unknown = Err(Error::UnknownService("nope".to_owned()));
    assert_eq!(desk.ask(maintain(Some("nope"), true, "")), Some(unknown));
    assert_eq!(desk.ask(maintain(None, true, "first")), Some(Ok(())));
    assert_eq!(desk.ask(maintain(None, true, "second")), Some(Ok(())));
    let mut desk = desk.restart(SECOND, Definitions::default());
    let check = desk.view.check("_node_maintenance").unwrap();
    assert_eq!((&*check.def.notes, check.def.status), ("first", Status::Critical));
    assert_eq!(
        (&*check.def.name, &*check.def.kind),
        ("Node Maintenance Mode", "maintenance")
    );
    assert_eq!(desk.ask(maintain(None, false, "")), Some(Ok(())));
    assert_eq!(desk.ask(maintain(None, false, "")), Some(Ok(())));
    assert!(desk.view.checks.is_empty());
    assert!(
        desk.restart(SECOND, Definitions::default())
            .view
            .checks
            .is_empty()
    );
}

#[test]
fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let mut desk = Desk::new();
    let mut ask = |spec| {
        let request = Request::RegisterService {
            spec: Box::new(spec),
            replace_checks: false,
        };
        match desk.ask(request) {
            Some(Err(Error::Invalid(what))) => what,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(ask(service("", vec![])), "Missing service name");
    assert_eq!(
        ask(service("web", vec![ttl("", 0)])),
        "Invalid check: TTL must be > 0 for TTL checks"
    );
    assert_eq!(
        ask(service("web", vec![tcp("", 0)])),
        "Invalid check: Interval must be > 0 for Script, HTTP, or TCP checks"
    );
    let mut nowhere = service("web", vec![]);
    nowhere.def.address = "0.0.0.0".into();
    assert_eq!(ask(nowhere), "Invalid service address");
    let mut twice = ttl("", 1);
    twice.id = "a".into();
    assert!(ask(service("web", vec![twice.clone(), twice])).contains("two checks have the ID"));
    let mut orphan = ttl("orphan", 1);
    orphan.service_id = "nope".into();
    let answer = desk.ask(Request::RegisterCheck(Box::new(orphan)));
    assert_eq!(answer, Some(Err(Error::NoServiceOfCheck("nope".to_owned()))));
    assert_eq!(
        desk.tell("nope", Status::Passing, ""),
        Err(Error::NotTtl("nope".to_owned()))
    );
    assert!(desk.view.services.is_empty() && desk.view.checks.is_empty());
}

#[test]
fn there_are_only_so_many() {
    let mut settings = config(3);
    settings.services_max = 2;
    settings.checks_max = 2;
    let mut desk = Desk::start(
        settings,
        Memory::default(),
        Definitions::default(),
        Instant::ZERO,
        Catalog::new(),
    );
    desk.register(service("a", vec![ttl("", 1)]));
    desk.register(service("b", vec![]));
    desk.register(service("b", vec![]));
    let third = Request::RegisterService {
        spec: Box::new(service("c", vec![])),
        replace_checks: false,
    };
    assert!(matches!(desk.ask(third), Some(Err(Error::Full { limit: 2, .. }))));
    desk.register_check(ttl("x", 1));
    let third = Request::RegisterCheck(Box::new(ttl("y", 1)));
    assert!(matches!(desk.ask(third), Some(Err(Error::Full { limit: 2, .. }))));
}

#[test]
fn an_address_is_known_by_its_family() {
    let mut desk = Desk::new();
    let mut spec = service("web", vec![]);
    spec.def.address = "10.1.1.1".into();
    desk.register(spec);
    let def = desk.view.service("web").unwrap().def.clone();
    let names: Vec<&str> = def.tagged_addresses.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["lan_ipv4", "wan_ipv4"]);
    assert_eq!(def.tagged_addresses.get("lan_ipv4").unwrap().port, 80);
}

#[test]
fn the_hash_of_a_service_changes_with_it_and_only_then() {
    let mut desk = Desk::new();
    desk.register(service("web", vec![ttl("", 10)]));
    let hash = |desk: &Desk| desk.view.service("web").unwrap().hash;
    let before = hash(&desk);
    desk.tell("service:web", Status::Passing, "").unwrap();
    desk.register(service("web", vec![]));
    assert_eq!(hash(&desk), before);
    let mut other = service("web", vec![]);
    other.def.port = 81;
    desk.register(other);
    assert_ne!(hash(&desk), before);
}

#[test]
fn files_say_what_they_say_now_and_requests_stay() {
    let files = |names: &[&str]| Definitions {
        services: names
            .iter()
            .map(|name| service(name, vec![ttl("", 60)]))
            .collect(),
        checks: vec![alias("watcher", "")],
    };
    let mut desk = Desk::start(
        config(3),
        Memory::default(),
        files(&["a", "b"]),
        Instant::ZERO,
        Catalog::new(),
    );
    desk.register(service("mine", vec![]));
    desk.tell("service:a", Status::Passing, "ok").unwrap();
    assert_eq!(
        desk.ask(Request::SetDefinitions(files(&["a", "c"]))),
        Some(Ok(()))
    );
    let ids: Vec<&str> = desk.view.services.iter().map(|(id, _)| &**id).collect();
    assert_eq!(ids, ["a", "c", "mine"]);
    assert_eq!(desk.status("service:a"), Status::Passing);
    let mut wrong = files(&["x"]);
    wrong.checks.push(ttl("", 1));
    assert!(matches!(
        desk.ask(Request::SetDefinitions(wrong)),
        Some(Err(Error::Invalid(_)))
    ));
    let mut orphan = files(&["x"]);
    orphan.checks.push(ttl("orphan", 1));
    orphan.checks[1].service_id = "a".into();
    assert_eq!(
        desk.ask(Request::SetDefinitions(orphan)),
        Some(Err(Error::NoServiceOfCheck("a".to_owned())))
    );
    assert_eq!(desk.view.services.len(), 3);
    assert_eq!(
        desk.ask(Request::SetDefinitions(Definitions::default())),
        Some(Ok(()))
    );
    assert_eq!((desk.view.services.len(), desk.view.checks.len()), (1, 0));
    desk.run(SECOND);
    desk.assert_in_sync();
    // The disk holds what was requested, and no more; a file with the same name wins.
    let desk = desk.restart(SECOND, files(&["mine"]));
    assert_eq!((desk.view.services.len(), desk.view.checks.len()), (1, 2));
    let desk = desk.restart(SECOND, Definitions::default());
    assert!(desk.view.services.is_empty());
}
