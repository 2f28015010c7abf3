//! `/v1/catalog/` and `/v1/health/`: what runs where, and how well it is.

mod catalog;
pub(crate) mod decode;
mod health;
mod near;
mod register;
mod selectors;
pub(crate) mod ui;
pub(crate) mod views;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use async_io::Timer;
use lictor_catalog::{Found, Labels, NodeRecord, Query};
use lictor_machine::Index;

pub(crate) use self::catalog::{connect, gateway_services, node, node_services, nodes, service, services};
pub(crate) use self::health::{
    checks, connect as health_connect, ingress, node as health_node, service as health_service, state,
};
use self::near::Distances;
pub(crate) use self::register::{deregister, node_id, register};
use crate::backend::{ReadMode, ReadOptions, Reading};
use crate::filter::{Filter, Selectable};
use crate::json::to_vec;
use crate::kv::unexpected;
use crate::offload::offload;
use crate::renderings::Question;
use crate::reply::{Content, Fault, Meta, Reply};
use crate::request::Request;

/// What a client wants of what a query finds.
#[derive(Debug, Default)]
struct Selection {
    datacenter: String,
    filter: Option<Filter>,
    /// All of these the nodes must have.
    node_meta: BTreeMap<String, String>,
    /// All of these an instance must have, in any letter case.
    tags: Vec<String>,
    /// Only instances all of whose checks pass.
    passing: bool,
    near: Option<Distances>,
    pretty: bool,
}

impl Selection {
    fn wants<T: Selectable>(&self, item: &T) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.matches(item))
    }

    fn wants_node(&self, node: &NodeRecord) -> bool {
        let has = |(name, value): (&String, &String)| {
            node.def.meta.get(name).is_some_and(|found| **found == **value)
        };
        self.node_meta.iter().all(has)
    }

    fn wants_tags(&self, tags: &[lictor_catalog::Text]) -> bool {
        let has = |wanted: &String| tags.iter().any(|tag| tag.eq_ignore_ascii_case(wanted));
        self.tags.iter().all(has)
    }
}

/// A question on its way.
struct Asked {
    options: ReadOptions,
    selection: Selection,
    /// What the answer depends on, for those who ask the same.
    shape: String,
}

impl Asked {
    /// Reads what all endpoints have in common. `endpoint` tells apart those that ask the same query.
    fn new<T: Selectable>(request: &mut Request<'_>, endpoint: &str) -> Result<Self, Fault> {
        let mut asked = Self::unfiltered(request, endpoint)?;
        if let Some(text) = request.params.text("filter") {
            let filter = Filter::parse::<T>(&text);
            let filter = filter.map_err(|why| Fault::internal(why.to_string()).with_meta(Meta::UNKNOWN))?;
            asked.selection.filter = Some(filter);
            asked.note("filter", &text);
        }
        Ok(asked)
    }

    /// The same, for endpoints that take no filter.
    fn unfiltered(request: &mut Request<'_>, endpoint: &str) -> Result<Self, Fault> {
        let options = request.read_options()?;
        let datacenter = match &options.datacenter {
            Some(datacenter) => datacenter.clone(),
            None => request.api.identity()?.datacenter.clone(),
        };
        let pretty = request.pretty();
        let mut asked = Self {
            options,
            selection: Selection {
                datacenter,
                pretty,
                ..Selection::default()
            },
            shape: endpoint.to_owned(),
        };
        let datacenter = asked.selection.datacenter.clone();
        asked.note("dc", &datacenter);
        if pretty {
            asked.note("pretty", "");
        }
        Ok(asked)
    }

    /// Adds something that the answer depends on.
    fn note(&mut self, name: &str, value: &str) {
        // With the length in front, so that no two lists look alike.
        let _ = write!(self.shape, " {name} {}:{value}", value.len());
    }

    /// Takes over the labels that the nodes must have.
    fn with_node_meta(mut self, request: &Request<'_>) -> Self {
        self.selection.node_meta = node_meta(request);
        for (name, value) in self.selection.node_meta.clone() {
            self.note("meta", &name);
            self.note("is", &value);
        }
        self
    }

    /// Takes over the tags that instances must have.
    fn with_tags(mut self, request: &Request<'_>) -> Self {
        let tags = request
            .params
            .all("tag")
            .map(|tag| String::from_utf8_lossy(tag).into_owned());
        self.selection.tags = tags.collect();
        for tag in self.selection.tags.clone() {
            self.note("tag", &tag);
        }
        self
    }

    /// Answers `query`. `render` writes what was found of it.
    async fn answer(
        mut self,
        request: &mut Request<'_>,
        query: Query,
        render: fn(&Found, &Selection) -> Option<Vec<u8>>,
    ) -> Result<Reply, Fault> {
        let reading = self.read(request, query.clone()).await?;
        let (meta, found) = (Meta::blocking(&reading), Arc::new(reading.value));
        self.selection.near = self.distances(request).await?;
        // Where nodes are changes all the time, and for itself.
        let shared = self.selection.near.is_none();
        let selection = Arc::new(self.selection);
        let make = |found: Arc<Found>| {
            let selection = Arc::clone(&selection);
            offload(size(&found), move || {
                render(&found, &selection).unwrap_or_default()
            })
        };
        let (content, kept) = if shared {
            let question = Question {
                query,
                shape: self.shape,
            };
            let renderings = &request.api.renderings;
            let (rendering, kept) = renderings.get_or_make(question, found, make).await;
            (Content::Shared(rendering), kept)
        } else {
            (Content::Json(make(found).await), false)
        };
        let empty = match &content {
            Content::Shared(rendering) => rendering.plain.is_empty(),
            Content::Json(body) => body.is_empty(),
            Content::Empty | Content::Text(_) | Content::Raw(_) | Content::Log(_) | Content::Archive(_) => {
                true
            }
        };
        if empty {
            return Err(unexpected());
        }
        let mut reply = Reply::new(trillium::Status::Ok, content).with_meta(meta);
        reply.consistency = Some(consistency(self.options.mode));
        reply.cached = request.params.has("cached").then_some(kept);
        Ok(reply)
    }

