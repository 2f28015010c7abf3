//! What members say to each other, as bytes.
//!
//! A datagram, the request of a call and its reply all have one form:
//!
//! ```text
//! version  pool     part                        part
//! 1 byte   4 bytes  length (2 bytes), postcard  ...
//! ```
//!
//! Numbers are little-endian. Parts follow each other and never contain one another, so reading has no depth, and each part is a slice
//! of what arrived: a statement can be passed on as it came, without being encoded again. Nothing is allocated for what is not there:
//! every length is compared with the bytes at hand before it is believed.

use core::hash::Hasher;

use bytes::{BufMut, Bytes, BytesMut};
use lictor_machine::NodeId;
use serde::{Deserialize, Serialize};

use crate::coordinate::Coordinate;
use crate::event::{
    EventDigest, EventsFound, EventsHeld, EventsWanted, QueryAnswer, QueryStatement, UserEvent,
};
use crate::fingerprint::Fingerprint;
use crate::io::Refusal;
use crate::member::Incarnation;
pub use crate::statement::{BUCKETS, Profile, Statement, Step, Summary};

/// The version of this encoding. Members refuse others by name.
pub const VERSION: u8 = 1;

/// The longest part, in bytes.
pub const MAX_PART_BYTES: usize = 2048;

/// The largest datagram that is read, in bytes. [`crate::Config::packet_bytes`] says how large those are that are sent.
pub const MAX_PACKET_BYTES: usize = 4096;

/// The least that [`crate::Config::packet_bytes`] can be: the longest query, or answer to one, must fit.
pub const MIN_PACKET_BYTES: usize = 1150;

/// The most parts in a datagram.
pub const MAX_PACKET_PARTS: usize = 255;

/// The longest request or reply of a call, in bytes.
pub const MAX_CALL_BYTES: usize = 8 << 20;

/// The most parts in a request or reply.
pub const MAX_CALL_PARTS: usize = 64 << 10;

/// How long the part before the first part is, in bytes.
const HEADER_BYTES: usize = 5;

/// How many bytes a part takes beside its own.
const LENGTH_BYTES: usize = 2;

/// One thing that is said. The order of the variants is the encoding: new ones come last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// Are you there? Answered by an `Ack` (SWIM §3.1).
    Ping {
        /// Names the probe; comes back in the answer.
        seq: u32,
        /// Who is meant: an address may have changed hands.
        target: NodeId,
        /// The sender's own, so that who knows another asks for the rest.
        incarnation: Incarnation,
    },
    /// Ask somebody for me whether it is there (SWIM §3.1). Answered by an `Ack`, or by a `Nack` in time (Lifeguard §IV-A).
    PingRequest {
        /// Names the probe of who asks.
        seq: u32,
        /// Who is to be asked.
        target: NodeId,
    },
    /// It is there.
    Ack {
        /// Of the probe.
        seq: u32,
        /// The sender's own; `None` if a helper passes the answer on.
        incarnation: Option<Incarnation>,
        /// Where who was probed is in the network; `None` if a helper passes the answer on.
        coordinate: Option<Coordinate>,
    },
    /// I am there, and whom you asked me about has not answered.
    Nack {
        /// Of the probe.
        seq: u32,
    },
    /// Something about a member.
    Statement(Statement),
    /// What the rest of a call is about.
    Summary(Summary),
    /// Something that somebody told everybody.
    UserEvent(UserEvent),
    /// Which of the recent user events the sender has.
    Digest(EventDigest),
    /// Asks for user events; in calls only.
    EventsWanted(EventsWanted),
    /// Follows `EventsWanted`.
    EventsHeld(EventsHeld),
    /// Precedes the events that answer `EventsWanted`.
    EventsFound(EventsFound),
    /// Somebody asks everybody something.
    Query(QueryStatement),
    /// Answers a query, on the way to who asked.
    QueryAnswer(QueryAnswer),
    /// Pass this answer on to who asked. It must be the sender's own.
    Relay(QueryAnswer),
}

impl Part {
    /// Its bytes, as [`PacketBuilder::push`] takes them.
    pub fn encode(&self) -> Bytes {
        let bytes = postcard::to_extend(self, Vec::with_capacity(64));
        Bytes::from(bytes.expect("plain data always encode, and a Vec always extends"))
    }

    /// Checks what the encoding alone does not: lengths, counts, and numbers that are none.
    ///
    /// # Errors
    /// Why nobody should handle it.
    pub fn check(&self) -> Result<(), Refusal> {
        match self {
            Self::Ping { .. }
            | Self::PingRequest { .. }
            | Self::Nack { .. }
            | Self::Digest(_)
            | Self::EventsWanted(_)
            | Self::EventsHeld(_)
            | Self::EventsFound(_) => Ok(()),
            Self::Ack { coordinate, .. } => coordinate.as_ref().map_or(Ok(()), Coordinate::check),
            Self::Statement(statement) => statement.check(),
            Self::Summary(summary) => summary.check(),
            Self::UserEvent(event) => event.check(),
            Self::Query(query) => query.check(),
            Self::QueryAnswer(answer) | Self::Relay(answer) => answer.check(),
        }
    }
}

/// Names a pool in everything that its members send, so that pools which share a network and a key do not grow together. It tells
/// mistakes, not attacks: those the transport keeps out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolTag(u32);

