//! The service mesh and its configuration, of which there is none: nothing is found, and nothing can be stored.

use async_io::Timer;
use lictor_catalog::{Query, quote};
use lictor_machine::Index;
use serde::Serialize;
use serde_json::{Map, Value as Json};
use trillium::{Method, Status};

use crate::decode::{Fields, parse};
use crate::filter::{Field, Filter, Selectable, Shape, Step, Value, field};
use crate::reply::{Fault, Meta, Reply};
use crate::request::Request;
use crate::text::{errors, parse_uint};

/// The kinds of configuration entries.
const KINDS: [&str; 7] = [
    "service-defaults",
    "proxy-defaults",
    "service-router",
    "service-splitter",
    "service-resolver",
    "ingress-gateway",
    "terminating-gateway",
];

/// How long the text of an id is, in bytes.
const ID_LENGTH: usize = 36;

fn disabled() -> Fault {
    Fault::internal("Connect must be enabled in order to use this endpoint")
}

fn bad_request(why: impl std::fmt::Display) -> Fault {
    Fault::bad_request(format!("Bad request: {why}"))
}

/// The object in a request's body. `kind_name` is what errors call it.
fn object(body: &[u8], path: &'static str, kind_name: &str) -> Result<Fields, String> {
    Fields::new(parse(body)?, path, &format!("value of type {kind_name}"))
}

/// Answers `reply` as what a catalog without any of it says.
async fn nothing(request: &mut Request<'_>, reply: Reply) -> Result<Reply, Fault> {
    let mut options = request.read_options()?;
    if options.min_index > Index::ZERO {
        request.wait(Timer::after(options.wait)).await?;
        options.min_index = Index::ZERO;
    }
    let reading = request.read(Query::Autopilot, options).await?;
    Ok(reply.with_meta(Meta::Blocking {
        index: Index(1),
        known_leader: reading.known_leader,
        last_contact: reading.last_contact,
    }))
}

/// The certificates of the mesh, or one of them, by way of this agent.
pub(crate) fn agent_certificates(request: &Request<'_>) -> Result<Reply, Fault> {
    request.read_options()?;
    Err(disabled())
}

/// The certificates of the mesh.
pub(crate) fn certificates(request: &Request<'_>) -> Result<Reply, Fault> {
    request.read_options()?;
    Err(disabled().with_meta(Meta::UNKNOWN))
}

/// What the mesh's authority is, or is to be.
pub(crate) async fn authority(request: &mut Request<'_>) -> Result<Reply, Fault> {
    if request.conn.method() == Method::Put {
        let body = request.large_body().await?;
        let fields = object(&body, "CAConfiguration", "structs.CAConfiguration");
        let read = fields.and_then(|mut fields| {
            fields.string("Provider", "string")?;
            fields.ignore(&["Config", "State", "CreateIndex", "ModifyIndex"]);
            fields.ignore(&["ForceWithoutCrossSigning", "force_without_cross_signing"]);
            fields.finish()
        });
        read.map_err(|why| bad_request(format!("Request decode failed: {why}")))?;
    }
    Err(disabled())
}

/// Whether a caller may call a service: as nothing is said against it, it may.
pub(crate) async fn authorize(request: &mut Request<'_>) -> Result<Reply, Fault> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Verdict {
        authorized: bool,
        reason: &'static str,
    }
    let body = request.large_body().await?;
    let kind_name = "structs.ConnectAuthorizeRequest";
    let fields = object(&body, "ConnectAuthorizeRequest", kind_name);
    let read = fields.and_then(|mut fields| {
        let target = fields.string("Target", "string")?;
        let caller = fields.string("ClientCertURI", "string")?;
        fields.string("ClientCertSerial", "string")?;
        fields.finish()?;
        Ok((target, caller))
    });
    let (target, caller) = read.map_err(|why| bad_request(format!("Request decode failed: {why}")))?;
    if target.is_empty() {
        return Err(bad_request("Target service must be specified"));
    }
    if !is_service_identity(&caller) {
        return Err(bad_request("ClientCertURI not a valid Connect identifier"));
    }
    let verdict = Verdict {
        authorized: true,
        reason: "ACLs disabled, access is allowed by default",
    };
    Ok(request.json(&verdict, 96))
}

