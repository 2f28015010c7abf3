//! What people and programs do: they register and remove services, change files, write to the catalog past all agents; and what runs
//! somewhere gets better or worse.

use core::time::Duration;
use std::sync::Arc;

use lictor_catalog::{
    CatalogChange, CheckDef, Deregistration, NodeDef, Registration, Removal, ServiceDef, Status, Tags, Text,
};
use lictor_local::{CheckMethod, CheckSpec, Definitions, Probe, SERF_HEALTH, ServiceSpec, Thresholds};
use lictor_machine::{NodeId, Rng};

use super::outside::{Job, OWN_NODES};
use super::pace::Pace;
use super::post::address;
use super::processes::Process;
use super::roll::{Entry, Thing, Wish};
use super::run::{Act, Run};
use super::swarm::Deed;
use crate::oracles::Check;

/// How many services may be registered with an agent by request.
const SERVICES: u64 = 6;

/// The last of them may have an alias for the first one.
const ALIAS: u64 = SERVICES - 1;

/// How many checks of its own a node may have.
const NODE_CHECKS: u64 = 2;

/// How many services the files of an agent may say.
const FILE_SERVICES: u64 = 3;

/// How many nodes others have.
const FOREIGN: u64 = 4;

impl Run<'_, '_> {
    pub(super) fn do_deed(&mut self, deed: Deed) -> Check {
        let up = self.world.up();
        let Some(at) = self.rng.pick(&up).copied() else {
            return Ok(());
        };
        let pace = self.options.pace;
        match deed {
            Deed::Register => {
                let number = self.rng.below(SERVICES);
                let spec = service(&mut self.rng, pace, at, &format!("s{number}"), number == ALIAS);
                let thing = Thing::Service(spec.def.id.clone());
                let entry = Entry::Service(Box::new(spec));
                self.world.wish(at, Wish::Set(thing, Some(entry)))
            }
            Deed::Deregister => {
                let things = self.world.registered(at);
                match self.rng.pick(&things).cloned() {
                    Some(thing) => self.world.wish(at, Wish::Set(thing, None)),
                    None => Ok(()),
                }
            }
            Deed::RegisterCheck => {
                let id = format!("n{}", self.rng.below(NODE_CHECKS));
                let spec = check(&mut self.rng, pace, &id, &address(at, &id));
                let thing = Thing::Check(spec.id.clone());
                let entry = Entry::Check(Box::new(spec));
                self.world.wish(at, Wish::Set(thing, Some(entry)))
            }
            Deed::Maintain => {
                let entry = self.rng.chance(1, 2).then_some(Entry::Maintenance);
                self.world.wish(at, Wish::Set(Thing::Maintenance, entry))
            }
            Deed::Files => {
                let files = files(&mut self.rng, pace, at);
                let reload = self.rng.chance(2, 3);
                self.world.write_files(at, files, reload)
            }
            Deed::Ail => {
                self.ail(at);
                Ok(())
            }
            Deed::FillDisk => {
                self.world.fill_disk(at, true);
                let after = self.rng.between(Duration::ZERO, self.options.broken_for);
                self.later(after, Act::FreeDisk(at));
                Ok(())
            }
            Deed::Foreign => {
                let change = foreign(&mut self.rng);
                self.world.write_outside(Job::Own(vec![change]))
            }
            Deed::Interfere => {
                let truth = &self.world.scene().members[at];
                let (name, id) = (Text::from(truth.name.as_str()), truth.id);
                let change = interference(&mut self.rng, &name, id);
                self.world.write_outside(Job::Interference(vec![change]))
            }
            Deed::Wipe => {
                self.world.phase("the catalog is wiped");
                let changes = self.world.removal_of_all_nodes();
                self.world.write_outside(Job::Own(changes))
            }
            Deed::Restore => {
                let restore = self.rng.chance(2, 3);
                self.world.archive_or_restore(restore)
            }
        }
    }

