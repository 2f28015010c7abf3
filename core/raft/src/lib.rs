//! Raft consensus as a pure state machine: no sockets, no clock, no executor.
//!
//! [`Raft`] implements the protocol of Ongaro and Ousterhout ("In Search of an Understandable Consensus Algorithm", the extended
//! version; section numbers refer to it) and of Ongaro's thesis ("thesis §"): elections with pre-vote and check-quorum, which
//! are always on; pipelined replication; snapshots in resumable chunks; linearizable reads by lease or by quorum;
//! leadership transfer; and changes of members by joint consensus. Commands are opaque bytes.
//!
//! # Driving it
//!
//! Feed it [`Input`]s, carry out its [`Effect`]s in order, wake it at its deadline; see [`lictor_machine::Machine`]. What a
//! driver must know beyond that:
//!
//! - [`Effect::Persist`] batches go to the log store in order, and [`Input::Persisted`] comes back once everything up to a batch would
//!   survive a power cut. Nothing else has to be ordered by the driver: what must wait for a write does not come out before.
//! - A message may be lost, late, doubled or out of order. Say [`Input::Unreachable`] when one is known to be lost, to have it
//!   sent again soon.
//! - Times are monotonic and go on during suspension. The lease ([`Raft::lease_until`]) rests on that, nothing else does.
//!
//! # What it never does
//!
//! It takes no part before its own past is known ([`Raft::start`] takes a [`Boot`]), and stops for good ([`Fault`]) rather than
//! go on after a failed write.
//!
//! The files are named after the parts of the protocol: `terms`, `election`, `replication` (leader), `follower`, `writes` (durability),
//! `snapshot`, `reads`, `transfer`, `membership`, `recovery`, `apply`, `quorum`.

#![forbid(unsafe_code)]

mod apply;
mod config;
mod election;
mod follower;
mod io;
mod leader;
mod log;
mod membership;
mod message;
mod progress;
mod quorum;
mod raft;
mod reads;
mod recovery;
mod replication;
#[cfg(feature = "sabotage")]
mod sabotage;
mod snapshot;
mod terms;
mod transfer;
mod types;
mod writes;

pub use config::{Config, ConfigError};
pub use io::{
    Committed, Effect, Event, Extent, Fault, Fetch, FetchId, Fetched, Input, MembersError, Outcome,
    PeerStatus, ReadMode, Reject, Role, Status, Timer,
};
pub use message::{AppendReply, Body, Lane, Message, Poll};
pub use raft::{BootError, Raft};
pub use recovery::{Recovery, RecoveryError, recover};
#[cfg(feature = "sabotage")]
pub use sabotage::Sabotage;
pub use types::{
    Boot, Configuration, Entry, HardState, LogId, MEMBERS_MAX, Payload, SnapshotMeta, StagedChunk, Sync,
    Term, WriteBatch, WriteId,
};