/// Whether a text names a service: `spiffe://DOMAIN/ns/NAMESPACE/dc/DATACENTER/svc/SERVICE`.
fn is_service_identity(uri: &str) -> bool {
    let Some(rest) = uri.strip_prefix("spiffe://") else {
        return false;
    };
    let parts: Vec<&str> = rest.split('/').collect();
    matches!(parts[..], [_, "ns", namespace, "dc", datacenter, "svc", service]
        if [namespace, datacenter, service].iter().all(|part| !part.is_empty()))
}

/// Who may call whom: all that is said about it, which is nothing; or something new, which is refused.
pub(crate) async fn intentions(request: &mut Request<'_>) -> Result<Reply, Fault> {
    if request.conn.method() == Method::Post {
        let body = request.large_body().await?;
        let read = object(&body, "Intention", "structs.Intention");
        let wrong = read.and_then(wrong_intention);
        let wrong = wrong.map_err(|why| Fault::internal(format!("Failed to decode request body: {why}")))?;
        return Err(if wrong.is_empty() {
            disabled()
        } else {
            Fault::internal(errors(&wrong))
        });
    }
    request.read_options()?;
    if let Some(text) = request.params.text("filter") {
        Filter::parse::<Intention>(&text)
            .map_err(|why| Fault::internal(why.to_string()).with_meta(Meta::UNKNOWN))?;
    }
    let none = request.json(&[(); 0], 3);
    let answer = nothing(request, none).await;
    answer.map_err(|fault| fault.with_meta(Meta::UNKNOWN))
}

/// What does not make sense about an intention.
fn wrong_intention(mut fields: Fields) -> Result<Vec<String>, String> {
    let source = fields.string("SourceName", "string")?;
    let destination = fields.string("DestinationName", "string")?;
    let action = fields.string("Action", "structs.IntentionAction")?;
    let mut wrong = Vec::new();
    if source.is_empty() {
        wrong.push("SourceName must be set".to_owned());
    }
    if destination.is_empty() {
        wrong.push("DestinationName must be set".to_owned());
    }
    if !matches!(&action[..], "allow" | "deny") {
        wrong.push("Action must be set to 'allow' or 'deny'".to_owned());
    }
    Ok(wrong)
}

/// What is said about callers of services, or about services that are called: for each nothing.
pub(crate) fn intention_match(request: &Request<'_>) -> Result<Reply, Fault> {
    request.params.no_namespace(request.headers())?;
    match request.params.get("by") {
        None => return Err(Fault::internal("required query parameter 'by' not set")),
        Some(b"source" | b"destination") => {}
        Some(_) => {
            return Err(Fault::internal(
                "'by' parameter must be one of 'source' or 'destination'",
            ));
        }
    }
    let names = request.params.all("name").map(String::from_utf8_lossy);
    let found: Map<String, Json> = names.map(|name| (name.into_owned(), Json::Null)).collect();
    if found.is_empty() {
        return Err(Fault::internal("required query parameter 'name' not set"));
    }
    Ok(request.json(&found, 64))
}

/// Whether a service may call another one.
pub(crate) fn intention_check(request: &Request<'_>) -> Result<Reply, Fault> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Verdict {
        allowed: bool,
    }
    request.params.no_namespace(request.headers())?;
    for name in ["source", "destination"] {
        if !request.params.has(name) {
            return Err(Fault::internal(format!(
                "required query parameter '{name}' not set"
            )));
        }
    }
    if let Some(kind) = request.params.text("source-type").filter(|kind| kind != "consul") {
        let kind = quote(kind.as_bytes());
        return Err(Fault::internal(format!("unsupported SourceType: {kind}")));
    }
    Ok(request.json(&Verdict { allowed: true }, 16))
}

/// One intention, none of which is there.
pub(crate) async fn intention(request: &mut Request<'_>) -> Result<Reply, Fault> {
    let id = request.rest_text();
    let lookup = "failed intention lookup: index error: UUID must be 36 characters";
    let is_id = id.len() == ID_LENGTH;
    let method = request.conn.method();
    if method == Method::Get {
        return Err(if is_id {
            Fault::new(Status::NotFound, "Intention not found")
        } else {
            bad_request(lookup)
        });
    }
    if method == Method::Put {
        let body = request.large_body().await?;
        let read = object(&body, "Intention", "structs.Intention");
        read.map_err(|why| bad_request(format!("Request decode failed: {why}")))?;
    }
    let verb = if method == Method::Put { "modify" } else { "delete" };
    Err(Fault::internal(if is_id {
        format!("Cannot {verb} non-existent intention: '{id}'")
    } else {
        format!("Intention lookup failed: {lookup}")
    }))
}

/// An intention, as filters see it.
struct Intention;

