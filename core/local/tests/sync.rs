//! Registrations come and go, and the catalog follows.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod desk;

use std::time::Duration;

use desk::{Catalog, Desk, config, service, ttl};
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