    fn ail(&mut self, at: usize) {
        let names = [("s", SERVICES), ("n", NODE_CHECKS), ("f", FILE_SERVICES)];
        let Some((letter, count)) = self.rng.pick(&names).copied() else {
            return;
        };
        let name = format!("{letter}{}", self.rng.below(count));
        let statuses = [
            Status::Passing,
            Status::Passing,
            Status::Warning,
            Status::Critical,
        ];
        let process = Process {
            status: self.rng.pick(&statuses).copied().unwrap_or_default(),
            hangs: self.rng.chance(1, 6),
            since: self.world.now(),
        };
        self.world.set_process(address(at, &name), process);
    }
}

/// A service that its process answers for.
pub(super) fn service(rng: &mut Rng, pace: Pace, at: usize, id: &str, may_alias: bool) -> ServiceSpec {
    let names = ["web", "db", "queue"];
    let tags = ["a", "b", "c"].into_iter().filter(|_| rng.chance(1, 2));
    let tags: Tags = tags.map(Text::from).collect();
    let def = ServiceDef {
        id: id.into(),
        name: (*rng.pick(&names).unwrap_or(&"web")).into(),
        tags,
        port: rng.below(4) as u16 + 8000,
        enable_tag_override: rng.chance(1, 6),
        ..ServiceDef::default()
    };
    let mut checks = Vec::new();
    for number in 0..rng.below(3) {
        let mut spec = check(rng, pace, &format!("{id}-{number}"), &address(at, id));
        if rng.chance(1, 5) {
            spec.deregister_after = pace.probe_interval * 6 + Duration::from_mins(1);
        }
        checks.push(spec);
    }
    if may_alias {
        checks.push(CheckSpec {
            method: CheckMethod::Alias {
                node: Text::default(),
                service: "s0".into(),
            },
            ..named(&format!("{id}-alias"), &Text::default())
        });
    }
    for spec in &mut checks {
        spec.service_id = def.id.clone();
    }
    ServiceSpec {
        def,
        token: Text::default(),
        checks,
    }
}

/// A check of a process: one that is told, or one that looks.
fn check(rng: &mut Rng, pace: Pace, id: &str, process: &Text) -> CheckSpec {
    let method = if rng.chance(1, 2) {
        CheckMethod::Ttl(pace.tell_interval * 3)
    } else {
        probe(process, pace.probe_interval)
    };
    let thresholds = Thresholds {
        success_before_passing: rng.below(3) as u32,
        failures_before_warning: None,
        failures_before_critical: rng.below(3) as u32,
    };
    let (status, thresholds) = match rng.below(3) {
        0 => (Some(Status::Passing), thresholds),
        1 => (None, thresholds),
        _ => (None, Thresholds::default()),
    };
    CheckSpec {
        status,
        method,
        thresholds,
        ..named(id, process)
    }
}

/// Looks at a process now and then.
pub(super) fn probe(process: &Text, interval: Duration) -> CheckMethod {
    let probe = Probe::Tcp {
        address: process.to_string(),
        tls: None,
    };
    CheckMethod::Probe {
        probe: Arc::new(probe),
        interval,
        timeout: None,
    }
}

/// A check that has names, and notes about who tells it how it is.
pub(super) fn named(id: &str, process: &Text) -> CheckSpec {
    CheckSpec {
        id: id.into(),
        name: id.into(),
        notes: process.clone(),
        ..CheckSpec::default()
    }
}

fn files(rng: &mut Rng, pace: Pace, at: usize) -> Definitions {
    let mut definitions = Definitions::default();
    for number in 0..FILE_SERVICES {
        if rng.chance(2, 3) {
            let mut spec = service(rng, pace, at, &format!("f{number}"), false);
            for check in &mut spec.checks {
                check.deregister_after = Duration::ZERO;
            }
            definitions.services.push(spec);
        }
    }
    if rng.chance(1, 2) {
        let spec = check(rng, pace, "fn", &address(at, "fn"));
        definitions.checks.push(spec);
    }
    definitions
}

