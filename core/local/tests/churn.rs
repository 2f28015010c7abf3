//! Weeks in the life of an agent: services come and go, the agent is killed, loses its disk, finds no servers, gets no answers; others
//! write on its node; the catalog is wiped. In the calm that follows the catalog is what runs here, no more and no less.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::print_stdout, reason = "a failure is to say its seed")]

mod desk;

use std::time::Duration;

use desk::{Catalog, Desk, alias, config, service, tcp, ttl};
use lictor_catalog::{CheckDef, ServiceDef, Status, Text};
use lictor_local::{CheckSpec, Definitions, Memory, Request};
use lictor_machine::{Instant, Rng};

const DAY: Duration = Duration::from_hours(24);

fn name(rng: &mut Rng) -> String {
    format!("s{}", rng.below(6))
}

fn checks(rng: &mut Rng) -> Vec<CheckSpec> {
    let mut checks = vec![ttl("", 600), tcp("", 30), alias("", &name(rng))];
    checks.truncate(rng.below(4) as usize);
    if rng.chance(1, 2) {
        // The same id on every service: it moves from one to the other.
        checks.push(CheckSpec {
            id: "wanderer".into(),
            deregister_after: Duration::from_mins(5),
            ..ttl("", 300)
        });
    }
    checks
}

fn files(rng: &mut Rng) -> Definitions {
    let mut definitions = Definitions::default();
    for number in 0..rng.below(4) {
        let mut spec = service(&format!("s{}", number * 2), vec![ttl("", 600), tcp("", 60)]);
        spec.def.port = rng.below(3) as u16;
        definitions.services.push(spec);
    }
    if rng.chance(1, 2) {
        definitions.checks.push(alias("whole", ""));
    }
    definitions
}

fn something_happens(mut desk: Desk, rng: &mut Rng) -> Desk {
    let name = name(rng);
    let status = *rng.pick(&Status::ALL).unwrap();
    match rng.below(14) {
        0..=2 => {
            let mut spec = service(&name, checks(rng));
            spec.def.port = rng.below(3) as u16;
            let request = Request::RegisterService {
                spec: Box::new(spec),
                replace_checks: rng.chance(1, 2),
            };
            assert_eq!(desk.ask(request), Some(Ok(())));
        }
        3 => assert_eq!(desk.ask(Request::DeregisterService(name.into())), Some(Ok(()))),
        4 => {
            let check = desk.view.checks.iter().next().map(|(id, _)| id.clone());
            if let Some(check) = check.filter(|_| rng.chance(1, 3)) {
                assert_eq!(desk.ask(Request::DeregisterCheck(check)), Some(Ok(())));
            }
        }
        5 | 6 => {
            let ids: Vec<Text> = desk.view.checks.iter().map(|(id, _)| id.clone()).collect();
            if let Some(id) = rng.pick(&ids) {
                // Checks of other kinds refuse it.
                let _ = desk.tell(id, status, &rng.below(3).to_string());
            }
        }
        7 => {
            let enable = rng.chance(1, 2);
            // One of an unknown service is refused.
            desk.ask(Request::Maintain {
                service: rng.chance(1, 2).then(|| name.into()),
                enable,
                reason: Text::default(),
            });
        }
        8 => {
            assert_eq!(desk.ask(Request::SetDefinitions(files(rng))), Some(Ok(())));
        }
        9 => {
            if rng.chance(1, 4) {
                desk.disk.clear();
            }
            let after = rng.between(Duration::ZERO, Duration::from_mins(20));
            desk = desk.restart(after, files(rng));
        }
        10 => desk.reachable = rng.chance(2, 3),
        11 => desk.deaf = rng.chance(1, 3),
        12 => {
            if desk.catalog.node(desk::NODE).is_some() {
                let def = ServiceDef {
                    id: name.as_str().into(),
                    name: name.as_str().into(),
                    port: 99,
                    ..ServiceDef::default()
                };
                let check = CheckDef {
                    id: "theirs".into(),
                    name: "theirs".into(),
                    service_id: name.into(),
                    ..CheckDef::default()
                };
                desk.interfere(Some(def), vec![check]);
            }
        }
        _ => {
            if rng.chance(1, 4) {
                desk.catalog = Catalog::new();
            }
        }
    }
    desk.finds = Some(*rng.pick(&Status::ALL).unwrap());
    desk
}

#[test]
fn after_any_churn_the_catalog_is_what_runs_here() {
    let mut ran = 0;
    for seed in 0..12 {
        let mut rng = Rng::new(seed);
        let mut desk = Desk::start(
            config(seed + 1),
            Memory::default(),
            files(&mut rng),
            Instant::ZERO,
            Catalog::new(),
        );
        for day in 0..7 {
            while desk.now < Instant::ZERO + DAY * (day + 1) {
                desk = something_happens(desk, &mut rng);
                let wait = rng.between(Duration::ZERO, Duration::from_mins(30));
                desk.run(wait);
            }
            desk.reachable = true;
            desk.deaf = false;
            // Every output has settled, every check has been late that will be, and everything was compared since.
            desk.run(Duration::from_mins(25));
            desk.finds = Some(Status::Passing);
            println!("seed {seed}, day {day}");
            desk.assert_in_sync();
            ran += desk.view.services.len() + desk.view.checks.len();
        }
    }
    assert!(ran > 500, "{ran} services and checks in the calms");
}
