//! Registrations come and go, and the catalog follows.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod desk;

use std::time::Duration;

use desk::{Catalog, Desk, alias, config, service, tcp, ttl};
use lictor_catalog::{
    Action, CatalogChange, CheckDef, Deregistration, Outcome, Removal, ServiceDef, Status, Tags, Text,
};
use lictor_local::{Definitions, Error, Event, Input, Memory, RecordError, Request, SERF_HEALTH};
use lictor_machine::{Instant, Machine};

const SECOND: Duration = Duration::from_secs(1);

fn removal(id: &str) -> Request {
    Request::DeregisterService(id.into())
}

#[test]
fn a_service_and_its_checks_are_in_the_catalog_at_once() {
    let mut desk = Desk::new();
    desk.run(SECOND);
    let writes = desk.writes;
    desk.register(service("web", vec![ttl("", 10), ttl("mine", 10)]));
    assert_eq!(desk.writes, writes + 1);
    desk.assert_in_sync();
    let ids: Vec<&str> = desk.view.checks.iter().map(|(id, _)| &**id).collect();
    assert_eq!(ids, ["service:web:1", "service:web:2"]);
    let check = desk.view.check("SERVICE:web:1").unwrap();
    assert_eq!(
        (&*check.def.name, &*check.def.kind),
        ("Service 'web' check", "ttl")
    );
    assert_eq!(
        (&*check.service_name, check.def.status),
        ("web", Status::Critical)
    );
    desk.ask(removal("Web"));
    desk.run(SECOND);
    desk.assert_in_sync();
    assert_eq!(desk.view.services.len() + desk.view.checks.len(), 0);
}

#[test]
fn one_check_is_named_after_its_service_alone() {
    let mut desk = Desk::new();
    desk.register(service("web", vec![ttl("", 10)]));
    assert!(desk.view.check("service:web").is_some());
}

#[test]
fn a_thousand_services_are_a_few_writes() {
    let mut desk = Desk::new();
    let writes = desk.writes;
    desk.reachable = false;
    for number in 0..1000 {
        desk.register(service(&format!("s{number:04}"), vec![ttl("", 3600)]));
    }
    desk.reachable = true;
    desk.input(Input::ServersFound);
    desk.run(10 * SECOND);
    desk.assert_in_sync();
    let writes = desk.writes - writes;
    assert!(writes <= 6, "{writes} writes");
}

#[test]
fn what_others_wrote_is_undone_but_for_what_is_theirs() {
    let mut desk = Desk::new();
    let mut open = service("open", vec![]);
    open.def.enable_tag_override = true;
    desk.register(service("web", vec![ttl("", 3600)]));
    desk.register(open.clone());
    desk.run(SECOND);
    let foreign = |name: &str| ServiceDef {
        id: name.into(),
        name: name.into(),
        ..ServiceDef::default()
    };
    desk.interfere(Some(foreign("ghost")), vec![]);
    desk.interfere(
        Some(ServiceDef {
            port: 9,
            ..service("web", vec![]).def
        }),
        vec![],
    );
    let tags = Tags::from([Text::from("theirs")]);
    desk.interfere(
        Some(ServiceDef {
            id: "open".into(),
            tags: tags.clone(),
            ..open.def
        }),
        vec![],
    );
    let check = |id: &str| CheckDef {
        id: id.into(),
        name: id.into(),
        ..CheckDef::default()
    };
    desk.interfere(None, vec![check("ghostly"), check(SERF_HEALTH)]);
    desk.run(200 * SECOND);
    assert!(desk.service_in_catalog("ghost").is_none());
    assert_eq!(desk.service_in_catalog("web").unwrap().def.port, 80);
    assert_eq!(desk.service_in_catalog("open").unwrap().def.tags, tags);
    assert_eq!(desk.view.service("open").unwrap().def.tags, tags);
    assert!(desk.check_in_catalog("ghostly").is_none());
    assert!(desk.check_in_catalog(SERF_HEALTH).is_some());
    let removed = |event: &Event| matches!(event, Event::Removed { ids } if ids.len() == 2);
    assert!(desk.events.iter().any(removed), "{:?}", desk.events);
}

#[test]
fn the_service_of_the_servers_is_the_leaders() {
    let mut settings = config(3);
    settings.server = true;
    let mut desk = Desk::start(
        settings,
        Memory::default(),
        Definitions::default(),
        Instant::ZERO,
        Catalog::new(),
    );
    desk.interfere(
        Some(ServiceDef {
            id: "consul".into(),
            name: "consul".into(),
            ..ServiceDef::default()
        }),
        vec![],
    );
    desk.run(200 * SECOND);
    assert!(desk.service_in_catalog("consul").is_some());
}

#[test]
fn a_wiped_catalog_is_mended() {
    let mut desk = Desk::new();
    desk.register(service("web", vec![ttl("", 3600)]));
    desk.register(service("db", vec![]));
    desk.run(SECOND);
    desk.catalog = Catalog::new();
    // A status that changes before anybody notices brings its service along.
    desk.tell("service:web", Status::Passing, "").unwrap();
    desk.run(SECOND);
    assert!(desk.service_in_catalog("web").is_some());
    desk.run(200 * SECOND);
    desk.assert_in_sync();
}

