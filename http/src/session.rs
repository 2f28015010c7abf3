//! `/v1/session/`: what locks are held by.

use std::sync::Arc;
use std::time::Duration;

use lictor_catalog::{
    Action, Behavior, Found, MAX_SESSION_TTL, Outcome, Query, ServiceCheck, Session, SessionDef, SessionId,
    Text,
};
use serde::Serialize;
use serde_json::Value;
use trillium::{KnownHeaderName, Status};

use crate::backend::{ReadOptions, Reading};
use crate::decode::{Fields, items, parse};
use crate::kv::unexpected;
use crate::reply::{Fault, Meta, Reply};
use crate::request::Request;
use crate::text::{Signed, format_duration, parse_duration};

/// The check that a session depends on if it does not say.
const SERF_HEALTH: &str = "serfHealth";

/// How long the locks of a session that does not say are kept from others.
const LOCK_DELAY: Duration = Duration::from_secs(15);

/// A number that is less means seconds, and not nanoseconds.
const LEAST_NANOS: i64 = 1000;

/// How often a new name is drawn, should there be a session of that name.
const NAMES_MAX: usize = 3;

/// Makes a session.
pub(crate) async fn create(request: &mut Request<'_>) -> Result<Reply, Fault> {
    let options = request.params.lenient_write_options(request.headers());
    request.params.no_namespace(request.headers())?;
    let node = Text::from(&*request.api.identity()?.node_name);
    let mut def = SessionDef {
        node,
        lock_delay_nanos: i64::try_from(LOCK_DELAY.as_nanos()).unwrap_or(i64::MAX),
        node_checks: Some(vec![SERF_HEALTH.into()]),
        ..SessionDef::default()
    };
    // A body whose length is not told beforehand is not looked at, for historical reasons.
    let told = request.headers().has_header(KnownHeaderName::ContentLength);
    if told {
        let body = request.large_body().await?;
        if !body.is_empty() {
            let malformed = |why| Fault::bad_request(format!("Request decode failed: {why}"));
            let asked = parse(&body).and_then(read).map_err(malformed)?;
            asked.apply(&mut def, request.api.config.session_ttl_min)?;
        }
    }
    for _ in 0..NAMES_MAX {
        def.id = SessionId(request.api.uuid().as_u128());
        let action = Action::CreateSession(Box::new(def.clone()));
        match request.write(action, options.clone()).await? {
            Outcome::Session(id) => return Ok(request.json(&Created { id: id.to_string() }, 64)),
            Outcome::Refused(why) => return Err(Fault::internal(why)),
            // There is one of this name.
            Outcome::Done(false) => {}
            Outcome::Done(true) | Outcome::Txn(_) | Outcome::Prepared(_) => return Err(unexpected()),
        }
    }
    Err(Fault::internal(
        "No name was found for the session that no other has; this cannot be by chance: are several agents started from one seed?",
    ))
}

/// Ends a session. One that does not live is no error.
pub(crate) async fn destroy(request: &mut Request<'_>) -> Result<Reply, Fault> {
    let options = request.params.lenient_write_options(request.headers());
    request.params.no_namespace(request.headers())?;
    if let Some(id) = id(request)? {
        match request.write(Action::EndSessions(vec![id]), options).await? {
            Outcome::Done(_) => {}
            Outcome::Refused(why) => return Err(Fault::internal(why)),
            Outcome::Txn(_) | Outcome::Session(_) | Outcome::Prepared(_) => return Err(unexpected()),
        }
    }
    Ok(request.json(&true, 5))
}

/// Gives a session its time anew.
pub(crate) async fn renew(request: &mut Request<'_>) -> Result<Reply, Fault> {
    let options = request.write_options()?;
    request.params.no_namespace(request.headers())?;
    let found = match id(request)? {
        Some(id) => request.api.backend.renew_session(id, options).await?,
        None => None,
    };
    let Some(session) = found else {
        let text = format!("Session id '{}' not found", request.rest_text());
        return Err(Fault::new(Status::NotFound, text));
    };
    Ok(request.json(&[View(&session)], SIZE))
}

/// One session, if it lives.
pub(crate) async fn info(request: &mut Request<'_>) -> Result<Reply, Fault> {
    let options = request.read_options()?;
    request.params.no_namespace(request.headers())?;
    // A name that is none is looked up all the same: it may be waited for.
    let id = id(request).map_err(|fault| {
        if request.rest.is_empty() {
            fault
        } else {
            fault.with_meta(Meta::UNKNOWN)
        }
    })?;
    answer(request, Query::Session(id.unwrap_or_default()), options).await
}

