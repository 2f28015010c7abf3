//! What a session is.

use std::time::Duration;

use lictor_machine::Index;
use serde::{Deserialize, Serialize};

use super::id::SessionId;
use crate::discovery::{MAX_NAME_BYTES, MAX_TEXT_BYTES, Text};

/// The longest TTL of a session.
pub const MAX_SESSION_TTL: Duration = Duration::from_hours(24);

/// How long a lock can be kept from others after its session ended, whatever the session asks for.
pub const MAX_LOCK_DELAY: Duration = Duration::from_mins(1);

/// The most checks of one kind that a session may depend on.
pub const MAX_SESSION_CHECKS: usize = 64;

/// What becomes of the keys that a session has locked when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Behavior {
    /// Their locks are free; value and flags stay.
    #[default]
    Release,
    /// They are deleted.
    Delete,
}

impl Behavior {
    /// As the API writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Delete => "delete",
        }
    }
}

/// A session, as whoever creates it says. It lives on a node, ends with it, and with any check on it that it depends on.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SessionDef {
    /// Its name, drawn at random.
    pub id: SessionId,
    /// A name for people.
    pub name: Text,
    /// The node that it lives on.
    pub node: Text,
    /// For how long its locks are kept from others after it has ended, in nanoseconds; [`Self::lock_delay`] is what comes of it.
    pub lock_delay_nanos: i64,
    /// What becomes of the keys that it has locked.
    pub behavior: Behavior,
    /// For how long it lives without being renewed, at least; zero for ever. At most [`MAX_SESSION_TTL`].
    pub ttl: Duration,
    /// The same as whoever created it wrote it.
    pub ttl_text: Text,
    /// Checks that it depends on, by id; `None` is none, written otherwise. At most [`MAX_SESSION_CHECKS`].
    pub node_checks: Option<Vec<Text>>,
    /// Further ones; `None` is none, written otherwise. At most [`MAX_SESSION_CHECKS`].
    pub service_checks: Option<Vec<ServiceCheck>>,
    /// Further ones, in the way of old clients. At most [`MAX_SESSION_CHECKS`].
    pub checks: Vec<Text>,
}

/// A check of a service that a session depends on.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ServiceCheck {
    /// The check's id.
    pub id: Text,
    /// Means nothing here, but is given back.
    pub namespace: Text,
}

impl SessionDef {
    /// For how long its locks are kept from others after it has ended.
    pub fn lock_delay(&self) -> Duration {
        let nanos = u64::try_from(self.lock_delay_nanos).unwrap_or(0);
        Duration::from_nanos(nanos).min(MAX_LOCK_DELAY)
    }

    /// The ids of all checks that it depends on; one may be named more than once.
    pub fn all_checks(&self) -> impl Iterator<Item = &Text> {
        let nodes = self.node_checks.iter().flatten();
        let services = self.service_checks.iter().flatten().map(|check| &check.id);
        self.checks.iter().chain(nodes).chain(services)
    }

    /// Whether it may be stored, as far as that can be told without the catalog; the error is a text for whoever sent it.
    pub fn check(&self) -> Result<(), String> {
        let Self {
            id: _,
            name,
            node,
            lock_delay_nanos: _,
            behavior: _,
            ttl,
            ttl_text,
            node_checks,
            service_checks,
            checks,
        } = self;
        if node.is_empty() {
            return Err("Must provide Node".to_owned());
        }
        if *ttl > MAX_SESSION_TTL {
            return Err(format!(
                "invalid session: its TTL is {ttl:?}, and may be {MAX_SESSION_TTL:?}"
            ));
        }
        let counts = [
            node_checks.as_ref().map_or(0, Vec::len),
            service_checks.as_ref().map_or(0, Vec::len),
            checks.len(),
        ];
        if let Some(count) = counts.into_iter().find(|count| *count > MAX_SESSION_CHECKS) {
            return Err(format!(
                "invalid session: it depends on {count} checks, and may on {MAX_SESSION_CHECKS}"
            ));
        }
        let namespaces = service_checks.iter().flatten().map(|check| &check.namespace);
        let texts = [("name", name, MAX_TEXT_BYTES), ("TTL", ttl_text, MAX_NAME_BYTES)];
        let names = self.all_checks().chain(namespaces).chain([node]);
        let names = names.map(|text| ("node or a check that it depends on", text, MAX_NAME_BYTES));
        for (what, text, limit) in texts.into_iter().chain(names) {
            if text.len() > limit {
                let len = text.len();
                return Err(format!(
                    "invalid session: its {what} has {len} bytes, and may have {limit}"
                ));
            }
        }
        Ok(())
    }
}

/// A session that lives. Nothing about it ever changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// What was said of it.
    pub def: SessionDef,
    /// The index that created it.
    pub create_index: Index,
}
