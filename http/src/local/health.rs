//! `/v1/agent/health/service/`: how well services of this agent are, for load balancers that look at the status of an answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use lictor_catalog::Status as CheckStatus;
use lictor_local::{CheckMethod, LocalCheck, LocalService, LocalView};
use serde::{Serialize, Serializer};
use trillium::{KnownHeaderName, Status};

use super::views::{BareCheckView, LocalServiceView};
use crate::json::{Array, to_vec};
use crate::offload::offload;
use crate::reply::{Content, Fault, Reply};
use crate::request::Request;

/// How well the service of an id is.
pub(crate) async fn by_id(request: &Request<'_>) -> Result<Reply, Fault> {
    let id = name(request, "Missing serviceID")?;
    let running = request.api.agent.running();
    let Some(service) = running.service(&id).map(Arc::clone) else {
        let missing = Missing {
            aggregated_status: Aggregate::Critical.as_str(),
            service: (),
            checks: (),
        };
        let json = to_vec(&missing, request.pretty(), 64);
        return Ok(not_found(request, &format!("ServiceId {id} not found"), json));
    };
    let looked = Looked::new(running, vec![service]);
    Ok(answer(request, looked, |looked, pretty| {
        to_vec(&looked.one(), pretty, looked.bytes())
    })
    .await)
}

/// How well all services of a name are together: as well as the worst of them.
pub(crate) async fn by_name(request: &Request<'_>) -> Result<Reply, Fault> {
    let name = name(request, "Missing service Name")?;
    let running = request.api.agent.running();
    let services = running.services.iter().map(|(_, service)| service);
    let services: Vec<_> = services
        .filter(|service| *service.def.name == *name)
        .cloned()
        .collect();
    if services.is_empty() {
        let json = to_vec(&[(); 0], request.pretty(), 3);
        return Ok(not_found(request, &format!("ServiceName {name} Not Found"), json));
    }
    let looked = Looked::new(running, services);
    Ok(answer(request, looked, |looked, pretty| {
        to_vec(looked, pretty, looked.bytes())
    })
    .await)
}

fn name(request: &Request<'_>, missing: &str) -> Result<String, Fault> {
    request.params.no_namespace(request.headers())?;
    if request.rest.is_empty() {
        return Err(Fault::internal(format!("Bad request: {missing}")));
    }
    Ok(request.rest_text())
}

/// Whether the client wants a single word.
fn wants_text(request: &Request<'_>) -> bool {
    let accepted = request
        .headers()
        .get_str(KnownHeaderName::Accept)
        .unwrap_or_default();
    accepted.starts_with("text/plain") || request.params.get("format") == Some(b"text")
}

fn word(status: Status, word: String) -> Reply {
    let reply = Reply::new(status, Content::Text(word.into()));
    reply.with_header("Content-Type", "text/plain")
}

fn not_found(request: &Request<'_>, reason: &str, json: Vec<u8>) -> Reply {
    let reply = if wants_text(request) {
        word(Status::NotFound, reason.to_owned())
    } else {
        Reply::new(Status::NotFound, Content::Json(json))
    };
    reply.with_header("X-Consul-Reason", reason)
}

async fn answer(request: &Request<'_>, looked: Looked, render: fn(&Looked, bool) -> Vec<u8>) -> Reply {
    let found = looked.status;
    let reply = if wants_text(request) {
        word(found.status(), found.as_str().to_owned())
    } else {
        let pretty = request.pretty();
        let json = offload(looked.bytes(), move || render(&looked, pretty)).await;
        Reply::new(found.status(), Content::Json(json))
    };
    reply.with_header("X-Consul-Reason", found.as_str())
}

/// How well something is, all in all, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Aggregate {
    Passing,
    Warning,
    Critical,
    Maintenance,
}

impl Aggregate {
    fn of<'a>(checks: impl Iterator<Item = &'a Arc<LocalCheck>>) -> Self {
        let each = checks.map(|check| match (&check.spec.method, check.def.status) {
            (CheckMethod::Maintenance, _) => Self::Maintenance,
            (_, CheckStatus::Critical) => Self::Critical,
            (_, CheckStatus::Warning) => Self::Warning,
            (_, CheckStatus::Passing) => Self::Passing,
        });
        each.max().unwrap_or(Self::Passing)
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Critical => "critical",
            Self::Maintenance => "maintenance",
        }
    }

    /// The status of an answer that says so.
    const fn status(self) -> Status {
        match self {
            Self::Passing => Status::Ok,
            Self::Warning => Status::TooManyRequests,
            Self::Critical | Self::Maintenance => Status::ServiceUnavailable,
        }
    }
}

/// Services that were looked at, of which there is at least one.
struct Looked {
    running: Arc<LocalView>,
    /// The worst of all.
    status: Aggregate,
    /// Those of the node count for each service.
    node_checks: Vec<Arc<LocalCheck>>,
    services: Vec<(Arc<LocalService>, Vec<Arc<LocalCheck>>)>,
}

impl Looked {
    fn new(running: Arc<LocalView>, services: Vec<Arc<LocalService>>) -> Self {
        let mut node_checks = Vec::new();
        let mut checks: BTreeMap<String, Vec<_>> = services
            .iter()
            .map(|service| (service.def.id.to_ascii_lowercase(), Vec::new()))
            .collect();
        for (_, check) in running.checks.iter() {
            let service = &check.def.service_id;
            if service.is_empty() {
                node_checks.push(Arc::clone(check));
            } else if let Some(checks) = checks.get_mut(&service.to_ascii_lowercase()) {
                checks.push(Arc::clone(check));
            }
        }
        let status = Aggregate::of(node_checks.iter().chain(checks.values().flatten()));
        let mut services: Vec<_> = services
            .into_iter()
            .map(|service| {
                let checks = checks.remove(&service.def.id.to_ascii_lowercase());
                (service, checks.unwrap_or_default())
            })
            .collect();
        services.sort_unstable_by(|(a, _), (b, _)| a.def.id.cmp(&b.def.id));
        Self {
            running,
            status,
            node_checks,
            services,
        }
    }

    /// About how many bytes it is as JSON.
    fn bytes(&self) -> usize {
        let checks: usize = self.services.iter().map(|(_, checks)| checks.len()).sum();
        400 * self.services.len() * (1 + self.node_checks.len()) + 400 * checks
    }

    /// The first service.
    fn one(&self) -> Option<LookedView<'_>> {
        self.views().next()
    }

    fn views(&self) -> impl Iterator<Item = LookedView<'_>> {
        self.services.iter().map(|(service, checks)| LookedView {
            node: &self.running.node.name,
            service,
            node_checks: &self.node_checks,
            checks,
        })
    }
}

impl Serialize for Looked {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.views())
    }
}

/// A service, and how well it is.
struct LookedView<'a> {
    node: &'a str,
    service: &'a LocalService,
    node_checks: &'a [Arc<LocalCheck>],
    checks: &'a [Arc<LocalCheck>],
}

impl Serialize for LookedView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct View<'a, C> {
            aggregated_status: &'static str,
            service: LocalServiceView<'a>,
            checks: C,
        }
        let all = || self.node_checks.iter().chain(self.checks);
        let view = |check| BareCheckView {
            node: self.node,
            check,
        };
        View {
            aggregated_status: Aggregate::of(all()).as_str(),
            service: LocalServiceView {
                service: self.service,
                with_hash: false,
            },
            checks: Array(|| all().map(|check| view(check))),
        }
        .serialize(serializer)
    }
}

/// A service that is not there.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Missing {
    aggregated_status: &'static str,
    service: (),
    checks: (),
}