/// The sessions on a node.
pub(crate) async fn node(request: &mut Request<'_>) -> Result<Reply, Fault> {
    let options = request.read_options()?;
    request.params.no_namespace(request.headers())?;
    if request.rest.is_empty() {
        return Err(Fault::bad_request("Missing node name"));
    }
    answer(request, Query::NodeSessions(request.rest_text()), options).await
}

/// All sessions.
pub(crate) async fn list(request: &mut Request<'_>) -> Result<Reply, Fault> {
    let options = request.read_options()?;
    request.params.no_namespace(request.headers())?;
    answer(request, Query::Sessions, options).await
}

/// About how many bytes a session is as JSON.
const SIZE: usize = 320;

async fn answer(request: &mut Request<'_>, query: Query, options: ReadOptions) -> Result<Reply, Fault> {
    let reading = request.read(query, options).await;
    let reading: Reading<Found> = reading.map_err(|fault| fault.with_meta(Meta::UNKNOWN))?;
    let meta = Meta::blocking(&reading);
    let Found::Sessions(sessions) = reading.value else {
        return Err(unexpected());
    };
    let size = 2 + SIZE * sessions.len();
    let reply = request.large_json(Views(sessions), size).await;
    Ok(reply.with_meta(meta))
}

/// The session that the path names; `None` if none can have that name.
fn id(request: &Request<'_>) -> Result<Option<SessionId>, Fault> {
    if request.rest.is_empty() {
        return Err(Fault::bad_request("Missing session"));
    }
    SessionId::parse(&request.rest_text()).map_err(|error| Fault::internal(error.to_string()))
}

/// What a client says of the checks that its session depends on.
enum NodeChecks {
    /// Nothing.
    Unsaid,
    /// These, or `null`.
    Said(Option<Vec<Text>>),
}

/// What a client asks for, as far as it says anything.
struct Asked {
    name: String,
    node: String,
    lock_delay: Option<i64>,
    behavior: String,
    ttl: String,
    node_checks: NodeChecks,
    service_checks: Option<Vec<ServiceCheck>>,
    checks: Option<Vec<Text>>,
}

/// Reads a request's body. Members that are not known mean nothing.
fn read(body: Value) -> Result<Asked, String> {
    // Of these it counts whether they are there, be it as `null`.
    let [node_checks, checks] = ["NodeChecks", "Checks"].map(|name| {
        let mut members = body.as_object().into_iter().flatten();
        let member = members.rfind(|(key, _)| key.eq_ignore_ascii_case(name));
        member.map(|(_, value)| !value.is_null())
    });
    let place = "value of type struct { LockDelay interface {}; *structs.Alias }";
    let mut fields = Fields::new(body, "", place)?;
    let mut texts = |name: &str| -> Result<Vec<Text>, String> {
        let texts = fields.strings(name)?;
        Ok(texts.into_iter().map(Text::from).collect())
    };
    let node_checks = match node_checks {
        None => NodeChecks::Unsaid,
        Some(false) => NodeChecks::Said(None),
        Some(true) => NodeChecks::Said(Some(texts("NodeChecks")?)),
    };
    let checks = checks.map(|_| texts("Checks")).transpose();
    // The others are only texts.
    let checks = checks.map_err(|why| match why.strip_suffix("string") {
        Some(start) => format!("{start}types.CheckID"),
        None => why,
    })?;
    Ok(Asked {
        name: fields.string("Name", "string")?,
        node: fields.string("Node", "string")?,
        lock_delay: fields.take("LockDelay").map(lock_delay).transpose()?,
        behavior: fields.string("Behavior", "structs.SessionBehavior")?,
        ttl: fields.string("TTL", "string")?,
        node_checks,
        service_checks: fields.take("ServiceChecks").map(service_checks).transpose()?,
        checks,
    })
}

fn service_checks(value: Value) -> Result<Vec<ServiceCheck>, String> {
    let checks = items(value, "[]structs.ServiceCheck");
    let checks = checks.map_err(|why| why.replace("Go value", "Go struct field .ServiceChecks"))?;
    let checks = checks.into_iter().map(|check| {
        let place = "struct field .ServiceChecks of type structs.ServiceCheck";
        let mut fields = Fields::new(check, "ServiceCheck.ServiceChecks", place)?;
        Ok(ServiceCheck {
            id: fields.string("ID", "string")?.into(),
            namespace: fields.string("Namespace", "string")?.into(),
        })
    });
    checks.collect()
}

