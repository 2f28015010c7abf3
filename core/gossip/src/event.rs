//! User events and queries: what members tell and ask each other beside membership.

use core::hash::Hasher;
use core::time::Duration;

use bytes::Bytes;
use lictor_machine::NodeId;
use serde::{Deserialize, Serialize};

use crate::MAX_USER_EVENT_BYTES;
use crate::fingerprint::Fingerprint;
use crate::io::Refusal;
use crate::lamport::LamportTime;
use crate::member::Member;

/// The most bytes of an encoded query, with its filters.
pub const MAX_QUERY_BYTES: usize = 1024;

/// The largest answer to a query, in bytes.
pub const MAX_QUERY_ANSWER_BYTES: usize = 1024;

/// The most members that pass on each answer beside the direct way.
pub const MAX_QUERY_RELAY: u8 = 5;

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

impl UserEvent {
    /// Checks its length and that it has a name and a time.
    ///
    /// # Errors
    /// Why nobody should handle it.
    pub fn check(&self) -> Result<(), Refusal> {
        if self.name.len() + self.payload.len() > MAX_USER_EVENT_BYTES {
            return Err(Refusal::TooLarge);
        }
        if self.name.is_empty() || self.time == LamportTime(0) {
            return Err(Refusal::Malformed);
        }
        Ok(())
    }

    /// Names it in the whole pool, and gives all events one order on every member: that of their Lamport times, and among equals by who
    /// said it.
    pub(crate) fn key(&self) -> EventKey {
        EventKey {
            time: self.time,
            origin: self.origin,
            fingerprint: Fingerprint::new()
                .field(&self.time.0.to_le_bytes())
                .field(&self.origin.0.to_le_bytes())
                .field(self.name.as_bytes())
                .field(&self.payload)
                .finish(),
        }
    }
}

/// Names a user event; see [`UserEvent::key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EventKey {
    pub(crate) time: LamportTime,
    pub(crate) origin: NodeId,
    pub(crate) fingerprint: u64,
}

/// Which of the recent user events a member has, in few bytes: two members with equal digests have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EventDigest {
    /// The time of the latest; zero if there is none.
    pub newest: LamportTime,
    /// How many.
    pub count: u32,
    /// The fingerprints of all, by exclusive or.
    pub fingerprint: u64,
}

/// Asks for the user events that the sender does not have. Those that it has follow, as [`EventsHeld`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsWanted {
    /// Only later ones are asked for...
    pub above: LamportTime,
    /// ... if the receiver has the same up to then: their fingerprints, by exclusive or.
    pub below: u64,
}

/// Events that whoever asks has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsHeld {
    /// Their fingerprints; at most [`EventsHeld::MAX`].
    pub fingerprints: Vec<u64>,
}

impl EventsHeld {
    /// The most in one part: each may take ten bytes.
    pub const MAX: usize = 192;
}

/// Precedes the events that answer [`EventsWanted`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsFound {
    /// Whether the two have the same below what was asked for; if not, it is worth asking for everything.
    pub same_below: bool,
    /// Whether there are more than fit.
    pub more: bool,
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
    /// Only members with one of these names, letter by letter; empty: all.
    pub nodes: Vec<String>,
    /// Only members whose tags have all of these values, letter by letter.
    pub tags: Vec<(String, String)>,
    /// Have answers sent by this many others as well, for ways that lose packets; at most [`MAX_QUERY_RELAY`].
    pub relay: u8,
    /// Have each member that the query reaches say so at once, as [`crate::Effect::QueryAck`].
    pub acks: bool,
    /// When to stop waiting; `None`: by the size of the pool.
    pub timeout: Option<Duration>,
}

/// A query on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryStatement {
    /// Names it.
    pub id: QueryId,
    /// Its name.
    pub name: String,
    /// Its content.
    pub payload: Bytes,
    /// See [`QueryParams::nodes`].
    pub nodes: Vec<String>,
    /// See [`QueryParams::tags`].
    pub tags: Vec<(String, String)>,
    /// See [`QueryParams::relay`].
    pub relay: u8,
    /// See [`QueryParams::acks`].
    pub acks: bool,
    /// For how long answers are waited for, in milliseconds.
    pub timeout_ms: u32,
}

impl QueryStatement {
    /// Checks its length, and that it has a name and a time.
    ///
    /// # Errors
    /// Why nobody should handle it.
    pub fn check(&self) -> Result<(), Refusal> {
        if self.size() > MAX_QUERY_BYTES || self.relay > MAX_QUERY_RELAY {
            return Err(Refusal::TooLarge);
        }
        if self.name.is_empty() || self.id.time == LamportTime(0) {
            return Err(Refusal::Malformed);
        }
        Ok(())
    }

    /// Its length in bytes: each text, and two for where it ends.
    pub(crate) fn size(&self) -> usize {
        let nodes = self.nodes.iter().map(|name| name.len() + 2);
        let tags = self.tags.iter().map(|(key, value)| key.len() + value.len() + 4);
        self.name.len() + self.payload.len() + nodes.sum::<usize>() + tags.sum::<usize>()
    }

    /// For how long answers are waited for.
    pub(crate) const fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms as u64)
    }

    /// Whether `member` is meant.
    pub(crate) fn concerns(&self, member: &Member) -> bool {
        let named = self.nodes.is_empty() || self.nodes.contains(&member.name);
        let tagged = |(key, value): &(String, String)| member.tags.get(key) == Some(value);
        named && self.tags.iter().all(tagged)
    }
}

/// An answer to a query, on its way to who asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryAnswer {
    /// To which.
    pub query: QueryId,
    /// Whose.
    pub from: NodeId,
    /// What it answers; `None` says that it got the query.
    pub payload: Option<Bytes>,
}

impl QueryAnswer {
    /// Checks its length.
    ///
    /// # Errors
    /// It is too long.
    pub fn check(&self) -> Result<(), Refusal> {
        if self.payload.as_ref().map_or(0, Bytes::len) > MAX_QUERY_ANSWER_BYTES {
            return Err(Refusal::TooLarge);
        }
        Ok(())
    }
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
