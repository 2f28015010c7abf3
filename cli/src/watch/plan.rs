//! What is watched, and what of it was seen.

use serde_json::Value;

use super::shape::{self, News};
use crate::flags::parse_bool;

/// The flags that say what is watched.
const PARAMETERS: [&str; 7] = ["key", "name", "passingonly", "prefix", "service", "state", "tag"];

/// What is watched: where to ask, and what the answer is made into.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
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
}

impl Plan {
    /// What a type and its parameters mean. `given`: those with a value, in their order; the last of one name counts, but all tags do. The
    /// error is for people, in the words that scripts know.
    pub(super) fn new<'a>(
        kind: &str,
        given: impl Iterator<Item = (&'static str, &'a str)>,
    ) -> Result<Self, String> {
        let given: Vec<_> = given.filter(|(name, _)| PARAMETERS.contains(name)).collect();
        let (mut tags, mut given): (Vec<_>, Vec<_>) = given.into_iter().partition(|(name, _)| *name == "tag");
        let mut take = |name: &str| {
            let found = given.iter().rev().find(|(known, _)| *known == name);
            let found = found.map(|(_, value)| (*value).to_owned());
            given.retain(|(known, _)| *known != name);
            found
        };
        let mut query = Vec::new();
        let required = |what: &str, value: Option<String>| {
            value.ok_or_else(|| format!("Must specify a single {what} to watch"))
        };
        // A slash before a key does not belong to it.
        let (kind, path) = match kind {
            "key" => {
                let key = required("key", take("key"))?;
                (Kind::Key, format!("kv/{}", key.strip_prefix('/').unwrap_or(&key)))
            }
            "keyprefix" => {
                let prefix = required("prefix", take("prefix"))?;
                query.push(("recurse", String::new()));
                (
                    Kind::Prefix,
                    format!("kv/{}", prefix.strip_prefix('/').unwrap_or(&prefix)),
                )
            }
            "services" => (Kind::Services, "catalog/services".to_owned()),
            "nodes" => (Kind::Nodes, "catalog/nodes".to_owned()),
            "service" => {
                let passing = take("passingonly").map(|text| {
                    parse_bool(&text).ok_or_else(|| {
                        format!("Failed to parse passingonly flag: strconv.ParseBool: parsing {text:?}: invalid syntax")
                    })
                });
                let service = required("service", take("service"))?;
                if passing.transpose()? == Some(true) {
                    query.push(("passing", "1".to_owned()));
                }
                query.extend(tags.drain(..).map(|(name, tag)| (name, tag.to_owned())));
                (Kind::Service, format!("health/service/{service}"))
            }
            "checks" => match (take("service"), take("state")) {
                (Some(_), Some(_)) => return Err("Cannot specify service and state".to_owned()),
                (Some(service), None) => (Kind::Checks, format!("health/checks/{service}")),
                (None, state) => {
                    let state = state.as_deref().unwrap_or("any");
                    (Kind::Checks, format!("health/state/{state}"))
                }
            },
            "event" => {
                query.extend(take("name").map(|name| ("name", name)));
                (Kind::Event, "event/list".to_owned())
            }
            other => return Err(format!("Unsupported watch type: {other}")),
        };
        let mut unknown: Vec<_> = given.into_iter().chain(tags).map(|(name, _)| name).collect();
        unknown.sort_unstable();
        unknown.dedup();
        if unknown.is_empty() {
            Ok(Self { kind, path, query })
        } else {
            Err(format!("Invalid parameters: [{}]", unknown.join(" ")))
        }
    }

    /// Where to ask, below `/v1/`.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// How to ask.
    pub(super) fn query(&self) -> Vec<(&str, &str)> {
        self.query
            .iter()
            .map(|(key, value)| (*key, value.as_str()))
            .collect()
    }

    /// What an answer says. `None`: that there is no such thing.
    pub(super) fn read(&self, body: Option<&[u8]>) -> Result<News, serde_json::Error> {
        let Some(body) = body else {
            return Ok(News::Data(Value::Null));
        };
        match self.kind {
            Kind::Key => shape::key(body),
            Kind::Prefix => shape::keys(body),
            Kind::Services => shape::services(body),
            Kind::Nodes => shape::nodes(body),
            Kind::Service => shape::instances(body),
            Kind::Checks => shape::checks(body),
            Kind::Event => shape::events(body),
        }
    }
}

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct Progress {
    index: u64,
    last: Option<News>,
}

impl Progress {
    /// The version to wait on; `None`: do not wait.
    pub(super) fn asks_after(&self) -> Option<u64> {
        (self.index > 0).then_some(self.index)
    }

    /// The version of what was last seen.
    pub(super) fn index(&self) -> u64 {
        self.index
    }

    /// After a failure: asks for what there is now, without waiting for a change.
    pub(super) fn forget(&mut self) {
        self.index = 0;
    }

    /// What is new in an answer of this version.
    pub(super) fn take(&mut self, index: u64, found: News) -> Option<News> {
        // One that goes back is that of another state: whatever comes next is new. An agent always has one.
        self.index = if index < self.index { 0 } else { index.max(1) };
        if self.last.as_ref() == Some(&found) {
            return None;
        }
        let news = match (&self.last, &found) {
            (Some(News::Events(before)), News::Events(now)) => shape::after(before, now),
            (Some(_) | None, found) => Some(found.clone()),
        };
        self.last = Some(found);
        news
    }
}
