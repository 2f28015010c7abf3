//! What checks find, and what follows from it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod desk;

use std::time::Duration;

use desk::{Catalog, Desk, alias, config, named, service, tcp, ttl};
use lictor_catalog::{CheckDef, NodeDef, Registration, Status, Text};
use lictor_local::{CheckMethod, CheckSpec, Definitions, Event, Memory, Request, Thresholds};
use lictor_machine::Instant;

const SECOND: Duration = Duration::from_secs(1);

use Status::{Critical, Passing, Warning};

#[test]
fn who_is_not_told_in_time_is_critical() {
    let mut desk = Desk::new();
    desk.register_check(ttl("beat", 10));
    assert_eq!(desk.status("beat"), Critical);
    desk.run(11 * SECOND);
    assert_eq!(desk.output("beat"), "TTL expired");
    desk.tell("Beat", Warning, "so so").unwrap();
    desk.run(9 * SECOND);
    assert_eq!(desk.status("beat"), Warning);
    desk.tell("beat", Passing, "fine").unwrap();
    desk.run(9 * SECOND);
    assert_eq!(desk.status("beat"), Passing);
    desk.run(SECOND);
    assert_eq!(desk.status("beat"), Critical);
    assert_eq!(
        desk.output("beat"),
        "TTL expired (last output before timeout follows): fine"
    );
    desk.run(SECOND);
    desk.assert_in_sync();
}

#[test]
fn output_is_cut_where_letters_end() {
    let mut settings = config(3);
    settings.output_max = 5;
    let start = |settings| {
        Desk::start(
            settings,
            Memory::default(),
            Definitions::default(),
            Instant::ZERO,
            Catalog::new(),
        )
    };
    let mut desk = start(settings.clone());
    desk.register_check(ttl("beat", 10));
    desk.tell("beat", Passing, "abcdéfg").unwrap();
    assert_eq!(desk.output("beat"), "abcd ... (captured 4 of 8 bytes)");
    settings.discard_output = true;
    let mut desk = start(settings);
    desk.register_check(ttl("beat", 10));
    desk.tell("beat", Passing, "abc").unwrap();
    assert_eq!((desk.status("beat"), desk.output("beat").as_str()), (Passing, ""));
}

/// A check that fails from its start has never another status; that it fails is said all the same, once.
#[test]
fn the_first_result_is_said_also_if_it_is_what_was_assumed() {
    let mut desk = Desk::new();
    desk.register_check(ttl("beat", 10));
    desk.tell("beat", Critical, "refused").unwrap();
    desk.tell("beat", Critical, "refused again").unwrap();
    desk.tell("beat", Passing, "fine").unwrap();
    let said = desk
        .events
        .iter()
        .filter(|event| matches!(event, Event::Confirmed { .. } | Event::StatusChanged { .. }));
    let wanted = [
        Event::Confirmed {
            check: "beat".into(),
            status: Critical,
            output: "refused".into(),
        },
        Event::StatusChanged {
            check: "beat".into(),
            from: Critical,
            to: Passing,
            output: "fine".into(),
        },
    ];
    assert!(said.eq(&wanted), "{:?}", desk.events);
}

/// A program may fail without a word, and say something later; and no output at all may be wanted.
#[test]
fn the_first_result_is_said_also_if_it_has_no_output() {
    let confirmed = |desk: &Desk| {
        let mut first = Vec::new();
        for event in &desk.events {
            if let Event::Confirmed {
                check,
                status,
                output,
            } = event
            {
                first.push((check.clone(), *status, output.clone()));
            }
        }
        first
    };
    let silent = [(Text::from("beat"), Critical, Text::default())];
    let mut desk = Desk::new();
    desk.register_check(ttl("beat", 10));
    desk.tell("beat", Critical, "").unwrap();
    assert_eq!(confirmed(&desk), silent);
    for output in ["", "refused", "", "refused again"] {
        desk.tell("beat", Critical, output).unwrap();
    }
    // The same check once more keeps what is known of it.
    desk.register_check(ttl("beat", 10));
    desk.tell("beat", Critical, "").unwrap();
    assert_eq!(confirmed(&desk), silent, "there is one first result");
    // As another one it has another first result.
    desk.register_check(tcp("beat", 10));
    desk.run(10 * SECOND);
    desk.probed("beat", Critical);
    assert_eq!(confirmed(&desk).len(), 2, "{:?}", desk.events);

    let mut settings = config(3);
    settings.discard_output = true;
    let mut desk = Desk::start(
        settings,
        Memory::default(),
        Definitions::default(),
        Instant::ZERO,
        Catalog::new(),
    );
    desk.register_check(ttl("beat", 10));
    for output in ["refused", "refused again"] {
        desk.tell("beat", Critical, output).unwrap();
    }
    assert_eq!(confirmed(&desk), silent);
}

