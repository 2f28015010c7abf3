//! `/v1/query`: prepared queries.

mod body;
mod views;

use std::net::IpAddr;
use std::sync::Arc;

use lictor_catalog::{
    Action, Execute, Execution, Found, Outcome, Prepared, PreparedDef, PreparedId, Query, Target,
    TemplateError,
};
use lictor_machine::Index;
use serde::{Deserialize, Serialize};
use trillium::{Method, Status};

use self::body::{Written, written};
use self::views::{ExecutedView, ExplainedView, PreparedView};
use crate::backend::{ReadOptions, Reading};
use crate::discovery::consistency;
use crate::event::regex_error;
use crate::filter::parse_bool;
use crate::json::Array;
use crate::kv::unexpected;
use crate::reply::{Fault, Meta, Reply};
use crate::request::Request;

/// What a prepared query found, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Executed {
    /// The data center that answered last.
    pub datacenter: String,
    /// How many other data centers were asked.
    pub failovers: u32,
    /// What was found there.
    pub execution: Execution,
}

/// About how many bytes a query is as JSON.
const SIZE: usize = 512;

/// How often a new id is drawn, should there be a query with that id.
const IDS_MAX: usize = 3;

/// All prepared queries, or a new one.
pub(crate) async fn general(request: &mut Request<'_>) -> Result<Reply, Fault> {
    if request.conn.method() == Method::Post {
        return create(request).await;
    }
    let options = request.read_options()?;
    list(request, Query::PreparedQueries, options).await
}

/// One prepared query.
pub(crate) async fn specific(request: &mut Request<'_>) -> Result<Reply, Fault> {
    let method = request.conn.method();
    if method == Method::Put {
        update(request).await
    } else if method == Method::Delete {
        delete(request).await
    } else {
        get(request).await
    }
}

async fn get(request: &mut Request<'_>) -> Result<Reply, Fault> {
    let options = request.read_options()?;
    let id = PreparedId::parse(&request.rest_text());
    let id = id.map_err(|error| Fault::internal(error.to_string()).with_meta(Meta::UNKNOWN))?;
    let Some(id) = id else { return Err(not_found()) };
    list(request, Query::PreparedQuery(id), options).await
}

async fn list(request: &mut Request<'_>, query: Query, options: ReadOptions) -> Result<Reply, Fault> {
    let one = matches!(query, Query::PreparedQuery(_));
    let mode = options.mode;
    let reading = request.read(query, options).await;
    let reading = reading.map_err(|fault| fault.with_meta(Meta::UNKNOWN))?;
    let meta = Meta::blocking(&reading);
    let Found::PreparedQueries(found) = reading.value else {
        return Err(unexpected());
    };
    if one && found.is_empty() {
        return Err(not_found());
    }
    let size = SIZE * (found.len() + 1);
    let mut reply = request.large_json(Listed(found), size).await.with_meta(meta);
    reply.consistency = Some(consistency(mode));
    Ok(reply)
}

async fn create(request: &mut Request<'_>) -> Result<Reply, Fault> {
    let options = request.params.lenient_write_options(request.headers());
    let body = request.large_body().await?;
    let written = written(&body).map_err(undecodable)?;
    if !written.id.is_empty() {
        return Err(Fault::internal(
            "ID must be empty when creating a new prepared query",
        ));
    }
    let mut def = checked(written)?;
    for _ in 0..IDS_MAX {
        def.id = PreparedId(request.api.uuid().as_u128());
        let action = Action::CreatePrepared(Box::new(def.clone()));
        match request.write(action, options.clone()).await? {
            Outcome::Prepared(id) => {
                let created = Created { id: id.to_string() };
                return Ok(request.json(&created, 64));
            }
            Outcome::Refused(why) => return Err(Fault::internal(why)),
            // There is one with this id.
            Outcome::Done(false) => {}
            Outcome::Done(true) | Outcome::Txn(_) | Outcome::Session(_) => return Err(unexpected()),
        }
    }
    Err(Fault::internal(
        "No id was found for the query that no other has; this cannot be by chance: are several agents started from one seed?",
    ))
}

