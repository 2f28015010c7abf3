//! `/v1/catalog/`: what there is.

use lictor_catalog::{Found, NodeServices, Query, ServiceNode, ServiceTags, Text};
use serde::{Serialize, Serializer};

use super::views::{NodeView, ServiceNodeView, ServiceView};
use super::{Asked, Selection, list, named, size};
use crate::json::to_vec;
use crate::reply::{Fault, Reply};
use crate::request::Request;

/// All nodes.
pub(crate) async fn nodes(request: &mut Request<'_>) -> Result<Reply, Fault> {
    let asked = Asked::new::<NodeView<'_>>(request, "nodes")?.with_node_meta(request);
    asked
        .answer(request, Query::Nodes, |found, selection| {
            let Found::Nodes(nodes) = found else { return None };
            let datacenter = &selection.datacenter;
            let views = nodes.iter().map(|node| NodeView { node, datacenter });
            let mut wanted: Vec<_> = views
                .filter(|view| selection.wants_node(view.node) && selection.wants(view))
                .collect();
            if let Some(near) = &selection.near {
                near.sort(&mut wanted, |view| &view.node.def.name);
            }
            Some(list(&wanted, size(found), selection))
        })
        .await
}

/// The names of all services, with their tags.
pub(crate) async fn services(request: &mut Request<'_>) -> Result<Reply, Fault> {
    request.params.no_namespace(request.headers())?;
    let asked = Asked::unfiltered(request, "services")?;
    let node_meta = super::node_meta(request).into_iter().collect();
    asked
        .answer(request, Query::Services { node_meta }, |found, selection| {
            let Found::Services(services) = found else {
                return None;
            };
            Some(to_vec(&Names(services), selection.pretty, size(found)))
        })
        .await
}

/// Services and their tags, by name.
struct Names<'a>(&'a [ServiceTags]);

impl Serialize for Names<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut sorted: Vec<(&str, &[Text])> = self.0.iter().map(|one| (&*one.name, &*one.tags)).collect();
        sorted.sort_unstable_by_key(|(name, _)| *name);
        serializer.collect_map(sorted)
    }
}

/// The instances of a service.
pub(crate) async fn service(request: &mut Request<'_>) -> Result<Reply, Fault> {
    instances(request, false).await
}

/// The instances that take a service's callers in the mesh.
pub(crate) async fn connect(request: &mut Request<'_>) -> Result<Reply, Fault> {
    instances(request, true).await
}

async fn instances(request: &mut Request<'_>, connect: bool) -> Result<Reply, Fault> {
    request.params.no_namespace(request.headers())?;
    request.read_options()?;
    let service = named(request, "service name")?;
    let asked = Asked::new::<ServiceNodeView<'_>>(request, "service")?;
    let asked = asked.with_node_meta(request).with_tags(request);
    asked
        .answer(
            request,
            Query::ServiceNodes { service, connect },
            |found, selection| {
                let Found::ServiceNodes(instances) = found else {
                    return None;
                };
                let datacenter = &selection.datacenter;
                let views = instances
                    .iter()
                    .map(|ServiceNode { node, service }| ServiceNodeView {
                        node: NodeView { node, datacenter },
                        service,
                    });
                let mut wanted: Vec<_> = views
                    .filter(|view| {
                        selection.wants_node(view.node.node)
                            && selection.wants_tags(&view.service.def.tags)
                            && selection.wants(view)
                    })
                    .collect();
                if let Some(near) = &selection.near {
                    near.sort(&mut wanted, |view| &view.node.node.def.name);
                }
                Some(list(&wanted, size(found), selection))
            },
        )
        .await
}

/// A node and its services, by their ids.
pub(crate) async fn node(request: &mut Request<'_>) -> Result<Reply, Fault> {
    of_node(request, "node", |found, selection| {
        let Found::NodeServices(found_node) = found else {
            return None;
        };
        let view = found_node.as_ref().map(|node| ServicesById {
            node: node_view(node, selection),
            services: ById(wanted(node, selection)),
        });
        Some(to_vec(&view, selection.pretty, size(found)))
    })
    .await
}

/// A node and its services as a list.
pub(crate) async fn node_services(request: &mut Request<'_>) -> Result<Reply, Fault> {
    of_node(request, "node-services", |found, selection| {
        let Found::NodeServices(found_node) = found else {
            return None;
        };
        let node = found_node.as_ref();
        let view = ServiceList {
            node: node.map(|node| node_view(node, selection)),
            services: node.map(|node| wanted(node, selection)),
        };
        Some(to_vec(&view, selection.pretty, size(found)))
    })
    .await
}

async fn of_node(
    request: &mut Request<'_>,
    endpoint: &str,
    render: fn(&Found, &Selection) -> Option<Vec<u8>>,
) -> Result<Reply, Fault> {
    request.params.no_namespace(request.headers())?;
    request.read_options()?;
    let name = named(request, "node name")?;
    let asked = Asked::new::<ServiceView<'_>>(request, endpoint)?;
    asked.answer(request, Query::NodeServices(name), render).await
}

fn node_view<'a>(node: &'a NodeServices, selection: &'a Selection) -> NodeView<'a> {
    NodeView {
        node: &node.node,
        datacenter: &selection.datacenter,
    }
}

fn wanted<'a>(node: &'a NodeServices, selection: &Selection) -> Vec<ServiceView<'a>> {
    let views = node.services.iter().map(|service| ServiceView(service));
    views.filter(|view| selection.wants(view)).collect()
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ServicesById<'a> {
    node: NodeView<'a>,
    services: ById<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ServiceList<'a> {
    node: Option<NodeView<'a>>,
    services: Option<Vec<ServiceView<'a>>>,
}

struct ById<'a>(Vec<ServiceView<'a>>);

impl Serialize for ById<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut sorted: Vec<(&str, &ServiceView<'_>)> =
            self.0.iter().map(|view| (&*view.0.def.id, view)).collect();
        sorted.sort_unstable_by_key(|(id, _)| *id);
        serializer.collect_map(sorted)
    }
}

/// The services that a gateway stands for: none, as nothing can be said about gateways.
pub(crate) async fn gateway_services(request: &mut Request<'_>) -> Result<Reply, Fault> {
    request.params.no_namespace(request.headers())?;
    request.read_options()?;
    named(request, "gateway name")?;
    let asked = Asked::unfiltered(request, "gateway-services")?;
    let nothing = request.json(&(), 5);
    asked.unchanging(request, nothing).await
}