impl Selectable for Intention {
    const FIELDS: &'static [Field] = &[
        field("ID", Shape::Text),
        field("Description", Shape::Text),
        field("SourceNS", Shape::Text),
        field("SourceName", Shape::Text),
        field("DestinationNS", Shape::Text),
        field("DestinationName", Shape::Text),
        field("SourceType", Shape::Text),
        field("Action", Shape::Text),
        field("DefaultAddr", Shape::Text),
        field("DefaultPort", Shape::Number),
        field("Precedence", Shape::Number),
        field("Meta", Shape::Labels),
    ];

    fn value<'a>(&'a self, _path: &[Step]) -> Value<'a> {
        Value::Absent
    }
}

/// Stores a configuration entry, which is refused.
pub(crate) async fn set_config(request: &mut Request<'_>) -> Result<Reply, Fault> {
    let bad = |why: String| bad_request(format!("Request decoding failed: {why}"));
    let body = request.large_body().await?;
    let mut members = match parse(&body).map_err(bad)? {
        Json::Object(members) => members.into_iter(),
        Json::Null => Map::new().into_iter(),
        Json::Array(_) => return Err(bad("'' expected a map, got 'slice'".to_owned())),
        Json::Bool(_) | Json::Number(_) | Json::String(_) => {
            return Err(bad("the body must be an object".to_owned()));
        }
    };
    let kind = match members.find(|(name, _)| name == "Kind" || name == "kind") {
        None => {
            return Err(bad(
                "Payload does not contain a kind/Kind key at the top level".to_owned()
            ));
        }
        Some((_, Json::String(kind))) => kind,
        Some(_) => return Err(bad("Kind value in payload is not a string".to_owned())),
    };
    if !KINDS.contains(&&kind[..]) {
        return Err(bad(format!("invalid config entry kind: {kind}")));
    }
    if let Some(cas) = request.params.get("cas") {
        parse_uint(cas).map_err(Fault::internal)?;
    }
    Err(disabled())
}

/// Configuration entries: all, those of a kind, or one; there is none. To remove one that is not there is no error.
pub(crate) async fn config(request: &mut Request<'_>) -> Result<Reply, Fault> {
    request.params.no_namespace(request.headers())?;
    let path = request.rest_text();
    let (kind, name) = match path.split_once('/') {
        Some((kind, name)) => (kind, Some(name)),
        None => (&path[..], None),
    };
    let unknown = || format!("invalid config entry kind: {kind}");
    if request.conn.method() == Method::Delete {
        if name.is_none() {
            let text = "Must provide both a kind and name to delete";
            return Err(Fault::new(Status::NotFound, text));
        }
        if !KINDS.contains(&kind) {
            return Err(Fault::bad_request(unknown()));
        }
        return Ok(request.json(&Map::new(), 3));
    }
    request.read_options()?;
    if !KINDS.contains(&kind) && !path.is_empty() {
        return Err(Fault::internal(unknown()));
    }
    let Some(name) = name else {
        let none = request.json(&[(); 0], 3);
        return nothing(request, none).await;
    };
    let [kind, name] = [kind, name].map(|text| quote(text.as_bytes()));
    let text = format!("Config entry not found for {kind} / {name}");
    nothing(request, Fault::new(Status::NotFound, text).into()).await
}

/// How calls of a service are routed in the mesh.
pub(crate) async fn discovery_chain(request: &mut Request<'_>) -> Result<Reply, Fault> {
    request.read_options()?;
    if request.rest.is_empty() {
        return Err(bad_request("Missing chain name"));
    }
    request.params.no_namespace(request.headers())?;
    if request.conn.method() == Method::Post {
        let body = request.large_body().await?;
        parse(&body).map_err(|why| bad_request(format!("Request decoding failed: {why}")))?;
    }
    Err(disabled().with_meta(Meta::UNKNOWN))
}

#[cfg(test)]
mod tests {
    use super::is_service_identity;

    #[test]
    fn identities_of_services() {
        assert!(is_service_identity("spiffe://a.consul/ns/default/dc/dc1/svc/web"));
        for bad in [
            "",
            "web",
            "spiffe://a.consul",
            "spiffe://a.consul/ns/default/dc/dc1/svc/",
            "spiffe://a.consul/ns/default/dc/dc1/svc/web/x",
            "http://a.consul/ns/default/dc/dc1/svc/web",
            "spiffe://a.consul/agent/client/dc/dc1/id/x",
        ] {
            assert!(!is_service_identity(bad), "{bad}");
        }
    }
}