async fn update(request: &mut Request<'_>) -> Result<Reply, Fault> {
    let options = request.params.lenient_write_options(request.headers());
    let body = request.large_body().await?;
    let written = if body.is_empty() {
        Written::default()
    } else {
        written(&body).map_err(undecodable)?
    };
    let id = existing(request)?;
    let mut def = match checked(written) {
        Ok(def) => def,
        // Whether there is such a query is looked at first.
        Err(fault) => {
            let reading = ReadOptions {
                datacenter: options.datacenter,
                token: options.token,
                ..ReadOptions::default()
            };
            let found = request.read(Query::PreparedQuery(id), reading).await?.value;
            let none = matches!(&found, Found::PreparedQueries(found) if found.is_empty());
            return Err(if none { missing(&id.to_string()) } else { fault });
        }
    };
    def.id = id;
    let action = Action::UpdatePrepared(Box::new(def));
    done(request.write(action, options).await?)
}

async fn delete(request: &Request<'_>) -> Result<Reply, Fault> {
    let options = request.params.lenient_write_options(request.headers());
    let action = Action::DeletePrepared(existing(request)?);
    done(request.write(action, options).await?)
}

fn done(outcome: Outcome) -> Result<Reply, Fault> {
    match outcome {
        Outcome::Done(_) => Ok(Reply::empty()),
        Outcome::Refused(why) => Err(Fault::internal(why)),
        Outcome::Txn(_) | Outcome::Session(_) | Outcome::Prepared(_) => Err(unexpected()),
    }
}

/// The query to be changed that the path names.
fn existing(request: &Request<'_>) -> Result<PreparedId, Fault> {
    let text = request.rest_text();
    let malformed = |error| Fault::internal(format!("Prepared Query lookup failed: {error}"));
    let id = PreparedId::parse(&text).map_err(malformed)?;
    id.ok_or_else(|| missing(&text))
}

fn missing(id: &str) -> Fault {
    Fault::internal(format!("Cannot modify non-existent prepared query: '{id}'"))
}

/// What was written, if it makes sense.
fn checked(written: Written) -> Result<PreparedDef, Fault> {
    let mut def = written.def;
    def.check().map_err(Fault::internal)?;
    if !def.ttl_text.is_empty() {
        def.ttl = Some(body::ttl(&def.ttl_text).map_err(Fault::internal)?);
    }
    def.check_template().map_err(|error| {
        let why = match &error {
            TemplateError::Pattern { pattern, .. } => {
                format!("Bad Regexp: error parsing regexp: {}", regex_error(pattern))
            }
            TemplateError::Kind(_)
            | TemplateError::Format { .. }
            | TemplateError::Evaluation { .. }
            | TemplateError::TooLarge => error.to_string(),
        };
        Fault::internal(format!("failed compiling template: {why}"))
    })?;
    Ok(def)
}

/// Says what a query means under a name.
pub(crate) async fn explain(request: &mut Request<'_>) -> Result<Reply, Fault> {
    let options = unblocking(request)?;
    limit(request)?;
    let mode = options.mode;
    let reading = request.read(Query::Resolve(name(request)), options).await;
    let reading = reading.map_err(|fault| fault.with_meta(Meta::UNKNOWN))?;
    let (meta, grade) = grade(&reading);
    let Found::Resolved(resolved) = reading.value else {
        return Err(unexpected());
    };
    let resolved = resolved.map_err(|why| Fault::internal(why).with_meta(Meta::UNKNOWN))?;
    let query = resolved.ok_or_else(not_found)?;
    let view = ExplainedView::new(&query, grade, consistency(mode));
    let mut reply = request.json(&view, 2 * SIZE).with_meta(meta);
    reply.consistency = Some(consistency(mode));
    Ok(reply)
}

