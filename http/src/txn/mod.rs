//! `/v1/txn`: several operations at once.

mod plan;

use lictor_catalog::{Action, CheckRecord, NodeRecord, Outcome, ServiceRecord, TxnError, TxnResult};
use lictor_machine::Index;
use serde::Serialize;
use serde::ser::{Error as _, SerializeStruct as _};
use serde_json::Value;
use trillium::Status;

use self::plan::Plan;
use crate::backend::Reading;
use crate::discovery::views::{CheckView, NodeView, ServiceView};
use crate::json::Array;
use crate::kv::{Entry, size, unexpected};
use crate::reply::{Fault, Meta, Reply};
use crate::request::Request;

/// What became of a transaction: its results, or everything that failed.
type Answer = Result<Vec<TxnResult>, Vec<TxnError>>;

/// Answers `PUT /v1/txn`.
pub(crate) async fn handle(request: &mut Request<'_>) -> Result<Reply, Fault> {
    let config = &request.api.config;
    let limit = config.txn_max_req_len.max(config.kv_max_value_size);
    let body = request.body(limit, "txn_max_req_len").await?;
    let Plan { ops, errors, writes } = Plan::read(&body, request.api.config.kv_max_value_size)?;
    let datacenter = datacenter(request)?;
    let backend = &request.api.backend;
    if writes {
        let options = request.params.lenient_write_options(request.headers());
        let answer = match errors {
            Some(errors) => Err(errors),
            None => match request.write(Action::Txn(ops), options).await? {
                Outcome::Txn(answer) => answer,
                Outcome::Refused(why) => return Err(Fault::internal(why)),
                Outcome::Done(_) | Outcome::Session(_) | Outcome::Prepared(_) => return Err(unexpected()),
            },
        };
        return Ok(reply(request, answer, None, datacenter).await);
    }
    let mut options = request.read_options()?;
    options.min_index = Index::ZERO;
    let Reading {
        index,
        known_leader,
        last_contact,
        value,
    } = match errors {
        // The answer says how the server stands to its leader, whatever the operations are.
        Some(errors) => Reading {
            value: Err(errors),
            ..backend.read_txn(Vec::new(), options).await?
        },
        None => backend.read_txn(ops, options).await?,
    };
    let reading = Reading {
        index,
        known_leader,
        last_contact,
        value: (),
    };
    let meta = Meta::contact(&reading);
    let reply = reply(request, value, Some(reading), datacenter).await;
    Ok(reply.with_meta(meta))
}

async fn reply(
    request: &Request<'_>,
    answer: Answer,
    reading: Option<Reading<()>>,
    datacenter: String,
) -> Reply {
    /// About what a node, a service or a check takes.
    const OBJECT: usize = 512;
    let failed = answer.is_err();
    let capacity: usize = match &answer {
        Ok(results) => {
            let sizes = results.iter().map(|result| match result {
                TxnResult::Kv { entry, .. } => size(entry) + 8,
                TxnResult::Check(check) => OBJECT + check.def.output.len(),
                TxnResult::Node(_) | TxnResult::Service(_) => OBJECT,
            });
            sizes.sum()
        }
        Err(errors) => errors.iter().map(|error| error.what.len() + 40).sum(),
    };
    let body = Body {
        answer,
        reading,
        datacenter,
        fences: request.params.has("fence"),
    };
    let mut reply = request.large_json(body, capacity + 128).await;
    if failed {
        reply.status = Status::Conflict;
    }
    reply
}

/// The data center that is asked, as answers name it.
fn datacenter(request: &Request<'_>) -> Result<String, Fault> {
    match request.params.datacenter() {
        Some(datacenter) => Ok(datacenter),
        None => Ok(request.api.identity()?.datacenter.clone()),
    }
}

/// The answer as JSON; that of a read says more than that of a write.
struct Body {
    answer: Answer,
    reading: Option<Reading<()>>,
    datacenter: String,
    /// Whether entries come with their fences.
    fences: bool,
}

impl Serialize for Body {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("TxnResponse", 6)?;
        match &self.answer {
            Ok(results) => {
                let results = Array(|| {
                    let json = |result| ResultJson { result, body: self };
                    results.iter().map(json)
                });
                fields.serialize_field("Results", &results)?;
                fields.serialize_field("Errors", &())?;
            }
            Err(errors) => {
                fields.serialize_field("Results", &())?;
                fields.serialize_field("Errors", &Array(|| errors.iter().map(ErrorJson::from)))?;
            }
        }
        if let Some(reading) = &self.reading {
            // The index of a transaction is always 0: there is nothing to wait for.
            fields.serialize_field("Index", &0)?;
            let nanos = u64::try_from(reading.last_contact.as_nanos()).unwrap_or(u64::MAX);
            fields.serialize_field("LastContact", &nanos)?;
            fields.serialize_field("KnownLeader", &reading.known_leader)?;
            fields.serialize_field("ConsistencyLevel", "")?;
        }
        fields.end()
    }
}

struct ResultJson<'a> {
    result: &'a TxnResult,
    body: &'a Body,
}

impl Serialize for ResultJson<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("TxnResult", 1)?;
        match self.result {
            TxnResult::Kv { entry, value } => {
                let (value, fence) = (*value, self.body.fences);
                fields.serialize_field("KV", &Entry { entry, value, fence })?;
            }
            TxnResult::Node(node) => {
                let node: &NodeRecord = node;
                let datacenter = &self.body.datacenter;
                fields.serialize_field("Node", &NodeView { node, datacenter })?;
            }
            TxnResult::Service(service) => {
                let service: &ServiceRecord = service;
                let view = NullIfEmpty("Tags", ServiceView(service));
                fields.serialize_field("Service", &view)?;
            }
            TxnResult::Check(check) => {
                let check: &CheckRecord = check;
                let view = NullIfEmpty("ServiceTags", CheckView(check));
                fields.serialize_field("Check", &view)?;
            }
        }
        fields.end()
    }
}

/// An object, one of whose members is `null` here where it is an empty array elsewhere.
struct NullIfEmpty<T>(&'static str, T);

impl<T: Serialize> Serialize for NullIfEmpty<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(name, object) = self;
        let mut object = serde_json::to_value(object).map_err(S::Error::custom)?;
        let member = object.get_mut(name);
        if let Some(member) = member.filter(|member| member.as_array().is_some_and(Vec::is_empty)) {
            *member = Value::Null;
        }
        object.serialize(serializer)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorJson<'a> {
    op_index: u64,
    what: &'a str,
}

impl<'a> From<&'a TxnError> for ErrorJson<'a> {
    fn from(error: &'a TxnError) -> Self {
        Self {
            op_index: error.op,
            what: &error.what,
        }
    }
}
