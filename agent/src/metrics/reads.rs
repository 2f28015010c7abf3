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
        let lookups: &Lookups = if let Query::ServiceNodes { connect, .. } = query {
            pick(*connect, &self.catalog, &self.catalog_connect)
        } else if let Query::HealthService { connect, .. } = query {
            pick(*connect, &self.health, &self.health_connect)
        } else {
            return;
        };
        lookups.count(matches!(found, Found::Instances(instances) if instances.is_empty()));
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

    use lictor_catalog::{Instance, NodeDef, NodeRecord, ServiceDef, ServiceRecord, Text};
    use lictor_machine::Index;

    use super::*;

    #[test]
    fn what_is_looked_for_is_counted_by_where_and_by_whether_it_is_there() {
        let registry = Registry::new();
        let counts = ReadCounts::new(&registry);
        let (there, nothing) = (Found::Instances(vec![instance()]), Found::Instances(vec![]));
        let service = || "web".to_owned();
        for (query, found) in [
            (
                Query::ServiceNodes {
                    service: service(),
                    connect: false,
                },
                &there,
            ),
            (
                Query::ServiceNodes {
                    service: service(),
                    connect: true,
                },
                &nothing,
            ),
            (
                Query::HealthService {
                    service: service(),
                    connect: false,
                },
                &nothing,
            ),
            (
                Query::HealthService {
                    service: service(),
                    connect: false,
                },
                &there,
            ),
            (Query::Resolve("q".to_owned()), &nothing),
        ] {
            counts.answered(&query, found, ReadCounts::begin(&query));
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

    fn instance() -> Instance {
        Instance {
            node: Arc::new(NodeRecord {
                def: NodeDef::default(),
                create_index: Index(1),
                modify_index: Index(1),
            }),
            service: Arc::new(ServiceRecord {
                node: Text::default(),
                def: ServiceDef::default(),
                create_index: Index(1),
                modify_index: Index(1),
            }),
            checks: vec![],
        }
    }
}
