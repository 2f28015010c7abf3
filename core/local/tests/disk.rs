//! A disk that is full, or slow: nobody is told that something is durable which is not, and in the end the disk has everything.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod desk;

use std::sync::Arc;
use std::time::Duration;

use desk::{Desk, service, ttl};
use lictor_catalog::{Status, Text};
use lictor_local::{CheckMethod, CheckSpec, Definitions, Error, Event, Input, Probe, RecordKey, Request};

const SECOND: Duration = Duration::from_secs(1);

fn register(name: &str) -> Request {
    Request::RegisterService {
        spec: Box::new(service(name, vec![])),
        replace_checks: false,
    }
}

fn deregister(name: &str) -> Request {
    Request::DeregisterService(name.into())
}

fn not_saved() -> Result<(), Error> {
    Err(Error::NotSaved("no space".to_owned()))
}

fn maintain(enable: bool) -> Request {
    Request::Maintain {
        service: None,
        enable,
        reason: Text::default(),
    }
}

#[test]
fn what_a_full_disk_did_not_take_is_not_said_to_be_durable_when_it_is_asked_for_again() {
    let mut desk = Desk::new();
    desk.full = true;
    for request in [register("web"), maintain(true)] {
        assert_eq!(desk.ask(request.clone()), Some(not_saved()));
        assert_eq!(desk.ask(request), Some(not_saved()));
    }
    desk.full = false;
    assert_eq!(desk.ask(maintain(true)), Some(Ok(())));
    let desk = desk.restart(SECOND, Definitions::default());
    assert!(desk.view.service("web").is_some(), "the next write took it along");
    assert_eq!(desk.status("_node_maintenance"), Status::Critical);
}

#[test]
fn what_was_removed_while_the_disk_was_full_does_not_come_back_once_it_was_said_to_be_gone() {
    let mut desk = Desk::new();
    desk.register(service("web", vec![ttl("", 60)]));
    desk.full = true;
    assert_eq!(desk.ask(deregister("web")), Some(not_saved()));
    assert_eq!(desk.ask(deregister("web")), Some(not_saved()));
    desk.full = false;
    assert_eq!(desk.ask(deregister("web")), Some(Ok(())));
    let desk = desk.restart(SECOND, Definitions::default());
    assert!(desk.view.services.is_empty() && desk.view.checks.is_empty());
}

#[test]
fn once_there_is_space_again_everything_is_written_without_being_asked_for() {
    let mut desk = Desk::new();
    desk.full = true;
    assert_eq!(desk.ask(register("web")), Some(not_saved()));
    assert_eq!(desk.ask(register("passing")), Some(not_saved()));
    assert_eq!(desk.ask(deregister("passing")), Some(not_saved()));
    desk.full = false;
    desk.run(40 * SECOND);
    let services: Vec<_> = desk
        .disk
        .keys()
        .filter(|key| matches!(key, RecordKey::Service(_)))
        .collect();
    assert_eq!(services, [&RecordKey::Service("web".into())]);
}

#[test]
fn who_asks_for_what_is_just_being_written_waits_for_it_too() {
    let mut desk = Desk::new();
    desk.register(service("web", vec![ttl("alive", 60)]));
    desk.held = Some(Vec::new());
    assert_eq!(desk.ask(deregister("web")), None);
    assert_eq!(
        desk.ask(deregister("web")),
        None,
        "nothing has changed, and it is not durable"
    );
    let answered = desk.answers.len();
    let held = desk.held.take().unwrap();
    desk.input(Input::Saved {
        id: held[0],
        result: Ok(()),
    });
    assert_eq!(desk.answers.len(), answered + 2);
}

#[test]
fn a_status_that_is_told_waits_for_no_disk() {
    let mut desk = Desk::new();
    desk.register(service("web", vec![ttl("alive", 60)]));
    desk.full = true;
    assert_eq!(desk.ask(register("db")), Some(not_saved()));
    assert_eq!(desk.tell("service:web", Status::Passing, "fine"), Ok(()));
    desk.run(5 * SECOND);
    desk.full = false;
    desk.run(40 * SECOND);
    let desk = desk.restart(SECOND, Definitions::default());
    assert_eq!(desk.status("service:web"), Status::Passing);
}

#[test]
fn a_crash_right_after_a_change_of_status_brings_the_former_one_back_to_nobody() {
    let mut desk = Desk::new();
    desk.register(service("web", vec![ttl("alive", 60)]));
    for status in [Status::Passing, Status::Critical, Status::Passing] {
        assert_eq!(desk.tell("service:web", status, ""), Ok(()));
        // No time passes between what is told and the crash.
        desk = desk.restart(SECOND, Definitions::default());
        assert_eq!(desk.status("service:web"), status);
        desk.run(SECOND);
        let there = desk.check_in_catalog("service:web").unwrap();
        assert_eq!(there.def.status, status);
    }
}

#[test]
fn programs_that_were_registered_are_left_out_while_that_is_not_allowed() {
    let script = CheckSpec {
        name: "script".into(),
        method: CheckMethod::Probe {
            probe: Arc::new(Probe::Script {
                args: vec!["true".to_owned()],
            }),
            interval: SECOND,
            timeout: None,
        },
        ..CheckSpec::default()
    };
    let mut desk = Desk::new();
    desk.register(service("web", vec![ttl("alive", 60)]));
    desk.register_check(script);
    desk.config.programs_from_requests = false;
    let mut desk = desk.restart(SECOND, Definitions::default());
    desk.run(10 * SECOND);
    assert!(desk.view.check("script").is_none() && desk.view.check("service:web").is_some());
    assert!(desk.runs.is_empty());
    assert!(desk.events.iter().any(|event| matches!(event, Event::Trouble(_))));
    // Whoever allows it again has it back.
    desk.config.programs_from_requests = true;
    let desk = desk.restart(SECOND, Definitions::default());
    assert!(desk.view.check("script").is_some());
}

#[test]
fn files_may_check_what_was_registered() {
    let mut desk = Desk::new();
    desk.register(service("web", Vec::new()));
    let definitions = Definitions {
        checks: vec![CheckSpec {
            service_id: "web".into(),
            ..ttl("of the files", 60)
        }],
        ..Definitions::default()
    };
    assert_eq!(
        desk.ask(Request::SetDefinitions(definitions.clone())),
        Some(Ok(()))
    );
    // What a reload takes, a start takes.
    let desk = desk.restart(SECOND, definitions);
    assert_eq!(&*desk.view.check("of the files").unwrap().service_name, "web");
}
