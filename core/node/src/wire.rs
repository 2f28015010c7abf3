//! What nodes say to each other, as bytes: a version byte, then postcard. Whatever decodes is well formed; whether it makes sense is
//! checked where it is handled.

use lictor_raft::{Body, Entry, Message};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ClusterId;
use crate::io::{Call, Reply};

/// The version of this encoding. A node refuses others by name.
pub const VERSION: u8 = 1;

/// Why bytes are not a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Nothing there.
    #[error("an empty message")]
    Empty,
    /// Another version of the protocol.
    #[error("protocol version {0}, this program speaks {VERSION}")]
    Version(u8),
    /// Not a message.
    #[error("malformed: {0}")]
    Malformed(String),
    /// A message, and something behind it.
    #[error("{0} bytes too many")]
    Trailing(usize),
}

fn encode<T: Serialize>(value: &T, size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size);
    bytes.push(VERSION);
    postcard::to_extend(value, bytes).expect("plain data always encode, and a Vec always extends")
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (version, rest) = bytes.split_first().ok_or(DecodeError::Empty)?;
    if *version != VERSION {
        return Err(DecodeError::Version(*version));
    }
    let (value, rest) =
        postcard::take_from_bytes(rest).map_err(|error| DecodeError::Malformed(error.to_string()))?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(DecodeError::Trailing(rest.len()))
    }
}

/// Encodes a Raft message of a cluster.
pub fn encode_raft(cluster: ClusterId, message: &Message) -> Vec<u8> {
    let bulk = match &message.body {
        Body::Append { entries, .. } => entries.iter().map(Entry::size).sum(),
        Body::Snapshot { meta, data, .. } => data.len() + 16 * meta.members.len(),
        Body::PreVote { .. }
        | Body::PreVoteReply { .. }
        | Body::Vote { .. }
        | Body::VoteReply { .. }
        | Body::AppendReply(_)
        | Body::Heartbeat { .. }
        | Body::HeartbeatReply { .. }
        | Body::SnapshotReply { .. }
        | Body::ReadIndex { .. }
        | Body::ReadIndexReply { .. }
        | Body::TimeoutNow => 0,
    };
    encode(&(cluster, message), 64 + bulk)
}

/// Decodes what [`encode_raft`] made.
pub fn decode_raft(bytes: &[u8]) -> Result<(ClusterId, Message), DecodeError> {
    decode(bytes)
}

/// Encodes a call.
pub fn encode_call(call: &Call) -> Vec<u8> {
    encode(call, 256)
}

/// Decodes what [`encode_call`] made.
pub fn decode_call(bytes: &[u8]) -> Result<Call, DecodeError> {
    decode(bytes)
}

/// Encodes a reply.
pub fn encode_reply(reply: &Reply) -> Vec<u8> {
    encode(reply, 256)
}

/// Decodes what [`encode_reply`] made.
pub fn decode_reply(bytes: &[u8]) -> Result<Reply, DecodeError> {
    decode(bytes)
}
