//! Prepared queries, and what they found, as JSON.

use lictor_catalog::{Labels, Prepared, PreparedDef, PreparedService, Text};
use serde::{Serialize, Serializer};

use super::{Executed, Grade};
use crate::discovery::views::{BareInstanceView, Map};
use crate::json::Array;

/// A query as it was said, or filled in.
#[derive(Clone, Copy, Debug)]
pub(super) struct PreparedView<'a>(pub(super) &'a Prepared);

impl Serialize for PreparedView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct View<'a> {
            #[serde(rename = "ID")]
            id: String,
            name: &'a str,
            session: &'a str,
            token: &'a str,
            template: TemplateView<'a>,
            service: ServiceView<'a>,
            #[serde(rename = "DNS")]
            dns: DnsView<'a>,
            create_index: u64,
            modify_index: u64,
        }
        let def = &self.0.def;
        View {
            id: def.id.to_string(),
            name: &def.name,
            session: &def.session,
            token: &def.token.0,
            template: TemplateView {
                r#type: &def.template.kind,
                regexp: &def.template.pattern,
                remove_empty_tags: def.template.remove_empty_tags,
            },
            service: ServiceView::new(&def.service),
            dns: DnsView::new(def),
            create_index: self.0.create_index.0,
            modify_index: self.0.modify_index.0,
        }
        .serialize(serializer)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct TemplateView<'a> {
    r#type: &'a str,
    regexp: &'a str,
    remove_empty_tags: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "UPPERCASE")]
struct DnsView<'a> {
    ttl: &'a str,
}

impl<'a> DnsView<'a> {
    fn new(def: &'a PreparedDef) -> Self {
        Self { ttl: &def.ttl_text }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ServiceView<'a> {
    service: &'a str,
    failover: FailoverView<'a>,
    only_passing: bool,
    #[serde(rename = "IgnoreCheckIDs")]
    ignored_checks: Option<&'a [Text]>,
    near: &'a str,
    tags: Option<&'a [Text]>,
    node_meta: Option<Map<'a, Text>>,
    service_meta: Option<Map<'a, Text>>,
    connect: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct FailoverView<'a> {
    nearest_n: i64,
    datacenters: Option<&'a [Text]>,
}

impl<'a> ServiceView<'a> {
    fn new(service: &'a PreparedService) -> Self {
        let map = |labels: &'a Option<Labels>| labels.as_ref().map(Map);
        Self {
            service: &service.service,
            failover: FailoverView {
                nearest_n: service.failover.nearest,
                datacenters: service.failover.datacenters.as_deref(),
            },
            only_passing: service.only_passing,
            ignored_checks: service.ignored_checks.as_deref(),
            near: &service.near,
            tags: service.tags.as_deref(),
            node_meta: map(&service.node_meta),
            service_meta: map(&service.service_meta),
            connect: service.connect,
        }
    }
}

/// What a query means under a name.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ExplainedView<'a> {
    query: PreparedView<'a>,
    index: u64,
    last_contact: i64,
    known_leader: bool,
    consistency_level: &'static str,
}

impl<'a> ExplainedView<'a> {
    pub(super) fn new(query: &'a Prepared, grade: Grade, consistency: &'static str) -> Self {
        Self {
            query: PreparedView(query),
            index: 0,
            last_contact: grade.last_contact,
            known_leader: grade.known_leader,
            consistency_level: consistency,
        }
    }
}

/// What a query found.
pub(super) struct ExecutedView {
    executed: Executed,
    grade: Grade,
    consistency: &'static str,
}

impl ExecutedView {
    pub(super) fn new(executed: Executed, grade: Grade, consistency: &'static str) -> Self {
        Self {
            executed,
            grade,
            consistency,
        }
    }
}

impl Serialize for ExecutedView {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct View<'a, N> {
            service: &'a str,
            nodes: N,
            #[serde(rename = "DNS")]
            dns: DnsView<'a>,
            datacenter: &'a str,
            failovers: u32,
            index: u64,
            last_contact: i64,
            known_leader: bool,
            consistency_level: &'static str,
        }
        let Executed {
            datacenter,
            failovers,
            execution,
        } = &self.executed;
        let def = &execution.query.def;
        let nodes = || {
            let instances = execution.instances.iter();
            instances.map(|instance| BareInstanceView::new(instance, datacenter))
        };
        View {
            service: &def.service.service,
            nodes: Array(nodes),
            dns: DnsView::new(def),
            datacenter,
            failovers: *failovers,
            index: 0,
            last_contact: self.grade.last_contact,
            known_leader: self.grade.known_leader,
            consistency_level: self.consistency,
        }
        .serialize(serializer)
    }
}
