//! QUIC with mutual TLS between Lictor's agents: identities, planes, lanes and cached connections.
//!
//! One [`Transport`] is one UDP socket, at which an agent calls and is called. What it carries are opaque bytes; this
//! crate knows nothing of Raft, of gossip or of any message in them. What it adds is *who*: every [`Event`] comes with
//! the [`PeerIdentity`] that the peer's certificate vouches for, and a connection of a [`Plane`] that the peer's role
//! or data center has no business on is refused before anything of it is passed on.
//!
//! - [`Transport::send`] queues a frame on a lane: in order, several lanes to a peer, the lower number first.
//! - [`Transport::datagram`] sends one packet that may get lost.
//! - [`Transport::call`] asks and waits for the answer; its error says whether the peer may have acted.
//!
//! On the planes of servers and their clients each end sends on connections that it has made itself, so it does not
//! matter who called first, or whether two agents call each other at once, or one itself. On the planes of many
//! ([`Plane::is_mutual`]) it sends on whichever there is.
//!
//! The modules, from the wire up: [`frame`] (bytes), `identity` (certificates and trust), `tls` (configurations),
//! `plane` (who may), `session` (open connections), `link` and `lane` (the way to a peer), `accept` (connections from
//! peers), `receive` (what comes on any), `transport`.

#![forbid(unsafe_code)]

mod accept;
mod budget;
mod call;
mod dials;
mod error;
pub mod frame;
mod identity;
mod lane;
mod limits;
mod link;
mod plane;
mod receive;
mod session;
mod shared;
mod stats;
mod tls;
mod transport;

pub use call::{ReplyHandle, Room};
pub use error::{BindError, CallError, CallFailure, ConnectError, Refusal, RefusalKind, SendError};
pub use identity::{
    CaRequest, CertRequest, CreateError, DEFAULT_DOMAIN, Identity, InvalidIdentity, MAX_DATACENTER_BYTES,
    MAX_NAME_BYTES, MINTED_DOMAIN, PeerIdentity, PemPair, Role, Trust, TrustError, TrustFiles, ca_create,
    cert_create,
};
pub use limits::Limits;
pub use plane::Plane;
pub use shared::RecentRefusal;
pub use stats::Stats;
pub use transport::{Event, Incoming, Options, Target, Transport};

/// How many lanes there are to a peer on each plane. Lane 0 goes first.
pub const LANES: u8 = 8;

/// Longest datagram in bytes: what fits the smallest packet that QUIC allows, on every way at all times.
pub const MAX_DATAGRAM_BYTES: usize = 1150;
