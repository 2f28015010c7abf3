//! `/v1/health/`: how well it is.

use std::collections::BTreeMap;

use lictor_catalog::{Found, Query, Status};

use super::views::{CheckView, InstanceView};
use super::{Asked, Selection, list, named, size};
use crate::filter::parse_bool;
use crate::reply::{Fault, Reply};
use crate::request::Request;

/// The checks of a node.
pub(crate) async fn node(request: &mut Request<'_>) -> Result<Reply, Fault> {
    request.params.no_namespace(request.headers())?;
    request.read_options()?;
    let name = named(request, "node name")?;
    let asked = Asked::new::<CheckView<'_>>(request, "health-node")?;
    asked
        .answer(request, Query::HealthNode(name), render_checks)
        .await
}

/// The checks of a service.
pub(crate) async fn checks(request: &mut Request<'_>) -> Result<Reply, Fault> {
    request.params.no_namespace(request.headers())?;
    request.read_options()?;
    let service = named(request, "service name")?;
    let node_meta = pairs(super::node_meta(request));
    let asked = Asked::new::<CheckView<'_>>(request, "health-checks")?;
    let query = Query::HealthChecks { service, node_meta };
    asked.answer(request, query, render_checks).await
}

/// The checks with a status.
pub(crate) async fn state(request: &mut Request<'_>) -> Result<Reply, Fault> {
    request.params.no_namespace(request.headers())?;
    request.read_options()?;
    let name = named(request, "check state")?;
    let mut asked = Asked::new::<CheckView<'_>>(request, "health-state")?;
    let status = name.parse::<Status>().ok();
    let render = if status.is_none() && name != "any" {
        asked.note("no", "");
        render_nothing
    } else {
        render_checks
    };
    let node_meta = pairs(super::node_meta(request));
    let query = Query::HealthState { status, node_meta };
    asked.answer(request, query, render).await
}

fn pairs(node_meta: BTreeMap<String, String>) -> Vec<(String, String)> {
    node_meta.into_iter().collect()
}

fn render_checks(found: &Found, selection: &Selection) -> Option<Vec<u8>> {
    let Found::Checks(checks) = found else { return None };
    let views = checks.iter().map(|check| CheckView(check));
    let mut wanted: Vec<_> = views.filter(|view| selection.wants(view)).collect();
    if let Some(near) = &selection.near {
        near.sort(&mut wanted, |view| &view.0.node);
    }
    Some(list(&wanted, size(found), selection))
}

/// No check has a status that there is not.
fn render_nothing(found: &Found, selection: &Selection) -> Option<Vec<u8>> {
    matches!(found, Found::Checks(_)).then(|| list::<()>(&[], 4, selection))
}

/// The instances of a service, and how well they are.
pub(crate) async fn service(request: &mut Request<'_>) -> Result<Reply, Fault> {
    instances(request, false).await
}

/// The instances that take a service's callers in the mesh, and how well they are.
pub(crate) async fn connect(request: &mut Request<'_>) -> Result<Reply, Fault> {
    instances(request, true).await
}

async fn instances(request: &mut Request<'_>, connect: bool) -> Result<Reply, Fault> {
    request.params.no_namespace(request.headers())?;
    request.read_options()?;
    let service = named(request, "service name")?;
    let passing = passing(request)?;
    let asked = Asked::new::<InstanceView<'_>>(request, "health-service")?;
    let mut asked = asked.with_node_meta(request).with_tags(request);
    if passing {
        asked.selection.passing = true;
        asked.note("passing", "");
    }
    let query = Query::HealthService { service, connect };
    asked.answer(request, query, render_instances).await
}

/// Whether only what passes all its checks is wanted.
fn passing(request: &Request<'_>) -> Result<bool, Fault> {
    match request.params.get("passing") {
        None => Ok(false),
        Some(b"") => Ok(true),
        Some(text) => parse_bool(&String::from_utf8_lossy(text))
            .map_err(|_| Fault::bad_request("Invalid value for ?passing")),
    }
}

fn render_instances(found: &Found, selection: &Selection) -> Option<Vec<u8>> {
    let Found::Instances(instances) = found else {
        return None;
    };
    let wanted = instances.iter().filter(|instance| {
        let passes = || {
            instance
                .checks
                .iter()
                .all(|check| check.def.status == Status::Passing)
        };
        (!selection.passing || passes())
            && selection.wants_node(&instance.node)
            && selection.wants_tags(&instance.service.def.tags)
    });
    let views = wanted.map(|instance| InstanceView::new(instance, &selection.datacenter));
    let mut wanted: Vec<_> = views.filter(|view| selection.wants(view)).collect();
    if let Some(near) = &selection.near {
        near.sort(&mut wanted, |view| &view.node.node.def.name);
    }
    Some(list(&wanted, size(found), selection))
}

/// The gateways by which a service is reached from outside: none, as nothing can be said about gateways.
pub(crate) async fn ingress(request: &mut Request<'_>) -> Result<Reply, Fault> {
    request.params.no_namespace(request.headers())?;
    request.read_options()?;
    named(request, "service name")?;
    let asked = Asked::new::<InstanceView<'_>>(request, "ingress")?;
    let nothing = request.json(&[(); 0], 3);
    asked.unchanging(request, nothing).await
}
