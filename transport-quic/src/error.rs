//! What can go wrong between two agents, in words that say what to do.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lictor_machine::NodeId;
use quinn::{ConnectionError, TransportErrorCode, VarInt};

use crate::identity::TrustError;
use crate::plane::Plane;

/// TLS alerts (RFC 8446, section 6), as QUIC carries them.
mod alert {
    pub(super) const BAD_CERTIFICATE: u8 = 42;
    pub(super) const UNSUPPORTED_CERTIFICATE: u8 = 43;
    pub(super) const CERTIFICATE_EXPIRED: u8 = 45;
    pub(super) const CERTIFICATE_UNKNOWN: u8 = 46;
    pub(super) const UNKNOWN_CA: u8 = 48;
    pub(super) const DECRYPT_ERROR: u8 = 51;
    pub(super) const CERTIFICATE_REQUIRED: u8 = 116;
    pub(super) const NO_APPLICATION_PROTOCOL: u8 = 120;
}

/// Why one agent will not speak with another. Nothing that the other sent was passed on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The certificates come from different authorities.
    #[error(
        "the peer's certificate was not issued by this cluster's authority: is -encrypt (or ca_file) the same on both?"
    )]
    Authority,
    /// The certificate's time is over, or has not come yet.
    #[error(
        "the peer's certificate is expired or not yet valid: check its dates, and the clocks of both machines"
    )]
    Expired,
    /// The certificate is missing, damaged, or not for this use.
    #[error("the peer's certificate cannot be used: {0}")]
    Certificate(String),
    /// The peer claims to be what its certificate does not say.
    #[error("the peer claims to be {claimed}, but its certificate is for {certified}")]
    Claim {
        /// What the certificate says.
        certified: String,
        /// What the peer says.
        claimed: String,
    },
    /// The plane is for one data center, and the two are in different ones.
    #[error(
        "the {plane} plane does not cross data centers: {dialer} called {acceptor}; \
         servers of different data centers meet on the WAN plane (-join-wan)"
    )]
    Datacenter {
        /// The plane of the connection.
        plane: Plane,
        /// Who called.
        dialer: String,
        /// Who was called.
        acceptor: String,
    },
    /// The plane is for servers.
    #[error("only a server may be at that end of the {plane} plane, and this is {who}")]
    Role {
        /// The plane of the connection.
        plane: Plane,
        /// Who is no server.
        who: String,
    },
    /// Another node answered than was called.
    #[error("{address} was expected to be node {wanted}, but it is {found}")]
    WrongNode {
        /// The address that was called.
        address: SocketAddr,
        /// Who was expected there.
        wanted: NodeId,
        /// Who is there.
        found: String,
    },
    /// The peer speaks a version of the protocol that this agent does not.
    #[error("the peer speaks version {theirs} of the transport's protocol, this agent version {ours}")]
    Version {
        /// The peer's version.
        theirs: u8,
        /// This agent's version.
        ours: u8,
    },
    /// The peer's greeting, or something after it, breaks the protocol.
    #[error("the peer breaks the protocol: {0}")]
    Protocol(String),
    /// The peer sent a frame that is longer than the limit.
    #[error("the peer sent a frame of {length} bytes on the {plane} plane; the limit is {limit}")]
    FrameTooLarge {
        /// The plane of the connection.
        plane: Plane,
        /// The frame's length.
        length: usize,
        /// The longest that is accepted.
        limit: usize,
    },
    /// The agent has as many connections, or unfinished handshakes, as it will have.
    #[error("there are {connections} connections already, or {handshakes} that have not yet greeted")]
    TooMany {
        /// How many connections from peers it will have.
        connections: usize,
        /// How many unfinished ones it will have.
        handshakes: usize,
    },
}

/// The kinds of [`Refusal`], to be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusalKind {
    /// [`Refusal::Authority`].
    Authority,
    /// [`Refusal::Expired`].
    Expired,
    /// [`Refusal::Certificate`] and [`Refusal::Claim`].
    Certificate,
    /// [`Refusal::Datacenter`].
    Datacenter,
    /// [`Refusal::Role`].
    Role,
    /// [`Refusal::WrongNode`].
    WrongNode,
    /// [`Refusal::Version`] and [`Refusal::Protocol`].
    Protocol,
    /// [`Refusal::FrameTooLarge`].
    FrameTooLarge,
    /// [`Refusal::TooMany`].
    TooMany,
}

impl RefusalKind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Authority,
        Self::Expired,
        Self::Certificate,
        Self::Datacenter,
        Self::Role,
        Self::WrongNode,
        Self::Protocol,
        Self::FrameTooLarge,
        Self::TooMany,
    ];

    /// The code with which a connection is closed for this reason.
    pub(crate) const fn code(self) -> VarInt {
        VarInt::from_u32(CODE_REFUSED + self as u32)
    }

    fn from_code(code: VarInt) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

