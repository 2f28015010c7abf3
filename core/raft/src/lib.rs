//! Raft consensus as a pure state machine.
#![forbid(unsafe_code)]

mod message;
mod types;

pub use message::{AppendReply, Body, Lane, Message, Poll};
pub use types::{
    Boot, Configuration, Entry, HardState, LogId, Payload, SnapshotMeta, StagedChunk, Sync, Term, WriteBatch,
    WriteId,
};