/// A delay in nanoseconds: a text, or a number; what is neither is none. Small ones are meant as seconds, even those that are written
/// with their unit, and what is below zero counts as small: all for historical reasons.
fn lock_delay(value: Value) -> Result<i64, String> {
    let nanos = match value {
        Value::String(text) => {
            let magnitude = |text: &str| match parse_duration(text) {
                Ok(Signed::Positive(duration)) => i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX),
                Ok(Signed::Negative) | Err(_) => 0,
            };
            match parse_duration(&text)? {
                Signed::Positive(_) => magnitude(&text),
                Signed::Negative => -magnitude(text.trim_start_matches('-')),
            }
        }
        Value::Number(number) => number.as_f64().unwrap_or_default() as i64,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => 0,
    };
    if nanos < LEAST_NANOS {
        return Ok(nanos.wrapping_mul(1_000_000_000));
    }
    Ok(nanos)
}

impl Asked {
    /// Takes over into `def` what is asked for. TTLs must be at least `ttl_min`.
    fn apply(self, def: &mut SessionDef, ttl_min: Duration) -> Result<(), Fault> {
        let Self {
            name,
            node,
            lock_delay,
            behavior,
            ttl,
            node_checks,
            service_checks,
            checks,
        } = self;
        def.behavior = match behavior.as_str() {
            "" | "release" => Behavior::Release,
            "delete" => Behavior::Delete,
            other => return Err(Fault::internal(format!("Invalid Behavior setting '{other}'"))),
        };
        if !ttl.is_empty() {
            def.ttl = checked_ttl(&ttl, ttl_min)?;
        }
        def.ttl_text = ttl.into();
        def.name = name.into();
        if !node.is_empty() {
            def.node = node.into();
        }
        if let Some(lock_delay) = lock_delay {
            def.lock_delay_nanos = lock_delay;
        }
        if let NodeChecks::Said(node_checks) = node_checks {
            def.node_checks = node_checks;
        }
        def.service_checks = service_checks;
        match checks {
            None => {}
            // In the way of old clients, for whom there was no other list.
            Some(checks) if checks.is_empty() => def.node_checks = Some(Vec::new()),
            Some(checks) if matches!(&*checks, [only] if **only == *SERF_HEALTH) => {}
            Some(checks) => def.checks = checks,
        }
        Ok(())
    }
}

fn checked_ttl(text: &str, least: Duration) -> Result<Duration, Fault> {
    let invalid = |nanos: String| {
        let (least, most) = (format_duration(least), format_duration(MAX_SESSION_TTL));
        Fault::internal(format!(
            "Invalid Session TTL '{nanos}', must be between [{least}={most}]"
        ))
    };
    let parsed = parse_duration(text);
    match parsed.map_err(|why| Fault::internal(format!("Session TTL '{text}' invalid: {why}")))? {
        Signed::Positive(ttl) if ttl.is_zero() || (least..=MAX_SESSION_TTL).contains(&ttl) => Ok(ttl),
        Signed::Positive(ttl) => Err(invalid(ttl.as_nanos().to_string())),
        Signed::Negative => {
            let magnitude = match parse_duration(text.trim_start_matches('-')) {
                Ok(Signed::Positive(ttl)) => ttl.as_nanos(),
                Ok(Signed::Negative) | Err(_) => 0,
            };
            Err(invalid(format!("-{magnitude}")))
        }
    }
}

/// The answer to who made a session.
#[derive(Serialize)]
#[serde(rename_all = "UPPERCASE")]
struct Created {
    id: String,
}

/// Sessions as JSON.
struct Views(Vec<Arc<Session>>);

impl Serialize for Views {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|session| View(session)))
    }
}

/// A session as JSON.
struct View<'a>(&'a Session);

impl<'a> Serialize for View<'a> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Object<'a> {
            #[serde(rename = "ID")]
            id: String,
            name: &'a str,
            node: &'a str,
            lock_delay: i64,
            behavior: &'static str,
            #[serde(rename = "TTL")]
            ttl: &'a str,
            node_checks: Option<&'a [Text]>,
            service_checks: Option<Vec<CheckObject<'a>>>,
            #[serde(skip_serializing_if = "<[Text]>::is_empty")]
            checks: &'a [Text],
            create_index: u64,
            modify_index: u64,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct CheckObject<'a> {
            #[serde(rename = "ID")]
            id: &'a str,
            namespace: &'a str,
        }
        let Session { def, create_index } = self.0;
        let object = |check: &'a ServiceCheck| CheckObject {
            id: &check.id,
            namespace: &check.namespace,
        };
        Object {
            id: def.id.to_string(),
            name: &def.name,
            node: &def.node,
            lock_delay: def.lock_delay_nanos,
            behavior: def.behavior.as_str(),
            ttl: &def.ttl_text,
            node_checks: def.node_checks.as_deref(),
            service_checks: def
                .service_checks
                .as_ref()
                .map(|checks| checks.iter().map(object).collect()),
            checks: &def.checks,
            create_index: create_index.0,
            // Nothing about a session ever changes.
            modify_index: create_index.0,
        }
        .serialize(serializer)
    }
}
