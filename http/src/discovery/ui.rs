//! `/v1/internal/ui/`: what dashboards show on one page each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lictor_catalog::{CheckRecord, Found, NodeInfo, Query, ServiceRecord, Status, Text};
use serde::Serialize;

use super::selectors::{NODE_DUMP, of_dump};
use super::views::{BareCheckView, BareServiceView, InstanceView, NodeView, OrNull, ServiceView};
use super::{Asked, Selection, list, named, size};
use crate::filter::{Field, Selectable, Step, Value};
use crate::json::{Array, to_vec};
use crate::reply::{Content, Fault, Reply};
use crate::request::Request;

/// The label of an instance that names the system which registered it.
const EXTERNAL_SOURCE: &str = "external-source";

/// All nodes, each with all that is known of it.
pub(crate) async fn nodes(request: &mut Request<'_>) -> Result<Reply, Fault> {
    request.params.no_namespace(request.headers())?;
    let asked = Asked::new::<NodeDump<'_>>(request, "ui-nodes")?;
    let answer = asked.answer(request, Query::NodeInfos, |found, selection| {
        let Found::NodeInfos(nodes) = found else {
            return None;
        };
        let views = nodes.iter().map(NodeDump);
        let wanted: Vec<_> = views.filter(|view| selection.wants(view)).collect();
        Some(list(&wanted, size(found), selection))
    });
    Ok(plain(answer.await?))
}

/// A node, with all that is known of it.
pub(crate) async fn node(request: &mut Request<'_>) -> Result<Reply, Fault> {
    request.params.no_namespace(request.headers())?;
    request.read_options()?;
    let name = named(request, "node name")?;
    let asked = Asked::unfiltered(request, "ui-node")?;
    let answer = asked.answer(request, Query::NodeInfo(name), |found, selection| {
        let Found::NodeInfos(nodes) = found else {
            return None;
        };
        let node = nodes.first().map(NodeDump);
        Some(to_vec(&node, selection.pretty, size(found)))
    });
    let reply = plain(answer.await?);
    let nothing = match &reply.content {
        Content::Shared(rendering) => rendering.plain.starts_with(b"null"),
        Content::Json(body) => body.starts_with(b"null"),
        Content::Empty | Content::Text(_) | Content::Raw(_) | Content::Log(_) | Content::Archive(_) => false,
    };
    Ok(if nothing { Reply::not_found() } else { reply })
}

/// All services, each with how well it is.
pub(crate) async fn services(request: &mut Request<'_>) -> Result<Reply, Fault> {
    request.params.no_namespace(request.headers())?;
    let asked = Asked::new::<InstanceView<'_>>(request, "ui-services")?;
    let answer = asked.answer(request, Query::NodeInfos, |found, selection| {
        let Found::NodeInfos(nodes) = found else {
            return None;
        };
        let summaries: Vec<_> = summarize(nodes, selection).into_values().collect();
        Some(list(&summaries, 256 * summaries.len(), selection))
    });
    Ok(plain(answer.await?))
}

/// The services that a gateway stands for: none, as nothing can be said about gateways.
pub(crate) async fn gateway_services(request: &mut Request<'_>) -> Result<Reply, Fault> {
    request.params.no_namespace(request.headers())?;
    request.read_options()?;
    named(request, "gateway name")?;
    let asked = Asked::unfiltered(request, "ui-gateway-services")?;
    let nothing: [(); 0] = [];
    let nothing = request.json(&nothing, 4);
    Ok(plain(asked.unchanging(request, nothing).await?))
}

/// Without what is said elsewhere about how an answer came about.
fn plain(reply: Reply) -> Reply {
    Reply {
        consistency: None,
        cached: None,
        ..reply
    }
}

/// All about a node.
struct NodeDump<'a>(&'a NodeInfo);

impl<'a> NodeDump<'a> {
    /// The node by itself. Its data center cannot be asked for.
    fn view(&self) -> NodeView<'a> {
        NodeView {
            node: &self.0.node,
            datacenter: "",
        }
    }
}