#[test]
fn a_node_that_was_described_otherwise_is_put_right() {
    let mut desk = Desk::new();
    desk.run(SECOND);
    desk.config.node.address = "192.0.2.9".into();
    desk.ask(Request::SetNode(desk.config.node.clone()));
    desk.run(SECOND);
    desk.assert_in_sync();
    let gone = Deregistration {
        node: desk::NODE.into(),
        what: Removal::Node,
    };
    desk.catalog
        .apply(Action::RegisterMany(vec![CatalogChange::Deregister(gone)]));
    desk.run(200 * SECOND);
    desk.assert_in_sync();
}

#[test]
fn in_calm_nothing_is_written_and_a_large_cluster_compares_less_often() {
    let mut desk = Desk::new();
    desk.register(service("web", vec![]));
    desk.run(300 * SECOND);
    let (writes, reads) = (desk.writes, desk.reads);
    desk.run(3600 * SECOND);
    assert_eq!(desk.writes, writes);
    let small = desk.reads - reads;
    assert!((30..=60).contains(&small), "{small}");
    desk.local.set_cluster_size(1000);
    desk.run(3600 * SECOND);
    let large = desk.reads - reads - small;
    assert!((6..=17).contains(&large), "{large}");
}

#[test]
fn a_refused_service_keeps_nobody_else_back() {
    let mut desk = Desk::new();
    desk.reachable = false;
    for number in 0..20 {
        let mut spec = service(&format!("s{number:02}"), vec![ttl("", 3600)]);
        if number == 7 {
            let long = Text::from("x".repeat(lictor_catalog::MAX_TEXT_BYTES + 1));
            spec.def.meta = [("key", long)].into_iter().collect();
        }
        desk.register(spec);
    }
    desk.reachable = true;
    desk.input(Input::ServersFound);
    desk.run(30 * SECOND);
    let node = desk.catalog.node(desk::NODE).unwrap();
    // And with them the check of the node.
    assert_eq!((node.services.len(), node.checks.len()), (19, 20));
    let refused = |event: &&Event| matches!(event, Event::Refused { id, .. } if **id == *"s07");
    assert_eq!(desk.events.iter().filter(refused).count(), 1, "{:?}", desk.events);
}

/// The ids of what was refused, in order.
fn refusals(desk: &Desk) -> Vec<&str> {
    let mut refused = Vec::new();
    for event in &desk.events {
        if let Event::Refused { id, .. } = event {
            refused.push(&**id);
        }
    }
    refused
}

#[test]
fn a_refused_check_keeps_neither_its_service_back_nor_other_checks() {
    let mut desk = Desk::new();
    desk.run(SECOND);
    desk.refuses = ["service:web:2".into(), "alone".into()].into();
    desk.register(service("web", vec![ttl("", 3600), ttl("", 3600), ttl("", 3600)]));
    desk.register_check(ttl("alone", 3600));
    desk.run(5 * SECOND);
    assert!(desk.service_in_catalog("web").is_some());
    assert!(desk.check_in_catalog("service:web:1").is_some());
    assert!(desk.check_in_catalog("service:web:2").is_none());
    assert!(desk.check_in_catalog("service:web:3").is_some());
    assert_eq!(refusals(&desk), ["alone", "service:web:2"]);
    // What changes is written with the service as ever; only the one waits.
    desk.tell("service:web:1", Status::Passing, "").unwrap();
    desk.run(5 * SECOND);
    assert_eq!(
        desk.check_in_catalog("service:web:1").unwrap().def.status,
        Status::Passing
    );
    let writes = desk.writes;
    desk.run(300 * SECOND);
    assert_eq!(desk.writes, writes, "it is not asked again and again");
}

#[test]
fn the_checks_of_a_refused_service_come_with_it_once_it_is_taken() {
    let mut desk = Desk::new();
    desk.run(SECOND);
    let mut wrong = service("web", vec![ttl("", 3600), ttl("", 3600)]);
    let long = Text::from("x".repeat(lictor_catalog::MAX_TEXT_BYTES + 1));
    wrong.def.meta = [("key", long)].into_iter().collect();
    desk.register(wrong);
    desk.run(200 * SECOND);
    assert_eq!(refusals(&desk), ["web"]);
    assert!(desk.service_in_catalog("web").is_none());
    desk.register(service("web", vec![]));
    desk.run(SECOND);
    desk.assert_in_sync();
    assert!(desk.check_in_catalog("service:web:2").is_some());
}