impl Refusal {
    /// What kind of refusal it is.
    pub const fn kind(&self) -> RefusalKind {
        match self {
            Self::Authority => RefusalKind::Authority,
            Self::Expired => RefusalKind::Expired,
            Self::Certificate(_) | Self::Claim { .. } => RefusalKind::Certificate,
            Self::Datacenter { .. } => RefusalKind::Datacenter,
            Self::Role { .. } => RefusalKind::Role,
            Self::WrongNode { .. } => RefusalKind::WrongNode,
            Self::Version { .. } | Self::Protocol(_) => RefusalKind::Protocol,
            Self::FrameTooLarge { .. } => RefusalKind::FrameTooLarge,
            Self::TooMany { .. } => RefusalKind::TooMany,
        }
    }
}

/// The connection is not needed any more.
pub(crate) const CODE_DONE: VarInt = VarInt::from_u32(0);
/// The agent goes away.
pub(crate) const CODE_SHUTDOWN: VarInt = VarInt::from_u32(1);
/// A call got no answer: whoever had to give it dropped it.
pub(crate) const CODE_NO_REPLY: VarInt = VarInt::from_u32(2);
/// A call's answer is longer than the limit.
pub(crate) const CODE_REPLY_TOO_LARGE: VarInt = VarInt::from_u32(3);
/// The caller has so much open already that a call is not read.
pub(crate) const CODE_BUSY: VarInt = VarInt::from_u32(4);
/// The first of the codes of refusals.
const CODE_REFUSED: u32 = 16;

/// Why there is no connection to a peer, or why there is none any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Nobody has said where the node is.
    #[error("the address of node {0} is not known")]
    NoAddress(NodeId),
    /// The address cannot be called at all.
    #[error("{address} cannot be called: {reason}")]
    Address {
        /// The address.
        address: SocketAddr,
        /// Why.
        reason: String,
    },
    /// This agent will not speak with the peer.
    #[error("{0}")]
    Refused(Refusal),
    /// The peer will not speak with this agent.
    #[error("the peer refused the connection: {reason}")]
    RefusedByPeer {
        /// What kind of refusal it is.
        kind: RefusalKind,
        /// In the peer's words, as if it spoke to this agent's operator; cut to a packet.
        reason: String,
    },
    /// The peer was silent.
    #[error("no answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// The connection was there and is gone.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// An attempt failed just now; the next is made when the time has passed.
    #[error("not tried again for {} ms after this: {last}", .retry_in.as_millis())]
    BackingOff {
        /// Time until the next attempt.
        retry_in: Duration,
        /// Why the last attempt failed.
        last: Arc<ConnectError>,
    },
    /// This agent is shutting down.
    #[error("the transport is closed")]
    Closed,
}

impl ConnectError {
    /// The kind of refusal, if it is one of either side.
    pub const fn refusal_kind(&self) -> Option<RefusalKind> {
        match self {
            Self::Refused(refusal) => Some(refusal.kind()),
            Self::RefusedByPeer { kind, .. } => Some(*kind),
            Self::NoAddress(_)
            | Self::Address { .. }
            | Self::TimedOut(_)
            | Self::Lost(_)
            | Self::BackingOff { .. }
            | Self::Closed => None,
        }
    }

    /// Sees in a lost connection why it was lost.
    pub(crate) fn from_lost(error: &ConnectionError) -> Self {
        match error {
            ConnectionError::TransportError(error) => match refusal_of(error.code, &error.reason) {
                Some(refusal) => Self::Refused(refusal),
                None => Self::Lost(error.to_string()),
            },
            // An alert says what the peer thinks of our certificate, in the words that it uses itself.
            ConnectionError::ConnectionClosed(close) => {
                match refusal_of(close.error_code, &close.to_string()) {
                    Some(refusal) => Self::RefusedByPeer {
                        kind: refusal.kind(),
                        reason: refusal.to_string(),
                    },
                    None if close.error_code == TransportErrorCode::CONNECTION_REFUSED => {
                        Self::RefusedByPeer {
                            kind: RefusalKind::TooMany,
                            reason: "it has too many connections already, or is stopping".into(),
                        }
                    }
                    None => Self::Lost(error.to_string()),
                }
            }
            ConnectionError::ApplicationClosed(close) => match RefusalKind::from_code(close.error_code) {
                Some(kind) => Self::RefusedByPeer {
                    kind,
                    reason: String::from_utf8_lossy(&close.reason).into_owned(),
                },
                None if close.error_code == CODE_SHUTDOWN => Self::Lost("the peer is shutting down".into()),
                None => Self::Lost("the peer closed it".into()),
            },
            ConnectionError::Reset => Self::Lost("the peer has restarted".into()),
            ConnectionError::TimedOut => Self::Lost("the peer is silent".into()),
            ConnectionError::LocallyClosed => Self::Lost("it was closed here".into()),
            ConnectionError::VersionMismatch | ConnectionError::CidsExhausted => {
                Self::Lost(error.to_string())
            }
        }
    }
}