impl Serialize for NodeDump<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct View<'a, S, C> {
            #[serde(rename = "ID")]
            id: String,
            node: &'a str,
            address: &'a str,
            tagged_addresses: OrNull<'a, Text>,
            meta: OrNull<'a, Text>,
            services: S,
            checks: C,
        }
        let NodeInfo {
            node,
            services,
            checks,
        } = self.0;
        let def = &node.def;
        View {
            id: def.id.as_ref().map(ToString::to_string).unwrap_or_default(),
            node: &def.name,
            address: &def.address,
            tagged_addresses: OrNull(&def.tagged_addresses),
            meta: OrNull(&def.meta),
            services: Array(|| services.iter().map(|service| BareServiceView(service))),
            checks: Array(|| checks.iter().map(|check| BareCheckView(check))),
        }
        .serialize(serializer)
    }
}

impl Selectable for NodeDump<'_> {
    const FIELDS: &'static [Field] = NODE_DUMP;

    fn value<'a>(&'a self, path: &[Step]) -> Value<'a> {
        of_dump(self.view(), self.0, path)
    }
}

/// How well a service is.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Summary<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    kind: &'a str,
    name: &'a str,
    tags: Names<'a>,
    nodes: Names<'a>,
    instance_count: usize,
    /// For proxies: for what.
    #[serde(skip_serializing_if = "Names::is_empty")]
    proxy_for: Names<'a>,
    /// Those of the instances, and those of their nodes.
    checks_passing: usize,
    checks_warning: usize,
    checks_critical: usize,
    external_sources: Names<'a>,
    gateway_config: GatewayConfig,
}

#[derive(Serialize)]
struct GatewayConfig {}

/// Names in their order, or `null` if there are none.
#[derive(Default)]
struct Names<'a>(BTreeSet<&'a str>);

impl Names<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Names<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_empty() {
            return serializer.serialize_none();
        }
        serializer.collect_seq(&self.0)
    }
}

impl<'a> Summary<'a> {
    fn new(name: &'a str) -> Self {
        Self {
            kind: "",
            name,
            tags: Names::default(),
            nodes: Names::default(),
            instance_count: 0,
            proxy_for: Names::default(),
            checks_passing: 0,
            checks_warning: 0,
            checks_critical: 0,
            external_sources: Names::default(),
            gateway_config: GatewayConfig {},
        }
    }

    fn add(&mut self, node: &'a NodeInfo, service: &'a ServiceRecord) {
        let def = &service.def;
        self.kind = &def.kind;
        self.nodes.0.insert(&node.node.def.name);
        self.instance_count += 1;
        self.tags.0.extend(def.tags.iter().map(|tag| &**tag));
        if !def.kind.is_empty() {
            self.proxy_for.0.extend(def.connect_name().map(|name| &**name));
        }
        self.external_sources
            .0
            .extend(def.meta.get(EXTERNAL_SOURCE).map(|source| &**source));
        for check in checks_of(node, service) {
            match check.def.status {
                Status::Passing => self.checks_passing += 1,
                Status::Warning => self.checks_warning += 1,
                Status::Critical => self.checks_critical += 1,
            }
        }
    }
}

/// The checks of an instance, and those of its node.
fn checks_of<'a>(
    node: &'a NodeInfo,
    service: &'a ServiceRecord,
) -> impl Iterator<Item = &'a Arc<CheckRecord>> {
    node.checks
        .iter()
        .filter(|check| check.def.service_id.is_empty() || check.def.service_id == service.def.id)
}

fn summarize<'a>(nodes: &'a [NodeInfo], selection: &Selection) -> BTreeMap<&'a str, Summary<'a>> {
    let mut summaries = BTreeMap::new();
    for node in nodes {
        for service in &node.services {
            if selection.filter.is_some() {
                let checks: Vec<_> = checks_of(node, service).cloned().collect();
                let instance = InstanceView {
                    node: NodeView {
                        node: &node.node,
                        datacenter: &selection.datacenter,
                    },
                    service: ServiceView(service),
                    checks: &checks,
                };
                if !selection.wants(&instance) {
                    continue;
                }
            }
            let name: &str = &service.def.name;
            summaries
                .entry(name)
                .or_insert_with(|| Summary::new(name))
                .add(node, service);
        }
    }
    summaries
}
