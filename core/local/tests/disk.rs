//! A disk that is full, or slow: nobody is told that something is durable which is not, and in the end the disk has everything.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod desk;

use std::time::Duration;

use desk::{Desk, service, ttl};
use lictor_catalog::{Status, Text};
use lictor_local::{Definitions, Error, Input, RecordKey, Request};

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
