//! Who is there: membership by gossip, as a pure state machine.
//!
//! [`Gossip`] is one member of one pool. It finds others, notices when one fails, and tells everybody what it hears, in packets
//! whose number and size do not depend on how many members there are. The protocol is SWIM (Das, Gupta and Motivala, DSN 2002) with
//! Lifeguard (Dadgar, Phillips and Currey, DSN 2018), and Serf's intents, events, queries and coordinates on top.

#![forbid(unsafe_code)]

mod awareness;
mod bounded;
mod broadcast;
mod calls;
mod config;
mod conflict;
pub mod coordinate;
mod coordinates;
mod dissemination;
pub mod event;
mod events;
mod fingerprint;
mod gossip;
mod index;
mod intents;
mod io;
mod join;
pub mod lamport;
mod leave;
mod meeting;
mod member;
mod members;
mod payload;
mod probe;
mod push_pull;
mod queries;
mod reap;
mod reconnect;
mod remember;
mod rounds;
mod rumors;
#[cfg(feature = "sabotage")]
mod sabotage;
mod sharing;
mod statement;
mod stats;
mod suspicion;
mod timers;
pub mod vivaldi;
pub mod wire;

pub use config::{Config, ConfigError, Interner};
pub use coordinate::Coordinate;
pub use event::{IncomingQuery, QueryId, QueryParams, QueryResponse, UserEvent};
pub use gossip::{Gossip, Reject, Timer};
pub use io::{
    Answer, CallId, Effect, Event, InboundId, Input, Memory, Refusal, RememberedPeer, Sender, Target,
};
pub use lamport::LamportTime;
pub use member::{Incarnation, Member, MemberEvent, MemberState, Tags};
pub use queries::QueryError;
#[cfg(feature = "sabotage")]
pub use sabotage::Sabotage;
pub use stats::Stats;

/// The longest name of a member, in bytes.
pub const MAX_NAME_BYTES: usize = 128;

/// The longest encoded tags of a member, in bytes.
pub const MAX_TAGS_BYTES: usize = 512;

/// The most addresses in one [`Input::Join`].
pub const MAX_JOIN_ADDRESSES: usize = 256;

/// The largest name and payload of a user event together, in bytes.
pub const MAX_USER_EVENT_BYTES: usize = 512;

/// The most peers that are remembered.
pub const MAX_REMEMBERED: usize = 128;

/// The tag that says what a member is.
pub const ROLE_TAG: &str = "role";

/// The value of [`ROLE_TAG`] that only a member with a server's certificate may have.
pub const SERVER_ROLE: &str = "consul";