#[test]
fn a_node_comes_with_word_of_how_well_it_is() {
    let mut desk = Desk::new();
    let health = |desk: &Desk| desk.check_in_catalog(SERF_HEALTH).map(|check| check.def.status);
    assert_eq!(health(&desk), Some(Status::Passing));
    // What the leader says is never touched.
    let failed = lictor_local::serf_health(Status::Critical);
    desk.interfere(None, vec![failed]);
    desk.config.node.address = "192.0.2.9".into();
    desk.ask(Request::SetNode(desk.config.node.clone()));
    desk.run(200 * SECOND);
    desk.assert_in_sync();
    assert_eq!(health(&desk), Some(Status::Critical));
    // Who describes the node by hand may say nothing of that.
    desk.catalog = Catalog::new();
    desk.interfere(None, vec![]);
    assert_eq!(health(&desk), None);
    desk.run(200 * SECOND);
    desk.assert_in_sync();
    assert_eq!(health(&desk), Some(Status::Passing));
}

#[test]
fn without_servers_it_is_tried_again_and_again_but_not_in_haste() {
    let mut desk = Desk::new();
    desk.reachable = false;
    desk.register(service("web", vec![]));
    desk.run(600 * SECOND);
    let failures = desk
        .events
        .iter()
        .filter(|event| matches!(event, Event::SyncFailed(_)));
    assert_eq!(failures.count(), 1);
    desk.reachable = true;
    desk.run(31 * SECOND);
    desk.assert_in_sync();
}

#[test]
fn servers_that_are_found_in_a_moment_are_no_alarm() {
    let mut desk = Desk::new();
    desk.reachable = false;
    desk.register(service("web", vec![]));
    desk.run(5 * SECOND);
    desk.reachable = true;
    desk.run(31 * SECOND);
    desk.assert_in_sync();
    let alarm = |event: &Event| matches!(event, Event::SyncFailed(_));
    assert!(!desk.events.iter().any(alarm));
    // Each time anew.
    for told in 1..=2 {
        desk.reachable = false;
        desk.register(service("web", vec![]));
        desk.register(service(&format!("other-{told}"), vec![]));
        desk.run(200 * SECOND);
        assert_eq!(desk.events.iter().filter(|event| alarm(event)).count(), told);
        desk.reachable = true;
        desk.run(200 * SECOND);
        desk.assert_in_sync();
    }
}

#[test]
fn who_leaves_writes_nothing_more() {
    let mut desk = Desk::new();
    desk.run(SECOND);
    let writes = desk.writes;
    desk.local.cease();
    desk.register(service("web", vec![]));
    desk.run(300 * SECOND);
    assert_eq!(desk.writes, writes);
}

#[test]
fn an_answer_waits_for_the_disk() {
    let mut desk = Desk::new();
    desk.held = Some(Vec::new());
    let register = |name: &str| Request::RegisterService {
        spec: Box::new(service(name, vec![])),
        replace_checks: false,
    };
    assert_eq!(desk.ask(register("web")), None);
    assert!(desk.view.service("web").is_some());
    let held = desk.held.take().unwrap();
    let (id, result) = (held[0], Err("no space".to_owned()));
    desk.input(Input::Saved { id, result });
    let answer = desk.answers.values().next().unwrap();
    assert_eq!(answer, &Err(Error::NotSaved("no space".to_owned())));
    let again = Input::Saved { id, result: Ok(()) };
    assert!(desk.local.handle(desk::time(desk.now), again).is_err());
    // Without a disk there is nothing to wait for.
    let mut settings = config(3);
    settings.keeps = false;
    let mut desk = Desk::start(
        settings,
        Memory::default(),
        Definitions::default(),
        Instant::ZERO,
        Catalog::new(),
    );
    assert_eq!(desk.ask(register("web")), Some(Ok(())));
    assert!(desk.disk.is_empty());
}

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

#[test]
fn records_that_cannot_be_read_are_named() {
    let mut memory = Memory::default();
    assert_eq!(memory.read(&[]), Err(RecordError::Empty));
    assert_eq!(memory.read(&[9, 1]), Err(RecordError::NewerFormat(9)));
    assert!(matches!(memory.read(&[0]), Err(RecordError::Damaged(_))));
    assert!(matches!(memory.read(&[1, 77]), Err(RecordError::Damaged(_))));
    assert_eq!(memory, Memory::default());
    let mut desk = Desk::new();
    desk.register(service("web", vec![ttl("", 10)]));
    for record in desk.disk.values() {
        for end in 0..record.len() {
            assert!(memory.read(&record[..end]).is_err());
        }
        let mut long = record.to_vec();
        long.push(0);
        assert!(matches!(memory.read(&long), Err(RecordError::Damaged(_))));
        memory.read(record).unwrap();
    }
}

#[test]
fn answers_to_nothing_are_refused() {
    let mut desk = Desk::new();
    let now = desk::time(desk.now);
    let id = lictor_local::AskId(99);
    let answer = Input::Answered {
        id,
        result: Ok(lictor_local::Reply::Written(Outcome::Done(true))),
    };
    assert!(desk.local.handle(now, answer).is_err());
    let probed = Input::Probed {
        run: lictor_local::RunId(99),
        status: Status::Passing,
        output: String::new(),
    };
    assert!(desk.local.handle(now, probed).is_err());
}
