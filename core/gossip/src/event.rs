//! User events and queries: what members tell and ask each other beside membership.

use core::time::Duration;

use bytes::Bytes;
use lictor_machine::NodeId;
use serde::{Deserialize, Serialize};

use crate::lamport::LamportTime;

/// Something that somebody told everybody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserEvent {
    /// When, by the event clock of the pool.
    pub time: LamportTime,
    /// Who said it.
    pub origin: NodeId,
    /// Its name.
    pub name: String,
    /// Its content.
    pub payload: Bytes,
    /// See [`crate::Input::UserEvent`].
    pub coalesce: bool,
}

/// Names a query in the whole pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct QueryId {
    /// When it was asked, by the query clock of the pool.
    pub time: LamportTime,
    /// Who asked.
    pub origin: NodeId,
    /// Drawn at random by who asked.
    pub nonce: u32,
}

/// What to ask, whom, and how long to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryParams {
    /// Its name.
    pub name: String,
    /// Its content.
    pub payload: Bytes,
    /// Only members with one of these names; empty: all.
    pub nodes: Vec<String>,
    /// Only members whose tags have these values.
    pub tags: Vec<(String, String)>,
    /// Have answers sent by this many others as well, for ways that lose packets.
    pub relay: u8,
    /// When to stop waiting; `None`: by the size of the pool.
    pub timeout: Option<Duration>,
}

/// A query that arrived here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncomingQuery {
    /// Names it.
    pub id: QueryId,
    /// Its name.
    pub name: String,
    /// Its content.
    pub payload: Bytes,
}

/// One member's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryResponse {
    /// Whose.
    pub from: NodeId,
    /// What it answered.
    pub payload: Bytes,
}
