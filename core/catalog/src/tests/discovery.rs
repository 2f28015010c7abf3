//! Registering and finding nodes, services and checks.

mod finding;
mod histories;
mod model;
mod registering;
mod rows;

use lictor_machine::NodeId;

use super::*;
use crate::{
    Builder, CatalogChange, CheckDef, CheckDefinition, ConnectDef, Cursor, Deregistration, Labels,
    MAX_CATALOG_CHANGES, MAX_CHECKS, MAX_TAGS, NodeCoordinate, NodeDef, Registration, Removal, Row, RowError,
    SERF_HEALTH, ServiceAddress, ServiceDef, Status, Table, Text, Watches, Weights,
};

pub(super) fn node(name: &str, address: &str) -> NodeDef {
    NodeDef {
        name: name.into(),
        address: address.into(),
        ..NodeDef::default()
    }
}

pub(super) fn identified(id: u128, name: &str) -> NodeDef {
    NodeDef {
        id: Some(NodeId(id)),
        ..node(name, "1.1.1.1")
    }
}

pub(super) fn service(id: &str, name: &str) -> ServiceDef {
    ServiceDef {
        id: id.into(),
        name: name.into(),
        ..ServiceDef::default()
    }
}

pub(super) fn check(id: &str, service_id: &str, status: Status) -> CheckDef {
    CheckDef {
        id: id.into(),
        service_id: service_id.into(),
        status,
        ..CheckDef::default()
    }
}

pub(super) fn of_node(def: NodeDef) -> Registration {
    Registration {
        node: def,
        ..Registration::default()
    }
}

/// A registration that leaves the node as it is.
pub(super) fn on(name: &str, service: Option<ServiceDef>, checks: Vec<CheckDef>) -> Registration {
    Registration {
        node: node(name, ""),
        skip_node_update: true,
        service,
        checks,
    }
}

pub(super) fn register(bench: &mut Bench, registration: Registration) {
    assert_eq!(bench.apply(Action::Register(Box::new(registration))), DONE);
}

fn refused_with(bench: &mut Bench, registration: Registration) -> String {
    let digest = bench.state.digest();
    let Outcome::Refused(why) = bench.apply(Action::Register(Box::new(registration))) else {
        panic!("it was not refused");
    };
    assert!(bench.changes.is_empty());
    let again = rebuilt(rows(&bench.state), bench.state.index().prev());
    assert_eq!(
        again.map(|state| state.digest()),
        Ok(digest),
        "something was changed"
    );
    why
}

pub(super) fn remove(bench: &mut Bench, node: &str, what: Removal) {
    let node = node.into();
    assert_eq!(
        bench.apply(Action::Deregister(Deregistration { node, what })),
        DONE
    );
}

pub(super) fn rows(state: &State) -> Vec<Row> {
    state.export().chunk(&Cursor::start(), usize::MAX).0
}

pub(super) fn rebuilt(rows: impl IntoIterator<Item = Row>, applied: Index) -> Result<State, RowError> {
    let mut builder = Builder::new();
    rows.into_iter().try_for_each(|row| builder.add(row))?;
    builder.finish(applied)
}

fn health(service: &str) -> Query {
    Query::HealthService {
        service: service.to_owned(),
        connect: false,
    }
}

fn instances(service: &str, connect: bool) -> Query {
    Query::ServiceNodes {
        service: service.to_owned(),
        connect,
    }
}

fn checks(service: &str) -> Query {
    Query::HealthChecks {
        service: service.to_owned(),
        node_meta: vec![],
    }
}

fn state(status: Option<Status>) -> Query {
    let node_meta = vec![];
    Query::HealthState { status, node_meta }
}

fn services() -> Query {
    Query::Services { node_meta: vec![] }
}

/// The instances of a service as `node/id`, each with its checks.
fn found(bench: &Bench, query: &Query) -> Vec<(String, Vec<String>)> {
    let Found::Instances(found) = bench.state.query(query).1 else {
        panic!("not instances");
    };
    let shown = found.iter().map(|instance| {
        let name = format!("{}/{}", instance.node.def.name, instance.service.def.id);
        let checks = instance.checks.iter().map(|check| check.def.id.to_string());
        (name, checks.collect())
    });
    shown.collect()
}

fn listed(bench: &Bench) -> Vec<(String, Vec<String>)> {
    let Found::Services(found) = bench.state.query(&services()).1 else {
        panic!("not services");
    };
    let text = |text: &Text| text.to_string();
    found
        .iter()
        .map(|service| (text(&service.name), service.tags.iter().map(text).collect()))
        .collect()
}