/// Has a check with these thresholds find these things; returns how it was after each.
fn statuses(thresholds: Thresholds, found: &[Status]) -> Vec<Status> {
    let mut desk = Desk::new();
    desk.register_check(CheckSpec {
        thresholds,
        ..tcp("probe", 10)
    });
    let seen = found.iter().map(|status| {
        desk.run(10 * SECOND);
        desk.probed("probe", *status);
        desk.status("probe")
    });
    seen.collect()
}

#[test]
fn results_count_when_there_are_enough_of_them() {
    let none = Thresholds::default();
    assert_eq!(
        statuses(none, &[Passing, Critical, Warning, Critical]),
        [Passing, Critical, Warning, Critical]
    );
    let three = Thresholds {
        success_before_passing: 3,
        failures_before_warning: None,
        failures_before_critical: 3,
    };
    // The first result counts whatever it is.
    assert_eq!(
        statuses(
            three,
            &[Passing, Critical, Critical, Passing, Critical, Critical, Critical]
        ),
        [Passing, Passing, Passing, Passing, Passing, Passing, Critical]
    );
    assert_eq!(
        statuses(
            three,
            &[Critical, Passing, Warning, Critical, Passing, Passing, Passing]
        ),
        [
            Critical, Critical, Critical, Critical, Critical, Critical, Passing
        ]
    );
    let warned = Thresholds {
        success_before_passing: 0,
        failures_before_warning: Some(2),
        failures_before_critical: 3,
    };
    assert_eq!(
        statuses(warned, &[Passing, Critical, Critical, Critical]),
        [Passing, Passing, Warning, Critical]
    );
}

#[test]
fn a_first_look_comes_at_once_and_the_next_an_interval_after_its_end() {
    let mut desk = Desk::new();
    desk.register(service("web", vec![tcp("", 30)]));
    desk.run(Duration::from_millis(250));
    assert_eq!(desk.runs.len(), 1);
    desk.run(8 * SECOND);
    desk.probed("service:web", Passing);
    desk.assert_in_sync();
    desk.run(29 * SECOND);
    assert!(desk.runs.is_empty());
    desk.run(SECOND);
    assert_eq!(desk.runs.len(), 1);
    // Registered again as it is, it goes on as it was.
    desk.register(service("web", vec![tcp("", 30)]));
    assert_eq!((desk.runs.len(), desk.stopped.len()), (1, 0));
    // Another way of looking ends the run.
    desk.register(service("web", vec![tcp("", 31)]));
    assert_eq!((desk.runs.len(), desk.stopped.len()), (0, 1));
    assert_eq!(desk.status("service:web"), Passing);
    desk.run(10 * SECOND);
    desk.ask(Request::DeregisterService("web".into()));
    assert_eq!((desk.runs.len(), desk.stopped.len()), (0, 2));
}

#[test]
fn a_look_that_does_not_come_back_has_failed() {
    let mut desk = Desk::new();
    desk.register_check(tcp("probe", 10));
    desk.run(14 * SECOND);
    assert!(desk.stopped.is_empty());
    desk.run(2 * SECOND);
    assert_eq!(desk.stopped.len(), 1);
    assert_eq!(desk.output("probe"), "Timed out (10s) running check");
    desk.run(10 * SECOND);
    desk.probed("probe", Passing);
    assert_eq!(desk.status("probe"), Passing);
}

#[test]
fn only_so_many_look_at_once_and_everybody_has_a_turn() {
    let mut settings = config(3);
    settings.probes_max = 4;
    let mut desk = Desk::start(
        settings,
        Memory::default(),
        Definitions::default(),
        Instant::ZERO,
        Catalog::new(),
    );
    for number in 0..20 {
        desk.register_check(tcp(&format!("c{number:02}"), 60));
    }
    desk.run(SECOND);
    for _ in 0..20 {
        assert!(desk.runs.len() <= 4);
        let next = desk.runs[0].1.clone();
        desk.probed(&next, Passing);
    }
    assert!(desk.runs.is_empty());
    assert!(
        desk.view
            .checks
            .iter()
            .all(|(_, check)| check.def.status == Passing)
    );
}

#[test]
fn durations_that_are_too_short_are_raised() {
    let mut desk = Desk::new();
    let mut hasty = tcp("probe", 1);
    if let CheckMethod::Probe { interval, .. } = &mut hasty.method {
        *interval = Duration::from_millis(10);
    }
    hasty.deregister_after = SECOND;
    desk.register_check(hasty);
    let raised = desk
        .events
        .iter()
        .filter(|event| matches!(event, Event::Raised { .. }));
    assert_eq!(raised.count(), 2);
    let spec = desk.view.check("probe").unwrap().spec.clone();
    assert_eq!(spec.deregister_after, Duration::from_mins(1));
    assert!(matches!(spec.method, CheckMethod::Probe { interval, .. } if interval == SECOND));
}

