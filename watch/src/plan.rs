//! The question.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::news::News;
use crate::parameters::Parameters;
use crate::progress::Version;
use crate::shape;

/// What may stand in a path as it is.
const PATH: &AsciiSet = &QUERY.remove(b'/').remove(b':').remove(b'@');

/// What may stand in a query as it is.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// The states that checks can be watched for.
const STATES: [&str; 4] = ["any", "passing", "warning", "critical"];

/// Why parameters are no watch. The texts are those that scripts know from Consul, but for [`PlanError::NoState`], which Consul does not find before
/// it asks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// There is no such type.
    #[error("Unsupported watch type: {0}")]
    Unsupported(String),
    /// A parameter that the type needs is not there.
    #[error("Must specify a single {0} to watch")]
    Missing(&'static str),
    /// A parameter is of the wrong kind.
    #[error("Expecting {name} to be {wanted}")]
    Mistyped {
        /// The parameter.
        name: &'static str,
        /// What it should be, with its article.
        wanted: &'static str,
    },
    /// Something in a list is no text.
    #[error("Index {at} of {name} expected to be string")]
    MistypedItem {
        /// The parameter.
        name: &'static str,
        /// The item, counted from 0.
        at: usize,
    },
    /// Both were given for checks.
    #[error("Cannot specify service and state")]
    ServiceAndState,
    /// No check has such a state.
    #[error("Invalid state: {0}; must be one of {names}", names = STATES.join(", "))]
    NoState(String),
    /// Parameters that the type does not have, in the order of their names.
    #[error("Invalid parameters: [{}]", .0.join(" "))]
    Unknown(Vec<String>),
}

/// What tells one version of an answer from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionKind {
    /// A number that grows.
    Index,
    /// A hash of what the answer says.
    Hash,
}

impl VersionKind {
    /// The header of an answer that has it.
    pub const fn header(self) -> &'static str {
        match self {
            Self::Index => "X-Consul-Index",
            Self::Hash => "X-Consul-ContentHash",
        }
    }

    /// Reads that header. `None`: it is no version.
    pub fn read(self, header: &str) -> Option<Version> {
        match self {
            Self::Index => header.parse().ok().map(Version::Index),
            Self::Hash => Some(header)
                .filter(|hash| !hash.is_empty())
                .map(|hash| Version::Hash(hash.to_owned())),
        }
    }
}

/// What is watched: where to ask, and what an answer is made into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    kind: Kind,
    path: String,
    query: Vec<(&'static str, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Key,
    Prefix,
    Services,
    Nodes,
    Service,
    Checks,
    Event,
    AgentService,
}

impl Kind {
    fn named(name: &str) -> Option<Self> {
        let all = [
            Self::Key,
            Self::Prefix,
            Self::Services,
            Self::Nodes,
            Self::Service,
            Self::Checks,
            Self::Event,
            Self::AgentService,
        ];
        all.into_iter().find(|kind| kind.name() == name)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Prefix => "keyprefix",
            Self::Services => "services",
            Self::Nodes => "nodes",
            Self::Service => "service",
            Self::Checks => "checks",
            Self::Event => "event",
            Self::AgentService => "agent_service",
        }
    }

    /// Whether any server may answer.
    const fn may_be_stale(self) -> bool {
        match self {
            Self::Key | Self::Prefix | Self::Services | Self::Nodes | Self::Service | Self::Checks => true,
            Self::Event | Self::AgentService => false,
        }
    }
}

