//! `/v1/txn`: several operations at once.

use bytes::Bytes;
use lictor_catalog::{Action, KvPair, KvTxnOp, Outcome, SessionRef, TxnError, TxnOp, TxnResult, quote};
use lictor_machine::Index;
use serde::Serialize;
use serde::ser::SerializeStruct as _;
use serde_json::Value;
use trillium::Status;

use crate::backend::Reading;
use crate::decode::{Fields, items, parse};
use crate::json::Array;
use crate::kv::{Entry, size, unexpected};
use crate::reply::{Fault, Meta, Reply};
use crate::request::Request;

/// How many operations a transaction may have.
const MAX_OPS: usize = 64;

/// What became of a transaction: its results, or everything that failed.
type Answer = Result<Vec<TxnResult>, Vec<TxnError>>;

/// Answers `PUT /v1/txn`.
pub(crate) async fn handle(request: &mut Request<'_>) -> Result<Reply, Fault> {
    let config = &request.api.config;
    let limit = config.txn_max_req_len.max(config.kv_max_value_size);
    let body = request.body(limit, "txn_max_req_len").await?;
    let Plan { ops, errors, writes } = plan(&body, request.api.config.kv_max_value_size)?;
    let backend = &request.api.backend;
    if writes {
        let options = request.params.lenient_write_options(request.headers());
        let answer = match errors {
            Some(errors) => Err(errors),
            None => match backend.write(Action::Txn(ops), options).await? {
                Outcome::Txn(answer) => answer,
                Outcome::Refused(why) => return Err(Fault::internal(why)),
                Outcome::Done(_) => return Err(unexpected()),
            },
        };
        return Ok(reply(request, answer, None).await);
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
    Ok(reply(request, value, Some(reading)).await.with_meta(meta))
}

async fn reply(request: &Request<'_>, answer: Answer, reading: Option<Reading<()>>) -> Reply {
    let failed = answer.is_err();
    let capacity: usize = match &answer {
        Ok(results) => results
            .iter()
            .map(|TxnResult::Kv { entry, .. }| size(entry) + 8)
            .sum(),
        Err(errors) => errors.iter().map(|error| error.what.len() + 40).sum(),
    };
    let body = Body { answer, reading };
    let mut reply = request.large_json(body, capacity + 128).await;
    if failed {
        reply.status = Status::Conflict;
    }
    reply
}

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    ops: Vec<TxnOp>,
    /// Errors that make it pointless to try.
    errors: Option<Vec<TxnError>>,
    /// Whether any of the operations changes anything.
    writes: bool,
}

/// Reads a request's body. Values may have `max_value` bytes.
fn plan(body: &[u8], max_value: usize) -> Result<Plan, Fault> {
    let malformed = |why| Fault::bad_request(format!("Failed to parse body: {why}"));
    let ops = parse(body)
        .and_then(|value| items(value, "api.TxnOps"))
        .map_err(malformed)?;
    let count = ops.len();
    let ops = ops
        .into_iter()
        .map(Op::read)
        .collect::<Result<Vec<_>, _>>()
        .map_err(malformed)?;
    if count > MAX_OPS {
        return Err(Fault::too_large(format!(
            "Transaction contains too many operations ({count} > {MAX_OPS})"
        )));
    }
    let mut plan = Plan {
        ops: Vec::with_capacity(count),
        errors: None,
        writes: false,
    };
    let mut no_key = Vec::new();
    let mut unknown = Vec::new();
    let mut position = 0_u64;
    for op in ops {
        let op = match op {
            Op::Nothing => continue,
            Op::Kv(op) => op,
            Op::Unsupported(name) => {
                return Err(Fault::bad_request(format!(
                    "Operation {position} of the transaction is on a {name}, which is not supported yet; only KV \
                     operations are"
                )));
            }
        };
        if op.value.len() > max_value {
            return Err(Fault::too_large(format!(
                "Value for key {} is too large ({} > {max_value} bytes)",
                quote(op.key.as_bytes()),
                op.value.len()
            )));
        }
        if op.key.is_empty() && op.verb != "delete-tree" {
            no_key.push(TxnError {
                op: position,
                what: "Must provide key".to_owned(),
            });
        }
        match op.into_catalog() {
            Ok(op) => {
                plan.writes |= !op.is_read_only();
                plan.ops.push(TxnOp::Kv(op));
            }
            Err(verb) => {
                let what = format!("unknown KV verb {}", quote(verb.as_bytes()));
                unknown.push(TxnError { op: position, what });
            }
        }
        position += 1;
    }
    // Keys are checked before anything is tried, verbs only while it is.
    plan.errors = [no_key, unknown].into_iter().find(|errors| !errors.is_empty());
    Ok(plan)
}

