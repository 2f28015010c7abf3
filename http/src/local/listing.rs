//! What runs here, as a list and one by one.

use std::sync::Arc;

use async_io::Timer;
use futures_lite::FutureExt as _;
use lictor_local::{LocalCheck, LocalService, LocalView};
use serde::{Serialize, Serializer};
use trillium::Status;

use super::views::{LocalServiceView, check_record, content_hash, service_record};
use crate::discovery::views::{CheckView, ServiceView};
use crate::filter::{Filter, Selectable};
use crate::reply::{Fault, Reply};
use crate::request::Request;

/// About how many bytes a service or a check is as JSON.
const BYTES_EACH: usize = 350;

/// The services of this agent, by their ids.
pub(crate) async fn services(request: &Request<'_>) -> Result<Reply, Fault> {
    request.params.no_namespace(request.headers())?;
    let filter = filter::<ServiceView<'_>>(request)?;
    let running = request.api.agent.running();
    let capacity = BYTES_EACH * running.services.len() + 2;
    Ok(request.large_json(Services { running, filter }, capacity).await)
}

/// The checks of this agent, by their ids.
pub(crate) async fn checks(request: &Request<'_>) -> Result<Reply, Fault> {
    request.params.no_namespace(request.headers())?;
    let filter = filter::<CheckView<'_>>(request)?;
    let running = request.api.agent.running();
    let outputs: usize = running
        .checks
        .iter()
        .map(|(_, check)| check.def.output.len())
        .sum();
    let capacity = BYTES_EACH * running.checks.len() + outputs + 2;
    Ok(request.large_json(Checks { running, filter }, capacity).await)
}

/// One service. With the hash of what the client knows already this waits until there is something else to say.
pub(crate) async fn service(request: &mut Request<'_>) -> Result<Reply, Fault> {
    let api = request.api;
    let (_, wait) = request.params.index_and_wait(api.waits())?;
    request.params.no_namespace(request.headers())?;
    let id = request.rest_text();
    let known = request.params.text("hash").unwrap_or_default().into_owned();
    let mut patience = Timer::after(wait + api.jitter(wait));
    let mut running = api.agent.running();
    loop {
        let Some(service) = running.service(&id).map(Arc::clone) else {
            return Err(Fault::new(Status::NotFound, format!("unknown service ID: {id}")));
        };
        if content_hash(&service) != known {
            return Ok(one(request, &service));
        }
        let changed = async { Some(api.agent.running_after(&running).await) }.or(async {
            (&mut patience).await;
            None
        });
        match request.wait(changed).await? {
            Some(Some(changed)) => running = changed,
            // It is too late, or the server stops: the client learns that nothing has changed.
            Some(None) | None => return Ok(one(request, &service)),
        }
    }
}

fn one(request: &Request<'_>, service: &LocalService) -> Reply {
    let view = LocalServiceView {
        service,
        with_hash: true,
    };
    let reply = request.json(&view, 2 * BYTES_EACH);
    reply.with_header("X-Consul-Contenthash", &content_hash(service))
}

fn filter<T: Selectable>(request: &Request<'_>) -> Result<Option<Filter>, Fault> {
    let text = request.params.text("filter");
    let filter = text.map(|text| Filter::parse::<T>(&text)).transpose();
    filter.map_err(|why| Fault::internal(why.to_string()))
}

struct Services {
    running: Arc<LocalView>,
    filter: Option<Filter>,
}

impl Serialize for Services {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let wanted = |service: &&Arc<LocalService>| {
            let filter = self.filter.as_ref();
            filter.is_none_or(|filter| filter.matches(&ServiceView(&service_record(service))))
        };
        let all = self.running.services.iter().map(|(_, service)| service);
        let mut services: Vec<_> = all.filter(wanted).collect();
        services.sort_unstable_by(|a, b| a.def.id.cmp(&b.def.id));
        serializer.collect_map(services.into_iter().map(|service| {
            let view = LocalServiceView {
                service,
                with_hash: false,
            };
            (&*service.def.id, view)
        }))
    }
}

struct Checks {
    running: Arc<LocalView>,
    filter: Option<Filter>,
}

impl Serialize for Checks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let record = |check: &Arc<LocalCheck>| check_record(check, &self.running.node.name);
        let all = self.running.checks.iter().map(|(_, check)| record(check));
        let mut checks: Vec<_> = all
            .filter(|check| {
                let filter = self.filter.as_ref();
                filter.is_none_or(|filter| filter.matches(&CheckView(check)))
            })
            .collect();
        checks.sort_unstable_by(|a, b| a.def.id.cmp(&b.def.id));
        serializer.collect_map(checks.iter().map(|check| (&*check.def.id, CheckView(check))))
    }
}
