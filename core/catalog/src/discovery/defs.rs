//! What is said of a node, a service or a check by whoever registers it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use lictor_machine::NodeId;
use serde::{Deserialize, Deserializer, Serialize};

use super::labels::Labels;
use super::registration::MAX_TAGS;
use crate::codec::bounded;

/// A text that many objects can share.
pub type Text = Arc<str>;

/// The tags of a service, in the order in which they were given.
pub type Tags = Arc<[Text]>;

/// A node, as whoever registers it says.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NodeDef {
    /// Who it is, if it said so. No two nodes have the same.
    pub id: Option<NodeId>,
    /// Its name.
    pub name: Text,
    /// Where it is: a free text. Empty if whoever created it did not say.
    pub address: Text,
    /// Further addresses, such as `lan` and `wan`.
    pub tagged_addresses: Labels,
    /// Anything else.
    pub meta: Labels,
}

/// An instance of a service, as whoever registers it says.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ServiceDef {
    /// What it is called on its node. Empty in a registration: as the service.
    pub id: Text,
    /// The service that it is an instance of.
    pub name: Text,
    /// What kind of service: empty for a usual one, [`Self::CONNECT_PROXY`], or the name of a kind of gateway.
    pub kind: Text,
    /// Its tags.
    #[serde(deserialize_with = "bounded_tags")]
    pub tags: Tags,
    /// Where it is: a free text. Empty: where its node is.
    pub address: Text,
    /// Its port; 0 if it has none.
    pub port: u16,
    /// Further addresses, such as `lan` and `wan`.
    pub tagged_addresses: Labels<ServiceAddress>,
    /// Anything else.
    pub meta: Labels,
    /// How much of the load it should get.
    pub weights: Weights,
    /// Whether others than its agent may change its tags.
    pub enable_tag_override: bool,
    /// Its part in the service mesh, if it has one.
    pub connect: Option<Arc<ConnectDef>>,
}

impl ServiceDef {
    /// The kind of a proxy of another service.
    pub const CONNECT_PROXY: &'static str = "connect-proxy";

    /// The service whose callers in the mesh should come here: that which it is a proxy of, or its own if it takes part by itself.
    pub fn connect_name(&self) -> Option<&Text> {
        let connect = self.connect.as_deref()?;
        if *self.kind == *Self::CONNECT_PROXY {
            return Some(&connect.destination).filter(|name| !name.is_empty());
        }
        connect.native.then_some(&self.name)
    }
}

/// An address of an instance, by which some of its users reach it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct ServiceAddress {
    /// Where.
    pub address: Text,
    /// Its port; 0 if it has none.
    pub port: u16,
}

/// How much of the load an instance should get, relative to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weights {
    /// While all its checks pass.
    pub passing: u16,
    /// While one of them warns.
    pub warning: u16,
}

impl Default for Weights {
    /// One for either.
    fn default() -> Self {
        Self {
            passing: 1,
            warning: 1,
        }
    }
}

/// What an instance is in the service mesh.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ConnectDef {
    /// Whether it takes part without a proxy.
    pub native: bool,
    /// The service that it is a proxy of; empty if it is none.
    pub destination: Text,
    /// Everything else about the proxy, as the API encodes it: opaque here. Whoever registers it takes care that equal things have
    /// equal texts.
    pub proxy: Text,
}

/// How well something is, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum Status {
    /// It works.
    Passing,
    /// It works, but somebody should look.
    Warning,
    /// It does not work, or nothing is known of it.
    #[default]
    Critical,
}

impl Status {
    /// Every status, from good to bad.
    pub const ALL: [Self; 3] = [Self::Passing, Self::Warning, Self::Critical];

    /// As the API writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no [`Status`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a status: it must be passing, warning or critical")]
pub struct UnknownStatus;

impl FromStr for Status {
    type Err = UnknownStatus;

    /// Exactly as [`Self::as_str`] writes it, in lower case.
    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        let found = Self::ALL.into_iter().find(|status| status.as_str() == text);
        found.ok_or(UnknownStatus)
    }
}

/// A check, as whoever registers it says.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CheckDef {
    /// What it is called on its node. Empty in a registration: as its name.
    pub id: Text,
    /// A name for people.
    pub name: Text,
    /// What it found last.
    pub status: Status,
    /// A note for people.
    pub notes: Text,
    /// What it said last.
    pub output: Text,
    /// The instance on the same node that it looks after; empty if it looks after the node as a whole.
    pub service_id: Text,
    /// How it checks: `http`, `ttl` and so on; may be empty.
    pub kind: Text,
    /// How it checks in detail, as far as that is told.
    pub definition: Option<Arc<CheckDefinition>>,
}

/// How a check is done, for those who ask; nothing acts on it here. What is empty or zero was not told.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CheckDefinition {
    /// The URL that is asked.
    pub http: Text,
    /// The method that it is asked with.
    pub method: Text,
    /// What is sent along.
    pub body: Text,
    /// Headers that are sent along.
    pub header: Labels<Tags>,
    /// Whether any certificate is good enough.
    pub tls_skip_verify: bool,
    /// The address that is connected to.
    pub tcp: Text,
    /// From one check to the next.
    pub interval: Duration,
    /// How long one may take.
    pub timeout: Duration,
    /// How long the instance may be critical until its agent removes it.
    pub deregister_after: Duration,
}

/// Reads tags without trusting the number that they claim to be.
fn bounded_tags<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Tags, D::Error> {
    bounded(deserializer, MAX_TAGS, "tags").map(Vec::into)
}