/// One operation as it was sent.
enum Op {
    Nothing,
    Kv(KvOp),
    Unsupported(&'static str),
}

struct KvOp {
    verb: String,
    key: String,
    value: Bytes,
    flags: u64,
    index: u64,
    session: String,
}

impl Op {
    fn read(value: Value) -> Result<Self, String> {
        let mut fields = Fields::new(value, "TxnOp", "value of type api.TxnOp")?;
        let kv = fields.take("KV");
        // Of several kinds in one operation, the first in this order counts.
        let others = ["Node", "Service", "Check"].map(|name| fields.take(name).map(|_| name));
        fields.finish()?;
        match (kv, others.into_iter().flatten().next()) {
            (Some(kv), _) => KvOp::read(kv).map(Self::Kv),
            (None, Some(name)) => Ok(Self::Unsupported(name)),
            (None, None) => Ok(Self::Nothing),
        }
    }
}

impl KvOp {
    fn read(value: Value) -> Result<Self, String> {
        let mut fields = Fields::new(value, "KVTxnOp.KV", "struct field TxnOp.KV of type api.KVTxnOp")?;
        let op = Self {
            verb: fields.string("Verb", "api.KVOp")?,
            key: fields.string("Key", "string")?,
            value: fields.blob("Value")?,
            flags: fields.uint("Flags")?,
            index: fields.uint("Index")?,
            session: fields.string("Session", "string")?,
        };
        // There are no namespaces, but clients may name one here.
        let _ignored = fields.string("Namespace", "string")?;
        fields.finish()?;
        Ok(op)
    }

    /// The operation, or its verb, if there is none such.
    fn into_catalog(self) -> Result<KvTxnOp, String> {
        let Self {
            verb,
            key,
            value,
            flags,
            index,
            session,
        } = self;
        let key = Bytes::from(key);
        let index = Index(index);
        let session = SessionRef(session);
        let pair = |key| KvPair { key, value, flags };
        Ok(match verb.as_str() {
            "set" => KvTxnOp::Set(pair(key)),
            "cas" => KvTxnOp::Cas(pair(key), index),
            "lock" => KvTxnOp::Lock(pair(key), session),
            "unlock" => KvTxnOp::Unlock(pair(key), session),
            "get" => KvTxnOp::Get(key),
            "get-or-empty" => KvTxnOp::GetOrEmpty(key),
            "get-tree" => KvTxnOp::GetTree(key),
            "check-index" => KvTxnOp::CheckIndex(key, index),
            "check-session" => KvTxnOp::CheckSession(key, session),
            "check-not-exists" => KvTxnOp::CheckNotExists(key),
            "delete" => KvTxnOp::Delete(key),
            "delete-tree" => KvTxnOp::DeleteTree(key),
            "delete-cas" => KvTxnOp::DeleteCas(key, index),
            _ => return Err(verb),
        })
    }
}

/// The answer as JSON; that of a read says more than that of a write.
struct Body {
    answer: Answer,
    reading: Option<Reading<()>>,
}

impl Serialize for Body {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("TxnResponse", 6)?;
        match &self.answer {
            Ok(results) => {
                fields.serialize_field("Results", &Array(|| results.iter().map(ResultJson)))?;
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

struct ResultJson<'a>(&'a TxnResult);

impl Serialize for ResultJson<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let TxnResult::Kv { entry, value } = self.0;
        let mut fields = serializer.serialize_struct("TxnResult", 1)?;
        fields.serialize_field("KV", &Entry { entry, value: *value })?;
        fields.end()
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