impl PoolTag {
    /// The tag of the pool of this name.
    pub fn new(pool: &str) -> Self {
        Self(Fingerprint::new().field(pool.as_bytes()).finish() as u32)
    }
}

/// How much one message may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limits {
    bytes: usize,
    parts: usize,
}

const PACKET: Limits = Limits {
    bytes: MAX_PACKET_BYTES,
    parts: MAX_PACKET_PARTS,
};

const CALL: Limits = Limits {
    bytes: MAX_CALL_BYTES,
    parts: MAX_CALL_PARTS,
};

/// Fills one datagram, request or reply with parts, up to a number of bytes.
#[derive(Debug)]
pub struct PacketBuilder {
    bytes: BytesMut,
    limits: Limits,
    parts: usize,
}

impl PacketBuilder {
    /// A datagram of at most `budget` bytes; at most [`MAX_PACKET_BYTES`].
    pub fn packet(pool: PoolTag, budget: usize) -> Self {
        let bytes = budget.clamp(HEADER_BYTES, MAX_PACKET_BYTES);
        Self::new(pool, Limits { bytes, ..PACKET }, bytes)
    }

    /// A request or a reply, of at most [`MAX_CALL_BYTES`].
    pub fn call(pool: PoolTag) -> Self {
        Self::new(pool, CALL, 256)
    }

    fn new(pool: PoolTag, limits: Limits, capacity: usize) -> Self {
        let mut bytes = BytesMut::with_capacity(capacity);
        bytes.put_u8(VERSION);
        bytes.put_u32_le(pool.0);
        Self {
            bytes,
            limits,
            parts: 0,
        }
    }

    /// How long the next part may be, in bytes.
    pub fn room(&self) -> usize {
        if self.parts == self.limits.parts {
            return 0;
        }
        let left = self.limits.bytes - self.bytes.len();
        left.saturating_sub(LENGTH_BYTES).min(MAX_PART_BYTES)
    }

    /// Adds a part that is already encoded. `false` if there is no room for it, and then nothing has changed.
    #[must_use]
    pub fn push(&mut self, part: &[u8]) -> bool {
        if part.is_empty() || part.len() > self.room() {
            return false;
        }
        self.bytes.put_u16_le(part.len() as u16);
        self.bytes.put_slice(part);
        self.parts += 1;
        true
    }

    /// Adds a part. `false` if there is no room for it, and then nothing has changed.
    #[must_use]
    pub fn push_part(&mut self, part: &Part) -> bool {
        self.push(&part.encode())
    }

    /// Whether no part was added.
    pub const fn is_empty(&self) -> bool {
        self.parts == 0
    }

    /// What is to be sent.
    pub fn finish(self) -> Bytes {
        self.bytes.freeze()
    }
}

/// Reads a datagram.
///
/// # Errors
/// It is too long, of another version, or of another pool.
pub fn read_packet(packet: &Bytes, pool: PoolTag) -> Result<Parts, Refusal> {
    Parts::new(packet, pool, PACKET)
}

/// Reads the request or the reply of a call.
///
/// # Errors
/// As [`read_packet`].
pub fn read_call(message: &Bytes, pool: PoolTag) -> Result<Parts, Refusal> {
    Parts::new(message, pool, CALL)
}

/// A part that arrived, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// What it says.
    pub part: Part,
    /// Its bytes, shared with the message that it came in: for passing it on at once. What is kept for long is better copied, or it
    /// keeps the whole message.
    pub encoded: Bytes,
}

/// The parts of a message, in order. After the first error there is nothing more.
#[derive(Clone, Debug)]
pub struct Parts {
    rest: Bytes,
    left: usize,
}

impl Parts {
    fn new(message: &Bytes, pool: PoolTag, limits: Limits) -> Result<Self, Refusal> {
        if message.len() > limits.bytes {
            return Err(Refusal::TooLarge);
        }
        let (version, behind) = message.split_first().ok_or(Refusal::Malformed)?;
        if *version != VERSION {
            return Err(Refusal::Version);
        }
        let tag = behind.first_chunk().ok_or(Refusal::Malformed)?;
        if u32::from_le_bytes(*tag) != pool.0 {
            return Err(Refusal::ForeignPool);
        }
        Ok(Self {
            rest: message.slice(HEADER_BYTES..),
            left: limits.parts,
        })
    }

    fn read(&mut self) -> Result<Received, Refusal> {
        self.left = self.left.checked_sub(1).ok_or(Refusal::TooLarge)?;
        let length = self.rest.first_chunk().ok_or(Refusal::Malformed)?;
        let end = LENGTH_BYTES + usize::from(u16::from_le_bytes(*length));
        if end > LENGTH_BYTES + MAX_PART_BYTES {
            return Err(Refusal::TooLarge);
        }
        if end > self.rest.len() {
            return Err(Refusal::Malformed);
        }
        let encoded = self.rest.split_to(end).slice(LENGTH_BYTES..);
        let (part, behind): (Part, _) =
            postcard::take_from_bytes(&encoded).map_err(|_| Refusal::Malformed)?;
        if !behind.is_empty() {
            return Err(Refusal::Malformed);
        }
        part.check()?;
        Ok(Received { part, encoded })
    }
}

impl Iterator for Parts {
    type Item = Result<Received, Refusal>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let read = self.read();
        if read.is_err() {
            self.rest = Bytes::new();
        }
        Some(read)
    }
}