fn register(registration: Registration) -> CatalogChange {
    CatalogChange::Register(Box::new(registration))
}

fn remove(node: &Text, what: Removal) -> CatalogChange {
    CatalogChange::Deregister(Deregistration {
        node: node.clone(),
        what,
    })
}

/// A change of a node that no agent stands for.
fn foreign(rng: &mut Rng) -> CatalogChange {
    let number = rng.below(FOREIGN);
    let name = Text::from(format!("{OWN_NODES}{number}"));
    let id = Text::from(format!("e{}", rng.below(2)));
    match rng.below(6) {
        0 => remove(&name, Removal::Node),
        1 => remove(&name, Removal::Service(id)),
        2 => remove(&name, Removal::Check(format!("{id}-check").into())),
        _ => {
            let check = CheckDef {
                id: format!("{id}-check").into(),
                name: "somebody else looks".into(),
                status: rng.pick(&Status::ALL).copied().unwrap_or_default(),
                service_id: id.clone(),
                ..CheckDef::default()
            };
            register(Registration {
                node: NodeDef {
                    id: (number == 0).then_some(NodeId(1 << 100)),
                    name,
                    address: format!("192.0.2.{}", rng.below(3)).into(),
                    ..NodeDef::default()
                },
                skip_node_update: false,
                service: Some(ServiceDef {
                    name: "web".into(),
                    port: rng.below(3) as u16,
                    id,
                    ..ServiceDef::default()
                }),
                checks: vec![check],
            })
        }
    }
}

/// A change of an agent's node, or of what pretends to be one.
fn interference(rng: &mut Rng, name: &Text, id: NodeId) -> CatalogChange {
    let node = NodeDef {
        name: name.clone(),
        ..NodeDef::default()
    };
    let service = Text::from(format!("s{}", rng.below(SERVICES)));
    let check = |id: &str, service_id: &str, status| CheckDef {
        id: id.into(),
        name: "theirs".into(),
        status,
        service_id: service_id.into(),
        ..CheckDef::default()
    };
    let status = rng.pick(&Status::ALL).copied().unwrap_or_default();
    match rng.below(9) {
        0 => register(Registration {
            node,
            skip_node_update: true,
            service: Some(ServiceDef {
                id: "theirs".into(),
                name: "web".into(),
                ..ServiceDef::default()
            }),
            checks: vec![check("theirs-check", "theirs", status)],
        }),
        1 => register(Registration {
            node,
            skip_node_update: true,
            service: Some(ServiceDef {
                id: service.clone(),
                name: "web".into(),
                tags: Tags::from([Text::from("theirs")]),
                port: 99,
                enable_tag_override: rng.chance(1, 2),
                ..ServiceDef::default()
            }),
            checks: Vec::new(),
        }),
        2 => register(Registration {
            node,
            skip_node_update: true,
            service: None,
            checks: vec![check(&format!("{service}-0"), &service, status)],
        }),
        3 => remove(name, Removal::Service(service)),
        4 => remove(name, Removal::Check(format!("{service}-0").into())),
        5 => remove(name, Removal::Node),
        6 => register(Registration {
            node: NodeDef {
                id: rng.chance(1, 2).then_some(id),
                name: name.clone(),
                address: "192.0.2.99".into(),
                ..NodeDef::default()
            },
            ..Registration::default()
        }),
        7 => register(Registration {
            node: NodeDef {
                name: "ghost".into(),
                address: "192.0.2.66".into(),
                ..NodeDef::default()
            },
            skip_node_update: false,
            service: None,
            checks: vec![check(SERF_HEALTH, "", Status::Passing)],
        }),
        _ => register(Registration {
            node,
            skip_node_update: true,
            service: None,
            checks: vec![check(SERF_HEALTH, "", status)],
        }),
    }
}