#[test]
fn output_alone_is_written_later_and_once() {
    let mut desk = Desk::new();
    desk.register_check(ttl("beat", 100));
    desk.tell("beat", Passing, "0").unwrap();
    desk.run(SECOND);
    let writes = desk.writes;
    for number in 1..=100 {
        desk.tell("beat", Passing, &number.to_string()).unwrap();
        desk.run(SECOND);
    }
    assert_eq!(desk.writes, writes);
    desk.run(50 * SECOND);
    for _ in 0..30 {
        desk.tell("beat", Passing, "last").unwrap();
        desk.run(10 * SECOND);
    }
    assert_eq!(&*desk.check_in_catalog("beat").unwrap().def.output, "last");
    assert!(desk.writes <= writes + 2);
    // Another status goes at once.
    desk.tell("beat", Warning, "oh").unwrap();
    desk.assert_in_sync();
}

#[test]
fn what_is_critical_for_too_long_is_removed() {
    let mut desk = Desk::new();
    let check = CheckSpec {
        deregister_after: Duration::from_mins(2),
        ..ttl("", 30)
    };
    desk.register(service("web", vec![check]));
    desk.tell("service:web", Passing, "").unwrap();
    desk.run(Duration::from_secs(145));
    desk.tell("service:web", Passing, "").unwrap();
    desk.run(Duration::from_secs(149));
    assert!(desk.view.service("web").is_some());
    desk.run(2 * SECOND);
    assert!(desk.view.service("web").is_none());
    assert!(
        desk.events
            .iter()
            .any(|event| matches!(event, Event::Reaped { .. }))
    );
    desk.assert_in_sync();
}

#[test]
fn an_alias_is_as_well_as_the_worst() {
    let mut desk = Desk::new();
    desk.register(service("db", vec![ttl("one", 3600), ttl("two", 3600)]));
    desk.register_check(alias("shadow", "DB"));
    assert_eq!(desk.output("shadow"), "Aliased check \"one\" failing: ");
    desk.tell("service:db:1", Passing, "").unwrap();
    desk.tell("service:db:2", Warning, "slow").unwrap();
    assert_eq!(desk.status("shadow"), Warning);
    assert_eq!(desk.output("shadow"), "Aliased check \"two\" failing: slow");
    desk.tell("service:db:2", Passing, "").unwrap();
    assert_eq!(desk.output("shadow"), "All checks passing.");
    let maintain = |enable| Request::Maintain {
        service: None,
        enable,
        reason: Text::default(),
    };
    desk.ask(maintain(true));
    assert_eq!(desk.status("shadow"), Critical);
    desk.ask(maintain(false));
    assert_eq!(desk.status("shadow"), Passing);
    desk.ask(Request::DeregisterService("db".into()));
    assert_eq!(
        desk.output("shadow"),
        "Service db could not be found on node here"
    );
    desk.register(service("db", vec![]));
    assert_eq!(desk.status("shadow"), Passing);
    desk.run(SECOND);
    desk.assert_in_sync();
}

#[test]
fn aliases_of_each_other_recover() {
    let mut desk = Desk::new();
    let of = |service: &str| {
        vec![
            ttl("", 3600),
            CheckSpec {
                id: format!("alias-of-{service}").into(),
                ..alias("", service)
            },
        ]
    };
    desk.register(service("a", of("b")));
    desk.register(service("b", of("c")));
    desk.register(service("c", of("a")));
    let told = ["service:a:1", "service:b:1", "service:c:1"];
    for check in told {
        desk.tell(check, Passing, "").unwrap();
    }
    let aliases = ["alias-of-a", "alias-of-b", "alias-of-c"];
    assert!(aliases.iter().all(|id| desk.status(id) == Passing));
    desk.tell("service:c:1", Critical, "down").unwrap();
    assert_eq!(desk.status("alias-of-c"), Critical);
    assert_eq!(desk.status("alias-of-b"), Critical);
    desk.tell("service:c:1", Passing, "").unwrap();
    assert!(aliases.iter().all(|id| desk.status(id) == Passing));
}