impl Plan {
    /// What a type and its parameters mean. All parameters must be known, and what a type needs must be there.
    pub fn new(kind: &str, mut given: Parameters) -> Result<Self, PlanError> {
        let Some(kind) = Kind::named(kind) else {
            return Err(PlanError::Unsupported(kind.to_owned()));
        };
        let mut query = Vec::new();
        if kind.may_be_stale() && given.switch("stale")? {
            query.push(("stale", String::new()));
        }
        let mut required =
            |name: &'static str, shown: &'static str| given.text(name)?.ok_or(PlanError::Missing(shown));
        // A slash before a key does not belong to it.
        let path = match kind {
            Kind::Key => {
                let key = required("key", "key")?;
                format!("kv/{}", key.strip_prefix('/').unwrap_or(&key))
            }
            Kind::Prefix => {
                let prefix = required("prefix", "prefix")?;
                query.push(("recurse", String::new()));
                format!("kv/{}", prefix.strip_prefix('/').unwrap_or(&prefix))
            }
            Kind::Services => "catalog/services".to_owned(),
            Kind::Nodes => "catalog/nodes".to_owned(),
            Kind::Service => {
                let service = required("service", "service")?;
                let tags = given.texts("tag")?.unwrap_or_default();
                if given.switch("passingonly")? {
                    query.push(("passing", "1".to_owned()));
                }
                query.extend(tags.into_iter().map(|tag| ("tag", tag)));
                format!("health/service/{service}")
            }
            Kind::Checks => match (given.text("service")?, given.text("state")?) {
                (Some(_), Some(_)) => return Err(PlanError::ServiceAndState),
                (Some(service), None) => format!("health/checks/{service}"),
                (None, Some(state)) if !STATES.contains(&state.as_str()) => {
                    return Err(PlanError::NoState(state));
                }
                (None, state) => format!("health/state/{}", state.as_deref().unwrap_or("any")),
            },
            Kind::Event => {
                query.extend(given.text("name")?.map(|name| ("name", name)));
                "event/list".to_owned()
            }
            Kind::AgentService => format!("agent/service/{}", required("service_id", "service_id")?),
        };
        given.finish()?;
        Ok(Self { kind, path, query })
    }