fn refusal_of(code: TransportErrorCode, reason: &str) -> Option<Refusal> {
    let crypto = |alert| TransportErrorCode::crypto(alert);
    let mut refusal = None;
    if code == crypto(alert::UNKNOWN_CA) || code == crypto(alert::DECRYPT_ERROR) {
        refusal = Some(Refusal::Authority);
    } else if code == crypto(alert::CERTIFICATE_EXPIRED) {
        refusal = Some(Refusal::Expired);
    } else if code == crypto(alert::NO_APPLICATION_PROTOCOL) {
        refusal = Some(Refusal::Protocol("there is no plane that both speak".into()));
    } else if code == crypto(alert::CERTIFICATE_REQUIRED) {
        refusal = Some(Refusal::Certificate("there is none".into()));
    } else if [
        alert::BAD_CERTIFICATE,
        alert::UNSUPPORTED_CERTIFICATE,
        alert::CERTIFICATE_UNKNOWN,
    ]
    .into_iter()
    .any(|alert| code == crypto(alert))
    {
        refusal = Some(Refusal::Certificate(reason.to_owned()));
    }
    refusal
}

/// Why a frame was not queued. The queue is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The peer does not read as fast as it is written to.
    #[error("the queue to the peer is full")]
    Full,
    /// The frame is longer than the plane's limit.
    #[error("a frame of {length} bytes is too long; the limit is {limit}")]
    TooLarge {
        /// The frame's length.
        length: usize,
        /// The longest that is sent.
        limit: usize,
    },
    /// There are only so many lanes.
    #[error("there is no lane {0}; lanes are numbered from 0 to {max}", max = crate::LANES - 1)]
    Lane(u8),
    /// The last attempt to reach the peer failed just now.
    #[error(transparent)]
    Unreachable(ConnectError),
}

/// Why a call got no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The peer has not seen the whole request and will not act on it: the call may safely be made again.
    #[error("the request was not sent: {0}")]
    NotSent(CallFailure),
    /// The peer may have acted on the request.
    #[error("the request may have been carried out, but there is no answer: {0}")]
    MaybeSent(CallFailure),
}

/// What ended a call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallFailure {
    /// There is no connection, or there is none any more.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The time that the caller gave is over.
    #[error("the deadline has passed")]
    Deadline,
    /// The caller has given up, for this reason.
    #[error("{0}")]
    GivenUp(String),
    /// The request is longer than the plane's limit.
    #[error("a request of {length} bytes is too long; the limit is {limit}")]
    TooLarge {
        /// The request's length.
        length: usize,
        /// The longest that is sent.
        limit: usize,
    },
    /// So many bytes of this agent's requests are open at the peer that it has not read this one.
    #[error("the peer has more requests of this agent than it takes at a time: try again later")]
    Busy,
    /// The peer dropped the request without an answer.
    #[error("the peer gave no answer")]
    NoReply,
    /// The peer's answer is longer than the plane's limit.
    #[error("the peer's answer is too long to be sent")]
    ReplyTooLarge,
}

/// Why there is no transport.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address cannot be bound.
    #[error("UDP address {address} cannot be bound: {source}{}", elsewhere(.source))]
    Socket {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// There is no trust, or no certificate.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

/// What whoever starts the agent may do about an address that cannot be bound.
fn elsewhere(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::AddrInUse {
        "; perhaps another agent runs here: -server-port (ports.server) or -bind (bind_addr) takes another"
    } else if error.kind() == io::ErrorKind::AddrNotAvailable {
        "; this machine has no such address: -bind (bind_addr) takes one that it has"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_taken_comes_with_advice() {
        let error = |kind: io::ErrorKind| {
            let address = ([127, 0, 0, 2], 8300).into();
            let source = kind.into();
            BindError::Socket { address, source }.to_string()
        };
        let taken = error(io::ErrorKind::AddrInUse);
        assert!(
            taken.contains("127.0.0.2:8300") && taken.contains("-server-port"),
            "{taken}"
        );
        let foreign = error(io::ErrorKind::AddrNotAvailable);
        assert!(
            foreign.contains("-bind") && !foreign.contains("another agent"),
            "{foreign}"
        );
        let other = error(io::ErrorKind::PermissionDenied);
        assert!(!other.contains("-bind"), "{other}");
    }

    #[test]
    fn refusals_survive_the_wire_by_their_code() {
        for kind in RefusalKind::ALL {
            assert_eq!(RefusalKind::from_code(kind.code()), Some(kind));
        }
        for code in [
            CODE_DONE,
            CODE_SHUTDOWN,
            CODE_NO_REPLY,
            CODE_REPLY_TOO_LARGE,
            CODE_BUSY,
            VarInt::MAX,
        ] {
            assert_eq!(RefusalKind::from_code(code), None);
        }
    }
}