#[test]
fn an_alias_of_something_elsewhere_asks_the_catalog() {
    let mut desk = Desk::new();
    desk.register_check(CheckSpec {
        method: CheckMethod::Alias {
            node: "there".into(),
            service: "db".into(),
        },
        ..alias("far", "db")
    });
    desk.run(SECOND);
    assert_eq!(desk.output("far"), "Service db could not be found on node there");
    let check = |status| CheckDef {
        id: "c".into(),
        name: "c".into(),
        status,
        service_id: "db".into(),
        ..CheckDef::default()
    };
    let mut say = |status| {
        let registration = Registration {
            node: NodeDef {
                name: "there".into(),
                address: "10.0.0.9".into(),
                ..NodeDef::default()
            },
            service: Some(service("db", vec![]).def),
            checks: vec![check(status)],
            ..Registration::default()
        };
        desk.catalog
            .apply(lictor_catalog::Action::Register(Box::new(registration)));
        desk.run(11 * SECOND);
        desk.status("far")
    };
    assert_eq!(
        [say(Passing), say(Warning), say(Passing)],
        [Passing, Warning, Passing]
    );
    desk.reachable = false;
    desk.run(60 * SECOND);
    assert_eq!(desk.status("far"), Passing);
}

#[test]
fn a_restart_forgets_nothing_that_is_fresh() {
    let mut desk = Desk::new();
    desk.register(service("web", vec![ttl("", 30), tcp("", 60)]));
    desk.run(SECOND);
    desk.tell("service:web:1", Passing, "alive").unwrap();
    desk.probed("service:web:2", Passing);
    desk.run(5 * SECOND);
    let mut desk = desk.restart(20 * SECOND, Definitions::default());
    assert_eq!(
        (desk.status("service:web:1"), desk.status("service:web:2")),
        (Passing, Passing)
    );
    assert_eq!(desk.output("service:web:1"), "alive");
    desk.run(9 * SECOND);
    assert_eq!(desk.writes, 0);
    desk.assert_in_sync();
    // After an hour it says nothing any more.
    let desk = desk.restart(Duration::from_hours(1), Definitions::default());
    assert_eq!(
        (desk.status("service:web:1"), desk.status("service:web:2")),
        (Critical, Critical)
    );
}

#[test]
fn after_a_restart_a_single_failure_is_as_little_as_before() {
    let mut desk = Desk::new();
    let thresholds = Thresholds {
        success_before_passing: 0,
        failures_before_warning: None,
        failures_before_critical: 2,
    };
    desk.register_check(CheckSpec {
        thresholds,
        ..tcp("probe", 10)
    });
    desk.run(SECOND);
    desk.probed("probe", Passing);
    desk.run(5 * SECOND);
    let mut desk = desk.restart(SECOND, Definitions::default());
    desk.run(10 * SECOND);
    desk.probed("probe", Critical);
    assert_eq!(desk.status("probe"), Passing);
    desk.run(10 * SECOND);
    desk.probed("probe", Critical);
    assert_eq!(desk.status("probe"), Critical);
}

/// A thousand agents with ten services each, restarted one after another, without a warning to any of them.
#[test]
fn a_rolling_restart_turns_nothing_critical_for_any_reader() {
    let mut catalog = Catalog::new();
    for agent in 0..1000_u64 {
        let settings = named(&format!("agent-{agent}"), agent + 1);
        let files = || Definitions {
            services: (0..5)
                .map(|number| service(&format!("file-{number}"), vec![tcp("", 10)]))
                .collect(),
            checks: Vec::new(),
        };
        let mut desk = Desk::start(settings, Memory::default(), files(), Instant::ZERO, catalog);
        desk.finds = Some(Passing);
        for number in 0..5 {
            desk.register(service(&format!("service-{number}"), vec![tcp("", 10)]));
        }
        desk.run(15 * SECOND);
        assert_eq!(desk.view.checks.len(), 10);
        let mut desk = desk.restart(10 * SECOND, files());
        desk.run(30 * SECOND);
        let bad = desk.written.iter().find(|(_, status)| *status != Passing);
        assert_eq!(bad, None, "agent {agent}");
        assert_eq!(desk.writes, 0);
        desk.assert_in_sync();
        catalog = desk.catalog;
    }
}

#[test]
fn a_check_that_expires_again_after_a_restart_says_the_same() {
    let mut desk = Desk::new();
    desk.register(service("web", vec![ttl("", 60)]));
    desk.register(service("db", vec![ttl("", 60)]));
    desk.tell("service:web", Passing, "fine").unwrap();
    for _ in 0..3 {
        desk.run(150 * SECOND);
        assert_eq!(desk.status("service:web"), Critical);
        assert_eq!(
            desk.output("service:web"),
            "TTL expired (last output before timeout follows): fine"
        );
        assert_eq!(desk.output("service:db"), "TTL expired");
        desk = desk.restart(SECOND, Definitions::default());
    }
}