    /// The type, as it is called in configurations.
    pub fn kind(&self) -> &'static str {
        self.kind.name()
    }

    /// Where to ask, below `/v1/`. Not encoded.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// How to ask: names and values, not encoded. A name without a value has an empty one.
    pub fn query(&self) -> impl Iterator<Item = (&str, &str)> {
        self.query.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// Path and query, encoded, from `/v1/` on: those of the plan and `more`.
    pub fn target<'a>(&'a self, more: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
        let mut target = format!("/v1/{}", utf8_percent_encode(&self.path, PATH));
        for (at, (name, value)) in self.query().chain(more).enumerate() {
            target.push(if at == 0 { '?' } else { '&' });
            target.extend(utf8_percent_encode(name, QUERY));
            target.push('=');
            target.extend(utf8_percent_encode(value, QUERY));
        }
        target
    }

    /// What to wait on for another answer.
    pub fn versions(&self) -> VersionKind {
        match self.kind {
            Kind::Key
            | Kind::Prefix
            | Kind::Services
            | Kind::Nodes
            | Kind::Service
            | Kind::Checks
            | Kind::Event => VersionKind::Index,
            Kind::AgentService => VersionKind::Hash,
        }
    }

    /// Whether there may be nothing to be found, which an answer with the status 404 says then. For all other plans that is a failure.
    pub fn may_find_nothing(&self) -> bool {
        match self.kind {
            Kind::Key | Kind::Prefix => true,
            Kind::Services
            | Kind::Nodes
            | Kind::Service
            | Kind::Checks
            | Kind::Event
            | Kind::AgentService => false,
        }
    }

    /// What an answer says. `None`: that there is no such thing. Fails if the answer is not what the API says to this question.
    pub fn read(&self, body: Option<&[u8]>) -> serde_json::Result<News> {
        let Some(body) = body else {
            return Ok(News::data(Value::Null));
        };
        match self.kind {
            Kind::Key => shape::key(body).map(News::data),
            Kind::Prefix => shape::keys(body).map(News::data),
            Kind::Services => shape::services(body).map(News::data),
            Kind::Nodes => shape::nodes(body).map(News::data),
            Kind::Service => shape::instances(body).map(News::data),
            Kind::Checks => shape::checks(body).map(News::data),
            Kind::Event => shape::events(body).map(News::events),
            Kind::AgentService => shape::local_service(body).map(News::data),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plan(kind: &str, given: Value) -> Result<Plan, String> {
        let Value::Object(given) = given else {
            panic!("parameters have names: {given}");
        };
        Plan::new(kind, Parameters::new(given)).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_asked() {
        for (kind, given, target) in [
            ("key", json!({"key": "/a b/ä?#%"}), "/v1/kv/a%20b/%C3%A4%3F%23%25"),
            ("key", json!({"key": "//a", "stale": true}), "/v1/kv//a?stale="),
            (
                "keyprefix",
                json!({"prefix": "a/", "stale": false}),
                "/v1/kv/a/?recurse=",
            ),
            ("services", json!({}), "/v1/catalog/services"),
            ("nodes", json!({"stale": null}), "/v1/catalog/nodes"),
            (
                "service",
                json!({"service": "web", "tag": ["a&b", "c"], "passingonly": true}),
                "/v1/health/service/web?passing=1&tag=a%26b&tag=c",
            ),
            (
                "service",
                json!({"service": ["web"], "tag": "a"}),
                "/v1/health/service/web?tag=a",
            ),
            ("checks", json!({}), "/v1/health/state/any"),
            (
                "checks",
                json!({"state": "critical", "service": ""}),
                "/v1/health/state/critical",
            ),
            ("checks", json!({"service": "web"}), "/v1/health/checks/web"),
            ("event", json!({}), "/v1/event/list"),
            ("event", json!({"name": "deploy"}), "/v1/event/list?name=deploy"),
            (
                "agent_service",
                json!({"service_id": "web-1"}),
                "/v1/agent/service/web-1",
            ),
        ] {
            let plan = plan(kind, given.clone()).unwrap();
            assert_eq!(
                (plan.kind(), plan.target([])),
                (kind, target.to_owned()),
                "{given}"
            );
        }
        let plan = plan("event", json!({"name": "x"})).unwrap();
        assert_eq!(
            plan.target([("index", "5"), ("dc", "a=b")]),
            "/v1/event/list?name=x&index=5&dc=a%3Db"
        );
    }

    #[test]
    fn what_is_no_watch() {
        for (kind, given, why) in [
            ("bogus", json!({}), "Unsupported watch type: bogus"),
            (
                "checks",
                json!({"state": "foo"}),
                "Invalid state: foo; must be one of any, passing, warning, critical",
            ),
            ("key", json!({}), "Must specify a single key to watch"),
            ("key", json!({"key": ""}), "Must specify a single key to watch"),
            ("key", json!({"key": 5}), "Expecting key to be a string"),
            ("key", json!({"key": ["a", "b"]}), "Expecting key to be a string"),
            (
                "keyprefix",
                json!({"key": "a"}),
                "Must specify a single prefix to watch",
            ),
            (
                "service",
                json!({"tag": "a"}),
                "Must specify a single service to watch",
            ),
            (
                "service",
                json!({"service": "a", "passingonly": "true"}),
                "Expecting passingonly to be a boolean",
            ),
            (
                "service",
                json!({"service": "a", "tag": 5}),
                "Expecting tag to be a string or []string",
            ),
            (
                "service",
                json!({"service": "a", "tag": ["x", 5]}),
                "Index 1 of tag expected to be string",
            ),
            (
                "checks",
                json!({"service": "a", "state": "any"}),
                "Cannot specify service and state",
            ),
            ("nodes", json!({"stale": "x"}), "Expecting stale to be a boolean"),
            (
                "nodes",
                json!({"zoo": null, "tag": "a", "key": 5}),
                "Invalid parameters: [key tag zoo]",
            ),
            ("event", json!({"stale": true}), "Invalid parameters: [stale]"),
            (
                "agent_service",
                json!({}),
                "Must specify a single service_id to watch",
            ),
        ] {
            assert_eq!(plan(kind, given.clone()), Err(why.to_owned()), "{kind} {given}");
        }
    }

    #[test]
    fn versions_and_what_may_not_be_there() {
        let key = plan("key", json!({"key": "a"})).unwrap();
        assert_eq!(
            (key.versions(), key.may_find_nothing()),
            (VersionKind::Index, true)
        );
        assert_eq!(key.read(None).unwrap(), News::data(Value::Null));
        let service = plan("agent_service", json!({"service_id": "a"})).unwrap();
        assert_eq!(
            (service.versions(), service.may_find_nothing()),
            (VersionKind::Hash, false)
        );
        assert_eq!(VersionKind::Index.read("7"), Some(Version::Index(7)));
        assert_eq!(VersionKind::Index.read("x"), None);
        assert_eq!(VersionKind::Hash.read("7a"), Some(Version::Hash("7a".to_owned())));
        assert_eq!(VersionKind::Hash.read(""), None);
    }
}