    async fn read(&self, request: &mut Request<'_>, query: Query) -> Result<Reading<Found>, Fault> {
        let reading = request.read(query, self.options.clone()).await;
        reading.map_err(|fault| fault.with_meta(Meta::UNKNOWN))
    }

    /// Waits as long as a change would be waited for, for answers that cannot change; then reads whether there is a leader.
    async fn unchanging(mut self, request: &mut Request<'_>, reply: Reply) -> Result<Reply, Fault> {
        if self.options.min_index > Index::ZERO {
            request.wait(Timer::after(self.options.wait)).await?;
            self.options.min_index = Index::ZERO;
        }
        let reading = self.read(request, Query::Autopilot).await?;
        let meta = Meta::Blocking {
            index: Index(1),
            known_leader: reading.known_leader,
            last_contact: reading.last_contact,
        };
        let mut reply = reply.with_meta(meta);
        reply.consistency = Some(consistency(self.options.mode));
        reply.cached = request.params.has("cached").then_some(false);
        Ok(reply)
    }

    /// How far nodes are from the one that the client names.
    async fn distances(&self, request: &mut Request<'_>) -> Result<Option<Distances>, Fault> {
        let Some(near) = request.params.text("near") else {
            return Ok(None);
        };
        let center = if near == "_agent" {
            request.api.identity()?.node_name.clone()
        } else {
            near.into_owned()
        };
        let options = ReadOptions {
            min_index: Index::ZERO,
            ..self.options.clone()
        };
        let reading = request.read(Query::Coordinates, options).await?;
        let Found::Coordinates(entries) = reading.value else {
            return Err(unexpected());
        };
        Ok(Distances::new(&center, &entries))
    }
}

/// The name that a path ends with. `what`: what it is the name of.
fn named(request: &Request<'_>, what: &'static str) -> Result<String, Fault> {
    if request.rest.is_empty() {
        return Err(Fault::bad_request(format!("Missing {what}")));
    }
    Ok(request.rest_text())
}

/// The labels that nodes must have; of several values for one name the last counts.
fn node_meta(request: &Request<'_>) -> BTreeMap<String, String> {
    let given = request.params.all("node-meta");
    let pairs = given.map(|pair| {
        let pair = String::from_utf8_lossy(pair);
        let (name, value) = pair.split_once(':').unwrap_or((&pair, ""));
        (name.to_owned(), value.to_owned())
    });
    pairs.collect()
}

/// In the word that clients know.
pub(crate) const fn consistency(mode: ReadMode) -> &'static str {
    match mode {
        ReadMode::Default => "leader",
        ReadMode::Consistent => "consistent",
        ReadMode::Stale { .. } => "stale",
    }
}

/// Writes items, of which there are about `bytes` bytes.
fn list<T: serde::Serialize>(items: &[T], bytes: usize, selection: &Selection) -> Vec<u8> {
    to_vec(&items, selection.pretty, bytes)
}

/// About how many bytes it is as JSON.
fn size(found: &Found) -> usize {
    const NODE: usize = 400;
    const SERVICE: usize = 450;
    const CHECK: usize = 350;
    let labels = |labels: &Labels| -> usize {
        labels
            .iter()
            .map(|(name, value)| name.len() + value.len() + 8)
            .sum()
    };
    match found {
        Found::Nodes(nodes) => nodes.iter().map(|node| NODE + labels(&node.def.meta)).sum(),
        Found::NodeServices(node) => node
            .as_ref()
            .map_or(0, |node| NODE + SERVICE * node.services.len()),
        Found::NodeInfos(nodes) => {
            let sizes = nodes.iter();
            sizes
                .map(|node| NODE + SERVICE * node.services.len() + CHECK * node.checks.len())
                .sum()
        }
        Found::Services(services) => {
            let sizes = services.iter();
            sizes
                .map(|service| service.name.len() + 16 + 16 * service.tags.len())
                .sum()
        }
        Found::ServiceNodes(services) => {
            let sizes = services.iter();
            sizes
                .map(|one| NODE + SERVICE + labels(&one.node.def.meta) + labels(&one.service.def.meta))
                .sum()
        }
        Found::Checks(checks) => checks.iter().map(|check| CHECK + check.def.output.len()).sum(),
        Found::Instances(instances) => {
            let sizes = instances.iter();
            sizes
                .map(|one| {
                    let checks: usize = one
                        .checks
                        .iter()
                        .map(|check| CHECK + check.def.output.len())
                        .sum();
                    NODE + SERVICE + labels(&one.node.def.meta) + labels(&one.service.def.meta) + checks
                })
                .sum()
        }
        Found::Entry(_)
        | Found::Entries(_)
        | Found::Keys(_)
        | Found::Autopilot(_)
        | Found::Coordinates(_)
        | Found::Sessions(_)
        | Found::PreparedQueries(_)
        | Found::Resolved(_) => 0,
    }
}
