//! Reads of a server's state: services that are looked for, and prepared queries that are carried out.

use std::time::Instant;

use lictor_catalog::{Execute, Found, Query, Target};
use lictor_metrics::{Counter, Registry, Sample};

/// What a server is asked for.
#[derive(Debug)]
pub(crate) struct ReadCounts {
    catalog: Lookups,
    catalog_connect: Lookups,
    health: Lookups,
    health_connect: Lookups,
    execute: Sample,
    execute_remote: Sample,
    explain: Sample,
}

/// Services that are looked for, whatever their names: clients may ask for any name, so one series for each would have no bound.
#[derive(Debug)]
struct Lookups {
    asked: Counter,
    /// Of these, those that found no instance.
    in_vain: Counter,
}

impl Lookups {
    fn new(metrics: &Registry, what: &str) -> Self {
        Self {
            asked: metrics.counter(format!("consul.{what}.query")),
            in_vain: metrics.counter(format!("consul.{what}.not-found")),
        }
    }

    fn count(&self, is_empty: bool) {
        self.asked.increment();
        if is_empty {
            self.in_vain.increment();
        }
    }
}

impl ReadCounts {
    pub(super) fn new(metrics: &Registry) -> Self {
        Self {
            catalog: Lookups::new(metrics, "catalog.service"),
            catalog_connect: Lookups::new(metrics, "catalog.connect"),
            health: Lookups::new(metrics, "health.service"),
            health_connect: Lookups::new(metrics, "health.connect"),
            execute: metrics.sample("consul.prepared-query.execute"),
            execute_remote: metrics.sample("consul.prepared-query.execute_remote"),
            explain: metrics.sample("consul.prepared-query.explain"),
        }
    }

    /// When the reading of `query` begins, if it is to be known how long that takes.
    pub(crate) fn begin(query: &Query) -> Option<Instant> {
        matches!(query, Query::Resolve(_)).then(Instant::now)
    }

    /// A query that began at `begun` was answered.
    pub(crate) fn answered(&self, query: &Query, found: &Found, begun: Option<Instant>) {
        if let Some(begun) = begun {
            self.explain.record_since(begun);
        }
        let pick = |connect: bool, plain, mesh| if connect { mesh } else { plain };
        if let (Query::ServiceNodes { connect, .. }, Found::ServiceNodes(nodes)) = (query, found) {
            pick(*connect, &self.catalog, &self.catalog_connect).count(nodes.is_empty());
        } else if let (Query::HealthService { connect, .. }, Found::Instances(instances)) = (query, found) {
            pick(*connect, &self.health, &self.health_connect).count(instances.is_empty());
        }
    }

    /// A prepared query was carried out, which began at `begun`.
    pub(crate) fn executed(&self, execute: &Execute, begun: Instant) {
        match execute.target {
            Target::Named(_) => self.execute.record_since(begun),
            // Another data center has looked it up, and found nothing there.
            Target::Ready(_) => self.execute_remote.record_since(begun),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lictor_catalog::{Action, Changes, Command, NodeDef, Outcome, Registration, ServiceDef, State};
    use lictor_machine::{Index, UnixMillis};

    use super::*;

    #[test]
    fn what_is_looked_for_is_counted_by_where_and_by_whether_it_is_there() {
        let registry = Registry::new();
        let counts = ReadCounts::new(&registry);
        let mut state = State::new();
        let registration = Registration {
            node: NodeDef {
                name: "n1".into(),
                address: "10.0.0.1".into(),
                ..NodeDef::default()
            },
            service: Some(ServiceDef {
                id: "web".into(),
                name: "web".into(),
                ..ServiceDef::default()
            }),
            ..Registration::default()
        };
        let register = Command {
            stamp: UnixMillis(1),
            action: Action::Register(Box::new(registration)),
        };
        let outcome = state.apply(Index(1), &register, &mut Changes::default());
        assert_eq!(outcome, Ok(Outcome::Done(true)));
        let catalog = |service: &str, connect| Query::ServiceNodes {
            service: service.to_owned(),
            connect,
        };
        let health = |service: &str, connect| Query::HealthService {
            service: service.to_owned(),
            connect,
        };
        for query in [
            catalog("web", false),
            catalog("web", true),
            health("web", false),
            health("none", false),
            Query::Resolve("q".to_owned()),
            Query::Nodes,
        ] {
            let begun = ReadCounts::begin(&query);
            let (_, found) = state.query(&query);
            counts.answered(&query, &found, begun);
        }
        let report = registry.report();
        let counted = |name: &str| {
            let series = report.counters.iter().find(|series| series.name == name);
            series.map(|series| series.total.count)
        };
        for (name, expected) in [
            ("consul.catalog.service.query", 1),
            ("consul.catalog.service.not-found", 0),
            ("consul.catalog.connect.query", 1),
            ("consul.catalog.connect.not-found", 1),
            ("consul.health.service.query", 2),
            ("consul.health.service.not-found", 1),
            ("consul.health.connect.query", 0),
            ("consul.health.connect.not-found", 0),
        ] {
            assert_eq!(counted(name), Some(expected), "{name}");
        }
        let explained = report
            .samples
            .iter()
            .find(|series| series.name == "consul.prepared-query.explain");
        assert_eq!(explained.map(|series| series.total.count), Some(1));
    }

    #[test]
    fn what_another_data_center_asks_for_is_told_apart() {
        let registry = Registry::new();
        let counts = ReadCounts::new(&registry);
        for target in [
            Target::Named("q".to_owned()),
            Target::Named("q".to_owned()),
            Target::Ready(Arc::default()),
        ] {
            let execute = Execute {
                target,
                near: String::new(),
                agent: String::new(),
                client: None,
                connect: false,
                limit: 0,
                seed: 0,
            };
            counts.executed(&execute, Instant::now());
        }
        let counted: Vec<_> = (registry.report().samples.iter())
            .map(|series| (series.name.to_string(), series.total.count))
            .collect();
        assert_eq!(
            counted,
            [
                ("consul.prepared-query.execute".to_owned(), 2),
                ("consul.prepared-query.execute_remote".to_owned(), 1),
                ("consul.prepared-query.explain".to_owned(), 0),
            ]
        );
    }
}