/// Carries a query out.
pub(crate) async fn execute(request: &mut Request<'_>) -> Result<Reply, Fault> {
    let options = unblocking(request)?;
    let limit = limit(request)?;
    let connect = match request.params.text("connect") {
        None => false,
        Some(text) => parse_bool(&text)
            .map_err(|why| Fault::internal(format!("Error parsing 'connect' value: {why}")))?,
    };
    let mode = options.mode;
    let execute = Execute {
        target: Target::Named(name(request)),
        near: request.params.text("near").unwrap_or_default().into_owned(),
        agent: request.api.identity()?.node_name.clone(),
        client: client(request),
        connect,
        limit,
        seed: request.api.draw(),
    };
    let reading = request.api.backend.execute_query(execute, options).await;
    let reading = reading.map_err(|failure| Fault::from(failure).with_meta(Meta::UNKNOWN))?;
    let (meta, grade) = grade(&reading);
    let executed = reading.value.ok_or_else(not_found)?;
    let size = SIZE + 1024 * executed.execution.instances.len();
    let word = consistency(mode);
    let mut reply = request
        .large_json(ExecutedView::new(executed, grade, word), size)
        .await
        .with_meta(meta);
    reply.consistency = Some(word);
    // What is found is never kept.
    reply.cached = request.params.has("cached").then_some(false);
    Ok(reply)
}

/// How good an answer is, for headers and for those who look at the body. Nobody can wait for another one.
fn grade<T>(reading: &Reading<T>) -> (Meta, Grade) {
    let Reading {
        known_leader,
        last_contact,
        ..
    } = *reading;
    let meta = Meta::Blocking {
        index: Index(1),
        known_leader,
        last_contact,
    };
    let last_contact = i64::try_from(last_contact.as_nanos()).unwrap_or(i64::MAX);
    let grade = Grade {
        last_contact,
        known_leader,
    };
    (meta, grade)
}

/// How good an answer is.
#[derive(Clone, Copy, Debug)]
struct Grade {
    /// In nanoseconds.
    last_contact: i64,
    known_leader: bool,
}

fn unblocking(request: &Request<'_>) -> Result<ReadOptions, Fault> {
    let options = request.read_options()?;
    Ok(ReadOptions {
        min_index: Index::ZERO,
        ..options
    })
}

/// The name or id of the query that is meant.
fn name(request: &Request<'_>) -> String {
    request.rest_text()
}

/// How many instances are wanted; 0: all.
fn limit(request: &Request<'_>) -> Result<usize, Fault> {
    let Some(text) = request.params.text("limit") else {
        return Ok(0);
    };
    text.parse::<i64>().map_or_else(
        |error| {
            use std::num::IntErrorKind::{NegOverflow, PosOverflow};
            let why = if matches!(error.kind(), PosOverflow | NegOverflow) {
                "value out of range"
            } else {
                "invalid syntax"
            };
            let text = lictor_catalog::quote(text.as_bytes());
            Err(Fault::internal(format!(
                "Bad limit: strconv.Atoi: parsing {text}: {why}"
            )))
        },
        // Below zero means nothing.
        |limit| Ok(usize::try_from(limit).unwrap_or(0)),
    )
}

/// Who asks: the client, or, if it speaks for another, that one.
fn client(request: &Request<'_>) -> Option<IpAddr> {
    let forwarded = request.headers().get_str("X-Forwarded-For");
    let first = forwarded.and_then(|text| text.split(',').next()?.trim().parse().ok());
    first.or_else(|| request.conn.peer_ip())
}

fn undecodable(why: String) -> Fault {
    Fault::bad_request(format!("Request decode failed: {why}"))
}

fn not_found() -> Fault {
    Fault::new(Status::NotFound, "Query not found")
}

/// The answer to who made a query.
#[derive(Serialize)]
#[serde(rename_all = "UPPERCASE")]
struct Created {
    id: String,
}

/// Queries as JSON.
struct Listed(Vec<Arc<Prepared>>);

impl Serialize for Listed {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Array(|| self.0.iter().map(|query| PreparedView(query))).serialize(serializer)
    }
}
